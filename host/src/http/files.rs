//! `/api/browse-directory`: folders of the server's machine, for choosing a repository.

use super::dto::Fault;
use super::error::ApiError;
use super::extract::{Body, NoQuery, Query};
use super::state::AppState;
use crate::files::{FilesError, Listing, Roots, browse};
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(browse_directory))
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
struct BrowseBody {
    /// Absolute; without it, the first of the allowed roots.
    path: Option<String>,
    /// Names that begin with a dot too.
    show_hidden: bool,
}

/// What a folder of the server's machine holds
///
/// Only inside the allowed roots, after links are resolved.
#[utoipa::path(post, path = "/api/browse-directory", tag = "server", request_body = BrowseBody,
    responses((status = 200, body = Listing), (status = "default", body = Fault)))]
async fn browse_directory(
    State(state): State<AppState>,
    Query(NoQuery {}): Query<NoQuery>,
    Body(body): Body<BrowseBody>,
) -> Result<Json<Listing>, ApiError> {
    let listing = tokio::task::spawn_blocking(move || {
        let roots = &state.config().roots;
        let path = match body.path {
            Some(path) => path,
            None => first(roots)?,
        };
        Ok::<_, ApiError>(browse(&Roots::new(roots), &path, body.show_hidden)?)
    })
    .await
    .map_err(ApiError::internal)??;
    Ok(Json(listing))
}

fn first(roots: &[std::path::PathBuf]) -> Result<String, ApiError> {
    roots
        .first()
        .and_then(|root| root.to_str())
        .map(str::to_owned)
        .ok_or_else(|| ApiError::forbidden("the setting `roots` allows no folder"))
}

impl From<FilesError> for ApiError {
    fn from(error: FilesError) -> Self {
        match error {
            FilesError::Forbidden { .. } => Self::forbidden(error.to_string()),
            FilesError::Invalid { .. } => Self::invalid(error.to_string()),
        }
    }
}
