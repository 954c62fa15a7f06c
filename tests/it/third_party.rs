//! A backend that is not part of berth: built by itself, dropped in a folder, used.

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
