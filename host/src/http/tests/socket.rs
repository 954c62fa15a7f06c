//! What `/ws/events` says where no session is needed for it.

use super::Server;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn open(server: &Server) -> Socket {
    let url = format!("ws://{}/ws/events", server.address);
    connect_async(url).await.unwrap().0
}

async fn ask(socket: &mut Socket, text: &str) -> Value {
    socket.send(Message::text(text)).await.unwrap();
    match socket.next().await {
        Some(Ok(Message::Text(text))) => serde_json::from_str(&text).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_ping_is_answered_and_nonsense_leaves_the_socket_open() {
    let server = Server::start().await;
    let mut socket = open(&server).await;
    for nonsense in [
        "nonsense",
        "[]",
        "{}",
        r#"{"type":1}"#,
        r#"{"type":"hello"}"#,
        r#"{"type":"subscribe"}"#,
        r#"{"type":"unsubscribe","session_id":7}"#,
    ] {
        let answer = ask(&mut socket, nonsense).await;
        assert_eq!(answer["type"], "error", "{nonsense}");
        assert_eq!(answer["code"], "INVALID_REQUEST", "{nonsense}");
    }
    let pong = ask(&mut socket, r#"{"type":"ping"}"#).await;
    assert_eq!(pong, json!({"type": "pong"}));
}

#[tokio::test]
async fn binary_messages_are_refused_and_the_socket_stays() {
    let server = Server::start().await;
    let mut socket = open(&server).await;
    socket.send(Message::binary(vec![1, 2])).await.unwrap();
    let Some(Ok(Message::Text(text))) = socket.next().await else {
        panic!("no answer");
    };
    assert!(text.contains("INVALID_REQUEST"), "{text}");
    let pong = ask(&mut socket, r#"{"type":"ping"}"#).await;
    assert_eq!(pong, json!({"type": "pong"}));
}

#[tokio::test]
async fn a_message_over_one_mebibyte_closes_with_1009() {
    let server = Server::start().await;
    let mut socket = open(&server).await;
    let fits = format!("\"{}\"", "x".repeat(1024 * 1024 - 2));
    assert_eq!(ask(&mut socket, &fits).await["type"], "error");
    let too_large = "x".repeat(1024 * 1024 + 1);
    // The server may close before it was all sent.
    let _ = socket.send(Message::text(too_large)).await;
    loop {
        match socket.next().await {
            Some(Ok(Message::Close(Some(frame)))) => {
                assert_eq!(u16::from(frame.code), 1009);
                return;
            }
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn pages_of_other_sites_get_no_socket() {
    let server = Server::start().await;
    let url = format!("ws://{}/ws/events", server.address);
    let mut request = url.into_client_request().unwrap();
    request
        .headers_mut()
        .insert("origin", "http://evil.example".parse().unwrap());
    match connect_async(request).await {
        Err(Error::Http(answer)) => assert_eq!(answer.status(), 403),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_seen_off_properly() {
    let server = Server::start().await;
    let mut socket = open(&server).await;
    socket.close(None).await.unwrap();
    // The server's own close frame ends the connection; anything else would be an error here.
    while let Some(message) = socket.next().await {
        assert!(message.unwrap().is_close());
    }
}
