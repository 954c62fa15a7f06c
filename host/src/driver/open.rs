//! From a loaded module to a driver.

use super::agent::InProcessAgent;
use super::backend::InProcessBackend;
use super::document::encode;
use super::host_side::{Listeners, host_for};
use super::watchdog::ServiceRules;
use super::{AgentDriver, BackendDriver, PluginInfo};
use berth_plugin_api::Result;
use berth_plugin_api::doc::{AgentDescription, BackendDescription, OpenRequest};
use berth_plugin_api::raw::ModuleRef;
use std::sync::Arc;

/// Opens the backend of a module that was loaded into this process.
pub(crate) async fn open_backend(
    module: ModuleRef,
    info: PluginInfo,
    description: BackendDescription,
    request: &OpenRequest,
) -> Result<Arc<dyn BackendDriver>> {
    let listeners = Listeners::default();
    let host = host_for(&info.name, listeners.clone());
    let raw = module.open_backend()(host, encode(request)?)
        .await
        .into_result()?;
    let rules = ServiceRules::default();
    Ok(Arc::new(InProcessBackend::new(
        info,
        description,
        raw,
        listeners,
        rules,
    )))
}

/// Opens the agent of a module that was loaded into this process. Blocks for as long as the plugin likes.
pub(crate) fn open_agent(
    module: ModuleRef,
    info: PluginInfo,
    description: AgentDescription,
    request: &OpenRequest,
) -> Result<Arc<dyn AgentDriver>> {
    let host = host_for(&info.name, Listeners::default());
    let raw = module.open_agent()(host, encode(request)?).into_result()?;
    let rules = ServiceRules::default();
    Ok(Arc::new(InProcessAgent::new(info, description, raw, rules)))
}
