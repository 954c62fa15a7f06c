//! What berth is for, from creation to removal.

use berth_tests::{TestHost, eventually, processes_with};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::fs;

/// A session is created, used, the server is killed and started again; the same process, its terminal's history and its
/// events are all there.
#[tokio::test]
async fn a_session_outlives_the_server() {
    let mut host = TestHost::start().await;
    let repository = host.repository("project");
    let before = repository.untouched();
    let mut watching = host.events().await;
    watching
        .send(&json!({"type": "subscribe", "session_id": "*"}))
        .await;
    assert_eq!(watching.next().await["type"], "subscribed");

    let session = host.running(&repository).await;
    let told = watching
        .until("the session to run", |event| event["status"] == "running")
        .await;
    assert_eq!(told[0]["seq"], 1);
    assert_eq!(told[0]["status"], "starting");

    let mut console = host.console(&session, "?cols=100&rows=30").await;
    console
        .type_text("echo process-$$-; stty size; pwd\r")
        .await;
    console.wait_for("30 100").await;
    let worktree = session.worktree(&host).await;
    let seen = console.wait_for(worktree.to_str().unwrap()).await;
    let pid = process_in(&seen);
    console
        .type_text("i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo \"line $i of 2000\"; done\r")
        .await;
    console.wait_for("line 2000 of 2000").await;
    console
        .type_text("echo gre''en > made-inside; echo wri''tten\r")
        .await;
    console.wait_for("written").await;
    assert_eq!(
        fs::read_to_string(worktree.join("made-inside")).unwrap(),
        "green\n"
    );
    let events = session.events(&host).await;

    host.kill_9().await;
    assert_eq!(
        processes_with(&format!("BERTH_SESSION={}", session.id)).len(),
        2,
        "keeper and shell"
    );
    host.restart().await;
    session.wait_for(&host, "running").await;

    let mut console = host
        .console(&session, "?cols=100&rows=30&scrollback=10000")
        .await;
    console.type_text("echo process-$$-; echo on''ward\r").await;
    let seen = console.wait_for("onward").await;
    assert_eq!(process_in(seen.rsplit_once("echo on").unwrap().1), pid);
    let lines: Vec<String> = numbers(&seen, "line ", " of 2000")
        .iter()
        .map(u64::to_string)
        .collect();
    let expected: Vec<String> = (1..=2000).map(|number| number.to_string()).collect();
    assert_eq!(lines, expected, "every line, once, in order");
    let later = session.events(&host).await;
    assert_eq!(
        later[..events.len()],
        events[..],
        "the same events as before"
    );
    assert_consecutive(&later);

    assert_eq!(repository.untouched(), before);
    session.delete(&host).await;
    host.assert_nothing_left(&session).await;
    assert_eq!(repository.untouched(), before);
    assert!(!repository.has_branch(&format!("berth/{}", session.name)));
}

/// What a session started goes with it, however it was started.
#[tokio::test]
async fn a_deleted_session_leaves_nothing() {
    let host = TestHost::start().await;
    let repository = host.repository("project");
    let session = host.running(&repository).await;
    let worktree = session.worktree(&host).await;
    let mut console = host.console(&session, "").await;
    console
        .type_text("(setsid sleep 1001 &); (setsid sh -c 'setsid sleep 1002 & exec sleep 1003' &); sleep 1004 & echo st''arted\r")
        .await;
    console.wait_for("started").await;
    let marker = format!("BERTH_SESSION={}", session.id);
    eventually("the processes to run", async || {
        let there = processes_with(&marker);
        let sleeping = there
            .iter()
            .filter(|process| process.command.starts_with("sleep 100"))
            .count();
        if sleeping == 4 { Ok(()) } else { Err(there) }
    })
    .await;
    let mut events = host.events().await;
    events.subscribe(&session.id, None).await;
    let answer = session.delete(&host).await;
    assert_eq!(answer["success"], true);
    assert_eq!(answer["rescued"], json!([]));
    let told = events
        .until("the end", |event| event["type"] == "session_deleted")
        .await;
    let statuses: Vec<&Value> = told.iter().map(|event| &event["status"]).collect();
    assert!(statuses.contains(&&json!("deleting")), "{told:?}");
    host.assert_nothing_left(&session).await;
    assert!(!worktree.exists());
    let list = host
        .get("/api/sessions?include_archived=true")
        .await
        .expect(StatusCode::OK)
        .body;
    assert_eq!(list["sessions"], json!([]));
}

/// The server ends as a service manager ends it; its sessions go on.
#[tokio::test]
async fn ending_the_server_leaves_sessions_running() {
    let mut host = TestHost::start().await;
    let repository = host.repository("project");
    let session = host.running(&repository).await;
    let mut console = host.console(&session, "").await;
    console.type_text("echo process-$$-; echo re''ady\r").await;
    let pid = process_in(&console.wait_for("ready").await);
    // What goes on while nobody listens is there afterwards.
    console.type_text("sleep 1; echo la''ter\r").await;
    let leaving = async move {
        let code = console.wait_for_close().await;
        console.close().await;
        code
    };
    let (status, code) = tokio::join!(host.stop(), leaving);
    assert!(status.success(), "{}", host.log());
    assert_eq!(code, Some(1001));
    host.restart().await;
    let mut console = host.console(&session, "").await;
    let seen = console.wait_for("later").await;
    assert_eq!(process_in(&seen), pid);
    session.delete(&host).await;
    host.assert_nothing_left(&session).await;
}

/// Sockets have short paths; folders have not.
#[tokio::test]
async fn a_data_folder_may_lie_deep() {
    let host = TestHost::with(berth_tests::Settings {
        data_name: format!("{}/{}", "deep".repeat(30), "er".repeat(40)),
        ..Default::default()
    })
    .await;
    let repository = host.repository("project");
    let session = host.running(&repository).await;
    let mut console = host.console(&session, "").await;
    console.type_text("echo de''ep\r").await;
    console.wait_for("deep").await;
    session.delete(&host).await;
    host.assert_nothing_left(&session).await;
}

/// The number in the last `process-<number>-`.
fn process_in(text: &str) -> u64 {
    *numbers(text, "process-", "-")
        .last()
        .unwrap_or_else(|| panic!("no process in {text:?}"))
}

/// Every number between these two, in order.
pub(crate) fn numbers(text: &str, before: &str, after: &str) -> Vec<u64> {
    let parts = text.split(before).skip(1);
    parts
        .filter_map(|part| part.split_once(after)?.0.parse().ok())
        .collect()
}

/// Events as they must stand: from 1 on, one by one.
pub(crate) fn assert_consecutive(events: &[Value]) {
    let seen: Vec<u64> = events
        .iter()
        .map(|event| event["seq"].as_u64().expect("a seq"))
        .collect();
    let expected: Vec<u64> = (1..=seen.len() as u64).collect();
    assert_eq!(seen, expected);
}
