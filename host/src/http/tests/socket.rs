//! What `/ws/events` says where no session is needed for it.

use super::Server;
use crate::event::{ChatMessage, EventBody, NewEvent};
use crate::session::{Role, SessionId};
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

fn said(content: String) -> Vec<NewEvent> {
    let message = ChatMessage {
        role: Role::Assistant,
        content,
    };
    vec![EventBody::ChatMessage { message }.into()]
}

#[tokio::test]
async fn events_of_every_session_come_in_order() {
    let server = Server::start().await;
    let events = &server.state.core().await.unwrap().events;
    let mut socket = open(&server).await;
    let subscribed = ask(&mut socket, r#"{"type":"subscribe","session_id":"*"}"#).await;
    assert_eq!(subscribed, json!({"type": "subscribed", "session_id": "*"}));
    let sessions = [SessionId::generate(), SessionId::generate()];
    for number in 0..100 {
        for session in sessions {
            events
                .append(session, said(number.to_string()))
                .await
                .unwrap();
        }
    }
    for number in 0..100 {
        for session in sessions {
            let Some(Ok(Message::Text(text))) = socket.next().await else {
                panic!("no event");
            };
            let event: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(event["session_id"], session.to_string());
            assert_eq!(event["seq"], number + 1);
            assert_eq!(event["message"]["content"], number.to_string());
        }
    }
    socket
        .send(Message::text(r#"{"type":"unsubscribe","session_id":"*"}"#))
        .await
        .unwrap();
    assert_eq!(ask(&mut socket, r#"{"type":"ping"}"#).await["type"], "pong");
    events
        .append(sessions[0], said(String::new()))
        .await
        .unwrap();
    // Nothing is sent for what was taken back.
    assert_eq!(ask(&mut socket, r#"{"type":"ping"}"#).await["type"], "pong");
}

#[tokio::test]
async fn a_client_that_does_not_keep_up_is_closed_with_1013() {
    let server = Server::start().await;
    let events = &server.state.core().await.unwrap().events;
    let mut slow = open(&server).await;
    let mut quick = open(&server).await;
    let subscribe = r#"{"type":"subscribe","session_id":"*"}"#;
    ask(&mut slow, subscribe).await;
    ask(&mut quick, subscribe).await;
    let session = SessionId::generate();
    let content = "x".repeat(1024 * 1024);
    for number in 1..=64 {
        let appended = events.append(session, said(content.clone()));
        appended.await.unwrap();
        // Nobody waits for the other one.
        let Some(Ok(Message::Text(text))) = quick.next().await else {
            panic!("no event {number}");
        };
        assert!(text.contains(&format!("\"seq\":{number},")), "{number}");
    }
    let mut last = 0;
    loop {
        match slow.next().await {
            Some(Ok(Message::Text(text))) => {
                let event: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(event["seq"], last + 1);
                last += 1;
            }
            Some(Ok(Message::Close(Some(frame)))) => {
                assert_eq!(u16::from(frame.code), 1013, "{frame:?}");
                assert!(frame.reason.contains("after"), "{frame:?}");
                assert!(last < 64);
                return;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_cannot_be_subscribed_to_is_an_error_about_it() {
    let server = Server::start().await;
    let mut socket = open(&server).await;
    let unknown = SessionId::generate().to_string();
    for session in [unknown.as_str(), "no-such-session", "Ä"] {
        for kind in ["subscribe", "send_message"] {
            let mut message = json!({"type": kind, "session_id": session});
            if kind == "send_message" {
                message["content"] = json!("hello");
                message["id"] = json!("m1");
            }
            let answer = ask(&mut socket, &message.to_string()).await;
            assert_eq!(answer["type"], "error", "{answer}");
            assert_eq!(answer["code"], "SESSION_NOT_FOUND", "{answer}");
            assert_eq!(answer["session_id"], session, "{answer}");
            assert_eq!(
                answer["message"],
                format!("Session with ID '{session}' not found")
            );
            assert_eq!(answer["id"], message["id"], "{answer}");
        }
    }
    let map = json!({"type": "subscribe", "session_id": "*", "after": {unknown.clone(): 3}});
    let answer = ask(&mut socket, &map.to_string()).await;
    assert_eq!(answer, json!({"type": "subscribed", "session_id": "*"}));
    let Some(Ok(Message::Text(text))) = socket.next().await else {
        panic!("no error");
    };
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["code"], "SESSION_NOT_FOUND", "{answer}");
    assert_eq!(answer["session_id"], unknown, "{answer}");
}
