//! What the routes work on: opened once, let go of in the opposite order.

use super::Probes;
use crate::config::{Config, Isolation};
use crate::db::{DataFolder, Database, DbError, FolderError};
use crate::driver::{self, Drivers};
use crate::event::EventLog;
use crate::plugin::{PluginDir, PluginSettings, load_all};
use crate::session::Sessions;
use berth_plugin_api::doc::{Filesystem, Probe};
use futures_util::future::join_all;
use std::time::Duration;

/// How long a plugin has to let go when the server ends.
const PLUGIN_SHUTDOWN: Duration = Duration::from_secs(3);

/// The host's choice of a backend.
const AUTO: &str = "auto";

/// Why the data could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The database in it.
    #[error("cannot open the database in the data folder")]
    Database(#[from] DbError),
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
    /// Whether backends can be used.
    pub probes: Probes,
    /// All sessions.
    pub sessions: Sessions,
}

impl Core {
    /// Opens the database and loads the plugins, at the same time.
    pub(super) async fn open(config: &Config, folder: DataFolder) -> Result<Self, OpenError> {
        let settings = plugin_settings(config, &folder);
        let database = folder.database();
        let (db, drivers) = tokio::join!(Database::open(&database), load_all(&settings));
        let db = db?;
        let events = EventLog::open(db.clone());
        Ok(Self {
            folder,
            db,
            events,
            drivers,
            probes: Probes::default(),
            sessions: Sessions {},
        })
    }

    /// The backend of sessions that name none, and what it said of itself where it is loaded. `auto` is the first that can
    /// be used and does not share the host's files, else the first that can be used.
    pub async fn default_backend(&self, configured: &str) -> (String, Option<Probe>) {
        let backends = self.probes.backends(&self.drivers).await;
        let chosen = if configured == AUTO {
            let usable = || backends.iter().filter(|probed| probed.probe.available);
            usable()
                .find(|probed| {
                    probed.driver.description().capabilities.filesystem == Filesystem::Bind
                })
                .or_else(|| usable().next())
        } else {
            backends
                .iter()
                .find(|probed| probed.driver.info().name == configured)
        };
        match chosen {
            Some(chosen) => (
                chosen.driver.info().name.clone(),
                Some(chosen.probe.clone()),
            ),
            None => (configured.to_owned(), None),
        }
    }

    /// Lets go of everything; sessions go on running.
    pub(super) async fn close(&self) {
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

fn plugin_settings(config: &Config, folder: &DataFolder) -> PluginSettings {
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
        instance: folder.instance().to_owned(),
        data_dir: folder.root().to_owned(),
        log_level: config.log.level().to_owned(),
        ..PluginSettings::default()
    }
}
