//! What flows over plain HTTP: events for clients without a WebSocket, and files into a session.

use berth_tests::{Answer, TestHost, TestSession, within};
use reqwest::Method;
use serde_json::Value;

#[tokio::test]
async fn server_sent_events_resume_after_the_last_one() {
    let mut host = TestHost::start().await;
    let session = host.running(&host.repository("project")).await;
    let stored = session.events(&host).await;
    host.kill_9().await;
    host.restart().await;
    let mut stream = host
        .request(Method::GET, &session.path("/events/stream"))
        .header("last-event-id", "1")
        .send()
        .await
        .unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    while text.matches("\n\n").count() < stored.len() {
        let chunk = within("an event", stream.chunk()).await.unwrap();
        text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
    }
    let events: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    assert_eq!(events[0]["type"], "subscribed");
    assert_eq!(events[1..stored.len()], stored[1..]);
    assert!(text.contains("id: 2\ndata: "), "{text}");
    for (id, path) in [("x", "/events/stream"), ("99999", "/events/stream")] {
        let request = host
            .request(Method::GET, &session.path(path))
            .header("last-event-id", id);
        host.answer(request)
            .await
            .expect_error(400, "INVALID_REQUEST");
    }
}

async fn upload(host: &TestHost, session: &TestSession, query: &str, name: &str) -> Answer {
    let body = format!(
        "--cut\r\ncontent-disposition: form-data; name=\"f\"; filename=\"{name}\"\r\n\r\nhello\r\n--cut--\r\n"
    );
    let request = host
        .request(Method::POST, &session.path(&format!("/upload{query}")))
        .header("content-type", "multipart/form-data; boundary=cut")
        .body(body);
    host.answer(request).await
}

#[tokio::test]
async fn files_are_put_where_the_session_works() {
    let host = TestHost::start().await;
    let session = host.running(&host.repository("project")).await;
    let worktree = session.worktree(&host).await;
    let answer = upload(&host, &session, "?dir=in", "a.txt").await;
    let answer = answer.expect(reqwest::StatusCode::OK).body;
    assert_eq!(answer["success"], true);
    assert_eq!(answer["files"][0]["name"], "a.txt");
    assert_eq!(answer["files"][0]["size"], 5);
    let put = worktree.join("in/a.txt");
    assert_eq!(std::fs::read_to_string(&put).unwrap(), "hello");
    upload(&host, &session, "?dir=in", "a.txt")
        .await
        .expect_error(409, "CONFLICT");
    upload(&host, &session, "?dir=in&overwrite=true", "a.txt")
        .await
        .expect(reqwest::StatusCode::OK);
    for (query, name) in [
        ("", "../a.txt"),
        ("", "/tmp/a.txt"),
        ("?dir=..", "a.txt"),
        ("?dir=/tmp", "a.txt"),
        ("?overwrite=maybe", "a.txt"),
    ] {
        upload(&host, &session, query, name)
            .await
            .expect_error(400, "INVALID_REQUEST");
    }
    let request = host
        .request(Method::POST, &session.path("/upload"))
        .header("content-type", "application/json")
        .body("{}");
    host.answer(request)
        .await
        .expect_error(415, "UNSUPPORTED_MEDIA_TYPE");
}
