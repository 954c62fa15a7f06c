//! The program `berth`.

use berth_host::cli::Cli;
use clap::Parser;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            let mut out = std::io::stderr().lock();
            // Where standard error is gone, nobody is left to tell.
            let _ = writeln!(out, "berth: {error:#}");
            ExitCode::FAILURE
        }
    }
}
