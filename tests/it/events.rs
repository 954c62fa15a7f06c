//! `/ws/events` and the events' other ways.

use crate::main_line::assert_consecutive;
use berth_tests::{TestHost, eventually};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Bytes, Message};

const UNKNOWN: &str = "7c9e6679-7425-40de-944b-e07fc1f90ae7";

#[tokio::test]
async fn what_was_missed_is_replayed_with_no_gap_and_no_repeat() {
    let mut host = TestHost::start().await;
    let session = host.running(&host.repository("project")).await;
    let mut live = host.events().await;
    let subscribed = live.subscribe(&session.id, Some(0)).await;
    let newest = subscribed["seq"].as_u64().unwrap();
    let replayed = live
        .until("the newest", |event| event["seq"] == newest)
        .await;
    assert_consecutive(&replayed);
    assert_eq!(replayed[0]["type"], "session_status");
    assert_eq!(replayed[0]["status"], "starting");
    for event in &replayed {
        assert_eq!(event["session_id"], session.id.as_str());
        assert!(
            event["at"].as_str().is_some_and(|at| at.ends_with('Z')),
            "{event}"
        );
    }

    for number in 0..20 {
        send(&mut live, &session.id, &format!("true {number}")).await;
    }
    let mut all = replayed;
    while all
        .iter()
        .filter(|event| event["type"] == "chat_message")
        .count()
        < 20
    {
        let message = live.next().await;
        if message["seq"].is_number() {
            all.push(message);
        }
    }
    assert_consecutive(&all);
    assert_eq!(
        session.events(&host).await,
        all,
        "over HTTP as on the socket"
    );

    host.kill_9().await;
    host.restart().await;
    session.wait_for(&host, "running").await;
    let middle = all.len() as u64 / 2;
    let mut resumed = host.events().await;
    resumed.subscribe(&session.id, Some(middle)).await;
    for expected in &all[usize::try_from(middle).unwrap()..] {
        assert_eq!(resumed.next().await, *expected);
    }
    // Without `after`, only what comes later.
    let mut later = host.events().await;
    let subscribed = later.subscribe(&session.id, None).await;
    let newest = subscribed["seq"].as_u64().unwrap();
    send(&mut later, &session.id, "true again").await;
    let seen = later
        .until("the message", |event| event["type"] == "chat_message")
        .await;
    let first = seen
        .iter()
        .find(|message| message["seq"].is_number())
        .unwrap();
    assert_eq!(first["seq"], newest + 1);
    session.delete(&host).await;
}

async fn send(events: &mut berth_tests::Events, session_id: &str, content: &str) {
    events
        .send(&json!({"type": "send_message", "session_id": session_id, "content": content}))
        .await;
}

#[tokio::test]
async fn a_message_is_accepted_typed_and_told() {
    let host = TestHost::start().await;
    let session = host.running(&host.repository("project")).await;
    let mut events = host.events().await;
    events.subscribe(&session.id, None).await;
    events
        .send(&json!({"type": "send_message", "session_id": session.id, "id": "m1", "content": "echo said-$((1+1))"}))
        .await;
    let seen = events
        .until("the message", |event| event["type"] == "chat_message")
        .await;
    let last = seen.last().unwrap();
    assert_eq!(
        last["message"],
        json!({"role": "user", "content": "echo said-$((1+1))"})
    );
    let accepted = match seen
        .iter()
        .find(|message| message["type"] == "message_accepted")
    {
        Some(accepted) => accepted.clone(),
        None => events
            .until("the acceptance", |message| {
                message["type"] == "message_accepted"
            })
            .await
            .pop()
            .unwrap(),
    };
    assert_eq!(
        accepted,
        json!({"type": "message_accepted", "session_id": session.id, "id": "m1", "held": false})
    );
    host.console(&session, "").await.wait_for("said-2").await;

    host.post(
        &session.path("/messages"),
        &json!({"content": "echo over-ht''tp"}),
    )
    .await
    .expect(StatusCode::OK);
    host.console(&session, "").await.wait_for("over-http").await;
    let seen = session.get(&host).await;
    let history: Vec<&Value> = seen["chat_history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["content"])
        .collect();
    assert_eq!(history, ["echo said-$((1+1))", "echo over-ht''tp"]);
    session.delete(&host).await;
}

#[tokio::test]
async fn a_star_is_every_session_later_ones_included() {
    let host = TestHost::start().await;
    let repository = host.repository("project");
    let first = host.running(&repository).await;
    let mut events = host.events().await;
    events
        .send(&json!({"type": "subscribe", "session_id": "*", "after": {first.id.as_str(): 0}}))
        .await;
    let subscribed = events.next().await;
    assert_eq!(subscribed["type"], "subscribed");
    assert_eq!(subscribed["session_id"], "*");
    assert!(subscribed.get("seq").is_none(), "{subscribed}");
    let told = events
        .until("the first to run", |event| event["status"] == "running")
        .await;
    assert!(
        told.iter()
            .all(|event| event["session_id"] == first.id.as_str())
    );
    assert_eq!(told[0]["seq"], 1);
    let second = host.create(&repository).await;
    let told = events
        .until("the second to run", |event| {
            event["session_id"] == second.id.as_str() && event["status"] == "running"
        })
        .await;
    let of_second: Vec<Value> = told
        .into_iter()
        .filter(|event| event["session_id"] == second.id.as_str())
        .collect();
    assert_consecutive(&of_second);
    first.delete(&host).await;
    second.delete(&host).await;
    let gone = [first.id.as_str(), second.id.as_str()].map(str::to_owned);
    let mut left = gone.to_vec();
    while !left.is_empty() {
        let event = events.next().await;
        if event["type"] == "session_deleted" {
            left.retain(|id| event["session_id"] != id.as_str());
        }
    }
}

#[tokio::test]
async fn who_unsubscribes_hears_no_more() {
    let host = TestHost::start().await;
    let repository = host.repository("project");
    let (first, second) = (
        host.running(&repository).await,
        host.running(&repository).await,
    );
    let mut events = host.events().await;
    events.subscribe(&first.id, None).await;
    events.subscribe(&second.id, None).await;
    events
        .send(&json!({"type": "unsubscribe", "session_id": first.id}))
        .await;
    events.send(&json!({"type": "ping"})).await;
    events
        .until("pong", |message| message["type"] == "pong")
        .await;
    for session in [&first, &second] {
        host.post(&session.path("/messages"), &json!({"content": "true"}))
            .await
            .expect(StatusCode::OK);
    }
    let seen = events
        .until("the second's", |event| {
            event["session_id"] == second.id.as_str()
        })
        .await;
    assert!(
        seen.iter()
            .all(|event| event["session_id"] != first.id.as_str()),
        "{seen:?}"
    );
    first.delete(&host).await;
    second.delete(&host).await;
}

#[tokio::test]
async fn bad_messages_are_answered_and_the_socket_stays() {
    let host = TestHost::start().await;
    let session = host.running(&host.repository("project")).await;
    let mut events = host.events().await;
    let id = session.id.as_str();
    let bad = [
        ("not json".to_owned(), "INVALID_REQUEST", None),
        ("[]".to_owned(), "INVALID_REQUEST", None),
        (json!({}).to_string(), "INVALID_REQUEST", None),
        (
            json!({"type": "dance"}).to_string(),
            "INVALID_REQUEST",
            None,
        ),
        (
            json!({"type": "subscribe"}).to_string(),
            "INVALID_REQUEST",
            None,
        ),
        (
            json!({"type": "subscribe", "session_id": 7}).to_string(),
            "INVALID_REQUEST",
            None,
        ),
        (
            json!({"type": "subscribe", "session_id": id, "after": -1}).to_string(),
            "INVALID_REQUEST",
            Some(id),
        ),
        (
            json!({"type": "subscribe", "session_id": id, "after": "1"}).to_string(),
            "INVALID_REQUEST",
            Some(id),
        ),
        (
            json!({"type": "subscribe", "session_id": id, "after": 1_000_000}).to_string(),
            "INVALID_REQUEST",
            Some(id),
        ),
        (
            json!({"type": "subscribe", "session_id": UNKNOWN}).to_string(),
            "SESSION_NOT_FOUND",
            Some(UNKNOWN),
        ),
        (
            json!({"type": "send_message", "session_id": UNKNOWN, "content": "x"}).to_string(),
            "SESSION_NOT_FOUND",
            Some(UNKNOWN),
        ),
        (
            json!({"type": "send_message", "session_id": id}).to_string(),
            "INVALID_REQUEST",
            None,
        ),
    ];
    for (text, code, about) in bad {
        events.send_raw(Message::text(text.clone())).await;
        let answer = events.next().await;
        assert_eq!(answer["type"], "error", "{text}: {answer}");
        assert_eq!(answer["code"], code, "{text}: {answer}");
        assert!(
            answer["message"]
                .as_str()
                .is_some_and(|message| !message.is_empty()),
            "{text}: {answer}"
        );
        if let Some(about) = about {
            assert_eq!(answer["session_id"], about, "{text}: {answer}");
        }
    }
    events
        .send_raw(Message::Binary(Bytes::from_static(b"\xff\xfe")))
        .await;
    assert_eq!(events.next().await["type"], "error");
    events.send(&json!({"type": "ping"})).await;
    assert_eq!(events.next().await, json!({"type": "pong"}));
    session.delete(&host).await;
}

#[tokio::test]
async fn an_unknown_id_in_a_map_leaves_the_rest() {
    let host = TestHost::start().await;
    let session = host.running(&host.repository("project")).await;
    let mut events = host.events().await;
    events
        .send(&json!({"type": "subscribe", "session_id": "*", "after": {session.id.as_str(): 0, UNKNOWN: 0}}))
        .await;
    let mut seen = Vec::new();
    while !(seen
        .iter()
        .any(|message: &Value| message["code"] == "SESSION_NOT_FOUND")
        && seen.iter().any(|message| message["status"] == "running"))
    {
        seen.push(events.next().await);
    }
    let error = seen
        .iter()
        .find(|message| message["type"] == "error")
        .unwrap();
    assert_eq!(error["session_id"], UNKNOWN);
    session.delete(&host).await;
}

#[tokio::test]
async fn a_message_over_the_limit_closes() {
    let host = TestHost::start().await;
    let mut events = host.events().await;
    events
        .send_raw(Message::text(" ".repeat((1 << 20) + 1)))
        .await;
    loop {
        match events.next_frame().await {
            Some(Message::Close(frame)) => {
                assert_eq!(frame.map(|frame| u16::from(frame.code)), Some(1009));
                break;
            }
            Some(_) => {}
            None => panic!("no close frame"),
        }
    }
}

#[tokio::test]
async fn pages_of_events_fit_together() {
    let host = TestHost::start().await;
    let session = host.running(&host.repository("project")).await;
    for number in 0..5 {
        host.post(
            &session.path("/messages"),
            &json!({"content": format!("true {number}")}),
        )
        .await
        .expect(StatusCode::OK);
    }
    let all = eventually("five messages", async || {
        let all = session.events(&host).await;
        if all
            .iter()
            .filter(|event| event["type"] == "chat_message")
            .count()
            == 5
        {
            Ok(all)
        } else {
            Err(all)
        }
    })
    .await;
    let mut paged: Vec<Value> = Vec::new();
    let mut after = json!(0);
    while let Some(from) = after.as_u64() {
        let page = host
            .get(&session.path(&format!("/events?after={from}&limit=2")))
            .await
            .expect(StatusCode::OK)
            .body;
        let events = page["events"].as_array().unwrap();
        assert!(events.len() <= 2);
        paged.extend(events.clone());
        after = page["next_after"].clone();
    }
    assert_eq!(paged, all);
    for query in [
        "after=-1",
        "after=x",
        "after=1000000",
        "limit=0",
        "limit=x",
        "order=up",
    ] {
        host.get(&session.path(&format!("/events?{query}")))
            .await
            .expect_error(400, "INVALID_REQUEST");
    }
    session.delete(&host).await;
}
