//! Whether the server is up, whether it is of use, and what it counts.

use super::dto::Fault;
use super::error::ApiError;
use super::state::AppState;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use serde::Serialize;
use std::fmt::Write;
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
pub(super) struct ServerHealth {
    /// Always `healthy`.
    status: &'static str,
    version: &'static str,
}

/// Whether the server is up
#[utoipa::path(get, path = "/health", tag = "server", responses((status = 200, body = ServerHealth)))]
async fn health() -> Json<ServerHealth> {
    Json(ServerHealth {
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
    let default_backend = core
        .sessions
        .default_backend()
        .await
        .map_err(|error| ApiError::unavailable(error.to_string(), RETRY))?;
    let known = core.sessions.backend_state(&default_backend).await;
    let reason = match known {
        Some(known) => known.unreachable,
        None => Some("it is not loaded".to_owned()),
    };
    if let Some(reason) = reason {
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
async fn metrics(State(state): State<AppState>) -> Result<Response, ApiError> {
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    let mut text = state.metrics().text();
    if let Some(core) = state.core_now() {
        let counts = core.sessions.count_by_status().await?;
        text.push_str("# HELP berth_sessions Sessions by status.\n# TYPE berth_sessions gauge\n");
        for (status, count) in counts {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "berth_sessions{{status=\"{status}\"}} {count}");
        }
    }
    Ok((kind, text).into_response())
}
