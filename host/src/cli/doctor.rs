//! `berth doctor`: what a person checks first when something does not work.

use super::client::Server;
use super::output::{json, line, plain};
use super::settings::Settings;
use crate::app::{plugin_settings, probe_all};
use crate::config::{Config, Environment};
use crate::plugin::load_all;
use anyhow::Context;
use clap::Args;
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};
use serde::Serialize;
use std::io::IsTerminal;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tokio::process::Command;

/// How long a program may take to say its version.
const PROGRAM_LIMIT: Duration = Duration::from_secs(5);
/// The oldest git with all that is needed, as [`crate::git::Version::MINIMUM`].
const OLDEST_GIT: (u32, u32) = (2, 32);
/// Less room than this is told.
const LITTLE_ROOM: u64 = 1 << 30;

/// Check that everything berth needs is there
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 1 when something is wrong, with what to do about it. Takes the flags of `berth serve`."
)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: Settings,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How one check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Warning,
    Wrong,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    what: String,
    verdict: Verdict,
    detail: String,
}

fn finding(what: impl Into<String>, verdict: Verdict, detail: impl Into<String>) -> Finding {
    Finding {
        what: what.into(),
        verdict,
        detail: detail.into(),
    }
}

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let findings = match Config::load(&arguments.settings.given(), &Environment::of_process()) {
        Ok(loaded) => examine(&loaded.config).await?,
        Err(faults) => faults
            .0
            .iter()
            .map(|fault| finding("configuration", Verdict::Wrong, fault.to_string()))
            .collect(),
    };
    if arguments.json {
        json(&findings)?;
    } else {
        for finding in &findings {
            line(&in_words(finding))?;
        }
    }
    let wrong = findings
        .iter()
        .any(|finding| finding.verdict == Verdict::Wrong);
    Ok(if wrong {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn in_words(finding: &Finding) -> String {
    let (word, color) = match finding.verdict {
        Verdict::Ok => ("ok   ", "32"),
        Verdict::Warning => ("note ", "33"),
        Verdict::Wrong => ("wrong", "31"),
    };
    let word = if std::io::stdout().is_terminal() {
        format!("\x1b[{color}m{word}\x1b[0m")
    } else {
        word.to_owned()
    };
    format!("{word}  {}: {}", finding.what, plain(&finding.detail))
}

async fn examine(config: &Config) -> anyhow::Result<Vec<Finding>> {
    let mut findings = vec![finding("configuration", Verdict::Ok, "no faults")];
    findings.push(data_folder(&config.data_dir));
    findings.push(git().await);
    findings.push(keeper(config));
    let server = Server::at(&config.listen.to_string())?;
    let running = server.get(&["health"], &[]).await.ok();
    findings.push(match &running {
        Some(health) if health["status"] == "healthy" => finding(
            "server",
            Verdict::Ok,
            format!(
                "berth {} runs at {}",
                health["version"].as_str().unwrap_or_default(),
                server.address()
            ),
        ),
        _ => port(config),
    });
    findings.extend(plugins(config).await?);
    Ok(findings)
}

fn data_folder(path: &Path) -> Finding {
    let wrong = |detail: String| finding("data folder", Verdict::Wrong, detail);
    let shown = path.display();
    let Ok(about) = path.metadata() else {
        let parent = path.ancestors().skip(1).find(|parent| parent.exists());
        return match parent {
            Some(parent) if access(parent, AccessFlags::W_OK).is_ok() => finding(
                "data folder",
                Verdict::Ok,
                format!("{shown} will be made at the first start"),
            ),
            _ => wrong(format!(
                "{shown} is not there and cannot be made; --data-dir names another"
            )),
        };
    };
    if !about.is_dir() {
        return wrong(format!("{shown} is not a folder; --data-dir names another"));
    }
    if access(path, AccessFlags::W_OK | AccessFlags::X_OK).is_err() {
        return wrong(format!(
            "{shown} cannot be written by this user; --data-dir names another"
        ));
    }
    if about.permissions().mode() & 0o077 != 0 {
        return finding(
            "data folder",
            Verdict::Warning,
            format!(
                "{shown} can be entered by others (mode {:o}); chmod 700 keeps them out",
                about.mode() & 0o777
            ),
        );
    }
    let room = statvfs(path).map(|disk| disk.blocks_available() * disk.fragment_size());
    if let Ok(room @ ..LITTLE_ROOM) = room {
        return finding(
            "data folder",
            Verdict::Warning,
            format!("{shown} has only {} MiB left", room >> 20),
        );
    }
    finding("data folder", Verdict::Ok, shown.to_string())
}

async fn git() -> Finding {
    let asked = Command::new("git")
        .arg("--version")
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(PROGRAM_LIMIT, asked).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            return finding(
                "git",
                Verdict::Wrong,
                format!("cannot run git: {error}; install it"),
            );
        }
        Err(_) => return finding("git", Verdict::Wrong, "git does not answer"),
    };
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let mut numbers = text
        .split(|character: char| !character.is_ascii_digit())
        .filter_map(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) >= OLDEST_GIT => {
            finding("git", Verdict::Ok, text)
        }
        _ => finding(
            "git",
            Verdict::Wrong,
            format!(
                "{text}; {}.{} or newer is needed",
                OLDEST_GIT.0, OLDEST_GIT.1
            ),
        ),
    }
}

fn keeper(config: &Config) -> Finding {
    let Some(folder) = &config.keeper_dir else {
        return finding(
            "keeper",
            Verdict::Wrong,
            "no lib/berth/keeper beside this program; `make build` makes it, --lib-dir names the folder",
        );
    };
    let path = folder.join(std::env::consts::ARCH).join("berth-keeper");
    if access(&path, AccessFlags::X_OK).is_ok() {
        finding("keeper", Verdict::Ok, path.display().to_string())
    } else {
        finding(
            "keeper",
            Verdict::Wrong,
            format!(
                "{} is not there or cannot be run; `make build` makes it",
                path.display()
            ),
        )
    }
}

fn port(config: &Config) -> Finding {
    match TcpListener::bind(config.listen) {
        Ok(_) => finding(
            "server",
            Verdict::Ok,
            format!("none runs; {} is free", config.listen),
        ),
        Err(error) => finding(
            "server",
            Verdict::Wrong,
            format!(
                "cannot listen on {}: {error}; --listen names another",
                config.listen
            ),
        ),
    }
}

/// Loads the plugins as the server would, with a data folder of their own.
async fn plugins(config: &Config) -> anyhow::Result<Vec<Finding>> {
    let scratch = tempfile::tempdir().context("cannot make a scratch folder")?;
    let settings = plugin_settings(
        config,
        scratch.path(),
        "00000000-0000-0000-0000-000000000000",
    );
    let drivers = load_all(&settings).await;
    let mut findings = Vec::new();
    if drivers.backends.is_empty() {
        findings.push(finding(
            "backends",
            Verdict::Wrong,
            "none is loaded; `make build` makes those of berth, --plugin-dir names a folder with others",
        ));
    }
    for probed in probe_all(&drivers).await {
        let info = probed.driver.info();
        let what = format!("backend {} {}", info.name, info.version);
        findings.push(if probed.probe.available {
            finding(
                what,
                Verdict::Ok,
                probed.probe.engine.unwrap_or_else(|| "ready".to_owned()),
            )
        } else {
            let reason = probed.probe.reason.unwrap_or_default();
            let verdict = if config.default_backend == info.name {
                Verdict::Wrong
            } else {
                Verdict::Warning
            };
            finding(what, verdict, format!("cannot be used: {reason}"))
        });
    }
    if drivers.agents.is_empty() {
        findings.push(finding("agents", Verdict::Wrong, "none is loaded"));
    }
    for agent in drivers.agents.values() {
        let info = agent.info();
        findings.push(finding(
            format!("agent {} {}", info.name, info.version),
            Verdict::Ok,
            "loaded",
        ));
    }
    for refused in &drivers.refused {
        findings.push(finding(
            format!("plugin {}", refused.path.display()),
            Verdict::Wrong,
            refused.reason.clone(),
        ));
    }
    if !drivers.agents.is_empty() && !drivers.agents.contains_key(&config.default_agent) {
        findings.push(finding(
            "default agent",
            Verdict::Warning,
            format!(
                "{} is not loaded: sessions have to name one, or default_agent has to",
                config.default_agent
            ),
        ));
    }
    Ok(findings)
}
