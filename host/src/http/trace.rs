//! What wraps every request: its id, its entry in the log and the metrics, and the JSON form of every fault.

use super::error::{ApiError, ErrorCode};
use super::state::AppState;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, header};
use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Instant;
use tracing::Instrument;
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const LONGEST_REQUEST_ID: usize = 128;

/// Gives the request an id, catches panics, and counts the answer.
pub(super) async fn trace(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let id = request_id(request.headers().get(&REQUEST_ID));
    let span = tracing::info_span!(
        "request",
        id = id.to_str().unwrap_or_default(),
        method = %request.method(),
        path = request.uri().path(),
    );
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    let began = Instant::now();
    let mut response = async {
        let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
        let response = answer.unwrap_or_else(|panic| {
            let message = panic_message(panic.as_ref());
            ApiError::internal(format!("a handler panicked: {message}")).into_response()
        });
        tracing::debug!(
            status = response.status().as_u16(),
            took_us = began.elapsed().as_micros(),
            "answered"
        );
        response
    }
    .instrument(span)
    .await;
    state.metrics().answered(
        &method,
        route.as_deref().unwrap_or("other"),
        response.status(),
        began.elapsed(),
    );
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers
        .entry(header::X_CONTENT_TYPE_OPTIONS)
        .or_insert(HeaderValue::from_static("nosniff"));
    response
}

fn request_id(given: Option<&HeaderValue>) -> HeaderValue {
    let sane = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=LONGEST_REQUEST_ID).contains(&bytes.len())
            && bytes
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte))
    };
    given.filter(sane).cloned().unwrap_or_else(|| {
        HeaderValue::from_str(&Uuid::now_v7().to_string())
            .unwrap_or(HeaderValue::from_static("none"))
    })
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

/// Puts a fault that some layer of the framework answered in its own words into ours.
pub(super) async fn json_faults(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let is_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if is_json {
        return response;
    }
    let (parts, body) = response.into_parts();
    let words = axum::body::to_bytes(body, 4096).await.unwrap_or_default();
    let words = String::from_utf8_lossy(&words).trim().to_owned();
    let code = ErrorCode::of_status(status);
    let error = if code == ErrorCode::Internal {
        ApiError::internal(words)
    } else if words.is_empty() {
        ApiError::new(code, status.canonical_reason().unwrap_or("refused"))
    } else {
        ApiError::new(code, words)
    };
    let mut fault = error.into_response();
    for (name, value) in &parts.headers {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            fault.headers_mut().append(name, value.clone());
        }
    }
    fault
}
