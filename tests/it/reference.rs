//! The examples of the API reference, as they stand there.

use berth_tests::TestHost;
use reqwest::StatusCode;
use serde_json::{Value, json};

/// Every field of the example is in the answer, of the same type.
fn assert_like(example: &Value, answer: &Value) {
    match (example, answer) {
        (Value::Object(example), Value::Object(answer)) => {
            for (name, value) in example {
                let given = answer
                    .get(name)
                    .unwrap_or_else(|| panic!("no {name} in {answer:?}"));
                assert_like(value, given);
            }
        }
        (Value::Array(example), Value::Array(answer)) => {
            if let Some(first) = example.first() {
                assert!(!answer.is_empty(), "an empty list");
                for given in answer {
                    assert_like(first, given);
                }
            }
        }
        (Value::String(_), Value::String(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::Bool(_), Value::Bool(_)) => {}
        _ => panic!("{answer} is not like {example}"),
    }
}

#[tokio::test]
async fn health_check() {
    let host = TestHost::start().await;
    let answer = host.get("/health").await.expect(StatusCode::OK).body;
    assert_like(&json!({"status": "healthy", "version": "0.1.0"}), &answer);
    assert_eq!(answer["status"], "healthy");
}

#[tokio::test]
async fn list_get_and_delete() {
    let host = TestHost::start().await;
    let repository = host.repository("project");
    let created = host.running(&repository).await;
    let list = host
        .get("/api/sessions?include_archived=false")
        .await
        .expect(StatusCode::OK)
        .body;
    let example = json!({
        "sessions": [{
            "id": "uuid", "name": "session-name", "backend": "docker", "agent": "claude", "status": "running",
            "repo_path": "/home/user/project", "created_at": "2024-01-15T10:30:00Z", "archived": false,
        }]
    });
    assert_like(&example, &list);
    let listed = &list["sessions"][0];
    assert_eq!(listed["id"], created.id.as_str());
    assert_eq!(listed["repo_path"], repository.text());
    assert_eq!(
        (&listed["backend"], &listed["agent"], &listed["status"]),
        (&json!("local"), &json!("shell"), &json!("running"))
    );
    assert!(listed["created_at"].as_str().unwrap().ends_with('Z'));

    let full = created.get(&host).await;
    for field in ["chat_history", "prompt", "worktree_path"] {
        assert!(full.get(field).is_some(), "{field}: {full}");
    }
    for field in [
        "title",
        "description",
        "tags",
        "model",
        "activity",
        "health",
        "status_message",
        "repositories",
        "no_plan_mode",
        "image_paths",
        "updated_at",
        "resources",
        "image",
        "env",
    ] {
        assert!(full.get(field).is_some(), "{field}: {full}");
    }
    let answer = host
        .delete(&created.path("?force=false"))
        .await
        .expect(StatusCode::OK)
        .body;
    assert_eq!(answer["success"], true);
    host.assert_nothing_left(&created).await;
}

#[tokio::test]
async fn create_with_one_repository() {
    let host = TestHost::start().await;
    let repository = host.repository("project");
    let body = json!({
        "repo_path": repository.text(), "prompt": "true Fix the login bug", "backend": "local", "agent": "shell",
        "model": "claude-sonnet-4-5",
    });
    let answer = host
        .post("/api/sessions", &body)
        .await
        .expect(StatusCode::CREATED);
    assert_eq!(answer.body["status"], "starting");
    assert_eq!(answer.body["model"], "claude-sonnet-4-5");
    assert_eq!(answer.body["prompt"], "true Fix the login bug");
    let id = answer.body["id"].as_str().unwrap();
    assert_eq!(answer.headers["location"], format!("/api/sessions/{id}"));
    host.delete(&format!("/api/sessions/{id}?force=true"))
        .await
        .expect(StatusCode::OK);
}

#[tokio::test]
async fn create_with_several_repositories() {
    let host = TestHost::start().await;
    let (one, two) = (host.repository("project1"), host.repository("project2"));
    let body = json!({
        "name": "multi-repo-session",
        "repositories": [
            {"path": one.text(), "mount_name": "main"},
            {"path": two.text(), "mount_name": "lib"},
        ],
        "prompt": "true Refactor shared code", "backend": "local", "agent": "shell",
    });
    let session = host.create_with(&body).await;
    assert_eq!(session.name, "multi-repo-session");
    session.wait_for(&host, "running").await;
    session.delete(&host).await;
}

#[tokio::test]
async fn browse_directory() {
    let host = TestHost::start().await;
    host.repository("project");
    let body = json!({"path": host.home(), "show_hidden": false});
    let answer = host
        .post("/api/browse-directory", &body)
        .await
        .expect(StatusCode::OK)
        .body;
    let example = json!({"current_path": "/", "entries": [{"name": "a", "path": "/a", "is_dir": true, "is_git_repo": true}]});
    assert_like(&example, &answer);
    assert!(answer.get("parent").is_some());
}

#[tokio::test]
async fn get_config() {
    let host = TestHost::start().await;
    let answer = host.get("/api/config").await.expect(StatusCode::OK).body;
    let plugin = json!({"name": "x", "version": "1", "api_version": "1", "available": true, "capabilities": {}, "options_schema": {}});
    let example = json!({
        "default_backend": "local", "default_agent": "shell",
        "features": {"webauthn_auth": false, "ai_metadata": false}, "backends": [plugin], "agents": [plugin],
    });
    assert_like(&example, &answer);
    let plugins = host.get("/api/plugins").await.expect(StatusCode::OK).body;
    assert!(plugins.is_object(), "{plugins}");
    let ready = host.get("/ready").await;
    assert_eq!(ready.status, StatusCode::OK, "{}", ready.body);
    let openapi = host
        .get("/api/openapi.json")
        .await
        .expect(StatusCode::OK)
        .body;
    assert!(openapi["openapi"].as_str().unwrap().starts_with("3.1"));
}

#[tokio::test]
async fn errors() {
    let host = TestHost::start().await;
    let answer = host.get("/api/sessions/xyz").await;
    answer.expect_error(404, "SESSION_NOT_FOUND");
    assert_eq!(
        answer.body,
        json!({"error": {"code": "SESSION_NOT_FOUND", "message": "Session with ID 'xyz' not found"}})
    );
}
