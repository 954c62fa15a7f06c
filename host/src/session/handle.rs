//! What the rest of the server holds of a session: the way to its task, and what the task last saw.

use super::record::Record;
use super::state::{Observed, Wish};
use super::view::{Offers, View};
use super::{Health, SessionError, SessionId, SessionName};
use crate::console::Console;
use crate::keeper::Keeper;
use berth_plugin_api::doc::Inspection;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

/// What has become of a wish.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Kinds of things that were removed, in the engine's words.
    pub(crate) removed: Vec<String>,
    /// Refs that hold what was not committed.
    pub(crate) rescued: Vec<String>,
    /// What could not be done.
    pub(crate) message: Option<String>,
}

/// A wish on its way to the session's task.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) wish: Wish,
    /// Answered once the wish is stored, or once it is done, as the wish has it.
    pub(crate) reply: oneshot::Sender<Result<Outcome, SessionError>>,
}

/// What a session's task last saw and stored.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) record: Record,
    pub(crate) observed: Observed,
    pub(crate) view: View,
    pub(crate) offers: Offers,
    /// The connected keeper.
    pub(crate) keeper: Option<Keeper>,
}

/// The way to a session's task.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) id: SessionId,
    pub(crate) backend: String,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) seen: watch::Receiver<Arc<Seen>>,
    pub(crate) console: Console,
    /// What the backend's monitor heard of the place.
    pub(crate) hint: watch::Sender<Option<Inspection>>,
    /// What people call the session now.
    pub(crate) name: watch::Sender<SessionName>,
    /// Held while something is typed into the session, so that two messages never mix.
    pub(crate) typing: Arc<tokio::sync::Mutex<()>>,
}

impl Handle {
    /// Sends a wish and waits for what becomes of it.
    pub(crate) async fn ask(&self, wish: Wish) -> Result<Outcome, SessionError> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(Command { wish, reply })
            .await
            .map_err(|_| SessionError::ShuttingDown)?;
        answer.await.map_err(|_| SessionError::ShuttingDown)?
    }

    pub(crate) fn seen(&self) -> Arc<Seen> {
        self.seen.borrow().clone()
    }

    /// What was seen last; of a session that runs, but whose keeper is not reached yet as just after the server's start,
    /// waits for that, and no longer than `limit`. `stored` is what the session's row says: an event is stored, and told, a
    /// moment before it is seen here, and who acts on it must not be refused for that.
    pub(crate) async fn connected(&self, stored: Health, limit: Duration) -> Arc<Seen> {
        let mut seen = self.seen.clone();
        let decided = seen.wait_for(|seen| match seen.view.health {
            Health::Healthy => seen.keeper.is_some(),
            Health::Pending => stored != Health::Healthy,
            _ => true,
        });
        // Where it is not decided in time, or never will be, the caller says so.
        let _ = timeout(limit, decided).await.is_ok();
        self.seen()
    }
}

/// All sessions that have a task.
#[derive(Debug, Default)]
pub(crate) struct Registry(Mutex<HashMap<SessionId, Arc<Handle>>>);

impl Registry {
    pub(crate) fn get(&self, id: SessionId) -> Option<Arc<Handle>> {
        self.with(|handles| handles.get(&id).cloned())
    }

    pub(crate) fn insert(&self, handle: Arc<Handle>) {
        self.with(|handles| handles.insert(handle.id, handle));
    }

    pub(crate) fn remove(&self, id: SessionId) {
        self.with(|handles| handles.remove(&id));
    }

    pub(crate) fn of_backend(&self, backend: &str) -> Vec<Arc<Handle>> {
        self.with(|handles| {
            handles
                .values()
                .filter(|handle| handle.backend == backend)
                .cloned()
                .collect()
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<SessionId, Arc<Handle>>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
