//! What the loader is told.

use crate::driver::Isolation;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// A folder that holds plugins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginDir {
    /// The folder; folders in it are not looked into. One that does not exist holds no plugins.
    pub path: PathBuf,
    /// Where the code of its plugins runs, unless [`PluginSettings::isolation`] says otherwise for a plugin.
    pub isolation: Isolation,
}

/// What the loader is told.
#[derive(Debug, Clone, Default)]
pub struct PluginSettings {
    /// Folders, in order: of two plugins with one kind and name, that of the earlier folder is loaded; within one folder that of
    /// the higher version.
    pub dirs: Vec<PluginDir>,
    /// Sections `[backends.<name>]` of the configuration, each an object, with secrets resolved.
    pub backends: BTreeMap<String, Value>,
    /// Sections `[agents.<name>]` of the configuration.
    pub agents: BTreeMap<String, Value>,
    /// Plugins, by name, whose code is to run elsewhere than their folder says.
    pub isolation: BTreeMap<String, Isolation>,
    /// The id of this installation of berth.
    pub instance: String,
    /// Berth's data folder; each plugin gets `backends/<name>` or `agents/<name>` in it.
    pub data_dir: PathBuf,
    /// The most verbose level that plugins log: `error` `warn` `info` `debug` `trace`; empty means `info`.
    pub log_level: String,
    /// The program `berth`, which holds plugins that run in a process of their own; `None` means this one.
    pub program: Option<PathBuf>,
    /// How long each step of a plugin's opening may take; `None` means 10 seconds.
    pub step_limit: Option<Duration>,
}
