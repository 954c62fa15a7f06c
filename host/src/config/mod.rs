//! Where every setting comes from: flag, environment (`BERTH_*`), `berth.toml` or default, in this order.
//!
//! [`Config::load`] reads all of them and tells every fault at once, each with its key and where it stands; nothing is
//! started before. This is the only module that reads the environment. Secrets are references (`env:NAME`,
//! `file:PATH`), resolved here and never shown again.

mod fault;
mod load;
mod parse;
mod section;
mod source;

pub use fault::{ConfigFaults, Fault};
pub use load::{Entry, Loaded};
pub use section::PluginSection;
pub use source::{Account, Environment, Given, Origin};

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// What the server runs with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens; port 0 is any free one.
    pub listen: SocketAddr,
    /// Names by which clients may call the server, beside `localhost`, the loopback addresses and the listen address.
    pub hosts: Vec<String>,
    /// Where everything that outlives a restart is kept.
    pub data_dir: PathBuf,
    /// Folders to load plugins from, in order: what came with berth first.
    pub plugin_dirs: Vec<PathBuf>,
    /// The one of these that came with berth.
    pub shipped_plugin_dir: Option<PathBuf>,
    /// The folder with a keeper for each architecture (`<arch>/berth-keeper`), where berth was found with one.
    pub keeper_dir: Option<PathBuf>,
    /// The backend of sessions that name none; `auto` is the host's choice.
    pub default_backend: String,
    /// The agent of sessions that name none.
    pub default_agent: String,
    /// Folders that repositories may stand in.
    pub roots: Vec<PathBuf>,
    /// Whether plugins that berth does not ship run in a process of their own.
    pub isolation: Isolation,
    /// `[backends.<name>]`.
    pub backends: BTreeMap<String, PluginSection>,
    /// `[agents.<name>]`.
    pub agents: BTreeMap<String, PluginSection>,
    /// The largest upload in bytes; absent: no limit.
    pub upload_limit: Option<u64>,
    /// How many connections are open at once; further ones wait.
    pub max_connections: usize,
    /// How long a stop waits for what is under way.
    pub shutdown_grace: Duration,
    /// What is logged.
    pub log: LogSettings,
    /// The login shell of the server's user, for agents that run one.
    pub login_shell: Option<String>,
    /// The home folder of the server's user.
    pub home: PathBuf,
    /// The name of the server's user, where it is known.
    pub user_name: Option<String>,
    /// `PATH` of the server, for the programs that it and its sessions run.
    pub search_path: Option<String>,
}

/// How plugins that berth does not ship are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// What berth ships in this process, all else in one of its own.
    Auto,
    /// Everything in this process.
    None,
    /// Every plugin in a process of its own.
    Process,
}

/// What is logged, and in which form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// A level, or a filter as `tracing` knows them.
    pub filter: String,
    /// The form.
    pub format: LogFormat,
}

impl LogSettings {
    /// The most verbose level that the filter lets through for anything: `error` `warn` `info` `debug` `trace`.
    pub fn level(&self) -> &'static str {
        let filter: Result<tracing_subscriber::EnvFilter, _> = self.filter.parse();
        let level = filter.ok().and_then(|filter| filter.max_level_hint());
        match level.and_then(tracing_subscriber::filter::LevelFilter::into_level) {
            Some(tracing::Level::ERROR) => "error",
            Some(tracing::Level::WARN) => "warn",
            Some(tracing::Level::DEBUG) => "debug",
            Some(tracing::Level::TRACE) => "trace",
            Some(tracing::Level::INFO) | None => "info",
        }
    }
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people where standard error is a terminal, else JSON lines.
    Auto,
    /// For people.
    Human,
    /// A JSON object a line.
    Json,
}

impl Config {
    /// Reads every source.
    ///
    /// # Errors
    /// All that is wrong, at once.
    pub fn load(given: &Given, environment: &Environment) -> Result<Loaded, ConfigFaults> {
        load::load(given, environment)
    }

    /// Whether only this machine can reach the server.
    pub fn is_loopback(&self) -> bool {
        match self.listen.ip() {
            IpAddr::V4(address) => address.is_loopback(),
            IpAddr::V6(address) => address.is_loopback(),
        }
    }
}

#[cfg(test)]
mod tests;
