//! When a plugin is taken out of service, and when it is back.

use super::DriverHealth;
use berth_plugin_api::{Error, Result};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a plugin may take, and how often it may fail.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServiceRules {
    /// So many failures within [`WINDOW`] take a plugin out of service.
    pub(crate) failures: usize,
    /// When the first probe is tried; each later one after twice the time.
    pub(crate) first_probe: Duration,
    /// How long an operation without a time limit of its own may take.
    pub(crate) default_limit: Duration,
}

impl Default for ServiceRules {
    fn default() -> Self {
        Self {
            failures: 5,
            first_probe: Duration::from_secs(5),
            default_limit: Duration::from_secs(5),
        }
    }
}

const WINDOW: Duration = Duration::from_mins(1);
const LAST_PROBE: Duration = Duration::from_mins(2);

/// Counts time-outs, panics and lost processes of one plugin. Errors that it answers are no failures.
#[derive(Debug, Default)]
pub(super) struct Watchdog {
    rules: ServiceRules,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: VecDeque<Instant>,
    degraded: Option<String>,
}

impl Watchdog {
    pub(super) fn new(rules: ServiceRules) -> Self {
        Self {
            rules,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn health(&self) -> DriverHealth {
        match &self.state().degraded {
            None => DriverHealth::Ready,
            Some(reason) => DriverHealth::Degraded {
                reason: reason.clone(),
            },
        }
    }

    /// Refuses at once while the plugin is out of service.
    pub(super) fn admit(&self, plugin: &str) -> Result<()> {
        match &self.state().degraded {
            None => Ok(()),
            Some(reason) => Err(Error::unavailable(format!(
                "the plugin {plugin} is out of service: {reason}"
            ))
            .with_hint(
                "it is tried again by itself within 2 minutes; if it stays so, restart berth",
            )),
        }
    }

    /// Notes a failure. `true` when this one takes the plugin out of service: now someone has to probe.
    pub(super) fn failed(&self, error: &Error) -> bool {
        let now = Instant::now();
        let mut state = self.state();
        state.failures.push_back(now);
        while state
            .failures
            .front()
            .is_some_and(|first| now.duration_since(*first) > WINDOW)
        {
            state.failures.pop_front();
        }
        if state.degraded.is_some() || state.failures.len() < self.rules.failures {
            return false;
        }
        state.degraded = Some(format!(
            "it failed {} times within a minute, last with: {}",
            state.failures.len(),
            error.message
        ));
        true
    }

    /// The plugin answered a probe: it is in service again.
    pub(super) fn recovered(&self) {
        *self.state() = State::default();
    }

    /// How long to wait before each probe.
    pub(super) fn probe_pauses(&self) -> impl Iterator<Item = Duration> + use<> {
        std::iter::successors(Some(self.rules.first_probe), |pause| {
            Some((*pause * 2).min(LAST_PROBE))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILURES: usize = 5;

    fn error() -> Error {
        Error::internal("boom")
    }

    #[tokio::test(start_paused = true)]
    async fn failures_take_it_out_of_service_and_a_probe_brings_it_back() {
        let watchdog = Watchdog::default();
        for _ in 1..FAILURES {
            assert!(!watchdog.failed(&error()));
        }
        assert_eq!(watchdog.health(), DriverHealth::Ready);
        assert!(watchdog.failed(&error()));
        assert!(!watchdog.failed(&error()), "told only once");
        let refusal = watchdog.admit("docker").unwrap_err();
        assert!(refusal.message.contains("docker"), "{refusal}");
        assert!(refusal.message.contains("boom"), "{refusal}");
        watchdog.recovered();
        assert_eq!(watchdog.admit("docker"), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn old_failures_do_not_count() {
        let watchdog = Watchdog::default();
        for _ in 0..3 * FAILURES {
            assert!(!watchdog.failed(&error()));
            tokio::time::advance(WINDOW / 2).await;
        }
    }

    #[test]
    fn probes_come_less_and_less_often() {
        let seconds: Vec<_> = Watchdog::default()
            .probe_pauses()
            .take(7)
            .map(|pause| pause.as_secs())
            .collect();
        assert_eq!(seconds, [5, 10, 20, 40, 80, 120, 120]);
    }
}
