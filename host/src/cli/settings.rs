//! The settings as flags, for the commands that need them.
#![expect(
    clippy::doc_markdown,
    reason = "these comments are the help that people read"
)]

use crate::config::Given;
use clap::Args;
use std::collections::BTreeMap;

/// The server's settings; each may also stand in `berth.toml` and in the environment.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Settings")]
pub(super) struct Settings {
    /// Where to listen; port 0 is any free one [default: 127.0.0.1:3030; BERTH_LISTEN]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Where everything is kept [default: $XDG_DATA_HOME/berth; BERTH_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// A further folder with plugins; may be repeated [BERTH_PLUGIN_DIR, parted by ':']
    #[arg(long, value_name = "DIR")]
    plugin_dir: Vec<String>,
    /// The folder with berth's own plugins and keepers [default: ../lib/berth beside the program; BERTH_LIB_DIR]
    #[arg(long, value_name = "DIR")]
    lib_dir: Option<String>,
    /// The configuration's file [default: $XDG_CONFIG_HOME/berth/berth.toml, where there is one; BERTH_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    /// The backend of sessions that name none; auto: Docker when it answers, else local [default: auto; BERTH_DEFAULT_BACKEND]
    #[arg(long, value_name = "NAME")]
    default_backend: Option<String>,
    /// The agent of sessions that name none [default: claude; BERTH_DEFAULT_AGENT]
    #[arg(long, value_name = "NAME")]
    default_agent: Option<String>,
    /// A folder that repositories may stand in; may be repeated [default: your home folder; BERTH_ROOTS, parted by ':']
    #[arg(long, value_name = "DIR")]
    root: Vec<String>,
    /// A further name by which clients call this server; may be repeated [BERTH_HOSTS, parted by ',']
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// Plugins in a process of their own: auto (those that berth does not ship), none, process (all) [default: auto; BERTH_ISOLATION]
    #[arg(long, value_name = "HOW")]
    isolation: Option<String>,
    /// The largest upload in bytes [default: no limit; BERTH_UPLOAD_LIMIT]
    #[arg(long, value_name = "BYTES")]
    upload_limit: Option<String>,
    /// How many connections may be open at once [default: 2048; BERTH_MAX_CONNECTIONS]
    #[arg(long, value_name = "N")]
    max_connections: Option<String>,
    /// How long a stop waits for what is under way [default: 10s; BERTH_SHUTDOWN_GRACE]
    #[arg(long, value_name = "TIME")]
    shutdown_grace: Option<String>,
    /// What to log: error, warn, info, debug, trace, or a filter as `info,berth_host::git=debug` [default: info; BERTH_LOG]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// auto (people on a terminal, else JSON), human or json [default: auto; BERTH_LOG_FORMAT]
    #[arg(long, value_name = "FORM")]
    log_format: Option<String>,
    /// Let others than this machine reach the server, though it asks for no login
    #[arg(long)]
    i_understand_that_anyone_who_reaches_this_port_can_run_commands: bool,
}

impl Settings {
    pub(super) fn given(&self) -> Given {
        let single = [
            ("listen", &self.listen),
            ("data_dir", &self.data_dir),
            ("lib_dir", &self.lib_dir),
            ("config", &self.config),
            ("default_backend", &self.default_backend),
            ("default_agent", &self.default_agent),
            ("isolation", &self.isolation),
            ("upload_limit", &self.upload_limit),
            ("max_connections", &self.max_connections),
            ("shutdown_grace", &self.shutdown_grace),
            ("log", &self.log),
            ("log_format", &self.log_format),
        ];
        let repeated = [
            ("plugin_dir", &self.plugin_dir),
            ("roots", &self.root),
            ("hosts", &self.host),
        ];
        let mut flags = BTreeMap::new();
        for (key, value) in single {
            if let Some(value) = value {
                flags.insert(key, vec![value.clone()]);
            }
        }
        for (key, values) in repeated {
            if !values.is_empty() {
                flags.insert(key, values.clone());
            }
        }
        Given {
            flags,
            allow_unprotected: self.i_understand_that_anyone_who_reaches_this_port_can_run_commands,
        }
    }
}
