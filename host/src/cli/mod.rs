//! The command line: what a person types.

mod serve;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Run coding agents and shells in sessions of their own, on this machine, in Docker or elsewhere.
#[derive(Debug, Parser)]
#[command(name = "berth", version, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(serve::Arguments),
}

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    /// What went wrong, for the person who asked.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Serve(arguments) => serve::run(&arguments),
        }
    }
}
