//! What every handler gets.

use super::error::ApiError;
use super::metrics::Metrics;
use crate::app::Core;
use crate::config::Config;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a request waits for a server that is still starting.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A cheap clone of what the server is made of.
#[derive(Debug, Clone)]
pub struct AppState(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    config: Arc<Config>,
    address: SocketAddr,
    core: watch::Receiver<Option<Arc<Core>>>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    metrics: Metrics,
}

impl AppState {
    /// Puts the parts together. `core` is filled once the database is open and the plugins are loaded; `address` is
    /// where the server listens.
    pub fn new(
        config: Arc<Config>,
        address: SocketAddr,
        core: watch::Receiver<Option<Arc<Core>>>,
        shutdown: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        Self(Arc::new(Parts {
            config,
            address,
            core,
            shutdown,
            tasks,
            metrics: Metrics::default(),
        }))
    }

    /// What the server runs with.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Sessions, events and drivers; waits while the server is still starting.
    ///
    /// # Errors
    /// The server did not get ready in time, or is ending.
    pub async fn core(&self) -> Result<Arc<Core>, ApiError> {
        let mut receiver = self.0.core.clone();
        let ready = tokio::time::timeout(START_LIMIT, receiver.wait_for(Option::is_some)).await;
        match ready {
            Ok(Ok(core)) => core.as_ref().map(Arc::clone),
            Ok(Err(_)) | Err(_) => None,
        }
        .ok_or_else(|| {
            ApiError::unavailable("the server is still starting", Duration::from_secs(1))
        })
    }

    /// Sessions, events and drivers where they are there already.
    pub fn core_now(&self) -> Option<Arc<Core>> {
        self.0.core.borrow().clone()
    }

    /// Cancelled when the server ends: sockets close with 1001 then.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.0.shutdown
    }

    /// Where work is spawned that outlives its request, upgraded sockets included.
    pub fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }
}
