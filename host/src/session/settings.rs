//! How sessions are to be run on this server.

use std::path::PathBuf;
use std::time::Duration;

/// How sessions are to be run on this server. [`SessionSettings::new`] has the usual values.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// The backend of sessions that name none; [`AUTO_BACKEND`] chooses.
    pub default_backend: String,
    /// The agent of sessions that name none.
    pub default_agent: String,
    /// The folders that repositories and images have to be in.
    pub roots: Vec<PathBuf>,
    /// The folder with `<architecture>/berth-keeper`.
    pub keeper_dir: PathBuf,
    /// The user whose server this is, for sessions that share the host's files.
    pub user: HostUser,
    /// How long bringing a session back waits for each attempt; the last one holds for all that follow.
    pub backoff: Vec<Duration>,
    pub limits: Limits,
    /// How often each backend is asked whether it answers.
    pub probe_every: Duration,
    /// How often each backend's places are compared with what is on the books.
    pub reconcile_every: Duration,
    /// How old a place that no session claims has to be before it is removed.
    pub orphan_grace: Duration,
    /// How long a deleted session's events can still be read.
    pub tombstone: Duration,
}

/// The host chooses a backend.
pub const AUTO_BACKEND: &str = "auto";

/// How long each call to a backend may take.
#[derive(Debug, Clone)]
pub struct Limits {
    pub probe: Duration,
    /// Pulling an image is part of it.
    pub create: Duration,
    pub start: Duration,
    pub connect: Duration,
    pub inspect: Duration,
    pub list: Duration,
    pub delete: Duration,
    /// How long a program has to end by itself when its session is stopped.
    pub stop_grace: Duration,
    /// How long the keeper of a place that runs may stay silent before its session counts as never come up.
    pub silence: Duration,
    /// How long a terminal may take to swallow a message.
    pub input: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            probe: Duration::from_secs(5),
            create: Duration::from_mins(10),
            start: Duration::from_mins(2),
            connect: Duration::from_secs(20),
            inspect: Duration::from_secs(10),
            list: Duration::from_secs(20),
            delete: Duration::from_mins(1),
            stop_grace: Duration::from_secs(5),
            silence: Duration::from_secs(30),
            input: Duration::from_secs(30),
        }
    }
}

/// A user of this machine.
#[derive(Debug, Clone, Default)]
pub struct HostUser {
    pub name: String,
    pub login_shell: Option<String>,
    /// `PATH` of the server.
    pub path: Option<String>,
}

impl SessionSettings {
    /// The usual values.
    pub fn new(roots: Vec<PathBuf>, keeper_dir: PathBuf, user: HostUser) -> Self {
        Self {
            default_backend: AUTO_BACKEND.to_owned(),
            default_agent: "claude".to_owned(),
            roots,
            keeper_dir,
            user,
            backoff: [30, 120, 300].map(Duration::from_secs).to_vec(),
            limits: Limits::default(),
            probe_every: Duration::from_secs(4),
            reconcile_every: Duration::from_mins(1),
            orphan_grace: Duration::from_mins(2),
            tombstone: Duration::from_hours(24),
        }
    }
}
