use super::*;
use crate::db::Database;
use crate::session::{Activity, Health, Role, SessionId, Status};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

async fn log() -> (tempfile::TempDir, EventLog) {
    let folder = tempfile::tempdir().unwrap();
    let db = Database::open(&folder.path().join("berth.db"))
        .await
        .unwrap();
    (folder, EventLog::open(db))
}

fn said(text: &str) -> NewEvent {
    EventBody::ChatMessage {
        message: ChatMessage {
            role: Role::User,
            content: text.to_owned(),
        },
    }
    .into()
}

async fn next(subscription: &mut Subscription) -> Arc<Event> {
    match timeout(Duration::from_secs(20), subscription.next())
        .await
        .expect("an event comes")
        .unwrap()
    {
        Delivery::Event(event) => event,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn shapes_are_those_of_the_contract() {
    let (_folder, log) = log().await;
    let id = SessionId::generate();
    let bodies = vec![
        (
            EventBody::SessionStatus {
                status: Status::Running,
                activity: Activity::Working,
                health: Health::Healthy,
                message: None,
            },
            json!({"type": "session_status", "status": "running", "activity": "working", "health": "Healthy"}),
        ),
        (
            EventBody::ChatMessage {
                message: ChatMessage {
                    role: Role::Assistant,
                    content: "…".to_owned(),
                },
            },
            json!({"type": "chat_message", "message": {"role": "assistant", "content": "…"}}),
        ),
        (
            EventBody::ToolCall {
                tool: ToolCall {
                    id: "t".to_owned(),
                    name: "Bash".to_owned(),
                    input: json!({"command": "ls"}),
                },
            },
            json!({"type": "tool_call", "tool": {"id": "t", "name": "Bash", "input": {"command": "ls"}}}),
        ),
        (
            EventBody::ToolResult {
                tool: ToolResult {
                    id: "t".to_owned(),
                    name: "Bash".to_owned(),
                    output: "a".to_owned(),
                    is_error: false,
                },
            },
            json!({"type": "tool_result", "tool": {"id": "t", "name": "Bash", "output": "a", "is_error": false}}),
        ),
        (
            EventBody::ApprovalRequested {
                approval: ApprovalRequest {
                    id: "p".to_owned(),
                    tool: ToolCall {
                        id: "t".to_owned(),
                        name: "Bash".to_owned(),
                        input: json!({}),
                    },
                    options: vec!["allow".to_owned(), "deny".to_owned()],
                },
            },
            json!({"type": "approval_requested", "approval":
                {"id": "p", "tool": {"id": "t", "name": "Bash", "input": {}}, "options": ["allow", "deny"]}}),
        ),
        (
            EventBody::ApprovalResolved {
                approval: ApprovalResolution {
                    id: "p".to_owned(),
                    decision: "allow".to_owned(),
                    by: "api".to_owned(),
                },
            },
            json!({"type": "approval_resolved", "approval": {"id": "p", "decision": "allow", "by": "api"}}),
        ),
        (
            EventBody::SessionDeleted,
            json!({"type": "session_deleted"}),
        ),
    ];
    for (index, (body, expected)) in bodies.into_iter().enumerate() {
        let events = log.append(id, vec![body.into()]).await.unwrap();
        let mut got: Value = serde_json::from_slice(&events[0].json).unwrap();
        let fields = got.as_object_mut().unwrap();
        assert_eq!(fields.remove("session_id"), Some(json!(id)));
        assert_eq!(fields.remove("seq"), Some(json!(index + 1)));
        let at = fields.remove("at").unwrap();
        assert!(at.as_str().unwrap().ends_with('Z'), "{at}");
        assert_eq!(got, expected);
    }
}

#[tokio::test]
async fn a_disk_that_was_full_takes_events_again() {
    let folder = tempfile::tempdir().unwrap();
    let db = Database::open(&folder.path().join("berth.db"))
        .await
        .unwrap();
    let limit = "pragma max_page_count = 60";
    sqlx::query(limit)
        .execute(&mut *db.write().await)
        .await
        .unwrap();
    let log = EventLog::open(db);
    let id = SessionId::generate();
    let mut stored = 0;
    while log
        .append(id, vec![said(&"x".repeat(20_000))])
        .await
        .is_ok()
    {
        stored += 1;
        assert!(stored < 100, "the limit holds");
    }
    let seqs = log.append(id, vec![said("again")]).await.unwrap();
    assert_eq!(seqs.len(), 1);
    let after = log.subscribe(id, Some(stored)).await.unwrap();
    assert_eq!(after.newest(), Some(stored + 1));
}

#[tokio::test]
async fn many_writers_make_one_row_of_numbers() {
    let (_folder, log) = log().await;
    let ids = [SessionId::generate(), SessionId::generate()];
    let mut live = log.subscribe(ids[0], None).await.unwrap();
    let mut writers = JoinSet::new();
    for writer in 0..20 {
        let log = log.clone();
        writers.spawn(async move {
            for number in 0..50 {
                let id = ids[number % 2];
                let text = format!("{writer}-{number}");
                log.append(id, vec![said(&text), said(&text)])
                    .await
                    .unwrap();
            }
        });
    }
    for seq in 1..=1_000 {
        assert_eq!(next(&mut live).await.seq, seq);
    }
    while writers.join_next().await.is_some() {}
    for id in ids {
        let page = log.page(id, 0, 2_000).await.unwrap();
        let seqs: Vec<u64> = page.events.iter().map(|event| event.seq).collect();
        assert_eq!(seqs, (1..=1_000).collect::<Vec<_>>());
        assert_eq!(page.next_after, None);
    }
}

#[tokio::test]
async fn a_replay_goes_live_without_gap_or_repeat() {
    let (_folder, log) = log().await;
    let id = SessionId::generate();
    log.append(id, (0..1_200).map(|_| said("old")).collect())
        .await
        .unwrap();
    let writer = {
        let log = log.clone();
        async move {
            for _ in 0..300 {
                log.append(id, vec![said("new"); 10]).await.unwrap();
            }
        }
    };
    let reader = async {
        for after in [0, 7, 1_200] {
            let mut subscription = log.subscribe(id, Some(after)).await.unwrap();
            for seq in after + 1..=4_200 {
                assert_eq!(next(&mut subscription).await.seq, seq);
            }
        }
    };
    tokio::join!(writer, reader);
}

#[tokio::test]
async fn numbers_go_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("berth.db");
    let id = SessionId::generate();
    for round in 0..3 {
        let db = Database::open(&path).await.unwrap();
        let log = EventLog::open(db.clone());
        assert_eq!(log.newest(id).await.unwrap(), round * 2);
        let mut subscription = log.subscribe(id, Some(round)).await.unwrap();
        assert_eq!(subscription.newest(), Some(round * 2));
        log.append(id, vec![said("a"), said("b")]).await.unwrap();
        for seq in round + 1..=round * 2 + 2 {
            assert_eq!(next(&mut subscription).await.seq, seq);
        }
        log.close().await;
        assert!(matches!(
            subscription.next().await.unwrap(),
            Delivery::Closed
        ));
        db.close().await;
    }
}

#[tokio::test]
async fn the_same_source_key_is_stored_once() {
    let (_folder, log) = log().await;
    let id = SessionId::generate();
    let keyed = |key: &str| NewEvent {
        source_key: Some(key.to_owned()),
        ..said(key)
    };
    let first = log
        .append(id, vec![keyed("a"), keyed("a"), said("x"), keyed("b")])
        .await
        .unwrap();
    assert_eq!(first.len(), 3);
    let (one, two) = tokio::join!(
        log.append(id, vec![keyed("b"), keyed("c")]),
        log.append(id, vec![keyed("c"), keyed("d")])
    );
    let seqs: Vec<u64> = [one.unwrap(), two.unwrap()]
        .concat()
        .iter()
        .map(|event| event.seq)
        .collect();
    assert_eq!(seqs, [4, 5]);
    let other = log
        .append(SessionId::generate(), vec![keyed("a")])
        .await
        .unwrap();
    assert_eq!(other.len(), 1);
}

#[tokio::test]
async fn after_beyond_the_newest_is_refused() {
    let (_folder, log) = log().await;
    let id = SessionId::generate();
    log.append(id, vec![said("a")]).await.unwrap();
    let refused = |error: EventError| {
        assert!(matches!(
            error,
            EventError::AfterBeyond {
                after: 2,
                newest: 1
            }
        ));
    };
    refused(log.subscribe(id, Some(2)).await.unwrap_err());
    refused(log.page(id, 2, 10).await.unwrap_err());
    assert!(log.page(id, 1, 10).await.unwrap().events.is_empty());
    let (_subscription, mut bad) = log.subscribe_all(vec![(id, 2), (id, 1)]).await;
    refused(bad.remove(0).1);
    assert!(bad.is_empty());
}

#[tokio::test]
async fn pages_say_where_the_next_begins() {
    let (_folder, log) = log().await;
    let id = SessionId::generate();
    log.append(id, vec![said("a"); 5]).await.unwrap();
    let mut after = 0;
    let mut sizes = Vec::new();
    loop {
        let page = log.page(id, after, 2).await.unwrap();
        sizes.push(page.events.len());
        let Some(next) = page.next_after else { break };
        after = next;
    }
    assert_eq!(sizes, [2, 2, 1]);
}

#[tokio::test]
async fn all_sessions_are_heard_also_later_ones() {
    let (_folder, log) = log().await;
    let (old, other) = (SessionId::generate(), SessionId::generate());
    log.append(old, vec![said("1"), said("2"), said("3")])
        .await
        .unwrap();
    log.append(other, vec![said("1")]).await.unwrap();
    let (mut all, refused) = log.subscribe_all(vec![(old, 1)]).await;
    assert!(refused.is_empty());
    assert_eq!(all.newest(), None);
    let made_later = SessionId::generate();
    log.append(made_later, vec![said("1")]).await.unwrap();
    log.append(old, vec![said("4")]).await.unwrap();
    log.append(other, vec![said("2")]).await.unwrap();
    let mut got = Vec::new();
    for _ in 0..5 {
        let event = next(&mut all).await;
        got.push((event.session_id, event.seq));
    }
    assert_eq!(
        got,
        // Order holds within each session; a replay may already find what was stored meanwhile.
        [(old, 2), (old, 3), (old, 4), (made_later, 1), (other, 2)]
    );
}

#[tokio::test]
async fn a_slow_subscriber_is_told_and_resumes() {
    let (_folder, log) = log().await;
    let id = SessionId::generate();
    let mut slow = log.subscribe(id, None).await.unwrap();
    let mut quick = log.subscribe(id, None).await.unwrap();
    // It reads live from its first event on.
    log.append(id, vec![said("first")]).await.unwrap();
    assert_eq!(next(&mut slow).await.seq, 1);
    let fallen = slow.fallen_behind();
    let total = hub::QUEUE_EVENTS as u64 + 5_000;
    let flood = async {
        for _ in 0..total / 1_000 {
            log.append(id, vec![said("flood"); 1_000]).await.unwrap();
        }
    };
    let keep_up = async {
        for seq in 1..=total / 1_000 * 1_000 {
            assert_eq!(next(&mut quick).await.seq, seq);
        }
    };
    tokio::join!(flood, keep_up);
    timeout(Duration::from_secs(20), fallen).await.unwrap();
    assert!(matches!(slow.next().await.unwrap(), Delivery::Behind));
    let mut again = log.subscribe(id, Some(1)).await.unwrap();
    for seq in 2..=total / 1_000 * 1_000 {
        assert_eq!(next(&mut again).await.seq, seq);
    }
}

#[tokio::test]
async fn what_is_missed_during_a_replay_is_read_from_the_store() {
    let (_folder, log) = log().await;
    let id = SessionId::generate();
    log.append(id, vec![said("old"); 10]).await.unwrap();
    let mut subscription = log.subscribe(id, Some(0)).await.unwrap();
    // More than the queue holds, before the first event is read.
    let total = hub::QUEUE_EVENTS as u64 + 2_000;
    for _ in 0..total / 1_000 {
        log.append(id, vec![said("new"); 1_000]).await.unwrap();
    }
    for seq in 1..=10 + total / 1_000 * 1_000 {
        assert_eq!(next(&mut subscription).await.seq, seq);
    }
}

struct Insert(&'static str);

#[async_trait::async_trait]
impl Along for Insert {
    async fn apply(self: Box<Self>, db: &mut sqlx::SqliteConnection) -> Result<(), DbError> {
        sqlx::query(
            "insert into session (session_id, name, tags, backend, agent, prompt, spec, record, status, activity, \
             health, archived, created_at, updated_at) \
             values ($1, $1, '[]', '', '', '', '{}', '{}', '', '', '', 0, '', '')",
        )
        .bind(self.0)
        .execute(db)
        .await?;
        Ok(())
    }
}

#[tokio::test]
async fn a_refused_change_takes_its_events_with_it_and_nothing_else() {
    let (_folder, log) = log().await;
    let id = SessionId::generate();
    let (one, two, three) = tokio::join!(
        log.append_along(id, vec![said("a")], Insert("same")),
        log.append_along(id, vec![said("b")], Insert("same")),
        log.append(id, vec![said("c")]),
    );
    assert_eq!(one.unwrap()[0].seq, 1);
    assert!(matches!(two.unwrap_err(), EventError::Database(error) if error.is_unique_violation()));
    assert_eq!(three.unwrap()[0].seq, 2);
}
