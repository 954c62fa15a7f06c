//! `berth-keeper run`: the session's main process, from its start to its end.
//!
//! It ends in one of two ways. The host has everything and releases it; or it is told to end by a signal (a container is
//! stopped): then all programs are ended first. Either way it leaves an exit record and the program's exit code.

use crate::arguments::Settings;
use crate::keeper::Keeper;
use crate::sys::{Side, close_inherited, fork, reset_signals};
use crate::{complain, http, note};
use anyhow::Context as _;
use berth_keeper_protocol::{
    EXIT_FILE, ExitRecord, PID_FILE, PidRecord, ProgramState, SOCKET_FILE,
};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, Permissions};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

/// How long those who read may take for the rest once the keeper ends.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// The exit code of a keeper that was ended before it had a program.
const NEVER_STARTED: i32 = 143;

pub(crate) fn run(settings: Settings) -> ExitCode {
    // The library that starts programs asks the system's user database where these are missing, and a static program must
    // not: it would load libraries of whatever system it runs in.
    if std::env::var_os("SHELL").is_none() || std::env::var_os("HOME").is_none() {
        return complain(&again_with_defaults(), 1);
    }
    close_inherited();
    reset_signals();
    if settings.daemon {
        return detach(settings);
    }
    match prepare(&settings) {
        Ok(place) => live(settings, place),
        Err(error) => complain(&format!("{error:#}"), 1),
    }
}

/// Executes this program again, with what is missing in its environment. Returns only when that fails.
fn again_with_defaults() -> String {
    let own = std::env::current_exe().ok().filter(|path| path.is_file());
    let mut command = Command::new(own.unwrap_or_else(|| "/proc/self/exe".into()));
    let mut arguments = std::env::args_os();
    command.arg0(arguments.next().unwrap_or_default());
    command.args(arguments);
    for (variable, value) in [("SHELL", "/bin/sh"), ("HOME", "/")] {
        if std::env::var_os(variable).is_none() {
            command.env(variable, value);
        }
    }
    format!("cannot execute itself: {}", command.exec())
}

/// What a keeper holds while it lives.
struct Place {
    boot_id: String,
    listener: std::os::unix::net::UnixListener,
    _lock: Flock<File>,
}

/// Takes the state folder, and listens.
fn prepare(settings: &Settings) -> anyhow::Result<Place> {
    let state = &settings.state;
    let folder = || format!("state folder {}", state.display());
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state)
        .with_context(folder)?;
    fs::set_permissions(state, Permissions::from_mode(0o700)).with_context(folder)?;
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/uuid").context("boot id")?;
    let boot_id = boot_id.trim().to_owned();
    let lock = take(state, &boot_id).with_context(folder)?;
    for stale in [SOCKET_FILE, EXIT_FILE] {
        fs::remove_file(state.join(stale)).ok();
    }
    let listener = listen(state).with_context(|| format!("socket in {}", state.display()))?;
    nix::sys::prctl::set_child_subreaper(true).context("becoming a subreaper")?;
    Ok(Place {
        boot_id,
        listener,
        _lock: lock,
    })
}

/// One keeper a folder: the lock is held as long as it lives.
fn take(state: &Path, boot_id: &str) -> anyhow::Result<Flock<File>> {
    let file = File::options()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .open(state.join(PID_FILE))?;
    let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| anyhow::anyhow!("another keeper lives there"))?;
    let record = PidRecord {
        pid: std::process::id(),
        boot_id: boot_id.to_owned(),
    };
    lock.set_len(0)?;
    lock.write_all(&serde_json::to_vec(&record)?)?;
    Ok(lock)
}

/// Listens on the socket. Its path may be longer than a socket's address can hold, so it goes by the open folder.
fn listen(state: &Path) -> anyhow::Result<std::os::unix::net::UnixListener> {
    let folder = File::open(state)?;
    let short = format!("/proc/self/fd/{}/{SOCKET_FILE}", folder.as_raw_fd());
    let listener = std::os::unix::net::UnixListener::bind(&short)
        .or_else(|_| std::os::unix::net::UnixListener::bind(state.join(SOCKET_FILE)))?;
    // Until now the folder alone has kept others out.
    fs::set_permissions(state.join(SOCKET_FILE), Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Leaves the caller's session and process group; the caller goes on once the socket listens.
fn detach(settings: Settings) -> ExitCode {
    match try_detach(settings) {
        Ok(code) => code,
        Err(error) => complain(&format!("cannot detach: {error:#}"), 1),
    }
}

fn try_detach(settings: Settings) -> anyhow::Result<ExitCode> {
    let (outcome, tell) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    if fork()? == Side::Parent {
        drop(tell);
        return await_outcome(outcome);
    }
    drop(outcome);
    nix::unistd::setsid()?;
    // Not the leader of its session, it can never get a controlling terminal.
    if fork()? == Side::Parent {
        return Ok(ExitCode::SUCCESS);
    }
    let mut tell = File::from(tell);
    let prepared = prepare(&settings).and_then(|place| {
        redirect(&settings.state)?;
        std::env::set_current_dir("/")?;
        Ok(place)
    });
    match prepared {
        Ok(place) => {
            tell.write_all(format!("{}\n", std::process::id()).as_bytes())?;
            drop(tell);
            Ok(live(settings, place))
        }
        Err(error) => {
            tell.write_all(format!("{error:#}").as_bytes())?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// A line is the process id, anything else is what went wrong.
fn await_outcome(outcome: OwnedFd) -> anyhow::Result<ExitCode> {
    let mut text = String::new();
    File::from(outcome).read_to_string(&mut text)?;
    if text.ends_with('\n') {
        std::io::stdout().write_all(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    anyhow::bail!(
        "{}",
        if text.is_empty() {
            "the keeper died"
        } else {
            &text
        }
    )
}

/// Nothing of the caller's stays open.
fn redirect(state: &Path) -> anyhow::Result<()> {
    let log = File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(state.join("keeper.log"))?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&log)?;
    Ok(())
}

fn live(settings: Settings, place: Place) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("no runtime: {error}"), 1),
    };
    let state = settings.state.clone();
    let keeper = Rc::new(Keeper::new(settings, place.boot_id.clone()));
    let tasks = LocalSet::new();
    let result = tasks.block_on(&runtime, attend(&keeper, place.listener));
    if let Err(error) = result {
        note(&format!("{error:#}"));
    }
    let record = ExitRecord {
        boot_id: place.boot_id,
        exit_code: keeper.exit_code.get(),
    };
    fs::remove_file(state.join(SOCKET_FILE)).ok();
    if let Err(error) = leave(&state, &record) {
        note(&format!("no exit record: {error:#}"));
    }
    runtime.shutdown_background();
    // What the system hands on of it, as of any exit code.
    ExitCode::from(record.exit_code.to_le_bytes()[0])
}

fn leave(state: &Path, record: &ExitRecord) -> anyhow::Result<()> {
    let draft = state.join(format!("{EXIT_FILE}.new"));
    fs::write(&draft, serde_json::to_vec(record)?)?;
    fs::rename(draft, state.join(EXIT_FILE))?;
    Ok(())
}

/// Serves until it is released or told to end.
async fn attend(
    keeper: &Rc<Keeper>,
    listener: std::os::unix::net::UnixListener,
) -> anyhow::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    let mut child = signal(SignalKind::child())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut connections = JoinSet::new();
    // Orphans may have come before anybody listened for them.
    keeper.children.reap();
    let told_to_end = loop {
        tokio::select! {
            biased;
            _ = child.recv() => keeper.children.reap(),
            () = keeper.released.cancelled() => break false,
            _ = terminate.recv() => break true,
            _ = interrupt.recv() => break true,
            _ = hangup.recv() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if is_friend(&stream) => {
                    connections.spawn_local(http::serve(Rc::clone(keeper), stream));
                }
                Ok(_) => note("a connection of another user was refused"),
                // No descriptors are left: it gets better when others end.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    };
    let last = async {
        if told_to_end {
            end(keeper).await;
        }
        // Execs may still run.
        keeper.end_all(Duration::ZERO).await;
        keeper.closing.cancel();
        let flushed = async { while connections.join_next().await.is_some() {} };
        timeout(LAST_WORDS, flushed).await.ok();
    };
    tokio::select! {
        () = last => {}
        () = async {
            while child.recv().await.is_some() {
                keeper.children.reap();
            }
        } => {}
    }
    Ok(())
}

/// Ends all programs, and gives those who read the time to take the rest.
async fn end(keeper: &Rc<Keeper>) {
    let never = keeper.status.borrow().program == ProgramState::Waiting;
    if never {
        keeper.exit_code.set(NEVER_STARTED);
    }
    let stopped = Rc::clone(keeper).stop(keeper.settings.grace).await;
    if let Err(refusal) = stopped {
        note(&format!("{refusal:?}"));
    }
    keeper.released.cancel();
    let taken = async {
        loop {
            let moved = keeper.output.read_on.notified();
            if !keeper.output.is_awaited() {
                return;
            }
            moved.await;
        }
    };
    timeout(LAST_WORDS, taken).await.ok();
}

/// Of the same user, or of one who may do everything anyway.
fn is_friend(stream: &UnixStream) -> bool {
    let own = nix::unistd::getuid().as_raw();
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}
