//! `berth new`, `ls`, `start`, `stop`, `send`, `logs`, `rm`.

use super::attach;
use super::client::{ClientError, Server};
use super::output::{json, line, note, plain, table};
use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Map, Value, json};
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

/// Make a session
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  berth new                                    a session on the repository of this folder
  berth new ~/project -p \"Fix the login bug\"   tell the agent what to do
  berth new --agent shell --attach             a shell of its own, with your terminal in it
  berth new --repo ~/app --repo ~/lib=library  two repositories")]
pub(super) struct New {
    /// The repository, or a folder in it [default: this folder]
    path: Option<PathBuf>,
    /// What the agent is to do; `-` reads standard input
    #[arg(long, short, value_name = "TEXT")]
    prompt: Option<String>,
    /// The session's name: a-z, 0-9 and '-' [default: made from title, prompt or folder]
    #[arg(long, short)]
    name: Option<String>,
    /// A title, in any words
    #[arg(long)]
    title: Option<String>,
    /// Where it runs [default: the server's default]
    #[arg(long, short)]
    backend: Option<String>,
    /// What runs in it [default: the server's default]
    #[arg(long, short)]
    agent: Option<String>,
    /// The agent's model
    #[arg(long, short)]
    model: Option<String>,
    /// The branch or commit to begin from [default: HEAD]
    #[arg(long, value_name = "BRANCH")]
    base_branch: Option<String>,
    /// A repository, and the name of its folder in the session; up to 5, instead of PATH
    #[arg(long, value_name = "PATH[=NAME]", conflicts_with = "path")]
    repo: Vec<String>,
    /// The image that it runs in, on backends that take one
    #[arg(long)]
    image: Option<String>,
    /// An environment variable; may be repeated
    #[arg(long, short, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// A tag; may be repeated
    #[arg(long)]
    tag: Vec<String>,
    /// Options of the backend, as a JSON object
    #[arg(long, value_name = "JSON")]
    backend_options: Option<String>,
    /// Options of the agent, as a JSON object
    #[arg(long, value_name = "JSON")]
    agent_options: Option<String>,
    /// Do not have the agent plan first
    #[arg(long)]
    no_plan_mode: bool,
    /// Attach your terminal to it at once
    #[arg(long)]
    attach: bool,
    /// Print the session as JSON
    #[arg(long, conflicts_with = "attach")]
    json: bool,
}

pub(super) async fn new(server: &Server, arguments: New) -> anyhow::Result<ExitCode> {
    let body = new_session(&arguments)?;
    let session = server.post(&["api", "sessions"], Some(&body)).await?;
    let name = text(&session, "name");
    if arguments.json {
        json(&session)?;
    } else {
        line(&name)?;
    }
    if arguments.attach {
        return attach::attach(server, &name, &attach::Options::default()).await;
    }
    Ok(ExitCode::SUCCESS)
}

fn new_session(arguments: &New) -> anyhow::Result<Value> {
    let mut body = Map::new();
    let mut set = |key: &str, value: &Option<String>| {
        if let Some(value) = value {
            body.insert(key.to_owned(), json!(value));
        }
    };
    set("name", &arguments.name);
    set("title", &arguments.title);
    set("backend", &arguments.backend);
    set("agent", &arguments.agent);
    set("model", &arguments.model);
    set("base_branch", &arguments.base_branch);
    set("image", &arguments.image);
    let prompt = match arguments.prompt.as_deref() {
        Some("-") => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .context("cannot read the prompt from standard input")?;
            text
        }
        Some(text) => text.to_owned(),
        None => String::new(),
    };
    body.insert("prompt".to_owned(), json!(prompt));
    if arguments.repo.is_empty() {
        let path = arguments.path.clone().unwrap_or_else(|| PathBuf::from("."));
        body.insert("repo_path".to_owned(), json!(absolute(&path)?));
    } else {
        let repositories = arguments
            .repo
            .iter()
            .map(|given| {
                let (path, name) = match given.split_once('=') {
                    Some((path, name)) => (path, Some(name)),
                    None => (given.as_str(), None),
                };
                let mut repository = json!({"path": absolute(path.as_ref())?});
                if let Some(name) = name {
                    repository["mount_name"] = json!(name);
                }
                Ok(repository)
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        body.insert("repositories".to_owned(), json!(repositories));
    }
    let mut variables = Map::new();
    for given in &arguments.env {
        let Some((name, value)) = given.split_once('=') else {
            bail!("--env {given}: it looks like NAME=VALUE");
        };
        variables.insert(name.to_owned(), json!(value));
    }
    if !variables.is_empty() {
        body.insert("env".to_owned(), Value::Object(variables));
    }
    if !arguments.tag.is_empty() {
        body.insert("tags".to_owned(), json!(arguments.tag));
    }
    for (key, flag, given) in [
        (
            "backend_options",
            "--backend-options",
            &arguments.backend_options,
        ),
        ("agent_options", "--agent-options", &arguments.agent_options),
    ] {
        if let Some(given) = given {
            let options: Map<String, Value> = serde_json::from_str(given)
                .with_context(|| format!("{flag} must be a JSON object"))?;
            body.insert(key.to_owned(), Value::Object(options));
        }
    }
    if arguments.no_plan_mode {
        body.insert("no_plan_mode".to_owned(), json!(true));
    }
    Ok(Value::Object(body))
}

fn absolute(path: &std::path::Path) -> anyhow::Result<String> {
    let found = path
        .canonicalize()
        .with_context(|| format!("cannot find {}", path.display()))?;
    found
        .into_os_string()
        .into_string()
        .map_err(|path| anyhow::anyhow!("{} is not UTF-8", path.display()))
}

/// List sessions
#[derive(Debug, Args)]
pub(super) struct List {
    /// Archived ones too
    #[arg(long, short)]
    all: bool,
    /// Only those with this status: starting, running, stopped, error, archived, deleting
    #[arg(long)]
    status: Option<String>,
    /// Only those on this backend
    #[arg(long, short)]
    backend: Option<String>,
    /// Only those with this tag
    #[arg(long)]
    tag: Option<String>,
    /// Only names, a line each
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn list(server: &Server, arguments: List) -> anyhow::Result<ExitCode> {
    let mut query = Vec::new();
    if arguments.all || arguments.status.as_deref() == Some("archived") {
        query.push(("include_archived", "true"));
    }
    for (key, value) in [
        ("status", &arguments.status),
        ("backend", &arguments.backend),
        ("tag", &arguments.tag),
    ] {
        if let Some(value) = value {
            query.push((key, value.as_str()));
        }
    }
    let answer = server.get(&["api", "sessions"], &query).await?;
    let sessions = answer["sessions"].as_array().cloned().unwrap_or_default();
    if arguments.json {
        json(&sessions)?;
    } else if arguments.quiet {
        for session in &sessions {
            line(&text(session, "name"))?;
        }
    } else if sessions.is_empty() {
        note("no sessions; `berth new` makes one");
    } else {
        let rows: Vec<Vec<String>> = sessions
            .iter()
            .map(|session| {
                vec![
                    text(session, "name"),
                    status_words(session),
                    text(session, "backend"),
                    text(session, "agent"),
                    age(&text(session, "created_at")),
                    plain(&text(session, "repo_path")),
                ]
            })
            .collect();
        let head = ["NAME", "STATUS", "BACKEND", "AGENT", "AGE", "REPOSITORY"];
        table(&head, &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The status, and health or activity where they say more.
fn status_words(session: &Value) -> String {
    let status = text(session, "status");
    let health = text(session, "health");
    let activity = text(session, "activity");
    match status.as_str() {
        "running" if !activity.is_empty() && activity != "unknown" => {
            format!("running, {}", activity.replace('_', " "))
        }
        "error" if health != "Error" && !health.is_empty() => format!("error, {health}"),
        _ => status,
    }
}

/// How long ago something was, in its largest unit.
fn age(at: &str) -> String {
    let Ok(at) = at.parse::<jiff::Timestamp>() else {
        return String::new();
    };
    let seconds = jiff::Timestamp::now().duration_since(at).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

/// Start stopped sessions
#[derive(Debug, Args)]
pub(super) struct Names {
    /// Names or ids
    #[arg(required = true, value_name = "SESSION")]
    sessions: Vec<String>,
}

pub(super) async fn start_or_stop(
    server: &Server,
    arguments: Names,
    action: &str,
) -> anyhow::Result<ExitCode> {
    let mut failed = false;
    for session in &arguments.sessions {
        let path = ["api", "sessions", session, action];
        match server.post(&path, None::<&()>).await {
            Ok(answer) => line(&format!(
                "{} {}",
                text(&answer, "name"),
                text(&answer, "status")
            ))?,
            Err(error @ ClientError::Refused { .. }) => {
                note(&format!("berth: {session}: {error}"));
                failed = true;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(exit_code(failed))
}

/// Say something to a session's agent
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  berth send fix-login now add a test
  git diff | berth send fix-login -")]
pub(super) struct Send {
    /// Name or id
    session: String,
    /// What to say; `-` reads standard input
    #[arg(required = true, trailing_var_arg = true)]
    words: Vec<String>,
}

pub(super) async fn send(server: &Server, arguments: Send) -> anyhow::Result<ExitCode> {
    let content = if arguments.words == ["-"] {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read the message from standard input")?;
        text
    } else {
        arguments.words.join(" ")
    };
    let path = ["api", "sessions", &arguments.session, "messages"];
    let answer = server
        .post(&path, Some(&json!({"content": content})))
        .await?;
    if answer["held"] == true {
        note("an approval is open; the message is delivered after it");
    }
    Ok(ExitCode::SUCCESS)
}

/// Print a session's terminal history as plain text
#[derive(Debug, Args)]
pub(super) struct Logs {
    /// Name or id
    session: String,
}

pub(super) async fn logs(server: &Server, arguments: Logs) -> anyhow::Result<ExitCode> {
    let path = ["api", "sessions", &arguments.session, "logs"];
    let text = server.text(&path).await?;
    if !text.is_empty() {
        line(&text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Delete sessions
#[derive(Debug, Args)]
#[command(
    after_help = "A branch with commits is kept. Without --force, a session with uncommitted changes stays."
)]
pub(super) struct Remove {
    /// Names or ids
    #[arg(value_name = "SESSION", required_unless_present = "all")]
    sessions: Vec<String>,
    /// All sessions, archived ones included
    #[arg(long, conflicts_with = "sessions")]
    all: bool,
    /// Even with uncommitted changes (they are kept under refs/berth/rescue), and when the backend does not answer
    #[arg(long, short)]
    force: bool,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn remove(server: &Server, arguments: Remove) -> anyhow::Result<ExitCode> {
    let sessions = if arguments.all {
        let query = [("include_archived", "true")];
        let answer = server.get(&["api", "sessions"], &query).await?;
        answer["sessions"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|session| (text(session, "id"), text(session, "name")))
            .collect()
    } else {
        let named = |session: &String| (session.clone(), session.clone());
        arguments.sessions.iter().map(named).collect::<Vec<_>>()
    };
    let force = if arguments.force { "true" } else { "false" };
    let mut failed = false;
    let mut done = Vec::new();
    for (id, name) in sessions {
        let path = ["api", "sessions", &id];
        match server.delete(&path, &[("force", force)]).await {
            Ok(answer) => {
                if !arguments.json {
                    line(&format!("{name} deleted"))?;
                    for rescued in answer["rescued"].as_array().into_iter().flatten() {
                        let rescued = rescued.as_str().unwrap_or_default();
                        note(&format!("uncommitted work of {name} is kept in {rescued}"));
                    }
                    if let Some(message) = answer["message"].as_str() {
                        note(&format!("{name}: {message}"));
                    }
                }
                done.push(json!({"session": name, "result": answer}));
            }
            Err(error @ ClientError::Refused { .. }) => {
                note(&format!("berth: {name}: {error}"));
                failed = true;
            }
            Err(error) => return Err(error.into()),
        }
    }
    if arguments.json {
        json(&done)?;
    }
    Ok(exit_code(failed))
}

fn exit_code(failed: bool) -> ExitCode {
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// A field's text; empty where there is none.
pub(super) fn text(document: &Value, field: &str) -> String {
    document[field].as_str().unwrap_or_default().to_owned()
}
