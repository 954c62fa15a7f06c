//! Stopping, starting, ending by itself, and what becomes of work.

use berth_tests::{Repository, TestHost};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

fn commit_in(folder: &std::path::Path, name: &str) {
    fs::write(folder.join(name), "work\n").unwrap();
    for arguments in [
        &["add", "--all"][..],
        &["commit", "--quiet", "--message", name],
    ] {
        let done = Command::new("git")
            .arg("-C")
            .arg(folder)
            .args([
                "-c",
                "user.name=An Agent",
                "-c",
                "user.email=agent@example.org",
            ])
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
}

fn branch(session: &Value) -> String {
    session["repositories"][0]["branch"]
        .as_str()
        .expect("a branch")
        .to_owned()
}

#[tokio::test]
async fn a_stopped_session_starts_again_with_its_history() {
    let host = TestHost::start().await;
    let repository = host.repository("project");
    let session = host.running(&repository).await;
    let mut console = host.console(&session, "?control=1").await;
    console.type_text("echo fir''st-run\r").await;
    console.wait_for("first-run").await;

    let stopped = host
        .post(&session.path("/stop"), &json!({}))
        .await
        .expect(StatusCode::OK)
        .body;
    assert_eq!(stopped["id"], session.id.as_str());
    let seen = session.wait_for(&host, "stopped").await;
    assert_eq!(seen["health"], "Stopped");
    console
        .wait_for_control("the end", |message| message["type"] == "exit")
        .await;
    host.post(&session.path("/stop"), &json!({}))
        .await
        .expect(StatusCode::OK);

    // Who joins now sees the last screen.
    let mut late = host.console(&session, "").await;
    late.wait_for("first-run").await;

    host.post(&session.path("/start"), &json!({}))
        .await
        .expect(StatusCode::OK);
    session.wait_for(&host, "running").await;
    host.post(&session.path("/start"), &json!({}))
        .await
        .expect(StatusCode::OK);
    // The socket of before goes on.
    console.type_text("echo sec''ond-run\r").await;
    console.wait_for("second-run").await;
    let mut late = host.console(&session, "").await;
    let seen = late.wait_for("second-run").await;
    assert!(seen.contains("first-run"), "{seen:?}");
    session.delete(&host).await;
    host.assert_nothing_left(&session).await;
}

#[tokio::test]
async fn a_program_that_ends_says_how() {
    let mut host = TestHost::start().await;
    let repository = host.repository("project");
    for (command, status, health, code) in [
        ("echo well; exit 0", "stopped", "Stopped", 0),
        ("echo bad; exit 3", "error", "Error", 3),
        ("echo killed; kill -9 $$", "error", "Error", 137),
    ] {
        let body = json!({
            "repo_path": repository.text(), "prompt": "", "agent": "shell",
            "agent_options": {"command": command},
        });
        let session = host.create_with(&body).await;
        let seen = session.wait_for(&host, status).await;
        assert_eq!(seen["health"], health, "{command}: {seen}");
        if code != 0 {
            let message = seen["status_message"].as_str().unwrap_or_default();
            let told = if code > 128 { code - 128 } else { code };
            assert!(message.contains(&told.to_string()), "{command}: {message}");
        }
        let word = command.split([' ', ';']).nth(1).unwrap();
        let mut console = host.console(&session, "?control=1").await;
        console.wait_for(word).await;
        let exit = console
            .wait_for_control("the end", |message| message["type"] == "exit")
            .await;
        assert_eq!(exit["code"], code);
        host.kill_9().await;
        host.restart().await;
        let seen = session.wait_for(&host, status).await;
        assert_eq!(seen["health"], health);
        host.console(&session, "").await.wait_for(word).await;
        session.delete(&host).await;
        host.assert_nothing_left(&session).await;
    }
}

#[tokio::test]
async fn a_program_that_is_missing_is_a_failure_that_says_so() {
    let host = TestHost::start().await;
    let repository = host.repository("project");
    let body = json!({
        "repo_path": repository.text(), "prompt": "", "agent": "shell",
        "agent_options": {"command": ["no-such-program-here"]},
    });
    let session = host.create_with(&body).await;
    let seen = session.wait_for(&host, "error").await;
    let message = seen["status_message"].as_str().unwrap();
    assert!(message.contains("no-such-program-here"), "{message}");
    session.delete(&host).await;
    host.assert_nothing_left(&session).await;
}

#[tokio::test]
async fn a_prompt_is_typed_as_the_first_line() {
    let host = TestHost::start().await;
    let repository = host.repository("project");
    let body = json!({"repo_path": repository.text(), "prompt": "echo answer-$((40+2))", "agent": "shell"});
    let session = host.create_with(&body).await;
    host.console(&session, "").await.wait_for("answer-42").await;
    let seen = session.get(&host).await;
    assert_eq!(seen["prompt"], "echo answer-$((40+2))");
    session.delete(&host).await;
}

#[tokio::test]
async fn work_is_never_lost() {
    let host = TestHost::start().await;
    let repository = host.repository("project");
    let session = host.running(&repository).await;
    let branch = branch(&session.get(&host).await);
    let worktree = session.worktree(&host).await;
    fs::write(worktree.join("unsaved.txt"), "mine\n").unwrap();
    fs::write(worktree.join("README.md"), "changed\n").unwrap();

    let message = host
        .delete(&session.path(""))
        .await
        .expect_error(409, "CONFLICT");
    assert!(
        message.contains("unsaved.txt") && message.contains("README.md"),
        "{message}"
    );
    session.wait_for(&host, "running").await;

    let answer = session.delete(&host).await;
    let rescued = answer["rescued"].as_array().unwrap();
    assert_eq!(rescued.len(), 1, "{answer}");
    let reference = rescued[0].as_str().unwrap();
    assert!(
        reference.starts_with(&format!("refs/berth/rescue/{}/", session.name)),
        "{reference}"
    );
    assert_eq!(
        repository.git(&["show", &format!("{reference}:unsaved.txt")]),
        "mine"
    );
    assert_eq!(
        repository.git(&["show", &format!("{reference}:README.md")]),
        "changed"
    );
    assert!(!repository.has_branch(&branch));
    host.assert_nothing_left(&session).await;
}

#[tokio::test]
async fn commits_reach_the_users_repository() {
    let host = TestHost::start().await;
    let repository = host.repository("project");
    let before = repository.untouched();
    let session = host.running(&repository).await;
    let branch = branch(&session.get(&host).await);
    assert!(repository.has_branch(&branch), "from creation on");
    let worktree = session.worktree(&host).await;
    commit_in(&worktree, "first.txt");
    host.post(&session.path("/stop"), &json!({}))
        .await
        .expect(StatusCode::OK);
    session.wait_for(&host, "stopped").await;
    assert_eq!(
        repository.git(&["show", &format!("{branch}:first.txt")]),
        "work"
    );

    host.post(&session.path("/start"), &json!({}))
        .await
        .expect(StatusCode::OK);
    session.wait_for(&host, "running").await;
    commit_in(&worktree, "second.txt");
    host.delete(&session.path("")).await.expect(StatusCode::OK);
    assert_eq!(
        repository.git(&["show", &format!("{branch}:second.txt")]),
        "work"
    );
    assert_eq!(repository.untouched(), before);
    host.assert_nothing_left(&session).await;
}

#[tokio::test]
async fn several_repositories_are_worked_on_at_once() {
    let host = TestHost::start().await;
    let (one, two) = (host.repository("one"), host.repository("two"));
    let body = json!({
        "name": "both", "prompt": "", "agent": "shell",
        "repositories": [{"path": one.text(), "mount_name": "main"}, {"path": two.text(), "mount_name": "lib"}],
    });
    let session = host.create_with(&body).await;
    let seen = session.wait_for(&host, "running").await;
    assert_eq!(seen["name"], "both");
    assert_eq!(seen["repo_path"], one.text());
    let repositories = seen["repositories"].as_array().unwrap();
    let field = |name: &str| -> Vec<&str> {
        repositories
            .iter()
            .map(|repository| repository[name].as_str().unwrap())
            .collect()
    };
    assert_eq!(field("mount_name"), ["main", "lib"]);
    assert_eq!(field("path"), [one.text(), two.text()]);
    assert_eq!(field("branch"), ["berth/both", "berth/both"]);
    let paths = field("worktree_path");
    assert_eq!(seen["worktree_path"], paths[0]);
    let mut console = host.console(&session, "").await;
    console.type_text("pwd; ls ../*/README.md\r").await;
    console.wait_for(paths[0]).await;
    console.wait_for("lib/README.md").await;
    session.delete(&host).await;
    host.assert_nothing_left(&session).await;
}

#[tokio::test]
async fn a_subfolder_is_the_working_directory() {
    let host = TestHost::start().await;
    let repository = host.repository("project");
    let body = json!({"repo_path": format!("{}/src", repository.text()), "prompt": "pwd; cat main.txt", "agent": "shell"});
    let session = host.create_with(&body).await;
    let mut console = host.console(&session, "").await;
    let seen = console.wait_for("one").await;
    let worktree = session.worktree(&host).await;
    let folder = if worktree.ends_with("src") {
        worktree
    } else {
        worktree.join("src")
    };
    assert!(seen.contains(folder.to_str().unwrap()), "{seen:?}");
    session.delete(&host).await;
}

#[tokio::test]
async fn hooks_of_the_repository_are_never_run() {
    let host = TestHost::start().await;
    let repository: Repository = host.repository("project");
    let mark = host.scratch().join("hook-ran");
    for hook in [
        "post-checkout",
        "post-commit",
        "reference-transaction",
        "pre-commit",
        "post-index-change",
    ] {
        let path = repository.path().join(".git/hooks").join(hook);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(
            &path,
            format!("#!/bin/sh\necho {hook} >> {}\n", mark.display()),
        )
        .unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let session = host.running(&repository).await;
    let worktree = session.worktree(&host).await;
    fs::write(worktree.join("unsaved.txt"), "mine\n").unwrap();
    session.delete(&host).await;
    host.assert_nothing_left(&session).await;
    assert!(!mark.exists(), "{}", fs::read_to_string(&mark).unwrap());
}
