//! What one client hears: sessions it named, all of them, or both, each event once.

use super::message::{ALL, Problem, Subscribe};
use crate::event::{Delivery, Event, EventError, Subscription};
use crate::http::error::ApiError;
use crate::session::{SessionError, SessionId, SessionKey, Sessions};
use futures_util::future::{AbortHandle, Abortable, BoxFuture};
use futures_util::stream::{self, BoxStream, SelectAll};
use futures_util::{FutureExt, StreamExt};
use serde_json::json;
use std::collections::HashMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::task::Poll;

/// How many sessions a client may name.
const MOST: usize = 4096;

type Delivered = Result<Delivery, EventError>;

/// The subscriptions of one client.
#[derive(Default)]
pub(super) struct Subscriptions {
    /// What each of them gives, with its key.
    deliveries: SelectAll<Abortable<BoxStream<'static, (u64, Delivered)>>>,
    last_key: u64,
    named: HashMap<SessionId, Named>,
    all: Option<Live>,
}

/// A subscription; dropped, it gives nothing more.
struct Live {
    key: u64,
    abort: AbortHandle,
    behind: BoxFuture<'static, ()>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

/// A session that the client named, or did name while it hears all.
struct Named {
    live: Live,
    /// The client's own word for it.
    called: String,
    /// Where it began: what came earlier is told by the subscription to all, if there is one.
    from: u64,
    /// The client has not taken it back.
    wanted: bool,
}

impl fmt::Debug for Subscriptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriptions")
            .field("named", &self.named.len())
            .field("all", &self.all.is_some())
            .finish_non_exhaustive()
    }
}

impl Subscriptions {
    /// Begins to hear of something, and gives what the client is to be told about it, in order.
    pub(super) async fn add(
        &mut self,
        sessions: &Sessions,
        subscribe: Subscribe,
    ) -> Result<Vec<String>, Problem> {
        match subscribe {
            Subscribe::One { session, after } => self.add_one(sessions, &session, after).await,
            Subscribe::All { after, problems } => {
                let named: Vec<String> = after.keys().cloned().collect();
                let subscribed = sessions
                    .subscribe_all(after)
                    .await
                    .map_err(|error| problem(error).about(ALL))?;
                // What is told from an earlier point now is told by the subscription to all.
                for session in named {
                    if let Ok(id) = session.parse() {
                        self.named.remove(&id);
                    }
                }
                self.all = None;
                self.all = Some(self.begin(subscribed.subscription));
                let mut answers =
                    vec![json!({"type": "subscribed", "session_id": ALL}).to_string()];
                answers.extend(problems.iter().map(Problem::text));
                answers.extend(
                    subscribed
                        .refused
                        .into_iter()
                        .map(|(session, error)| problem(error).about(&session).text()),
                );
                Ok(answers)
            }
        }
    }

    async fn add_one(
        &mut self,
        sessions: &Sessions,
        session: &str,
        after: Option<u64>,
    ) -> Result<Vec<String>, Problem> {
        if self.named.len() >= MOST {
            return Err(Problem::invalid(format!(
                "a socket may subscribe to {MOST} sessions by name; \"*\" is all of them"
            ))
            .about(session));
        }
        let key = SessionKey::parse(session);
        let about = |error| problem(error).about(session);
        let subscription = sessions.subscribe(&key, after).await.map_err(about)?;
        let id = match key {
            SessionKey::Id(id) => id,
            key => sessions.resolve(&key).await.map_err(about)?,
        };
        let newest = subscription.newest();
        match self.named.get_mut(&id) {
            // Again, from no other point: it goes on where it is.
            Some(named) if after.is_none() => named.wanted = true,
            _ => {
                let live = self.begin(subscription);
                let named = Named {
                    live,
                    called: session.to_owned(),
                    from: after.or(newest).unwrap_or_default(),
                    wanted: true,
                };
                self.named.insert(id, named);
            }
        }
        let answer = json!({"type": "subscribed", "session_id": id, "seq": newest});
        Ok(vec![answer.to_string()])
    }

    fn begin(&mut self, subscription: Subscription) -> Live {
        self.last_key += 1;
        let key = self.last_key;
        let (abort, registration) = AbortHandle::new_pair();
        let behind = subscription.fallen_behind().boxed();
        let deliveries = deliveries(key, subscription).boxed();
        self.deliveries
            .push(Abortable::new(deliveries, registration));
        Live { key, abort, behind }
    }

    /// Hears no more of something; what is not heard of is no fault.
    pub(super) fn remove(&mut self, session: &str) {
        if session == ALL {
            self.all = None;
            self.named.retain(|_, named| named.wanted);
            return;
        }
        let asked: Option<SessionId> = session.parse().ok();
        let is_meant =
            |id: &SessionId, named: &Named| asked == Some(*id) || named.called == session;
        if self.all.is_some() {
            // It is still heard of, and goes on where it is.
            for (id, named) in &mut self.named {
                if is_meant(id, named) {
                    named.wanted = false;
                }
            }
        } else {
            self.named.retain(|id, named| !is_meant(id, named));
        }
    }

    /// The next event or end, and the key of the subscription it came by; waits for ever while there is none. Cancel safe.
    pub(super) async fn next(&mut self) -> (u64, Delivered) {
        match self.deliveries.next().await {
            Some(delivered) => delivered,
            None => std::future::pending().await,
        }
    }

    /// Whether an event is to be sent: the subscription to all leaves out what a named one tells.
    pub(super) fn wants(&self, key: u64, event: &Event) -> bool {
        let by_all = self.all.as_ref().is_some_and(|all| all.key == key);
        !by_all
            || self
                .named
                .get(&event.session_id)
                .is_none_or(|named| event.seq <= named.from)
    }

    /// A session's last event was told by this subscription.
    pub(super) fn ended(&mut self, key: u64, event: &Event) {
        let named = self.named.get(&event.session_id);
        if named.is_some_and(|named| named.live.key == key) {
            self.named.remove(&event.session_id);
        }
    }

    /// Completes when the client has fallen behind in any of its subscriptions.
    pub(super) fn fallen_behind(&mut self) -> impl Future<Output = ()> + '_ {
        poll_fn(|context| {
            let named = self.named.values_mut().map(|named| &mut named.live);
            let any = self
                .all
                .iter_mut()
                .chain(named)
                .any(|live| live.behind.poll_unpin(context).is_ready());
            if any { Poll::Ready(()) } else { Poll::Pending }
        })
    }
}

/// What a subscription gives, up to its end.
fn deliveries(
    key: u64,
    subscription: Subscription,
) -> impl stream::Stream<Item = (u64, Delivered)> + Send {
    stream::unfold(Some(subscription), move |subscription| async move {
        let mut subscription = subscription?;
        let delivered = subscription.next().await;
        let goes_on = matches!(delivered, Ok(Delivery::Event(_)));
        Some(((key, delivered), goes_on.then_some(subscription)))
    })
}

fn problem(error: SessionError) -> Problem {
    Problem::from_error(&ApiError::from(error))
}
