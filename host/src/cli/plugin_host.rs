//! `berth plugin-host`: holds one plugin in a process of its own. The server runs it; people do not.

use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What the library was when the server inspected it
    #[arg(long)]
    sha256: String,
    /// Where a private copy of the library may be put
    #[arg(long)]
    copies: PathBuf,
    /// The library
    file: PathBuf,
}

pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    crate::plugin::child::serve(arguments.file, arguments.sha256, arguments.copies)?;
    Ok(ExitCode::SUCCESS)
}
