//! `berth config`.

use super::output::{json, table};
use super::settings::Settings;
use crate::config::{Config, Environment, Origin};
use clap::Args;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Print what the server would run with, and where each value came from
#[derive(Debug, Args)]
#[command(
    after_help = "Takes the flags of `berth serve`. Flag > environment > berth.toml > default; secrets are shown as references."
)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: Settings,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let loaded = Config::load(&arguments.settings.given(), &Environment::of_process())?;
    if arguments.json {
        let entries: serde_json::Map<String, Value> = loaded
            .entries
            .iter()
            .map(|entry| {
                let origin = entry.origin.to_string();
                (
                    entry.key.clone(),
                    json!({"value": entry.value, "origin": origin}),
                )
            })
            .collect();
        json(&entries)?;
    } else {
        let rows: Vec<Vec<String>> = loaded
            .entries
            .iter()
            .map(|entry| {
                let origin = match &entry.origin {
                    Origin::Default => "default".to_owned(),
                    origin => origin.to_string(),
                };
                vec![entry.key.clone(), shown(&entry.value), origin]
            })
            .collect();
        table(&["SETTING", "VALUE", "FROM"], &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}
