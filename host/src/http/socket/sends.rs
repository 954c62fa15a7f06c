//! Messages on their way to agents: in order for each session, and no session waits for another.

use super::message::{Problem, SendMessage};
use crate::http::error::ApiError;
use crate::session::{SessionError, SessionKey, Sessions};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;

/// How many may wait before the client is listened to no more.
const MOST: usize = 64;

/// What one client has sent and what was not answered yet.
pub(super) struct Sends {
    sessions: Sessions,
    /// What waits behind the one under way, by session; a session that is here has one under way.
    waiting: BTreeMap<String, VecDeque<SendMessage>>,
    under_way: FuturesUnordered<BoxFuture<'static, (String, String)>>,
    count: usize,
}

impl fmt::Debug for Sends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sends")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

impl Sends {
    pub(super) fn new(sessions: Sessions) -> Self {
        Self {
            sessions,
            waiting: BTreeMap::new(),
            under_way: FuturesUnordered::new(),
            count: 0,
        }
    }

    pub(super) fn takes_more(&self) -> bool {
        self.count < MOST
    }

    pub(super) fn push(&mut self, send: SendMessage) {
        self.count += 1;
        if let Some(waiting) = self.waiting.get_mut(&send.session) {
            waiting.push_back(send);
        } else {
            self.waiting.insert(send.session.clone(), VecDeque::new());
            self.begin(send);
        }
    }

    /// The next answer; waits for ever while nothing is under way. Cancel safe.
    pub(super) async fn next(&mut self) -> String {
        let Some((session, answer)) = self.under_way.next().await else {
            return std::future::pending().await;
        };
        self.count -= 1;
        match self.waiting.get_mut(&session).and_then(VecDeque::pop_front) {
            Some(send) => self.begin(send),
            None => {
                self.waiting.remove(&session);
            }
        }
        answer
    }

    fn begin(&mut self, send: SendMessage) {
        let sessions = self.sessions.clone();
        self.under_way.push(Box::pin(async move {
            let key = SessionKey::parse(&send.session);
            let accepted = async {
                let accepted = sessions.send_message(&key, &send.content).await?;
                let id = match key {
                    SessionKey::Id(id) => id,
                    key => sessions.resolve(&key).await?,
                };
                Ok::<_, SessionError>((accepted, id))
            };
            let answer = match accepted.await {
                Ok((accepted, session)) => {
                    let mut answer = json!({
                        "type": "message_accepted",
                        "session_id": session,
                        "held": accepted.held,
                    });
                    if let Some(id) = send.id {
                        answer["id"] = id;
                    }
                    answer.to_string()
                }
                Err(error) => Problem::from_error(&ApiError::from(error))
                    .about(&send.session)
                    .answering(send.id.as_ref())
                    .text(),
            };
            (send.session, answer)
        }));
    }
}
