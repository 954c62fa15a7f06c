//! What handlers take from a request: strict, and every refusal names what is wrong by its path.

use super::error::{ApiError, ErrorCode};
use axum::body::{Body as HttpBody, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use bytes::BytesMut;
use http::request::Parts;
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use serde::de::{DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The largest JSON body.
pub(crate) const BODY_LIMIT: usize = 1024 * 1024;
/// How much of a refused body is taken before its connection is closed, and for how long.
const DRAIN_LIMIT: usize = 32 * 1024 * 1024;
const DRAIN_TIME_LIMIT: Duration = Duration::from_secs(2);
/// How long a JSON body may take to arrive.
const BODY_TIME_LIMIT: Duration = Duration::from_secs(30);

/// The query string as `T`, which denies unknown fields; a parameter given twice is refused too.
#[derive(Debug, Clone)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        parse_query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

/// Reads a query string.
pub(crate) fn parse_query<T: DeserializeOwned>(query: &str) -> Result<T, ApiError> {
    let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(query.as_bytes()));
    serde_path_to_error::deserialize(pairs).map_err(|error| {
        let path = error.path().to_string();
        let message = error.into_inner().to_string();
        let name = quoted(&message);
        let text = match name {
            Some(name) if message.starts_with("unknown field") => match known(&message) {
                Some(known) => format!("unknown query parameter {name}; known are: {known}"),
                None => {
                    format!("unknown query parameter {name}; this route takes no query parameters")
                }
            },
            Some(name) if message.starts_with("duplicate field") => {
                format!("the query parameter {name} is given twice")
            }
            Some(name) if message.starts_with("missing field") => {
                format!("the query parameter {name} is missing")
            }
            _ if path == "." => format!("malformed query: {message}"),
            _ => format!("the query parameter {path} is wrong: {message}"),
        };
        ApiError::invalid(text)
    })
}

/// The query of a route that takes none.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoQuery {}

/// A boolean in a query: `true`, `false`, `1` or `0`. For `#[serde(deserialize_with)]`.
///
/// # Errors
/// It is anything else.
pub fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        other => Err(serde::de::Error::custom(format!(
            "must be true, false, 1 or 0, got {other:?}"
        ))),
    }
}

/// The JSON body as `T`: at most 1 MiB, of content type `application/json`.
#[derive(Debug, Clone)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let bytes = read(&parts.headers, body).await?;
        if bytes.is_empty() {
            return Err(ApiError::invalid(
                "the body is empty; a JSON object is expected",
            ));
        }
        require_json(&parts.headers)?;
        parse_json(&bytes).map(Self)
    }
}

/// As [`Body`], but an empty body stands for `{}`.
#[derive(Debug, Clone)]
pub struct OptionalBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for OptionalBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let bytes = read(&parts.headers, body).await?;
        if bytes.is_empty() {
            return parse_json(b"{}").map(Self);
        }
        require_json(&parts.headers)?;
        parse_json(&bytes).map(Self)
    }
}

/// The body of a route that takes none: `{}` is let pass, since clients send it by habit.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NoBody {}

fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let given = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    let is_json = essence.eq_ignore_ascii_case("application/json")
        || essence
            .to_ascii_lowercase()
            .strip_prefix("application/")
            .is_some_and(|kind| kind.ends_with("+json"));
    if is_json {
        return Ok(());
    }
    let message = if given.is_empty() {
        "the body must be JSON, and the header content-type must say so: application/json"
            .to_owned()
    } else {
        format!("the body must be application/json, got {given}")
    };
    Err(ApiError::new(ErrorCode::UnsupportedMediaType, message))
}

async fn read(headers: &HeaderMap, mut body: HttpBody) -> Result<Bytes, ApiError> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > BODY_LIMIT as u64) {
        drain(body).await;
        return Err(too_large());
    }
    let mut bytes = BytesMut::new();
    let whole = async {
        while let Some(frame) = body.frame().await {
            let frame = frame
                .map_err(|error| ApiError::invalid("the body ended early").with_source(error))?;
            if let Some(data) = frame.data_ref() {
                if bytes.len() + data.len() > BODY_LIMIT {
                    return Ok::<_, ApiError>(false);
                }
                bytes.extend_from_slice(data);
            }
        }
        Ok(true)
    };
    let whole = tokio::time::timeout(BODY_TIME_LIMIT, whole)
        .await
        .map_err(|_| ApiError::invalid("the body did not arrive in time"))??;
    if whole {
        Ok(bytes.freeze())
    } else {
        drain(body).await;
        Err(too_large())
    }
}

/// Takes the rest of a body that is refused, within limits: a client that is still sending would see its connection
/// broken instead of the answer.
async fn drain(mut body: HttpBody) {
    let rest = async {
        let mut left = DRAIN_LIMIT;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                break;
            }
        }
    };
    if tokio::time::timeout(DRAIN_TIME_LIMIT, rest).await.is_err() {
        tracing::debug!("a refused body did not end in time");
    }
}

fn too_large() -> ApiError {
    ApiError::new(
        ErrorCode::PayloadTooLarge,
        format!("the body is larger than {BODY_LIMIT} bytes"),
    )
}

/// Reads a JSON document.
pub(crate) fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // serde would take a list for a struct, field by field.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(ApiError::invalid(
            "the body is wrong: a JSON object is expected, got a list",
        ));
    }
    let mut document = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut document).map_err(|error| {
        let path = error.path().to_string();
        ApiError::invalid(wrong_json(&path, &error.into_inner()))
    })?;
    document
        .end()
        .map_err(|error| ApiError::invalid(wrong_json(".", &error)))?;
    Ok(value)
}

/// What is wrong with a document, with the field's path where it is a field.
fn wrong_json(path: &str, error: &serde_json::Error) -> String {
    if !error.is_data() {
        return format!("malformed JSON: {error}");
    }
    let full = error.to_string();
    let message = full
        .rsplit_once(" at line ")
        .map_or(full.as_str(), |(message, _)| message);
    let parent = if path == "." { "" } else { path };
    match quoted(message) {
        Some(name) if message.starts_with("missing field") => {
            format!("the field {} is missing", join(parent, name))
        }
        Some(name) if message.starts_with("unknown field") => {
            let parent = parent
                .strip_suffix(name)
                .map_or(parent, |parent| parent.trim_end_matches('.'));
            let known = known(message)
                .map(|known| format!("; known are: {known}"))
                .unwrap_or_default();
            format!("unknown field {}{known}", join(parent, name))
        }
        Some(name) if message.starts_with("duplicate field") => {
            let parent = parent
                .strip_suffix(name)
                .map_or(parent, |parent| parent.trim_end_matches('.'));
            format!("the field {} is given twice", join(parent, name))
        }
        _ if parent.is_empty() => format!("the body is wrong: {message}"),
        _ => format!("the field {parent} is wrong: {message}"),
    }
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() {
        name.to_owned()
    } else {
        format!("{parent}.{name}")
    }
}

/// The names that would have been known, out of serde's message.
fn known(message: &str) -> Option<String> {
    let (_, known) = message.split_once(", expected ")?;
    let known = known
        .trim_start_matches("one of ")
        .replace("` or `", ", ")
        .replace('`', "");
    Some(known).filter(|known| known != "there are no fields")
}

fn quoted(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once('`')?;
    rest.split_once('`').map(|(name, _)| name)
}

/// The `{id}` of a path: a session's id or name, not looked up yet.
#[derive(Debug, Clone)]
pub struct SessionPath(pub String);

impl<S: Send + Sync> FromRequestParts<S> for SessionPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(text)) => Ok(Self(text)),
            Err(rejection) => {
                Err(ApiError::invalid("the path is no valid UTF-8").with_source(rejection))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the way in is tested")]
    struct Create {
        prompt: String,
        #[serde(default)]
        repositories: Vec<Repository>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the way in is tested")]
    struct Repository {
        path: String,
        mount_name: Option<String>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct List {
        #[serde(deserialize_with = "flag")]
        include_archived: bool,
        limit: Option<u16>,
    }

    #[test]
    fn json_faults_are_named_by_path() {
        let check = |json: &str, message: &str| {
            let error = parse_json::<Create>(json.as_bytes()).unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidRequest);
            assert_eq!(error.message(), message, "{json}");
        };
        check("{}", "the field prompt is missing");
        check(
            r#"{"prompt":1}"#,
            "the field prompt is wrong: invalid type: integer `1`, expected a string",
        );
        check(
            r#"{"prompt":"","promt":1}"#,
            "unknown field promt; known are: prompt, repositories",
        );
        check(
            r#"{"prompt":"","prompt":""}"#,
            "the field prompt is given twice",
        );
        check(
            r#"{"prompt":"","repositories":[{"path":"a"},{}]}"#,
            "the field repositories[1].path is missing",
        );
        check(
            r#"{"prompt":"","repositories":[{"path":"a"},{"path":"a","mount_name":7}]}"#,
            "the field repositories[1].mount_name is wrong: invalid type: integer `7`, expected a string",
        );
        check(
            r#"{"prompt":"","repositories":[{"path":"a","x":7}]}"#,
            "unknown field repositories[0].x; known are: path, mount_name",
        );
        check(
            r#"{"prompt":"#,
            "malformed JSON: EOF while parsing a value at line 1 column 10",
        );
        check(
            r#"{"prompt":""} x"#,
            "malformed JSON: trailing characters at line 1 column 15",
        );
        check(
            " []",
            "the body is wrong: a JSON object is expected, got a list",
        );
        check(
            "3",
            "the body is wrong: invalid type: integer `3`, expected struct Create",
        );
    }

    #[test]
    fn query_faults_are_named() {
        let check = |query: &str, message: &str| {
            let error = parse_query::<List>(query).unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidRequest);
            assert_eq!(error.message(), message, "{query}");
        };
        for good in [
            "",
            "include_archived=true",
            "include_archived=0&limit=3",
            "limit=10",
        ] {
            assert!(parse_query::<List>(good).is_ok(), "{good}");
        }
        check(
            "include_archived=yes",
            "the query parameter include_archived is wrong: must be true, false, 1 or 0, got \"yes\"",
        );
        check(
            "include_archived=",
            "the query parameter include_archived is wrong: must be true, false, 1 or 0, got \"\"",
        );
        check(
            "archived=1",
            "unknown query parameter archived; known are: include_archived, limit",
        );
        check(
            "limit=1&limit=2",
            "the query parameter limit is given twice",
        );
        check(
            "limit=-1",
            "the query parameter limit is wrong: invalid digit found in string",
        );
        assert_eq!(
            parse_query::<NoQuery>("a=1").unwrap_err().message(),
            "unknown query parameter a; this route takes no query parameters"
        );
    }
}
