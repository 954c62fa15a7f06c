//! Much output, slow readers, broken connections: every byte in its place.

use crate::world::{LIMIT, World, read_until, rest, run, shell, soon, start, until_ended};
use berth_host::keeper::KeeperError;
use std::time::{Duration, Instant};

/// What `seq 1 LAST` looks like on a terminal.
fn counted(last: u32) -> Vec<u8> {
    let lines = (1..=last).map(|number| format!("{number}\r\n"));
    lines.collect::<Vec<String>>().concat().into_bytes()
}

#[tokio::test]
async fn a_reader_that_is_cut_off_again_and_again_misses_and_repeats_nothing() {
    let world = World::with(&["--ring-bytes", "67108864"]);
    let keeper = world.connect().await;
    start(&keeper, "seq 1 1000000").await;
    let expected = counted(1_000_000);
    let mut seen: Vec<u8> = Vec::new();
    // The same every time, and as good as random.
    let mut random = 12345_u64;
    while seen.len() < expected.len() {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let stay = usize::try_from(random >> 33).unwrap() % 900_000;
        let keeper = world.connect().await;
        let mut output = keeper.output(seen.len() as u64, None).await.unwrap();
        assert_eq!(output.first_offset(), seen.len() as u64);
        let leave_at = seen.len() + stay;
        while seen.len() <= leave_at {
            let Some(chunk) = soon(output.next()).await else {
                break;
            };
            let chunk = chunk.unwrap();
            assert_eq!(chunk.offset, seen.len() as u64);
            seen.extend_from_slice(&chunk.bytes);
        }
    }
    assert!(seen == expected);
    assert_eq!(
        until_ended(&keeper).await.next_offset,
        expected.len() as u64
    );
}

#[tokio::test]
async fn what_is_no_longer_kept_is_told_by_the_first_offset() {
    let world = World::with(&["--ring-bytes", "65536"]);
    let keeper = world.connect().await;
    start(&keeper, "seq 1 100000").await;
    let expected = counted(100_000);
    let ended = until_ended(&keeper).await;
    assert!(ended.next_offset - ended.first_offset >= 65536);
    let mut output = keeper.output(0, None).await.unwrap();
    let first = usize::try_from(output.first_offset()).unwrap();
    assert_eq!(output.first_offset(), ended.first_offset);
    assert!(first > 0);
    assert!(rest(&mut output).await.unwrap() == expected[first..]);
}

#[tokio::test]
async fn a_reader_that_falls_behind_is_told_and_goes_on_from_what_is_kept() {
    let world = World::with(&["--ring-bytes", "65536"]);
    let keeper = world.connect().await;
    let start = run("run-1", shell("read go; seq 1 500000"));
    keeper.start(&start).await.unwrap();
    let mut output = keeper.output(0, None).await.unwrap();
    keeper.input("\n".into()).await.unwrap();
    until_ended(&keeper).await;
    assert_eq!(rest(&mut output).await, Err(KeeperError::Behind));
    let mut again = keeper.output(output.next_offset(), None).await.unwrap();
    assert!(again.first_offset() > output.next_offset());
    let mut expected = b"\r\n".to_vec();
    expected.extend(counted(500_000));
    let first = usize::try_from(again.first_offset()).unwrap();
    assert!(rest(&mut again).await.unwrap() == expected[first..]);
}

#[tokio::test]
async fn a_flood_does_not_hold_up_what_is_typed() {
    let world = World::start();
    let keeper = world.connect().await;
    let mark = world.path("mark");
    start(
        &keeper,
        &format!("yes & read line; echo $line > {mark}; wait"),
    )
    .await;
    let mut output = keeper.output(0, None).await.unwrap();
    let reading = async {
        while let Some(chunk) = output.next().await {
            chunk.unwrap();
        }
        std::future::pending::<()>().await;
    };
    let typing = async {
        keeper.input("typed\n".into()).await.unwrap();
        let seen = crate::world::content(mark.as_ref()).await;
        assert_eq!(seen, "typed\n");
        // Nor by a reader that does not read.
        let mut _stalled = keeper.output(0, None).await.unwrap();
        soon(keeper.status()).await.unwrap();
        let since = Instant::now();
        soon(keeper.input("\u{3}".into())).await.unwrap();
        let ended = soon(until_ended(&keeper)).await;
        assert!(since.elapsed() < Duration::from_secs(5), "{ended:?}");
    };
    tokio::select! {
        () = reading => {}
        () = typing => {}
    }
}

#[tokio::test]
async fn a_program_waits_for_a_pacing_reader_but_not_for_ever() {
    let pace = Duration::from_millis(400);
    let world = World::start();
    let keeper = world.connect().await;
    start(&keeper, "read go; seq 1 300000").await;
    let mut output = keeper.output(0, Some(pace)).await.unwrap();
    read_nothing_until_ended(&keeper, pace).await;
    // It has missed nothing: the ring holds more than that.
    let mut expected = b"\r\n".to_vec();
    expected.extend(counted(300_000));
    assert!(rest(&mut output).await.unwrap() == expected);
}

async fn read_nothing_until_ended(keeper: &berth_host::keeper::Keeper, pace: Duration) {
    let since = Instant::now();
    keeper.input("\n".into()).await.unwrap();
    until_ended(keeper).await;
    assert!(
        since.elapsed() >= pace,
        "it did not wait: {:?}",
        since.elapsed()
    );
    assert!(since.elapsed() < LIMIT);
}

#[tokio::test]
async fn a_pacing_reader_that_reads_slowly_loses_nothing_of_more_than_is_kept() {
    let world = World::with(&["--ring-bytes", "262144"]);
    let keeper = world.connect().await;
    start(&keeper, "seq 1 200000").await;
    let mut output = keeper
        .output(0, Some(Duration::from_secs(20)))
        .await
        .unwrap();
    let mut seen = Vec::new();
    while let Some(chunk) = soon(output.next()).await {
        seen.extend_from_slice(&chunk.unwrap().bytes);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(seen == counted(200_000));
}

#[tokio::test]
async fn many_connections_all_see_everything() {
    let world = World::start();
    let first = world.connect().await;
    start(&first, "read go; seq 1 100000").await;
    let mut readers = Vec::new();
    for _ in 0..40 {
        let keeper = world.connect().await;
        readers.push(keeper.output(0, None).await.unwrap());
    }
    first.input("\n".into()).await.unwrap();
    let mut expected = b"\r\n".to_vec();
    expected.extend(counted(100_000));
    let reading = readers.iter_mut().map(rest);
    for seen in futures_util::future::join_all(reading).await {
        assert!(seen.unwrap() == expected);
    }
}

#[tokio::test]
async fn output_asked_for_before_the_start_comes_with_it() {
    let world = World::start();
    let keeper = world.connect().await;
    let early = keeper.output(0, None);
    let starting = async {
        let mut late = run("run-1", shell("printf hello; read line"));
        late.first_offset = 5000;
        keeper.start(&late).await.unwrap();
    };
    let (output, ()) = tokio::join!(early, starting);
    let mut output = output.unwrap();
    assert_eq!(output.first_offset(), 5000);
    read_until(&mut output, "hello").await;
}
