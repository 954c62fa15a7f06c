//! The database and the folder that it stands in.
//!
//! `SQLite` in WAL mode: readers never wait for the writer, nor it for them. All writing goes over one connection
//! ([`Database::write`]), so that writers queue in this process instead of failing as busy.
//!
//! What a committed transaction survives: with `synchronous = NORMAL` a commit is a `write` to the WAL, which the kernel
//! keeps however this process ends, `kill -9` included. Only a crash of the machine can lose the commits since the last
//! checkpoint (never corrupt the file): the price of not waiting for the disk at each event.

mod error;
mod folder;

pub use error::DbError;
pub use folder::{DataFolder, FolderError, SessionFolder};

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard};

/// How long a statement waits for another program that holds the database.
const BUSY_LIMIT: Duration = Duration::from_secs(5);
const READERS: u32 = 4;
/// Pages (of 4 KiB) in the WAL after which a commit moves them into the database.
const CHECKPOINT_PAGES: u32 = 4_000;

/// The open database. A cheap clone of one thing.
#[derive(Debug, Clone)]
pub struct Database {
    readers: SqlitePool,
    writer: Arc<Mutex<SqliteConnection>>,
    writer_options: SqliteConnectOptions,
}

impl Database {
    /// Opens the database, makes it where there is none, and brings its tables up to date.
    ///
    /// # Errors
    /// It cannot be opened, is locked by another program, or was written by a newer berth.
    pub async fn open(path: &Path) -> Result<Self, DbError> {
        // `SQLite` would make the file for everyone to read; its journals take the file's mode.
        let mut made = tokio::fs::OpenOptions::new();
        made.write(true).create(true).truncate(false).mode(0o600);
        made.open(path).await.map_err(sqlx::Error::Io)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true)
            .busy_timeout(BUSY_LIMIT)
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES.to_string())
            .pragma("journal_size_limit", (64 * 1024 * 1024).to_string())
            .disable_statement_logging();
        let mut writer = options.connect().await?;
        sqlx::migrate!("./migrations")
            .run(&mut writer)
            .await
            .map_err(DbError::Migrate)?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .min_connections(1)
            .connect_with(options.clone().create_if_missing(false).read_only(true))
            .await?;
        Ok(Self {
            readers,
            writer: Arc::new(Mutex::new(writer)),
            writer_options: options.create_if_missing(false),
        })
    }

    /// Puts a new connection in the place of the one that writes, whose transaction has failed.
    ///
    /// A full disk makes `SQLite` roll back by itself; sqlx's own roll-back then fails, and it counts a transaction as
    /// open for good. Where no new connection can be made, the old one stays until the next failure.
    pub(crate) async fn renew_writer(&self, writer: &mut SqliteConnection) {
        match self.writer_options.connect().await {
            Ok(new) => *writer = new,
            Err(error) => tracing::warn!(%error, "no new connection to the database"),
        }
    }

    /// For reading; sees everything that was committed before.
    pub fn read(&self) -> &SqlitePool {
        &self.readers
    }

    /// The one connection that writes. Hold it for one short transaction.
    pub async fn write(&self) -> MutexGuard<'_, SqliteConnection> {
        self.writer.lock().await
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn check(&self) -> Result<(), DbError> {
        sqlx::query("select 1").execute(&self.readers).await?;
        Ok(())
    }

    /// Writes what the WAL holds into the database and closes the readers.
    pub async fn close(&self) {
        self.readers.close().await;
        let mut writer = self.writer.lock().await;
        if let Err(error) = sqlx::query("pragma wal_checkpoint(truncate)")
            .execute(&mut *writer)
            .await
        {
            tracing::warn!(%error, "the write-ahead log stays: the next start takes it in");
        }
        if let Err(error) = writer.clear_cached_statements().await {
            tracing::debug!(%error, "statements stay open");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn opens_anew_and_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("berth.db");
        for _ in 0..2 {
            let db = Database::open(&path).await.unwrap();
            db.check().await.unwrap();
            for file in std::fs::read_dir(folder.path()).unwrap() {
                let mode = file.unwrap().metadata().unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o600);
            }
            db.close().await;
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_told_and_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let db = Database::open(&folder.path().join("berth.db"))
            .await
            .unwrap();
        let mut writer = db.write().await;
        let (pages,): (i64,) = sqlx::query_as("pragma page_count")
            .fetch_one(&mut *writer)
            .await
            .unwrap();
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "pragma max_page_count = {pages}"
        )))
        .execute(&mut *writer)
        .await
        .unwrap();
        let insert = "insert into session (session_id, name, tags, backend, agent, prompt, spec, record, status, \
                      activity, health, archived, created_at, updated_at) \
                      values ($1, $1, '[]', 'b', 'a', $2, '{}', '{}', 's', 'a', 'h', 0, '', '')";
        let mut failed = None;
        for number in 0..100 {
            let outcome = sqlx::query(insert)
                .bind(number.to_string())
                .bind("x".repeat(2_000))
                .execute(&mut *writer)
                .await;
            if let Err(error) = outcome {
                failed = Some((number, DbError::from(error)));
                break;
            }
        }
        let (stored, error) = failed.expect("the database is full before 100 rows");
        assert!(matches!(error, DbError::Full(_)), "{error:?}");
        drop(writer);
        let (rows,): (i64,) = sqlx::query_as("select count(*) from session")
            .fetch_one(db.read())
            .await
            .unwrap();
        assert_eq!(rows, stored);
    }

    #[tokio::test]
    async fn a_locked_database_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("berth.db");
        drop(Database::open(&path).await.unwrap());
        let mut other = SqliteConnectOptions::new()
            .filename(&path)
            .connect()
            .await
            .unwrap();
        let _held = other.begin_with("begin immediate").await.unwrap();
        let mut second = SqliteConnectOptions::new()
            .filename(&path)
            .busy_timeout(Duration::from_millis(1))
            .connect()
            .await
            .unwrap();
        let error = second
            .begin_with("begin immediate")
            .await
            .map(drop)
            .unwrap_err();
        let error = DbError::from(error);
        assert!(matches!(error, DbError::Busy(_)), "{error:?}");
    }
}
