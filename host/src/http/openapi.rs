//! `/api/openapi.json`: the description of the API, made from the handlers.

use super::extract::{NoQuery, Query};
use super::state::AppState;
use super::{events, files, health, plugins, sessions, upload};
use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use http::header;
use std::sync::{Arc, OnceLock};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "berth",
        description = "Sessions of coding agents and shells on git repositories. The sockets `/ws/events` and `/ws/console/{id}` are described in the documentation.",
    ),
    tags(
        (name = "sessions", description = "What a caller does with sessions"),
        (name = "events", description = "What happens in sessions"),
        (name = "server", description = "What the server is and can"),
    )
)]
struct Description;

/// Every described route, and the route of the description.
pub(super) fn routes() -> Router<AppState> {
    let (router, description) = OpenApiRouter::with_openapi(Description::openapi())
        .merge(health::routes())
        .merge(plugins::routes())
        .merge(files::routes())
        .merge(sessions::routes())
        .merge(events::routes())
        .merge(upload::routes())
        .split_for_parts();
    let document = Arc::new(Document {
        description,
        text: OnceLock::new(),
    });
    router.route(
        "/api/openapi.json",
        get(async move |Query(NoQuery {}): Query<NoQuery>| {
            let text = document.text();
            ([(header::CONTENT_TYPE, "application/json")], text).into_response()
        }),
    )
}

/// The description, put into text when it is first asked for: starting should not wait for it.
struct Document {
    description: utoipa::openapi::OpenApi,
    text: OnceLock<Bytes>,
}

impl Document {
    fn text(&self) -> Bytes {
        // A description that cannot be written is a bug, seen by the first test that asks for it.
        let text = || Bytes::from(self.description.to_json().unwrap_or_default());
        self.text.get_or_init(text).clone()
    }
}
