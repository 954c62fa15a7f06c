//! The way to a session's terminal: `/ws/console/{session}`. What is said on the socket stands in
//! [`console`](super::console).

use super::console::{ConsoleDirectory, console_socket, parse_console_query};
use super::error::ApiError;
use super::extract::SessionPath;
use super::state::AppState;
use crate::app::Core;
use crate::console::Console;
use crate::http::metrics::Counted;
use crate::session::SessionKey;
use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::response::Response;
use axum::routing::get;
use http::Uri;
use std::sync::Arc;
use tokio_util::task::task_tracker::TaskTrackerToken;

pub(super) fn routes() -> Router<AppState> {
    Router::new().route("/ws/console/{session}", get(console))
}

async fn console(
    State(state): State<AppState>,
    SessionPath(session): SessionPath,
    uri: Uri,
    upgrade: WebSocketUpgrade,
) -> Result<Response, ApiError> {
    let options = parse_console_query(uri.query()).map_err(ApiError::invalid)?;
    let directory = Arc::new(Directory {
        core: state.core().await?,
        _counted: state.metrics().console_sockets.one(),
        _running: state.tasks().token(),
    });
    let shutdown = state.shutdown().clone();
    Ok(console_socket(
        upgrade, session, options, directory, shutdown,
    ))
}

/// The sessions as one socket sees them; it counts as open, and holds up the end of the server, while it has this.
#[derive(Debug)]
struct Directory {
    core: Arc<Core>,
    _counted: Counted,
    _running: TaskTrackerToken,
}

#[async_trait]
impl ConsoleDirectory for Directory {
    async fn find_console(&self, session: &str) -> Option<Console> {
        let key = SessionKey::parse(session);
        self.core.sessions.console(&key).await.ok()
    }
}
