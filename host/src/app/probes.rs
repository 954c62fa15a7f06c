//! Whether backends can be used now: asked when somebody wants to know, and remembered for a moment.

use crate::driver::{BackendDriver, Call, DriverHealth, Drivers};
use berth_plugin_api::doc::Probe;
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// How long an answer holds.
const FRESH: Duration = Duration::from_secs(5);
/// How long a backend may take to answer.
const LIMIT: Duration = Duration::from_secs(3);

/// A backend and what it said of itself.
#[derive(Debug, Clone)]
pub struct Probed {
    /// The backend.
    pub driver: Arc<dyn BackendDriver>,
    /// What it said; where it did not answer, that it cannot be used, and why.
    pub probe: Probe,
}

/// The last answers of all backends.
#[derive(Debug, Default)]
pub struct Probes(Mutex<Option<(Instant, Vec<Probed>)>>);

impl Probes {
    /// Every backend, by name; asks those that were not asked lately, all at once.
    pub async fn backends(&self, drivers: &Drivers) -> Vec<Probed> {
        // Held over the probes on purpose: who comes meanwhile waits for the same answers.
        let mut last = self.0.lock().await;
        match last.as_ref() {
            Some((at, probed)) if at.elapsed() < FRESH => probed.clone(),
            _ => {
                let probed = join_all(drivers.backends.values().map(probe)).await;
                *last = Some((Instant::now(), probed.clone()));
                probed
            }
        }
    }
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
