//! One monitor stands beside each backend: does it answer, what became of its places, what is left there by nobody.
//!
//! It only looks and tells: what follows for a session is decided by the session's own task, which asks the backend
//! itself before it believes in a death. Only what no session claims is removed here.

use super::handle::Registry;
use super::record::{Place, Record};
use super::settings::SessionSettings;
use super::store;
use super::{Result, SessionId};
use crate::db::Database;
use crate::driver::{BackendDriver, Call, DriverHealth};
use berth_plugin_api::doc::{
    DeleteRequest, Inspection, ListRequest, ListedPlace, PlaceRequest, PlaceState, Probe,
    SessionRef, WatchEvent, WatchRequest,
};
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

/// How long the monitor waits before it watches again after a watch that ended.
const WATCH_AGAIN: Duration = Duration::from_secs(1);

/// Whether a backend can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendState {
    /// Why not; `None`: it can.
    pub unreachable: Option<String>,
    /// What it last said of itself.
    pub probe: Probe,
    /// Counts the looks; 0: it was not asked yet.
    pub looks: u64,
}

/// The way to a backend's monitor.
#[derive(Debug)]
pub(crate) struct BackendWatch {
    pub(crate) state: watch::Receiver<BackendState>,
    look_now: Arc<Notify>,
}

impl BackendWatch {
    /// Looks at once instead of at the next turn.
    pub(crate) fn look_now(&self) {
        self.look_now.notify_one();
    }

    /// What is known of the backend, waiting for the first look where none was had.
    pub(crate) async fn known(&self) -> BackendState {
        let mut state = self.state.clone();
        match state.wait_for(|state| state.looks > 0).await {
            Ok(state) => state.clone(),
            Err(_) => self.state.borrow().clone(),
        }
    }
}

/// Looks after one backend.
pub(crate) struct Monitor {
    driver: Arc<dyn BackendDriver>,
    instance: String,
    db: Database,
    registry: Arc<Registry>,
    settings: Arc<SessionSettings>,
    state: watch::Sender<BackendState>,
    look_now: Arc<Notify>,
}

impl Monitor {
    pub(crate) fn new(
        driver: Arc<dyn BackendDriver>,
        instance: String,
        db: Database,
        registry: Arc<Registry>,
        settings: Arc<SessionSettings>,
    ) -> (Self, BackendWatch) {
        let (sender, state) = watch::channel(BackendState {
            unreachable: None,
            probe: Probe::default(),
            looks: 0,
        });
        let look_now = Arc::new(Notify::new());
        let monitor = Self {
            driver,
            instance,
            db,
            registry,
            settings,
            state: sender,
            look_now: look_now.clone(),
        };
        (monitor, BackendWatch { state, look_now })
    }

    #[tracing::instrument(name = "backend", skip_all, fields(backend = %self.driver.info().name))]
    pub(crate) async fn run(self, cancel: CancellationToken) {
        tokio::select! {
            biased;
            () = cancel.cancelled() => {}
            // Apart, so that a list that hangs does not delay the next look.
            () = self.looks() => {}
            () = self.rounds() => {}
        }
    }

    async fn looks(&self) {
        let mut turns = interval(self.settings.probe_every);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.look_now.notified() => {}
                _ = turns.tick() => {}
            }
            self.look().await;
        }
    }

    async fn rounds(&self) {
        let watches = self.driver.description().capabilities.watch;
        let mut state = self.state.subscribe();
        let mut strays = HashMap::new();
        loop {
            if !answers(&mut state).await {
                return;
            }
            // It answers (again): compare at once, then every so often, until it goes away.
            let mut turns = interval(self.settings.reconcile_every);
            turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut watching: Option<mpsc::Receiver<WatchEvent>> = None;
            let mut watch_at = Instant::now();
            loop {
                tokio::select! {
                    open = goes_away(&mut state) => {
                        if !open { return; }
                        break;
                    }
                    _ = turns.tick() => self.round(&mut strays).await,
                    () = sleep_until(watch_at), if watches && watching.is_none() => {
                        watching = self.watch().await;
                        watch_at = Instant::now() + WATCH_AGAIN;
                    }
                    event = next_event(&mut watching), if watching.is_some() => {
                        if let Some(event) = event {
                            self.heard(event);
                        } else {
                            watching = None;
                            watch_at = Instant::now() + WATCH_AGAIN;
                            self.look_now.notify_one();
                        }
                    }
                }
            }
        }
    }

    /// Asks whether the backend answers.
    async fn look(&self) {
        let limit = self.settings.limits.probe;
        let outcome = match self.driver.health() {
            DriverHealth::Degraded { reason } => Err(reason),
            DriverHealth::Ready => match self.driver.probe(Call::new(limit)).await {
                Ok(probe) if probe.available => Ok(probe),
                Ok(probe) => Err(probe
                    .reason
                    .unwrap_or_else(|| "it does not say why".to_owned())),
                Err(error) => Err(error.to_string()),
            },
        };
        let before = self.state.borrow().clone();
        let (unreachable, probe) = match outcome {
            Ok(probe) => (None, probe),
            Err(reason) => (Some(reason), before.probe),
        };
        let first = before.looks == 0;
        match (&unreachable, before.unreachable) {
            (Some(reason), None) if first => tracing::info!(%reason, "backend is not available"),
            (Some(reason), None) => tracing::warn!(%reason, "backend does not answer"),
            (None, Some(_)) => tracing::info!("backend answers again"),
            _ => {}
        }
        self.state.send_replace(BackendState {
            unreachable,
            probe,
            looks: before.looks + 1,
        });
    }

    async fn watch(&self) -> Option<mpsc::Receiver<WatchEvent>> {
        let request = WatchRequest {
            instance: self.instance.clone(),
        };
        let call = Call::new(self.settings.limits.list);
        match self.driver.watch(call, &request).await {
            Ok(receiver) => Some(receiver),
            Err(error) => {
                tracing::warn!(%error, "the backend cannot be watched now; it is asked every round");
                None
            }
        }
    }

    fn heard(&self, event: WatchEvent) {
        if let Ok(id) = event.session_id.parse::<SessionId>()
            && let Some(handle) = self.registry.get(id)
        {
            handle.hint.send_replace(Some(event.inspection));
        }
    }

    /// Compares the backend's places with the books.
    async fn round(&self, strays: &mut HashMap<String, Timestamp>) {
        let request = ListRequest {
            instance: self.instance.clone(),
        };
        let call = Call::new(self.settings.limits.list);
        let places = match self.driver.list(call, &request).await {
            Ok(places) => places.places,
            Err(error) => {
                tracing::warn!(%error, "the backend's places cannot be listed");
                self.look_now.notify_one();
                return;
            }
        };
        let mut listed = HashMap::new();
        for place in places {
            listed.insert(place.session_id.clone(), place);
        }
        for handle in self.registry.of_backend(&self.driver.info().name) {
            let hint = match listed.get(&handle.id.to_string()) {
                Some(place) => place.inspection.clone(),
                None => Inspection {
                    state: PlaceState::Missing,
                    ..Inspection::default()
                },
            };
            handle.hint.send_replace(Some(hint));
        }
        if let Err(error) = self.sweep(listed, strays).await {
            tracing::warn!(%error, "leftovers could not all be removed; the next round tries again");
        }
    }

    /// Removes what no session claims.
    async fn sweep(
        &self,
        listed: HashMap<String, ListedPlace>,
        strays: &mut HashMap<String, Timestamp>,
    ) -> Result<()> {
        let now = Timestamp::now();
        strays.retain(|id, _| listed.contains_key(id));
        let leftovers = store::leftovers(self.db.read()).await?;
        for place in listed.into_values() {
            let claimed = place
                .session_id
                .parse::<SessionId>()
                .ok()
                .and_then(|id| self.registry.get(id))
                .is_some_and(|handle| handle.seen().record.place != Place::Absent);
            let left = leftovers
                .iter()
                .any(|leftover| leftover.id.to_string() == place.session_id);
            if claimed || left {
                continue;
            }
            let made = place
                .created_at
                .as_deref()
                .and_then(|text| text.parse::<Timestamp>().ok());
            let seen = *strays
                .entry(place.session_id.clone())
                .or_insert_with(|| made.unwrap_or(now));
            let grace = SignedDuration::try_from(self.settings.orphan_grace)
                .unwrap_or(SignedDuration::from_mins(2));
            if now.duration_since(seen) < grace {
                continue;
            }
            tracing::info!(session.id = %place.session_id, "removing a place that no session claims");
            let of_session = place
                .session_id
                .parse::<SessionId>()
                .is_ok_and(|id| self.registry.get(id).is_some());
            self.remove(&place.session_id, "", place.handle, !of_session)
                .await;
        }
        for leftover in leftovers {
            if leftover.backend != self.driver.info().name {
                continue;
            }
            let handle = leftover.record.leftover.clone().unwrap_or_default();
            let id = leftover.id.to_string();
            if self.remove(&id, leftover.name.as_str(), handle, true).await {
                let record = Record {
                    leftover: None,
                    ..leftover.record
                };
                let mut db = self.db.write().await;
                store::save_leftover(&mut db, leftover.id, &record).await?;
            }
        }
        let before = now
            - SignedDuration::try_from(self.settings.tombstone)
                .unwrap_or(SignedDuration::from_hours(24));
        let mut db = self.db.write().await;
        let purged = store::purge(&mut db, before).await?;
        drop(db);
        if purged > 0 {
            tracing::debug!(purged, "forgot sessions that were deleted long ago");
        }
        Ok(())
    }

    async fn remove(&self, id: &str, name: &str, handle: serde_json::Value, data: bool) -> bool {
        let request = DeleteRequest {
            place: PlaceRequest {
                session: SessionRef {
                    id: id.to_owned(),
                    name: name.to_owned(),
                    instance: self.instance.clone(),
                },
                handle,
            },
            data,
        };
        let call = Call::new(self.settings.limits.delete);
        match self.driver.delete(call, &request).await {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(session.id = %id, %error, "a leftover could not be removed");
                false
            }
        }
    }
}

/// Waits until the backend answers; false when nobody looks any more.
async fn answers(state: &mut watch::Receiver<BackendState>) -> bool {
    state
        .wait_for(|state| state.looks > 0 && state.unreachable.is_none())
        .await
        .is_ok()
}

/// Waits until the backend does not answer; false when nobody looks any more.
async fn goes_away(state: &mut watch::Receiver<BackendState>) -> bool {
    state
        .wait_for(|state| state.unreachable.is_some())
        .await
        .is_ok()
}

async fn next_event(watching: &mut Option<mpsc::Receiver<WatchEvent>>) -> Option<WatchEvent> {
    match watching {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}
