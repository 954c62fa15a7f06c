//! Replay, then live: without a gap, without a repeat.
//!
//! A subscriber joins the hub first and reads what is stored afterwards, so what is stored later is in its queue, and
//! what it reads twice it knows by its number. A number that is missing in the queue is read from what is stored.

use super::hub::{Hub, Queue, Taken};
use super::{Event, EventError, store};
use crate::db::Database;
use crate::session::SessionId;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Events that are read from the database at once.
const REPLAY_PAGE: usize = 500;

/// A place in the stream of one session's events, or of all.
#[derive(Debug)]
pub struct Subscription {
    db: Database,
    hub: Arc<Hub>,
    queue: Arc<Queue>,
    /// The one session; `None` for all.
    session: Option<SessionId>,
    newest: Option<u64>,
    /// The last number that was given, of each session that was replayed or heard of.
    given: HashMap<SessionId, u64>,
    /// Sessions whose stored events have to be read, from their last given number on.
    replays: VecDeque<SessionId>,
    page: VecDeque<Arc<Event>>,
    live: bool,
}

/// What a subscription gives next.
#[derive(Debug, Clone)]
pub enum Delivery {
    Event(Arc<Event>),
    /// The subscriber did not keep up: it gets nothing more, and resumes by `after`.
    Behind,
    /// The log was closed.
    Closed,
}

impl Subscription {
    pub(super) async fn to_one(
        db: Database,
        hub: Arc<Hub>,
        session: SessionId,
        after: Option<u64>,
    ) -> Result<Self, EventError> {
        let mut subscription = Self::join(db, hub, Some(session));
        let newest = store::newest(subscription.db.read(), session).await?;
        if let Some(after) = after.filter(|after| *after > newest) {
            return Err(EventError::AfterBeyond { after, newest });
        }
        subscription.newest = Some(newest);
        subscription.given.insert(session, after.unwrap_or(newest));
        if after.is_some_and(|after| after < newest) {
            subscription.replays.push_back(session);
        }
        Ok(subscription)
    }

    /// The caller has checked that no number is beyond its session's newest event.
    pub(super) fn to_all(db: Database, hub: Arc<Hub>) -> Self {
        Self::join(db, hub, None)
    }

    /// Replays one more session of a subscription to all, before anything live.
    pub(super) async fn replay(
        &mut self,
        session: SessionId,
        after: u64,
    ) -> Result<(), EventError> {
        let newest = store::newest(self.db.read(), session).await?;
        if after > newest {
            return Err(EventError::AfterBeyond { after, newest });
        }
        self.given.insert(session, after);
        self.replays.push_back(session);
        Ok(())
    }

    fn join(db: Database, hub: Arc<Hub>, session: Option<SessionId>) -> Self {
        let queue = hub.join(session);
        Self {
            db,
            hub,
            queue,
            session,
            newest: None,
            given: HashMap::new(),
            replays: VecDeque::new(),
            page: VecDeque::new(),
            live: false,
        }
    }

    /// The newest event's number when the subscription was made; `None` for one to all sessions.
    pub fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// The next event. Cancel safe: an event is lost only with the subscription.
    ///
    /// # Errors
    /// Older events could not be read; the next call tries again.
    pub async fn next(&mut self) -> Result<Delivery, EventError> {
        loop {
            if let Some(event) = self.page.pop_front() {
                self.given.insert(event.session_id, event.seq);
                return Ok(Delivery::Event(event));
            }
            if let Some(session) = self.replays.front().copied() {
                let after = self.given.get(&session).copied().unwrap_or(0);
                let page = store::page(self.db.read(), session, after, REPLAY_PAGE).await?;
                if page.len() < REPLAY_PAGE {
                    self.replays.pop_front();
                }
                self.page = page.into();
                continue;
            }
            if !self.live {
                self.live = self.queue.go_live();
                if !self.live {
                    self.read_again();
                    continue;
                }
            }
            match self.queue.take().await {
                Taken::Behind => return Ok(Delivery::Behind),
                Taken::Closed => return Ok(Delivery::Closed),
                Taken::Event(event) => {
                    let given = self.given.get(&event.session_id).copied();
                    match given {
                        Some(given) if event.seq <= given => {}
                        Some(given) if event.seq > given + 1 => {
                            self.replays.push_back(event.session_id);
                        }
                        _ => {
                            self.given.insert(event.session_id, event.seq);
                            if event.is_last() && self.session.is_none() {
                                self.given.remove(&event.session_id);
                            }
                            return Ok(Delivery::Event(event));
                        }
                    }
                }
            }
        }
    }

    /// Events were left out of the queue while stored ones were read. Of sessions that are known they are stored; of
    /// others nobody knows where they begin.
    fn read_again(&mut self) {
        match self.session {
            Some(session) => self.replays.push_back(session),
            None => self.queue.fall_behind(),
        }
        if self.session.is_none() {
            self.live = true;
        }
    }

    /// Completes when this subscriber has fallen too far behind, even while nobody calls [`next`](Self::next): for a
    /// handler that is stuck in sending.
    pub fn fallen_behind(&self) -> impl Future<Output = ()> + Send + 'static {
        self.queue.behind.clone().cancelled_owned()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.leave(self.session, &self.queue);
    }
}
