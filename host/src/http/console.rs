//! `/ws/console/{session}`: a WebSocket as one client of a session's console.

use crate::console::{Console, JoinOptions};
use async_trait::async_trait;
use axum::extract::ws::WebSocketUpgrade;
use axum::response::Response;
use std::fmt;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Where the handler finds a session's console.
#[async_trait]
pub trait ConsoleDirectory: fmt::Debug + Send + Sync {
    /// By the session's id or name; `None` when there is no such session.
    async fn find_console(&self, session: &str) -> Option<Console>;
}

/// Reads `cols`, `rows`, `scrollback`, `mode` and `control` from the address's query.
///
/// # Errors
/// A sentence that names the parameter: it is not known, or its value is not one of those allowed.
pub fn parse_console_query(query: Option<&str>) -> Result<JoinOptions, String> {
    let _ = query;
    Ok(JoinOptions::default())
}

/// Answers the upgrade and serves the client until it leaves, the console is closed, or `shutdown` is cancelled (close
/// code 1001). The caller has checked Host, Origin and login, and answered 400 when [`parse_console_query`] refused. An
/// unknown session is told on the socket, which is then closed with 4404.
pub fn console_socket(
    upgrade: WebSocketUpgrade,
    session: String,
    options: JoinOptions,
    directory: Arc<dyn ConsoleDirectory>,
    shutdown: CancellationToken,
) -> Response {
    upgrade
        .read_buffer_size(4096)
        .on_upgrade(move |_socket| async move {
            let _ = (session, options, directory, shutdown);
        })
}
