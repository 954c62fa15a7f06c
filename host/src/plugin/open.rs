//! From a library that fits to a driver.

use super::inspect::Inspected;
use super::load::load;
use super::refusal::Refusal;
use super::schema::{self, Mismatch};
use super::settings::PluginSettings;
use crate::driver::{self, AgentDriver, BackendDriver, PluginInfo, PluginKind};
use berth_plugin_api::Error;
use berth_plugin_api::doc::{AgentDescription, BackendDescription, OpenRequest};
use berth_plugin_api::raw::ModuleRef;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Each step of a plugin's opening has so long, unless the settings say otherwise.
const STEP_LIMIT: Duration = Duration::from_secs(10);
const WORKER_THREADS: usize = 2;

/// An opened plugin.
pub(super) enum Opened {
    Backend(Arc<dyn BackendDriver>),
    Agent(Arc<dyn AgentDriver>),
}

/// Loads, describes, checks the configuration and opens. The plugin's code runs on threads that may be lost.
pub(super) async fn open(
    plugin: Inspected,
    settings: &PluginSettings,
) -> Result<(PluginInfo, Opened), Refusal> {
    let info = PluginInfo {
        name: plugin.manifest.name.clone(),
        kind: plugin.kind,
        version: plugin.manifest.version.clone(),
        api_version: plugin.manifest.api.clone(),
        summary: plugin.manifest.summary.clone(),
        path: Some(plugin.path.clone()),
        sha256: Some(plugin.sha256.clone()),
        isolation: plugin.isolation,
    };
    let request = open_request(&info, settings)?;
    let copies = settings.data_dir.join("plugins");
    let name = info.name.clone();
    let limit = settings.step_limit.unwrap_or(STEP_LIMIT);
    let module = on_thread("load", limit, move || {
        let entry = &plugin.manifest.entry;
        load(&name, &plugin.bytes, &plugin.sha256, entry, &copies).map_err(
            |refusal| match refusal {
                Refusal::Layout { first, .. } => Refusal::Layout {
                    plugin: plugin.manifest.api.clone(),
                    first,
                },
                other => other,
            },
        )
    })
    .await??;
    let opened = match info.kind {
        PluginKind::Backend => {
            let description: BackendDescription = describe(module, limit).await?;
            check_config(&info, description.config_schema.as_ref(), &request.config)?;
            let opening = driver::open_backend(module, info.clone(), description, &request);
            let driver = timeout(limit, opening)
                .await
                .map_err(|_| Refusal::Slow {
                    step: "open",
                    limit,
                })?
                .map_err(Refusal::Open)?;
            Opened::Backend(driver)
        }
        PluginKind::Agent => {
            let description: AgentDescription = describe(module, limit).await?;
            check_config(&info, description.config_schema.as_ref(), &request.config)?;
            let info = info.clone();
            let opening = on_thread("open", limit, move || {
                driver::open_agent(module, info, description, &request)
            });
            Opened::Agent(opening.await?.map_err(Refusal::Open)?)
        }
    };
    Ok((info, opened))
}

fn open_request(info: &PluginInfo, settings: &PluginSettings) -> Result<OpenRequest, Refusal> {
    let (folder, sections) = match info.kind {
        PluginKind::Backend => ("backends", &settings.backends),
        PluginKind::Agent => ("agents", &settings.agents),
    };
    let data_dir = settings.data_dir.join(folder).join(&info.name);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&data_dir)
        .map_err(Refusal::DataFolder)?;
    Ok(OpenRequest {
        config: sections
            .get(&info.name)
            .cloned()
            .unwrap_or_else(|| Value::Object(serde_json::Map::new())),
        data_dir,
        instance: settings.instance.clone(),
        host_version: env!("CARGO_PKG_VERSION").to_owned(),
        worker_threads: WORKER_THREADS,
        log_level: if settings.log_level.is_empty() {
            "info".to_owned()
        } else {
            settings.log_level.clone()
        },
    })
}

async fn describe<T: DeserializeOwned>(module: ModuleRef, limit: Duration) -> Result<T, Refusal> {
    let described = on_thread("describe", limit, move || module.describe()().into_result()).await?;
    let document = described.map_err(|fault| Refusal::Describe(fault.into()))?;
    serde_json::from_slice(&document).map_err(|error| {
        Refusal::Describe(Error::internal(format!(
            "its description cannot be read: {error}"
        )))
    })
}

fn check_config(info: &PluginInfo, schema: Option<&Value>, config: &Value) -> Result<(), Refusal> {
    let Some(schema) = schema else { return Ok(()) };
    schema::check(schema, config, &format!("{}s.{}", info.kind, info.name)).map_err(|mismatch| {
        match mismatch {
            Mismatch::Schema(message) => Refusal::Schema(message),
            Mismatch::Value(message) => Refusal::Config(message),
        }
    })
}

/// Runs `job` on a thread that is left to itself when it takes too long.
async fn on_thread<T: Send + 'static>(
    step: &'static str,
    limit: Duration,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new()
        .name(format!("plug-{step}"))
        .spawn(move || drop(sender.send(job())))
        .map_err(|_| Refusal::Lost(step))?;
    match timeout(limit, receiver).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) => Err(Refusal::Lost(step)),
        Err(_) => Err(Refusal::Slow { step, limit }),
    }
}
