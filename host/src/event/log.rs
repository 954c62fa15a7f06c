//! The log's one writer: it gathers what came while it last wrote, and stores it in one transaction.

use super::hub::Hub;
use super::store::{self, Keyed};
use super::wire::render;
use super::{Event, EventError, EventKind, EventPage, NewEvent, Subscription};
use crate::db::{Database, DbError};
use crate::session::SessionId;
use async_trait::async_trait;
use jiff::{Timestamp, TimestampRound, Unit};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Sqlite, Transaction};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

/// Requests that one transaction takes in.
const BATCH_REQUESTS: usize = 512;
/// Events after which a transaction takes in no further request.
const BATCH_EVENTS: usize = 4_096;

/// A change that is stored in one transaction with events, or not at all.
#[async_trait]
pub trait Along: Send {
    /// Makes the change. When it fails, neither it nor its events are stored.
    async fn apply(self: Box<Self>, db: &mut SqliteConnection) -> Result<(), DbError>;
}

/// The durable events of all sessions. A cheap clone of one log.
#[derive(Debug, Clone)]
pub struct EventLog {
    db: Database,
    hub: Arc<Hub>,
    requests: mpsc::Sender<Request>,
    tasks: TaskTracker,
}

struct Request {
    session: SessionId,
    events: Vec<NewEvent>,
    along: Option<Box<dyn Along>>,
    reply: oneshot::Sender<Result<Vec<Arc<Event>>, EventError>>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("session", &self.session)
            .field("events", &self.events.len())
            .finish_non_exhaustive()
    }
}

impl EventLog {
    /// A log on this database. Needs a Tokio runtime, on which its writer runs until [`close`](Self::close).
    pub fn open(db: Database) -> Self {
        let hub = Arc::new(Hub::default());
        let (requests, inbox) = mpsc::channel(BATCH_REQUESTS * 2);
        let tasks = TaskTracker::new();
        tasks.spawn(
            Writer {
                db: db.clone(),
                hub: hub.clone(),
                newest: HashMap::new(),
            }
            .run(inbox),
        );
        tasks.close();
        Self {
            db,
            hub,
            requests,
            tasks,
        }
    }

    /// Stores events under the session's next numbers, then tells them to subscribers. An event whose source key is
    /// stored already is left out of the answer. Once called, dropping the future does not take the events back.
    ///
    /// # Errors
    /// Nothing was stored.
    pub async fn append(
        &self,
        session: SessionId,
        events: Vec<NewEvent>,
    ) -> Result<Vec<Arc<Event>>, EventError> {
        self.submit(session, events, None).await
    }

    /// Like [`append`](Self::append), in one transaction with another change.
    ///
    /// # Errors
    /// Nothing was stored, the change neither.
    pub async fn append_along(
        &self,
        session: SessionId,
        events: Vec<NewEvent>,
        along: impl Along + 'static,
    ) -> Result<Vec<Arc<Event>>, EventError> {
        self.submit(session, events, Some(Box::new(along))).await
    }

    async fn submit(
        &self,
        session: SessionId,
        events: Vec<NewEvent>,
        along: Option<Box<dyn Along>>,
    ) -> Result<Vec<Arc<Event>>, EventError> {
        let (reply, answer) = oneshot::channel();
        let request = Request {
            session,
            events,
            along,
            reply,
        };
        self.requests
            .send(request)
            .await
            .map_err(|_| EventError::Closed)?;
        answer.await.map_err(|_| EventError::Closed)?
    }

    /// The number of the session's newest event; 0 when it has none.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn newest(&self, session: SessionId) -> Result<u64, EventError> {
        Ok(store::newest(self.db.read(), session).await?)
    }

    /// Up to `limit` events after `after`, oldest first.
    ///
    /// # Errors
    /// `after` is beyond the newest event, or the database does not answer.
    pub async fn page(
        &self,
        session: SessionId,
        after: u64,
        limit: usize,
    ) -> Result<EventPage, EventError> {
        let mut events = store::page(self.db.read(), session, after, limit + 1).await?;
        if events.is_empty() {
            let newest = self.newest(session).await?;
            if after > newest {
                return Err(EventError::AfterBeyond { after, newest });
            }
        }
        let more = events.len() > limit;
        events.truncate(limit);
        let next_after = events.last().map(|event| event.seq).filter(|_| more);
        Ok(EventPage { events, next_after })
    }

    /// All events of one kind, oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn of_kind(
        &self,
        session: SessionId,
        kind: EventKind,
    ) -> Result<Vec<Arc<Event>>, EventError> {
        Ok(store::of_kind(self.db.read(), session, kind).await?)
    }

    /// The session's events after `after`, then live; without it only those to come.
    ///
    /// # Errors
    /// `after` is beyond the newest event, or the database does not answer.
    pub async fn subscribe(
        &self,
        session: SessionId,
        after: Option<u64>,
    ) -> Result<Subscription, EventError> {
        Subscription::to_one(self.db.clone(), self.hub.clone(), session, after).await
    }

    /// Every session's events from now on, after a replay of those named. A number beyond its session's newest event is
    /// refused, and the rest stands.
    pub async fn subscribe_all(
        &self,
        after: Vec<(SessionId, u64)>,
    ) -> (Subscription, Vec<(SessionId, EventError)>) {
        let mut subscription = Subscription::to_all(self.db.clone(), self.hub.clone());
        let mut refused = Vec::new();
        for (session, after) in after {
            if let Err(error) = subscription.replay(session, after).await {
                refused.push((session, error));
            }
        }
        (subscription, refused)
    }

    /// Stores what was appended so far, then ends; subscribers get [`Delivery::Closed`](super::Delivery::Closed) once
    /// they have read everything. Clones of the log must be gone or unused by then.
    pub async fn close(self) {
        let Self {
            hub,
            requests,
            tasks,
            ..
        } = self;
        let (reply, done) = oneshot::channel();
        let last = Request {
            session: SessionId::generate(),
            events: Vec::new(),
            along: None,
            reply,
        };
        if requests.send(last).await.is_ok() {
            // An error means that the writer is gone already.
            done.await.ok();
        }
        drop(requests);
        hub.close();
        tasks.close();
    }
}

/// A request less the way back to who made it.
struct Work {
    session: SessionId,
    events: Vec<NewEvent>,
    along: Option<Box<dyn Along>>,
}

struct Writer {
    db: Database,
    hub: Arc<Hub>,
    /// The newest number of each session that was written to.
    newest: HashMap<SessionId, u64>,
}

/// What a request became: its events, as far as they are new.
type Staged = Result<Vec<Arc<Event>>, DbError>;

impl Writer {
    async fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        let mut batch = Vec::new();
        while inbox.recv_many(&mut batch, BATCH_REQUESTS).await > 0 {
            while !batch.is_empty() {
                let mut events = 0;
                let fits = batch
                    .iter()
                    .take_while(|request| {
                        let fits = events < BATCH_EVENTS;
                        events += request.events.len();
                        fits
                    })
                    .count();
                let rest = batch.split_off(fits);
                self.write(std::mem::replace(&mut batch, rest)).await;
            }
        }
        self.hub.close();
    }

    async fn write(&mut self, batch: Vec<Request>) {
        let sessions: Vec<SessionId> = batch.iter().map(|request| request.session).collect();
        let (work, replies): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|request| {
                let work = Work {
                    session: request.session,
                    events: request.events,
                    along: request.along,
                };
                (work, request.reply)
            })
            .unzip();
        let db = self.db.clone();
        let mut connection = db.write().await;
        match self.store(&mut connection, work).await {
            Ok(outcomes) => {
                // Told while the connection is held, so that the order of telling is that of storing.
                let stored: Vec<Arc<Event>> = outcomes
                    .iter()
                    .filter_map(|outcome| outcome.as_ref().ok())
                    .flatten()
                    .cloned()
                    .collect();
                self.hub.publish(&stored);
                drop(connection);
                for event in stored.iter().filter(|event| event.is_last()) {
                    self.newest.remove(&event.session_id);
                }
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    // Who asked may have gone; the events are stored all the same.
                    reply.send(outcome.map_err(EventError::from)).ok();
                }
            }
            Err(error) => {
                db.renew_writer(&mut connection).await;
                drop(connection);
                for session in sessions {
                    self.newest.remove(&session);
                }
                let error = Arc::new(error);
                tracing::error!(error = %chain(&error), "events could not be stored");
                for reply in replies {
                    reply.send(Err(EventError::NotStored(error.clone()))).ok();
                }
            }
        }
    }

    async fn store(
        &mut self,
        connection: &mut SqliteConnection,
        work: Vec<Work>,
    ) -> Result<Vec<Staged>, DbError> {
        let mut tx = connection.begin_with("begin immediate").await?;
        let mut rows = Vec::new();
        let mut outcomes = Vec::with_capacity(work.len());
        for Work {
            session,
            events,
            along,
        } in work
        {
            if let Some(along) = along {
                let mut point = tx.begin().await?;
                match along.apply(&mut point).await {
                    Ok(()) => point.commit().await?,
                    Err(error @ DbError::Full(_)) => return Err(error),
                    Err(error) => {
                        point.rollback().await?;
                        outcomes.push(Err(error));
                        continue;
                    }
                }
            }
            let first = rows.len();
            self.stage(&mut tx, session, events, &mut rows).await?;
            let staged = rows[first..].iter().map(|row| row.event.clone()).collect();
            outcomes.push(Ok(staged));
        }
        store::insert(&mut tx, &rows).await?;
        tx.commit().await?;
        Ok(outcomes)
    }

    /// Numbers and renders events, and leaves out those whose key is known.
    async fn stage(
        &mut self,
        tx: &mut Transaction<'_, Sqlite>,
        session: SessionId,
        events: Vec<NewEvent>,
        rows: &mut Vec<Keyed>,
    ) -> Result<(), DbError> {
        if events.is_empty() {
            return Ok(());
        }
        let mut newest = match self.newest.get(&session) {
            Some(newest) => *newest,
            None => store::newest(&mut **tx, session).await?,
        };
        let keys: Vec<&str> = events
            .iter()
            .filter_map(|event| event.source_key.as_deref())
            .collect();
        let mut known: HashSet<String> = HashSet::new();
        if !keys.is_empty() {
            known = store::known_keys(tx, session, &keys).await?;
            let staged = rows
                .iter()
                .filter(|row| row.event.session_id == session)
                .filter_map(|row| row.source_key.clone());
            known.extend(staged);
        }
        let at = now();
        for NewEvent { body, source_key } in events {
            if let Some(key) = &source_key
                && !known.insert(key.clone())
            {
                continue;
            }
            newest += 1;
            rows.push(Keyed {
                event: Arc::new(render(session, newest, at, &body)),
                source_key,
            });
        }
        self.newest.insert(session, newest);
        Ok(())
    }
}

/// This moment, to the millisecond: what is stored and told.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    now.round(TimestampRound::new().smallest(Unit::Millisecond))
        .unwrap_or(now)
}

/// An error and all that it stands on, for the log.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
