//! Checking one plugin against its author's duties, as `berth plugin check` does.
//!
//! A duty has a number that stays, a sentence, and a weight: what breaks a MUST is not loaded or harms sessions, what
//! breaks a SHOULD is worse to use. `docs/plugins.md` explains each.

mod agent;
mod backend;
mod library;

use super::PluginSettings;
use super::find::find_one;
use super::inspect::inspect;
use super::open::{Opened, open};
use crate::driver::{Isolation, PluginKind};
use serde::Serialize;
use serde_json::Value;
use std::fmt;
use std::path::{Path, PathBuf};

/// How much a duty weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Weight {
    /// What breaks it is not loaded, or harms sessions.
    Must,
    /// What breaks it is worse to use.
    Should,
}

/// What came of checking a duty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", content = "reason", rename_all = "snake_case")]
pub enum Outcome {
    /// It is kept.
    Kept,
    /// It is broken, and so.
    Broken(String),
    /// It could not be checked, and why.
    Skipped(String),
}

/// One duty and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The duty's number, as in `B-05`; it stays.
    pub duty: &'static str,
    /// The duty.
    pub text: &'static str,
    /// How much it weighs.
    pub weight: Weight,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What was found of one plugin.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The file.
    pub path: PathBuf,
    /// The plugin's name, where it could be read.
    pub name: Option<String>,
    /// What it is for, where it could be read.
    pub kind: Option<PluginKind>,
    /// The version of the API that it was checked against.
    pub api_version: &'static str,
    /// Every duty that was come to, in order.
    pub findings: Vec<Finding>,
}

impl Report {
    /// No MUST is broken.
    pub fn conforms(&self) -> bool {
        !self.findings.iter().any(|finding| {
            finding.weight == Weight::Must && matches!(finding.outcome, Outcome::Broken(_))
        })
    }

    fn must(&mut self, duty: &'static str, text: &'static str, outcome: Outcome) {
        self.note(duty, text, Weight::Must, outcome);
    }

    fn should(&mut self, duty: &'static str, text: &'static str, outcome: Outcome) {
        self.note(duty, text, Weight::Should, outcome);
    }

    fn note(&mut self, duty: &'static str, text: &'static str, weight: Weight, outcome: Outcome) {
        self.findings.push(Finding {
            duty,
            text,
            weight,
            outcome,
        });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let (word, reason) = match (&finding.outcome, finding.weight) {
                (Outcome::Kept, _) => ("kept", None),
                (Outcome::Broken(reason), Weight::Must) => ("BROKEN", Some(reason)),
                (Outcome::Broken(reason), Weight::Should) => ("poor", Some(reason)),
                (Outcome::Skipped(reason), _) => ("skipped", Some(reason)),
            };
            writeln!(f, "{:5} {word:8} {}", finding.duty, finding.text)?;
            if let Some(reason) = reason {
                writeln!(f, "               {reason}")?;
            }
        }
        let name = self.name.as_deref().unwrap_or("it");
        let api = self.api_version;
        if self.conforms() {
            writeln!(f, "{name} conforms to api {api}")
        } else {
            writeln!(f, "{name} does not conform to api {api}")
        }
    }
}

impl Outcome {
    fn of<E: fmt::Display>(result: Result<(), E>) -> Self {
        match result {
            Ok(()) => Self::Kept,
            Err(error) => Self::Broken(error.to_string()),
        }
    }

    fn kept_if(kept: bool, reason: impl FnOnce() -> String) -> Self {
        if kept {
            Self::Kept
        } else {
            Self::Broken(reason())
        }
    }
}

/// Checks the plugin in this file. `config` is its section of the configuration; its data go into a scratch folder.
///
/// The plugin's code runs in this process, with the rights of its user; it is asked nothing that makes a place.
pub async fn check(path: &Path, config: Option<Value>) -> Report {
    let mut report = Report {
        path: path.to_owned(),
        name: None,
        kind: None,
        api_version: berth_plugin_api::manifest::API_VERSION,
        findings: Vec::new(),
    };
    check_into(&mut report, path, config).await;
    report
}

async fn check_into(report: &mut Report, path: &Path, config: Option<Value>) {
    const FITS: &str =
        "it is a whole library that only its owner can write, with a tag and a manifest that fit";
    let inspected = match find_one(path) {
        Ok(found) => inspect(&found, |_| Some(Isolation::None)),
        Err(error) => {
            return report.must("L-01", FITS, Outcome::Broken(error.to_string()));
        }
    };
    let inspected = match inspected {
        Ok(inspected) => inspected,
        Err(misfit) => {
            report.name = misfit.manifest.map(|manifest| manifest.name);
            return report.must("L-01", FITS, Outcome::Broken(misfit.refusal.to_string()));
        }
    };
    report.must("L-01", FITS, Outcome::Kept);
    report.name = Some(inspected.manifest.name.clone());
    report.kind = Some(inspected.kind);
    library::check(report, &inspected);

    let scratch = match tempfile::tempdir() {
        Ok(scratch) => scratch,
        Err(error) => {
            let outcome = Outcome::Skipped(format!("no scratch folder: {error}"));
            return report.must("L-04", library::OPENS, outcome);
        }
    };
    let name = inspected.manifest.name.clone();
    let mut settings = PluginSettings {
        data_dir: scratch.path().to_owned(),
        instance: "berth-plugin-check".to_owned(),
        log_level: "warn".to_owned(),
        ..PluginSettings::default()
    };
    if let Some(config) = config {
        settings.backends.insert(name.clone(), config.clone());
        settings.agents.insert(name, config);
    }
    match open(inspected, &settings).await {
        Err(refusal) => report.must("L-04", library::OPENS, Outcome::Broken(refusal.to_string())),
        Ok((_, opened)) => {
            report.must("L-04", library::OPENS, Outcome::Kept);
            match opened {
                Opened::Backend(backend) => backend::check(report, &*backend).await,
                Opened::Agent(agent) => agent::check(report, &*agent).await,
            }
        }
    }
}
