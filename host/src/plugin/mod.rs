//! Finding, checking and loading plugins.
//!
//! The way of a library: found in a folder ([`find`]), trusted and read once, its sections judged ([`inspect`]), taken
//! into the process ([`load`]), described, its configuration checked against its own schema ([`schema`]), opened
//! ([`open`]). No instruction of it runs before it was found to fit. Whatever goes wrong, the plugin is listed as
//! refused with a [`refusal`] that says what to do, and the server goes on without it.

pub mod check;
pub mod child;
mod find;
mod inspect;
mod load;
mod open;
mod refusal;
pub mod schema;
mod settings;

pub use settings::{PluginDir, PluginSettings};

use crate::driver::{Drivers, PluginInfo, PluginKind, RefusedPlugin};
use inspect::{Inspected, Misfit, Version};
use open::Opened;
use refusal::Refusal;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tokio::task::JoinSet;
use tracing::{info, warn};

/// Loads every plugin of these folders, all at once. Never fails as a whole: what cannot be loaded is listed as
/// refused, with a reason that says what to do, and logged.
pub async fn load_all(settings: &PluginSettings) -> Drivers {
    let (ranked, mut refused) = rank(inspect_all(settings).await);
    let opening = ranked
        .into_values()
        .map(|candidates| open_first(candidates, settings));
    let mut drivers = Drivers::default();
    for (opened, passed_over) in futures_util::future::join_all(opening).await {
        refused.extend(passed_over);
        match opened {
            Some((info, Opened::Backend(driver))) => {
                drivers.backends.insert(info.name, driver);
            }
            Some((info, Opened::Agent(driver))) => {
                drivers.agents.insert(info.name, driver);
            }
            None => {}
        }
    }
    refused.sort_by(|one, two| one.path.cmp(&two.path));
    drivers.refused = refused;
    warn_of_unused_sections(settings, &drivers);
    drivers
}

/// Opens the first of these plugins, which have one kind and name, that can be opened.
async fn open_first(
    candidates: Vec<Inspected>,
    settings: &PluginSettings,
) -> (Option<(PluginInfo, Opened)>, Vec<RefusedPlugin>) {
    let mut taken: Option<(usize, PluginInfo, Opened)> = None;
    let mut refused = Vec::new();
    for plugin in candidates {
        let path = plugin.path.clone();
        let (name, kind, order) = (plugin.manifest.name.clone(), plugin.kind, plugin.order);
        let refusal = if let Some((taken_order, info, _)) = &taken {
            Refusal::Duplicate {
                kind,
                name: name.clone(),
                other: info.path.clone().unwrap_or_default(),
                version: info.version.clone(),
                why: if *taken_order < order {
                    "stands in an earlier folder"
                } else if info.version == plugin.manifest.version {
                    "comes first by its file's name"
                } else {
                    "has the higher version"
                },
            }
        } else {
            match open::open(plugin, settings).await {
                Ok((info, opened)) => {
                    info!(
                        plugin = %info.name,
                        kind = %info.kind,
                        version = %info.version,
                        api = %info.api_version,
                        path = %path.display(),
                        sha256 = info.sha256.as_deref().unwrap_or_default(),
                        isolation = ?info.isolation,
                        "plugin loaded"
                    );
                    taken = Some((order, info, opened));
                    continue;
                }
                Err(refusal) => refusal,
            }
        };
        refused.push(refuse(path, Some(name), Some(kind), &refusal));
    }
    (taken.map(|(_, info, opened)| (info, opened)), refused)
}

/// Reads and judges all files. Only code of ours runs here.
async fn inspect_all(settings: &PluginSettings) -> Vec<Result<Inspected, Box<Misfit>>> {
    let mut inspecting = JoinSet::new();
    for found in find::find(&settings.dirs) {
        let isolation = settings.isolation.clone();
        inspecting
            .spawn_blocking(move || inspect::inspect(&found, |name| isolation.get(name).copied()));
    }
    inspecting.join_all().await
}

/// Plugins by kind and name.
type Ranked = BTreeMap<(PluginKind, String), Vec<Inspected>>;

/// Of several plugins with one kind and name, that of the first folder comes first, and in one folder the highest version.
fn rank(inspected: Vec<Result<Inspected, Box<Misfit>>>) -> (Ranked, Vec<RefusedPlugin>) {
    let mut refused = Vec::new();
    let mut ranked = Ranked::new();
    for outcome in inspected {
        match outcome {
            Ok(plugin) => {
                let key = (plugin.kind, plugin.manifest.name.clone());
                ranked.entry(key).or_default().push(plugin);
            }
            Err(misfit) => {
                let kind = misfit.manifest.as_ref().and_then(|manifest| {
                    [PluginKind::Backend, PluginKind::Agent]
                        .into_iter()
                        .find(|kind| kind.to_string() == manifest.kind)
                });
                let name = misfit.manifest.map(|manifest| manifest.name);
                refused.push(refuse(misfit.path, name, kind, &misfit.refusal));
            }
        }
    }
    for candidates in ranked.values_mut() {
        candidates.sort_by(|one, two| {
            let version = |plugin: &Inspected| Version::parse(&plugin.manifest.version);
            (one.order.cmp(&two.order))
                .then_with(|| version(two).cmp(&version(one)))
                .then_with(|| one.path.cmp(&two.path))
        });
    }
    (ranked, refused)
}

fn refuse(
    path: PathBuf,
    name: Option<String>,
    kind: Option<PluginKind>,
    refusal: &Refusal,
) -> RefusedPlugin {
    let reason = refusal.to_string();
    warn!(path = %path.display(), plugin = name.as_deref().unwrap_or_default(), reason, "plugin refused");
    RefusedPlugin {
        path,
        name,
        kind,
        reason,
    }
}

/// A section for a plugin that is not there is most often a slip of the pen.
fn warn_of_unused_sections(settings: &PluginSettings, drivers: &Drivers) {
    for name in settings.backends.keys() {
        if !drivers.backends.contains_key(name) {
            warn!(
                "the configuration has a section backends.{name}, but no such backend was loaded"
            );
        }
    }
    for name in settings.agents.keys() {
        if !drivers.agents.contains_key(name) {
            warn!("the configuration has a section agents.{name}, but no such agent was loaded");
        }
    }
}
