//! What callers ask of sessions, and what they are answered beside the session itself.

use super::{Action, EnvShown, Session, SessionName, SessionSummary, Status};
use berth_plugin_api::doc::Resources;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use utoipa::ToSchema;

/// A session to make: the body of `POST /api/sessions`. Its rules are checked by
/// [`Sessions::create`](super::Sessions::create).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSession {
    /// 1 to 63 characters of a-z, 0-9 and '-'; made from title, prompt or folder when absent.
    pub name: Option<String>,
    pub title: Option<String>,
    pub description: Option<String>,
    #[serde(default)]
    pub tags: Vec<String>,
    /// Exactly one of `repo_path` and `repositories`.
    pub repo_path: Option<String>,
    /// 1 to 5.
    #[schema(max_items = 5, min_items = 1)]
    pub repositories: Option<Vec<NewRepository>>,
    /// Required, but for agents with the capability `prompt_optional`; empty starts the agent idle.
    pub prompt: Option<String>,
    pub backend: Option<String>,
    pub agent: Option<String>,
    pub model: Option<String>,
    #[serde(default)]
    pub no_plan_mode: bool,
    /// The branch or commit that work begins from, in every repository; absent: `HEAD`.
    pub base_branch: Option<String>,
    #[serde(default)]
    pub image_paths: Vec<String>,
    pub image: Option<String>,
    #[serde(default)]
    pub env: BTreeMap<String, EnvValue>,
    #[serde(default)]
    pub resources: NewResources,
    /// Checked by the backend's own JSON Schema.
    #[schema(value_type = Option<Object>)]
    pub backend_options: Option<Value>,
    /// Checked by the agent's own JSON Schema.
    #[schema(value_type = Option<Object>)]
    pub agent_options: Option<Value>,
}

/// A repository to work on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRepository {
    /// A folder in a git repository on the server's machine.
    pub path: String,
    /// 1 to 32 characters, starts with a letter, `[A-Za-z0-9_-]`; made from the folder's name when absent.
    pub mount_name: Option<String>,
    /// Overrides the session's `base_branch`.
    pub base_branch: Option<String>,
}

/// Limits asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewResources {
    /// Processors, as in `1.5`.
    pub cpu: Option<f64>,
    pub memory_bytes: Option<u64>,
}

impl From<NewResources> for Resources {
    fn from(asked: NewResources) -> Self {
        Self {
            cpu: asked.cpu,
            memory_bytes: asked.memory_bytes,
        }
    }
}

/// A variable of the environment: `"text"`, or `{"value": "text", "secret": true}`, which is kept in a file that only
/// the server's user can read and is never told again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum EnvValue {
    Plain(String),
    Marked(MarkedEnv),
}

/// A variable with a mark.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MarkedEnv {
    pub value: String,
    #[serde(default)]
    pub secret: bool,
}

impl EnvValue {
    /// The value itself.
    pub fn value(&self) -> &str {
        match self {
            Self::Plain(value) => value,
            Self::Marked(marked) => &marked.value,
        }
    }

    /// Whether the value must not be told.
    pub fn is_secret(&self) -> bool {
        matches!(self, Self::Marked(marked) if marked.secret)
    }

    /// The variable without what must not be told.
    pub fn shown(&self) -> EnvShown {
        if self.is_secret() {
            EnvShown::Secret { secret: true }
        } else {
            EnvShown::Plain(self.value().to_owned())
        }
    }
}

/// Never shows a value: environments end up in logs.
impl fmt::Debug for EnvValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_secret() {
            "<secret>"
        } else {
            "<env>"
        })
    }
}

impl fmt::Debug for MarkedEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<env>")
    }
}

/// The answer to a creation.
#[derive(Debug, Clone, PartialEq)]
pub struct Created {
    pub session: Session,
    /// The session was made by an earlier request with the same `Idempotency-Key`.
    pub replayed: bool,
}

/// Which sessions to list. What is `None` does not filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListFilter {
    pub include_archived: bool,
    pub status: Option<Status>,
    pub backend: Option<String>,
    pub agent: Option<String>,
    pub tag: Option<String>,
    /// Found in name, title, description or prompt, in any case.
    pub q: Option<String>,
    /// 1 to 1000; absent, with no cursor: everything.
    pub limit: Option<u32>,
    /// `next_cursor` of an earlier page.
    pub cursor: Option<String>,
}

/// A page of a list, newest session first.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Page {
    pub sessions: Vec<SessionSummary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Changes to what people call a session. An absent field stays; `title` and `description` are taken away by null.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MetadataChange {
    pub name: Option<String>,
    #[serde(default, with = "double_option")]
    #[schema(value_type = Option<String>)]
    pub title: Option<Option<String>>,
    #[serde(default, with = "double_option")]
    #[schema(value_type = Option<String>)]
    pub description: Option<Option<String>>,
    pub tags: Option<Vec<String>>,
}

/// What people call a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Metadata {
    pub name: SessionName,
    pub title: Option<String>,
    pub description: Option<String>,
    pub tags: Vec<String>,
}

/// What a deletion saved on its way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Removal {
    /// Refs in the user's repositories that hold what was not committed.
    pub rescued: Vec<String>,
    /// What could not be done, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What a recreation is about to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recreation {
    /// Which of it was asked for.
    pub action: Action,
    pub data_preservation: RecreatePreservation,
    pub rescued: Vec<String>,
}

/// What stays over a recreation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct RecreatePreservation {
    pub git_state: bool,
    pub chat_history: bool,
    pub uncommitted_changes: bool,
}

/// A branch in the user's repository after a sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SyncedBranch {
    /// The repository, as the caller gave it.
    pub path: String,
    pub branch: String,
    pub commit: String,
    /// The ref that holds the session's commits where the branch could not be moved to them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
}

/// The answer to a message once the session's terminal has taken it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// An approval is open: the message is delivered after it.
    pub held: bool,
}

/// Tells a field that is null from one that is absent.
mod double_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(
        clippy::option_option,
        clippy::ref_option,
        reason = "absent, null and a value are three things"
    )]
    pub(super) fn serialize<S: Serializer>(
        value: &Option<Option<String>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value
            .as_ref()
            .and_then(Option::as_ref)
            .serialize(serializer)
    }

    #[expect(
        clippy::option_option,
        reason = "absent, null and a value are three things"
    )]
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Option<String>>, D::Error> {
        Option::deserialize(deserializer).map(Some)
    }
}
