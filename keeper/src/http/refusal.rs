//! Saying no.

use berth_keeper_protocol::{Failure, FailureBody};
use http::StatusCode;
use std::fmt::Display;

/// The codes of the protocol.
pub(crate) mod code {
    pub(crate) const NOT_FOUND: &str = "NOT_FOUND";
    pub(crate) const INVALID: &str = "INVALID";
    pub(crate) const CONFLICT: &str = "CONFLICT";
    pub(crate) const INTERNAL: &str = "INTERNAL";
    pub(crate) const UNKNOWN_ROUTE: &str = "UNKNOWN_ROUTE";
}

/// Why a request is not granted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    code: &'static str,
    message: String,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    pub(crate) fn internal(error: impl Display) -> Self {
        Self::new(code::INTERNAL, error.to_string())
    }

    pub(super) fn status(&self) -> StatusCode {
        match self.code {
            code::NOT_FOUND | code::UNKNOWN_ROUTE => StatusCode::NOT_FOUND,
            code::INVALID => StatusCode::BAD_REQUEST,
            code::CONFLICT => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    pub(super) fn document(self) -> Failure {
        Failure {
            error: FailureBody {
                code: self.code.to_owned(),
                message: self.message,
            },
        }
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        let code = match error.kind() {
            std::io::ErrorKind::NotFound => code::NOT_FOUND,
            std::io::ErrorKind::AlreadyExists => code::CONFLICT,
            std::io::ErrorKind::PermissionDenied
            | std::io::ErrorKind::NotADirectory
            | std::io::ErrorKind::IsADirectory
            | std::io::ErrorKind::InvalidInput => code::INVALID,
            _ => code::INTERNAL,
        };
        Self::new(code, error.to_string())
    }
}
