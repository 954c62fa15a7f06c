//! `POST /api/sessions/{id}/upload`: files into a session's working directory, streamed on every backend.

use super::dto::Fault;
use super::error::{ApiError, ErrorCode};
use super::extract::{Query, SessionPath};
use super::state::AppState;
use crate::keeper::{KeeperError, PutFile};
use crate::session::SessionKey;
use axum::Json;
use axum::extract::multipart::{Field, Multipart, MultipartError, MultipartRejection};
use axum::extract::{DefaultBodyLimit, State};
use futures_util::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio_util::io::StreamReader;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How long a client may be silent in the middle of an upload.
const SILENCE_LIMIT: Duration = Duration::from_mins(1);

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(upload))
        .layer(DefaultBodyLimit::disable())
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
struct UploadQuery {
    /// A folder in the working directory, made where it is missing.
    dir: Option<String>,
    /// Take the place of files that are there.
    #[serde(deserialize_with = "super::extract::flag")]
    #[param(default = false)]
    overwrite: bool,
}

#[derive(Debug, Serialize, ToSchema)]
struct Uploaded {
    success: bool,
    files: Vec<UploadedFile>,
}

#[derive(Debug, Serialize, ToSchema)]
struct UploadedFile {
    name: String,
    /// As the session sees it.
    path: String,
    size: u64,
}

/// Put files into a session's working directory
///
/// Any number of file parts. Each file is there whole or not at all.
#[utoipa::path(post, path = "/api/sessions/{id}/upload", tag = "sessions",
    params(("id" = String, Path, description = "Id or name"), UploadQuery),
    request_body(content = Vec<u8>, content_type = "multipart/form-data"),
    responses((status = 200, body = Uploaded), (status = "default", body = Fault)))]
async fn upload(
    State(state): State<AppState>,
    SessionPath(path): SessionPath,
    Query(query): Query<UploadQuery>,
    multipart: Result<Multipart, MultipartRejection>,
) -> Result<Json<Uploaded>, ApiError> {
    let mut multipart = multipart.map_err(|rejection| {
        ApiError::new(
            ErrorCode::UnsupportedMediaType,
            format!("the body must be multipart/form-data: {rejection}"),
        )
    })?;
    let core = state.core().await?;
    let key = SessionKey::parse(&path);
    let session = core.sessions.get(&key).await?;
    let keeper = core.sessions.keeper(&key).await?;
    let root = session
        .repositories
        .first()
        .and_then(|repository| repository.mount_point.clone())
        .ok_or_else(|| ApiError::conflict("the session has no working directory now"))?;
    let folder = match &query.dir {
        Some(dir) => inside(Path::new(&root), dir, "the query parameter dir")?,
        None => PathBuf::from(&root),
    };
    let limit = state.config().upload_limit.unwrap_or(u64::MAX);
    let taken = AtomicU64::new(0);
    let mut files = Vec::new();
    while let Some(field) = multipart.next_field().await.map_err(broken)? {
        let Some(name) = field.file_name().map(str::to_owned) else {
            let part = field.name().unwrap_or_default();
            return Err(ApiError::invalid(format!(
                "the part {part:?} is no file: it has no filename"
            )));
        };
        let target = inside(&folder, &name, "the file's name")?;
        let put = PutFile {
            path: target.display().to_string(),
            mode: None,
            overwrite: query.overwrite,
            parents: true,
            beneath: Some(root.clone()),
        };
        let source = StreamReader::new(bytes_of(field, limit, &taken).boxed());
        let stat = keeper
            .put_file(&put, source)
            .await
            .map_err(|error| refused(&name, error, taken.load(Ordering::Relaxed) > limit))?;
        files.push(UploadedFile {
            name,
            path: stat.path,
            size: stat.size,
        });
    }
    if files.is_empty() {
        return Err(ApiError::invalid("the body holds no file"));
    }
    Ok(Json(Uploaded {
        success: true,
        files,
    }))
}

/// A part's bytes, until the client is silent for too long or the limit is reached.
fn bytes_of<'a>(
    field: Field<'a>,
    limit: u64,
    taken: &'a AtomicU64,
) -> impl futures_util::Stream<Item = std::io::Result<bytes::Bytes>> + Send + 'a {
    let chunks = field.map_err(std::io::Error::other);
    futures_util::stream::try_unfold(Box::pin(chunks), move |mut chunks| async move {
        let next = tokio::time::timeout(SILENCE_LIMIT, chunks.try_next())
            .await
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
        let Some(bytes) = next else {
            return Ok(None);
        };
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let before = taken.fetch_add(length, Ordering::Relaxed);
        if before.saturating_add(length) > limit {
            return Err(std::io::Error::from(std::io::ErrorKind::FileTooLarge));
        }
        Ok(Some((bytes, chunks)))
    })
}

/// A relative path below a folder, refused where it would climb out.
fn inside(folder: &Path, relative: &str, what: &str) -> Result<PathBuf, ApiError> {
    let fits = !relative.is_empty()
        && !relative.contains('\0')
        && Path::new(relative)
            .components()
            .all(|component| matches!(component, Component::Normal(_) | Component::CurDir))
        && Path::new(relative).file_name().is_some();
    if fits {
        Ok(folder.join(relative))
    } else {
        Err(ApiError::invalid(format!(
            "{what} must be a path inside the session's working directory, got {relative:?}"
        )))
    }
}

fn broken(error: MultipartError) -> ApiError {
    ApiError::invalid(format!("malformed multipart body: {}", error.body_text())).with_source(error)
}

fn refused(name: &str, error: KeeperError, over_limit: bool) -> ApiError {
    match &error {
        KeeperError::Source { .. } if over_limit => ApiError::new(
            ErrorCode::PayloadTooLarge,
            "the upload is larger than the setting `upload_limit` allows",
        ),
        KeeperError::Source { reason } => ApiError::invalid(format!(
            "the upload ended in the middle of {name}: {reason}"
        )),
        KeeperError::Refused { message, .. } if error.is_conflict() => {
            ApiError::conflict(format!("{name}: {message}; ?overwrite=true replaces files"))
        }
        KeeperError::Refused { message, .. } => ApiError::invalid(format!("{name}: {message}")),
        _ => ApiError::new(ErrorCode::BackendError, error.to_string()).with_source(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_climb_out_are_refused() {
        let check = |name: &str, path: Option<&str>| {
            let joined = inside(Path::new("/work"), name, "the name").ok();
            assert_eq!(joined.as_deref(), path.map(Path::new), "{name:?}");
        };
        check("a", Some("/work/a"));
        check("a/b c.txt", Some("/work/a/b c.txt"));
        check("./a", Some("/work/./a"));
        check("..a", Some("/work/..a"));
        for bad in ["", ".", "..", "../a", "a/../../b", "/a", "a/..", "a\0b"] {
            check(bad, None);
        }
    }
}
