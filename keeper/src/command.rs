//! What it takes to start a program: looked up, and with an environment.

use berth_keeper_protocol::{Program, SESSION_VARIABLE, STATE_VARIABLE};
use nix::unistd::{AccessFlags, access};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a program cannot be started, in words for the session's user.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CannotStart {
    #[error("no command was given")]
    Nothing,
    #[error("command not found: {0}")]
    NotFound(String),
    #[error("command not executable: {0}")]
    NotExecutable(String),
    #[error("working directory not found: {0}")]
    NoFolder(String),
    #[error("{program} cannot be started: {reason}")]
    Failed { program: String, reason: String },
}

impl CannotStart {
    /// What a shell would exit with.
    pub(crate) fn code(&self) -> i32 {
        match self {
            Self::NotExecutable(_) | Self::Failed { .. } => 126,
            Self::Nothing | Self::NotFound(_) | Self::NoFolder(_) => 127,
        }
    }
}

/// A program that was found.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) file: PathBuf,
    pub(crate) argv: Vec<String>,
    /// All of it.
    pub(crate) env: BTreeMap<OsString, OsString>,
    pub(crate) cwd: PathBuf,
}

/// Looks a program up and makes its environment: the keeper's, the program's own over it, and what every process of a
/// session carries.
pub(crate) fn prepare(
    program: &Program,
    session: &str,
    state: &Path,
) -> Result<Prepared, CannotStart> {
    let name = program.argv.first().ok_or(CannotStart::Nothing)?;
    if name.is_empty() {
        return Err(CannotStart::Nothing);
    }
    let mut env: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
    for (variable, value) in [("PATH", DEFAULT_PATH), ("HOME", "/"), ("SHELL", "/bin/sh")] {
        env.entry(variable.into()).or_insert_with(|| value.into());
    }
    env.extend(
        program
            .env
            .iter()
            .map(|(variable, value)| (variable.into(), value.into())),
    );
    env.insert(SESSION_VARIABLE.into(), session.into());
    env.insert(STATE_VARIABLE.into(), state.into());
    let cwd = match &program.cwd {
        Some(cwd) => PathBuf::from(cwd),
        None => std::env::current_dir().unwrap_or_else(|_| "/".into()),
    };
    if !cwd.is_dir() {
        return Err(CannotStart::NoFolder(cwd.display().to_string()));
    }
    let file = look_up(name, &env, &cwd)?;
    Ok(Prepared {
        file,
        argv: program.argv.clone(),
        env,
        cwd,
    })
}

fn look_up(
    name: &str,
    env: &BTreeMap<OsString, OsString>,
    cwd: &Path,
) -> Result<PathBuf, CannotStart> {
    let candidates: Vec<PathBuf> = if name.contains('/') {
        vec![cwd.join(name)]
    } else {
        let path = env
            .get(&OsString::from("PATH"))
            .cloned()
            .unwrap_or_default();
        std::env::split_paths(&path)
            .map(|folder| cwd.join(folder).join(name))
            .collect()
    };
    let mut there = false;
    for candidate in candidates {
        if candidate.is_file() {
            if access(&candidate, AccessFlags::X_OK).is_ok() {
                return Ok(candidate);
            }
            there = true;
        }
    }
    Err(if there {
        CannotStart::NotExecutable(name.to_owned())
    } else {
        CannotStart::NotFound(name.to_owned())
    })
}

impl Prepared {
    /// Starts it in a process group of its own, with `stdio` for all three of its descriptors.
    pub(crate) fn spawn(self, stdio: impl Fn() -> Stdio) -> Result<Child, CannotStart> {
        let mut command = Command::new(&self.file);
        command
            .arg0(&self.argv[0])
            .args(&self.argv[1..])
            .env_clear()
            .envs(&self.env)
            .current_dir(&self.cwd)
            .process_group(0)
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio());
        command.spawn().map_err(|error| CannotStart::Failed {
            program: self.argv[0].clone(),
            reason: error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(argv: &[&str], cwd: Option<&str>) -> Result<Prepared, CannotStart> {
        let program = Program {
            argv: argv.iter().map(|&argument| argument.into()).collect(),
            env: BTreeMap::from([("PATH".to_owned(), "/nowhere:/bin".to_owned())]),
            cwd: cwd.map(str::to_owned),
        };
        prepare(&program, "s1", Path::new("/state"))
    }

    #[test]
    fn a_name_is_looked_up_in_the_programs_own_path() {
        let found = prepared(&["sh"], None).unwrap();
        assert_eq!(found.file, Path::new("/bin/sh"));
        assert_eq!(found.env[&OsString::from("BERTH_SESSION")], "s1");
        assert_eq!(found.env[&OsString::from("BERTH_STATE")], "/state");
    }

    #[test]
    fn what_cannot_be_started_says_why() {
        let message = |argv: &[&str], cwd| prepared(argv, cwd).unwrap_err().to_string();
        assert_eq!(
            message(&["claude-none"], None),
            "command not found: claude-none"
        );
        assert_eq!(
            message(&["/etc/passwd"], None),
            "command not executable: /etc/passwd"
        );
        assert_eq!(message(&["./sh"], Some("/usr")), "command not found: ./sh");
        assert_eq!(
            message(&["sh"], Some("/none")),
            "working directory not found: /none"
        );
        assert_eq!(message(&[], None), "no command was given");
    }
}
