//! What happens in sessions: numbered without a gap, stored before it is told, told once to each subscriber.

#![expect(clippy::unused_async, reason = "bodies follow")]

mod model;

pub use model::{
    ApprovalRequest, ApprovalResolution, ChatMessage, Event, EventBody, EventKind, NewEvent,
    ToolCall, ToolResult,
};

use crate::db::DbError;
use crate::session::SessionId;
use std::sync::Arc;

/// Why events could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// The subscriber claims to have seen what has not happened.
    #[error("after is {after}, but the newest event is {newest}")]
    AfterBeyond { after: u64, newest: u64 },
    #[error("the event log is closed")]
    Closed,
    #[error("the event log could not be stored or read")]
    Database(#[from] DbError),
}

/// A page of a session's events.
#[derive(Debug, Clone)]
pub struct EventPage {
    /// Oldest first.
    pub events: Vec<Arc<Event>>,
    /// Where the next page begins; `None` when there is no more.
    pub next_after: Option<u64>,
}

/// The durable events of all sessions. A cheap clone of one log.
#[derive(Debug, Clone)]
pub struct EventLog {}

impl EventLog {
    /// Stores events under the session's next numbers, then tells them to subscribers. An event whose source key is
    /// stored already is left out of the answer.
    ///
    /// # Errors
    /// Nothing was stored.
    pub async fn append(
        &self,
        session: SessionId,
        events: Vec<NewEvent>,
    ) -> Result<Vec<Arc<Event>>, EventError> {
        let _ = (session, events);
        Err(EventError::Closed)
    }

    /// The number of the session's newest event; 0 when it has none.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn newest(&self, session: SessionId) -> Result<u64, EventError> {
        let _ = session;
        Err(EventError::Closed)
    }

    /// Up to `limit` events after `after`, oldest first.
    ///
    /// # Errors
    /// `after` is beyond the newest event, or the database does not answer.
    pub async fn page(
        &self,
        session: SessionId,
        after: u64,
        limit: usize,
    ) -> Result<EventPage, EventError> {
        let _ = (session, after, limit);
        Err(EventError::Closed)
    }
}

/// A place in the stream of one session's events, or of all.
#[derive(Debug)]
pub struct Subscription {}

/// What a subscription gives next.
#[derive(Debug, Clone)]
pub enum Delivery {
    Event(Arc<Event>),
    /// The subscriber did not keep up: it gets nothing more, and resumes by `after`.
    Behind,
    /// The log was closed.
    Closed,
}

impl Subscription {
    /// The newest event's number when the subscription was made; `None` for one to all sessions.
    pub fn newest(&self) -> Option<u64> {
        None
    }

    /// The next event. Cancel safe: an event is lost only with the subscription.
    ///
    /// # Errors
    /// Older events could not be read.
    pub async fn next(&mut self) -> Result<Delivery, EventError> {
        Ok(Delivery::Closed)
    }

    /// Completes when this subscriber has fallen too far behind, even while nobody calls [`next`](Self::next): for a
    /// handler that is stuck in sending.
    pub fn fallen_behind(&self) -> impl Future<Output = ()> + Send + 'static {
        std::future::pending()
    }
}
