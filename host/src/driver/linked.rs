//! Plugins that are linked into this program.

use super::agent::PluginAgent;
use super::backend::PluginBackend;
use super::document::encode;
use super::host_side::{Listeners, host_for};
use super::watchdog::ServiceRules;
use super::{AgentDriver, BackendDriver, Isolation, PluginInfo, PluginKind};
use berth_plugin_api::doc::OpenRequest;
use berth_plugin_api::manifest::API_VERSION;
use berth_plugin_api::{Agent, Backend, Result, linked};
use std::sync::Arc;

/// Opens a backend that is linked into this program, as tests do. It goes through the same guards, documents and
/// frozen types as one from a file, and runs on a runtime of its own that all linked plugins share.
///
/// # Errors
/// What its `open` answers.
pub async fn linked_backend<B: Backend>(
    name: &str,
    request: OpenRequest,
) -> Result<Arc<dyn BackendDriver>> {
    linked_backend_with::<B>(name, request, ServiceRules::default()).await
}

pub(super) async fn linked_backend_with<B: Backend>(
    name: &str,
    request: OpenRequest,
    rules: ServiceRules,
) -> Result<Arc<dyn BackendDriver>> {
    let listeners = Listeners::default();
    let host = host_for(name, listeners.clone());
    let raw = linked::open_backend::<B>(name, host, &encode(&request)?, false)
        .await
        .into_result()?;
    let info = info_of(name, PluginKind::Backend);
    let description = B::describe();
    Ok(Arc::new(PluginBackend::new(
        info,
        description,
        raw,
        listeners,
        rules,
    )))
}

/// Opens an agent that is linked into this program, as tests do. It goes through the same guards, documents and frozen
/// types as one from a file.
///
/// # Errors
/// What its `open` answers.
pub async fn linked_agent<A: Agent>(
    name: &str,
    request: OpenRequest,
) -> Result<Arc<dyn AgentDriver>> {
    linked_agent_with::<A>(name, &request, ServiceRules::default())
}

pub(super) fn linked_agent_with<A: Agent>(
    name: &str,
    request: &OpenRequest,
    rules: ServiceRules,
) -> Result<Arc<dyn AgentDriver>> {
    let host = host_for(name, Listeners::default());
    let raw = linked::open_agent::<A>(host, &encode(request)?, false).into_result()?;
    let info = info_of(name, PluginKind::Agent);
    let description = A::describe();
    Ok(Arc::new(PluginAgent::new(info, description, raw, rules)))
}

fn info_of(name: &str, kind: PluginKind) -> PluginInfo {
    PluginInfo {
        name: name.to_owned(),
        kind,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api_version: API_VERSION.to_owned(),
        summary: String::new(),
        path: None,
        sha256: None,
        isolation: Isolation::None,
    }
}
