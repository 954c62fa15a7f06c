//! Reads the sources in their order and puts the settings together.

use super::fault::{ConfigFaults, Fault};
use super::parse::{self, Parsed, Raw};
use super::section::PluginSection;
use super::source::{Environment, Given, Origin};
use super::{Config, Isolation, LogFormat, LogSettings};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The settings that are one value each: name in the file, flag, what it is. `BERTH_` and the name in capitals is the variable.
pub(crate) const SETTINGS: [(&str, &str); 15] = [
    ("listen", "--listen"),
    ("hosts", "--host"),
    ("data_dir", "--data-dir"),
    ("plugin_dir", "--plugin-dir"),
    ("lib_dir", "--lib-dir"),
    ("default_backend", "--default-backend"),
    ("default_agent", "--default-agent"),
    ("roots", "--root"),
    ("isolation", "--isolation"),
    ("upload_limit", "--upload-limit"),
    ("max_connections", "--max-connections"),
    ("shutdown_grace", "--shutdown-grace"),
    ("log", "--log"),
    ("log_format", "--log-format"),
    ("config", "--config"),
];
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 3030);
/// Tables of the file, one section a plugin.
const TABLES: [&str; 2] = ["backends", "agents"];
/// Variables that are berth's and no settings of the server.
const OTHER_VARIABLES: [&str; 3] = ["BERTH_SERVER", "BERTH_STATE", "BERTH_SESSION"];

/// A configuration and where each part of it came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What holds.
    pub config: Config,
    /// Each setting, by its name in the file.
    pub entries: Vec<Entry>,
}

/// One setting, as it may be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name in the file.
    pub key: String,
    /// What holds; no secrets.
    pub value: Value,
    /// Where it came from.
    pub origin: Origin,
}

pub(super) fn load(given: &Given, environment: &Environment) -> Result<Loaded, ConfigFaults> {
    let mut loader = Loader::new(given, environment);
    let home = environment.home();

    let listen = loader.setting("listen", DEFAULT_LISTEN, |raw, _| {
        parse::address(&raw.text()?)
    });
    let hosts = loader.setting("hosts", Vec::new(), |raw, _| {
        raw.list(',')?
            .iter()
            .map(|name| parse::host_name(name))
            .collect()
    });
    let data_dir = loader.setting(
        "data_dir",
        environment
            .xdg("XDG_DATA_HOME", ".local/share")
            .join("berth"),
        |raw, base| parse::path(&raw.text()?, base, &home),
    );
    let found = environment
        .program
        .as_deref()
        .and_then(|program| Some(program.parent()?.parent()?.join("lib/berth")));
    let lib_dir = loader.setting(
        "lib_dir",
        found.filter(|path| path.is_dir()),
        |raw, base| {
            let path = parse::path(&raw.text()?, base, &home)?;
            if path.is_dir() {
                Ok(Some(path))
            } else {
                Err(format!("{} is not a folder", path.display()))
            }
        },
    );
    let added_plugin_dirs = loader.setting("plugin_dir", Vec::new(), |raw, base| {
        paths(raw, base, &home)
    });
    let default_backend = loader.setting("default_backend", "auto".to_owned(), |raw, _| {
        raw.text().and_then(not_empty)
    });
    let default_agent = loader.setting("default_agent", "claude".to_owned(), |raw, _| {
        raw.text().and_then(not_empty)
    });
    let roots = loader.setting("roots", vec![home.clone()], |raw, base| {
        paths(raw, base, &home)
    });
    let isolation = loader.choice(
        "isolation",
        &[
            ("auto", Isolation::Auto),
            ("none", Isolation::None),
            ("process", Isolation::Process),
        ],
    );
    let upload_limit = loader.setting("upload_limit", None, |raw, _| raw.number(1).map(Some));
    let max_connections = loader.setting("max_connections", 2048, |raw, _| {
        usize::try_from(raw.number(1)?).map_err(|error| error.to_string())
    });
    let shutdown_grace = loader.shown(
        "shutdown_grace",
        Duration::from_secs(10),
        |raw, _| parse::duration(&raw.text()?),
        |grace| json!(format!("{}ms", grace.as_millis())),
    );
    let filter = loader.setting("log", "info".to_owned(), |raw, _| {
        let text = raw.text()?;
        text.parse::<tracing_subscriber::EnvFilter>()
            .map_err(|error| {
                format!("must be a level (error, warn, info, debug, trace) or a filter: {error}")
            })?;
        Ok(text)
    });
    let format = loader.choice(
        "log_format",
        &[
            ("auto", LogFormat::Auto),
            ("human", LogFormat::Human),
            ("json", LogFormat::Json),
        ],
    );
    let backends = loader.sections("backends");
    let agents = loader.sections("agents");
    loader.refuse_unknown();

    let shipped_plugin_dir = lib_dir
        .clone()
        .flatten()
        .map(|lib| lib.join("plugins"))
        .filter(|path| path.is_dir());
    let config = listen.map(|listen| Config {
        listen,
        hosts: hosts.unwrap_or_default(),
        data_dir: data_dir.unwrap_or_default(),
        plugin_dirs: shipped_plugin_dir
            .clone()
            .into_iter()
            .chain(added_plugin_dirs.unwrap_or_default())
            .collect(),
        shipped_plugin_dir,
        keeper_dir: lib_dir
            .flatten()
            .map(|lib| lib.join("keeper"))
            .filter(|path| path.is_dir()),
        default_backend: default_backend.unwrap_or_default(),
        default_agent: default_agent.unwrap_or_default(),
        roots: roots.unwrap_or_default(),
        isolation: isolation.unwrap_or(Isolation::Auto),
        backends,
        agents,
        upload_limit: upload_limit.flatten(),
        max_connections: max_connections.unwrap_or(1),
        shutdown_grace: shutdown_grace.unwrap_or_default(),
        log: LogSettings {
            filter: filter.unwrap_or_default(),
            format: format.unwrap_or(LogFormat::Auto),
        },
        login_shell: environment.login_shell(),
        home,
        user_name: environment.user(),
        search_path: environment.variable("PATH").map(str::to_owned),
    });
    if let Some(config) = &config
        && !config.is_loopback()
        && !given.allow_unprotected
    {
        let origin = loader.origin_of("listen");
        loader.fault(
            "listen",
            origin,
            format!(
                "{} can be reached from other machines, and there is no login yet: whoever reaches it can run commands as you. \
                 Listen on 127.0.0.1, or say --i-understand-that-anyone-who-reaches-this-port-can-run-commands",
                config.listen
            ),
        );
    }
    match config {
        Some(config) if loader.faults.is_empty() => Ok(Loaded {
            config,
            entries: loader.entries,
        }),
        _ => Err(ConfigFaults(loader.faults)),
    }
}

fn paths(raw: &Raw, base: &Path, home: &Path) -> Parsed<Vec<PathBuf>> {
    raw.list(':')?
        .iter()
        .map(|text| parse::path(text, base, home))
        .collect()
}

fn not_empty(text: String) -> Parsed<String> {
    if text.is_empty() {
        Err("must not be empty".into())
    } else {
        Ok(text)
    }
}

/// Goes through the sources, and remembers what it took and what was wrong.
struct Loader<'a> {
    given: &'a Given,
    environment: &'a Environment,
    file: Option<(PathBuf, toml::Table)>,
    entries: Vec<Entry>,
    faults: Vec<Fault>,
}

impl<'a> Loader<'a> {
    fn new(given: &'a Given, environment: &'a Environment) -> Self {
        let mut loader = Self {
            given,
            environment,
            file: None,
            entries: Vec::new(),
            faults: Vec::new(),
        };
        loader.read_file();
        loader
    }

    /// Reads `berth.toml`: the one named, which must be there, else the user's, which may be.
    fn read_file(&mut self) {
        let (path, origin) = match self.find("config") {
            Some((raw, origin, base)) => match raw
                .text()
                .and_then(|text| parse::path(&text, &base, &self.environment.home()))
            {
                Ok(path) => (path, origin),
                Err(message) => return self.fault("config", origin, message),
            },
            None => (
                self.environment
                    .xdg("XDG_CONFIG_HOME", ".config")
                    .join("berth/berth.toml"),
                Origin::Default,
            ),
        };
        let content = match std::fs::read_to_string(&path) {
            Ok(content) => content,
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound && origin == Origin::Default =>
            {
                self.entries.push(Entry {
                    key: "config".to_owned(),
                    value: Value::Null,
                    origin,
                });
                return;
            }
            Err(error) => {
                let message = format!("cannot read {}: {error}", path.display());
                return self.fault("config", origin, message);
            }
        };
        self.entries.push(Entry {
            key: "config".to_owned(),
            value: json!(path),
            origin,
        });
        match content.parse::<toml::Table>() {
            Ok(table) => self.file = Some((path, table)),
            Err(error) => {
                let message = error.to_string().trim_end().replace('\n', "\n    ");
                self.fault("config", Origin::File(path), message);
            }
        }
    }

    /// The value that rules for a setting, where it was given, and the folder that its relative paths start from.
    fn find(&self, key: &str) -> Option<(Raw, Origin, PathBuf)> {
        let flag = SETTINGS.iter().find(|(name, _)| *name == key)?.1;
        if let Some(values) = self.given.flags.get(key) {
            let origin = Origin::Flag(flag.to_owned());
            let raw = Raw::Text(values.clone());
            return Some((raw, origin, self.environment.directory.clone()));
        }
        let variable = variable_of(key);
        if let Some(value) = self.environment.variable(&variable) {
            let raw = Raw::Text(vec![value.to_owned()]);
            let origin = Origin::Variable(variable);
            return Some((raw, origin, self.environment.directory.clone()));
        }
        let (path, table) = self.file.as_ref()?;
        let base = path.parent().unwrap_or(Path::new("/")).to_owned();
        let value = table.get(key)?.clone();
        Some((Raw::Toml(value), Origin::File(path.clone()), base))
    }

    fn setting<T: serde::Serialize>(
        &mut self,
        key: &str,
        default: T,
        parse: impl FnOnce(&Raw, &Path) -> Parsed<T>,
    ) -> Option<T> {
        self.shown(key, default, parse, |value| json!(value))
    }

    fn shown<T>(
        &mut self,
        key: &str,
        default: T,
        parse: impl FnOnce(&Raw, &Path) -> Parsed<T>,
        show: impl FnOnce(&T) -> Value,
    ) -> Option<T> {
        let (parsed, origin) = match self.find(key) {
            Some((raw, origin, base)) => (parse(&raw, &base), origin),
            None => (Ok(default), Origin::Default),
        };
        match parsed {
            Ok(value) => {
                self.entries.push(Entry {
                    key: key.to_owned(),
                    value: show(&value),
                    origin,
                });
                Some(value)
            }
            Err(message) => {
                self.fault(key, origin, message);
                None
            }
        }
    }

    /// One of a few words; the first is the default.
    fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let default = words.first().copied().unwrap_or_default().to_owned();
        let word = self.setting(key, default, |raw, _| {
            let text = raw.text()?;
            if words.contains(&text.as_str()) {
                Ok(text)
            } else {
                Err(format!("must be one of {}, got {text:?}", words.join(", ")))
            }
        })?;
        choices
            .iter()
            .find(|(choice, _)| *choice == word)
            .map(|(_, value)| *value)
    }

    /// The plugins' sections of the file.
    fn sections(&mut self, table: &'static str) -> BTreeMap<String, PluginSection> {
        let Some((path, content)) = &self.file else {
            return BTreeMap::new();
        };
        let origin = Origin::File(path.clone());
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        let Some(value) = content.get(table).cloned() else {
            return BTreeMap::new();
        };
        let toml::Value::Table(named) = value else {
            self.fault(
                table,
                origin,
                format!("must be a table: [{table}.<plugin's name>]"),
            );
            return BTreeMap::new();
        };
        let mut sections = BTreeMap::new();
        for (name, value) in named {
            let key = format!("{table}.{name}");
            if !value.is_table() {
                self.fault(
                    &key,
                    origin.clone(),
                    format!("must be a table: [{table}.{name}]"),
                );
                continue;
            }
            let given = serde_json::to_value(value).unwrap_or_default();
            let mut faults = Vec::new();
            let section =
                PluginSection::resolve(given, self.environment, &folder, &mut |path, message| {
                    faults.push((format!("{key}{path}"), message));
                });
            for (key, message) in faults {
                self.fault(&key, origin.clone(), message);
            }
            self.entries.push(Entry {
                key,
                value: section.shown(),
                origin: origin.clone(),
            });
            sections.insert(name, section);
        }
        sections
    }

    /// Keys of the file that are no settings, and variables that look like a misspelt one. Other variables beginning with
    /// `BERTH_` are left alone, since engines set such by themselves (Kubernetes: `BERTH_PORT` for a service `berth`).
    fn refuse_unknown(&mut self) {
        let keys = || SETTINGS.iter().map(|(name, _)| *name).chain(TABLES);
        if let Some((path, table)) = &self.file {
            let origin = Origin::File(path.clone());
            let unknown: Vec<String> = table
                .keys()
                .filter(|key| *key == "config" || !keys().any(|known| known == *key))
                .cloned()
                .collect();
            for key in unknown {
                let message = match parse::nearest(&key, keys()) {
                    Some(near) if near != "config" => {
                        format!("there is no such setting; did you mean {near}?")
                    }
                    _ => "there is no such setting; `berth config` lists them".to_owned(),
                };
                self.fault(&key, origin.clone(), message);
            }
        }
        let misspelt: Vec<(String, String)> = self
            .environment
            .variables
            .keys()
            .filter(|name| !OTHER_VARIABLES.contains(&name.as_str()))
            .filter_map(|name| {
                let key = name.strip_prefix("BERTH_")?.to_ascii_lowercase();
                let near = parse::nearest(&key, SETTINGS.iter().map(|(known, _)| *known))?;
                (near != key).then(|| (name.clone(), variable_of(near)))
            })
            .collect();
        for (name, near) in misspelt {
            let message = format!("there is no such setting; did you mean {near}?");
            self.fault(&name.clone(), Origin::Variable(name), message);
        }
    }

    fn origin_of(&self, key: &str) -> Origin {
        self.find(key)
            .map_or(Origin::Default, |(_, origin, _)| origin)
    }

    fn fault(&mut self, key: &str, origin: Origin, message: String) {
        self.faults.push(Fault {
            key: key.to_owned(),
            origin,
            message,
        });
    }
}

/// The environment variable of a setting.
pub(crate) fn variable_of(key: &str) -> String {
    format!("BERTH_{}", key.to_ascii_uppercase())
}
