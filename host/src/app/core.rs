//! What the routes work on: opened once, let go of in the opposite order.

use crate::config::{Config, Isolation};
use crate::db::{DataFolder, Database, DbError, FolderError};
use crate::driver::{self, Drivers};
use crate::event::EventLog;
use crate::git::{Git, GitSettings};
use crate::plugin::{PluginDir, PluginSettings, load_all};
use crate::session::{HostUser, SessionError, SessionParts, SessionSettings, Sessions};
use futures_util::future::join_all;
use std::path::Path;
use std::time::Duration;

/// How long a plugin has to let go when the server ends.
const PLUGIN_SHUTDOWN: Duration = Duration::from_secs(3);

/// How long sessions have to save their terminals when the server ends.
const SESSIONS_LET_GO: Duration = Duration::from_secs(10);
/// The programs' search path where the server has none.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Why the data could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The database in it.
    #[error("cannot open the database in the data folder")]
    Database(#[from] DbError),
    /// The sessions in it.
    #[error("cannot take over the sessions in the data folder")]
    Sessions(#[from] SessionError),
}

/// Sessions and what they stand on.
#[derive(Debug)]
pub struct Core {
    /// The data folder, locked.
    pub folder: DataFolder,
    /// The open database.
    pub db: Database,
    /// The events of all sessions.
    pub events: EventLog,
    /// Every plugin.
    pub drivers: Drivers,
    /// All sessions.
    pub sessions: Sessions,
}

impl Core {
    /// Opens the database and loads the plugins, at the same time.
    pub(super) async fn open(config: &Config, folder: DataFolder) -> Result<Self, OpenError> {
        let settings = plugin_settings(config, folder.root(), folder.instance());
        let database = folder.database();
        let (db, drivers) = tokio::join!(Database::open(&database), load_all(&settings));
        let db = db?;
        let events = EventLog::open(db.clone());
        let sessions = Sessions::open(SessionParts {
            db: db.clone(),
            data: folder.clone(),
            events: events.clone(),
            drivers: drivers.clone(),
            git: git(config),
            settings: session_settings(config),
        })
        .await?;
        Ok(Self {
            folder,
            db,
            events,
            drivers,
            sessions,
        })
    }

    /// Lets go of everything; sessions go on running.
    pub(super) async fn close(&self) {
        self.sessions.close(SESSIONS_LET_GO).await;
        self.events.clone().close().await;
        join_all(
            self.drivers
                .backends
                .values()
                .map(|driver| driver.shutdown(PLUGIN_SHUTDOWN)),
        )
        .await;
        self.db.close().await;
    }
}

fn git(config: &Config) -> Git {
    Git::new(GitSettings {
        program: "git".into(),
        search_path: config
            .search_path
            .clone()
            .unwrap_or_else(|| DEFAULT_PATH.to_owned())
            .into(),
        home: config.home.clone(),
    })
}

fn session_settings(config: &Config) -> SessionSettings {
    let user = HostUser {
        name: config.user_name.clone().unwrap_or_default(),
        login_shell: config.login_shell.clone(),
        path: config.search_path.clone(),
    };
    SessionSettings {
        default_backend: config.default_backend.clone(),
        default_agent: config.default_agent.clone(),
        ..SessionSettings::new(
            config.roots.clone(),
            config.keeper_dir.clone().unwrap_or_default(),
            user,
        )
    }
}

/// What the loader is told: by the server, and by `berth doctor`.
pub(crate) fn plugin_settings(config: &Config, data_dir: &Path, instance: &str) -> PluginSettings {
    let isolation_of = |shipped: bool| match config.isolation {
        Isolation::Auto if shipped => driver::Isolation::None,
        Isolation::None => driver::Isolation::None,
        Isolation::Auto | Isolation::Process => driver::Isolation::Process,
    };
    let dirs = config
        .plugin_dirs
        .iter()
        .map(|path| PluginDir {
            path: path.clone(),
            isolation: isolation_of(Some(path) == config.shipped_plugin_dir.as_ref()),
        })
        .collect();
    let section = |(name, section): (&String, &crate::config::PluginSection)| {
        (name.clone(), section.resolved.clone())
    };
    PluginSettings {
        dirs,
        backends: config.backends.iter().map(section).collect(),
        agents: config.agents.iter().map(section).collect(),
        instance: instance.to_owned(),
        data_dir: data_dir.to_owned(),
        log_level: config.log.level().to_owned(),
        ..PluginSettings::default()
    }
}
