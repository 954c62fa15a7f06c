//! From an opened plugin to its driver.

use super::agent::PluginAgent;
use super::backend::PluginBackend;
use super::host_side::Listeners;
use super::watchdog::ServiceRules;
use super::{AgentDriver, BackendDriver, PluginInfo};
use berth_plugin_api::doc::{AgentDescription, BackendDescription};
use berth_plugin_api::raw::{RawAgentObject, RawBackendObject};
use std::sync::Arc;

/// Ends the process of a plugin that keeps failing, so that the next call starts another.
pub(crate) type Reset = Arc<dyn Fn() + Send + Sync>;

/// The driver of an opened backend.
pub(crate) fn backend_of(
    info: PluginInfo,
    description: BackendDescription,
    raw: RawBackendObject,
    listeners: Listeners,
    reset: Option<Reset>,
) -> Arc<dyn BackendDriver> {
    let rules = ServiceRules::default();
    let driver = PluginBackend::new(info, description, raw, listeners, rules);
    Arc::new(driver.with_reset(reset))
}

/// The driver of an opened agent.
pub(crate) fn agent_of(
    info: PluginInfo,
    description: AgentDescription,
    raw: RawAgentObject,
    reset: Option<Reset>,
) -> Arc<dyn AgentDriver> {
    let driver = PluginAgent::new(info, description, raw, ServiceRules::default());
    Arc::new(driver.with_reset(reset))
}
