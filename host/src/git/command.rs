//! How the program `git` is run: with an environment of our own, and nobody's configuration, hooks or transports.
//!
//! Every invocation names its git folder, so nothing is discovered. Of the repository's own configuration, which `git`
//! cannot be told to pass over, all that could run a program is overridden here.

use super::{GitError, GitSettings, Result, Version};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::{OnceCell, RwLock};
use tokio_util::task::TaskTracker;

/// Overrides for whatever a configuration file may say.
const OVERRIDES: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.splitIndex=false",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.sshCommand=false",
    "core.askPass=false",
    "core.editor=false",
    "core.pager=cat",
    "core.bigFileThreshold=32m",
    "core.looseCompression=1",
    "credential.helper=",
    "protocol.allow=never",
    "submodule.recurse=false",
    "diff.ignoreSubmodules=dirty",
    "advice.graftFileDeprecated=false",
    "gc.auto=0",
    "maintenance.auto=false",
];

/// Nothing takes longer, not even a large checkout on a slow disk.
const TIME_LIMIT: Duration = Duration::from_mins(15);
const STDERR_LIMIT: usize = 16 << 10;

/// The program and what is known of it.
#[derive(Debug)]
pub(super) struct Runner {
    settings: GitSettings,
    version: OnceCell<Version>,
    /// Runs that nobody can cut off.
    uninterrupted: TaskTracker,
    /// Held for reading by each of them.
    under_way: Arc<RwLock<()>>,
}

/// One run of the program, being put together.
#[derive(Debug)]
pub(super) struct Invocation {
    attempted: &'static str,
    command: Command,
    input: Input,
    output_limit: usize,
    time_limit: Duration,
}

#[derive(Debug)]
enum Input {
    Nothing,
    Bytes(Vec<u8>),
    Given,
}

/// What a run printed.
#[derive(Debug)]
pub(super) struct Output {
    status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// `stdout` was cut off at its limit, and the program ended there.
    pub(super) truncated: bool,
}

impl Runner {
    pub(super) fn new(settings: GitSettings) -> Self {
        Self {
            settings,
            version: OnceCell::new(),
            uninterrupted: TaskTracker::new(),
            under_way: Arc::default(),
        }
    }

    /// Runs it to its end, also when nobody waits for it any more: it writes where a write cut off would leave a lock
    /// in the user's repository.
    pub(super) async fn to_the_end(&self, invocation: Invocation) -> Result<Output> {
        let attempted = invocation.attempted;
        let under_way = Arc::clone(&self.under_way).read_owned().await;
        let run = self.uninterrupted.spawn(async move {
            let output = invocation.outcome().await;
            drop(under_way);
            output
        });
        run.await.map_err(|error| GitError::Failed {
            attempted,
            message: error.to_string(),
        })?
    }

    /// Waits for what was begun by [`Runner::to_the_end`], the caller gone or not.
    pub(super) async fn settled(&self) {
        drop(self.under_way.write().await);
    }

    /// The program's version, asked for once.
    pub(super) async fn version(&self) -> Result<Version> {
        self.version
            .get_or_try_init(|| self.ask_version())
            .await
            .copied()
    }

    async fn ask_version(&self) -> Result<Version> {
        let attempted = "tell its version";
        let mut asked = self.bare(attempted);
        asked.command.arg("version");
        let output = asked.run().await?;
        let text = output.text();
        let found = Version::parse(&text).ok_or(GitError::Failed {
            attempted,
            message: text,
        })?;
        if found < Version::MINIMUM {
            return Err(GitError::TooOld { found });
        }
        Ok(found)
    }

    /// `git` on a git folder. `attempted` completes the sentence "git failed to …".
    pub(super) fn git(&self, attempted: &'static str, git_dir: &Path) -> Invocation {
        let mut invocation = self.bare(attempted);
        invocation
            .command
            .env("GIT_DIR", git_dir)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        for entry in OVERRIDES {
            invocation.command.args(["-c", entry]);
        }
        invocation
    }

    /// Reads configuration, the server's user's own included. Reading it runs nothing.
    pub(super) fn config(&self, git_dir: &Path) -> Invocation {
        let mut invocation = self.bare("read the configuration");
        invocation
            .command
            .env("GIT_DIR", git_dir)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("HOME", &self.settings.home)
            .arg("config");
        invocation
    }

    fn bare(&self, attempted: &'static str) -> Invocation {
        let mut command = Command::new(&self.settings.program);
        command
            .env_clear()
            .env("PATH", &self.settings.search_path)
            .env("HOME", "/dev/null")
            .env("LC_ALL", "C")
            .env("GIT_ALLOW_PROTOCOL", "none")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_COMMITTER_NAME", "berth")
            .env("GIT_COMMITTER_EMAIL", "berth@localhost")
            .env("GIT_LITERAL_PATHSPECS", "1")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_PAGER", "cat")
            .env("GIT_TERMINAL_PROMPT", "0")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // An interrupt typed at the server's terminal must not cut a write in half.
            .process_group(0)
            .kill_on_drop(true);
        Invocation {
            attempted,
            command,
            input: Input::Nothing,
            output_limit: usize::MAX,
            time_limit: TIME_LIMIT,
        }
    }
}

impl Invocation {
    pub(super) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    pub(super) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// The folder that it works on, and the index that goes with it.
    pub(super) fn on(self, work: &Path, index: &Path) -> Self {
        self.env("GIT_WORK_TREE", work).env("GIT_INDEX_FILE", index)
    }

    pub(super) fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.command.stdin(Stdio::piped());
        self.input = Input::Bytes(bytes.into());
        self
    }

    pub(super) fn input_from(mut self, file: File) -> Self {
        self.command.stdin(file);
        self.input = Input::Given;
        self
    }

    pub(super) fn output_to(mut self, file: File) -> Self {
        self.command.stdout(file);
        self
    }

    /// Ends the program once it has printed this many bytes.
    pub(super) fn output_limit(mut self, bytes: usize) -> Self {
        self.output_limit = bytes;
        self
    }

    /// Runs it; ending with another code than 0 is an error.
    pub(super) async fn run(self) -> Result<Output> {
        let attempted = self.attempted;
        let output = self.outcome().await?;
        if output.succeeded() || output.truncated {
            Ok(output)
        } else {
            Err(output.failure(attempted))
        }
    }

    /// Runs it, however it ends.
    pub(super) async fn outcome(mut self) -> Result<Output> {
        let attempted = self.attempted;
        let child = self.command.spawn().map_err(GitError::Missing)?;
        let finished = finish(child, self.input, self.output_limit);
        match tokio::time::timeout(self.time_limit, finished).await {
            Ok(finished) => finished.map_err(|source| GitError::Io {
                attempted: "talk to",
                path: PathBuf::from("git"),
                source,
            }),
            Err(_) => Err(GitError::TimedOut { attempted }),
        }
    }
}

impl Output {
    pub(super) fn succeeded(&self) -> bool {
        self.status.success()
    }

    pub(super) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// What was printed, without white space around it.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    /// What was complained about, in few lines.
    pub(super) fn complaint(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr);
        let mut lines: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with("hint:"))
            .take(6)
            .collect();
        if let Some(first) = lines.first_mut() {
            for prefix in ["fatal: ", "error: "] {
                *first = first.strip_prefix(prefix).unwrap_or(first);
            }
        }
        let ended = match (self.status.code(), self.status.signal()) {
            (_, Some(signal)) => format!("ended by signal {signal}"),
            (code, None) => format!("exit code {}", code.unwrap_or(-1)),
        };
        if lines.is_empty() {
            ended
        } else {
            lines.join("; ")
        }
    }

    pub(super) fn failure(&self, attempted: &'static str) -> GitError {
        GitError::Failed {
            attempted,
            message: self.complaint(),
        }
    }
}

/// Feeds and drains a child until it ends. Dropped, it kills the child.
async fn finish(mut child: Child, input: Input, output_limit: usize) -> std::io::Result<Output> {
    let stdin = child.stdin.take();
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let feed = async {
        if let (Input::Bytes(bytes), Some(mut stdin)) = (input, stdin) {
            // A program that has read enough closes its end; its exit code says whether that was well.
            let _ = stdin.write_all(&bytes).await;
        }
    };
    let drain = async {
        let (stdout, truncated) = match stdout {
            Some(stdout) => read_up_to(stdout, output_limit).await?,
            None => (Vec::new(), false),
        };
        std::io::Result::Ok((stdout, truncated))
    };
    let complaints = async {
        match stderr {
            Some(mut stderr) => {
                let mut kept = Vec::new();
                (&mut stderr)
                    .take(STDERR_LIMIT as u64)
                    .read_to_end(&mut kept)
                    .await?;
                tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await?;
                std::io::Result::Ok(kept)
            }
            None => Ok(Vec::new()),
        }
    };
    let ((), drained, complained) = tokio::join!(feed, drain, complaints);
    let (stdout, truncated) = drained?;
    let status = child.wait().await?;
    Ok(Output {
        status,
        stdout,
        stderr: complained?,
        truncated,
    })
}

/// Reads to the end, or to the limit and a byte beyond; then the pipe is closed, which ends the writer.
async fn read_up_to(
    mut pipe: impl AsyncRead + Unpin,
    limit: usize,
) -> std::io::Result<(Vec<u8>, bool)> {
    let mut read = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    (&mut pipe).take(most).read_to_end(&mut read).await?;
    let truncated = read.len() > limit;
    read.truncate(limit);
    Ok((read, truncated))
}

/// A path's bytes as an argument list needs them.
pub(super) fn os(text: impl Into<OsString>) -> OsString {
    text.into()
}
