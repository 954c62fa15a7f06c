//! The session as callers see it.

use super::{SessionId, SessionName};
use berth_plugin_api::doc::Resources;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use utoipa::ToSchema;

/// The life of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Starting,
    Running,
    Stopped,
    Error,
    Archived,
    Deleting,
}

impl Status {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Error => "error",
            Self::Archived => "archived",
            Self::Deleting => "deleting",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the agent inside is doing, told by the agent plugin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    #[default]
    Unknown,
    Working,
    WaitingInput,
    WaitingApproval,
    Idle,
}

/// Whether a session is as it was asked to be, and if not, in which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum Health {
    /// Runs as asked.
    Healthy,
    /// Starting, pulling, scheduling, or on its way out.
    Pending,
    /// Ended with code 0, or was stopped.
    Stopped,
    /// Ended with another code, or never came up.
    Error,
    /// Three such ends within ten minutes.
    CrashLoop,
    /// Gone from the backend, data kept.
    Missing,
    /// Gone from the backend with its data.
    DataLost,
    /// The worktree is gone, the branch is there.
    WorktreeMissing,
    /// The backend itself does not answer.
    Unreachable,
}

/// What a caller may do about a session.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Start,
    Recreate,
    RecreateFresh,
    Cleanup,
    Refresh,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Recreate => "recreate",
            Self::RecreateFresh => "recreate_fresh",
            Self::Cleanup => "cleanup",
            Self::Refresh => "refresh",
        })
    }
}

/// What a list shows of a session.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct SessionSummary {
    pub id: SessionId,
    pub name: SessionName,
    pub title: Option<String>,
    pub tags: Vec<String>,
    pub backend: String,
    pub agent: String,
    pub status: Status,
    pub activity: Activity,
    pub health: Health,
    /// The first repository's path.
    pub repo_path: String,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    pub archived: bool,
}

/// All of a session.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Session {
    #[serde(flatten)]
    pub summary: SessionSummary,
    pub description: Option<String>,
    /// The caller's free string.
    pub model: Option<String>,
    /// Why `health` is what it is, in one sentence.
    pub status_message: Option<String>,
    pub repositories: Vec<SessionRepository>,
    /// The first repository's worktree; null while there is none, and when the backend holds its own clone.
    pub worktree_path: Option<String>,
    pub prompt: String,
    pub no_plan_mode: bool,
    pub image_paths: Vec<String>,
    pub chat_history: Vec<ChatRow>,
    #[schema(value_type = Object)]
    pub resources: Resources,
    pub image: Option<String>,
    /// Values marked secret are not told.
    pub env: BTreeMap<String, EnvShown>,
    #[schema(value_type = Object)]
    pub backend_options: Value,
    #[schema(value_type = Object)]
    pub agent_options: Value,
}

/// A repository in a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionRepository {
    /// As the caller gave it.
    pub path: String,
    pub mount_name: String,
    /// Where the session sees it; null until it is made.
    pub mount_point: Option<String>,
    /// The session's branch; null until it is made.
    pub branch: Option<String>,
    /// What the branch was made from; null for a commit that no branch named.
    pub base_branch: Option<String>,
    pub base_commit: Option<String>,
    pub worktree_path: Option<String>,
}

/// One row of `chat_history`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChatRow {
    pub seq: u64,
    pub role: Role,
    pub content: String,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    User,
    Assistant,
    System,
}

/// A variable of a session's environment, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum EnvShown {
    Plain(String),
    /// `{"secret": true}` in a secret's place.
    Secret {
        secret: bool,
    },
}

/// What `GET /api/sessions/{id}/health` answers.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct HealthReport {
    pub session_id: SessionId,
    pub health: Health,
    pub details: HealthDetails,
    pub available_actions: Vec<Action>,
    /// For each action on offer: chat, commits and uncommitted work all stay.
    pub data_preservation: BTreeMap<Action, bool>,
    pub reconciliation: Reconciliation,
    #[schema(value_type = String, format = DateTime)]
    pub checked_at: Timestamp,
}

/// What is known of the place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct HealthDetails {
    pub backend: String,
    /// The engine's own word for what the place is doing.
    pub container_status: Option<String>,
    /// 128 + n when signal n ended the program.
    pub exit_code: Option<i32>,
    pub error_message: Option<String>,
}

/// How far bringing a session back has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reconciliation {
    pub attempts: u32,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_attempt: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_attempt: Option<Timestamp>,
    /// What the last attempt failed with.
    pub error: Option<String>,
}
