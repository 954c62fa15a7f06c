//! What happens in sessions: numbered without a gap, stored before it is told, told to each subscriber once.
//!
//! [`EventLog::append`] hands events to one writer, which stores everything that came while it last wrote in one
//! transaction (`log`), under the session's next numbers. Only then the hub puts them into the queue of each subscriber
//! (`hub`). A [`Subscription`] first reads what is stored and then its queue (`subscription`). An event's JSON is made
//! once and shared by all.
//!
//! Rules: nobody waits for a subscriber; one that reads live and falls too far behind is told so
//! ([`Delivery::Behind`]) and comes again with the last number that it has seen.

mod hub;
mod log;
mod model;
mod store;
mod subscription;
mod wire;

pub use log::{Along, EventLog};
pub use model::{
    ApprovalRequest, ApprovalResolution, ChatMessage, Event, EventBody, EventKind, NewEvent,
    ToolCall, ToolResult,
};
pub use subscription::{Delivery, Subscription};

use crate::db::DbError;
use std::sync::Arc;

/// Why events could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// The subscriber claims to have seen what has not happened.
    #[error("after is {after}, but the newest event is {newest}")]
    AfterBeyond { after: u64, newest: u64 },
    #[error("the event log is closed")]
    Closed,
    #[error("the events could not be stored")]
    NotStored(#[source] Arc<DbError>),
    #[error(transparent)]
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

#[cfg(test)]
mod tests;
