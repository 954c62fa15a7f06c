//! What goes wrong: backends that fail, hang and go away, and servers that are killed.

use super::backend::Fault;
use super::*;
use crate::session::{Health, SessionError};
use berth_plugin_api::{Code, Error};
use std::time::Instant;

#[tokio::test]
async fn a_failed_creation_keeps_the_record_and_leaves_nothing() {
    let machine = Machine::new();
    let server = machine.serve().await;
    for call in ["create", "start"] {
        let error = Error::new(Code::Exhausted, "no memory left");
        machine.backend.fault(call, Fault::Fails(error));
        let session = server.create(machine.new_session("x")).await;
        let failed = server.wait_for(session.summary.id, Status::Error).await;
        assert_eq!(failed.status_message.as_deref(), Some("no memory left"));
        server
            .wait_until(session.summary.id, "that nothing is left", |_| {
                machine.backend.places().is_empty()
            })
            .await;
        server
            .sessions
            .recreate(&key(&session), false)
            .await
            .unwrap();
        server.wait_for(session.summary.id, Status::Running).await;
        server.sessions.delete(&key(&session), false).await.unwrap();
    }
    server.stop().await;
}

#[tokio::test]
async fn a_program_that_is_missing_is_a_failed_creation() {
    let machine = Machine::new();
    machine.backend.missing("sh");
    let server = machine.serve().await;
    let session = server.create(machine.new_session("x")).await;
    let failed = server.wait_for(session.summary.id, Status::Error).await;
    assert_eq!(
        failed.status_message.as_deref(),
        Some("command not found: sh")
    );
    assert!(failed.chat_history.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_call_that_hangs_ends_at_its_limit() {
    let machine = Machine::new();
    let server = machine.serve().await;
    machine.backend.fault("create", Fault::DoneAndHangs);
    let hung = server.create(machine.new_session("x")).await;
    // Meanwhile another backend's session comes up.
    let other = NewSession {
        backend: Some("other".to_owned()),
        ..machine.new_session("y")
    };
    let other = server.create(other).await;
    server.wait_for(other.summary.id, Status::Running).await;
    let failed = server.wait_for(hung.summary.id, Status::Error).await;
    assert!(failed.status_message.unwrap().contains("limit"));
    server
        .wait_until(hung.summary.id, "that nothing is left", |_| {
            machine.backend.places().is_empty()
        })
        .await;
    server.stop().await;
}

#[tokio::test]
async fn a_delete_does_not_wait_for_a_call_that_hangs() {
    let machine = Machine::new();
    let mut settings = machine.settings();
    settings.limits.create = Duration::from_mins(10);
    let server = machine.serve_with(settings).await;
    machine.backend.fault("create", Fault::DoneAndHangs);
    let hung = server.create(machine.new_session("x")).await;
    machine.backend.called("create", 1).await;
    let begun = Instant::now();
    server.sessions.delete(&key(&hung), false).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert!(machine.backend.places().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_backend_that_goes_away_is_unreachable_and_costs_nothing() {
    let machine = Machine::new();
    let server = machine.serve().await;
    let session = server.running(&machine, "").await;
    let id = session.summary.id;
    machine.backend.away(Some("no daemon"));
    let away = server
        .wait_until(id, "that it is unreachable", |session| {
            session.summary.health == Health::Unreachable
        })
        .await;
    assert_eq!(away.summary.status, Status::Running);
    let state = server.sessions.backend_state("fake").await.unwrap();
    assert_eq!(state.unreachable.as_deref(), Some("no daemon"));
    assert!(matches!(
        server.sessions.delete(&key(&session), false).await,
        Err(SessionError::BackendUnavailable { .. })
    ));
    // Its engine took everything with it.
    machine.backend.kill(&id.to_string());
    machine.backend.away(None);
    server
        .wait_until(id, "the second start", |_| {
            machine.backend.starts(&id.to_string()) == 2
        })
        .await;
    server.wait_for(id, Status::Running).await;
    let report = server.sessions.health(&key(&session)).await.unwrap();
    assert_eq!(report.reconciliation.attempts, 0);
    server.stop().await;
}

#[tokio::test]
async fn a_forced_delete_leaves_what_it_must_and_sweeps_it_later() {
    let machine = Machine::new();
    let server = machine.serve().await;
    let session = server.running(&machine, "").await;
    machine.backend.away(Some("no daemon"));
    server
        .wait_until(session.summary.id, "that it is unreachable", |session| {
            session.summary.health == Health::Unreachable
        })
        .await;
    let removal = server.sessions.delete(&key(&session), true).await.unwrap();
    assert!(removal.message.is_some());
    assert!(machine.session_folders().is_empty());
    assert_eq!(machine.backend.places().len(), 1);
    machine.backend.away(None);
    machine.backend.called("delete", 2).await;
    assert!(machine.backend.places().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn what_nobody_claims_is_swept_once_it_is_old_enough() {
    let machine = Machine::new();
    let server = machine.serve().await;
    let session = server.running(&machine, "").await;
    let now = jiff::Timestamp::now();
    let old = SessionId::generate().to_string();
    let young = SessionId::generate().to_string();
    machine.backend.stray(
        &old,
        &(now - jiff::SignedDuration::from_secs(121)).to_string(),
    );
    machine.backend.stray(&young, &now.to_string());
    machine.backend.called("delete", 1).await;
    let mut left = machine.backend.places();
    left.sort();
    let mut expected = vec![id_text(&session), young];
    expected.sort();
    assert_eq!(left, expected);
    server.stop().await;
}

#[tokio::test]
async fn folders_without_a_session_are_removed_at_the_next_start() {
    let machine = Machine::new();
    machine.serve().await.stop().await;
    let sessions = machine.folder.path().join("data/sessions");
    let stray = sessions.join(SessionId::generate().to_string());
    std::fs::create_dir_all(stray.join("work")).unwrap();
    machine.serve().await.stop().await;
    assert!(!stray.exists());
}

/// Runs one server on a runtime of its own, and kills it: no task of it gets to say another word.
fn until_killed<T>(machine: &Machine, life: impl AsyncFnOnce(&Server) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let result = runtime.block_on(async {
        let server = machine.serve().await;
        life(&server).await
    });
    runtime.shutdown_timeout(Duration::from_secs(10));
    // With its runtime, the git programs are killed too, which a server's death leaves to end by themselves.
    let branches = machine.repo.join(".git/refs/heads/berth");
    for entry in std::fs::read_dir(branches).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|kind| kind == "lock") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    result
}

#[test]
fn a_server_killed_in_any_call_of_a_creation_is_made_good_by_the_next() {
    for call in ["create", "start", "connect"] {
        for fault in [Fault::Hangs, Fault::DoneAndHangs] {
            let machine = Machine::new();
            machine.backend.fault(call, fault.clone());
            let id = until_killed(&machine, async |server: &Server| {
                let session = server.create(machine.new_session("echo once")).await;
                machine.backend.called(call, 1).await;
                session.summary.id
            });
            machine.backend.clear_faults();
            until_killed(&machine, async |server: &Server| {
                server.wait_for(id, Status::Running).await;
                let session = server
                    .wait_until(id, "the prompt", |session| !session.chat_history.is_empty())
                    .await;
                assert_eq!(session.chat_history.len(), 1, "{call} {fault:?}");
                server.stored(id).await;
                let keeper = machine.backend.keeper(&id.to_string());
                assert_eq!(keeper.typed(), "echo once\r", "{call} {fault:?}");
                assert_eq!(keeper.programs().len(), 1);
                assert_eq!(machine.backend.places().len(), 1);
            });
        }
    }
}

#[test]
fn a_server_killed_in_any_call_of_a_removal_is_made_good_by_the_next() {
    for call in ["delete", "stop"] {
        for fault in [Fault::Hangs, Fault::DoneAndHangs] {
            let machine = Machine::new();
            let id = until_killed(&machine, async |server: &Server| {
                let session = server.running(&machine, "").await;
                machine.backend.fault(call, fault.clone());
                let sessions = server.sessions.clone();
                let asked = key(&session);
                let mut asking = tokio::task::JoinSet::new();
                asking.spawn(async move {
                    let outcome = match call {
                        "stop" => sessions.stop(&asked).await.map(drop),
                        _ => sessions.delete(&asked, false).await.map(drop),
                    };
                    drop(outcome);
                });
                machine.backend.called(call, 1).await;
                session.summary.id
            });
            machine.backend.clear_faults();
            until_killed(&machine, async |server: &Server| {
                if call == "stop" {
                    server.wait_for(id, Status::Stopped).await;
                    return;
                }
                // A subscription goes on over the end, which a session's own view does not.
                let mut subscription = server.events.subscribe(id, Some(0)).await.unwrap();
                while next_event(&mut subscription).await["type"] != json!("session_deleted") {}
                assert!(machine.backend.places().is_empty());
                assert!(machine.session_folders().is_empty());
                assert_eq!(machine.branches(), ["main"]);
                server.stored(id).await;
            });
        }
    }
}

/// The server is killed at many instants of a life, and no instant is special.
#[test]
fn a_server_killed_at_any_instant_is_made_good_by_the_next() {
    for instant in 0..12_u64 {
        let machine = Machine::new();
        let id = until_killed(&machine, async |server: &Server| {
            let session = server.create(machine.new_session("echo once")).await;
            tokio::time::sleep(Duration::from_millis(instant * 4)).await;
            session.summary.id
        });
        until_killed(&machine, async |server: &Server| {
            server.wait_for(id, Status::Running).await;
            let session = server
                .wait_until(id, "the prompt", |session| !session.chat_history.is_empty())
                .await;
            assert_eq!(session.chat_history.len(), 1);
            let keeper = machine.backend.keeper(&id.to_string());
            assert_eq!(
                keeper.typed(),
                "echo once\r",
                "killed after {} ms",
                instant * 4
            );
            server.stored(id).await;
            server.sessions.delete(&id.into(), false).await.unwrap();
            assert!(machine.backend.places().is_empty());
            assert!(machine.session_folders().is_empty());
            assert_eq!(machine.branches(), ["main"]);
        });
    }
}
