//! What can go wrong between host and keeper.

use berth_keeper_protocol::{BEHIND, Failure};
use http::StatusCode;
use std::time::Duration;

/// Why something asked of a keeper failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeeperError {
    /// The connection broke: what was asked may have happened.
    #[error("the connection to the keeper is lost: {reason}")]
    Lost {
        /// What the transport says.
        reason: String,
    },
    /// The connection stands, but no answer came: what was asked may have happened.
    #[error("the keeper did not answer {route} within {} s", limit.as_secs())]
    TimedOut {
        /// What was asked.
        route: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The keeper says no. Nothing has happened.
    #[error("{message}")]
    Refused {
        /// `NOT_FOUND`, `INVALID`, `CONFLICT` or `INTERNAL`.
        code: String,
        /// Why, for people.
        message: String,
    },
    /// The keeper is older than what was asked of it.
    #[error(
        "this session's keeper is of an older version, which does not know {route}; recreate the session to use it"
    )]
    Unsupported {
        /// What was asked.
        route: String,
    },
    /// The reader was too slow: bytes that it had not read are no longer kept. Asking again goes on from the oldest.
    #[error("the reader fell behind what the keeper keeps")]
    Behind,
    /// The keeper sent something that the protocol does not allow.
    #[error("the keeper sent {what}")]
    Malformed {
        /// What was wrong.
        what: String,
    },
    /// What was to be sent could not be read.
    #[error("what was to be sent could not be read: {reason}")]
    Source {
        /// What the reader says.
        reason: String,
    },
}

impl KeeperError {
    /// It is there no more, or never was: a path, an exec, a listener.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "NOT_FOUND")
    }

    /// The state forbids it: another run goes on, the file is there.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "CONFLICT")
    }

    /// A new connection may mend it.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. } | Self::TimedOut { .. })
    }

    pub(super) fn lost(reason: impl std::fmt::Display) -> Self {
        Self::Lost {
            reason: reason.to_string(),
        }
    }

    pub(super) fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed { what: what.into() }
    }

    /// What a refusal's status and body say.
    pub(super) fn refusal(route: &str, status: StatusCode, body: &[u8]) -> Self {
        let known = serde_json::from_slice::<Failure>(body).map(|failure| failure.error);
        match known {
            Ok(error) if error.code == "UNKNOWN_ROUTE" => Self::Unsupported {
                route: route.to_owned(),
            },
            Ok(error) => Self::Refused {
                code: error.code,
                message: error.message,
            },
            Err(_) if status == StatusCode::NOT_FOUND => Self::Unsupported {
                route: route.to_owned(),
            },
            Err(_) => Self::malformed(format!("status {status} to {route}, without a reason")),
        }
    }
}

impl From<h2::Error> for KeeperError {
    fn from(error: h2::Error) -> Self {
        if error.is_reset() && error.reason() == Some(h2::Reason::from(BEHIND)) {
            return Self::Behind;
        }
        Self::lost(error)
    }
}
