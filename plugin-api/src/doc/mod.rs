//! The documents that cross the boundary, as JSON.
//!
//! They grow by one rule: a new field is optional and has a default, a reader ignores fields that it does not know,
//! and a field's meaning never changes. Sizes are bytes, times RFC 3339 UTC, durations milliseconds and named so.

mod agent;
mod backend;

pub use agent::*;
pub use backend::*;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;

/// What the host gives a plugin once, when it opens it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct OpenRequest {
    /// The plugin's own section of the configuration (`[backends.<name>]`, `[agents.<name>]`), already checked
    /// against its schema; secrets are resolved.
    pub config: Value,
    /// A folder for the plugin alone, which exists; what it keeps there outlives restarts.
    pub data_dir: PathBuf,
    /// The id of this installation of berth: what the plugin makes carries it, and it never touches another's.
    pub instance: String,
    /// The host's version, for messages.
    pub host_version: String,
    /// How many worker threads the plugin's runtime should have; 0 is the plugin's choice.
    pub worker_threads: usize,
    /// The most verbose level that the host wants to hear: `error` `warn` `info` `debug` `trace`.
    pub log_level: String,
}

/// Word on how long work goes on; it becomes an event of the session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// What is being done, as in `pulling debian:bookworm`.
    pub message: String,
    /// How much is done, in `unit`s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<u64>,
    /// How much there is, in `unit`s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// What is counted: `bytes`, `layers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}
