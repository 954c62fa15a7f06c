//! What all session tasks stand on.

use super::handle::Registry;
use super::monitor::BackendWatch;
use super::settings::SessionSettings;
use super::{SessionError, SessionId};
use crate::db::{DataFolder, Database, SessionFolder};
use crate::driver::{AgentDriver, BackendDriver, Drivers};
use crate::event::EventLog;
use crate::files::Roots;
use crate::git::Git;
use jiff::{SignedDuration, Timestamp, TimestampRound, Unit};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What all session tasks stand on.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) db: Database,
    pub(crate) data: DataFolder,
    pub(crate) events: EventLog,
    pub(crate) drivers: Drivers,
    pub(crate) git: Git,
    pub(crate) roots: Roots,
    pub(crate) settings: Arc<SessionSettings>,
    pub(crate) backoff: Vec<SignedDuration>,
    /// Differs after the machine was started anew.
    pub(crate) machine: String,
    pub(crate) registry: Arc<Registry>,
    pub(crate) backends: BTreeMap<String, BackendWatch>,
    pub(crate) tasks: TaskTracker,
    pub(crate) cancel: CancellationToken,
    /// Held while a name is chosen and stored.
    pub(crate) naming: tokio::sync::Mutex<()>,
}

impl Shared {
    pub(crate) fn folder(&self, id: SessionId) -> SessionFolder {
        self.data.session(id)
    }

    /// The driver of a backend that was loaded when the session was made.
    pub(crate) fn backend(&self, name: &str) -> Result<&Arc<dyn BackendDriver>, SessionError> {
        self.drivers
            .backends
            .get(name)
            .ok_or_else(|| SessionError::BackendUnavailable {
                backend: name.to_owned(),
                reason: "it is not loaded any more".to_owned(),
            })
    }

    pub(crate) fn agent(&self, name: &str) -> Result<&Arc<dyn AgentDriver>, SessionError> {
        self.drivers.agents.get(name).ok_or_else(|| {
            SessionError::Unsupported(format!("the agent {name} is not loaded any more"))
        })
    }
}

/// This moment, to the millisecond, as times are stored.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    now.round(TimestampRound::new().smallest(Unit::Millisecond))
        .unwrap_or(now)
}
