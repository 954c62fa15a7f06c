//! What every backend promises, held against each that runs here, with the real keeper in its places.

use crate::third_party;
use berth_host::driver::{BackendDriver, Call, Isolation};
use berth_host::keeper::Keeper;
use berth_host::keeper::protocol::{Program, ProgramState, StartProgram};
use berth_host::plugin::{PluginDir, PluginSettings, load_all};
use berth_plugin_api::doc::{
    CreateRequest, DeleteRequest, Inspection, KeeperProgram, ListRequest, Mount, PlaceRequest,
    PlaceState, SessionRef, StopRequest, WatchRequest,
};
use berth_tests::{LIMIT, Layout, eventually, processes_with, within};
use bytes::Bytes;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use uuid::Uuid;

const INSTANCE: &str = "an-instance";

/// One backend under test, as its library in a folder.
struct Subject {
    name: &'static str,
    library: PathBuf,
    config: Value,
    root: TempDir,
}

impl Subject {
    fn new(name: &'static str, library: PathBuf, config: Value) -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["plugins", "work"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        Self {
            name,
            library,
            config,
            root,
        }
    }

    /// Opens the plugin, as a server that has just started does.
    async fn open(&self) -> Arc<dyn BackendDriver> {
        let folder = self.root.path().join("plugins");
        let file = folder.join("subject.so");
        if !file.exists() {
            fs::copy(&self.library, file).unwrap();
        }
        let drivers = load_all(&PluginSettings {
            dirs: vec![PluginDir {
                path: folder,
                isolation: Isolation::None,
            }],
            backends: BTreeMap::from([(self.name.to_owned(), self.config.clone())]),
            instance: INSTANCE.to_owned(),
            data_dir: self.root.path().join("data"),
            ..PluginSettings::default()
        })
        .await;
        let driver = drivers.backends.get(self.name);
        Arc::clone(driver.unwrap_or_else(|| panic!("{:?}", drivers.refused)))
    }

    fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    fn creation(&self, session: &SessionRef) -> CreateRequest {
        let args = ["run", "--session", &session.id, "--instance", INSTANCE];
        CreateRequest {
            session: session.clone(),
            keeper: KeeperProgram {
                path: Layout::get().keeper(),
                args: args.map(str::to_owned).to_vec(),
                env: BTreeMap::from([("BERTH_TEST".to_owned(), "1".to_owned())]),
            },
            mounts: vec![Mount {
                source: self.work(),
                target: self.work(),
                read_only: false,
            }],
            options: json!({}),
            ..CreateRequest::default()
        }
    }
}

impl Drop for Subject {
    /// Ends what a failed test left running.
    fn drop(&mut self) {
        let places = self.root.path().join("data/backends").join(self.name);
        let Ok(entries) = fs::read_dir(places.join("places")) else {
            return;
        };
        for entry in entries.filter_map(Result::ok) {
            let marker = format!("BERTH_SESSION={}", entry.file_name().display());
            for process in processes_with(&marker) {
                let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
            }
        }
    }
}

fn call() -> Call {
    Call::new(LIMIT)
}

fn new_session() -> SessionRef {
    SessionRef {
        id: Uuid::now_v7().to_string(),
        name: "a-session".to_owned(),
        instance: INSTANCE.to_owned(),
    }
}

fn at(session: &SessionRef) -> PlaceRequest {
    PlaceRequest {
        session: session.clone(),
        // Its answer was lost: a place is found by its session too.
        handle: Value::Null,
    }
}

async fn inspect(driver: &dyn BackendDriver, session: &SessionRef) -> Inspection {
    driver.inspect(call(), &at(session)).await.unwrap()
}

async fn wait_for(
    driver: &dyn BackendDriver,
    session: &SessionRef,
    state: PlaceState,
) -> Inspection {
    eventually("the place to change", async || {
        let seen = inspect(driver, session).await;
        if seen.state == state {
            Ok(seen)
        } else {
            Err(seen)
        }
    })
    .await
}

async fn delete(driver: &dyn BackendDriver, session: &SessionRef) {
    let request = DeleteRequest {
        place: at(session),
        data: true,
    };
    driver.delete(call(), &request).await.unwrap();
}

async fn keeper(driver: &dyn BackendDriver, session: &SessionRef) -> Keeper {
    let stream = driver.connect(call(), &at(session)).await.unwrap();
    Keeper::connect(stream).await.unwrap()
}

fn marker(session: &SessionRef) -> String {
    format!("BERTH_SESSION={}", session.id)
}

/// Starts a shell in a keeper.
async fn start_shell(keeper: &Keeper, run_id: &str, first_offset: u64) {
    let status = keeper
        .start(&StartProgram {
            run_id: run_id.to_owned(),
            program: Program {
                argv: vec!["/bin/sh".to_owned()],
                env: BTreeMap::from([("PS1".to_owned(), "> ".to_owned())]),
                cwd: None,
            },
            first_offset,
            ..StartProgram::default()
        })
        .await
        .unwrap();
    assert!(
        matches!(status.program, ProgramState::Running { .. }),
        "{status:?}"
    );
}

/// Types a line.
async fn type_line(keeper: &Keeper, line: &str) {
    keeper
        .input(Bytes::from(format!("{line}\r")))
        .await
        .unwrap();
}

/// Reads from an offset up to the end of this text; gives what came and the offset there. What may follow in the same
/// chunk, as the shell's next prompt, is left out.
async fn read_until(keeper: &Keeper, from: u64, text: &str) -> (String, u64) {
    let mut output = keeper.output(from, None).await.unwrap();
    let first = output.first_offset();
    let mut seen = Vec::new();
    loop {
        let found = seen
            .windows(text.len())
            .position(|window| window == text.as_bytes());
        if let Some(at) = found {
            seen.truncate(at + text.len());
            let end = first + seen.len() as u64;
            return (String::from_utf8_lossy(&seen).into_owned(), end);
        }
        let chunk = within(text, output.next())
            .await
            .expect("more output")
            .unwrap();
        seen.extend_from_slice(&chunk.bytes);
    }
}

async fn keeps_its_promises(subject: &Subject) {
    let driver = subject.open().await;
    let driver = &*driver;
    let probe = driver.probe(call()).await.unwrap();
    assert!(probe.available, "{probe:?}");
    assert_eq!(probe.architecture, std::env::consts::ARCH);
    lives_and_is_found_again(subject, driver).await;
    tells_how_it_ended(subject, driver).await;
    leaves_nothing(subject, driver).await;
    takes_many_calls_at_once(subject, driver).await;
    if driver.description().capabilities.watch {
        tells_changes(subject, driver).await;
    }
    let list = driver
        .list(
            call(),
            &ListRequest {
                instance: INSTANCE.to_owned(),
            },
        )
        .await
        .unwrap();
    assert_eq!(list.places.len(), 0, "{list:?}");
}

/// Create and start may come twice; whoever opens the plugin later finds the same keeper at the same byte.
async fn lives_and_is_found_again(subject: &Subject, driver: &dyn BackendDriver) {
    let session = new_session();
    assert_eq!(inspect(driver, &session).await.state, PlaceState::Missing);
    let request = subject.creation(&session);
    let first = driver.create(call(), &request).await.unwrap();
    assert_eq!(
        driver.create(call(), &request).await.unwrap().handle,
        first.handle
    );
    assert_eq!(inspect(driver, &session).await.state, PlaceState::Created);
    driver.start(call(), &at(&session)).await.unwrap();
    driver.start(call(), &at(&session)).await.unwrap();
    assert_eq!(inspect(driver, &session).await.state, PlaceState::Running);
    let first = keeper(driver, &session).await;
    assert_eq!(first.hello().session, session.id);
    start_shell(&first, "one", 0).await;
    type_line(&first, "echo test-$BERTH_TEST; echo process-$$-").await;
    let (_, middle) = read_until(&first, 0, "process-").await;
    let second = keeper(driver, &session).await;
    assert_eq!(second.hello().boot_id, first.hello().boot_id);
    type_line(&second, "echo fr''om-the-second").await;
    let (whole, end) = read_until(&second, 0, "from-the-second\r\n").await;
    assert!(whole.contains("test-1"), "{whole}");

    let later = subject.open().await;
    let again = keeper(&*later, &session).await;
    assert_eq!(again.hello().boot_id, first.hello().boot_id);
    let (rest, same_end) = read_until(&again, middle, "from-the-second\r\n").await;
    assert_eq!(same_end, end);
    assert_eq!(rest, whole[usize::try_from(middle).unwrap()..]);
    for (instance, count) in [(INSTANCE, 1), ("another", 0)] {
        let list = later
            .list(
                call(),
                &ListRequest {
                    instance: instance.to_owned(),
                },
            )
            .await
            .unwrap();
        assert_eq!(list.places.len(), count, "{instance}: {list:?}");
    }
    let stop = StopRequest {
        place: at(&session),
        grace_ms: 2_000,
    };
    later.stop(call(), &stop).await.unwrap();
    later.stop(call(), &stop).await.unwrap();
    assert_eq!(inspect(&*later, &session).await.state, PlaceState::Exited);
    assert_eq!(processes_with(&marker(&session)), []);

    later.start(call(), &at(&session)).await.unwrap();
    let anew = keeper(&*later, &session).await;
    assert_ne!(anew.hello().boot_id, first.hello().boot_id);
    start_shell(&anew, "two", end).await;
    type_line(&anew, "echo a''new").await;
    let (text, _) = read_until(&anew, 0, "anew").await;
    assert!(!text.contains("test-1"), "{text}");
    delete(&*later, &session).await;
    delete(&*later, &session).await;
    assert_eq!(inspect(driver, &session).await.state, PlaceState::Missing);
    assert_eq!(processes_with(&marker(&session)), []);
}

/// By the program's own code, and when the keeper is killed.
async fn tells_how_it_ended(subject: &Subject, driver: &dyn BackendDriver) {
    let session = new_session();
    driver
        .create(call(), &subject.creation(&session))
        .await
        .unwrap();
    driver.start(call(), &at(&session)).await.unwrap();
    let client = keeper(driver, &session).await;
    start_shell(&client, "one", 0).await;
    type_line(&client, "exit 7").await;
    eventually("the program's end", async || {
        let status = client.status().await.unwrap();
        if status.program
            == (ProgramState::Exited {
                code: 7,
                signal: None,
            })
        {
            Ok(())
        } else {
            Err(status)
        }
    })
    .await;
    assert_eq!(
        inspect(driver, &session).await.state,
        PlaceState::Running,
        "until it is released"
    );
    client.release("one").await.unwrap();
    let seen = wait_for(driver, &session, PlaceState::Exited).await;
    assert_eq!(seen.exit_code, Some(7), "{seen:?}");

    driver.start(call(), &at(&session)).await.unwrap();
    let client = keeper(driver, &session).await;
    start_shell(&client, "two", 0).await;
    kill_keeper(&session);
    let seen = wait_for(driver, &session, PlaceState::Exited).await;
    assert_eq!(seen.exit_code, Some(137), "{seen:?}");
    delete(driver, &session).await;
    assert_eq!(processes_with(&marker(&session)), []);
}

fn kill_keeper(session: &SessionRef) {
    let all = processes_with(&marker(session));
    let mut keepers = all.iter().filter(|process| {
        let mut words = process.command.split(' ');
        let program = words.next().unwrap_or_default();
        // It runs itself once more, to start with settings that are read only then.
        let is_keeper = program.ends_with("berth-keeper") || program == "/proc/self/exe";
        is_keeper && words.next() == Some("run")
    });
    let keeper = keepers
        .next()
        .unwrap_or_else(|| panic!("no keeper among {all:?}"));
    kill(Pid::from_raw(keeper.pid), Signal::SIGKILL).unwrap();
}

/// Whatever was started, and also when the keeper was killed before.
async fn leaves_nothing(subject: &Subject, driver: &dyn BackendDriver) {
    for kill_first in [false, true] {
        let session = new_session();
        driver
            .create(call(), &subject.creation(&session))
            .await
            .unwrap();
        driver.start(call(), &at(&session)).await.unwrap();
        let client = keeper(driver, &session).await;
        start_shell(&client, "one", 0).await;
        type_line(&client, "(setsid sleep 1001 &); (setsid sh -c 'setsid sleep 1002 & exec sleep 1003' &); sleep 1004 & sleep 1005").await;
        let sleepers = || {
            let there = processes_with(&marker(&session));
            there
                .iter()
                .filter(|process| process.command.starts_with("sleep 100"))
                .count()
        };
        eventually("five sleepers", async || {
            if sleepers() == 5 {
                Ok(())
            } else {
                Err(sleepers())
            }
        })
        .await;
        if kill_first {
            kill_keeper(&session);
            wait_for(driver, &session, PlaceState::Exited).await;
        }
        delete(driver, &session).await;
        assert_eq!(
            processes_with(&marker(&session)),
            [],
            "{}: killed first: {kill_first}",
            subject.name
        );
        assert_eq!(paths_with(subject.root.path(), &session.id), [""; 0]);
    }
}

fn paths_with(folder: &Path, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().filter_map(Result::ok) {
        let path = entry.path();
        if path.to_string_lossy().contains(name) {
            found.push(path.display().to_string());
        } else if entry.file_type().unwrap().is_dir() {
            found.extend(paths_with(&path, name));
        }
    }
    found
}

/// One session, many calls for it; many sessions, one call for each.
async fn takes_many_calls_at_once(subject: &Subject, driver: &dyn BackendDriver) {
    let session = new_session();
    let request = subject.creation(&session);
    let creates = (0..8).map(|_| driver.create(call(), &request));
    for created in futures_util::future::join_all(creates).await {
        created.unwrap();
    }
    let place = at(&session);
    let starts = (0..8).map(|_| driver.start(call(), &place));
    for started in futures_util::future::join_all(starts).await {
        started.unwrap();
    }
    let boots = (0..4).map(|_| keeper(driver, &session));
    let boots = futures_util::future::join_all(boots).await;
    assert!(
        boots
            .iter()
            .all(|keeper| keeper.hello().boot_id == boots[0].hello().boot_id)
    );
    let deletes = (0..4).map(|_| delete(driver, &session));
    futures_util::future::join_all(deletes).await;

    let sessions: Vec<SessionRef> = (0..16).map(|_| new_session()).collect();
    let lives = sessions.iter().map(async |session| {
        driver
            .create(call(), &subject.creation(session))
            .await
            .unwrap();
        driver.start(call(), &at(session)).await.unwrap();
        assert_eq!(keeper(driver, session).await.hello().session, session.id);
        delete(driver, session).await;
        processes_with(&marker(session))
    });
    for left in futures_util::future::join_all(lives).await {
        assert_eq!(left, []);
    }
}

async fn tells_changes(subject: &Subject, driver: &dyn BackendDriver) {
    let before = new_session();
    driver
        .create(call(), &subject.creation(&before))
        .await
        .unwrap();
    let mut changes = driver
        .watch(
            call(),
            &WatchRequest {
                instance: INSTANCE.to_owned(),
            },
        )
        .await
        .unwrap();
    let mut next = async |session: &SessionRef| {
        let change = within("a change", changes.recv())
            .await
            .expect("watching goes on");
        assert_eq!(change.session_id, session.id);
        change.inspection
    };
    assert_eq!(next(&before).await.state, PlaceState::Created);
    driver.start(call(), &at(&before)).await.unwrap();
    assert_eq!(next(&before).await.state, PlaceState::Running);
    kill_keeper_when_there(driver, &before).await;
    let seen = next(&before).await;
    assert_eq!(
        (seen.state, seen.exit_code),
        (PlaceState::Exited, Some(137))
    );
    delete(driver, &before).await;
    assert_eq!(next(&before).await.state, PlaceState::Missing);
}

async fn kill_keeper_when_there(driver: &dyn BackendDriver, session: &SessionRef) {
    drop(keeper(driver, session).await);
    kill_keeper(session);
}

fn local() -> PathBuf {
    Layout::get().plugins().join("libberth_backend_local.so")
}

#[tokio::test]
async fn the_local_backend_keeps_its_promises() {
    keeps_its_promises(&Subject::new("local", local(), json!({}))).await;
}

#[tokio::test]
async fn the_local_backend_keeps_its_promises_without_control_groups() {
    let subject = Subject::new("local", local(), json!({"cgroups": "never"}));
    keeps_its_promises(&subject).await;
}

#[tokio::test]
async fn the_bubblewrap_example_keeps_its_promises() {
    let library = third_party::library().await;
    keeps_its_promises(&Subject::new("bubblewrap", library, json!({}))).await;
}
