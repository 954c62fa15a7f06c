//! The command line.

use berth_keeper_protocol::{DEFAULT_RING_BYTES, STATE_VARIABLE};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const HELP: &str = "\
The program inside every berth session.

  berth-keeper run [OPTIONS]   be the session's main process
      --session ID             the session's id
      --instance ID            the id of the berth installation that owns it
      --state DIR              the state folder; default: $BERTH_STATE
      --ring-bytes N           how much output is kept; default: 8388608
      --grace-ms N             how long programs have to end after SIGTERM; default: 8000
      --daemon                 detach, print the process id once the socket listens, and return
  berth-keeper connect         join standard input and output to the keeper's socket in $BERTH_STATE
  berth-keeper hook NAME       append standard input to the hook spool in $BERTH_STATE; always succeeds
  berth-keeper --version
  berth-keeper --help
";

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Subcommand {
    Help,
    Version,
    Run(Settings),
    Connect,
    Hook(String),
}

/// How `run` is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) session: String,
    pub(crate) instance: String,
    pub(crate) state: PathBuf,
    pub(crate) ring_bytes: u64,
    pub(crate) grace: Duration,
    pub(crate) daemon: bool,
}

pub(crate) fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Subcommand, String> {
    let first = text(arguments.next().ok_or(HELP)?)?;
    match first.as_str() {
        "run" => parse_run(arguments).map(Subcommand::Run),
        "connect" => Ok(Subcommand::Connect),
        // A hook never fails, whatever it is given.
        "hook" => Ok(Subcommand::Hook(arguments.next().map_or_else(
            || "unknown".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        ))),
        "-V" | "--version" => Ok(Subcommand::Version),
        "-h" | "--help" | "help" => Ok(Subcommand::Help),
        other => Err(format!("there is no command {other}; try --help")),
    }
}

fn parse_run(mut arguments: impl Iterator<Item = OsString>) -> Result<Settings, String> {
    let mut settings = Settings {
        session: String::new(),
        instance: String::new(),
        state: std::env::var_os(STATE_VARIABLE).map_or_else(PathBuf::new, PathBuf::from),
        ring_bytes: DEFAULT_RING_BYTES,
        grace: Duration::from_secs(8),
        daemon: false,
    };
    while let Some(argument) = arguments.next() {
        let argument = text(argument)?;
        if argument == "--daemon" {
            settings.daemon = true;
            continue;
        }
        let (name, value) = if let Some((name, value)) = argument.split_once('=') {
            (name.to_owned(), OsString::from(value))
        } else {
            let value = arguments.next();
            let value = value.ok_or_else(|| format!("{argument} needs a value"))?;
            (argument, value)
        };
        match name.as_str() {
            "--session" => settings.session = text(value)?,
            "--instance" => settings.instance = text(value)?,
            "--state" => settings.state = value.into(),
            "--ring-bytes" => settings.ring_bytes = number(&name, value)?,
            "--grace-ms" => settings.grace = Duration::from_millis(number(&name, value)?),
            _ => return Err(format!("run has no option {name}; try --help")),
        }
    }
    if !settings.state.is_absolute() {
        return Err(format!("{STATE_VARIABLE} must name a folder, absolutely"));
    }
    Ok(settings)
}

fn text(argument: OsString) -> Result<String, String> {
    argument
        .into_string()
        .map_err(|argument| format!("not UTF-8: {}", argument.display()))
}

fn number(name: &str, value: OsString) -> Result<u64, String> {
    let value = text(value)?;
    value
        .parse()
        .map_err(|_| format!("{name} needs a number, not {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Subcommand, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn run_takes_options_in_both_forms() {
        let line = "run --session s1 --ring-bytes=4096 --state /tmp/x --grace-ms 5 --daemon";
        assert_eq!(
            parsed(line),
            Ok(Subcommand::Run(Settings {
                session: "s1".to_owned(),
                instance: String::new(),
                state: "/tmp/x".into(),
                ring_bytes: 4096,
                grace: Duration::from_millis(5),
                daemon: true,
            }))
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        assert!(
            parsed("run --state /x --ring-bytes lots")
                .unwrap_err()
                .contains("lots")
        );
        assert!(
            parsed("run --state /x --colour red")
                .unwrap_err()
                .contains("--colour")
        );
        assert!(parsed("run --state relative").is_err());
        assert!(parsed("fly").unwrap_err().contains("fly"));
        assert!(parsed("").is_err());
    }

    #[test]
    fn a_hook_without_a_name_is_still_a_hook() {
        assert_eq!(parsed("hook"), Ok(Subcommand::Hook("unknown".to_owned())));
    }
}
