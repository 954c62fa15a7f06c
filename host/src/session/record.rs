//! What is stored of a session: what was asked for, and how far it has come.
//!
//! Both are JSON documents in the session's row. They grow by new fields with a default; a field's meaning never changes.

use super::{EnvValue, NewSession};
use crate::git::WorkingTree;
use berth_plugin_api::doc::Resources;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Everything that the caller asked for, checked and completed. Never changes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Spec {
    pub(crate) model: Option<String>,
    pub(crate) no_plan_mode: bool,
    pub(crate) image_paths: Vec<String>,
    pub(crate) image: Option<String>,
    /// Secret values are not here but in the session's folder.
    pub(crate) env: BTreeMap<String, SpecEnv>,
    pub(crate) resources: Resources,
    pub(crate) backend_options: Value,
    pub(crate) agent_options: Value,
    /// At least one; the first is the working directory.
    pub(crate) repositories: Vec<SpecRepository>,
}

/// A variable of the environment.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SpecEnv {
    Plain(String),
    /// Its value stands in the session's folder under the variable's name.
    Secret,
}

/// Never shows a value.
impl std::fmt::Debug for SpecEnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Secret => "Secret",
        })
    }
}

/// A repository to work on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SpecRepository {
    /// As the caller gave it.
    pub(crate) path: String,
    pub(crate) mount_name: String,
    pub(crate) base_branch: Option<String>,
}

impl Spec {
    /// What of a checked request is kept, and the secret values, which are kept elsewhere.
    pub(crate) fn of(
        new: &NewSession,
        repositories: Vec<SpecRepository>,
    ) -> (Self, BTreeMap<String, String>) {
        let mut secrets = BTreeMap::new();
        let mut env = BTreeMap::new();
        for (name, value) in &new.env {
            let kept = if value.is_secret() {
                secrets.insert(name.clone(), value.value().to_owned());
                SpecEnv::Secret
            } else {
                SpecEnv::Plain(EnvValue::value(value).to_owned())
            };
            env.insert(name.clone(), kept);
        }
        let spec = Self {
            model: new.model.clone(),
            no_plan_mode: new.no_plan_mode,
            image_paths: new.image_paths.clone(),
            image: new.image.clone(),
            env,
            resources: new.resources.into(),
            backend_options: new.backend_options.clone().unwrap_or_default(),
            agent_options: new.agent_options.clone().unwrap_or_default(),
            repositories,
        };
        (spec, secrets)
    }
}

/// What is wanted of a session and how far it has come. Written only by the session's own task, before and after it acts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that hold or not, each for itself"
)]
pub(crate) struct Record {
    pub(crate) desired: Desired,
    pub(crate) trees: Trees,
    /// The working trees, once they were made.
    pub(crate) repositories: Vec<MadeTree>,
    pub(crate) place: Place,
    /// The backend's own note of the place; null when there is none or the answer was lost.
    pub(crate) handle: Value,
    /// Put another place where this one is, before anything else.
    pub(crate) rebuild: bool,
    /// Begin anew: working trees at their branch's last commit, an empty conversation, the first prompt.
    pub(crate) fresh: bool,
    pub(crate) run: Option<Run>,
    /// Why the session never came up.
    pub(crate) failure: Option<String>,
    pub(crate) prompt: Prompt,
    /// A program has run in this session since it was made (anew): its data are worth keeping.
    pub(crate) has_run: bool,
    /// Starts of the keeper since a program last ran.
    pub(crate) start_tries: u32,
    /// The agent's own id of its conversation.
    pub(crate) native_id: Option<String>,
    /// When the session ended unasked or never came up: the newest three.
    pub(crate) falls: Vec<Timestamp>,
    pub(crate) retry: Retry,
    /// The branches in the user's repositories are behind what the session may have committed.
    pub(crate) unsynced: bool,
    /// What the backend wanted the user to know.
    pub(crate) warnings: Vec<String>,
    /// Differs after the machine was started anew.
    pub(crate) machine: String,
    /// What a removal saved on its way.
    pub(crate) rescued: Vec<String>,
    /// What a removal had to leave on the backend: swept when it answers.
    pub(crate) leftover: Option<Value>,
}

/// What the user wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Desired {
    #[default]
    Running,
    Stopped,
    /// Nothing runs or stands on the backend; worktree, branch and record stay.
    Archived,
    /// The same, and the worktree is gone too.
    Cleaned,
    Deleted {
        /// Also when the backend does not answer.
        force: bool,
    },
}

/// How far the working trees are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Trees {
    #[default]
    Absent,
    /// Half of them may be there.
    Making,
    Made,
}

/// How far the place is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Place {
    #[default]
    Absent,
    /// It may be there.
    Making,
    /// It is there, and its keeper does not run.
    Down,
    /// Its keeper may run.
    Up,
}

/// A working tree that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MadeTree {
    pub(crate) mount_name: String,
    /// As the session sees the working tree.
    pub(crate) mount_point: PathBuf,
    pub(crate) tree: WorkingTree,
}

/// One run of the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) state: RunState,
    /// The number of its first byte of output.
    pub(crate) first_offset: u64,
    pub(crate) started_at: Timestamp,
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RunState {
    /// The keeper may have been told.
    Starting,
    Running,
    Ended(Ended),
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// 128 + n when signal n ended it; `None` where nobody knows.
    pub(crate) code: Option<i32>,
    pub(crate) cause: Cause,
    pub(crate) message: String,
    pub(crate) at: Timestamp,
}

/// Why a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cause {
    /// The user asked for it.
    Asked,
    /// By itself.
    Itself,
    /// Its place went, or it was killed.
    Outside,
    /// With its machine, or while its engine was away: brought back at no cost.
    Away,
}

/// How far the first prompt is, where it is typed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Prompt {
    #[default]
    Waiting,
    /// It may have been typed.
    Typing,
    Given,
}

/// How far bringing the session back is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Retry {
    pub(crate) attempts: u32,
    pub(crate) last_attempt: Option<Timestamp>,
    pub(crate) next_attempt: Option<Timestamp>,
    pub(crate) error: Option<String>,
}

impl Record {
    /// A program may run.
    pub(crate) fn is_alive(&self) -> bool {
        self.run
            .as_ref()
            .is_some_and(|run| !matches!(run.state, RunState::Ended(_)))
    }

    /// How the last program ended; `None` while one may run or none has.
    pub(crate) fn ended(&self) -> Option<&Ended> {
        match &self.run.as_ref()?.state {
            RunState::Ended(ended) => Some(ended),
            RunState::Starting | RunState::Running => None,
        }
    }
}
