//! The only place with SQL about sessions.

use super::record::{Record, Spec};
use super::view::View;
use super::{ListFilter, Metadata, SessionId, SessionKey, SessionName};
use crate::db::DbError;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, Row, Sqlite};

/// A session as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SessionRow {
    pub(crate) id: SessionId,
    pub(crate) metadata: Metadata,
    pub(crate) backend: String,
    pub(crate) agent: String,
    pub(crate) prompt: String,
    pub(crate) spec: Spec,
    pub(crate) record: Record,
    /// What was last told of it.
    pub(crate) told: View,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// A session that is gone, but has left something on its backend.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Leftover {
    pub(crate) id: SessionId,
    pub(crate) name: SessionName,
    pub(crate) backend: String,
    pub(crate) record: Record,
}

const COLUMNS: &str = "session_id, name, title, description, tags, backend, agent, prompt, spec, record, status, \
                       activity, health, status_message, created_at, updated_at";

/// Stores a new session.
pub(crate) async fn insert(db: &mut SqliteConnection, row: &SessionRow) -> Result<(), DbError> {
    sqlx::query(
        "insert into session (session_id, name, title, description, tags, backend, agent, prompt, spec, record, \
         status, activity, health, status_message, archived, created_at, updated_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, 0, $15, $16)",
    )
    .bind(row.id.to_string())
    .bind(row.metadata.name.to_string())
    .bind(row.metadata.title.clone())
    .bind(row.metadata.description.clone())
    .bind(json(&row.metadata.tags)?)
    .bind(row.backend.clone())
    .bind(row.agent.clone())
    .bind(row.prompt.clone())
    .bind(json(&row.spec)?)
    .bind(json(&row.record)?)
    .bind(word(&row.told.status)?)
    .bind(word(&row.told.activity)?)
    .bind(word(&row.told.health)?)
    .bind(row.told.message.clone())
    .bind(time(row.created_at))
    .bind(time(row.updated_at))
    .execute(db)
    .await?;
    Ok(())
}

/// Stores what has become of a session.
pub(crate) async fn save(
    db: &mut SqliteConnection,
    id: SessionId,
    record: &Record,
    told: &View,
    at: Timestamp,
) -> Result<(), DbError> {
    sqlx::query(
        "update session set record = $1, status = $2, activity = $3, health = $4, status_message = $5, \
         archived = $6, updated_at = $7 where session_id = $8 and deleted_at is null",
    )
    .bind(json(record)?)
    .bind(word(&told.status)?)
    .bind(word(&told.activity)?)
    .bind(word(&told.health)?)
    .bind(told.message.clone())
    .bind(i64::from(told.status == super::Status::Archived))
    .bind(time(at))
    .bind(id.to_string())
    .execute(db)
    .await?;
    Ok(())
}

/// Stores what people call a session.
pub(crate) async fn save_metadata(
    db: &mut SqliteConnection,
    id: SessionId,
    metadata: &Metadata,
    at: Timestamp,
) -> Result<(), DbError> {
    sqlx::query(
        "update session set name = $1, title = $2, description = $3, tags = $4, updated_at = $5 \
         where session_id = $6 and deleted_at is null",
    )
    .bind(metadata.name.to_string())
    .bind(metadata.title.clone())
    .bind(metadata.description.clone())
    .bind(json(&metadata.tags)?)
    .bind(time(at))
    .bind(id.to_string())
    .execute(db)
    .await?;
    Ok(())
}

/// Takes a session out of the books; its row stays for those who come late.
pub(crate) async fn mark_deleted(
    db: &mut SqliteConnection,
    id: SessionId,
    record: &Record,
    at: Timestamp,
) -> Result<(), DbError> {
    sqlx::query(
        "update session set record = $1, deleted_at = $2, updated_at = $2 where session_id = $3 and deleted_at is null",
    )
    .bind(json(record)?)
    .bind(time(at))
    .bind(id.to_string())
    .execute(db)
    .await?;
    Ok(())
}

/// The session with this id or name, if it is not deleted.
pub(crate) async fn find(db: &SqlitePool, key: &SessionKey) -> Result<Option<SessionRow>, DbError> {
    let (column, value) = match key {
        SessionKey::Id(id) => ("session_id", id.to_string()),
        SessionKey::Name(name) => ("name", name.to_string()),
        SessionKey::Other(_) => return Ok(None),
    };
    let mut query = QueryBuilder::<Sqlite>::new(format!(
        "select {COLUMNS} from session where deleted_at is null and {column} = "
    ));
    query.push_bind(value);
    let row = query.build().fetch_optional(db).await?;
    row.map(|row| read(&row)).transpose()
}

/// Whether a session with this id was deleted and is still on the books.
pub(crate) async fn is_deleted(db: &SqlitePool, id: SessionId) -> Result<bool, DbError> {
    let row = sqlx::query("select 1 from session where session_id = $1 and deleted_at is not null")
        .bind(id.to_string())
        .fetch_optional(db)
        .await?;
    Ok(row.is_some())
}

/// Whether a session that is not deleted has this name.
pub(crate) async fn name_exists(db: &SqlitePool, name: &SessionName) -> Result<bool, DbError> {
    let row = sqlx::query("select 1 from session where name = $1 and deleted_at is null")
        .bind(name.to_string())
        .fetch_optional(db)
        .await?;
    Ok(row.is_some())
}

/// Sessions that are not deleted, newest first; `limit` of them, after the one with id `after`.
pub(crate) async fn list(
    db: &SqlitePool,
    filter: &ListFilter,
    after: Option<SessionId>,
    limit: Option<u32>,
) -> Result<Vec<SessionRow>, DbError> {
    let mut query = QueryBuilder::<Sqlite>::new(format!(
        "select {COLUMNS} from session where deleted_at is null"
    ));
    if !filter.include_archived && filter.status != Some(super::Status::Archived) {
        query.push(" and archived = 0");
    }
    if let Some(status) = filter.status {
        query.push(" and status = ").push_bind(status.as_str());
    }
    if let Some(backend) = &filter.backend {
        query.push(" and backend = ").push_bind(backend.clone());
    }
    if let Some(agent) = &filter.agent {
        query.push(" and agent = ").push_bind(agent.clone());
    }
    if let Some(tag) = &filter.tag {
        let pattern = format!("%{}%", escaped(&json(tag)?));
        query
            .push(" and tags like ")
            .push_bind(pattern)
            .push(" escape '\\'");
    }
    if let Some(text) = &filter.q {
        let pattern = format!("%{}%", escaped(&text.to_lowercase()));
        query.push(" and (");
        for (index, column) in ["name", "title", "description", "prompt"]
            .iter()
            .enumerate()
        {
            if index > 0 {
                query.push(" or ");
            }
            query
                .push(format!("lower({column}) like "))
                .push_bind(pattern.clone())
                .push(" escape '\\'");
        }
        query.push(")");
    }
    if let Some(after) = after {
        query
            .push(" and session_id < ")
            .push_bind(after.to_string());
    }
    query.push(" order by session_id desc");
    if let Some(limit) = limit {
        query.push(" limit ").push_bind(i64::from(limit));
    }
    let rows = query.build().fetch_all(db).await?;
    rows.iter().map(read).collect()
}

/// How many sessions have each status.
pub(crate) async fn count_by_status(db: &SqlitePool) -> Result<Vec<(String, i64)>, DbError> {
    Ok(sqlx::query_as(
        "select status, count(*) from session where deleted_at is null group by status",
    )
    .fetch_all(db)
    .await?)
}

/// Remembers under which key a session was made.
pub(crate) async fn insert_creation_key(
    db: &mut SqliteConnection,
    key: &str,
    body_hash: &str,
    id: SessionId,
    at: Timestamp,
) -> Result<(), DbError> {
    sqlx::query("delete from creation_key where creation_key = $1")
        .bind(key.to_owned())
        .execute(&mut *db)
        .await?;
    sqlx::query(
        "insert into creation_key (creation_key, body_hash, session_id, created_at) values ($1, $2, $3, $4)",
    )
    .bind(key.to_owned())
    .bind(body_hash.to_owned())
    .bind(id.to_string())
    .bind(time(at))
    .execute(db)
    .await?;
    Ok(())
}

/// The body's hash and the session that was made under a key since then.
pub(crate) async fn find_creation_key(
    db: &SqlitePool,
    key: &str,
    since: Timestamp,
) -> Result<Option<(String, SessionId)>, DbError> {
    let row: Option<(String, String)> = sqlx::query_as(
        "select body_hash, session_id from creation_key where creation_key = $1 and created_at >= $2",
    )
    .bind(key.to_owned())
    .bind(time(since))
    .fetch_optional(db)
    .await?;
    row.map(|(hash, id)| Ok((hash, parse(&id, "session_id")?)))
        .transpose()
}

/// Deleted sessions that have left something on a backend.
pub(crate) async fn leftovers(db: &SqlitePool) -> Result<Vec<Leftover>, DbError> {
    let rows = sqlx::query(
        "select session_id, name, backend, record from session where deleted_at is not null",
    )
    .fetch_all(db)
    .await?;
    let mut leftovers = Vec::new();
    for row in rows {
        let record: Record = document(&row, "record")?;
        if record.leftover.is_some() {
            leftovers.push(Leftover {
                id: parse(&row.try_get::<String, _>("session_id")?, "session_id")?,
                name: name(&row)?,
                backend: row.try_get("backend")?,
                record,
            });
        }
    }
    Ok(leftovers)
}

/// A deleted session has nothing on its backend any more.
pub(crate) async fn save_leftover(
    db: &mut SqliteConnection,
    id: SessionId,
    record: &Record,
) -> Result<(), DbError> {
    sqlx::query("update session set record = $1 where session_id = $2 and deleted_at is not null")
        .bind(json(record)?)
        .bind(id.to_string())
        .execute(db)
        .await?;
    Ok(())
}

/// Forgets sessions that were deleted before then, their events and keys too. Answers how many.
pub(crate) async fn purge(db: &mut SqliteConnection, before: Timestamp) -> Result<u64, DbError> {
    let rows = sqlx::query("select session_id, record from session where deleted_at < $1")
        .bind(time(before))
        .fetch_all(&mut *db)
        .await?;
    let mut purged = 0;
    for row in rows {
        let record: Record = document(&row, "record")?;
        if record.leftover.is_some() {
            continue;
        }
        let id: String = row.try_get("session_id")?;
        for statement in [
            "delete from event where session_id = $1",
            "delete from creation_key where session_id = $1",
            "delete from session where session_id = $1",
        ] {
            sqlx::query(statement)
                .bind(id.clone())
                .execute(&mut *db)
                .await?;
        }
        purged += 1;
    }
    Ok(purged)
}

fn read(row: &SqliteRow) -> Result<SessionRow, DbError> {
    Ok(SessionRow {
        id: parse(&row.try_get::<String, _>("session_id")?, "session_id")?,
        metadata: Metadata {
            name: name(row)?,
            title: row.try_get("title")?,
            description: row.try_get("description")?,
            tags: document(row, "tags")?,
        },
        backend: row.try_get("backend")?,
        agent: row.try_get("agent")?,
        prompt: row.try_get("prompt")?,
        spec: document(row, "spec")?,
        record: document(row, "record")?,
        told: View {
            status: enumerated(row, "status")?,
            activity: enumerated(row, "activity")?,
            health: enumerated(row, "health")?,
            message: row.try_get("status_message")?,
        },
        created_at: parse(&row.try_get::<String, _>("created_at")?, "created_at")?,
        updated_at: parse(&row.try_get::<String, _>("updated_at")?, "updated_at")?,
    })
}

fn name(row: &SqliteRow) -> Result<SessionName, DbError> {
    let text: String = row.try_get("name")?;
    SessionName::parse(&text).map_err(|error| DbError::Corrupt(format!("session.name: {error}")))
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
    text: &str,
    column: &str,
) -> Result<T, DbError> {
    text.parse()
        .map_err(|error| DbError::Corrupt(format!("session.{column}: {error}")))
}

fn document<T: DeserializeOwned>(row: &SqliteRow, column: &str) -> Result<T, DbError> {
    let text: String = row.try_get(column)?;
    serde_json::from_str(&text)
        .map_err(|error| DbError::Corrupt(format!("session.{column}: {error}")))
}

fn enumerated<T: DeserializeOwned>(row: &SqliteRow, column: &str) -> Result<T, DbError> {
    let text: String = row.try_get(column)?;
    serde_json::from_value(serde_json::Value::String(text))
        .map_err(|error| DbError::Corrupt(format!("session.{column}: {error}")))
}

fn json(value: &impl Serialize) -> Result<String, DbError> {
    serde_json::to_string(value).map_err(|error| DbError::Corrupt(error.to_string()))
}

/// A unit variant's word on the wire.
fn word(value: &impl Serialize) -> Result<String, DbError> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        _ => Err(DbError::Corrupt("a state that is no word".to_owned())),
    }
}

/// Times sort as text: always three digits of a second.
fn time(at: Timestamp) -> String {
    format!("{at:.3}")
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('%', "\\%")
        .replace('_', "\\_")
}
