//! A keeper of a test's own, and what tests ask of it again and again.

use berth_host::keeper::protocol::{Program, ProgramState, Size, StartProgram, Status};
use berth_host::keeper::{Keeper, KeeperError, Output};
use berth_plugin_api::Stream;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

/// Nothing that works takes as long, even on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A keeper process; it and all below it are gone when this is.
pub(crate) struct World {
    pub(crate) child: Child,
    folder: TempDir,
}

impl World {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// With further arguments to `run`.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth-keeper"));
        command.arg("run").args(arguments);
        Self::of(command)
    }

    /// Any command that ends up as a keeper. The state folder and the session are set for it.
    pub(crate) fn of(mut command: Command) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        command
            .args(["--session", "test-session", "--grace-ms", "200"])
            .env("BERTH_STATE", folder.path().join("state"))
            .stdin(Stdio::null());
        let child = command.spawn().expect("the keeper starts");
        Self { child, folder }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// A folder for the test's own files.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path in that folder, as text.
    pub(crate) fn path(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        path.to_str().expect("text").to_owned()
    }

    pub(crate) async fn socket(&self) -> UnixStream {
        let path = self.state().join("keeper.sock");
        eventually("the keeper listens", || UnixStream::connect(path.clone())).await
    }

    pub(crate) async fn connect(&self) -> Keeper {
        let stream = Stream::new(self.socket().await);
        Keeper::connect(stream).await.expect("the keeper greets")
    }

    /// Waits until the keeper has ended by itself.
    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        let child = &mut self.child;
        let ended = eventually("the keeper ends", || {
            let ended = child.try_wait().expect("a child");
            async move { ended.ok_or("it runs") }
        });
        ended.await.code()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).ok();
            let since = Instant::now();
            while matches!(self.child.try_wait(), Ok(None)) {
                if since.elapsed() > Duration::from_secs(5) {
                    self.child.kill().ok();
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Tries until it works, for at most [`LIMIT`].
pub(crate) async fn eventually<T, E: std::fmt::Debug, F: Future<Output = Result<T, E>>>(
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> T {
    let since = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) if since.elapsed() > LIMIT => panic!("{what}: {error:?}"),
            Err(_) => sleep(Duration::from_millis(3)).await,
        }
    }
}

/// Fails rather than hangs.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(LIMIT, what).await.expect("in time")
}

pub(crate) fn program(argv: &[&str]) -> Program {
    Program {
        argv: argv.iter().map(|&argument| argument.into()).collect(),
        ..Program::default()
    }
}

pub(crate) fn shell(script: &str) -> Program {
    program(&["/bin/sh", "-c", script])
}

pub(crate) fn run(run_id: &str, program: Program) -> StartProgram {
    StartProgram {
        run_id: run_id.into(),
        program,
        size: Size {
            cols: 100,
            rows: 30,
        },
        ..StartProgram::default()
    }
}

pub(crate) async fn start(keeper: &Keeper, script: &str) -> Status {
    keeper
        .start(&run("run-1", shell(script)))
        .await
        .expect("started")
}

/// Waits until the status is as wanted.
pub(crate) async fn until(keeper: &Keeper, wanted: impl Fn(&Status) -> bool) -> Status {
    let mut changes = keeper.changes().await.expect("changes");
    soon(async {
        loop {
            let status = changes.next().await.expect("more").expect("a status");
            if wanted(&status) {
                return status;
            }
        }
    })
    .await
}

pub(crate) async fn until_ended(keeper: &Keeper) -> Status {
    until(keeper, |status| {
        matches!(
            status.program,
            ProgramState::Exited { .. } | ProgramState::Failed { .. }
        )
    })
    .await
}

/// Everything from where the output stands to its end.
pub(crate) async fn rest(output: &mut Output) -> Result<Vec<u8>, KeeperError> {
    let mut whole = Vec::new();
    while let Some(chunk) = soon(output.next()).await {
        let chunk = chunk?;
        assert_eq!(
            chunk.offset + chunk.bytes.len() as u64,
            output.next_offset()
        );
        whole.extend_from_slice(&chunk.bytes);
    }
    Ok(whole)
}

pub(crate) async fn all_output(keeper: &Keeper) -> String {
    let mut output = keeper.output(0, None).await.expect("output");
    let whole = rest(&mut output).await.expect("all of it");
    String::from_utf8(whole).expect("text")
}

/// Reads on until the text has come, and answers all that was read.
pub(crate) async fn read_until(output: &mut Output, text: &str) -> String {
    let mut seen = Vec::new();
    soon(async {
        while !String::from_utf8_lossy(&seen).contains(text) {
            let chunk = output.next().await.expect("more output").expect("bytes");
            seen.extend_from_slice(&chunk.bytes);
        }
    })
    .await;
    String::from_utf8_lossy(&seen).into_owned()
}

/// Waits until a file holds something, and answers that.
pub(crate) async fn content(path: &Path) -> String {
    eventually("the file is written", || {
        let content = std::fs::read_to_string(path).unwrap_or_default();
        async move {
            if content.ends_with('\n') {
                Ok(content)
            } else {
                Err(content)
            }
        }
    })
    .await
}

pub(crate) fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|stat| {
        !stat
            .rsplit_once(')')
            .is_some_and(|(_, rest)| rest.starts_with(" Z"))
    })
}

/// How many ended processes wait to be reaped by this one.
pub(crate) fn zombies_of(parent: u32) -> usize {
    let processes = std::fs::read_dir("/proc").expect("proc").flatten();
    let zombie = format!(" Z {parent} ");
    processes
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok())
        .filter(|stat| {
            stat.rsplit_once(')')
                .is_some_and(|(_, rest)| rest.starts_with(&zombie))
        })
        .count()
}
