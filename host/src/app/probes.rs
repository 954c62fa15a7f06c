//! Asks backends whether they can be used now, where no session's monitor does.

use crate::driver::{BackendDriver, Call, DriverHealth, Drivers};
use berth_plugin_api::doc::Probe;
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;

/// How long a backend may take to answer.
const LIMIT: Duration = Duration::from_secs(5);

/// A backend and what it said of itself.
#[derive(Debug, Clone)]
pub(crate) struct Probed {
    /// The backend.
    pub(crate) driver: Arc<dyn BackendDriver>,
    /// What it said; where it did not answer, that it cannot be used, and why.
    pub(crate) probe: Probe,
}

/// Asks every backend, all at once; by name.
pub(crate) async fn probe_all(drivers: &Drivers) -> Vec<Probed> {
    join_all(drivers.backends.values().map(probe)).await
}

async fn probe(driver: &Arc<dyn BackendDriver>) -> Probed {
    let unavailable = |reason: String| Probe {
        available: false,
        reason: Some(reason),
        ..Probe::default()
    };
    let probe = match driver.health() {
        DriverHealth::Degraded { reason } => unavailable(reason),
        DriverHealth::Ready => match driver.probe(Call::new(LIMIT)).await {
            Ok(probe) => probe,
            Err(error) => unavailable(error.to_string()),
        },
    };
    Probed {
        driver: Arc::clone(driver),
        probe,
    }
}
