//! The database and the folder that it stands in.

use std::path::PathBuf;

/// The database failed.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// No room is left; nothing of the change was stored.
    #[error("the disk that holds {} is full", .0.display())]
    Full(PathBuf),
    #[error("the database failed")]
    Sqlx(#[from] sqlx::Error),
}
