//! Many sessions, and much output.

use crate::main_line::numbers;
use berth_tests::{LIMIT, TestHost, eventually, processes_with};
use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::json;

/// In the long form, as many as berth promises.
fn count(bounded: usize, long: usize) -> usize {
    if std::env::var_os("BERTH_SOAK").is_some() {
        long
    } else {
        bounded
    }
}

#[tokio::test]
async fn soak_many_sessions_at_once() {
    let wanted = count(40, 200);
    let host = TestHost::start().await;
    let repository = host.repository("project");
    let sessions = join_all((0..wanted).map(|number| {
        let body = json!({
            "repo_path": repository.text(), "name": format!("one-of-many-{number}"), "agent": "shell",
            "prompt": format!("echo this-is-$(({number}+1000))-"),
        });
        let host = &host;
        async move { host.create_with(&body).await }
    }))
    .await;
    eventually("all sessions to run", async || {
        let list = host
            .get("/api/sessions?status=running")
            .await
            .expect(StatusCode::OK)
            .body;
        let running = list["sessions"].as_array().unwrap().len();
        if running == wanted {
            Ok(())
        } else {
            Err(running)
        }
    })
    .await;
    for (number, session) in sessions.iter().enumerate() {
        let mut console = host.console(session, "").await;
        console
            .wait_for(&format!("this-is-{}-", number + 1000))
            .await;
    }
    assert_eq!(host.get("/health").await.status, StatusCode::OK);
    let memory = host.memory();
    assert!(memory < 400 << 20, "the server has {} MiB", memory >> 20);
    join_all(sessions.iter().map(|session| session.delete(&host))).await;
    for session in &sessions {
        host.assert_nothing_left(session).await;
    }
    assert_eq!(
        processes_with(&format!("BERTH_STATE={}", host.data_dir().display())),
        []
    );
    assert_eq!(repository.git(&["branch", "--list", "berth/*"]), "");
}

#[tokio::test]
async fn consoles_in_a_flood() {
    let consoles = 20;
    let host = TestHost::start().await;
    let repository = host.repository("project");
    let sessions = join_all((0..4).map(|_| host.running(&repository))).await;
    let before = host.memory();
    let floods = (0..consoles).map(|number| {
        let (host, session) = (&host, &sessions[number % sessions.len()]);
        async move {
            let mut console = host.console(session, "").await;
            if number < 4 {
                console
                    .type_text("seq -f 'flood-%.0f.' 1 300000; echo do''ne\r")
                    .await;
            }
            let since = std::time::Instant::now();
            // Not all bytes are kept here: 20 times a flood is much.
            loop {
                console.next().await;
                let from = console.received.len().saturating_sub(4096);
                if String::from_utf8_lossy(&console.received[from..]).contains("done\r\n") {
                    return;
                }
                if console.received.len() > 1 << 20 {
                    console.received.drain(..(1 << 20) - 4096);
                }
                assert!(
                    since.elapsed() < LIMIT * 2,
                    "a flood took longer than {:?}",
                    LIMIT * 2
                );
            }
        }
    });
    let watching = async {
        let mut most = before;
        loop {
            assert_eq!(host.get("/health").await.status, StatusCode::OK);
            most = most.max(host.memory());
            assert!(most < 500 << 20, "the server has {} MiB", most >> 20);
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        _ = join_all(floods) => {}
        () = watching => {}
    }
    let mut late = host.console(&sessions[0], "?scrollback=1000").await;
    let seen = late.wait_for("flood-300000.").await;
    let seen = numbers(&seen, "flood-", ".");
    let first = seen[0];
    let expected: Vec<u64> = (first..=300_000).collect();
    assert_eq!(seen, expected, "the history has every line, once");
    for session in &sessions {
        session.delete(&host).await;
    }
}
