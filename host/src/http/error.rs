//! The one place where a fault becomes an answer: `{"error":{"code","message"}}`.

use crate::db::DbError;
use crate::event::EventError;
use crate::session::SessionError;
use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// The code of an error, as clients see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// Malformed, invalid, or a capability that this backend lacks.
    InvalidRequest,
    /// Not signed in.
    Unauthorized,
    /// Known, but not allowed.
    Forbidden,
    /// The session is not there.
    SessionNotFound,
    /// Anything else is not there.
    NotFound,
    /// The path is there, but not with this method.
    MethodNotAllowed,
    /// The wrong state, a name taken, work that would be lost.
    Conflict,
    /// The body is too large.
    PayloadTooLarge,
    /// The body is of a kind that the route does not take.
    UnsupportedMediaType,
    /// Too many requests.
    RateLimited,
    /// The backend failed or ran past its limit.
    BackendError,
    /// A bug of ours.
    Internal,
    /// Draining or overloaded.
    Unavailable,
}

impl ErrorCode {
    /// The code's name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "INVALID_REQUEST",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Forbidden => "FORBIDDEN",
            Self::SessionNotFound => "SESSION_NOT_FOUND",
            Self::NotFound => "NOT_FOUND",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::Conflict => "CONFLICT",
            Self::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            Self::UnsupportedMediaType => "UNSUPPORTED_MEDIA_TYPE",
            Self::RateLimited => "RATE_LIMITED",
            Self::BackendError => "BACKEND_ERROR",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
        }
    }

    /// The HTTP status that goes with it.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::SessionNotFound | Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::BackendError | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The code for a status that another layer chose.
    pub(super) fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::Unauthorized,
            StatusCode::FORBIDDEN => Self::Forbidden,
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed,
            StatusCode::CONFLICT => Self::Conflict,
            StatusCode::PAYLOAD_TOO_LARGE => Self::PayloadTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::UnsupportedMediaType,
            StatusCode::TOO_MANY_REQUESTS => Self::RateLimited,
            StatusCode::SERVICE_UNAVAILABLE => Self::Unavailable,
            status if status.is_client_error() => Self::InvalidRequest,
            _ => Self::Internal,
        }
    }
}

/// What a handler answers when it cannot do what it was asked.
#[derive(Debug)]
pub struct ApiError {
    code: ErrorCode,
    message: Cow<'static, str>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl ApiError {
    /// An error whose message the client may see.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after: None,
            source: None,
        }
    }

    /// The request is wrong.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::InvalidRequest, message)
    }

    /// Not allowed.
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Forbidden, message)
    }

    /// The wrong state for it.
    pub fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Conflict, message)
    }

    /// The session that the request names, by `text`, is not there.
    pub fn session_not_found(text: &str) -> Self {
        Self::new(
            ErrorCode::SessionNotFound,
            format!("Session with ID '{text}' not found"),
        )
    }

    /// A bug of ours, or trouble that is nobody's business outside: the log has the cause, the client does not.
    pub fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(
            ErrorCode::Internal,
            "something went wrong in the server; its log has the cause, under this answer's x-request-id",
        )
        .with_source(source)
    }

    /// Not now; the client may ask again after `retry_after`.
    pub fn unavailable(message: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        let mut error = Self::new(ErrorCode::Unavailable, message);
        error.retry_after = Some(retry_after);
        error
    }

    /// The same error with the cause that the log shall have.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The code.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// What the client reads.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Writes the one entry of the log for this error, with its whole chain.
    pub fn log(&self) {
        match self.code {
            ErrorCode::Internal => {
                tracing::error!(cause = %Chain(self.source()), "request failed: a bug of ours");
            }
            ErrorCode::BackendError => {
                tracing::warn!(message = %self.message, cause = %Chain(self.source()), "request failed at the backend");
            }
            code => {
                tracing::debug!(code = code.as_str(), message = %self.message, cause = %Chain(self.source()), "request refused");
            }
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for ApiError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let body = json!({"error": {"code": self.code.as_str(), "message": self.message}});
        let mut response = (self.code.status(), Json(body)).into_response();
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs().max(1);
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<SessionError> for ApiError {
    fn from(error: SessionError) -> Self {
        let message = error.to_string();
        match error {
            SessionError::NotFound(_) => Self::new(ErrorCode::SessionNotFound, message),
            SessionError::Invalid { .. } | SessionError::Unsupported(_) => Self::invalid(message),
            SessionError::Forbidden(_) => Self::forbidden(message),
            SessionError::NameTaken(_)
            | SessionError::IdempotencyMismatch
            | SessionError::Conflict(_)
            | SessionError::NotOnOffer { .. } => Self::conflict(message),
            SessionError::Backend { source, .. } => {
                Self::new(ErrorCode::BackendError, message).with_source(source)
            }
            SessionError::BackendUnavailable { .. } => Self::new(ErrorCode::BackendError, message),
            SessionError::ShuttingDown => Self::unavailable(message, Duration::from_secs(5)),
            SessionError::Database(error) => error.into(),
            SessionError::Event(error) => error.into(),
            SessionError::Internal(_) => Self::internal(error),
        }
    }
}

impl From<EventError> for ApiError {
    fn from(error: EventError) -> Self {
        match error {
            EventError::AfterBeyond { .. } => Self::invalid(error.to_string()),
            EventError::Closed => {
                Self::unavailable("the server is stopping", Duration::from_secs(5))
            }
            EventError::NotStored(ref source) => not_now(source).map_or_else(
                || Self::internal(error),
                |(message, wait)| Self::unavailable(message, wait),
            ),
            EventError::Database(error) => error.into(),
        }
    }
}

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        match not_now(&error) {
            Some((message, wait)) => Self::unavailable(message, wait).with_source(error),
            None => Self::internal(error),
        }
    }
}

/// What a client is told of a fault of the database that may pass by itself, and when to ask again.
fn not_now(error: &DbError) -> Option<(&'static str, Duration)> {
    match error {
        DbError::Full(_) => Some((
            "the disk that holds the server's data is full; nothing of this was stored",
            Duration::from_mins(1),
        )),
        DbError::Busy(_) => Some((
            "another program keeps the server's database locked; nothing of this was stored",
            Duration::from_secs(5),
        )),
        _ => None,
    }
}

/// An error and all that caused it, on one line.
struct Chain<'a>(Option<&'a (dyn Error + 'static)>);

/// An error and all that caused it, on one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    Chain(Some(error)).to_string()
}

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut next = self.0;
        let mut first = true;
        while let Some(error) = next {
            if !first {
                f.write_str(": ")?;
            }
            write!(f, "{error}")?;
            first = false;
            next = error.source();
        }
        Ok(())
    }
}
