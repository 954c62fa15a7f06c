//! What can be wrong with a request about sessions. Knows nothing of HTTP.

use super::{Action, SessionKey, SessionName};
use crate::db::DbError;
use crate::event::EventError;

/// Why a session could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("Session with ID '{0}' not found")]
    NotFound(SessionKey),
    /// The request breaks a rule; `field` is its path, as in `repositories[1].mount_name`.
    #[error("{field}: {message}")]
    Invalid { field: String, message: String },
    /// This session's backend or agent does not have the operation.
    #[error("{0}")]
    Unsupported(String),
    /// Known, but not allowed.
    #[error("{0}")]
    Forbidden(String),
    #[error("a session with the name '{0}' exists")]
    NameTaken(SessionName),
    #[error("the same Idempotency-Key was used with another body")]
    IdempotencyMismatch,
    /// The session is in the wrong state, or work would be lost.
    #[error("{0}")]
    Conflict(String),
    #[error("{action} is not on offer for this session: {}", offered(.available))]
    NotOnOffer {
        action: Action,
        available: Vec<Action>,
    },
    /// The backend failed or ran past its limit; the message is the engine's, for the user to act on.
    #[error("backend {backend} failed to {attempted}: {source}")]
    Backend {
        backend: String,
        attempted: &'static str,
        source: Box<berth_plugin_api::Error>,
    },
    /// The backend is loaded but cannot be used.
    #[error("backend {backend} is not available: {reason}")]
    BackendUnavailable { backend: String, reason: String },
    /// The server is about to end.
    #[error("the server is shutting down")]
    ShuttingDown,
    #[error("the database failed")]
    Database(#[from] DbError),
    #[error("the event log failed")]
    Event(#[from] EventError),
    /// A bug of ours.
    #[error("{0}")]
    Internal(String),
}

impl SessionError {
    pub(crate) fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            message: message.into(),
        }
    }
}

fn offered(available: &[Action]) -> String {
    if available.is_empty() {
        return "nothing is, in its present state".to_owned();
    }
    let names: Vec<String> = available.iter().map(Action::to_string).collect();
    format!("it offers {}", names.join(", "))
}
