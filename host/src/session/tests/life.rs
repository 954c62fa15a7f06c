//! What a session goes through when all is well, or dies from outside.

use super::*;
use crate::session::{Action, Health, ListFilter, MetadataChange, Role, SessionError};

#[tokio::test]
async fn a_session_comes_up_is_used_and_goes() {
    let machine = Machine::new();
    let server = machine.serve().await;
    let (mut all, _) = server.events.subscribe_all(Vec::new()).await;
    let session = server.create(machine.new_session("echo hello")).await;
    assert_eq!(session.summary.status, Status::Starting);
    assert_eq!(session.summary.name.as_str(), "echo-hello");
    let first = next_event(&mut all).await;
    assert_eq!(first["seq"], json!(1));
    assert_eq!(first["status"], json!("starting"));
    server.wait_for(session.summary.id, Status::Running).await;
    let session = server
        .wait_until(session.summary.id, "the prompt", |session| {
            !session.chat_history.is_empty()
        })
        .await;
    assert_eq!(session.chat_history[0].role, Role::User);
    assert_eq!(session.chat_history[0].content, "echo hello");
    let keeper = machine.backend.keeper(&id_text(&session));
    assert_eq!(keeper.typed(), "echo hello\r");
    assert_eq!(
        session.repositories[0].branch.as_deref(),
        Some("berth/echo-hello")
    );
    let worktree = session.worktree_path.clone().unwrap();
    assert!(Path::new(&worktree).join("README").is_file());
    let program = &keeper.programs()[0];
    assert_eq!(program.program.cwd.as_deref(), Some(worktree.as_str()));
    assert_eq!(program.program.env["TERM"], "xterm-256color");
    assert_eq!(program.program.env["BERTH_SESSION"], id_text(&session));
    assert!(program.program.env["HOME"].ends_with("/home"));

    server
        .sessions
        .send_message(&key(&session), "and more")
        .await
        .unwrap();
    assert_eq!(keeper.typed(), "echo hello\rand more\r");
    let session = server.sessions.get(&key(&session)).await.unwrap();
    assert_eq!(session.chat_history[1].content, "and more");

    let mut subscription = server
        .sessions
        .subscribe(&key(&session), Some(0))
        .await
        .unwrap();
    server.sessions.delete(&key(&session), false).await.unwrap();
    let mut last = Value::Null;
    let mut before = Value::Null;
    while last["type"] != json!("session_deleted") {
        before = last;
        last = next_event(&mut subscription).await;
    }
    assert_eq!(before["status"], json!("deleting"));
    assert!(machine.backend.places().is_empty());
    assert!(machine.session_folders().is_empty());
    assert_eq!(machine.branches(), ["main"]);
    assert!(matches!(
        server.sessions.get(&key(&session)).await,
        Err(SessionError::NotFound(_))
    ));
    // Who was away still hears of it, by the id.
    let mut late = server
        .sessions
        .subscribe(&key(&session), Some(1))
        .await
        .unwrap();
    assert_eq!(next_event(&mut late).await["seq"], json!(2));
    server.stop().await;
}

#[tokio::test]
async fn the_next_server_takes_the_same_program_over() {
    let machine = Machine::new();
    let server = machine.serve().await;
    let session = server.running(&machine, "").await;
    let id = session.summary.id;
    let keeper = machine.backend.keeper(&id_text(&session));
    keeper.write("before\r\n");
    server.stop().await;
    keeper.write("meanwhile\r\n");
    let server = machine.serve().await;
    server.wait_for(id, Status::Running).await;
    server
        .sessions
        .send_message(&id.into(), "hello")
        .await
        .or_else(|error| match error {
            // Not yet connected again: once more.
            SessionError::Conflict(_) => Ok(crate::session::Accepted { held: true }),
            other => Err(other),
        })
        .unwrap();
    assert_eq!(keeper.programs().len(), 1);
    assert_eq!(machine.backend.starts(&id.to_string()), 1);
    let seen = timeout(LIMIT, async {
        loop {
            let logs = server.sessions.logs(&id.into()).await.unwrap();
            if logs.contains("meanwhile") {
                return logs;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the output of the time between is read");
    assert!(seen.contains("before"), "{seen:?}");
    server.stored(id).await;
    server.stop().await;
}

#[tokio::test]
async fn stop_and_start_run_the_program_again() {
    let machine = Machine::new();
    let server = machine.serve().await;
    let session = server.running(&machine, "").await;
    let id = session.summary.id;
    let place = id.to_string();
    machine.backend.keeper(&place).write("12345");
    let stopped = server.sessions.stop(&key(&session)).await.unwrap();
    assert_eq!(stopped.summary.status, Status::Stopped);
    let report = server.sessions.health(&key(&session)).await.unwrap();
    assert_eq!(report.health, Health::Stopped);
    assert_eq!(report.details.exit_code, Some(143));
    assert_eq!(
        report.available_actions,
        [Action::Start, Action::Recreate, Action::Cleanup]
    );
    assert!(
        matches!(server.sessions.send_message(&key(&session), "x").await, Err(SessionError::Conflict(message)) if message.contains("stopped"))
    );
    // Twice is a success.
    server.sessions.stop(&key(&session)).await.unwrap();
    server.sessions.start(&key(&session)).await.unwrap();
    server.wait_for(id, Status::Running).await;
    assert_eq!(machine.backend.starts(&place), 2);
    let program = &machine.backend.keeper(&place).programs()[0];
    assert_eq!(program.first_offset, 5);
    server.sessions.start(&key(&session)).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_program_that_ends_by_itself_is_not_brought_back() {
    let machine = Machine::new();
    let server = machine.serve().await;
    let table = [
        ("exit 0", Status::Stopped, Health::Stopped, 0),
        ("exit 3", Status::Error, Health::Error, 3),
    ];
    for (line, status, health, code) in table {
        let session = server.running(&machine, line).await;
        let ended = server.wait_for(session.summary.id, status).await;
        assert_eq!(
            ended.status_message,
            Some(format!("the program ended with code {code}"))
        );
        let report = server.sessions.health(&key(&session)).await.unwrap();
        assert_eq!(
            (report.health, report.details.exit_code),
            (health, Some(code))
        );
        assert_eq!(report.reconciliation.next_attempt, None);
        assert_eq!(machine.backend.starts(&id_text(&session)), 1);
        assert!(
            server
                .sessions
                .logs(&key(&session))
                .await
                .unwrap()
                .contains(line)
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn what_dies_from_outside_is_brought_back() {
    let machine = Machine::new();
    let server = machine.serve().await;
    let session = server.running(&machine, "").await;
    let place = id_text(&session);
    machine.backend.kill(&place);
    server
        .wait_until(session.summary.id, "the second start", |_| {
            machine.backend.starts(&place) == 2
        })
        .await;
    server.wait_for(session.summary.id, Status::Running).await;
    machine.backend.lose(&place);
    machine.backend.called("create", 2).await;
    server.wait_for(session.summary.id, Status::Running).await;
    let report = server.sessions.health(&key(&session)).await.unwrap();
    assert_eq!(report.reconciliation.attempts, 2);
    // The third fall within ten minutes is a crash loop, and that is the end of it.
    machine.backend.kill(&place);
    server
        .wait_until(session.summary.id, "the crash loop", |session| {
            session.summary.health == Health::CrashLoop
        })
        .await;
    let report = server.sessions.health(&key(&session)).await.unwrap();
    assert_eq!(
        report.available_actions,
        [Action::RecreateFresh, Action::Cleanup]
    );
    assert_eq!(report.reconciliation.next_attempt, None);
    assert!(matches!(
        server.sessions.start(&key(&session)).await,
        Err(SessionError::NotOnOffer { .. })
    ));
    server
        .sessions
        .recreate(&key(&session), true)
        .await
        .unwrap();
    server.wait_for(session.summary.id, Status::Running).await;
    server.stop().await;
}

#[tokio::test]
async fn uncommitted_work_stands_against_a_delete_and_is_rescued() {
    let machine = Machine::new();
    let server = machine.serve().await;
    let session = server.running(&machine, "").await;
    let worktree = PathBuf::from(session.worktree_path.clone().unwrap());
    std::fs::write(worktree.join("new.txt"), "work\n").unwrap();
    let refused = server.sessions.delete(&key(&session), false).await;
    match refused {
        Err(SessionError::Conflict(message)) => assert!(message.contains("new.txt"), "{message}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        server
            .sessions
            .get(&key(&session))
            .await
            .unwrap()
            .summary
            .status,
        Status::Running
    );
    let removal = server.sessions.delete(&key(&session), true).await.unwrap();
    assert_eq!(removal.rescued.len(), 1);
    let saved = git(
        &machine.repo,
        &["show", &format!("{}:new.txt", removal.rescued[0])],
    );
    assert_eq!(saved, "work\n");
    assert!(machine.session_folders().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn commits_follow_into_the_users_repository_and_stay() {
    let machine = Machine::new();
    let server = machine.serve().await;
    let session = server.running(&machine, "").await;
    let worktree = PathBuf::from(session.worktree_path.clone().unwrap());
    std::fs::write(worktree.join("a.txt"), "a\n").unwrap();
    git(&worktree, &["add", "."]);
    git(&worktree, &["commit", "-q", "-m", "a"]);
    let branches = server.sessions.sync(&key(&session)).await.unwrap();
    assert_eq!(branches.len(), 1);
    assert_eq!(branches[0].path, machine.repo());
    let branch = &branches[0].branch;
    assert_eq!(
        git(&machine.repo, &["rev-parse", branch]).trim(),
        branches[0].commit
    );
    std::fs::write(worktree.join("b.txt"), "b\n").unwrap();
    git(&worktree, &["add", "."]);
    git(&worktree, &["commit", "-q", "-m", "b"]);
    server.sessions.stop(&key(&session)).await.unwrap();
    assert_eq!(
        git(&machine.repo, &["show", &format!("{branch}:b.txt")]),
        "b\n"
    );
    server.sessions.delete(&key(&session), false).await.unwrap();
    assert!(machine.branches().contains(branch));
    server.stop().await;
}

#[tokio::test]
async fn archive_takes_the_place_away_and_unarchive_brings_it_back() {
    let machine = Machine::new();
    let server = machine.serve().await;
    let session = server.running(&machine, "").await;
    for _ in 0..2 {
        let archived = server.sessions.archive(&key(&session)).await.unwrap();
        assert_eq!(archived.summary.status, Status::Archived);
        assert!(archived.summary.archived);
        assert!(machine.backend.places().is_empty());
        assert!(archived.worktree_path.is_some());
    }
    let listed = server.sessions.list(&ListFilter::default()).await.unwrap();
    assert!(listed.sessions.is_empty());
    server.sessions.unarchive(&key(&session)).await.unwrap();
    server.wait_for(session.summary.id, Status::Running).await;
    server.sessions.unarchive(&key(&session)).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn cleanup_and_recreate_fresh_begin_anew() {
    let machine = Machine::new();
    let server = machine.serve().await;
    let session = server.running(&machine, "begin").await;
    let id = session.summary.id;
    let worktree = PathBuf::from(session.worktree_path.clone().unwrap());
    std::fs::write(worktree.join("draft"), "x").unwrap();
    let recreation = server
        .sessions
        .recreate(&key(&session), true)
        .await
        .unwrap();
    assert_eq!(recreation.rescued.len(), 1);
    assert!(!recreation.data_preservation.uncommitted_changes);
    server
        .wait_until(id, "the prompt again", |session| {
            let said = session.chat_history.iter();
            said.filter(|row| row.content == "begin").count() == 2
        })
        .await;
    assert!(!worktree.join("draft").exists());
    let (removed, _) = server.sessions.cleanup(&key(&session)).await.unwrap();
    assert_eq!(removed, ["container", "worktree"]);
    let cleaned = server.sessions.get(&key(&session)).await.unwrap();
    assert_eq!(cleaned.summary.status, Status::Archived);
    assert!(!worktree.exists());
    let report = server.sessions.health(&key(&session)).await.unwrap();
    assert_eq!(report.available_actions, [Action::RecreateFresh]);
    server
        .sessions
        .recreate(&key(&session), true)
        .await
        .unwrap();
    server.wait_for(id, Status::Running).await;
    assert!(worktree.join("README").is_file());
    server.stop().await;
}

#[tokio::test]
async fn a_worktree_that_is_gone_is_checked_out_again() {
    let machine = Machine::new();
    let server = machine.serve().await;
    let session = server.running(&machine, "").await;
    let worktree = PathBuf::from(session.worktree_path.clone().unwrap());
    std::fs::remove_dir_all(&worktree).unwrap();
    server
        .wait_until(
            session.summary.id,
            "that the worktree is missing",
            |session| session.summary.health == Health::WorktreeMissing,
        )
        .await;
    let report = server.sessions.health(&key(&session)).await.unwrap();
    assert!(!report.data_preservation[&Action::Recreate]);
    server
        .sessions
        .recreate(&key(&session), false)
        .await
        .unwrap();
    server.wait_for(session.summary.id, Status::Running).await;
    assert!(worktree.join("README").is_file());
    server.stop().await;
}

#[tokio::test]
async fn metadata_changes_only_what_is_given() {
    let machine = Machine::new();
    let server = machine.serve().await;
    let session = server.running(&machine, "").await;
    let other = server.running(&machine, "").await;
    let change = MetadataChange {
        name: Some("renamed".to_owned()),
        tags: Some(vec!["x_1".to_owned()]),
        ..MetadataChange::default()
    };
    let metadata = server
        .sessions
        .update_metadata(&key(&session), change.clone())
        .await
        .unwrap();
    assert_eq!(metadata.name.as_str(), "renamed");
    let title = MetadataChange {
        title: Some(Some("A title".to_owned())),
        ..MetadataChange::default()
    };
    let metadata = server
        .sessions
        .update_metadata(&SessionKey::parse("renamed"), title)
        .await
        .unwrap();
    assert_eq!(metadata.tags, ["x_1"]);
    assert!(matches!(
        server.sessions.update_metadata(&key(&other), change).await,
        Err(SessionError::NameTaken(_))
    ));
    let found = async |filter: ListFilter| {
        let page = server.sessions.list(&filter).await.unwrap();
        page.sessions.len()
    };
    let tag = |tag: &str| ListFilter {
        tag: Some(tag.to_owned()),
        ..ListFilter::default()
    };
    assert_eq!(found(tag("x_1")).await, 1);
    assert_eq!(found(tag("xx1")).await, 0);
    let text = ListFilter {
        q: Some("A TITLE".to_owned()),
        ..ListFilter::default()
    };
    assert_eq!(found(text).await, 1);
    let paged = ListFilter {
        limit: Some(1),
        ..ListFilter::default()
    };
    let first = server.sessions.list(&paged).await.unwrap();
    assert_eq!(first.sessions[0].id, other.summary.id);
    let rest = ListFilter {
        cursor: first.next_cursor,
        ..paged
    };
    let second = server.sessions.list(&rest).await.unwrap();
    assert_eq!(second.sessions[0].id, session.summary.id);
    assert_eq!(second.next_cursor, None);
    server.stop().await;
}
