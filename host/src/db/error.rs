//! What can be wrong with a database, sorted by what a person does about it.

/// The database failed; nothing of the change was stored.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    #[error("no room is left on the disk that holds the database")]
    Full(#[source] sqlx::Error),
    #[error("another program keeps the database locked")]
    Busy(#[source] sqlx::Error),
    #[error("the database's tables could not be brought up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// What a column holds is not what its rule says.
    #[error("the database holds what berth did not write: {0}")]
    Corrupt(String),
    #[error("the database failed")]
    Other(#[source] sqlx::Error),
}

/// `SQLite`'s primary result codes, <https://www.sqlite.org/rescode.html>; extended codes hold them in the low byte.
const BUSY: i64 = 5;
const LOCKED: i64 = 6;
const FULL: i64 = 13;

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        let code = error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code)
            .and_then(|code| code.parse::<i64>().ok())
            .map(|code| code & 0xff);
        match code {
            Some(BUSY | LOCKED) => Self::Busy(error),
            Some(FULL) => Self::Full(error),
            _ => Self::Other(error),
        }
    }
}

impl DbError {
    /// A unique index refused the change.
    pub fn is_unique_violation(&self) -> bool {
        matches!(self, Self::Other(error)
            if error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation))
    }
}
