//! A session's folder, and how a running sandbox is known.
//!
//! ```text
//! places/<session id>/
//!   place.json  what the sandbox is made of
//!   lock        held while the place is changed or looked at
//!   alive       held by the sandbox, as its standard input, for as long as anything in it lives
//!   info.json   bubblewrap's own word on what it started
//!   log         what bubblewrap and the keeper had to say
//!   state/      the keeper's
//! ```

use crate::options::Config;
use crate::sandbox::Sandbox;
use berth_plugin_api::doc::{Inspection, PlaceState};
use berth_plugin_api::{Error, Result};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a sandbox may take to be gone once it was killed.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// 128 + SIGKILL: what killed the keeper kept it from telling its exit code.
pub(crate) const KILLED: i32 = 137;

/// What a place is for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) instance: String,
    pub(crate) sandbox: Sandbox,
}

#[derive(Debug, Deserialize)]
struct Info {
    #[serde(rename = "child-pid")]
    child_pid: i32,
}

#[derive(Debug, Deserialize)]
struct ExitRecord {
    exit_code: i32,
}

/// A session's folder, which may not be there.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    folder: PathBuf,
}

/// A place that is there, and that nobody else changes meanwhile.
#[derive(Debug)]
pub(crate) struct Held {
    place: Place,
    _lock: File,
}

impl Place {
    /// The place of a session below a plugin's data folder.
    pub(crate) fn of(data_dir: &Path, session_id: &str) -> Result<Self> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if session_id.is_empty() || !session_id.bytes().all(fits) {
            return Err(Error::invalid("session.id", "not a session's id"));
        }
        Ok(Self {
            folder: data_dir.join("places").join(session_id),
        })
    }

    /// All sessions with a place.
    pub(crate) fn all(data_dir: &Path) -> Result<Vec<String>> {
        let entries = match fs::read_dir(data_dir.join("places")) {
            Err(fault) if fault.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        Ok(entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect())
    }

    /// Makes the folder, where it is not yet.
    pub(crate) fn make(&self) -> Result<Held> {
        loop {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(self.folder.join("state"))?;
            if let Some(held) = self.hold()? {
                return Ok(held);
            }
        }
    }

    /// Waits until nobody else changes it; `None` where it is not there.
    pub(crate) fn hold(&self) -> Result<Option<Held>> {
        let path = self.folder.join("lock");
        loop {
            let lock = match open(&path) {
                Err(fault) if fault.kind() == ErrorKind::NotFound => return Ok(None),
                other => other?,
            };
            lock.lock()?;
            // Whoever held it may have removed the place, and another may have made it anew.
            let held = lock.metadata()?;
            if fs::metadata(&path).is_ok_and(|there| there.ino() == held.ino()) {
                let place = self.clone();
                return Ok(Some(Held { place, _lock: lock }));
            }
        }
    }

    /// The folder with the keeper's socket.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }
}

impl Held {
    pub(crate) fn spec(&self) -> Result<Option<Spec>> {
        match fs::read(self.place.folder.join("place.json")) {
            Ok(text) => Ok(Some(
                serde_json::from_slice(&text).map_err(Error::internal)?,
            )),
            Err(fault) if fault.kind() == ErrorKind::NotFound => Ok(None),
            Err(fault) => Err(fault.into()),
        }
    }

    pub(crate) fn save_spec(&self, spec: &Spec) -> Result<()> {
        let new = self.place.folder.join("place.json.new");
        fs::write(&new, serde_json::to_vec(spec).map_err(Error::internal)?)?;
        Ok(fs::rename(new, self.place.folder.join("place.json"))?)
    }

    /// The lock that a sandbox holds while it lives; `None` while one does.
    fn no_sandbox(&self) -> Result<Option<File>> {
        let alive = open(&self.place.folder.join("alive"))?;
        match alive.try_lock() {
            Ok(()) => Ok(Some(alive)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(fault)) => Err(fault.into()),
        }
    }

    /// Starts the sandbox, unless it runs. `setsid` makes it a process of its own, out of the server's reach; the shell's
    /// only part is to open the file that bubblewrap tells its process id to.
    pub(crate) fn start(&self, config: &Config) -> Result<()> {
        let spec = self
            .spec()?
            .ok_or_else(|| Error::not_found("the place is only half made"))?;
        let Some(alive) = self.no_sandbox()? else {
            return Ok(());
        };
        let folder = &self.place.folder;
        for name in ["info.json", "state/keeper.sock", "state/exit.json"] {
            match fs::remove_file(folder.join(name)) {
                Err(fault) if fault.kind() != ErrorKind::NotFound => return Err(fault.into()),
                _ => {}
            }
        }
        let log = File::create(folder.join("log"))?;
        let started = Command::new("setsid")
            .args(["--fork", "sh", "-c", r#"exec "$@" 3>"$0""#])
            .arg(folder.join("info.json"))
            .arg(&config.bwrap)
            .args(["--info-fd", "3"])
            .args(spec.sandbox.arguments(config, &self.place.state()))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("BERTH_SESSION", &spec.sandbox.session_id)
            .current_dir("/")
            .stdin(Stdio::from(alive))
            .stdout(log.try_clone()?)
            .stderr(log)
            .status()
            .map_err(|fault| Error::internal(format!("cannot run setsid: {fault}")))?;
        if !started.success() {
            return Err(Error::internal(format!("setsid ended with {started}")));
        }
        Ok(())
    }

    /// What it is doing.
    pub(crate) fn inspect(&self) -> Result<Inspection> {
        let inspection = |state, status: &str| Inspection {
            state,
            engine_status: Some(status.to_owned()),
            ..Inspection::default()
        };
        if self.no_sandbox()?.is_none() {
            return Ok(inspection(PlaceState::Running, "running"));
        }
        if !self.place.folder.join("log").exists() {
            return Ok(inspection(PlaceState::Created, "created"));
        }
        let record = fs::read(self.place.state().join("exit.json")).ok();
        let record = record.and_then(|text| serde_json::from_slice::<ExitRecord>(&text).ok());
        // bubblewrap's own complaint, when it could not even start.
        let log = fs::read_to_string(self.place.folder.join("log")).unwrap_or_default();
        let complaint = log
            .lines()
            .find(|line| line.starts_with("bwrap: "))
            .map(str::to_owned);
        let mut ended = inspection(PlaceState::Exited, "exited");
        ended.exit_code = Some(record.as_ref().map_or(KILLED, |record| record.exit_code));
        if record.is_none() {
            ended.error_message = complaint.or_else(|| Some("the sandbox was killed".to_owned()));
        }
        Ok(ended)
    }

    /// The keeper, which is process 1 of the sandbox. Only to be used while the sandbox lives: its number is its own then.
    fn keeper(&self) -> Option<Pid> {
        let info = fs::read(self.place.folder.join("info.json")).ok()?;
        let info: Info = serde_json::from_slice(&info).ok()?;
        Some(Pid::from_raw(info.child_pid))
    }

    /// Asks the keeper to end.
    pub(crate) fn ask_to_end(&self) -> Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// Kills the sandbox: with its process 1, the kernel kills all that is in it.
    pub(crate) fn end(&self) -> Result<()> {
        let since = Instant::now();
        while self.no_sandbox()?.is_none() {
            if since.elapsed() > KILL_LIMIT {
                return Err(Error::internal(
                    "the sandbox is still there after it was killed",
                ));
            }
            self.signal(Signal::SIGKILL)?;
            sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        if self.no_sandbox()?.is_some() {
            return Ok(());
        }
        match self.keeper().map(|keeper| kill(keeper, signal)) {
            None | Some(Ok(()) | Err(Errno::ESRCH)) => Ok(()),
            Some(Err(fault)) => Err(Error::internal(fault)),
        }
    }

    /// Removes the folder of a sandbox that does not run.
    pub(crate) fn remove(self) -> Result<()> {
        Ok(fs::remove_dir_all(&self.place.folder)?)
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
}
