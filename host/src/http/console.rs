//! `/ws/console/{session}`: a WebSocket as one client of a session's console.
//!
//! The socket's two directions are two tasks, so that a key is heard while output floods. What a client is sent, and when,
//! is the console's decision; here it becomes frames.

use super::error::ApiError;
use super::extract::{Query, SessionPath, flag};
use super::state::AppState;
use crate::console::{
    ClientInput, ClientOutput, ConsoleError, JoinOptions, MAX_CELLS, Mode, Notice, Outgoing,
    TextFrame, read_text_frame,
};
use crate::session::{SessionError, SessionKey};
use axum::Router;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::get;
use berth_keeper_protocol::Size;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::tungstenite;

/// The largest message that a client may send.
const MESSAGE_LIMIT: usize = 1024 * 1024;
/// A quiet client is pinged that often, so that proxies keep the connection and a dead one is found out.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long a client that is being closed has to take what was sent to it before.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);
/// How many complaints may wait for a client; one that sends nonsense faster is not told of each.
const COMPLAINTS: usize = 16;
const MAX_SCROLLBACK: usize = 100_000;

const NORMAL: u16 = 1000;
const GOING_AWAY: u16 = 1001;
const WRONG_DATA: u16 = 1007;
const TOO_LARGE: u16 = 1009;
const FAILED: u16 = 1011;
const NO_SESSION: u16 = 4404;

pub(super) fn routes() -> Router<AppState> {
    Router::new().route("/ws/console/{session}", get(console))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConsoleQuery {
    cols: Option<u16>,
    rows: Option<u16>,
    scrollback: Option<usize>,
    mode: Option<QueryMode>,
    #[serde(default, deserialize_with = "flag")]
    control: bool,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum QueryMode {
    Read,
}

impl ConsoleQuery {
    fn options(&self) -> Result<JoinOptions, ApiError> {
        let cells = |name: &str, given: Option<u16>, default: u16| match given {
            None => Ok(default),
            Some(cells) if (1..=MAX_CELLS).contains(&cells) => Ok(cells),
            Some(cells) => Err(ApiError::invalid(format!(
                "the query parameter {name} must be from 1 to {MAX_CELLS}, got {cells}"
            ))),
        };
        let default = Size::default();
        let size = Size {
            cols: cells("cols", self.cols, default.cols)?,
            rows: cells("rows", self.rows, default.rows)?,
        };
        let given = JoinOptions::default();
        let scrollback = self.scrollback.unwrap_or(given.scrollback);
        if scrollback > MAX_SCROLLBACK {
            return Err(ApiError::invalid(format!(
                "the query parameter scrollback must be from 0 to {MAX_SCROLLBACK}, got {scrollback}"
            )));
        }
        Ok(JoinOptions {
            size: (self.cols.is_some() || self.rows.is_some()).then_some(size),
            scrollback,
            mode: match self.mode {
                Some(QueryMode::Read) => Mode::Read,
                None => Mode::Write,
            },
            control: self.control,
        })
    }
}

async fn console(
    State(state): State<AppState>,
    SessionPath(path): SessionPath,
    Query(query): Query<ConsoleQuery>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, ApiError> {
    let options = query.options()?;
    let core = state.core().await?;
    let key = SessionKey::parse(&path);
    let upgrade = upgrade
        .max_message_size(MESSAGE_LIMIT)
        .max_frame_size(MESSAGE_LIMIT)
        .read_buffer_size(4096);
    Ok(upgrade.on_upgrade(move |socket| {
        let tasks = state.tasks().clone();
        tasks.track_future(async move {
            let _counted = state.metrics().console_sockets.one();
            let (sink, stream) = socket.split();
            let joined = match core.sessions.console(&key).await {
                Ok(console) => console.join(options).await.map_err(|error| {
                    let closed = matches!(error, ConsoleError::Closed);
                    if closed { no_session() } else { failed(&error) }
                }),
                // A browser cannot read the answer to a refused upgrade, so it is told on the socket.
                Err(SessionError::NotFound(_)) => Err(no_session()),
                Err(error) => Err(failed(&error)),
            };
            match joined {
                Ok(attachment) => {
                    let socket = Socket { sink, stream };
                    socket
                        .serve(attachment.output, attachment.input, &state)
                        .await;
                }
                Err((told, farewell)) => refuse(sink, stream, told, farewell).await,
            }
        })
    }))
}

/// Why a socket is closed.
#[derive(Debug, Clone, Copy)]
struct Farewell {
    code: u16,
    reason: &'static str,
}

/// The client is gone: nothing can be sent any more.
#[derive(Debug)]
struct Gone;

type Sink = SplitSink<WebSocket, Message>;
type Incoming = SplitStream<WebSocket>;

fn no_session() -> (Utf8Bytes, Farewell) {
    let reason = "Session not found";
    let farewell = Farewell {
        code: NO_SESSION,
        reason,
    };
    (complaint(reason), farewell)
}

fn failed(error: &(dyn std::error::Error + 'static)) -> (Utf8Bytes, Farewell) {
    tracing::error!(error, "a console cannot be joined");
    let reason = "the console cannot be shown";
    let farewell = Farewell {
        code: FAILED,
        reason,
    };
    (complaint(reason), farewell)
}

fn complaint(message: &str) -> Utf8Bytes {
    json!({"type": "error", "message": message})
        .to_string()
        .into()
}

fn notice_text(notice: &Notice) -> Utf8Bytes {
    let document = match notice {
        Notice::Exit { code } => json!({"type": "exit", "code": code}),
        Notice::Resize(size) => json!({"type": "resize", "cols": size.cols, "rows": size.rows}),
        Notice::ReplayEnd => json!({"type": "replay_end"}),
    };
    document.to_string().into()
}

async fn refuse(mut sink: Sink, stream: Incoming, told: Utf8Bytes, farewell: Farewell) {
    if sink.send(Message::Text(told)).await.is_ok() {
        close(sink, stream, farewell).await;
    }
}

/// Says why, and waits for the client's own farewell for a moment.
async fn close(mut sink: Sink, mut stream: Incoming, farewell: Farewell) {
    let frame = Message::Close(Some(CloseFrame {
        code: farewell.code,
        reason: farewell.reason.into(),
    }));
    let goodbye = async {
        if sink.send(frame).await.is_ok() {
            while let Some(Ok(message)) = stream.next().await {
                if matches!(message, Message::Close(_)) {
                    break;
                }
            }
        }
    };
    if timeout(CLOSE_LIMIT, goodbye).await.is_err() {
        tracing::debug!("a client did not take its close frame");
    }
}

struct Socket {
    sink: Sink,
    stream: Incoming,
}

impl Socket {
    async fn serve(self, output: ClientOutput, input: ClientInput, state: &AppState) {
        let Self { mut sink, stream } = self;
        let (complain, complaints) = mpsc::channel(COMPLAINTS);
        let mut reading = JoinSet::new();
        reading.spawn(listen(stream, input, complain));
        let farewell = tokio::select! {
            biased;
            () = state.shutdown().cancelled() => Ok(Farewell { code: GOING_AWAY, reason: "the server is stopping" }),
            heard = reading.join_next() => match heard {
                Some(Ok((stream, Ok(farewell)))) => {
                    close(sink, stream, farewell).await;
                    return;
                }
                _ => Err(Gone),
            },
            farewell = speak(&mut sink, output, complaints) => farewell,
        };
        if let Ok(farewell) = farewell {
            // The reading task goes on until the client's own farewell, and is heard to the end there.
            let frame = Message::Close(Some(CloseFrame {
                code: farewell.code,
                reason: farewell.reason.into(),
            }));
            let goodbye = async {
                if sink.send(frame).await.is_ok() {
                    reading.join_next().await;
                }
            };
            if timeout(CLOSE_LIMIT, goodbye).await.is_err() {
                tracing::debug!("a client did not take its close frame");
            }
        }
        reading.shutdown().await;
    }
}

/// Sends what the console has for the client, until the console is closed or the client is gone.
async fn speak(
    sink: &mut Sink,
    mut output: ClientOutput,
    mut complaints: mpsc::Receiver<Utf8Bytes>,
) -> Result<Farewell, Gone> {
    let mut ping = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            biased;
            Some(text) = complaints.recv() => Message::Text(text),
            outgoing = output.next() => match outgoing {
                Some(Outgoing::Bytes(bytes)) => Message::Binary(bytes),
                Some(Outgoing::Ping(payload)) => Message::Ping(Bytes::copy_from_slice(&payload)),
                Some(Outgoing::Notice(notice)) => Message::Text(notice_text(&notice)),
                None => return Ok(Farewell { code: NORMAL, reason: "the session is deleted" }),
            },
            _ = ping.tick() => Message::Ping(Bytes::new()),
        };
        sink.send(message).await.map_err(|_| Gone)?;
    }
}

/// Takes what the client sends, until it leaves or breaks the rules.
async fn listen(
    mut stream: Incoming,
    input: ClientInput,
    complaints: mpsc::Sender<Utf8Bytes>,
) -> (Incoming, Result<Farewell, Gone>) {
    let end = loop {
        let typed = match stream.next().await {
            Some(Ok(Message::Binary(bytes))) => bytes,
            Some(Ok(Message::Text(text))) => match read_text_frame(&text) {
                TextFrame::Input => text.into(),
                TextFrame::Resize(size) => {
                    input.resize(size);
                    continue;
                }
                TextFrame::Bad(message) => {
                    if complaints.try_send(complaint(&message)).is_err() {
                        tracing::debug!("a client is not told of each of its faults");
                    }
                    continue;
                }
            },
            Some(Ok(Message::Pong(payload))) => {
                input.acknowledge(&payload);
                continue;
            }
            Some(Ok(Message::Ping(_))) => continue,
            Some(Ok(Message::Close(_))) => {
                // The library answers it, on the way to the end of the stream.
                let end = async { while let Some(Ok(_)) = stream.next().await {} };
                if timeout(CLOSE_LIMIT, end).await.is_err() {
                    tracing::debug!("a client did not end its connection");
                }
                break Err(Gone);
            }
            None => break Err(Gone),
            Some(Err(error)) => break farewell_for(error),
        };
        if input.type_bytes(typed).await.is_err() {
            // The writing side says goodbye; the client's answer is awaited.
            let end = async { while let Some(Ok(_)) = stream.next().await {} };
            if timeout(CLOSE_LIMIT, end).await.is_err() {
                tracing::debug!("a client did not end its connection");
            }
            break Err(Gone);
        }
    };
    (stream, end)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::extract::parse_query;

    fn options(query: &str) -> Result<JoinOptions, String> {
        let query: ConsoleQuery = parse_query(query).map_err(|error| error.to_string())?;
        query.options().map_err(|error| error.to_string())
    }

    #[test]
    fn the_query_says_how_to_join() {
        assert_eq!(options("").unwrap(), JoinOptions::default());
        let all = options("cols=120&rows=40&scrollback=0&mode=read&control=1").unwrap();
        assert_eq!(
            all,
            JoinOptions {
                size: Some(Size {
                    cols: 120,
                    rows: 40
                }),
                scrollback: 0,
                mode: Mode::Read,
                control: true
            }
        );
        let half = options("rows=1000&control=false").unwrap();
        assert_eq!(
            (half.size, half.control),
            (
                Some(Size {
                    cols: 80,
                    rows: 1000
                }),
                false
            )
        );
    }

    #[test]
    fn what_is_not_allowed_is_named() {
        for (query, name) in [
            ("cols=0", "cols"),
            ("cols=1001", "cols"),
            ("rows=70000", "rows"),
            ("rows=x", "rows"),
            ("cols=", "cols"),
            ("scrollback=100001", "scrollback"),
            ("scrollback=-1", "scrollback"),
            ("mode=both", "mode"),
            ("mode=write", "mode"),
            ("mode=write", "mode"),
            ("control=yes", "control"),
            ("other=1", "other"),
        ] {
            let message = options(query).unwrap_err();
            assert!(message.contains(name), "{query}: {message}");
        }
    }
}
