//! What the server is made of, for its clients: `/api/config`, `/api/plugins`, `/ready`.

use super::dto::Fault;
use super::error::ApiError;
use super::extract::{NoQuery, Query};
use super::state::AppState;
use crate::app::Core;
use crate::driver::{AgentDriver, BackendDriver, DriverHealth, PluginInfo};
use crate::session::BackendState;
use axum::Json;
use axum::extract::State;
use futures_util::future::join_all;
use serde::Serialize;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(config))
        .routes(routes!(plugins))
}

/// What a page needs to know before it offers anything.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PublicConfig {
    /// The backend of sessions that name none; `auto` where none can be used.
    default_backend: String,
    default_agent: String,
    features: Features,
    backends: Vec<PluginSummary>,
    agents: Vec<PluginSummary>,
}

/// What is switched on.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Features {
    webauthn_auth: bool,
    ai_metadata: bool,
}

/// A plugin that is loaded.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct PluginSummary {
    name: String,
    version: String,
    api_version: String,
    /// Sessions can be made with it now.
    available: bool,
    /// Why not, and what to do about it.
    reason: Option<String>,
    #[schema(value_type = Object)]
    capabilities: Value,
    /// The JSON Schema of `backend_options` or `agent_options`; null where it takes none.
    #[schema(value_type = Option<Object>)]
    options_schema: Option<Value>,
}

/// Every plugin, those not loaded included.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Plugins {
    backends: Vec<PluginDetail>,
    agents: Vec<PluginDetail>,
    refused: Vec<Refused>,
}

/// All that is known of a plugin.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PluginDetail {
    #[serde(flatten)]
    summary: PluginSummary,
    /// What it says of itself.
    summary_text: String,
    /// The file's name.
    file: Option<String>,
    sha256: Option<String>,
    /// `none` or `process`.
    isolation: String,
    /// The engine and its version; backends only.
    engine: Option<String>,
    architecture: Option<String>,
    #[schema(value_type = Object)]
    facts: Value,
}

/// A file in a plugin folder that was not loaded.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Refused {
    /// The file's name.
    file: String,
    name: Option<String>,
    kind: Option<String>,
    /// Why, and what to do about it.
    reason: String,
}

/// What can be used
#[utoipa::path(get, path = "/api/config", tag = "server",
    responses((status = 200, body = PublicConfig), (status = "default", body = Fault)))]
async fn config(
    State(state): State<AppState>,
    Query(NoQuery {}): Query<NoQuery>,
) -> Result<Json<PublicConfig>, ApiError> {
    let core = state.core().await?;
    let backends = backends(&core).await;
    // Where none can be chosen, the setting says what was to be chosen.
    let default_backend = match core.sessions.default_backend().await {
        Ok(name) => name,
        Err(_) => state.config().default_backend.clone(),
    };
    Ok(Json(PublicConfig {
        default_backend,
        default_agent: state.config().default_agent.clone(),
        features: Features {
            webauthn_auth: false,
            ai_metadata: false,
        },
        backends: backends
            .iter()
            .map(|(driver, known)| summary_of_backend(driver.as_ref(), known.as_ref()))
            .collect(),
        agents: core
            .drivers
            .agents
            .values()
            .map(|agent| summary_of_agent(agent.as_ref()))
            .collect(),
    }))
}

/// Every backend, by name, with what its monitor knows of it.
async fn backends(core: &Core) -> Vec<(Arc<dyn BackendDriver>, Option<BackendState>)> {
    join_all(
        core.drivers.backends.iter().map(async |(name, driver)| {
            (Arc::clone(driver), core.sessions.backend_state(name).await)
        }),
    )
    .await
}

fn summary_of_backend(driver: &dyn BackendDriver, known: Option<&BackendState>) -> PluginSummary {
    let info = driver.info();
    let description = driver.description();
    let reason = match known {
        Some(known) => known.unreachable.clone(),
        None => Some("its monitor does not run".to_owned()),
    };
    PluginSummary {
        name: info.name.clone(),
        version: info.version.clone(),
        api_version: info.api_version.clone(),
        available: reason.is_none(),
        reason,
        capabilities: json!(description.capabilities),
        options_schema: description.options_schema.clone(),
    }
}

fn summary_of_agent(agent: &dyn AgentDriver) -> PluginSummary {
    let info = agent.info();
    let description = agent.description();
    let reason = match agent.health() {
        DriverHealth::Ready => None,
        DriverHealth::Degraded { reason } => Some(reason),
    };
    PluginSummary {
        name: info.name.clone(),
        version: info.version.clone(),
        api_version: info.api_version.clone(),
        available: reason.is_none(),
        reason,
        capabilities: json!(description.capabilities),
        options_schema: description.options_schema.clone(),
    }
}

/// Every plugin in detail, and those that were refused
#[utoipa::path(get, path = "/api/plugins", tag = "server",
    responses((status = 200, body = Plugins), (status = "default", body = Fault)))]
async fn plugins(
    State(state): State<AppState>,
    Query(NoQuery {}): Query<NoQuery>,
) -> Result<Json<Plugins>, ApiError> {
    let core = state.core().await?;
    let backends = backends(&core)
        .await
        .iter()
        .map(|(driver, known)| {
            let summary = summary_of_backend(driver.as_ref(), known.as_ref());
            let mut detail = detail_of(driver.info(), summary);
            if let Some(BackendState { probe, .. }) = known {
                detail.engine.clone_from(&probe.engine);
                detail.architecture = Some(probe.architecture.clone());
                detail.facts = json!(probe.facts);
            }
            detail
        })
        .collect();
    let agents = core
        .drivers
        .agents
        .values()
        .map(|agent| detail_of(agent.info(), summary_of_agent(agent.as_ref())))
        .collect();
    let refused = core
        .drivers
        .refused
        .iter()
        .map(|refused| Refused {
            file: file_name(&refused.path),
            name: refused.name.clone(),
            kind: refused.kind.map(|kind| kind.to_string()),
            reason: refused.reason.clone(),
        })
        .collect();
    Ok(Json(Plugins {
        backends,
        agents,
        refused,
    }))
}

fn detail_of(info: &PluginInfo, summary: PluginSummary) -> PluginDetail {
    PluginDetail {
        summary,
        summary_text: info.summary.clone(),
        file: info.path.as_deref().map(file_name),
        sha256: info.sha256.clone(),
        isolation: json!(info.isolation)
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        engine: None,
        architecture: None,
        facts: json!({}),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}
