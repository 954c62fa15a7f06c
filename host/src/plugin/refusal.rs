//! Why a plugin is not loaded, in words that say what to do.

use crate::driver::PluginKind;
use berth_plugin_api::Error;
use berth_plugin_api::manifest::{API_VERSION, ReadError};
use berth_plugin_api::raw::ModuleError;
use std::path::PathBuf;
use std::time::Duration;

/// Why a plugin is not loaded. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(
        "{path} belongs to user {owner}, and only what belongs to the server's user ({user}) or to root is trusted; \
         run `chown {user} {path}` if you trust it"
    )]
    Owner {
        path: PathBuf,
        owner: u32,
        user: u32,
    },
    #[error("others than its owner can write {path}; run `chmod go-w {path}`")]
    Writable { path: PathBuf },
    #[error("it is a symbolic link, which is not followed; put the file itself into the folder")]
    Link,
    #[error("it is not a file; remove it from the folder")]
    NotAFile,
    #[error("it is larger than {limit} bytes; build it with `--release` and `strip = true`")]
    TooLarge { limit: u64 },
    #[error("it cannot be read: {0}")]
    Read(#[source] std::io::Error),
    #[error("it is not a whole shared library ({0}); build it or copy it again")]
    NotALibrary(String),
    #[error("it is built for {plugin}, and this machine is {host}; build it for this one")]
    Machine { plugin: String, host: &'static str },
    #[error(
        "it is a shared library, but no berth plugin: it has no section {0}; if it should be one, its crate has to call \
         `export_plugin!`"
    )]
    NoSection(&'static str),
    #[error(
        "its section {0} cannot be read ({1}); build it again, with one `export_plugin!` in one crate"
    )]
    BadSection(&'static str, String),
    #[error(
        "its binary form is number {plugin}, and this berth knows number {host}; build it again with the \
         berth-plugin-api of this berth ({api})",
        api = API_VERSION
    )]
    Abi { plugin: u16, host: u16 },
    #[error(
        "it is built with `panic = \"abort\"`, so that a panic in it would end the server; remove that line from its \
         Cargo profile, or run it in a process of its own (`isolation = \"process\"`)"
    )]
    PanicAborts,
    #[error(
        "it is built with version {plugin} of the plugin API and needs a berth with {needs} or later of the same major \
         version; this one has {host}: {todo}"
    )]
    Api {
        plugin: String,
        needs: String,
        host: &'static str,
        todo: &'static str,
    },
    #[error("its manifest says {0}; ask its author to mend it")]
    Manifest(String),
    #[error(
        "it is built with {compiler}, which makes broken plugins ({why}); build it with another compiler"
    )]
    Compiler { compiler: String, why: &'static str },
    #[error(
        "{other} (version {version}) is the {kind} {name} already, as it {why}; remove one of the two, or rename one"
    )]
    Duplicate {
        kind: PluginKind,
        name: String,
        other: PathBuf,
        version: String,
        why: &'static str,
    },
    #[error("the system's loader refuses it: {message}{hint}", hint = loader_hint(message))]
    Loader { message: String },
    #[error("it does not export {symbol}, which its manifest names; build it again")]
    NoSymbol { symbol: String },
    #[error(
        "it is built with another abi_stable ({0}); build it again with the berth-plugin-api of this berth"
    )]
    Header(String),
    #[error(
        "its types are laid out otherwise than this berth's, although it says to be built with version {plugin} of the plugin \
         API; build it again with an unchanged berth-plugin-api ({first})"
    )]
    Layout { plugin: String, first: String },
    #[error(
        "its module cannot be made: {0}; build it again with the berth-plugin-api of this berth"
    )]
    Module(String),
    /// What the plugin's own process said.
    #[error("{0}")]
    Told(Error),
    #[error("it failed in `describe`: {0}; ask its author to mend it")]
    Describe(Error),
    #[error("its schema of the configuration is wrong: {0}; ask its author to mend it")]
    Schema(String),
    #[error("the configuration is wrong: {0}; correct it and start berth again")]
    Config(String),
    #[error("it cannot be opened: {0}")]
    Open(Error),
    #[error("it did not answer `{step}` within {limit:?}; try again, or ask its author to mend it")]
    Slow { step: &'static str, limit: Duration },
    #[error("its code ended the thread that loaded it in `{0}`; ask its author to mend it")]
    Lost(&'static str),
    #[error("its data folder cannot be made: {0}")]
    DataFolder(#[source] std::io::Error),
    #[error("a private copy of it cannot be made: {0}")]
    Copy(#[source] std::io::Error),
}

fn loader_hint(message: &str) -> &'static str {
    if message.contains("GLIBC_") || message.contains("GLIBCXX_") {
        "; it was built on a newer system than this one: build it here, or on the oldest system that it is to run on"
    } else {
        "; install what is missing, or build it again on this machine"
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NotALibrary(detail) => Self::NotALibrary(detail),
            ReadError::Machine(plugin) => Self::Machine {
                plugin,
                host: std::env::consts::ARCH,
            },
            ReadError::NoSection(section) => Self::NoSection(section),
            ReadError::BadSection(section, detail) => Self::BadSection(section, detail),
        }
    }
}

impl Refusal {
    /// Why the module of a library cannot be used that says to be built with version `api` of the plugin API.
    pub(super) fn of_module(error: ModuleError, api: &str) -> Self {
        match error {
            ModuleError::Version { plugin, .. } => Self::Api {
                needs: plugin.clone(),
                plugin,
                host: API_VERSION,
                todo: "build it again with the berth-plugin-api of this berth",
            },
            ModuleError::Layout { first, all } => {
                tracing::debug!(differences = all, "a plugin's types are laid out otherwise");
                Self::Layout {
                    plugin: api.to_owned(),
                    first,
                }
            }
            ModuleError::Broken(detail) => Self::Module(detail),
        }
    }
}
