//! Sessions: what a user asked for, what is true, and the one task that makes them agree.

#![expect(clippy::unused_async, reason = "bodies follow")]

mod error;
mod id;
mod model;
mod request;

pub use error::SessionError;
pub use id::{InvalidSessionName, SessionId, SessionKey, SessionName};
pub use model::{
    Action, Activity, ChatRow, EnvShown, Health, HealthDetails, HealthReport, Reconciliation, Role,
    Session, SessionRepository, SessionSummary, Status,
};
pub use request::{
    Accepted, Created, EnvValue, ListFilter, MarkedEnv, Metadata, MetadataChange, NewRepository,
    NewResources, NewSession, Page, RecreatePreservation, Recreation, Removal, SyncedBranch,
};

use crate::event::{EventPage, Subscription};
use std::collections::BTreeMap;

type Result<T, E = SessionError> = std::result::Result<T, E>;

/// All sessions of this server. A cheap clone of one thing; every operation may be called from anywhere at once.
#[derive(Debug, Clone)]
pub struct Sessions {}

/// A subscription to all sessions, and what of the caller's map could not be heeded.
#[derive(Debug)]
pub struct AllSubscription {
    pub subscription: Subscription,
    /// Entries of the map that were passed over: an unknown session, or a number beyond the newest event.
    pub refused: Vec<(String, SessionError)>,
}

fn later<T>() -> Result<T> {
    Err(SessionError::Internal("not there yet".to_owned()))
}

impl Sessions {
    /// Makes a session and answers at once, in state `starting`; the work goes on behind it.
    ///
    /// # Errors
    /// The request breaks a rule of CONTRACT section 3; nothing was stored then.
    pub async fn create(&self, new: NewSession, idempotency_key: Option<&str>) -> Result<Created> {
        let _ = (new, idempotency_key);
        later()
    }

    /// # Errors
    /// There is none.
    pub async fn get(&self, key: &SessionKey) -> Result<Session> {
        let _ = key;
        later()
    }

    /// The id behind a key.
    ///
    /// # Errors
    /// There is none.
    pub async fn resolve(&self, key: &SessionKey) -> Result<SessionId> {
        let _ = key;
        later()
    }

    /// # Errors
    /// `limit` or `cursor` is wrong.
    pub async fn list(&self, filter: &ListFilter) -> Result<Page> {
        let _ = filter;
        later()
    }

    /// # Errors
    /// The name is taken or breaks the rule.
    pub async fn update_metadata(
        &self,
        key: &SessionKey,
        change: MetadataChange,
    ) -> Result<Metadata> {
        let _ = (key, change);
        later()
    }

    /// Starts a stopped session again; a running one is a success.
    ///
    /// # Errors
    /// `start` is not on offer.
    pub async fn start(&self, key: &SessionKey) -> Result<Session> {
        let _ = key;
        later()
    }

    /// Ends the session's program and keeps everything; a stopped one is a success. Answers once it has ended.
    ///
    /// # Errors
    /// The backend failed to.
    pub async fn stop(&self, key: &SessionKey) -> Result<Session> {
        let _ = key;
        later()
    }

    /// Removes a session. Answers once nothing of it is left.
    ///
    /// # Errors
    /// Without `force`: uncommitted changes (the message lists them), or the backend failed to.
    pub async fn delete(&self, key: &SessionKey, force: bool) -> Result<Removal> {
        let _ = (key, force);
        later()
    }

    /// # Errors
    /// The state does not allow it.
    pub async fn archive(&self, key: &SessionKey) -> Result<Session> {
        let _ = key;
        later()
    }

    /// # Errors
    /// The state does not allow it.
    pub async fn unarchive(&self, key: &SessionKey) -> Result<Session> {
        let _ = key;
        later()
    }

    /// # Errors
    /// The action is not on offer.
    pub async fn recreate(&self, key: &SessionKey, fresh: bool) -> Result<Recreation> {
        let _ = (key, fresh);
        later()
    }

    /// Removes what the session has but its record, its events and its branches; answers with what was removed.
    ///
    /// # Errors
    /// The action is not on offer.
    pub async fn cleanup(&self, key: &SessionKey) -> Result<(Vec<String>, Removal)> {
        let _ = key;
        later()
    }

    /// Brings the session's branches in the user's repositories up to its commits.
    ///
    /// # Errors
    /// A branch was moved by somebody else.
    pub async fn sync(&self, key: &SessionKey) -> Result<Vec<SyncedBranch>> {
        let _ = key;
        later()
    }

    /// # Errors
    /// There is no such session.
    pub async fn health(&self, key: &SessionKey) -> Result<HealthReport> {
        let _ = key;
        later()
    }

    /// Says something to the agent; answers once its terminal has taken the bytes.
    ///
    /// # Errors
    /// The session cannot take it now.
    pub async fn send_message(&self, key: &SessionKey, content: &str) -> Result<Accepted> {
        let _ = (key, content);
        later()
    }

    /// The terminal's history as plain text.
    ///
    /// # Errors
    /// There is no such session.
    pub async fn logs(&self, key: &SessionKey) -> Result<String> {
        let _ = key;
        later()
    }

    /// Stored events, oldest first.
    ///
    /// # Errors
    /// There is no such session, or `after` is beyond its newest event.
    pub async fn events(&self, key: &SessionKey, after: u64, limit: usize) -> Result<EventPage> {
        let _ = (key, after, limit);
        later()
    }

    /// The session's events after `after`, then live; without it only those to come. A session that was deleted within
    /// the last day is still found by its id, so that a subscriber who was away hears of its end.
    ///
    /// # Errors
    /// There is no such session, or `after` is beyond its newest event.
    pub async fn subscribe(&self, key: &SessionKey, after: Option<u64>) -> Result<Subscription> {
        let _ = (key, after);
        later()
    }

    /// Every session's events, those made later included.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn subscribe_all(&self, after: BTreeMap<String, u64>) -> Result<AllSubscription> {
        let _ = after;
        later()
    }
}
