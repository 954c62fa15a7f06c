//! A backend that is not part of berth: built by itself, dropped in a folder, used.

use berth_tests::{Settings, TestHost};
use reqwest::StatusCode;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Builds the example as a third party would, apart from the workspace's own build.
fn build_example() -> PathBuf {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/backend-bubblewrap");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("third-party");
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--locked", "--manifest-path"])
        .arg(example.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    target.join("debug/libberth_backend_bubblewrap.so")
}

/// The example's library, built once however many tests want it.
pub(crate) async fn library() -> PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    let installed = Command::new("bwrap").arg("--version").output();
    assert!(
        installed.is_ok(),
        "bwrap is not installed; try: apt-get install bubblewrap"
    );
    tokio::task::spawn_blocking(|| LIBRARY.get_or_init(build_example).clone())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_third_partys_backend_is_dropped_in_and_used() {
    let library = library().await;
    let folder = tempfile::tempdir().unwrap();
    fs::copy(
        library,
        folder.path().join("libberth_backend_bubblewrap.so"),
    )
    .unwrap();
    let mut host = TestHost::with(Settings {
        arguments: vec![
            "--plugin-dir".to_owned(),
            folder.path().to_str().unwrap().to_owned(),
        ],
        ..Settings::default()
    })
    .await;
    let config = host.get("/api/config").await.expect(StatusCode::OK).body;
    let backends = config["backends"].as_array().unwrap();
    let backend = backends
        .iter()
        .find(|backend| backend["name"] == "bubblewrap");
    let backend = backend.unwrap_or_else(|| panic!("not loaded: {config}"));
    assert_eq!(backend["available"], true, "{backend}");
    assert!(
        backend["options_schema"]["properties"]["network"].is_object(),
        "{backend}"
    );

    let repository = host.repository("project");
    let wrong = json!({
        "repo_path": repository.text(), "prompt": "", "agent": "shell", "backend": "bubblewrap",
        "backend_options": {"network": "no"},
    });
    let message = host
        .post("/api/sessions", &wrong)
        .await
        .expect_error(400, "INVALID_REQUEST");
    assert!(message.contains("network"), "{message}");

    let body = json!({
        "repo_path": repository.text(), "prompt": "", "agent": "shell", "backend": "bubblewrap",
        "backend_options": {"network": false},
    });
    let session = host.create_with(&body).await;
    let seen = session.wait_for(&host, "running").await;
    assert_eq!(seen["backend"], "bubblewrap");
    let mut console = host.console(&session, "").await;
    console
        .type_text(
            "tr '\\0' ' ' < /proc/1/cmdline; echo; echo devices-$(grep -c : /proc/net/dev)-\r",
        )
        .await;
    console
        .wait_for(&format!("run --session {}", session.id))
        .await;
    console.wait_for("devices-1-").await;
    console
        .type_text("touch /usr/x; echo made > made-inside; echo wri''tten; ls /home /root\r")
        .await;
    let seen = console.wait_for("written").await;
    assert!(seen.contains("Read-only file system"), "{seen:?}");
    let worktree = session.worktree(&host).await;
    assert_eq!(
        fs::read_to_string(worktree.join("made-inside")).unwrap(),
        "made\n"
    );
    console
        .type_text("(setsid sleep 1000 &); echo process-$$-\r")
        .await;
    console.wait_for("process-").await;

    host.kill_9().await;
    host.restart().await;
    session.wait_for(&host, "running").await;
    let mut console = host.console(&session, "").await;
    let seen = console.wait_for("written").await;
    assert!(seen.contains("Read-only file system"), "{seen:?}");
    console.type_text("echo on''ward\r").await;
    console.wait_for("onward").await;

    host.post(&session.path("/stop"), &json!({}))
        .await
        .expect(StatusCode::OK);
    session.wait_for(&host, "stopped").await;
    host.post(&session.path("/start"), &json!({}))
        .await
        .expect(StatusCode::OK);
    session.wait_for(&host, "running").await;
    session.delete(&host).await;
    host.assert_nothing_left(&session).await;
}
