//! A client of `/ws/events`.

use crate::{TestHost, within};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A connection to the event stream.
#[derive(Debug)]
pub struct Events {
    socket: Socket,
}

impl Events {
    pub(crate) async fn open(host: &TestHost) -> Self {
        let url = format!("ws://{}/ws/events", host.address());
        let (socket, _) = within("the event socket", tokio_tungstenite::connect_async(url))
            .await
            .expect("the event socket opens");
        Self { socket }
    }

    /// Sends a message.
    pub async fn send(&mut self, message: &Value) {
        self.send_raw(Message::text(message.to_string())).await;
    }

    /// Sends any frame.
    pub async fn send_raw(&mut self, message: Message) {
        within("sending", self.socket.send(message))
            .await
            .expect("the event socket takes a message");
    }

    /// The next message of the server.
    ///
    /// # Panics
    /// None came, or the socket was closed.
    pub async fn next(&mut self) -> Value {
        match self.next_frame().await {
            Some(Message::Text(text)) => serde_json::from_str(&text)
                .unwrap_or_else(|fault| panic!("no JSON: {text:?}: {fault}")),
            other => panic!("not a text message: {other:?}"),
        }
    }

    /// The next frame that is not of the transport's own; `None` when the connection has ended.
    pub async fn next_frame(&mut self) -> Option<Message> {
        loop {
            match within("a message of the event socket", self.socket.next()).await {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => return Some(message),
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// Subscribes to a session and gives the `subscribed` message.
    pub async fn subscribe(&mut self, session_id: &str, after: Option<u64>) -> Value {
        let mut message = json!({"type": "subscribe", "session_id": session_id});
        if let Some(after) = after {
            message["after"] = json!(after);
        }
        self.send(&message).await;
        let answer = self.next().await;
        assert_eq!(answer["type"], "subscribed", "{answer}");
        assert_eq!(answer["session_id"], session_id, "{answer}");
        answer
    }

    /// Takes messages until one fits, and gives all of them.
    pub async fn until(&mut self, what: &str, mut fits: impl FnMut(&Value) -> bool) -> Vec<Value> {
        let mut taken = Vec::new();
        loop {
            let message = tokio::time::timeout(crate::LIMIT, self.next())
                .await
                .unwrap_or_else(|_| panic!("{what}: did not come after {taken:?}"));
            let last = fits(&message);
            taken.push(message);
            if last {
                return taken;
            }
        }
    }
}
