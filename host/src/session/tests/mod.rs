//! Whole lives of sessions, on a backend and a keeper that do what a test says.

mod backend;
mod create;
mod faults;
mod keeper;
mod life;

use super::{
    Limits, NewSession, Session, SessionId, SessionKey, SessionParts, SessionSettings, Sessions,
    Status,
};
use crate::db::{DataFolder, Database};
use crate::driver::{
    AgentDriver, DecoderDriver, DriverHealth, Drivers, Isolation, PluginInfo, PluginKind,
};
use crate::event::{Delivery, EventLog, Subscription};
use crate::git::{Git, GitSettings};
use async_trait::async_trait;
use backend::FakeBackend;
use berth_plugin_api::Result as PluginResult;
use berth_plugin_api::doc::{
    AgentCapabilities, AgentDescription, Command, DecoderRequest, DeliverRequest,
    Delivery as Typing, Keystrokes, LaunchPlan, LaunchRequest,
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long anything may take here.
const LIMIT: Duration = Duration::from_secs(30);

/// An agent that runs `sh` and is typed to.
#[derive(Debug)]
struct FakeAgent {
    info: PluginInfo,
    description: AgentDescription,
}

impl FakeAgent {
    fn new(name: &str, prompt_optional: bool) -> Self {
        Self {
            info: PluginInfo {
                name: name.to_owned(),
                kind: PluginKind::Agent,
                version: "1.0.0".to_owned(),
                api_version: "1.0.0".to_owned(),
                summary: String::new(),
                path: None,
                sha256: None,
                isolation: Isolation::None,
            },
            description: AgentDescription {
                capabilities: AgentCapabilities {
                    prompt_optional,
                    ..AgentCapabilities::default()
                },
                ..AgentDescription::default()
            },
        }
    }
}

fn typed(text: &str) -> Vec<Keystrokes> {
    vec![Keystrokes {
        text: format!("{text}\r"),
        then_wait_ms: 0,
    }]
}

#[async_trait]
impl AgentDriver for FakeAgent {
    fn info(&self) -> &PluginInfo {
        &self.info
    }

    fn description(&self) -> &AgentDescription {
        &self.description
    }

    fn health(&self) -> DriverHealth {
        DriverHealth::Ready
    }

    async fn launch(&self, request: &LaunchRequest) -> PluginResult<LaunchPlan> {
        Ok(LaunchPlan {
            main: Command {
                argv: vec!["sh".to_owned()],
                ..Command::default()
            },
            typed: request.prompt.as_deref().map(typed).unwrap_or_default(),
            ..LaunchPlan::default()
        })
    }

    async fn deliver(&self, request: &DeliverRequest) -> PluginResult<Typing> {
        Ok(Typing {
            typed: typed(&request.content),
        })
    }

    async fn decoder(&self, _request: &DecoderRequest) -> PluginResult<Box<dyn DecoderDriver>> {
        Err(berth_plugin_api::Error::unsupported("decoder"))
    }
}

/// A machine with a repository, two backends, and one server after another.
struct Machine {
    folder: tempfile::TempDir,
    repo: PathBuf,
    backend: Arc<FakeBackend>,
    other: Arc<FakeBackend>,
}

/// One server.
struct Server {
    sessions: Sessions,
    events: EventLog,
    db: Database,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repo = folder.path().join("home").join("project");
        std::fs::create_dir_all(&repo).unwrap();
        let keeper = folder.path().join("keeper").join("fake");
        std::fs::create_dir_all(&keeper).unwrap();
        std::fs::write(keeper.join("berth-keeper"), "").unwrap();
        git(&repo, &["init", "-q", "-b", "main"]);
        std::fs::write(repo.join("README"), "hello\n").unwrap();
        git(&repo, &["add", "."]);
        git(&repo, &["commit", "-q", "-m", "first"]);
        Self {
            folder,
            repo,
            backend: FakeBackend::new("fake"),
            other: FakeBackend::new("other"),
        }
    }

    fn repo(&self) -> String {
        self.repo.display().to_string()
    }

    fn settings(&self) -> SessionSettings {
        SessionSettings {
            default_backend: "fake".to_owned(),
            default_agent: "typist".to_owned(),
            backoff: vec![Duration::from_millis(50)],
            limits: Limits {
                probe: Duration::from_millis(500),
                create: Duration::from_secs(1),
                start: Duration::from_secs(1),
                connect: Duration::from_secs(1),
                inspect: Duration::from_secs(1),
                list: Duration::from_secs(1),
                delete: Duration::from_secs(1),
                stop_grace: Duration::from_secs(1),
                silence: Duration::from_secs(2),
                input: Duration::from_secs(5),
            },
            probe_every: Duration::from_millis(50),
            reconcile_every: Duration::from_millis(200),
            orphan_grace: Duration::from_mins(2),
            ..SessionSettings::new(
                vec![self.folder.path().join("home")],
                self.folder.path().join("keeper"),
                super::HostUser::default(),
            )
        }
    }

    async fn serve(&self) -> Server {
        self.serve_with(self.settings()).await
    }

    async fn serve_with(&self, settings: SessionSettings) -> Server {
        let data = DataFolder::open(&self.folder.path().join("data")).unwrap();
        let db = Database::open(&data.database()).await.unwrap();
        let events = EventLog::open(db.clone());
        let mut drivers = Drivers::default();
        drivers
            .backends
            .insert("fake".to_owned(), self.backend.clone());
        drivers
            .backends
            .insert("other".to_owned(), self.other.clone());
        for (name, prompt_optional) in [("typist", true), ("strict", false)] {
            let agent = FakeAgent::new(name, prompt_optional);
            drivers.agents.insert(name.to_owned(), Arc::new(agent));
        }
        let sessions = Sessions::open(SessionParts {
            db: db.clone(),
            data,
            events: events.clone(),
            drivers,
            git: Git::new(GitSettings {
                program: "git".into(),
                search_path: "/usr/local/bin:/usr/bin:/bin".into(),
                home: self.folder.path().join("home"),
            }),
            settings,
        })
        .await
        .unwrap();
        Server {
            sessions,
            events,
            db,
        }
    }

    /// The folders of sessions that are left.
    fn session_folders(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.folder.path().join("data/sessions"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    }

    fn branches(&self) -> Vec<String> {
        git(
            &self.repo,
            &["for-each-ref", "--format=%(refname:short)", "refs/heads"],
        )
        .lines()
        .map(str::to_owned)
        .collect()
    }

    fn new_session(&self, prompt: &str) -> NewSession {
        NewSession {
            repo_path: Some(self.repo()),
            prompt: Some(prompt.to_owned()),
            ..NewSession::default()
        }
    }
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = std::process::Command::new("git")
        .args(["-c", "user.name=Test", "-c", "user.email=test@example.org"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

impl Server {
    async fn create(&self, new: NewSession) -> Session {
        self.sessions.create(new, None).await.unwrap().session
    }

    async fn running(&self, machine: &Machine, prompt: &str) -> Session {
        let session = self.create(machine.new_session(prompt)).await;
        self.wait_for(session.summary.id, Status::Running).await
    }

    /// Waits until the session has this status.
    async fn wait_for(&self, id: SessionId, status: Status) -> Session {
        self.wait_until(id, &format!("status {status}"), |session| {
            session.summary.status == status
        })
        .await
    }

    /// Waits until the session is so. Looks again at each event.
    async fn wait_until(
        &self,
        id: SessionId,
        what: &str,
        fits: impl Fn(&Session) -> bool,
    ) -> Session {
        let mut subscription = self.events.subscribe(id, None).await.unwrap();
        let mut last = None;
        let wait = async {
            loop {
                let session = self.sessions.get(&id.into()).await.unwrap();
                if fits(&session) {
                    return session;
                }
                last = Some(session);
                // A change that tells no event is seen a little later.
                timeout(Duration::from_millis(200), subscription.next())
                    .await
                    .ok();
            }
        };
        let found = timeout(LIMIT, wait).await;
        found.unwrap_or_else(|_| panic!("{what} did not come: {last:#?}"))
    }

    /// Ends as SIGTERM does.
    async fn stop(self) {
        self.sessions.close(LIMIT).await;
        self.events.close().await;
        self.db.close().await;
    }

    /// All stored events of a session; their numbers have no gap.
    async fn stored(&self, id: SessionId) -> Vec<Value> {
        let page = self.events.page(id, 0, 10_000).await.unwrap();
        let events: Vec<Value> = page
            .events
            .iter()
            .map(|event| serde_json::from_slice(&event.json).unwrap())
            .collect();
        for (index, event) in events.iter().enumerate() {
            assert_eq!(event["seq"], json!(index + 1), "{events:#?}");
        }
        events
    }
}

async fn next_event(subscription: &mut Subscription) -> Value {
    match timeout(LIMIT, subscription.next())
        .await
        .expect("an event comes")
        .unwrap()
    {
        Delivery::Event(event) => serde_json::from_slice(&event.json).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn key(session: &Session) -> SessionKey {
    session.summary.id.into()
}

fn id_text(session: &Session) -> String {
    session.summary.id.to_string()
}
