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

use crate::driver::{Drivers, PluginKind, RefusedPlugin};
use inspect::{Inspected, Misfit, Version};
use open::Opened;
use refusal::Refusal;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use tokio::task::JoinSet;
use tracing::{info, warn};

/// Loads every plugin of these folders, all at once. Never fails as a whole: what cannot be loaded is listed as
/// refused, with a reason that says what to do, and logged.
pub async fn load_all(settings: &PluginSettings) -> Drivers {
    let (chosen, mut refused) = choose(inspect_all(settings).await);
    let mut drivers = Drivers::default();
    let opening = chosen.into_values().map(|plugin| async {
        let facts = (
            plugin.path.clone(),
            plugin.manifest.name.clone(),
            plugin.kind,
        );
        (facts, open::open(plugin, settings).await)
    });
    for ((path, name, kind), outcome) in futures_util::future::join_all(opening).await {
        match outcome {
            Ok((info, opened)) => {
                info!(
                    plugin = %info.name,
                    kind = %info.kind,
                    version = %info.version,
                    api = %info.api_version,
                    path = %path.display(),
                    sha256 = info.sha256.as_deref().unwrap_or_default(),
                    "plugin loaded"
                );
                match opened {
                    Opened::Backend(driver) => drop(drivers.backends.insert(name, driver)),
                    Opened::Agent(driver) => drop(drivers.agents.insert(name, driver)),
                }
            }
            Err(refusal) => refused.push(refuse(path, Some(name), Some(kind), &refusal)),
        }
    }
    refused.sort_by(|one, two| one.path.cmp(&two.path));
    drivers.refused = refused;
    warn_of_unused_sections(settings, &drivers);
    drivers
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

type Chosen = BTreeMap<(PluginKind, String), Inspected>;

/// Of several plugins with one kind and name takes that of the first folder, and in one folder the highest version.
fn choose(inspected: Vec<Result<Inspected, Box<Misfit>>>) -> (Chosen, Vec<RefusedPlugin>) {
    let mut refused = Vec::new();
    let mut fitting = Vec::new();
    for outcome in inspected {
        match outcome {
            Ok(plugin) => fitting.push(plugin),
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
    fitting.sort_by(|one, two| {
        let version = |plugin: &Inspected| Version::parse(&plugin.manifest.version);
        (one.order.cmp(&two.order))
            .then_with(|| version(two).cmp(&version(one)))
            .then_with(|| one.path.cmp(&two.path))
    });
    let mut chosen = Chosen::new();
    for plugin in fitting {
        match chosen.entry((plugin.kind, plugin.manifest.name.clone())) {
            Entry::Vacant(place) => {
                place.insert(plugin);
            }
            Entry::Occupied(place) => {
                let winner = place.get();
                let refusal = Refusal::Duplicate {
                    kind: plugin.kind,
                    name: plugin.manifest.name.clone(),
                    other: winner.path.clone(),
                    version: winner.manifest.version.clone(),
                    why: if winner.order < plugin.order {
                        "stands in an earlier folder"
                    } else if winner.manifest.version == plugin.manifest.version {
                        "comes first by its file's name"
                    } else {
                        "has the higher version"
                    },
                };
                let name = Some(plugin.manifest.name);
                refused.push(refuse(plugin.path, name, Some(plugin.kind), &refusal));
            }
        }
    }
    (chosen, refused)
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
