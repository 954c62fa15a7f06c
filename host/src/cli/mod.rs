//! The command line: what a person types.
//!
//! `berth serve` is the server; every other command is a client of one, over the API that anybody may use. Exit codes: 0
//! done, 1 refused or failed, 2 wrong usage, 3 no server answers; `attach` has the code of the session's program.
#![expect(
    clippy::doc_markdown,
    reason = "doc comments here are the help that people read"
)]

mod attach;
mod client;
mod config;
mod doctor;
mod events;
mod output;
mod plugin;
mod plugin_host;
mod serve;
mod sessions;
mod settings;

use crate::config::Environment;
use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use client::Server;
use std::io::{self, Write};
use std::process::ExitCode;

/// Run coding agents and shells in sessions of their own: on this machine, in Docker or elsewhere
#[derive(Debug, Parser)]
#[command(
    name = "berth",
    version,
    max_term_width = 110,
    after_help = "A first session:
  berth serve &
  cd ~/project && berth new --agent shell --attach

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 no server answers."
)]
pub struct Cli {
    /// The server to talk to [default: where `berth serve` listens; BERTH_SERVER]
    #[arg(long, value_name = "URL", global = true)]
    server: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<serve::Arguments>),
    New(Box<sessions::New>),
    #[command(visible_alias = "list")]
    Ls(sessions::List),
    Attach(attach::Attach),
    Send(sessions::Send),
    Logs(sessions::Logs),
    Events(events::Events),
    /// Start stopped sessions
    Start(sessions::Names),
    /// End sessions' programs; everything else stays
    Stop(sessions::Names),
    Rm(sessions::Remove),
    Plugin(plugin::Plugin),
    Doctor(Box<doctor::Arguments>),
    Config(Box<config::Arguments>),
    /// Print a script that completes commands in a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Hold one plugin in a process of its own; the server runs this
    #[command(hide = true)]
    PluginHost(plugin_host::Arguments),
}

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    /// What went wrong, for the person who asked.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Serve(arguments) => serve::run(&arguments),
            Command::PluginHost(arguments) => plugin_host::run(arguments),
            Command::Config(arguments) => config::run(&arguments),
            Command::Completions { shell } => completions(shell),
            Command::Doctor(arguments) => wait_for(doctor::run(&arguments)),
            command => {
                let server = Server::find(self.server.as_deref(), &Environment::of_process())?;
                wait_for(ask(&server, command))
            }
        }
    }
}

/// The commands that need a server.
async fn ask(server: &Server, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::New(arguments) => sessions::new(server, *arguments).await,
        Command::Ls(arguments) => sessions::list(server, arguments).await,
        Command::Attach(arguments) => attach::run(server, arguments).await,
        Command::Send(arguments) => sessions::send(server, arguments).await,
        Command::Logs(arguments) => sessions::logs(server, arguments).await,
        Command::Events(arguments) => events::events(server, arguments).await,
        Command::Start(arguments) => sessions::start_or_stop(server, arguments, "start").await,
        Command::Stop(arguments) => sessions::start_or_stop(server, arguments, "stop").await,
        Command::Rm(arguments) => sessions::remove(server, arguments).await,
        Command::Plugin(arguments) => plugin::run(server, arguments).await,
        Command::Serve(_)
        | Command::PluginHost(_)
        | Command::Config(_)
        | Command::Doctor(_)
        | Command::Completions { .. } => Ok(ExitCode::SUCCESS),
    }
}

fn wait_for(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(work)
}

fn completions(shell: Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "berth", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Tells a person what went wrong, and gives the exit code for it.
pub fn fail(error: &anyhow::Error) -> ExitCode {
    if let Some(error) = error.downcast_ref::<io::Error>()
        && error.kind() == io::ErrorKind::BrokenPipe
    {
        // Whoever read our output has enough of it.
        return ExitCode::SUCCESS;
    }
    output::note(&format!("berth: {error:#}"));
    if attach::is_unreachable(error) {
        ExitCode::from(3)
    } else {
        ExitCode::FAILURE
    }
}
