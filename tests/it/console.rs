//! `/ws/console`: several clients, sizes, control messages, bad input.

use berth_tests::Control;
use berth_tests::TestHost;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Bytes, Message};

#[tokio::test]
async fn all_clients_see_and_all_may_type() {
    let host = TestHost::start().await;
    let session = host.running(&host.repository("project")).await;
    let mut first = host.console(&session, "").await;
    let mut second = host.console(&session, "").await;
    first.type_text("echo from-the-fi''rst\r").await;
    second.wait_for("from-the-first").await;
    first.wait_for("from-the-first").await;
    // As the reference's own client types: a text frame.
    second.send(Message::text("echo from-the-sec''ond\r")).await;
    first.wait_for("from-the-second").await;
    second.wait_for("from-the-second").await;

    let mut third = host.console(&session, "").await;
    let seen = third.wait_for("from-the-second").await;
    assert!(
        seen.contains("from-the-first"),
        "who comes late sees what the others see: {seen:?}"
    );
    first.close().await;
    second.close().await;
    third.type_text("echo still-th''ere\r").await;
    third.wait_for("still-there").await;
    session.delete(&host).await;
}

#[tokio::test]
async fn a_reader_may_neither_type_nor_resize() {
    let host = TestHost::start().await;
    let session = host.running(&host.repository("project")).await;
    let mut writer = host.console(&session, "?cols=90&rows=25").await;
    writer.type_text("stty size; echo re''ady\r").await;
    writer.wait_for("25 90").await;
    writer.wait_for("ready").await;
    let mut reader = host.console(&session, "?mode=read&cols=40&rows=10").await;
    reader.wait_for("ready").await;
    reader.type_text("echo by-the-rea''der\r").await;
    reader.resize(41, 11).await;
    writer.type_text("stty size; echo a''fter\r").await;
    let seen = reader.wait_for("after").await;
    assert!(!seen.contains("by-the-reader"), "{seen:?}");
    let seen = writer.wait_for("after").await;
    assert!(!seen.contains("by-the-rea"), "{seen:?}");
    assert_eq!(seen.matches("25 90").count(), 2, "{seen:?}");
    session.delete(&host).await;
}

#[tokio::test]
async fn the_size_is_that_of_who_typed_or_resized_last() {
    let host = TestHost::start().await;
    let session = host.running(&host.repository("project")).await;
    let mut first = host.console(&session, "?control=1&cols=100&rows=40").await;
    first.type_text("stty size\r").await;
    first.wait_for("40 100").await;
    let mut second = host.console(&session, "?control=1&cols=60&rows=20").await;
    second.type_text("stty size\r").await;
    second.wait_for("20 60").await;
    let told = first
        .wait_for_control("the new size", |message| message["type"] == "resize")
        .await;
    assert_eq!(told, json!({"type": "resize", "cols": 60, "rows": 20}));
    first.resize(101, 41).await;
    first.type_text("stty size\r").await;
    first.wait_for("41 101").await;
    session.delete(&host).await;
}

#[tokio::test]
async fn control_messages_are_sent_to_those_who_ask() {
    let host = TestHost::start().await;
    let session = host.running(&host.repository("project")).await;
    let mut plain = host.console(&session, "").await;
    let mut asking = host.console(&session, "?control=1").await;
    asking
        .wait_for_control("the replay's end", |message| {
            message["type"] == "replay_end"
        })
        .await;
    asking.type_text("exit 7\r").await;
    let exit = asking
        .wait_for_control("the end", |message| message["type"] == "exit")
        .await;
    assert_eq!(exit, json!({"type": "exit", "code": 7}));
    plain.wait_for("7").await;
    session.wait_for(&host, "error").await;
    let mut late = host.console(&session, "").await;
    late.wait_for("exit 7").await;
    assert_eq!(plain.control, [Value::Null; 0]);
    session.delete(&host).await;
}

#[tokio::test]
async fn bad_control_messages_are_answered_and_type_nothing() {
    let host = TestHost::start().await;
    let session = host.running(&host.repository("project")).await;
    let mut console = host.console(&session, "").await;
    let bad = [
        json!({"type": "resize"}),
        json!({"type": "resize", "cols": 0, "rows": 24}),
        json!({"type": "resize", "cols": 1001, "rows": 24}),
        json!({"type": "resize", "cols": "80", "rows": 24}),
        json!({"type": "resize", "cols": 80, "rows": -1}),
    ];
    for message in &bad {
        console.send(Message::text(message.to_string())).await;
        let answer = loop {
            if let Control::Message(answer) = console.next().await {
                break answer;
            }
        };
        assert_eq!(answer["type"], "error", "{message}: {answer}");
        assert!(answer["message"].is_string(), "{message}: {answer}");
    }
    // JSON of no known type is what a person may well type.
    console
        .send(Message::text("echo {\"type\":1}-ty''ped\r"))
        .await;
    let seen = console.wait_for("-typed").await;
    assert!(!seen.contains("resize"), "{seen:?}");
    session.delete(&host).await;
}

#[tokio::test]
async fn a_wrong_query_is_refused() {
    let host = TestHost::start().await;
    let session = host.running(&host.repository("project")).await;
    for query in [
        "?cols=0",
        "?rows=1001",
        "?cols=x",
        "?mode=write",
        "?scrollback=-1",
        "?scrollback=100001",
        "?control=2",
        "?colour=1",
    ] {
        let refused = host
            .refused_socket(&format!("/ws/console/{}{query}", session.id), &[])
            .await;
        let message = refused.expect_error(400, "INVALID_REQUEST");
        let name = query[1..].split('=').next().unwrap();
        assert!(message.contains(name), "{query}: {message}");
    }
    session.delete(&host).await;
}

#[tokio::test]
async fn an_unknown_session_is_said_and_closed() {
    let host = TestHost::start().await;
    for id in ["7c9e6679-7425-40de-944b-e07fc1f90ae7", "no-such-name"] {
        let mut console = host.console_of(id, "").await;
        assert_eq!(
            console.next().await,
            Control::Message(json!({"type": "error", "message": "Session not found"}))
        );
        assert!(matches!(console.next().await, Control::Closed(_)));
    }
}

#[tokio::test]
async fn a_session_is_found_by_its_name() {
    let host = TestHost::start().await;
    let session = host.running(&host.repository("project")).await;
    let mut console = host.console_of(&session.name, "").await;
    console.type_text("echo by-na''me\r").await;
    console.wait_for("by-name").await;
    session.delete(&host).await;
}

#[tokio::test]
async fn a_message_over_the_limit_closes() {
    let host = TestHost::start().await;
    let session = host.running(&host.repository("project")).await;
    let mut console = host.console(&session, "").await;
    console
        .send(Message::Binary(Bytes::from(vec![b' '; (1 << 20) + 1])))
        .await;
    assert_eq!(console.wait_for_close().await, Some(1009));
    session.delete(&host).await;
}

#[tokio::test]
async fn frames_never_end_inside_a_character() {
    let host = TestHost::start().await;
    let session = host.running(&host.repository("project")).await;
    let mut console = host.console(&session, "").await;
    console
        .type_text("i=0; while [ $i -lt 3000 ]; do i=$((i+1)); printf 'a€ä✓🚢-%s ' $i; done; echo; echo al''l\r")
        .await;
    let seen = console.wait_for("all\r\n").await;
    assert!(console.whole_characters);
    assert!(!seen.contains('\u{fffd}'));
    session.delete(&host).await;
}

#[tokio::test]
async fn a_client_that_stops_reading_is_brought_up_to_date() {
    let host = TestHost::start().await;
    let session = host.running(&host.repository("project")).await;
    let mut lazy = host.console(&session, "").await;
    lazy.type_text("echo he''re\r").await;
    lazy.wait_for("here").await;
    let mut eager = host.console(&session, "").await;
    // 20 MB while one of the two does not read.
    eager
        .type_text(
            "yes 'a line of output that says nothing at all' | head -c 20000000; echo do''ne\r",
        )
        .await;
    eager.wait_for("done").await;
    lazy.wait_for("done").await;
    lazy.type_text("echo on''ward\r").await;
    lazy.wait_for("onward").await;
    session.delete(&host).await;
}
