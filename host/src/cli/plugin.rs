//! `berth plugin ls` and `berth plugin check`.

use super::client::Server;
use super::output::{json, line, note, plain, table};
use super::sessions::text;
use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Plugins: where sessions run, and what runs in them
#[derive(Debug, Args)]
pub(super) struct Plugin {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the server's plugins, and what it refused to load
    Ls {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Check a plugin against its author's duties. Its code runs, with your rights; it makes no place
    Check {
        /// The library
        file: PathBuf,
        /// Its section of the configuration, as JSON
        #[arg(long, value_name = "JSON")]
        config: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(server: &Server, arguments: Plugin) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Ls { json } => list(server, json).await,
        Command::Check { file, config, json } => check(&file, config.as_deref(), json).await,
    }
}

async fn check(file: &Path, config: Option<&str>, as_json: bool) -> anyhow::Result<ExitCode> {
    let config = config
        .map(serde_json::from_str)
        .transpose()
        .context("--config is not JSON")?;
    let report = crate::plugin::check::check(file, config).await;
    if as_json {
        json(&report)?;
    } else {
        line(report.to_string().trim_end())?;
    }
    Ok(if report.conforms() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn list(server: &Server, as_json: bool) -> anyhow::Result<ExitCode> {
    let plugins = server.get(&["api", "plugins"], &[]).await?;
    if as_json {
        json(&plugins)?;
        return Ok(ExitCode::SUCCESS);
    }
    let of = |kind: &str| plugins[kind].as_array().cloned().unwrap_or_default();
    let rows: Vec<Vec<String>> = [("backend", of("backends")), ("agent", of("agents"))]
        .into_iter()
        .flat_map(|(kind, plugins)| plugins.into_iter().map(move |plugin| row(kind, &plugin)))
        .collect();
    table(&["KIND", "NAME", "VERSION", "API", "RUNS", "STATE"], &rows)?;
    for refused in of("refused") {
        note(&format!(
            "refused {}: {}",
            text(&refused, "file"),
            plain(&text(&refused, "reason"))
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn row(kind: &str, plugin: &Value) -> Vec<String> {
    let state = if plugin["available"] == true {
        match plugin["engine"].as_str() {
            Some(engine) => format!("ready, {}", plain(engine)),
            None => "ready".to_owned(),
        }
    } else {
        plain(&text(plugin, "reason"))
    };
    let runs = match plugin["isolation"].as_str() {
        Some("process") => "own process",
        _ => "in server",
    };
    vec![
        kind.to_owned(),
        text(plugin, "name"),
        text(plugin, "version"),
        text(plugin, "api_version"),
        runs.to_owned(),
        state,
    ]
}
