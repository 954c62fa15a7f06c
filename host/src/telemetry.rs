//! The log: on standard error, for people where that is a terminal, else a JSON object a line.

use crate::config::{LogFormat, LogSettings};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::util::TryInitError;

/// Starts logging, once a process.
///
/// # Errors
/// Something else logs already.
pub fn start(settings: &LogSettings) -> Result<(), TryInitError> {
    let filter = EnvFilter::try_new(&settings.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::stderr().is_terminal();
    let json = match settings.format {
        LogFormat::Auto => !terminal,
        LogFormat::Human => false,
        LogFormat::Json => true,
    };
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    if json {
        let lines = lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false);
        registry.with(lines).try_init()
    } else {
        registry
            .with(lines.with_ansi(terminal).with_target(false))
            .try_init()
    }
}
