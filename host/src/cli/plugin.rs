//! `berth plugin ls`.

use super::client::Server;
use super::output::{json, note, plain, table};
use super::sessions::text;
use clap::{Args, Subcommand};
use serde_json::Value;
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
}

pub(super) async fn run(server: &Server, arguments: Plugin) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Ls { json } => list(server, json).await,
    }
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
