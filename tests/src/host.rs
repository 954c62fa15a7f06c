//! One server under test.

use crate::layout::Layout;
use crate::leak::{end_processes_with, paths_named, processes_with};
use crate::{Console, Events, Repository, TestSession, eventually, within};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_tungstenite::tungstenite::{self, client::IntoClientRequest};

/// How a server is started.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Further arguments of `berth serve`.
    pub arguments: Vec<String>,
    /// Further environment.
    pub environment: Vec<(String, OsString)>,
    /// The content of `berth.toml`.
    pub config: String,
    /// The data folder's name below the test's own folder; `data` where empty.
    pub data_name: String,
}

/// A server, its data and its user's home, which go with it.
#[derive(Debug)]
pub struct TestHost {
    settings: Settings,
    folder: tempfile::TempDir,
    server: Option<Child>,
    address: String,
    client: reqwest::Client,
}

/// What the server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// `METHOD path`, for messages.
    pub request: String,
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; JSON where it is, else a string.
    pub body: Value,
}

impl TestHost {
    /// A server with its defaults, and the local backend as its default.
    pub async fn start() -> Self {
        Self::with(Settings::default()).await
    }

    /// A server with these settings.
    pub async fn with(settings: Settings) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("bt-")
            .tempdir()
            .expect("a scratch folder");
        for name in ["home", "temp"] {
            fs::create_dir(folder.path().join(name)).expect("a folder in the scratch folder");
        }
        fs::write(folder.path().join("berth.toml"), &settings.config)
            .expect("a file in the scratch folder");
        let mut host = Self {
            settings,
            folder,
            server: None,
            address: String::new(),
            client: reqwest::Client::builder()
                .no_proxy()
                .build()
                .expect("a client"),
        };
        host.restart().await;
        host
    }

    /// Starts the server, which does not run, with the data that it had.
    pub async fn restart(&mut self) {
        assert!(self.server.is_none(), "the server runs already");
        let log = self.open_log();
        let mut command = Command::new(Layout::get().program());
        command
            .arg("serve")
            .args([
                "--listen",
                "127.0.0.1:0",
                "--default-backend",
                "local",
                "--default-agent",
                "shell",
            ])
            .arg("--data-dir")
            .arg(self.data_dir())
            .arg("--config")
            .arg(self.folder.path().join("berth.toml"))
            .args(&self.settings.arguments)
            .env_clear()
            .env("HOME", self.home())
            .env("TMPDIR", self.folder.path().join("temp"))
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("SHELL", "/bin/sh")
            .env("LANG", "C.UTF-8")
            .envs(std::env::var_os("BERTH_LOG").map(|filter| ("BERTH_LOG", filter)))
            .envs(
                self.settings
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true);
        let mut server = command
            .spawn()
            .unwrap_or_else(|fault| panic!("{command:?}: {fault}"));
        let output = server.stdout.take().expect("its standard output is ours");
        let mut lines = BufReader::new(output).lines();
        let address = within("the server's start", async {
            while let Some(line) = lines.next_line().await.ok().flatten() {
                if let Some(url) = line.strip_prefix("berth listening on http://") {
                    return Some(url.trim().to_owned());
                }
            }
            None
        })
        .await;
        let Some(address) = address else {
            let status = server.wait().await;
            panic!(
                "the server ended while it started: {status:?}\n{}",
                self.log()
            );
        };
        self.address = address;
        self.server = Some(server);
    }

    /// Kills the server as a power cut would; sessions are left as they are.
    pub async fn kill_9(&mut self) {
        let mut server = self.server.take().expect("the server runs");
        // It may be dying already.
        let _ = server.start_kill();
        within("the server's death", server.wait())
            .await
            .expect("our own child can be waited for");
    }

    /// Kills the server while requests to it are under way; [`TestHost::kill_9`] then waits for its death.
    pub fn signal_9(&self) {
        let pid = i32::try_from(self.pid()).expect("a process id");
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("our own child can be signalled");
    }

    /// Ends the server as a service manager does; sessions go on.
    pub async fn stop(&mut self) -> ExitStatus {
        let mut server = self.server.take().expect("the server runs");
        let pid = server
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .expect("it runs");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("our own child can be signalled");
        within("the server's end", server.wait())
            .await
            .expect("our own child can be waited for")
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.server
            .as_ref()
            .and_then(Child::id)
            .expect("the server runs")
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The server's data folder.
    pub fn data_dir(&self) -> PathBuf {
        let name = &self.settings.data_name;
        self.folder
            .path()
            .join(if name.is_empty() { "data" } else { name })
    }

    /// The home folder of the server's user, which repositories may stand in.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// A folder of the test's own, outside of what the server lets its callers see.
    pub fn scratch(&self) -> &Path {
        self.folder.path()
    }

    /// All that the server has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The server's resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        kib.expect("a running process has memory") * 1024
    }

    /// A new repository in the user's home.
    pub fn repository(&self, name: &str) -> Repository {
        Repository::make(&self.home(), name)
    }

    /// A request without a body.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    /// A request with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    /// A request without a body.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    /// Any request; `path` is also its query.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.answer(request).await
    }

    /// A request to fill in.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client
            .request(method, format!("http://{}{path}", self.address))
    }

    /// Sends a request that was filled in.
    ///
    /// # Panics
    /// There was no answer.
    pub async fn answer(&self, request: reqwest::RequestBuilder) -> Answer {
        self.try_answer(request)
            .await
            .unwrap_or_else(|fault| panic!("{fault:#}\n{}", self.log()))
    }

    /// Sends a request to a server that may die meanwhile.
    ///
    /// # Errors
    /// There was no whole answer.
    pub async fn try_answer(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Answer> {
        let request = request.build()?;
        let told = format!("{} {}", request.method(), request.url().path());
        let answer = tokio::time::timeout(crate::LIMIT, self.client.execute(request)).await??;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let bytes = answer.bytes().await?;
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Ok(Answer {
            request: told,
            status,
            headers,
            body,
        })
    }

    /// Creates a session with the shell on a repository, and waits for nothing.
    pub async fn create(&self, repository: &Repository) -> TestSession {
        self.create_with(&json!({"repo_path": repository.text(), "prompt": ""}))
            .await
    }

    /// Creates a session and waits for nothing.
    pub async fn create_with(&self, body: &Value) -> TestSession {
        let answer = self
            .post("/api/sessions", body)
            .await
            .expect(StatusCode::CREATED);
        TestSession::new(answer.body)
    }

    /// Creates a session with the shell and waits until it runs.
    pub async fn running(&self, repository: &Repository) -> TestSession {
        let session = self.create(repository).await;
        session.wait_for(self, "running").await;
        session
    }

    /// Opens `/ws/events`.
    pub async fn events(&self) -> Events {
        Events::open(self).await
    }

    /// Joins a session's console; `query` as in `?cols=80`.
    pub async fn console(&self, session: &TestSession, query: &str) -> Console {
        self.console_of(&session.id, query).await
    }

    /// Joins the console of a session that goes by this id or name.
    pub async fn console_of(&self, id: &str, query: &str) -> Console {
        Console::open(self, id, query).await
    }

    /// Tries to open a WebSocket that must be refused; gives the answer.
    ///
    /// # Panics
    /// It was opened.
    pub async fn refused_socket(&self, path: &str, headers: &[(&'static str, &str)]) -> Answer {
        let mut request = format!("ws://{}{path}", self.address)
            .into_client_request()
            .expect("a valid address");
        for (name, value) in headers {
            let value = value.parse().expect("a valid header");
            request.headers_mut().insert(*name, value);
        }
        match within("the refusal", tokio_tungstenite::connect_async(request)).await {
            Err(tungstenite::Error::Http(response)) => {
                let (parts, body) = response.into_parts();
                let bytes = body.unwrap_or_default();
                Answer {
                    request: format!("WebSocket {path} with {headers:?}"),
                    status: parts.status,
                    headers: parts.headers,
                    body: serde_json::from_slice(&bytes).unwrap_or_default(),
                }
            }
            Ok(_) => panic!("{path} with {headers:?} was opened"),
            Err(other) => panic!("{path} with {headers:?}: {other}"),
        }
    }

    /// Waits until nothing of a session is left: no process, no file named after it, no list entry.
    pub async fn assert_nothing_left(&self, session: &TestSession) {
        let marker = format!("BERTH_SESSION={}", session.id);
        eventually("no process, file or entry of the session", async || {
            let processes = processes_with(&marker);
            let paths = paths_named(self.scratch(), &session.id);
            let entry = self
                .get(&format!("/api/sessions/{}", session.id))
                .await
                .status;
            if processes.is_empty() && paths.is_empty() && entry == StatusCode::NOT_FOUND {
                return Ok(());
            }
            Err((processes, paths, entry))
        })
        .await;
    }

    fn open_log(&self) -> File {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .expect("a file in the scratch folder")
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.start_kill();
        }
        let state = format!("BERTH_STATE={}", self.data_dir().display());
        end_processes_with(&state);
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(8_000);
            let tail = log.get(from..).unwrap_or(&log);
            #[expect(
                clippy::print_stderr,
                reason = "the test program shows it with the test's failure"
            )]
            {
                eprintln!("the server's log ends:\n{tail}");
            }
        }
    }
}

impl Answer {
    /// This answer, whose status must be as expected.
    ///
    /// # Panics
    /// It is another.
    #[expect(
        clippy::return_self_not_must_use,
        reason = "that it is as expected may be all that is wanted"
    )]
    pub fn expect(self, status: StatusCode) -> Self {
        assert_eq!(self.status, status, "{}: {}", self.request, self.body);
        self
    }

    /// This answer, which must be a failure in the form that all failures have; gives its message.
    ///
    /// # Panics
    /// It is not.
    pub fn expect_error(&self, status: u16, code: &str) -> String {
        assert_eq!(
            self.status.as_u16(),
            status,
            "{}: {}",
            self.request,
            self.body
        );
        let content_type = self
            .headers
            .get("content-type")
            .and_then(|value| value.to_str().ok());
        assert_eq!(content_type, Some("application/json"), "{}", self.request);
        assert_eq!(
            self.body["error"]["code"], code,
            "{}: {}",
            self.request, self.body
        );
        let error = self.body.as_object().expect("an object");
        assert_eq!(error.len(), 1, "{}: {}", self.request, self.body);
        let message = self.body["error"]["message"]
            .as_str()
            .expect("a message")
            .to_owned();
        assert!(!message.is_empty(), "{}: {}", self.request, self.body);
        message
    }
}
