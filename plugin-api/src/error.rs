//! What a plugin answers when it cannot do what it was asked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why an operation failed. On the wire it is its number; a number the reader does not know reads as [`Code::Internal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[repr(u32)]
pub enum Code {
    /// The host gave up the call.
    Cancelled = 1,
    /// The call ran past its time limit.
    Deadline = 2,
    /// The request is wrong; [`Detail::field`] names the field.
    InvalidArgument = 3,
    /// What the request names is not there.
    NotFound = 4,
    /// It is there already and is not the caller's.
    AlreadyExists = 5,
    /// The engine does not answer. Costs the session no attempt.
    Unavailable = 6,
    /// Out of memory, disk, addresses or quota.
    Exhausted = 7,
    /// The engine refused: not allowed.
    Permission = 8,
    /// This plugin does not have this operation.
    Unsupported = 9,
    /// The wrong state for this operation.
    Conflict = 10,
    /// Anything else.
    Internal = 11,
    /// The plugin's code panicked.
    Panic = 12,
    /// The process that held the plugin is gone.
    PluginLost = 13,
}

impl Code {
    /// Every code, in the order of its number.
    pub const ALL: [Self; 13] = [
        Self::Cancelled,
        Self::Deadline,
        Self::InvalidArgument,
        Self::NotFound,
        Self::AlreadyExists,
        Self::Unavailable,
        Self::Exhausted,
        Self::Permission,
        Self::Unsupported,
        Self::Conflict,
        Self::Internal,
        Self::Panic,
        Self::PluginLost,
    ];

    /// The code's number on the wire.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// The code with this number; one that is not known reads as [`Code::Internal`].
    pub fn from_number(number: u32) -> Self {
        Self::ALL
            .into_iter()
            .find(|code| code.number() == number)
            .unwrap_or(Self::Internal)
    }
}

/// What a person or the host can act on, beside the message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Detail {
    /// The field of the request that is wrong, by path: `options.network`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What to do about it, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The engine's own code or status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_code: Option<String>,
    /// How long to wait before another try, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// An operation's failure: a code, a message for the user, and what may be done about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// Why.
    pub code: Code,
    /// What happened, in a sentence that a user of berth can act on; it may quote the engine.
    pub message: String,
    /// The same request may succeed later.
    #[serde(default)]
    pub retryable: bool,
    /// The work may have been done all the same.
    #[serde(default)]
    pub may_have_happened: bool,
    /// Field, hint, the engine's code.
    #[serde(default)]
    pub detail: Detail,
}

/// What an operation gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with this code and message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retryable: matches!(code, Code::Unavailable | Code::Deadline | Code::PluginLost),
            may_have_happened: matches!(code, Code::Cancelled | Code::Deadline | Code::PluginLost),
            detail: Detail::default(),
        }
    }

    /// The request's field `field` is wrong.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        let mut error = Self::new(Code::InvalidArgument, message);
        error.detail.field = Some(field.into());
        error
    }

    /// What the request names is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    /// The engine does not answer.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Code::Unavailable, message)
    }

    /// This plugin does not have the operation `operation`.
    pub fn unsupported(operation: &str) -> Self {
        Self::new(
            Code::Unsupported,
            format!("this plugin does not have the operation {operation}"),
        )
    }

    /// Anything else that went wrong.
    pub fn internal(message: impl fmt::Display) -> Self {
        Self::new(Code::Internal, message.to_string())
    }

    /// The same error with a hint of what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.detail.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(hint) = &self.detail.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let code = match error.kind() {
            std::io::ErrorKind::NotFound => Code::NotFound,
            std::io::ErrorKind::PermissionDenied => Code::Permission,
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Code::Exhausted,
            _ => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}
