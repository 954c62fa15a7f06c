//! A client of `/ws/console/{session}`.

use crate::events::Socket;
use crate::{TestHost, within};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::{Bytes, Message};

/// A connection to a session's terminal.
#[derive(Debug)]
pub struct Console {
    socket: Socket,
    /// All bytes so far.
    pub received: Vec<u8>,
    /// All control messages so far.
    pub control: Vec<Value>,
    /// The binary frames were each whole in UTF-8 so far.
    pub whole_characters: bool,
}

/// What came next on a console.
#[derive(Debug, Clone, PartialEq)]
pub enum Control {
    /// Terminal bytes, added to [`Console::received`].
    Bytes,
    /// A text frame.
    Message(Value),
    /// The server closed the connection, with this code where it gave one.
    Closed(Option<u16>),
}

impl Console {
    pub(crate) async fn open(host: &TestHost, session_id: &str, query: &str) -> Self {
        let url = format!("ws://{}/ws/console/{session_id}{query}", host.address());
        let (socket, _) = within("the console", tokio_tungstenite::connect_async(&url))
            .await
            .unwrap_or_else(|fault| panic!("{url}: {fault}"));
        Self {
            socket,
            received: Vec::new(),
            control: Vec::new(),
            whole_characters: true,
        }
    }

    /// Types text, as a binary frame.
    pub async fn type_text(&mut self, text: &str) {
        self.send(Message::Binary(Bytes::copy_from_slice(text.as_bytes())))
            .await;
    }

    /// Sends any frame.
    pub async fn send(&mut self, message: Message) {
        within("typing", self.socket.send(message))
            .await
            .expect("the console takes a message");
    }

    /// Says that the client's terminal has this size.
    pub async fn resize(&mut self, cols: u16, rows: u16) {
        let message = json!({"type": "resize", "cols": cols, "rows": rows});
        self.send(Message::text(message.to_string())).await;
    }

    /// Takes what comes next.
    pub async fn next(&mut self) -> Control {
        loop {
            match within("a frame of the console", self.socket.next()).await {
                Some(Ok(Message::Binary(bytes))) => {
                    self.whole_characters &= std::str::from_utf8(&bytes).is_ok();
                    self.received.extend_from_slice(&bytes);
                    return Control::Bytes;
                }
                Some(Ok(Message::Text(text))) => {
                    let value: Value = serde_json::from_str(&text)
                        .unwrap_or_else(|fault| panic!("no JSON: {text:?}: {fault}"));
                    self.control.push(value.clone());
                    return Control::Message(value);
                }
                Some(Ok(Message::Close(frame))) => {
                    return Control::Closed(frame.map(|frame| frame.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Control::Closed(None),
            }
        }
    }

    /// Takes frames until the bytes hold this text; gives all of them as text.
    ///
    /// # Panics
    /// It did not come.
    pub async fn wait_for(&mut self, text: &str) -> String {
        let since = Instant::now();
        let mut searched = 0;
        loop {
            let from = searched.min(self.received.len());
            if find(&self.received[from..], text.as_bytes()).is_some() {
                return String::from_utf8_lossy(&self.received).into_owned();
            }
            searched = self.received.len().saturating_sub(text.len());
            let next = tokio::time::timeout(Duration::from_secs(30), self.next()).await;
            let ended = !matches!(next, Ok(Control::Bytes | Control::Message(_)));
            if ended || since.elapsed() > crate::LIMIT {
                let tail = self.received.len().saturating_sub(2_000);
                panic!(
                    "{text:?} did not come ({next:?}); the last of {} bytes: {:?}; control: {:?}",
                    self.received.len(),
                    String::from_utf8_lossy(&self.received[tail..]),
                    self.control
                );
            }
        }
    }

    /// Takes text frames until one fits; gives it.
    pub async fn wait_for_control(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            if let Some(found) = self.control.iter().find(|message| fits(message)) {
                return found.clone();
            }
            let next = self.next().await;
            assert!(
                !matches!(next, Control::Closed(_)),
                "{what}: did not come before {next:?}"
            );
        }
    }

    /// Takes frames until the server closes; gives its code.
    pub async fn wait_for_close(&mut self) -> Option<u16> {
        loop {
            if let Control::Closed(code) = self.next().await {
                return code;
            }
        }
    }

    /// Leaves as a client should.
    pub async fn close(mut self) {
        let _ = self.socket.close(None).await;
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}
