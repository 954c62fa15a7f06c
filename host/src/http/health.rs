//! Whether the server is up, whether it is of use, and what it counts.

use super::dto::Fault;
use super::error::ApiError;
use super::state::AppState;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What a client is told to wait when the server is not ready.
const RETRY: Duration = Duration::from_secs(5);

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(health))
        .routes(routes!(ready))
        .routes(routes!(metrics))
}

/// That the server is up.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// Always `healthy`.
    status: &'static str,
    version: &'static str,
}

/// Whether the server is up
#[utoipa::path(get, path = "/health", tag = "server", responses((status = 200, body = Health)))]
async fn health() -> Json<Health> {
    Json(Health {
        status: "healthy",
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// That sessions can be made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ready {
    /// Always `ready`.
    status: &'static str,
    /// The backend of sessions that name none.
    default_backend: String,
}

/// Whether the database and the default backend answer
#[utoipa::path(get, path = "/ready", tag = "server",
    responses((status = 200, body = Ready), (status = "default", body = Fault)))]
async fn ready(State(state): State<AppState>) -> Result<Json<Ready>, ApiError> {
    let core = state
        .core_now()
        .ok_or_else(|| ApiError::unavailable("the server is still starting", RETRY))?;
    core.db.check().await.map_err(|error| {
        ApiError::unavailable("the database does not answer", RETRY).with_source(error)
    })?;
    let (default_backend, probe) = core.default_backend(&state.config().default_backend).await;
    let probe = probe.ok_or_else(|| {
        ApiError::unavailable(
            format!("the default backend {default_backend} is not loaded"),
            RETRY,
        )
    })?;
    if !probe.available {
        let reason = probe.reason.unwrap_or_default();
        return Err(ApiError::unavailable(
            format!("the default backend {default_backend} cannot be used: {reason}"),
            RETRY,
        ));
    }
    Ok(Json(Ready {
        status: "ready",
        default_backend,
    }))
}

/// What the server counts, as Prometheus text
#[utoipa::path(get, path = "/metrics", tag = "server",
    responses((status = 200, body = String, content_type = "text/plain")))]
async fn metrics(State(state): State<AppState>) -> Response {
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (kind, state.metrics().text()).into_response()
}
