//! The HTTP interface: every route, and the rules that hold for all of them.
//!
//! A request passes, from the outside in: [`trace`] (request id, log, metrics, panics, and the JSON form of
//! every fault), [`guard`] (Host, Origin, CORS, draining), then its route. Handlers take [`AppState`], the
//! strict extractors of [`extract`], and answer wire forms of [`dto`] or an [`ApiError`].
//! Nothing here decides about sessions: it asks the session module and puts its answers into words.

mod console;
mod dto;
mod error;
mod events;
mod extract;
mod files;
mod guard;
mod health;
mod linger;
mod metrics;
mod openapi;
mod page;
mod plugins;
mod server;
mod sessions;
mod socket;
mod state;
mod trace;
mod upload;

pub use error::{ApiError, ErrorCode};
pub use extract::{Body, NoBody, NoQuery, OptionalBody, Query, SessionPath, flag};
pub use server::{Listener, serve};
pub use state::AppState;

pub(crate) use error::chain;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, Uri};

/// Everything that the server answers.
pub fn router(state: AppState) -> Router {
    let routes = Router::new()
        .merge(openapi::routes())
        .merge(socket::routes())
        .merge(console::routes())
        .merge(page::routes());
    with_rules(routes, state)
}

/// Routes under the rules that hold for all of them.
fn with_rules(routes: Router<AppState>, state: AppState) -> Router {
    routes
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(state.clone(), guard::guard))
        .layer(from_fn_with_state(state.clone(), trace::trace))
        .layer(from_fn(trace::json_faults))
        .with_state(state)
}

async fn unknown_path(uri: Uri) -> ApiError {
    ApiError::new(
        ErrorCode::NotFound,
        format!("there is nothing at {}", uri.path()),
    )
}

/// The router adds `Allow` to this answer.
async fn wrong_method(method: Method, uri: Uri) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    ApiError::new(
        ErrorCode::MethodNotAllowed,
        format!("{} does not take {method}", uri.path()),
    )
    .into_response()
}

#[cfg(test)]
mod tests;
