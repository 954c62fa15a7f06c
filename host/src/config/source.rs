//! The places that settings come from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// What was given on the command line.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Setting to values, as they stand on the command line; a flag that may be repeated has several.
    pub flags: BTreeMap<&'static str, Vec<String>>,
    /// The frightening flag: listen where others can reach it, without a login.
    pub allow_unprotected: bool,
}

/// What the process was started with, apart from its arguments.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// The environment's variables.
    pub variables: BTreeMap<String, String>,
    /// The program's own path, links resolved.
    pub program: Option<PathBuf>,
    /// The working directory.
    pub directory: PathBuf,
    /// The user by the system's records.
    pub account: Option<Account>,
}

/// A user by the system's records.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// Home folder.
    pub home: PathBuf,
    /// Login shell.
    pub shell: PathBuf,
}

impl Environment {
    /// That of this process.
    pub fn of_process() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value): (OsString, OsString)| {
                Some((name.into_string().ok()?, value.into_string().ok()?))
            })
            .collect();
        let program = std::env::current_exe()
            .ok()
            .and_then(|path| path.canonicalize().ok());
        let account = nix::unistd::User::from_uid(nix::unistd::geteuid())
            .ok()
            .flatten()
            .map(|user| Account {
                name: user.name,
                home: user.dir,
                shell: user.shell,
            });
        Self {
            variables,
            program,
            directory: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            account,
        }
    }

    /// A variable that is set and not empty.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// The user's home folder: `HOME`, else the account's.
    pub fn home(&self) -> PathBuf {
        self.variable("HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| self.account.as_ref().map(|account| account.home.clone()))
            .unwrap_or_else(|| PathBuf::from("/"))
    }

    /// The user's login shell: the account's, else `SHELL`.
    pub fn login_shell(&self) -> Option<String> {
        let shell = match &self.account {
            Some(account) if !account.shell.as_os_str().is_empty() => {
                account.shell.to_str().map(str::to_owned)
            }
            _ => None,
        };
        shell.or_else(|| self.variable("SHELL").map(str::to_owned))
    }

    /// The user's name: the account's, else `USER`.
    pub fn user(&self) -> Option<String> {
        match &self.account {
            Some(account) => Some(account.name.clone()),
            None => self.variable("USER").map(str::to_owned),
        }
    }

    /// A folder of the XDG base directory specification: the variable's, else one under the home folder.
    pub fn xdg(&self, variable: &str, fallback: &str) -> PathBuf {
        self.variable(variable)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .unwrap_or_else(|| self.home().join(fallback))
    }
}

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// On the command line, by this flag.
    Flag(String),
    /// In the environment, by this variable.
    Variable(String),
    /// In this file.
    File(PathBuf),
    /// Nowhere.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}
