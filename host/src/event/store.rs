//! The only place with SQL about events.

use super::{Event, EventKind};
use crate::db::DbError;
use crate::session::SessionId;
use bytes::Bytes;
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, QueryBuilder, Row, Sqlite};
use std::collections::HashSet;
use std::sync::Arc;

/// An event and the key under which it is stored once.
pub(super) struct Keyed {
    pub(super) event: Arc<Event>,
    pub(super) source_key: Option<String>,
}

/// Rows that one statement inserts; a few sizes only, so that statements stay prepared.
const BLOCKS: [usize; 5] = [256, 64, 16, 4, 1];

fn insert_statement(rows: usize) -> String {
    let values: Vec<String> = (0..rows)
        .map(|row| {
            let places: Vec<String> = (1..=5)
                .map(|column| format!("${}", row * 5 + column))
                .collect();
            format!("({})", places.join(","))
        })
        .collect();
    format!(
        "insert into event (session_id, seq, kind, source_key, json) values {}",
        values.join(",")
    )
}

/// Stores events; their numbers must be free.
pub(super) async fn insert(db: &mut SqliteConnection, mut rows: &[Keyed]) -> Result<(), DbError> {
    while !rows.is_empty() {
        let size = BLOCKS
            .into_iter()
            .find(|size| *size <= rows.len())
            .unwrap_or(1);
        let (block, rest) = rows.split_at(size);
        let mut query = sqlx::query(AssertSqlSafe(insert_statement(size)));
        for row in block {
            query = query
                .bind(row.event.session_id.to_string())
                .bind(number(row.event.seq))
                .bind(row.event.kind.as_str())
                .bind(row.source_key.clone())
                .bind(row.event.text().to_owned());
        }
        query.execute(&mut *db).await?;
        rows = rest;
    }
    Ok(())
}

/// The number of the newest event; 0 where there is none.
pub(super) async fn newest<'e>(
    db: impl sqlx::Executor<'e, Database = Sqlite>,
    session: SessionId,
) -> Result<u64, DbError> {
    let (newest,): (Option<i64>,) =
        sqlx::query_as("select max(seq) from event where session_id = $1")
            .bind(session.to_string())
            .fetch_one(db)
            .await?;
    Ok(newest.unwrap_or(0).cast_unsigned())
}

/// Which of these keys are stored already.
pub(super) async fn known_keys(
    db: &mut SqliteConnection,
    session: SessionId,
    keys: &[&str],
) -> Result<HashSet<String>, DbError> {
    let mut known = HashSet::new();
    for block in keys.chunks(500) {
        let mut query = QueryBuilder::new("select source_key from event where session_id = ");
        query.push_bind(session.to_string());
        query.push(" and source_key in (");
        let mut list = query.separated(", ");
        for key in block {
            list.push_bind((*key).to_owned());
        }
        query.push(")");
        let rows: Vec<(String,)> = query.build_query_as().fetch_all(&mut *db).await?;
        known.extend(rows.into_iter().map(|(key,)| key));
    }
    Ok(known)
}

/// Events after `after`, oldest first, up to `limit`.
pub(super) async fn page(
    db: &SqlitePool,
    session: SessionId,
    after: u64,
    limit: usize,
) -> Result<Vec<Arc<Event>>, DbError> {
    let rows = sqlx::query(
        "select seq, kind, json from event where session_id = $1 and seq > $2 order by seq limit $3",
    )
    .bind(session.to_string())
    .bind(number(after))
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(db)
    .await?;
    rows.into_iter().map(|row| read(session, &row)).collect()
}

/// All events of one kind, oldest first.
pub(super) async fn of_kind(
    db: &SqlitePool,
    session: SessionId,
    kind: EventKind,
) -> Result<Vec<Arc<Event>>, DbError> {
    let rows = sqlx::query(
        "select seq, kind, json from event where session_id = $1 and kind = $2 order by seq",
    )
    .bind(session.to_string())
    .bind(kind.as_str())
    .fetch_all(db)
    .await?;
    rows.into_iter().map(|row| read(session, &row)).collect()
}

fn read(session_id: SessionId, row: &SqliteRow) -> Result<Arc<Event>, DbError> {
    let kind: String = row.try_get("kind")?;
    let seq: i64 = row.try_get("seq")?;
    let json: String = row.try_get("json")?;
    let kind = EventKind::parse(&kind)
        .ok_or_else(|| DbError::Corrupt(format!("event kind {kind:?} of session {session_id}")))?;
    Ok(Arc::new(Event {
        session_id,
        seq: seq.cast_unsigned(),
        kind,
        json: Bytes::from(json),
    }))
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
