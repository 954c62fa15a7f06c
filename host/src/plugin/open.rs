//! From a library that fits to a driver.

use super::child::{AgentProxy, BackendProxy, Launch, Process};
use super::inspect::Inspected;
use super::load::{hold, load};
use super::refusal::Refusal;
use super::schema::{self, Mismatch};
use super::settings::PluginSettings;
use crate::driver::{
    AgentDriver, BackendDriver, Isolation, Listeners, PluginInfo, PluginKind, Reset, agent_of,
    backend_of, host_for,
};
use berth_plugin_api::Error;
use berth_plugin_api::doc::OpenRequest;
use berth_plugin_api::raw::{Doc, RawAgentObject, RawBackendObject};
use futures_util::FutureExt;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
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

/// Loads, describes, checks the configuration and opens. The plugin's code runs on threads that may be lost, or in a
/// process of its own.
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
    let opening = Opening {
        request: open_request(&info, settings)?,
        listeners: Listeners::default(),
        limit: settings.step_limit.unwrap_or(STEP_LIMIT),
        info,
    };
    let copies = settings.data_dir.join("plugins");
    match opening.info.isolation {
        Isolation::None => opening.here(plugin, copies).await,
        Isolation::Process => {
            let library = hold(&plugin, &copies)?;
            let launch = Launch {
                program: settings
                    .program
                    .clone()
                    .unwrap_or_else(|| "/proc/self/exe".into()),
                library,
                sha256: plugin.sha256,
                copies,
            };
            opening.in_a_process(launch).await
        }
    }
}

/// A plugin on its way.
struct Opening {
    info: PluginInfo,
    request: OpenRequest,
    listeners: Listeners,
    limit: Duration,
}

impl Opening {
    async fn here(
        self,
        plugin: Inspected,
        copies: PathBuf,
    ) -> Result<(PluginInfo, Opened), Refusal> {
        let limit = self.limit;
        let module = on_thread("load", limit, move || load(&plugin, &copies)).await??;
        let described = on_thread("describe", limit, move || module.describe()().into_result());
        let description = described
            .await?
            .map_err(|fault| Refusal::Describe(fault.into()))?;
        self.check_config(&description)?;
        let host = host_for(&self.info.name, self.listeners.clone());
        let request: Doc = self.encoded_request()?.into();
        match self.info.kind {
            PluginKind::Backend => {
                let opening =
                    AssertUnwindSafe(async move { module.open_backend()(host, request).await });
                let raw = timeout(limit, opening.catch_unwind())
                    .await
                    .map_err(|_| Refusal::Slow {
                        step: "open",
                        limit,
                    })?
                    .map_err(|_| Refusal::Lost("open"))?
                    .into_result()
                    .map_err(|fault| Refusal::Open(fault.into()))?;
                self.backend(&description, raw, None)
            }
            PluginKind::Agent => {
                let opening = on_thread("open", limit, move || {
                    module.open_agent()(host, request).into_result()
                });
                let raw = opening
                    .await?
                    .map_err(|fault| Refusal::Open(fault.into()))?;
                self.agent(&description, raw, None)
            }
        }
    }

    async fn in_a_process(self, launch: Launch) -> Result<(PluginInfo, Opened), Refusal> {
        let limit = self.limit;
        let slow = |step| Refusal::Slow { step, limit };
        let host = host_for(&self.info.name, self.listeners.clone());
        let process = Arc::new(Process::new(launch, host));
        timeout(limit, process.load())
            .await
            .map_err(|_| slow("load"))?
            .map_err(Refusal::Told)?;
        let description = timeout(limit, process.describe())
            .await
            .map_err(|_| slow("describe"))?
            .map_err(Refusal::Describe)?;
        self.check_config(&description)?;
        let request = self.encoded_request()?;
        timeout(limit, process.open(request.into()))
            .await
            .map_err(|_| slow("open"))?
            .map_err(Refusal::Open)?;
        let reset: Reset = {
            let process = Arc::clone(&process);
            Arc::new(move || process.kill())
        };
        match self.info.kind {
            PluginKind::Backend => {
                self.backend(&description, BackendProxy::object(process), Some(reset))
            }
            PluginKind::Agent => self.agent(&description, AgentProxy::object(process), Some(reset)),
        }
    }

    fn encoded_request(&self) -> Result<Vec<u8>, Refusal> {
        serde_json::to_vec(&self.request).map_err(|error| Refusal::Open(Error::internal(error)))
    }

    fn check_config(&self, description: &[u8]) -> Result<(), Refusal> {
        let description: Value = read_description(description)?;
        let schema = &description["config_schema"];
        if schema.is_null() {
            return Ok(());
        }
        let at = format!("{}s.{}", self.info.kind, self.info.name);
        schema::check(schema, &self.request.config, &at).map_err(|mismatch| match mismatch {
            Mismatch::Schema(message) => Refusal::Schema(message),
            Mismatch::Value(message) => Refusal::Config(message),
        })
    }

    fn backend(
        self,
        description: &[u8],
        raw: RawBackendObject,
        reset: Option<Reset>,
    ) -> Result<(PluginInfo, Opened), Refusal> {
        let description = read_description(description)?;
        let info = self.info.clone();
        let driver = backend_of(self.info, description, raw, self.listeners, reset);
        Ok((info, Opened::Backend(driver)))
    }

    fn agent(
        self,
        description: &[u8],
        raw: RawAgentObject,
        reset: Option<Reset>,
    ) -> Result<(PluginInfo, Opened), Refusal> {
        let description = read_description(description)?;
        let info = self.info.clone();
        let driver = agent_of(self.info, description, raw, reset);
        Ok((info, Opened::Agent(driver)))
    }
}

fn read_description<T: DeserializeOwned>(description: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(description).map_err(|error| {
        Refusal::Describe(Error::internal(format!(
            "its description cannot be read: {error}"
        )))
    })
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
