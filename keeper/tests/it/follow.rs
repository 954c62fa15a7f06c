//! Files that grow, and the hook spool.

use crate::world::{World, soon};
use berth_host::keeper::protocol::{FilePosition, Follow};
use berth_host::keeper::{Following, Keeper};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

async fn follow(keeper: &Keeper, glob: String, from: Vec<FilePosition>) -> Following {
    keeper
        .follow(&Follow { glob, from })
        .await
        .expect("following")
}

async fn next(following: &mut Following) -> (FilePosition, String, bool) {
    let (frame, bytes) = soon(following.next())
        .await
        .expect("more")
        .expect("a frame");
    (
        frame.position,
        String::from_utf8(bytes.to_vec()).unwrap(),
        frame.restarted,
    )
}

fn append(path: &str, text: &str) {
    let file = File::options().create(true).append(true).open(path);
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

#[tokio::test]
async fn files_are_followed_as_they_come_and_grow() {
    let world = World::start();
    let keeper = world.connect().await;
    let mut following = follow(&keeper, world.path("projects/*/log-?.jsonl"), vec![]).await;
    fs::create_dir_all(world.path("projects/one")).unwrap();
    let path = world.path("projects/one/log-1.jsonl");
    append(&path, "first\nsec");
    let (position, text, restarted) = next(&mut following).await;
    assert_eq!(
        (
            position.path.as_str(),
            position.offset,
            text.as_str(),
            restarted
        ),
        (path.as_str(), 0, "first\n", false)
    );
    append(&path, "ond\n");
    assert_eq!(next(&mut following).await.1, "second\n");
    fs::create_dir_all(world.path("projects/two")).unwrap();
    append(&world.path("projects/two/log-2.jsonl"), "other\n");
    assert_eq!(next(&mut following).await.1, "other\n");
    // Going on from where it was, after a restart of the host.
    append(&path, "third\n");
    let from = vec![FilePosition {
        offset: 13,
        ..position
    }];
    let mut again = follow(&keeper, path, from).await;
    assert_eq!(next(&mut again).await.1, "third\n");
}

#[tokio::test]
async fn rotation_and_truncation_are_told() {
    let world = World::start();
    let keeper = world.connect().await;
    let path = world.path("log");
    append(&path, "one\n");
    let mut following = follow(&keeper, path.clone(), vec![]).await;
    assert_eq!(next(&mut following).await.1, "one\n");
    fs::rename(&path, world.path("log.1")).unwrap();
    append(&world.path("log.1"), "two\n");
    append(&path, "three\n");
    // What the old one still got is read first, even though its new name does not match.
    assert_eq!(next(&mut following).await.1, "two\n");
    let (position, text, restarted) = next(&mut following).await;
    assert_eq!(
        (position.offset, text.as_str(), restarted),
        (0, "three\n", true)
    );
    File::options()
        .write(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    let (position, text, restarted) = next(&mut following).await;
    assert_eq!((position.offset, text.as_str(), restarted), (0, "", true));
    append(&path, "four\n");
    assert_eq!(next(&mut following).await.1, "four\n");
}

#[tokio::test]
async fn a_large_file_comes_whole_and_a_slow_reader_holds_nothing_up() {
    let world = World::start();
    let keeper = world.connect().await;
    let path = world.path("log");
    let lines = (0..400_000).map(|number| format!("line {number}\n"));
    let expected = lines.collect::<Vec<String>>().concat();
    fs::write(&path, &expected).unwrap();
    let mut following = follow(&keeper, path, vec![]).await;
    let stalled = follow(&keeper, world.path("log"), vec![]).await;
    let mut seen = String::new();
    while seen.len() < expected.len() {
        let (position, text, _) = next(&mut following).await;
        assert_eq!(position.offset, seen.len() as u64);
        assert!(text.ends_with('\n'));
        seen.push_str(&text);
    }
    assert!(seen == expected);
    drop(stalled);
    assert!(keeper.follow(&Follow::default()).await.is_err());
}

fn hook(world: &World, name: &str, stdin: Stdio) -> std::process::Child {
    Command::new(env!("CARGO_BIN_EXE_berth-keeper"))
        .args(["hook", name])
        .env("BERTH_STATE", world.state())
        .stdin(stdin)
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn hooks_append_whole_lines_and_are_followed() {
    let world = World::start();
    let keeper = world.connect().await;
    let spool = world.state().join("hooks.jsonl");
    let mut following = follow(&keeper, spool.to_str().unwrap().to_owned(), vec![]).await;
    let mut hooks: Vec<_> = (0..20)
        .map(|number| {
            let mut child = hook(&world, &format!("Hook{number}"), Stdio::piped());
            let mut stdin = child.stdin.take().unwrap();
            writeln!(
                stdin,
                "{{\"number\": {number}, \"long\": \"{}\"}}",
                "x".repeat(20_000)
            )
            .unwrap();
            child
        })
        .collect();
    for child in &mut hooks {
        assert!(child.wait().unwrap().success());
    }
    let mut seen = BTreeMap::new();
    while seen.len() < 20 {
        let (_, text, _) = next(&mut following).await;
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(line["at"].as_str().unwrap().ends_with('Z'));
            let name = line["hook"].as_str().unwrap().to_owned();
            seen.insert(name, line["input"]["number"].clone());
        }
    }
    assert_eq!(seen["Hook7"], 7);
}

#[tokio::test]
async fn a_hook_never_fails_and_never_waits_long() {
    let world = World::start();
    world.connect().await;
    let since = Instant::now();
    // Nobody ends its input.
    let mut waiting = hook(&world, "Stop", Stdio::piped());
    assert!(
        tokio::task::spawn_blocking(move || waiting.wait())
            .await
            .unwrap()
            .unwrap()
            .success()
    );
    assert!(since.elapsed() < Duration::from_secs(10));
    // There is no spool to write.
    let nowhere = Command::new(env!("CARGO_BIN_EXE_berth-keeper"))
        .args(["hook", "Stop"])
        .env("BERTH_STATE", "/no/such/folder")
        .stdin(Stdio::null())
        .status();
    assert!(nowhere.unwrap().success());
    let without = Command::new(env!("CARGO_BIN_EXE_berth-keeper"))
        .arg("hook")
        .env_remove("BERTH_STATE")
        .stdin(Stdio::null())
        .status();
    assert!(without.unwrap().success());
}

#[tokio::test]
async fn a_busy_folder_on_the_way_wakes_nobody() {
    let world = World::start();
    let keeper = world.connect().await;
    let path = world.path("log");
    append(&path, "one\n");
    let mut following = follow(&keeper, path.clone(), vec![]).await;
    assert_eq!(next(&mut following).await.1, "one\n");
    let cpu = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", world.child.id())).unwrap();
        let ticks = stat.split_whitespace().skip(13).take(2);
        ticks
            .map(|ticks| ticks.parse::<u64>().unwrap())
            .sum::<u64>()
    };
    let before = cpu();
    for number in 0..5000 {
        let other = world.path(&format!("other-{number}"));
        fs::write(&other, "x").unwrap();
        fs::remove_file(&other).unwrap();
    }
    append(&path, "two\n");
    let since = Instant::now();
    assert_eq!(next(&mut following).await.1, "two\n");
    assert!(
        since.elapsed() < Duration::from_millis(1500),
        "{:?}",
        since.elapsed()
    );
    assert!(cpu() - before < 50, "{} ticks", cpu() - before);
}
