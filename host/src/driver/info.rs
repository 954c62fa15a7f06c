//! Facts about plugins, loaded or refused.

use super::{AgentDriver, BackendDriver};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// What a plugin is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PluginKind {
    /// It runs sessions somewhere.
    Backend,
    /// It knows a program that runs inside sessions.
    Agent,
}

impl fmt::Display for PluginKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Backend => "backend",
            Self::Agent => "agent",
        })
    }
}

/// Where a plugin's code runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// In the server's own process.
    #[default]
    None,
    /// In a process of its own: what ends that process does not end the server.
    Process,
}

/// Which plugin a driver stands before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PluginInfo {
    /// Its name: what sessions and the configuration call it.
    pub name: String,
    /// What it is for.
    pub kind: PluginKind,
    /// Its own version.
    pub version: String,
    /// The version of the plugin API that it was built with.
    pub api_version: String,
    /// What it says of itself, in a sentence; may be empty.
    pub summary: String,
    /// The file that it was loaded from; `None` when it is linked into this program.
    pub path: Option<PathBuf>,
    /// The file's SHA-256, in hexadecimal.
    pub sha256: Option<String>,
    /// Where its code runs.
    pub isolation: Isolation,
}

/// Whether a driver lets calls through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum DriverHealth {
    /// It does.
    Ready,
    /// The plugin kept failing: calls are refused at once, while a probe is tried again and again.
    Degraded {
        /// What went wrong, in a sentence.
        reason: String,
    },
}

/// A file in a plugin folder that was not loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedPlugin {
    /// The file.
    pub path: PathBuf,
    /// Its name, where it could be read.
    pub name: Option<String>,
    /// What it is for, where it could be read.
    pub kind: Option<PluginKind>,
    /// Why, and what to do about it.
    pub reason: String,
}

/// All plugins of a server.
#[derive(Debug, Clone, Default)]
pub struct Drivers {
    /// Backends by name.
    pub backends: BTreeMap<String, Arc<dyn BackendDriver>>,
    /// Agents by name.
    pub agents: BTreeMap<String, Arc<dyn AgentDriver>>,
    /// What was found and not loaded.
    pub refused: Vec<RefusedPlugin>,
}
