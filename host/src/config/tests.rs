use super::*;
use serde_json::json;
use std::fs;
use tempfile::TempDir;

/// A home folder, and what stands in the file, the environment and on the command line.
struct Setup {
    home: TempDir,
    given: Given,
    variables: Vec<(&'static str, String)>,
}

impl Setup {
    fn new() -> Self {
        Self {
            home: TempDir::new().unwrap(),
            given: Given::default(),
            variables: Vec::new(),
        }
    }

    fn flag(mut self, key: &'static str, values: &[&str]) -> Self {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        self.given.flags.insert(key, values);
        self
    }

    fn variable(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    fn file(self, content: &str) -> Self {
        let folder = self.home.path().join(".config/berth");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("berth.toml"), content).unwrap();
        self
    }

    fn environment(&self) -> Environment {
        let mut environment = Environment {
            directory: self.home.path().to_owned(),
            ..Environment::default()
        };
        let home = self.home.path().to_str().unwrap().to_owned();
        environment.variables.insert("HOME".to_owned(), home);
        for (name, value) in &self.variables {
            environment
                .variables
                .insert((*name).to_owned(), value.clone());
        }
        environment
    }

    fn load(&self) -> Result<Loaded, ConfigFaults> {
        Config::load(&self.given, &self.environment())
    }

    fn faults(&self) -> Vec<String> {
        let Err(ConfigFaults(faults)) = self.load() else {
            panic!("the configuration was taken");
        };
        let home = self.home.path().to_str().unwrap();
        faults
            .iter()
            .map(|fault| fault.to_string().replace(home, "~"))
            .collect()
    }
}

#[test]
fn defaults_hold_where_nothing_is_given() {
    let setup = Setup::new();
    let loaded = setup.load().unwrap();
    let config = loaded.config;
    assert_eq!(config.listen, "127.0.0.1:3030".parse().unwrap());
    assert_eq!(
        config.data_dir,
        setup.home.path().join(".local/share/berth")
    );
    assert_eq!(config.default_backend, "auto");
    assert_eq!(config.default_agent, "claude");
    assert_eq!(config.roots, [setup.home.path()]);
    assert!(loaded.entries.iter().all(|e| e.origin == Origin::Default));
}

#[test]
fn flag_beats_variable_beats_file_beats_default() {
    let port = |setup: &Setup| setup.load().unwrap().config.listen.port();
    let setup = Setup::new();
    assert_eq!(port(&setup), 3030);
    let setup = setup.file("listen = '127.0.0.1:1'");
    assert_eq!(port(&setup), 1);
    let setup = setup.variable("BERTH_LISTEN", "localhost:2");
    assert_eq!(port(&setup), 2);
    let setup = setup.flag("listen", &["[::1]:3"]);
    assert_eq!(port(&setup), 3);
    let origin = |setup: &Setup| {
        let entries = setup.load().unwrap().entries;
        let entry = entries.into_iter().find(|entry| entry.key == "listen");
        entry.unwrap().origin.to_string()
    };
    assert_eq!(origin(&setup), "flag --listen");
}

#[test]
fn an_empty_variable_is_none() {
    let setup = Setup::new().variable("BERTH_LISTEN", "");
    assert_eq!(setup.load().unwrap().config.listen.port(), 3030);
}

#[test]
fn paths_start_from_where_they_stand() {
    let setup = Setup::new()
        .file("data_dir = 'data'\nroots = ['~/a', '/b']")
        .variable("BERTH_PLUGIN_DIR", "one:/two");
    let config = setup.load().unwrap().config;
    let home = setup.home.path();
    assert_eq!(config.data_dir, home.join(".config/berth/data"));
    assert_eq!(config.roots, [home.join("a"), PathBuf::from("/b")]);
    assert_eq!(
        config.plugin_dirs,
        [home.join("one"), PathBuf::from("/two")]
    );
}

#[test]
fn every_fault_is_told_at_once() {
    let setup = Setup::new()
        .file("listn = 1\nmax_connections = 'many'\n[backends]\ndocker = 1\n[backends.x]\nsecret = 'env:NOT_SET'")
        .variable("BERTH_DATA_DRI", "/x")
        .variable("BERTH_SHUTDOWN_GRACE", "soon")
        .variable("BERTH_PORT", "tcp://10.0.0.1:80")
        .flag("listen", &["127.0.0.1"])
        .flag("isolation", &["jail"]);
    assert_eq!(
        setup.faults(),
        [
            "listen (flag --listen): must be an address and a port, as in 127.0.0.1:3030, got \"127.0.0.1\"; the port is missing: 127.0.0.1:3030",
            "isolation (flag --isolation): must be one of auto, none, process, got \"jail\"",
            "max_connections (file ~/.config/berth/berth.toml): must be a whole number, got a string",
            "shutdown_grace (environment variable BERTH_SHUTDOWN_GRACE): must be a length of time, as in 500ms, 10s or 5m, got \"soon\"",
            "backends.docker (file ~/.config/berth/berth.toml): must be a table: [backends.docker]",
            "backends.x.secret (file ~/.config/berth/berth.toml): the environment variable NOT_SET is not set",
            "listn (file ~/.config/berth/berth.toml): there is no such setting; did you mean listen?",
            "BERTH_DATA_DRI (environment variable BERTH_DATA_DRI): there is no such setting; did you mean BERTH_DATA_DIR?",
        ]
    );
}

#[test]
fn a_file_that_was_named_must_be_there_and_be_toml() {
    let setup = Setup::new().flag("config", &["absent.toml"]);
    let faults = setup.faults();
    assert_eq!(faults.len(), 1);
    assert!(
        faults[0].starts_with("config (flag --config): cannot read ~/absent.toml"),
        "{faults:?}"
    );
    let setup = Setup::new().file("listen = ");
    let faults = setup.faults();
    assert!(
        faults[0]
            .starts_with("config (file ~/.config/berth/berth.toml): TOML parse error at line 1"),
        "{faults:?}"
    );
}

#[test]
fn without_a_login_only_loopback_is_listened_on() {
    let setup = Setup::new().flag("listen", &["0.0.0.0:3030"]);
    let faults = setup.faults();
    assert!(
        faults[0]
            .starts_with("listen (flag --listen): 0.0.0.0:3030 can be reached from other machines"),
        "{faults:?}"
    );
    let mut setup = setup;
    setup.given.allow_unprotected = true;
    assert!(setup.load().is_ok());
}

#[test]
fn secrets_are_resolved_and_never_shown() {
    let setup = Setup::new()
        .file("[backends.x]\ntoken = 'env:TOKEN'\nother = 'file:secret'\npassword = 'plain'\nimage = 'debian'")
        .variable("TOKEN", "t0p");
    fs::write(setup.home.path().join(".config/berth/secret"), "s3cret\n").unwrap();
    let loaded = setup.load().unwrap();
    let section = &loaded.config.backends["x"];
    assert_eq!(
        section.resolved,
        json!({"token": "t0p", "other": "s3cret", "password": "plain", "image": "debian"})
    );
    assert_eq!(
        section.shown(),
        json!({"token": "env:TOKEN", "other": "file:secret", "password": "(hidden)", "image": "debian"})
    );
    let debug = format!("{loaded:?}");
    for secret in ["t0p", "s3cret", "plain"] {
        assert!(!debug.contains(secret), "{secret}");
    }
}

#[test]
fn what_came_with_berth_is_found_beside_the_program() {
    let setup = Setup::new();
    let lib = setup.home.path().join("dist/lib/berth");
    fs::create_dir_all(lib.join("plugins")).unwrap();
    fs::create_dir_all(lib.join("keeper")).unwrap();
    let mut environment = setup.environment();
    environment.program = Some(setup.home.path().join("dist/bin/berth"));
    let config = Config::load(&Given::default(), &environment)
        .unwrap()
        .config;
    assert_eq!(config.plugin_dirs, [lib.join("plugins")]);
    assert_eq!(config.keeper_dir, Some(lib.join("keeper")));
}
