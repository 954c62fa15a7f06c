//! The plugin's section of the configuration, `[backends.local]`.

use berth_plugin_api::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `[backends.local]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LocalConfig {
    /// Whether each session gets a control group of its own.
    pub cgroups: UseCgroups,
}

/// Whether each session gets a control group of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UseCgroups {
    /// Where they can be written.
    #[default]
    Auto,
    /// Never: a session's processes are found by their descent and their environment.
    Never,
}

impl LocalConfig {
    pub(crate) fn schema() -> Value {
        schemars::schema_for!(Self).to_value()
    }

    pub(crate) fn parse(config: Value) -> Result<Self> {
        if config.is_null() {
            return Ok(Self::default());
        }
        serde_json::from_value(config).map_err(|fault| {
            Error::invalid("config", format!("the configuration is wrong: {fault}"))
        })
    }
}
