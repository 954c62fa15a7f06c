//! The data folder: one server at a time, nobody else's business.
//!
//! ```text
//! berth.db           the database        lock       held while a server runs; its pid
//! instance           this installation   sessions/<id>/{home,work,git,terminal}
//! backends/<name>/   a plugin's own      agents/<name>/
//! ```
//! Every folder is 0700, every file 0600.

use crate::session::SessionId;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How long a killed server's lock may linger: a child that it was just starting shares its open files until it runs its
/// own program.
const LOCK_LINGER: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("another berth uses the data folder {} (pid {pid})", .path.display())]
    InUse { path: PathBuf, pid: String },
    #[error("cannot {attempted} {}", .path.display())]
    Io {
        attempted: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// The open data folder; the lock on it is held until the last clone is gone.
#[derive(Debug, Clone)]
pub struct DataFolder {
    root: PathBuf,
    instance: String,
    _lock: Arc<Flock<File>>,
}

/// Where a session's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionFolder {
    pub root: PathBuf,
    /// The agent's private home.
    pub home: PathBuf,
    /// The working trees, a folder each by mount name.
    pub work: PathBuf,
    /// The host's own git folders of them.
    pub git: PathBuf,
    /// The saved terminal.
    pub terminal: PathBuf,
}

impl DataFolder {
    /// Opens the folder, makes it where there is none, and locks it.
    ///
    /// # Errors
    /// Another server uses it, or it cannot be written.
    pub fn open(root: &Path) -> Result<Self, FolderError> {
        make_private(root)?;
        let root = root.canonicalize().map_err(|source| FolderError::Io {
            attempted: "find",
            path: root.to_owned(),
            source,
        })?;
        let lock = lock(&root)?;
        for name in ["sessions", "backends", "agents"] {
            make_private(&root.join(name))?;
        }
        let instance = instance(&root)?;
        Ok(Self {
            root,
            instance,
            _lock: Arc::new(lock),
        })
    }

    /// Absolute, with links resolved.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The id of this installation: what it makes on backends is labelled with it.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The database's file.
    pub fn database(&self) -> PathBuf {
        self.root.join("berth.db")
    }

    /// The folder of all sessions.
    pub fn sessions(&self) -> PathBuf {
        self.root.join("sessions")
    }

    /// Where a session's files are, whether they are made or not.
    pub fn session(&self, id: SessionId) -> SessionFolder {
        let root = self.sessions().join(id.to_string());
        SessionFolder {
            home: root.join("home"),
            work: root.join("work"),
            git: root.join("git"),
            terminal: root.join("terminal"),
            root,
        }
    }
}

impl SessionFolder {
    /// Makes the folders that are not there.
    ///
    /// # Errors
    /// The disk is full or the data folder cannot be written.
    pub fn make(&self) -> Result<(), FolderError> {
        for folder in [
            &self.root,
            &self.home,
            &self.work,
            &self.git,
            &self.terminal,
        ] {
            make_private(folder)?;
        }
        Ok(())
    }
}

fn make_private(path: &Path) -> Result<(), FolderError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| FolderError::Io {
            attempted: "make the folder",
            path: path.to_owned(),
            source,
        })
}

fn lock(root: &Path) -> Result<Flock<File>, FolderError> {
    let path = root.join("lock");
    let failed = |attempted| {
        let path = path.clone();
        move |source| FolderError::Io {
            attempted,
            path,
            source,
        }
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed("open"))?;
    let since = Instant::now();
    let mut held = loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => break held,
            Err((given_back, nix::errno::Errno::EWOULDBLOCK)) => file = given_back,
            Err((_, errno)) => return Err(failed("lock")(errno.into())),
        }
        let mut pid = String::new();
        file.rewind()
            .and_then(|()| file.read_to_string(&mut pid))
            .map_err(failed("read"))?;
        if runs(pid.trim()) || since.elapsed() > LOCK_LINGER {
            return Err(FolderError::InUse {
                path: root.to_owned(),
                pid: pid.trim().to_owned(),
            });
        }
        std::thread::sleep(LOCK_PAUSE);
    };
    held.set_len(0)
        .and_then(|()| writeln!(held, "{}", std::process::id()))
        .map_err(failed("write"))?;
    Ok(held)
}

/// Whether there is such a process, and it has not ended.
fn runs(pid: &str) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

fn instance(root: &Path) -> Result<String, FolderError> {
    let path = root.join("instance");
    let failed = |attempted| {
        let path = path.clone();
        move |source| FolderError::Io {
            attempted,
            path,
            source,
        }
    };
    match std::fs::read_to_string(&path) {
        Ok(text) if Uuid::parse_str(text.trim()).is_ok() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("read")(error)),
    }
    let instance = Uuid::new_v4().to_string();
    let mut file = tempfile::NamedTempFile::new_in(root).map_err(failed("make"))?;
    writeln!(file, "{instance}")
        .and_then(|()| file.as_file().sync_all())
        .map_err(failed("write"))?;
    file.persist(&path)
        .map_err(|error| failed("write")(error.error))?;
    Ok(instance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("data");
        let first = DataFolder::open(&root).unwrap();
        let error = DataFolder::open(&root).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with(&format!("(pid {})", std::process::id())),
            "{error}"
        );
        let instance = first.instance().to_owned();
        drop(first);
        assert_eq!(DataFolder::open(&root).unwrap().instance(), instance);
    }
    #[test]
    fn the_lock_of_a_dead_server_may_linger() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("data");
        let lingering = DataFolder::open(&root).unwrap();
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        std::fs::write(root.join("lock"), format!("{}\n", ended.id())).unwrap();
        let (opened, lingered) = std::thread::scope(|scope| {
            let opening = scope.spawn(|| DataFolder::open(&root).is_ok());
            std::thread::sleep(Duration::from_millis(20));
            let lingered = !opening.is_finished();
            drop(lingering);
            (opening.join().unwrap(), lingered)
        });
        assert!(opened && lingered);
    }
}
