//! What can be configured, and what a session can ask for.

use berth_plugin_api::{Error, Result};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;

/// `[backends.bubblewrap]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The program.
    pub(crate) bwrap: String,
    /// Folders that every session may read, beside `/usr` and `/etc`.
    pub(crate) share: Vec<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bwrap: "bwrap".to_owned(),
            share: Vec::new(),
        }
    }
}

/// `backend_options` of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Options {
    /// The session has this machine's network; `false`: none.
    pub(crate) network: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { network: true }
    }
}

/// Reads a document that the host has checked against our schema already; null means that nothing was given.
pub(crate) fn parse<T: DeserializeOwned + Default>(field: &str, document: Value) -> Result<T> {
    if document.is_null() {
        return Ok(T::default());
    }
    serde_json::from_value(document).map_err(|fault| Error::invalid(field, fault.to_string()))
}
