//! The server as a whole: what it is made of, how it starts and how it ends.
//!
//! It listens first, so that `/health` answers at once, and opens database and plugins behind that; what needs them waits
//! for a moment. It ends in the opposite order: no new requests, sockets closed, tasks done, plugins told, database closed.
//! Sessions go on running.

mod core;
mod probes;

pub(crate) use self::core::plugin_settings;
pub use self::core::{Core, OpenError};
pub(crate) use probes::probe_all;

use crate::config::Config;
use crate::db::{DataFolder, FolderError};
use crate::http::{self, AppState, Listener};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The address is taken or not this machine's.
    #[error("cannot listen on {address}{}", hint(.source))]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The data folder is in use, or cannot be written.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// What is in the data folder cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            "; is berth running already? `berth serve --listen 127.0.0.1:0` takes a free port"
        }
        _ => "",
    }
}

/// A server that is bound and has its data folder.
#[derive(Debug)]
pub struct App {
    state: AppState,
    folder: DataFolder,
    listener: Listener,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    core: watch::Sender<Option<Arc<Core>>>,
}

impl App {
    /// Takes the data folder and binds the address. Nothing else is started.
    ///
    /// # Errors
    /// Another server has the folder or the address.
    pub async fn build(config: Config) -> Result<Self, AppError> {
        let config = Arc::new(config);
        let folder = DataFolder::open(&config.data_dir)?;
        let bind = |source| AppError::Bind {
            address: config.listen,
            source,
        };
        let listener = Listener::bind(config.listen).await.map_err(bind)?;
        let address = listener.address().map_err(bind)?;
        let shutdown = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (core, receiver) = watch::channel(None);
        let state = AppState::new(
            Arc::clone(&config),
            address,
            receiver,
            shutdown.clone(),
            tasks.clone(),
        );
        Ok(Self {
            state,
            folder,
            listener,
            shutdown,
            tasks,
            core,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.state.address()
    }

    /// What the routes get.
    #[cfg(test)]
    pub(crate) fn state(&self) -> AppState {
        self.state.clone()
    }

    /// Serves until `stop` is cancelled, then lets go of everything in order. `listening` is called once when it answers.
    ///
    /// # Errors
    /// The database could not be opened.
    pub async fn run(
        self,
        stop: CancellationToken,
        listening: impl FnOnce(SocketAddr) + Send,
    ) -> Result<(), AppError> {
        let address = self.address();
        let grace = self.state.config().shutdown_grace;
        let server = self.tasks.spawn(http::serve(
            self.listener,
            http::router(self.state.clone()),
            self.state.config().max_connections,
            self.shutdown.clone(),
            self.tasks.clone(),
        ));
        let opened = Core::open(self.state.config(), self.folder).await;
        let result: Result<(), OpenError> = match opened {
            Ok(core) => {
                self.core.send_replace(Some(Arc::new(core)));
                listening(address);
                stop.cancelled().await;
                Ok(())
            }
            Err(error) => Err(error),
        };
        self.shutdown.cancel();
        if let Err(error) = server.await {
            tracing::error!(%error, "the accept loop ended badly");
        }
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                tasks = self.tasks.len(),
                "tasks still running after the grace period"
            );
        }
        if let Some(core) = self.core.send_replace(None) {
            core.close().await;
        }
        Ok(result?)
    }
}
