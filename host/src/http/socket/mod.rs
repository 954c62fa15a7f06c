//! `/ws/events`: one WebSocket, any number of subscriptions.
//!
//! One task owns a socket. It takes the client's messages, polls the subscriptions, and writes; nothing waits for it but
//! the client itself. What it has not sent yet stands in the event log, not here, so a slow client costs no memory; one
//! that falls too far behind is closed with 1013 and resumes by `after`.

mod message;
mod sends;
mod subscriptions;

use super::error::ApiError;
use super::extract::{NoQuery, Query};
use super::state::AppState;
use crate::app::Core;
use crate::event::Delivery;
use axum::Router;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::get;
use futures_util::{FutureExt, SinkExt, StreamExt};
use message::{ClientMessage, Problem, Subscribe};
use sends::Sends;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use subscriptions::Subscriptions;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite;

/// The largest message that a client may send.
const MESSAGE_LIMIT: usize = 1024 * 1024;
/// How often a client is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// After how long without a word from it, pongs included, a client counts as gone.
const SILENCE_LIMIT: Duration = Duration::from_secs(90);
/// How long a client that is being closed has to take what was sent to it before.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);
/// How many events, and of how many bytes, are written before the client is listened to again.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 256 * 1024;

const GOING_AWAY: u16 = 1001;
const WRONG_DATA: u16 = 1007;
const TOO_LARGE: u16 = 1009;
const TRY_AGAIN_LATER: u16 = 1013;

pub(super) fn routes() -> Router<AppState> {
    Router::new().route("/ws/events", get(events))
}

async fn events(
    State(state): State<AppState>,
    Query(NoQuery {}): Query<NoQuery>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, ApiError> {
    let core = state.core().await?;
    let upgrade = upgrade
        .max_message_size(MESSAGE_LIMIT)
        .max_frame_size(MESSAGE_LIMIT)
        .read_buffer_size(4096);
    Ok(upgrade.on_upgrade(move |socket| {
        let tasks = state.tasks().clone();
        tasks.track_future(async move {
            let _counted = state.metrics().event_sockets.one();
            Client::new(state.clone(), core, socket).run().await;
        })
    }))
}

/// Why a socket is closed.
struct Farewell {
    code: u16,
    reason: &'static str,
}

/// The client is gone: nothing can be sent any more.
struct Gone;

struct Client {
    state: AppState,
    core: Arc<Core>,
    socket: WebSocket,
    subscriptions: Subscriptions,
    sends: Sends,
    heard: Instant,
}

impl Client {
    fn new(state: AppState, core: Arc<Core>, socket: WebSocket) -> Self {
        Self {
            sends: Sends::new(core.sessions.clone()),
            subscriptions: Subscriptions::default(),
            state,
            core,
            socket,
            heard: Instant::now(),
        }
    }

    async fn run(mut self) {
        if let Ok(farewell) = self.serve().await {
            self.close(farewell).await;
        }
    }

    /// Serves until the client is to be closed, or is gone.
    async fn serve(&mut self) -> Result<Farewell, Gone> {
        let shutdown = self.state.shutdown().clone();
        let mut ping = tokio::time::interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {
                    return Ok(Farewell { code: GOING_AWAY, reason: "the server is stopping" });
                }
                _ = ping.tick() => {
                    if self.heard.elapsed() > SILENCE_LIMIT {
                        return Err(Gone);
                    }
                    write(&mut self.socket, [Message::Ping(bytes::Bytes::new())]).await?;
                }
                answer = self.sends.next() => self.say(answer).await?,
                received = self.socket.recv(), if self.sends.takes_more() => {
                    if let Some(farewell) = self.hear(received).await? {
                        return Ok(farewell);
                    }
                }
                (key, delivery) = self.subscriptions.next() => {
                    if let Some(farewell) = self.deliver(key, delivery).await? {
                        return Ok(farewell);
                    }
                }
            }
        }
    }

    /// Takes what the client sent.
    async fn hear(
        &mut self,
        received: Option<Result<Message, axum::Error>>,
    ) -> Result<Option<Farewell>, Gone> {
        self.heard = Instant::now();
        let text = match received {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Binary(_))) => {
                let problem = Problem::invalid("messages are text: a JSON object each");
                self.say(problem.text()).await?;
                return Ok(None);
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return Ok(None),
            Some(Ok(Message::Close(_))) => {
                // The library answers it, on the way to the end of the stream.
                let end = async { while let Some(Ok(_)) = self.socket.recv().await {} };
                if tokio::time::timeout(CLOSE_LIMIT, end).await.is_err() {
                    tracing::debug!("a client did not end its connection");
                }
                return Err(Gone);
            }
            None => return Err(Gone),
            Some(Err(error)) => return farewell_for(error).map(Some),
        };
        match message::parse(&text) {
            Ok(ClientMessage::Ping) => self.say(r#"{"type":"pong"}"#.to_owned()).await?,
            Ok(ClientMessage::Subscribe(subscribe)) => self.subscribe(subscribe).await?,
            Ok(ClientMessage::Unsubscribe(session)) => self.subscriptions.remove(&session),
            Ok(ClientMessage::Send(send)) => self.sends.push(send),
            Err(problem) => self.say(problem.text()).await?,
        }
        Ok(None)
    }

    async fn subscribe(&mut self, subscribe: Subscribe) -> Result<(), Gone> {
        let sessions = &self.core.sessions;
        match self.subscriptions.add(sessions, subscribe).await {
            Ok(answers) => {
                for answer in answers {
                    self.say(answer).await?;
                }
                Ok(())
            }
            Err(problem) => self.say(problem.text()).await,
        }
    }

    /// Sends an event, and with it whatever else is ready now.
    async fn deliver(
        &mut self,
        key: u64,
        delivery: Result<Delivery, crate::event::EventError>,
    ) -> Result<Option<Farewell>, Gone> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        let mut next = Some((key, delivery));
        let mut farewell = None;
        while let Some((key, delivery)) = next.take() {
            match delivery {
                Ok(Delivery::Event(event)) => {
                    if self.subscriptions.wants(key, &event)
                        && let Ok(text) = Utf8Bytes::try_from(event.json.clone())
                    {
                        bytes += text.len();
                        batch.push(Message::Text(text));
                    }
                    if event.is_last() {
                        self.subscriptions.ended(key, &event);
                    }
                }
                Ok(Delivery::Behind) => farewell = Some(self.too_slow()),
                Ok(Delivery::Closed) => {
                    farewell = Some(Farewell {
                        code: GOING_AWAY,
                        reason: "the server is stopping",
                    });
                }
                Err(error) => {
                    ApiError::from(error).log();
                    farewell = Some(Farewell {
                        code: TRY_AGAIN_LATER,
                        reason: "events cannot be read at the moment; subscribe again with after",
                    });
                }
            }
            if farewell.is_none() && batch.len() < BATCH && bytes < BATCH_BYTES {
                next = self.subscriptions.next().now_or_never();
            }
        }
        if !batch.is_empty() {
            let fell_behind = tokio::select! {
                biased;
                written = write(&mut self.socket, batch) => written.map(|()| false)?,
                () = self.subscriptions.fallen_behind() => true,
            };
            if fell_behind {
                return Ok(Some(self.too_slow()));
            }
        }
        Ok(farewell)
    }

    fn too_slow(&self) -> Farewell {
        self.state
            .metrics()
            .slow_clients
            .fetch_add(1, Ordering::Relaxed);
        Farewell {
            code: TRY_AGAIN_LATER,
            reason: "events come faster than this client takes them; subscribe again with after",
        }
    }

    async fn say(&mut self, text: String) -> Result<(), Gone> {
        write(&mut self.socket, [Message::Text(text.into())]).await
    }

    /// Says why, and waits for the client's own farewell for a moment.
    async fn close(mut self, farewell: Farewell) {
        let frame = Message::Close(Some(CloseFrame {
            code: farewell.code,
            reason: farewell.reason.into(),
        }));
        let goodbye = async {
            if self.socket.send(frame).await.is_ok() {
                while let Some(Ok(message)) = self.socket.next().await {
                    if matches!(message, Message::Close(_)) {
                        break;
                    }
                }
            }
        };
        if tokio::time::timeout(CLOSE_LIMIT, goodbye).await.is_err() {
            tracing::debug!("a client did not take its close frame");
        }
    }
}

async fn write(
    socket: &mut WebSocket,
    messages: impl IntoIterator<Item = Message>,
) -> Result<(), Gone> {
    let written = async {
        for message in messages {
            socket.feed(message).await?;
        }
        socket.flush().await
    };
    match tokio::time::timeout(SILENCE_LIMIT, written).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Gone),
    }
}

/// What a fault in the client's frames is closed with; without a cure the client counts as gone.
fn farewell_for(error: axum::Error) -> Result<Farewell, Gone> {
    let error = error.into_inner();
    match error.downcast_ref::<tungstenite::Error>() {
        Some(tungstenite::Error::Capacity(_)) => Ok(Farewell {
            code: TOO_LARGE,
            reason: "a message may have 1 MiB at most",
        }),
        Some(tungstenite::Error::Utf8(_)) => Ok(Farewell {
            code: WRONG_DATA,
            reason: "a text message must be UTF-8",
        }),
        _ => Err(Gone),
    }
}
