//! Who listens: a bounded queue for each subscriber, filled when events are stored.

use super::Event;
use crate::session::SessionId;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How much a subscriber may be behind: more events than the log ever stores at once, and what they hold.
pub(super) const QUEUE_EVENTS: usize = 16 * 1024;
const QUEUE_BYTES: usize = 16 * 1024 * 1024;

/// All subscribers.
#[derive(Debug, Default)]
pub(super) struct Hub {
    state: Mutex<HubState>,
}

#[derive(Debug, Default)]
struct HubState {
    of_one: HashMap<SessionId, Vec<Arc<Queue>>>,
    of_all: Vec<Arc<Queue>>,
    closed: bool,
}

/// What one subscriber has still to read.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    changed: Notify,
    /// Cancelled when a subscriber that reads live has fallen too far behind.
    pub(super) behind: CancellationToken,
}

#[derive(Debug, Default)]
struct QueueState {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// Events were left out since.
    overflowed: bool,
    /// The subscriber reads from here; before, it reads what is stored.
    live: bool,
    closed: bool,
}

/// What a queue gives next.
pub(super) enum Taken {
    Event(Arc<Event>),
    Behind,
    Closed,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// A queue that gets every event published from now on: of one session, or of all.
    pub(super) fn join(&self, session: Option<SessionId>) -> Arc<Queue> {
        let queue = Arc::new(Queue::default());
        let mut state = held(&self.state);
        if state.closed {
            queue.close();
        }
        match session {
            Some(session) => state.of_one.entry(session).or_default(),
            None => &mut state.of_all,
        }
        .push(queue.clone());
        queue
    }

    pub(super) fn leave(&self, session: Option<SessionId>, queue: &Arc<Queue>) {
        let mut state = held(&self.state);
        match session {
            None => state.of_all.retain(|other| !Arc::ptr_eq(other, queue)),
            Some(session) => {
                if let Some(queues) = state.of_one.get_mut(&session) {
                    queues.retain(|other| !Arc::ptr_eq(other, queue));
                    if queues.is_empty() {
                        state.of_one.remove(&session);
                    }
                }
            }
        }
    }

    /// Gives stored events to those who asked for them. Waits for nobody.
    pub(super) fn publish(&self, events: &[Arc<Event>]) {
        let state = held(&self.state);
        for queue in &state.of_all {
            queue.push(events);
        }
        if state.of_one.is_empty() {
            return;
        }
        for run in events.chunk_by(|one, next| one.session_id == next.session_id) {
            let Some(first) = run.first() else { continue };
            for queue in state.of_one.get(&first.session_id).into_iter().flatten() {
                queue.push(run);
            }
        }
    }

    pub(super) fn close(&self) {
        let mut state = held(&self.state);
        state.closed = true;
        let queues = state.of_one.values().flatten().chain(&state.of_all);
        queues.for_each(|queue| queue.close());
    }
}

impl Queue {
    fn push(&self, events: &[Arc<Event>]) {
        let mut state = held(&self.state);
        if state.overflowed || state.closed {
            return;
        }
        for event in events {
            state.bytes += event.json.len();
            state.events.push_back(event.clone());
        }
        if state.events.len() > QUEUE_EVENTS
            || (state.bytes > QUEUE_BYTES && state.events.len() > 1)
        {
            state.events = VecDeque::new();
            state.bytes = 0;
            state.overflowed = true;
            if state.live {
                self.behind.cancel();
            }
        }
        drop(state);
        self.changed.notify_one();
    }

    fn close(&self) {
        held(&self.state).closed = true;
        self.changed.notify_one();
    }

    /// From now on the subscriber reads from here. False: events were left out meanwhile; what is stored has to be read
    /// once more, and everything published from now on is here again.
    pub(super) fn go_live(&self) -> bool {
        let mut state = held(&self.state);
        if state.overflowed {
            state.overflowed = false;
            return false;
        }
        state.live = true;
        true
    }

    /// Gives up: what was left out cannot be found again.
    pub(super) fn fall_behind(&self) {
        held(&self.state).overflowed = true;
        self.behind.cancel();
    }

    /// Waits for the next event. Cancel safe.
    pub(super) async fn take(&self) -> Taken {
        loop {
            {
                let mut state = held(&self.state);
                if state.overflowed {
                    return Taken::Behind;
                }
                if let Some(event) = state.events.pop_front() {
                    state.bytes -= event.json.len();
                    return Taken::Event(event);
                }
                if state.closed {
                    return Taken::Closed;
                }
            }
            self.changed.notified().await;
        }
    }
}
