//! Wire forms that belong to no module but this one.

use super::error::ApiError;
use crate::git::Diff;
use crate::session::{ListFilter, Metadata, RecreatePreservation, Removal, Status, SyncedBranch};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// What every fault looks like.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Fault {
    pub(super) error: FaultBody,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FaultBody {
    /// Stays the same over versions, as in `SESSION_NOT_FOUND`.
    pub(super) code: String,
    /// For people.
    pub(super) message: String,
}

/// The most that one page of a list holds.
pub(super) const LARGEST_PAGE: u32 = 1000;

/// Which sessions to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Archived sessions too; `true`, `false`, `1` or `0`.
    #[serde(deserialize_with = "super::extract::flag")]
    #[param(default = false)]
    include_archived: bool,
    status: Option<Status>,
    backend: Option<String>,
    agent: Option<String>,
    tag: Option<String>,
    /// Found in name, title, description or prompt.
    q: Option<String>,
    /// The most to answer; without it and `cursor`, everything is.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl TryFrom<ListQuery> for ListFilter {
    type Error = ApiError;

    fn try_from(query: ListQuery) -> Result<Self, ApiError> {
        Ok(Self {
            include_archived: query.include_archived,
            status: query.status,
            backend: query.backend,
            agent: query.agent,
            tag: query.tag,
            q: query.q,
            limit: query.limit.map(page_size).transpose()?,
            cursor: query.cursor,
        })
    }
}

/// Checks `limit`.
pub(super) fn page_size(limit: u32) -> Result<u32, ApiError> {
    if (1..=LARGEST_PAGE).contains(&limit) {
        Ok(limit)
    } else {
        Err(ApiError::invalid(format!(
            "the query parameter limit must be 1 to {LARGEST_PAGE}, got {limit}"
        )))
    }
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct DeleteQuery {
    /// Even with uncommitted changes (they are rescued), and when the backend does not answer.
    #[serde(deserialize_with = "super::extract::flag")]
    #[param(default = false)]
    pub(super) force: bool,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Only events with a higher `seq`.
    #[param(default = 0)]
    pub(super) after: u64,
    /// The most to answer; 1000 without it.
    #[param(minimum = 1, maximum = 1000)]
    pub(super) limit: Option<u32>,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamQuery {
    /// Replays from the next `seq` on, as `Last-Event-ID` does, which rules where both are given.
    pub(super) after: Option<u64>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RecreateBody {
    /// As `recreate-fresh`.
    pub(super) fresh: bool,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MessageBody {
    pub(super) content: String,
}

/// The server took the message and the session's terminal has it, or will after an approval.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MessageAccepted {
    pub(super) success: bool,
    /// An approval is open: it is delivered after that.
    pub(super) held: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Removed {
    pub(super) success: bool,
    #[serde(flatten)]
    pub(super) removal: Removal,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Recreating {
    pub(super) success: bool,
    /// Always `recreating`.
    pub(super) status: &'static str,
    pub(super) data_preservation: RecreatePreservation,
    /// Refs that hold what was not committed.
    pub(super) rescued: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CleanedUp {
    pub(super) success: bool,
    /// What was really removed: `container`, `volumes`, `worktree`.
    pub(super) resources_cleaned: Vec<String>,
    #[serde(flatten)]
    pub(super) removal: Removal,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Synced {
    pub(super) success: bool,
    pub(super) branches: Vec<SyncedBranch>,
}

/// The worktrees of a session against their bases.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Diffs {
    /// In the order of the session's repositories.
    pub(super) repositories: Vec<RepositoryDiff>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RepositoryDiff {
    pub(super) mount_name: String,
    #[serde(flatten)]
    pub(super) diff: Diff,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MetadataChanged {
    pub(super) success: bool,
    pub(super) metadata: Metadata,
}

/// A page of a session's events. Only the schema: the events are written as they are stored.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventsPage {
    /// Oldest first, each as on the socket.
    #[schema(value_type = Vec<Object>)]
    events: Vec<Value>,
    /// Where the next page begins; null when there is no more.
    next_after: Option<u64>,
}
