//! How the server ends.

use super::Server;
use futures_util::StreamExt;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn stopping_closes_sockets_with_1001_and_takes_no_more() {
    let server = Server::start().await;
    let address = server.address;
    let url = format!("ws://{address}/ws/events");
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let ended = server.stop();
    match socket.next().await {
        Some(Ok(Message::Close(Some(frame)))) => assert_eq!(u16::from(frame.code), 1001),
        other => panic!("{other:?}"),
    }
    while let Some(Ok(_)) = socket.next().await {}
    let result = tokio::time::timeout(Duration::from_secs(10), ended).await;
    result.expect("it ends").unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_the_end() {
    let server = Server::start().await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut kept = TcpStream::connect(server.address).await.unwrap();
    kept.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = [0; 12];
    kept.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    let result = tokio::time::timeout(Duration::from_secs(5), server.stop()).await;
    result.expect("it ends").unwrap().unwrap();
    let mut rest = Vec::new();
    assert_eq!(silent.read_to_end(&mut rest).await.unwrap(), 0);
}
