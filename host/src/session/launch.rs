//! How a session's place and program are put together: mounts, environment, seed files, keystrokes.

use super::record::{MadeTree, SpecEnv};
use super::shared::Shared;
use super::store::SessionRow;
use crate::db::SessionFolder;
use crate::keeper::{Keeper, KeeperError, PutFile};
use berth_keeper_protocol::{Program, SESSION_VARIABLE, StartProgram};
use berth_plugin_api::doc::{
    AgentContext, Command, CreateRequest, Filesystem, KeeperProgram, Keystrokes, LaunchPlan, Merge,
    Mount, SeedFile, SessionRef,
};
use bytes::Bytes;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a place that has mounts sees the agent's home.
const HOME_TARGET: &str = "/home/berth";
/// Where a place that has mounts sees the working trees, a folder each.
const WORK_TARGET: &str = "/work";
/// The file in a session's folder with its secret variables.
const SECRETS_FILE: &str = "secrets.json";
/// A search path where nothing better is known.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why something could not be put into a session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("the keeper for {architecture} is not installed: {} is missing", .path.display())]
    NoKeeper { architecture: String, path: PathBuf },
    #[error(
        "the backend keeps files of its own, which this version of berth cannot bring a repository to"
    )]
    OwnFiles,
    #[error("{} cannot be merged with what the agent needs: {message}", .path)]
    Merge { path: String, message: String },
    #[error("the session's secrets cannot be read or written")]
    Secrets(#[source] std::io::Error),
    #[error(transparent)]
    Keeper(#[from] KeeperError),
}

/// How a session's files look from inside.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    filesystem: Filesystem,
    folder: SessionFolder,
}

impl Layout {
    pub(crate) fn new(filesystem: Filesystem, folder: SessionFolder) -> Self {
        Self { filesystem, folder }
    }

    /// Where the session sees the working tree with this name.
    pub(crate) fn mount_point(&self, mount_name: &str) -> PathBuf {
        match self.filesystem {
            Filesystem::Host => self.folder.work.join(mount_name),
            Filesystem::Bind | Filesystem::Own => Path::new(WORK_TARGET).join(mount_name),
        }
    }

    fn home(&self) -> PathBuf {
        match self.filesystem {
            Filesystem::Host => self.folder.home.clone(),
            Filesystem::Bind | Filesystem::Own => PathBuf::from(HOME_TARGET),
        }
    }

    fn mounts(&self, trees: &[MadeTree]) -> Vec<Mount> {
        let mut mounts = vec![Mount {
            source: self.folder.home.clone(),
            target: self.home(),
            read_only: false,
        }];
        for made in trees {
            mounts.push(Mount {
                source: made.tree.work.clone(),
                target: made.mount_point.clone(),
                read_only: false,
            });
            for objects in &made.tree.object_dirs {
                if !mounts.iter().any(|mount| mount.source == *objects) {
                    mounts.push(Mount {
                        source: objects.clone(),
                        target: objects.clone(),
                        read_only: true,
                    });
                }
            }
        }
        mounts
    }
}

/// What the backend is asked to make.
///
/// # Errors
/// There is no keeper for the backend's architecture, or this backend's files cannot be reached.
pub(crate) fn create_request(
    shared: &Shared,
    row: &SessionRow,
    layout: &Layout,
    architecture: &str,
) -> Result<CreateRequest, LaunchError> {
    if layout.filesystem == Filesystem::Own {
        return Err(LaunchError::OwnFiles);
    }
    let architecture = if architecture.is_empty() {
        std::env::consts::ARCH
    } else {
        architecture
    };
    let path = shared
        .settings
        .keeper_dir
        .join(architecture)
        .join("berth-keeper");
    if !path.is_file() {
        return Err(LaunchError::NoKeeper {
            architecture: architecture.to_owned(),
            path,
        });
    }
    Ok(CreateRequest {
        session: session_ref(shared, row),
        keeper: KeeperProgram {
            path,
            args: vec!["run".to_owned(), "--session".to_owned(), row.id.to_string()],
            env: BTreeMap::from([(SESSION_VARIABLE.to_owned(), row.id.to_string())]),
        },
        mounts: layout.mounts(&row.record.repositories),
        user: None,
        image: row.spec.image.clone(),
        resources: row.spec.resources.clone(),
        options: row.spec.backend_options.clone(),
        labels: BTreeMap::from([
            (
                "berth.instance".to_owned(),
                shared.data.instance().to_owned(),
            ),
            ("berth.session".to_owned(), row.id.to_string()),
        ]),
    })
}

pub(crate) fn session_ref(shared: &Shared, row: &SessionRow) -> SessionRef {
    SessionRef {
        id: row.id.to_string(),
        name: row.metadata.name.to_string(),
        instance: shared.data.instance().to_owned(),
    }
}

/// What the agent has to know.
pub(crate) fn agent_context(
    shared: &Shared,
    row: &SessionRow,
    layout: &Layout,
    architecture: &str,
) -> AgentContext {
    let cwd = row.record.repositories.first().map_or_else(
        || layout.home(),
        |made| made.mount_point.join(&made.tree.subfolder),
    );
    // Joined with nothing, a path gets a slash at its end.
    let cwd: PathBuf = cwd.components().collect();
    let host_files = layout.filesystem == Filesystem::Host;
    let keeper = if host_files {
        let architecture = if architecture.is_empty() {
            std::env::consts::ARCH
        } else {
            architecture
        };
        shared
            .settings
            .keeper_dir
            .join(architecture)
            .join("berth-keeper")
            .display()
            .to_string()
    } else {
        "/berth/berth-keeper".to_owned()
    };
    AgentContext {
        session_id: row.id.to_string(),
        session_name: row.metadata.name.to_string(),
        cwd: cwd.display().to_string(),
        home: layout.home().display().to_string(),
        login_shell: shared
            .settings
            .user
            .login_shell
            .clone()
            .filter(|_| host_files),
        keeper,
        model: row.spec.model.clone(),
        no_plan_mode: row.spec.no_plan_mode,
        images: row.spec.image_paths.clone(),
        options: row.spec.agent_options.clone(),
    }
}

/// The run of an agent's plan.
pub(crate) fn start_program(
    shared: &Shared,
    row: &SessionRow,
    layout: &Layout,
    context: &AgentContext,
    plan: &LaunchPlan,
    secrets: &BTreeMap<String, String>,
) -> StartProgram {
    let (run_id, first_offset) = row
        .record
        .run
        .as_ref()
        .map(|run| (run.id.clone(), run.first_offset))
        .unwrap_or_default();
    let program = |command: &Command| Program {
        argv: command.argv.clone(),
        env: environment(shared, row, layout, context, command, secrets),
        cwd: Some(context.cwd.clone()),
    };
    StartProgram {
        run_id,
        program: program(&plan.main),
        sidecars: plan.sidecars.iter().map(program).collect(),
        size: berth_keeper_protocol::Size::default(),
        first_offset,
    }
}

/// The host's own first, then the agent's, then the caller's; what names the session wins over all.
fn environment(
    shared: &Shared,
    row: &SessionRow,
    layout: &Layout,
    context: &AgentContext,
    command: &Command,
    secrets: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let user = &shared.settings.user;
    let mut env: BTreeMap<String, String> = [
        ("TERM", "xterm-256color"),
        ("COLORTERM", "truecolor"),
        ("LANG", "C.UTF-8"),
        ("HOME", context.home.as_str()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    if layout.filesystem == Filesystem::Host {
        let path = user.path.as_deref().unwrap_or(DEFAULT_PATH);
        env.insert("PATH".to_owned(), path.to_owned());
        if !user.name.is_empty() {
            env.insert("USER".to_owned(), user.name.clone());
            env.insert("LOGNAME".to_owned(), user.name.clone());
        }
        if let Some(shell) = &user.login_shell {
            env.insert("SHELL".to_owned(), shell.clone());
        }
    }
    env.extend(command.env.clone());
    for (name, value) in &row.spec.env {
        let value = match value {
            SpecEnv::Plain(value) => Some(value),
            SpecEnv::Secret => secrets.get(name),
        };
        env.extend(value.map(|value| (name.clone(), value.clone())));
    }
    env.insert(SESSION_VARIABLE.to_owned(), row.id.to_string());
    env.insert(
        "BERTH_SESSION_NAME".to_owned(),
        row.metadata.name.to_string(),
    );
    env
}

/// Keeps secret variables where only the server's user can read them.
pub(crate) async fn write_secrets(
    folder: &SessionFolder,
    secrets: &BTreeMap<String, String>,
) -> Result<(), LaunchError> {
    if secrets.is_empty() {
        return Ok(());
    }
    let path = folder.root.join(SECRETS_FILE);
    let text = serde_json::to_vec(secrets).map_err(|error| LaunchError::Secrets(error.into()))?;
    let mut options = tokio::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let write = async {
        let mut file = options.open(&path).await?;
        tokio::io::AsyncWriteExt::write_all(&mut file, &text).await?;
        file.sync_all().await
    };
    write.await.map_err(LaunchError::Secrets)
}

/// The secret variables of a session.
pub(crate) async fn read_secrets(
    folder: &SessionFolder,
    row: &SessionRow,
) -> Result<BTreeMap<String, String>, LaunchError> {
    if !row.spec.env.values().any(|value| *value == SpecEnv::Secret) {
        return Ok(BTreeMap::new());
    }
    let read = async {
        let text = tokio::fs::read(folder.root.join(SECRETS_FILE)).await?;
        Ok(serde_json::from_slice(&text)?)
    };
    read.await.map_err(LaunchError::Secrets)
}

/// Writes the files that an agent needs, beside what is there.
pub(crate) async fn seed(keeper: &Keeper, files: &[SeedFile]) -> Result<(), LaunchError> {
    for file in files {
        let content = match file.merge {
            Merge::Replace => file.content.clone(),
            Merge::IfAbsent => {
                if keeper.stat(&file.path).await?.is_some() {
                    continue;
                }
                file.content.clone()
            }
            Merge::Json | Merge::Toml => match read_text(keeper, &file.path).await? {
                Some(there) => merged(file, &there)?,
                None => file.content.clone(),
            },
        };
        let put = PutFile {
            path: file.path.clone(),
            mode: Some(file.mode.unwrap_or(0o600)),
            overwrite: true,
            parents: true,
            beneath: None,
        };
        keeper.put_file(&put, content.as_bytes()).await?;
    }
    Ok(())
}

async fn read_text(keeper: &Keeper, path: &str) -> Result<Option<String>, LaunchError> {
    if keeper.stat(path).await?.is_none() {
        return Ok(None);
    }
    let mut body = keeper.get_file(path, 0).await?;
    let mut bytes = Vec::new();
    while let Some(part) = body.next().await {
        bytes.extend_from_slice(&part?);
    }
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|error| LaunchError::Merge {
            path: path.to_owned(),
            message: error.to_string(),
        })
}

fn merged(file: &SeedFile, there: &str) -> Result<String, LaunchError> {
    let fault = |message: String| LaunchError::Merge {
        path: file.path.clone(),
        message,
    };
    if there.trim().is_empty() {
        return Ok(file.content.clone());
    }
    if file.merge == Merge::Json {
        let parse = |text: &str| {
            serde_json::from_str::<Value>(text).map_err(|error| fault(error.to_string()))
        };
        let mut value = parse(there)?;
        merge_json(&mut value, parse(&file.content)?);
        serde_json::to_string_pretty(&value).map_err(|error| fault(error.to_string()))
    } else {
        let parse = |text: &str| {
            text.parse::<toml::Table>()
                .map_err(|error| fault(error.to_string()))
        };
        let mut table = parse(there)?;
        merge_toml(&mut table, parse(&file.content)?);
        toml::to_string_pretty(&table).map_err(|error| fault(error.to_string()))
    }
}

fn merge_json(there: &mut Value, seed: Value) {
    match (there, seed) {
        (Value::Object(there), Value::Object(seed)) => {
            for (key, value) in seed {
                merge_json(there.entry(key).or_insert(Value::Null), value);
            }
        }
        (there, seed) => *there = seed,
    }
}

fn merge_toml(there: &mut toml::Table, seed: toml::Table) {
    for (key, value) in seed {
        match (there.get_mut(&key), value) {
            (Some(toml::Value::Table(there)), toml::Value::Table(seed)) => merge_toml(there, seed),
            (_, value) => {
                there.insert(key, value);
            }
        }
    }
}

/// Types, in order, with the pauses that the agent asks for.
///
/// # Errors
/// The program does not run, or the connection is lost: then part of it may have been typed.
pub(crate) async fn type_keys(keeper: &Keeper, typed: &[Keystrokes]) -> Result<(), KeeperError> {
    for keys in typed {
        keeper.input(Bytes::from(keys.text.clone())).await?;
        if keys.then_wait_ms > 0 {
            tokio::time::sleep(Duration::from_millis(keys.then_wait_ms)).await;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_win_and_leave_the_rest() {
        let check = |merge, there: &str, seed: &str, expected: &str| {
            let file = SeedFile {
                merge,
                content: seed.to_owned(),
                ..SeedFile::default()
            };
            let merged = merged(&file, there).unwrap();
            let compact: String = merged.chars().filter(|c| !c.is_whitespace()).collect();
            assert_eq!(compact, expected);
        };
        check(
            Merge::Json,
            r#"{"a": {"b": 1, "c": 2}, "d": [1]}"#,
            r#"{"a": {"b": 3}, "d": {"e": 4}}"#,
            r#"{"a":{"b":3,"c":2},"d":{"e":4}}"#,
        );
        check(Merge::Json, "  ", r#"{"a": 1}"#, r#"{"a":1}"#);
        check(Merge::Toml, "[a]\nb = 1\nc = 2", "[a]\nb = 3", "[a]b=3c=2");
    }
}
