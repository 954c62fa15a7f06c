//! A server of its own for a measurement.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

const LIMIT: Duration = Duration::from_secs(30);

/// A server, which ends with its sessions when it is stopped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
    folder: tempfile::TempDir,
    client: reqwest::Client,
}

/// How a server of `dist` is started in a folder.
pub(crate) fn command(dist: &Path, folder: &Path, listen: &str) -> Command {
    let mut command = Command::new(dist.join("bin/berth"));
    command
        .args([
            "serve",
            "--listen",
            listen,
            "--default-backend",
            "local",
            "--default-agent",
            "shell",
        ])
        .arg("--data-dir")
        .arg(folder.join("data"))
        .arg("--config")
        .arg(folder.join("berth.toml"))
        .env_clear()
        .env("HOME", folder)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("SHELL", "/bin/sh")
        .env("LANG", "C.UTF-8")
        .env("BERTH_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true);
    command
}

/// A scratch folder with an empty configuration.
pub(crate) fn scratch() -> Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("bb-").tempdir()?;
    std::fs::write(folder.path().join("berth.toml"), "")?;
    Ok(folder)
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Server {
    pub(crate) async fn start(dist: &Path) -> Result<Self> {
        let folder = scratch()?;
        let mut child = command(dist, folder.path(), "127.0.0.1:0")
            .spawn()
            .with_context(|| format!("{} cannot be started; run make build", dist.display()))?;
        let output = child.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(output).lines();
        let address = timeout(LIMIT, async {
            while let Some(line) = lines.next_line().await? {
                if let Some(url) = line.strip_prefix("berth listening on http://") {
                    return Ok(url.trim().to_owned());
                }
            }
            bail!("the server ended while it started")
        })
        .await??;
        Ok(Self {
            child,
            address,
            folder,
            client: reqwest::Client::builder().no_proxy().build()?,
        })
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.child.id().context("the server has ended")
    }

    /// A git repository in the server's home, with this many files.
    pub(crate) async fn repository(&self, files: usize) -> Result<PathBuf> {
        let path = self.folder.path().join("repository");
        std::fs::create_dir_all(&path)?;
        for file in 0..files {
            std::fs::write(
                path.join(format!("file-{file}.txt")),
                "some text\n".repeat(200),
            )?;
        }
        for arguments in [
            &["init", "-q", "-b", "main"][..],
            &["config", "user.name", "Bench"],
            &["config", "user.email", "bench@example.org"],
            &["add", "."],
            &["commit", "-q", "--allow-empty", "-m", "Begin"],
        ] {
            let status = Command::new("git")
                .args(arguments)
                .current_dir(&path)
                .status()
                .await?;
            ensure!(status.success(), "git {arguments:?}: {status}");
        }
        Ok(path)
    }

    async fn call(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value> {
        let mut request = self
            .client
            .request(method, format!("http://{}{path}", self.address));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let body: Value = answer.json().await?;
        ensure!(status.is_success(), "{path}: {status}: {body}");
        Ok(body)
    }

    /// Creates a session with a shell and waits until it runs; its id, and how long that took.
    pub(crate) async fn session(&self, repository: &Path) -> Result<(String, Duration)> {
        let begin = Instant::now();
        let body =
            json!({"repo_path": repository, "prompt": "", "agent": "shell", "backend": "local"});
        let created = self
            .call(reqwest::Method::POST, "/api/sessions", Some(body))
            .await?;
        let id = created["id"]
            .as_str()
            .context("a session without an id")?
            .to_owned();
        let path = format!("/api/sessions/{id}");
        loop {
            let session = self.call(reqwest::Method::GET, &path, None).await?;
            match session["status"].as_str() {
                Some("running") => return Ok((id, begin.elapsed())),
                Some("starting") if begin.elapsed() < LIMIT => {
                    sleep(Duration::from_millis(1)).await;
                }
                _ => bail!("the session did not run: {session}"),
            }
        }
    }

    pub(crate) async fn delete(&self, id: &str) -> Result<()> {
        let path = format!("/api/sessions/{id}?force=true");
        self.call(reqwest::Method::DELETE, &path, None).await?;
        Ok(())
    }

    /// Deletes the sessions and ends the server.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let sessions = self
            .call(reqwest::Method::GET, "/api/sessions", None)
            .await?;
        for session in sessions["sessions"].as_array().into_iter().flatten() {
            if let Some(id) = session["id"].as_str() {
                self.delete(id).await?;
            }
        }
        self.child.kill().await?;
        Ok(())
    }
}

/// A process's resident memory in bytes.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .context("no VmRSS")?
        .trim()
        .parse()?;
    Ok(kib * 1024)
}
