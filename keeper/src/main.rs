//! The static program inside every session: it holds the terminal, numbers its bytes, and outlives the host.
//!
//! `run` is the session's main process; the host reaches it through its unix socket, or through `connect` where it cannot
//! see that. Everything happens on one thread: handlers share the [`keeper::Keeper`] without locks, and none may block.

mod arguments;
mod children;
mod command;
mod connect;
mod dial;
mod exec;
mod file;
mod follow;
mod hook;
mod http;
mod keeper;
mod output;
mod program;
mod ring;
mod run;
mod sys;
mod terminal;
mod tree;

use arguments::Subcommand;
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match arguments::parse(std::env::args_os().skip(1)) {
        Ok(Subcommand::Help) => say(arguments::HELP),
        Ok(Subcommand::Version) => say(&format!(
            "berth-keeper {} (protocol {})\n",
            env!("CARGO_PKG_VERSION"),
            berth_keeper_protocol::PROTOCOL
        )),
        Ok(Subcommand::Run(settings)) => run::run(settings),
        Ok(Subcommand::Connect) => connect::connect(),
        Ok(Subcommand::Hook(name)) => hook::hook(&name),
        Err(message) => complain(&message, 2),
    }
}

fn say(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Tells a person what went wrong.
fn complain(message: &str, code: u8) -> ExitCode {
    note(message);
    ExitCode::from(code)
}

/// Writes a line to the log, which is standard error. A log that cannot be written is nobody's concern.
fn note(message: &str) {
    std::io::stderr()
        .write_all(format!("berth-keeper: {message}\n").as_bytes())
        .ok();
}
