//! The client against keepers that lie. (Against the real one: `keeper/tests`.)

use super::protocol::{Follow, Hello, OFFSET_HEADER, PROTOCOL, StartExec};
use super::{Keeper, KeeperError};
use berth_plugin_api::Stream;
use bytes::Bytes;
use http::Response;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A keeper that greets, and answers everything else with this body, offset and end.
struct Liar {
    body: Vec<u8>,
    offset: Option<&'static str>,
    ends: bool,
}

async fn meet(liar: Liar) -> (Keeper, JoinSet<()>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connection = h2::server::handshake(theirs).await.unwrap();
        let mut open = Vec::new();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let document = match request.uri().path() {
                "/v1/hello" => serde_json::to_vec(&Hello {
                    protocol: PROTOCOL,
                    ..Hello::default()
                })
                .unwrap(),
                "/v1/execs" => br#"{"id":"1","pid":2}"#.to_vec(),
                _ => {
                    let mut head = Response::new(());
                    if let Some(offset) = liar.offset {
                        head.headers_mut()
                            .insert(OFFSET_HEADER, offset.parse().unwrap());
                    }
                    let mut body = respond.send_response(head, false).unwrap();
                    body.send_data(liar.body.clone().into(), liar.ends).unwrap();
                    open.push((body, request));
                    continue;
                }
            };
            let mut body = respond.send_response(Response::new(()), false).unwrap();
            body.send_data(document.into(), true).unwrap();
        }
    });
    (Keeper::connect(Stream::new(ours)).await.unwrap(), tasks)
}

fn is_malformed<T: std::fmt::Debug>(result: &Result<T, KeeperError>) -> bool {
    matches!(result, Err(KeeperError::Malformed { .. }))
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), what).await.unwrap()
}

#[tokio::test]
async fn frames_that_make_no_sense_are_told_and_cost_no_memory() {
    for (frame, ends) in [
        // A frame of 4 GiB is to come.
        (&[1, 0xff, 0xff, 0xff, 0xff][..], false),
        // Of a kind that is not known.
        (&[9, 0, 0, 0, 0][..], false),
        // Cut off, in the head and in the body.
        (&[1, 0, 0][..], true),
        (&[1, 0, 0, 0, 5, b'x'][..], true),
        // An exit code of three bytes, and none at all.
        (&[3, 0, 0, 0, 3, 0, 0, 0][..], true),
        (&[][..], true),
    ] {
        let body = frame.to_vec();
        let offset = None;
        let (keeper, _tasks) = meet(Liar { body, offset, ends }).await;
        let mut exec = keeper.exec(&StartExec::default()).await.unwrap();
        let first = soon(exec.output.next()).await.unwrap();
        assert!(is_malformed(&first), "{frame:?}: {first:?}");
        assert_eq!(exec.output.next().await, None);
    }
    for frame in [
        &[0xff, 0xff, 0xff, 0xff][..],
        &[0, 0, 0, 2, b'{', b'x'][..],
        b"\x00\x00\x00\x15{\"bytes\": 4294967295}x",
    ] {
        let liar = Liar {
            body: frame.to_vec(),
            offset: None,
            ends: false,
        };
        let (keeper, _tasks) = meet(liar).await;
        let mut following = keeper.follow(&Follow::default()).await.unwrap();
        let first = soon(following.next()).await.unwrap();
        assert!(is_malformed(&first), "{frame:?}: {first:?}");
    }
}

#[tokio::test]
async fn documents_that_make_no_sense_are_told() {
    for body in [b"".to_vec(), b"[1]".to_vec(), vec![b' '; 3 << 20]] {
        let liar = Liar {
            body,
            offset: None,
            ends: true,
        };
        let (keeper, _tasks) = meet(liar).await;
        let status = soon(keeper.status()).await;
        assert!(is_malformed(&status), "{status:?}");
    }
    let liar = Liar {
        body: vec![b'x'; 100_000],
        offset: Some("minus one"),
        ends: false,
    };
    let (keeper, _tasks) = meet(liar).await;
    assert!(is_malformed(&keeper.output(0, None).await));
    assert!(is_malformed(&keeper.get_file("/x", 0).await));
    let mut changes = keeper.changes().await.unwrap();
    let first = soon(changes.next()).await.unwrap();
    assert!(is_malformed(&first), "{first:?}");
}

#[tokio::test]
async fn output_is_numbered_from_what_the_keeper_says() {
    let liar = Liar {
        body: b"hello".to_vec(),
        offset: Some("70"),
        ends: true,
    };
    let (keeper, _tasks) = meet(liar).await;
    let mut output = keeper.output(5, None).await.unwrap();
    assert_eq!((output.first_offset(), output.next_offset()), (70, 70));
    let chunk = soon(output.next()).await.unwrap().unwrap();
    assert_eq!((chunk.offset, chunk.bytes), (70, Bytes::from("hello")));
    assert_eq!(output.next_offset(), 75);
    assert!(soon(output.next()).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_keeper_that_says_nothing_is_given_up() {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let silent = Keeper::connect(Stream::new(ours)).await;
    assert!(silent.unwrap_err().is_lost());
    drop(theirs);
}

#[tokio::test(start_paused = true)]
async fn a_keeper_that_stops_answering_is_noticed() {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (greeted, stop) = tokio::sync::oneshot::channel::<()>();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connection = h2::server::handshake(theirs).await.unwrap();
        let serve = async {
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let mut body = respond.send_response(Response::new(()), false).unwrap();
                let hello = format!("{{\"protocol\":{PROTOCOL}}}");
                body.send_data(hello.into(), true).unwrap();
            }
        };
        tokio::select! {
            () = serve => {}
            _ = stop => {}
        }
        // Open, and deaf.
        std::future::pending::<()>().await;
        drop(connection);
    });
    let keeper = Keeper::connect(Stream::new(ours)).await.unwrap();
    assert!(!keeper.is_closed());
    drop(greeted);
    let reason = keeper.closed().await;
    assert_eq!(reason, KeeperError::lost("it answers no ping"));
    assert_eq!(keeper.status().await.unwrap_err(), reason);
}
