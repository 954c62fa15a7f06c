//! What can be done with a place. Everything here may be repeated after a crash at any instant.

use crate::cgroup::Hierarchies;
use crate::error::LocalError;
use crate::place::{Place, PlaceLock, Places, Run, RunHead, Spec};
use crate::process::{self, Process};
use crate::sys::{self, Daemon};
use crate::tree::Tree;
use berth_plugin_api::doc::{CreateRequest, Inspection, ListedPlace, PlaceState, SessionRef, User};
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long killed processes may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// The exit code of a keeper that was killed: 128 + SIGKILL.
const KILLED: i32 = 137;
/// The search path of a keeper when the server has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a start did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Started {
    Now,
    Before,
}

/// Makes a place; gives what its user should know. One that is there, and does not run, takes the new request.
pub(crate) fn create(
    place: &Place,
    hierarchies: &Hierarchies,
    request: &CreateRequest,
) -> Result<Vec<String>, LocalError> {
    let mut warnings = hierarchies.warnings(&request.resources);
    if let Some(user) = request.user
        && user.uid != geteuid().as_raw()
        && !geteuid().is_root()
    {
        warnings.push(format!(
            "only root can run a session as user {}; it runs as the server's user",
            user.uid
        ));
    }
    let lock = place.lock_or_make()?;
    let before = place.spec()?;
    if let Some(spec) = &before {
        check_owner(spec, &request.session)?;
        if is_running(place)?.is_some() {
            return Ok(warnings);
        }
    }
    let spec = Spec {
        version: 1,
        session_id: request.session.id.clone(),
        session_name: request.session.name.clone(),
        instance: request.session.instance.clone(),
        created_at: before.map_or_else(|| rfc_3339(SystemTime::now()), |spec| spec.created_at),
        keeper: request.keeper.clone(),
        user: request.user,
        resources: request.resources.clone(),
    };
    place.save_spec(&lock, &spec)?;
    Ok(warnings)
}

/// Starts the keeper, unless it runs.
///
/// The lock is held until the keeper's program runs, also by the keeper itself: were we killed half way, whoever comes
/// next waits until the process that we made has noted its own name in the place.
pub(crate) fn start(place: &Place, hierarchies: &Hierarchies) -> Result<Started, LocalError> {
    let no_place = || LocalError::NoPlace(place.session_id.clone());
    let lock = place.lock()?.ok_or_else(no_place)?;
    let spec = place.spec()?.ok_or_else(no_place)?;
    if let Some(run) = place.run()? {
        if living_keeper(&run)?.is_some() {
            return Ok(Started::Before);
        }
        kill_all(place, Some(&run))?;
        run.head.group.remove();
    }
    let identity = spec
        .user
        .filter(|user| geteuid().is_root() && user.uid != geteuid().as_raw());
    let state = place.prepare_state(&lock)?;
    if let Some(user) = identity {
        place.hand_state_to(&lock, user)?;
    }
    let head = RunHead {
        boot_id: process::boot_id()
            .map_err(LocalError::file("read", "/proc/sys/kernel/random/boot_id"))?,
        group: hierarchies.prepare(&place.session_id, &spec.resources),
    };
    let spawned = spawn(place, &lock, &spec, &head, &state, identity);
    if spawned.is_err() {
        head.group.remove();
        place.forget_run(&lock);
    }
    spawned.map(|()| Started::Now)
}

fn spawn(
    place: &Place,
    lock: &PlaceLock,
    spec: &Spec,
    head: &RunHead,
    state: &Path,
    identity: Option<User>,
) -> Result<(), LocalError> {
    let log = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(place.log_file())
        .map_err(LocalError::file("write", place.log_file()))?;
    let groups = head.group.doors().map_err(LocalError::file(
        "open",
        head.group.collector.clone().unwrap_or_default(),
    ))?;
    let record = place.begin_run(lock, head)?;
    sys::spawn_daemon(Daemon {
        program: &spec.keeper.path,
        args: &spec.keeper.args,
        env: &environment(spec, state),
        cwd: Path::new("/"),
        log,
        record,
        groups,
        identity: identity.map(|user| (user.uid, user.gid)),
    })
    .map_err(|source| LocalError::Keeper {
        path: spec.keeper.path.clone(),
        source,
    })
}

/// The keeper's whole environment: what the host gives, where its own things are, and a search path.
fn environment(spec: &Spec, state: &Path) -> BTreeMap<String, String> {
    let path = std::env::var("PATH").unwrap_or_else(|_| DEFAULT_PATH.to_owned());
    let mut env = BTreeMap::from([("PATH".to_owned(), path)]);
    env.extend(spec.keeper.env.clone());
    env.insert(
        "BERTH_STATE".to_owned(),
        state.to_string_lossy().into_owned(),
    );
    env.insert("BERTH_SESSION".to_owned(), spec.session_id.clone());
    env
}

/// Asks the keeper to end, and waits for it so long.
pub(crate) async fn ask_to_end(place: &Place, grace: Duration) -> Result<(), LocalError> {
    let Some(keeper) = is_running(place)? else {
        return Ok(());
    };
    let attempt = |fault| LocalError::File {
        attempted: "signal",
        path: format!("/proc/{}", keeper.pid).into(),
        source: fault,
    };
    if grace.is_zero() {
        return Ok(());
    }
    let Some(pidfd) = keeper.watch().map_err(attempt)? else {
        return Ok(());
    };
    sys::signal_pidfd(&pidfd, Signal::SIGTERM).map_err(attempt)?;
    // What has not ended by then is killed by the caller.
    let _ = tokio::time::timeout(grace, sys::ended(pidfd)).await;
    Ok(())
}

/// Kills what runs in a place, and leaves the place.
pub(crate) fn end(place: &Place) -> Result<(), LocalError> {
    let Some(_lock) = place.lock()? else {
        return Ok(());
    };
    let run = place.run()?;
    kill_all(place, run.as_ref())?;
    Ok(())
}

/// Kills what runs in a place and removes it; gives what was removed.
pub(crate) fn delete(place: &Place) -> Result<Vec<String>, LocalError> {
    let Some(lock) = place.lock()? else {
        return Ok(Vec::new());
    };
    // A damaged record must not keep a place for ever.
    let run = place.run().unwrap_or_default();
    let mut removed = Vec::new();
    if run
        .as_ref()
        .is_some_and(|run| living_keeper(run).ok().flatten().is_some())
    {
        removed.push("processes".to_owned());
    }
    kill_all(place, run.as_ref())?;
    if let Some(run) = run {
        run.head.group.remove();
    }
    place.remove(lock)?;
    removed.push("folder".to_owned());
    Ok(removed)
}

/// Says what a place is doing.
pub(crate) fn inspect(place: &Place) -> Result<Inspection, LocalError> {
    if !place.exists() {
        return Ok(Inspection::default());
    }
    let Some(run) = place.run()? else {
        return Ok(Inspection {
            state: PlaceState::Created,
            engine_status: Some("created".to_owned()),
            ..Inspection::default()
        });
    };
    if living_keeper(&run)?.is_some() {
        return Ok(Inspection {
            state: PlaceState::Running,
            engine_status: Some("running".to_owned()),
            ..Inspection::default()
        });
    }
    if !place.exists() {
        return Ok(Inspection::default());
    }
    let Some(_keeper) = run.keeper else {
        return Ok(Inspection {
            state: PlaceState::Created,
            engine_status: Some("created".to_owned()),
            ..Inspection::default()
        });
    };
    Ok(ended(place, &run))
}

fn ended(place: &Place, run: &Run) -> Inspection {
    if let Some(record) = place.exit_record() {
        return Inspection {
            state: PlaceState::Exited,
            engine_status: Some("exited".to_owned()),
            exit_code: Some(record.exit_code),
            ..Inspection::default()
        };
    }
    let rebooted = process::boot_id().is_ok_and(|boot_id| boot_id != run.head.boot_id);
    let oom_killed = !rebooted && run.head.group.ran_out_of_memory();
    let message = match (rebooted, oom_killed) {
        (true, _) => "the machine was restarted while the session ran",
        (_, true) => "the session ran out of memory",
        _ => "the session's keeper was killed",
    };
    Inspection {
        state: PlaceState::Exited,
        engine_status: Some(
            if rebooted {
                "machine restarted"
            } else {
                "killed"
            }
            .to_owned(),
        ),
        exit_code: Some(KILLED),
        oom_killed,
        error_message: Some(message.to_owned()),
    }
}

/// All places of an installation. Half made ones are counted in: nobody else can be asked about them.
pub(crate) fn list(places: &Places, instance: &str) -> Result<Vec<ListedPlace>, LocalError> {
    let mut listed = Vec::new();
    for place in places.list()? {
        let spec = place.spec().ok().flatten();
        if spec.as_ref().is_some_and(|spec| spec.instance != instance) {
            continue;
        }
        let inspection = inspect(&place)?;
        if inspection.state == PlaceState::Missing {
            continue;
        }
        listed.push(ListedPlace {
            handle: crate::handle(&place.session_id),
            session_id: place.session_id,
            created_at: spec.map(|spec| spec.created_at),
            inspection,
        });
    }
    Ok(listed)
}

/// The keeper of a place, if it runs.
pub(crate) fn is_running(place: &Place) -> Result<Option<Process>, LocalError> {
    match place.run()? {
        Some(run) => living_keeper(&run),
        None => Ok(None),
    }
}

fn living_keeper(run: &Run) -> Result<Option<Process>, LocalError> {
    let boot_id =
        process::boot_id().map_err(LocalError::file("read", "/proc/sys/kernel/random/boot_id"))?;
    Ok(run
        .keeper
        .filter(|keeper| boot_id == run.head.boot_id && keeper.is_alive()))
}

/// Kills every process of a place, and waits until they are gone.
fn kill_all(place: &Place, run: Option<&Run>) -> Result<(), LocalError> {
    let Some(run) = run else {
        return Ok(());
    };
    let killed = if run.head.group.collector.is_some() {
        run.head.group.kill(KILL_LIMIT)
    } else {
        let tree = Tree {
            mark: format!("BERTH_SESSION={}", place.session_id),
            keeper: living_keeper(run)?,
        };
        tree.kill(KILL_LIMIT)
    };
    killed.map_err(|pids| LocalError::Survivors {
        id: place.session_id.clone(),
        after: KILL_LIMIT,
        pids,
    })
}

fn check_owner(spec: &Spec, session: &SessionRef) -> Result<(), LocalError> {
    if spec.instance == session.instance {
        return Ok(());
    }
    Err(LocalError::Foreign {
        id: session.id.clone(),
        instance: spec.instance.clone(),
    })
}

/// A time as RFC 3339 writes it, in UTC and whole seconds.
fn rfc_3339(time: SystemTime) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Days to date after https://howardhinnant.github.io/date_algorithms.html#civil_from_days, for days from 1970 on.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        of_day / 3_600,
        of_day / 60 % 60,
        of_day % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_agreed() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_705_314_600, "2024-01-15T10:30:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
        ] {
            assert_eq!(rfc_3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
