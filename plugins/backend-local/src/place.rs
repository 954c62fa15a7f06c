//! A place's folder: what is in it, and who may change it.
//!
//! ```text
//! places/<session id>/
//!   place.json   what to run (Spec); a folder without it is one half made
//!   lock         held while the place is changed
//!   run          what was started: a line of JSON (RunHead), then the kernel's own line about the keeper's process
//!   keeper.log   what the keeper had to say
//!   state/       BERTH_STATE: the keeper's
//! places/.gone-*  folders on their way out
//! ```

use crate::cgroup::Group;
use crate::error::LocalError;
use crate::process::{Process, Stat};
use berth_plugin_api::doc::{KeeperProgram, Resources, User};
use nix::unistd::{AccessFlags, access};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The most that is read of a file that the session can write.
const SMALL_FILE: u64 = 64 * 1024;
const GONE_PREFIX: &str = ".gone-";

/// Where all places are.
#[derive(Debug)]
pub(crate) struct Places {
    folder: PathBuf,
}

/// One place: a name for its folder, which may not be there.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) session_id: String,
    folder: PathBuf,
}

/// What a place is to run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Spec {
    pub(crate) version: u32,
    pub(crate) session_id: String,
    pub(crate) session_name: String,
    pub(crate) instance: String,
    pub(crate) created_at: String,
    pub(crate) keeper: KeeperProgram,
    pub(crate) user: Option<User>,
    pub(crate) resources: Resources,
}

/// How a keeper was started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RunHead {
    /// The boot of the machine in which process ids and start times mean something.
    pub(crate) boot_id: String,
    pub(crate) group: Group,
}

/// The latest start of a place's keeper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) head: RunHead,
    /// The keeper; absent where it never came to be.
    pub(crate) keeper: Option<Process>,
}

/// What the keeper leaves when it ends.
#[derive(Debug, Deserialize)]
pub(crate) struct ExitRecord {
    pub(crate) exit_code: i32,
}

/// The right to change a place, until dropped.
#[derive(Debug)]
pub(crate) struct PlaceLock {
    _file: File,
}

/// The keeper's socket under a path that is short however deep the data folder lies.
#[derive(Debug)]
pub(crate) struct Socket {
    folder: OwnedFd,
}

impl Places {
    /// Makes the folder, and clears what an ended delete left.
    pub(crate) fn open(data_dir: &Path) -> Result<Self, LocalError> {
        let folder = data_dir.join("places");
        make_private(&folder)?;
        let places = Self { folder };
        for name in places.names()? {
            if name.starts_with(GONE_PREFIX) {
                let path = places.folder.join(name);
                if let Err(fault) = fs::remove_dir_all(&path) {
                    tracing::warn!(path = %path.display(), %fault, "cannot remove what is left of a place");
                }
            }
        }
        Ok(places)
    }

    /// Whether places can be made now.
    pub(crate) fn check(&self) -> Result<(), LocalError> {
        access(&self.folder, AccessFlags::W_OK | AccessFlags::X_OK)
            .map_err(io::Error::from)
            .map_err(LocalError::file("write", &self.folder))
    }

    /// The place of a session, there or not.
    pub(crate) fn place(&self, session_id: &str) -> Result<Place, LocalError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if session_id.is_empty() || session_id.len() > 64 || !session_id.bytes().all(fits) {
            return Err(LocalError::Id(session_id.to_owned()));
        }
        Ok(Place {
            session_id: session_id.to_owned(),
            folder: self.folder.join(session_id),
        })
    }

    /// All places that are there, half made ones included.
    pub(crate) fn list(&self) -> Result<Vec<Place>, LocalError> {
        Ok(self
            .names()?
            .iter()
            .filter_map(|name| self.place(name).ok())
            .collect())
    }

    fn names(&self) -> Result<Vec<String>, LocalError> {
        let entries = fs::read_dir(&self.folder).map_err(LocalError::file("read", &self.folder))?;
        Ok(entries
            .filter_map(Result::ok)
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect())
    }
}

impl Place {
    /// The folder is there.
    pub(crate) fn exists(&self) -> bool {
        self.folder.is_dir()
    }

    /// Where the keeper keeps its own.
    pub(crate) fn state_folder(&self) -> PathBuf {
        self.folder.join("state")
    }

    pub(crate) fn log_file(&self) -> PathBuf {
        self.folder.join("keeper.log")
    }

    fn run_file(&self) -> PathBuf {
        self.folder.join("run")
    }

    /// Makes the folder where it is not, and waits for the right to change it.
    pub(crate) fn lock_or_make(&self) -> Result<PlaceLock, LocalError> {
        loop {
            make_private(&self.folder)?;
            if let Some(lock) = self.lock()? {
                return Ok(lock);
            }
        }
    }

    /// Waits for the right to change it; `None` where it is not there.
    pub(crate) fn lock(&self) -> Result<Option<PlaceLock>, LocalError> {
        let path = self.folder.join("lock");
        loop {
            let opened = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(&path);
            let file = match opened {
                Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(None),
                other => other.map_err(LocalError::file("open", &path))?,
            };
            file.lock().map_err(LocalError::file("lock", &path))?;
            // Whoever held it may have removed the place meanwhile, and another may have made it anew.
            let held = file.metadata().map_err(LocalError::file("read", &path))?;
            let same = fs::metadata(&path)
                .is_ok_and(|there| there.ino() == held.ino() && there.dev() == held.dev());
            if same {
                return Ok(Some(PlaceLock { _file: file }));
            }
        }
    }

    /// What it is to run; `None` where it is not there, or only half made.
    pub(crate) fn spec(&self) -> Result<Option<Spec>, LocalError> {
        let path = self.folder.join("place.json");
        match fs::read(&path) {
            Ok(text) => {
                serde_json::from_slice(&text)
                    .map(Some)
                    .map_err(|fault| LocalError::Damaged {
                        path,
                        fault: fault.to_string(),
                    })
            }
            Err(fault) if is_absent(&fault) => Ok(None),
            Err(fault) => Err(LocalError::file("read", path)(fault)),
        }
    }

    /// Writes what it is to run, whole or not at all.
    pub(crate) fn save_spec(&self, _lock: &PlaceLock, spec: &Spec) -> Result<(), LocalError> {
        let path = self.folder.join("place.json");
        let text = serde_json::to_vec_pretty(spec).map_err(|fault| LocalError::Damaged {
            path: path.clone(),
            fault: fault.to_string(),
        })?;
        let new = self.folder.join("place.json.new");
        let mut file = create_private(&new)?;
        file.write_all(&text)
            .and_then(|()| file.sync_data())
            .and_then(|()| fs::rename(&new, &path))
            .map_err(LocalError::file("write", path))
    }

    /// Its latest start; `None` where it was never started.
    pub(crate) fn run(&self) -> Result<Option<Run>, LocalError> {
        let path = self.run_file();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(fault) if is_absent(&fault) => return Ok(None),
            Err(fault) => return Err(LocalError::file("read", path)(fault)),
        };
        let (head, stat) = text.split_once('\n').unwrap_or((&text, ""));
        let head = serde_json::from_str(head).map_err(|fault| LocalError::Damaged {
            path,
            fault: fault.to_string(),
        })?;
        Ok(Some(Run {
            head,
            keeper: Stat::parse(stat).map(|stat| stat.process),
        }))
    }

    /// Notes that a start begins; the keeper's process adds its own line to the file that this gives.
    pub(crate) fn begin_run(&self, _lock: &PlaceLock, head: &RunHead) -> Result<File, LocalError> {
        let path = self.run_file();
        let new = self.folder.join("run.new");
        let mut text = serde_json::to_vec(head).map_err(|fault| LocalError::Damaged {
            path: path.clone(),
            fault: fault.to_string(),
        })?;
        text.push(b'\n');
        let mut file = create_private(&new)?;
        file.write_all(&text)
            .and_then(|()| fs::rename(&new, &path))
            .map_err(LocalError::file("write", path))?;
        Ok(file)
    }

    /// Forgets the latest start, of which nothing is left.
    pub(crate) fn forget_run(&self, _lock: &PlaceLock) {
        let _ = fs::remove_file(self.run_file());
    }

    /// Makes the keeper's folder and clears what an ended keeper left that a new one would trip over.
    pub(crate) fn prepare_state(&self, _lock: &PlaceLock) -> Result<PathBuf, LocalError> {
        let state = self.state_folder();
        make_private(&state)?;
        for name in ["keeper.sock", "exit.json"] {
            match fs::remove_file(state.join(name)) {
                Err(fault) if !is_absent(&fault) => {
                    return Err(LocalError::file("remove", state.join(name))(fault));
                }
                _ => {}
            }
        }
        Ok(state)
    }

    /// Lets another user into the keeper's folder, and nowhere else.
    pub(crate) fn hand_state_to(&self, _lock: &PlaceLock, user: User) -> Result<(), LocalError> {
        let state = self.state_folder();
        std::os::unix::fs::chown(&state, Some(user.uid), Some(user.gid))
            .map_err(LocalError::file("hand over", &state))?;
        let passable = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        fs::set_permissions(&self.folder, passable)
            .map_err(LocalError::file("open to others", &self.folder))?;
        for folder in self.folder.ancestors() {
            let about = folder
                .metadata()
                .map_err(LocalError::file("read", folder))?;
            let enter = match about.mode() {
                mode if about.uid() == user.uid => mode & 0o100,
                mode if about.gid() == user.gid => mode & 0o010,
                mode => mode & 0o001,
            };
            if enter == 0 {
                return Err(LocalError::Unreachable {
                    uid: user.uid,
                    path: folder.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// What the keeper left when it ended; `None` where it was killed.
    pub(crate) fn exit_record(&self) -> Option<ExitRecord> {
        let mut text = Vec::new();
        let file = File::open(self.state_folder().join("exit.json")).ok()?;
        file.take(SMALL_FILE).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// The way to the keeper's socket.
    pub(crate) fn socket(&self) -> io::Result<Socket> {
        let folder = File::open(self.state_folder())?;
        Ok(Socket {
            folder: folder.into(),
        })
    }

    /// Takes the folder away. What a crash leaves of it is cleared by the next [`Places::open`].
    pub(crate) fn remove(&self, lock: PlaceLock) -> Result<(), LocalError> {
        let gone = self
            .folder
            .with_file_name(format!("{GONE_PREFIX}{}", self.session_id));
        if gone.exists() {
            fs::remove_dir_all(&gone).map_err(LocalError::file("remove", &gone))?;
        }
        fs::rename(&self.folder, &gone).map_err(LocalError::file("remove", &self.folder))?;
        drop(lock);
        fs::remove_dir_all(&gone).map_err(LocalError::file("remove", &gone))
    }
}

impl Socket {
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!(
            "/proc/self/fd/{}/keeper.sock",
            self.folder.as_raw_fd()
        ))
    }
}

fn make_private(folder: &Path) -> Result<(), LocalError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(LocalError::file("make", folder))
}

fn create_private(path: &Path) -> Result<File, LocalError> {
    OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(LocalError::file("write", path))
}

fn is_absent(fault: &io::Error) -> bool {
    matches!(
        fault.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
