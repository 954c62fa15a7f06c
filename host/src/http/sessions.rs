//! `/api/sessions`: what a caller does with sessions.

use super::dto::{
    CleanedUp, DeleteQuery, Diffs, Fault, ListQuery, MessageAccepted, MessageBody, MetadataChanged,
    RecreateBody, Recreating, Removed, RepositoryDiff, Synced,
};
use super::error::ApiError;
use super::extract::{Body, NoBody, NoQuery, OptionalBody, Query, SessionPath};
use super::state::AppState;
use crate::git::DiffLimits;
use crate::session::{
    HealthReport, ListFilter, MetadataChange, NewSession, Page, Session, SessionKey,
};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const LONGEST_IDEMPOTENCY_KEY: usize = 255;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, remove))
        .routes(routes!(start))
        .routes(routes!(stop))
        .routes(routes!(archive))
        .routes(routes!(unarchive))
        .routes(routes!(recreate))
        .routes(routes!(recreate_fresh))
        .routes(routes!(cleanup))
        .routes(routes!(sync))
        .routes(routes!(health))
        .routes(routes!(metadata))
        .routes(routes!(regenerate_metadata))
        .routes(routes!(messages))
        .routes(routes!(logs))
        .routes(routes!(diff))
}

type Answer<T> = Result<Json<T>, ApiError>;

impl SessionPath {
    fn key(&self) -> SessionKey {
        SessionKey::parse(&self.0)
    }
}

/// List sessions, newest first
#[utoipa::path(get, path = "/api/sessions", tag = "sessions", params(ListQuery), responses(
    (status = 200, body = Page), (status = "default", body = Fault)))]
async fn list(State(state): State<AppState>, Query(query): Query<ListQuery>) -> Answer<Page> {
    let filter = ListFilter::try_from(query)?;
    Ok(Json(state.core().await?.sessions.list(&filter).await?))
}

/// Create a session
///
/// Answers at once; the work goes on behind it and is told by events.
#[utoipa::path(post, path = "/api/sessions", tag = "sessions", request_body = NewSession,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key and body within 24 h give the first answer")),
    responses((status = 201, body = Session, headers(("Location" = String, description = "The session's path"))),
        (status = "default", body = Fault)))]
async fn create(
    State(state): State<AppState>,
    Query(NoQuery {}): Query<NoQuery>,
    headers: HeaderMap,
    Body(new): Body<NewSession>,
) -> Result<Response, ApiError> {
    let key = idempotency_key(&headers)?;
    let core = state.core().await?;
    let created = core.sessions.create(new, key.as_deref()).await?;
    let location = format!("/api/sessions/{}", created.session.summary.id);
    let location = HeaderValue::from_str(&location).map_err(ApiError::internal)?;
    let mut response = (StatusCode::CREATED, Json(created.session)).into_response();
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut given = headers.get_all(&IDEMPOTENCY_KEY).iter();
    let Some(key) = given.next() else {
        return Ok(None);
    };
    let text = key.to_str().unwrap_or_default().trim();
    if given.next().is_some() || !(1..=LONGEST_IDEMPOTENCY_KEY).contains(&text.len()) {
        return Err(ApiError::invalid(format!(
            "the header Idempotency-Key must be given once, with 1 to {LONGEST_IDEMPOTENCY_KEY} printable characters"
        )));
    }
    Ok(Some(text.to_owned()))
}

/// Get a session
#[utoipa::path(get, path = "/api/sessions/{id}", tag = "sessions",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Session), (status = "default", body = Fault)))]
async fn get(
    State(state): State<AppState>,
    path: SessionPath,
    Query(NoQuery {}): Query<NoQuery>,
) -> Answer<Session> {
    Ok(Json(state.core().await?.sessions.get(&path.key()).await?))
}

/// Delete a session
#[utoipa::path(delete, path = "/api/sessions/{id}", tag = "sessions",
    params(("id" = String, Path, description = "Id or name"), DeleteQuery),
    responses((status = 200, body = Removed), (status = "default", body = Fault)))]
async fn remove(
    State(state): State<AppState>,
    path: SessionPath,
    Query(query): Query<DeleteQuery>,
    OptionalBody(NoBody {}): OptionalBody<NoBody>,
) -> Answer<Removed> {
    let core = state.core().await?;
    let removal = core.sessions.delete(&path.key(), query.force).await?;
    Ok(Json(Removed {
        success: true,
        removal,
    }))
}

/// Start a stopped session
///
/// A running one is a success.
#[utoipa::path(post, path = "/api/sessions/{id}/start", tag = "sessions",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Session), (status = "default", body = Fault)))]
async fn start(
    State(state): State<AppState>,
    path: SessionPath,
    Query(NoQuery {}): Query<NoQuery>,
    OptionalBody(NoBody {}): OptionalBody<NoBody>,
) -> Answer<Session> {
    Ok(Json(state.core().await?.sessions.start(&path.key()).await?))
}

/// End a session's program
///
/// Everything else stays. A stopped one is a success.
#[utoipa::path(post, path = "/api/sessions/{id}/stop", tag = "sessions",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Session), (status = "default", body = Fault)))]
async fn stop(
    State(state): State<AppState>,
    path: SessionPath,
    Query(NoQuery {}): Query<NoQuery>,
    OptionalBody(NoBody {}): OptionalBody<NoBody>,
) -> Answer<Session> {
    Ok(Json(state.core().await?.sessions.stop(&path.key()).await?))
}

/// Archive a session
///
/// What runs is removed; worktree, branch, chat and record stay. Twice is a success.
#[utoipa::path(post, path = "/api/sessions/{id}/archive", tag = "sessions",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Session), (status = "default", body = Fault)))]
async fn archive(
    State(state): State<AppState>,
    path: SessionPath,
    Query(NoQuery {}): Query<NoQuery>,
    OptionalBody(NoBody {}): OptionalBody<NoBody>,
) -> Answer<Session> {
    let core = state.core().await?;
    Ok(Json(core.sessions.archive(&path.key()).await?))
}

/// Bring an archived session back
///
/// Twice is a success.
#[utoipa::path(post, path = "/api/sessions/{id}/unarchive", tag = "sessions",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Session), (status = "default", body = Fault)))]
async fn unarchive(
    State(state): State<AppState>,
    path: SessionPath,
    Query(NoQuery {}): Query<NoQuery>,
    OptionalBody(NoBody {}): OptionalBody<NoBody>,
) -> Answer<Session> {
    let core = state.core().await?;
    Ok(Json(core.sessions.unarchive(&path.key()).await?))
}

/// Make a session's place anew
///
/// Worktree and conversation stay, unless `fresh`.
#[utoipa::path(post, path = "/api/sessions/{id}/recreate", tag = "sessions",
    params(("id" = String, Path, description = "Id or name")), request_body = Option<RecreateBody>,
    responses((status = 200, body = Recreating), (status = "default", body = Fault)))]
async fn recreate(
    State(state): State<AppState>,
    path: SessionPath,
    Query(NoQuery {}): Query<NoQuery>,
    OptionalBody(body): OptionalBody<RecreateBody>,
) -> Answer<Recreating> {
    recreate_as(&state, &path, body.fresh).await
}

/// Make a session's place anew, with an empty conversation and the worktree of the branch's last commit
///
/// What was not committed is rescued.
#[utoipa::path(post, path = "/api/sessions/{id}/recreate-fresh", tag = "sessions",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Recreating), (status = "default", body = Fault)))]
async fn recreate_fresh(
    State(state): State<AppState>,
    path: SessionPath,
    Query(NoQuery {}): Query<NoQuery>,
    OptionalBody(NoBody {}): OptionalBody<NoBody>,
) -> Answer<Recreating> {
    recreate_as(&state, &path, true).await
}

async fn recreate_as(state: &AppState, path: &SessionPath, fresh: bool) -> Answer<Recreating> {
    let core = state.core().await?;
    let recreation = core.sessions.recreate(&path.key(), fresh).await?;
    Ok(Json(Recreating {
        success: true,
        status: "recreating",
        data_preservation: recreation.data_preservation,
        rescued: recreation.rescued,
    }))
}

/// Remove all of a session but its record, its events and its branches
#[utoipa::path(post, path = "/api/sessions/{id}/cleanup", tag = "sessions",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = CleanedUp), (status = "default", body = Fault)))]
async fn cleanup(
    State(state): State<AppState>,
    path: SessionPath,
    Query(NoQuery {}): Query<NoQuery>,
    OptionalBody(NoBody {}): OptionalBody<NoBody>,
) -> Answer<CleanedUp> {
    let core = state.core().await?;
    let (resources_cleaned, removal) = core.sessions.cleanup(&path.key()).await?;
    Ok(Json(CleanedUp {
        success: true,
        resources_cleaned,
        removal,
    }))
}

/// Bring the branches in the user's repositories up to the session's commits
#[utoipa::path(post, path = "/api/sessions/{id}/sync", tag = "sessions",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Synced), (status = "default", body = Fault)))]
async fn sync(
    State(state): State<AppState>,
    path: SessionPath,
    Query(NoQuery {}): Query<NoQuery>,
    OptionalBody(NoBody {}): OptionalBody<NoBody>,
) -> Answer<Synced> {
    let core = state.core().await?;
    let branches = core.sessions.sync(&path.key()).await?;
    Ok(Json(Synced {
        success: true,
        branches,
    }))
}

/// Whether a session is as it was asked to be, and what may be done about it
#[utoipa::path(get, path = "/api/sessions/{id}/health", tag = "sessions",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = HealthReport), (status = "default", body = Fault)))]
async fn health(
    State(state): State<AppState>,
    path: SessionPath,
    Query(NoQuery {}): Query<NoQuery>,
) -> Answer<HealthReport> {
    let core = state.core().await?;
    Ok(Json(core.sessions.health(&path.key()).await?))
}

/// Change what people call a session
///
/// Only the fields given.
#[utoipa::path(post, path = "/api/sessions/{id}/metadata", tag = "sessions",
    params(("id" = String, Path, description = "Id or name")), request_body = MetadataChange,
    responses((status = 200, body = MetadataChanged), (status = "default", body = Fault)))]
async fn metadata(
    State(state): State<AppState>,
    path: SessionPath,
    Query(NoQuery {}): Query<NoQuery>,
    Body(change): Body<MetadataChange>,
) -> Answer<MetadataChanged> {
    let core = state.core().await?;
    let metadata = core.sessions.update_metadata(&path.key(), change).await?;
    Ok(Json(MetadataChanged {
        success: true,
        metadata,
    }))
}

/// Have metadata made from the chat so far
///
/// Not switched on in this version.
#[utoipa::path(post, path = "/api/sessions/{id}/regenerate-metadata", tag = "sessions",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = MetadataChanged), (status = "default", body = Fault)))]
async fn regenerate_metadata(
    State(state): State<AppState>,
    path: SessionPath,
    Query(NoQuery {}): Query<NoQuery>,
    OptionalBody(NoBody {}): OptionalBody<NoBody>,
) -> Answer<MetadataChanged> {
    state.core().await?.sessions.resolve(&path.key()).await?;
    Err(ApiError::forbidden(
        "metadata made by a model (ai_metadata) is switched off",
    ))
}

/// Say something to a session's agent
#[utoipa::path(post, path = "/api/sessions/{id}/messages", tag = "sessions",
    params(("id" = String, Path, description = "Id or name")), request_body = MessageBody,
    responses((status = 200, body = MessageAccepted), (status = "default", body = Fault)))]
async fn messages(
    State(state): State<AppState>,
    path: SessionPath,
    Query(NoQuery {}): Query<NoQuery>,
    Body(message): Body<MessageBody>,
) -> Answer<MessageAccepted> {
    let core = state.core().await?;
    let accepted = core
        .sessions
        .send_message(&path.key(), &message.content)
        .await?;
    Ok(Json(MessageAccepted {
        success: true,
        held: accepted.held,
    }))
}

/// The terminal's history as plain text
#[utoipa::path(get, path = "/api/sessions/{id}/logs", tag = "sessions",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = String, content_type = "text/plain"), (status = "default", body = Fault)))]
async fn logs(
    State(state): State<AppState>,
    path: SessionPath,
    Query(NoQuery {}): Query<NoQuery>,
) -> Result<Response, ApiError> {
    let core = state.core().await?;
    let text = core.sessions.logs(&path.key()).await?;
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((kind, text).into_response())
}

/// A session's worktrees against their bases
///
/// A unified diff and a summary per file, for each repository.
#[utoipa::path(get, path = "/api/sessions/{id}/diff", tag = "sessions",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Diffs), (status = "default", body = Fault)))]
async fn diff(
    State(state): State<AppState>,
    path: SessionPath,
    Query(NoQuery {}): Query<NoQuery>,
) -> Answer<Diffs> {
    let core = state.core().await?;
    let diffs = core
        .sessions
        .diff(&path.key(), DiffLimits::default())
        .await?;
    let repositories = diffs
        .into_iter()
        .map(|(mount_name, diff)| RepositoryDiff { mount_name, diff })
        .collect();
    Ok(Json(Diffs { repositories }))
}
