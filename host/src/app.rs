//! The server as a whole: what it is made of, how it starts and how it ends.

use crate::config::Config;
use crate::http::{self, AppState, Listener};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the routes work on, there once the database is open and the plugins are loaded.
#[derive(Debug)]
pub struct Core {}

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The address is taken or not this machine's.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A server that is bound and starting.
#[derive(Debug)]
pub struct App {
    state: AppState,
    listener: Listener,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    core: watch::Sender<Option<Arc<Core>>>,
}

impl App {
    /// Binds the address. Nothing else is started.
    ///
    /// # Errors
    /// The address cannot be had.
    pub async fn build(config: Config) -> Result<Self, AppError> {
        let config = Arc::new(config);
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

    /// Serves until `stop` is cancelled, then lets go of everything in order. `listening` is called once when it answers.
    ///
    /// # Errors
    /// A part could not be opened.
    pub async fn run(
        self,
        stop: CancellationToken,
        listening: impl FnOnce(SocketAddr) + Send,
    ) -> Result<(), AppError> {
        let address = self.address();
        let grace = self.state.config().shutdown_grace;
        let router = http::router(self.state.clone());
        let server = self.tasks.spawn(http::serve(
            self.listener,
            router,
            self.state.config().max_connections,
            self.shutdown.clone(),
            self.tasks.clone(),
        ));
        self.core.send_replace(Some(Arc::new(Core {})));
        listening(address);
        stop.cancelled().await;
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
        Ok(())
    }
}
