//! Bytes in, bytes out, each in its place.

use crate::world::{World, read_until, start};
use berth_host::keeper::protocol::Size;

#[tokio::test]
async fn what_is_typed_arrives_and_what_is_said_comes_back() {
    let world = World::start();
    let keeper = world.connect().await;
    start(
        &keeper,
        "stty size; read line; echo \"got $line\"; read rest",
    )
    .await;
    let mut output = keeper.output(0, None).await.unwrap();
    read_until(&mut output, "30 100").await;
    keeper.input("a word\n".into()).await.unwrap();
    read_until(&mut output, "got a word").await;
}

#[tokio::test]
async fn resize_and_signals_reach_the_foreground_program() {
    let world = World::start();
    let keeper = world.connect().await;
    let script = "trap 'stty size' WINCH; trap 'echo interrupted' INT; echo ready; while :; do sleep 0.05; done";
    start(&keeper, script).await;
    let mut output = keeper.output(0, None).await.unwrap();
    read_until(&mut output, "ready").await;
    let size = Size {
        cols: 132,
        rows: 43,
    };
    keeper.resize(size).await.unwrap();
    read_until(&mut output, "43 132").await;
    assert_eq!(keeper.status().await.unwrap().size, size);
    keeper.signal("INT").await.unwrap();
    read_until(&mut output, "interrupted").await;
    assert!(keeper.signal("NONSENSE").await.is_err());
    // Ctrl-C does the same, even though the test runner may ignore SIGINT.
    keeper.input("\u{3}".into()).await.unwrap();
    read_until(&mut output, "interrupted").await;
}
