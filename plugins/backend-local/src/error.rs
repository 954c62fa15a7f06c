//! What can go wrong with a place.

use berth_plugin_api::{Code, Error};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalError {
    #[error("cannot {attempted} {path}: {source}")]
    File {
        attempted: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "{0:?} cannot be the id of a session: letters, digits, '-' and '_', at most 64 of them"
    )]
    Id(String),
    #[error("session {0} has no place here")]
    NoPlace(String),
    #[error("session {id} belongs to another installation of berth ({instance})")]
    Foreign { id: String, instance: String },
    #[error("{path} is damaged: {fault}")]
    Damaged { path: PathBuf, fault: String },
    #[error("the keeper cannot be started from {path}: {source}")]
    Keeper { path: PathBuf, source: io::Error },
    #[error("user {uid} cannot enter {path}, which the keeper needs")]
    Unreachable { uid: u32, path: PathBuf },
    #[error("processes of session {id} are still there {after:?} after they were killed: {pids:?}")]
    Survivors {
        id: String,
        after: Duration,
        pids: Vec<i32>,
    },
}

impl LocalError {
    /// For `map_err`: what was attempted with which path.
    pub(crate) fn file(
        attempted: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            attempted,
            path,
            source,
        }
    }
}

impl From<LocalError> for Error {
    fn from(error: LocalError) -> Self {
        let message = error.to_string();
        match error {
            LocalError::Id(_) => Self::invalid("session.id", message),
            LocalError::NoPlace(_) => Self::not_found(message),
            LocalError::Foreign { .. } => Self::new(Code::AlreadyExists, message),
            LocalError::File { source, .. } => {
                let code = match source.kind() {
                    io::ErrorKind::PermissionDenied => Code::Permission,
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::Exhausted,
                    _ => Code::Internal,
                };
                Self::new(code, message)
            }
            LocalError::Keeper { source, .. } => {
                let code = match source.kind() {
                    io::ErrorKind::OutOfMemory | io::ErrorKind::WouldBlock => Code::Exhausted,
                    _ => Code::Internal,
                };
                Self::new(code, message)
            }
            LocalError::Unreachable { .. } => Self::new(Code::Permission, message).with_hint(
                "let that user enter berth's data folder, or run sessions as the server's user",
            ),
            LocalError::Damaged { .. } | LocalError::Survivors { .. } => {
                Self::new(Code::Internal, message)
            }
        }
    }
}
