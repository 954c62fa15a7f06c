//! How a console is opened, and what can go wrong with it.

use super::source::SourceError;
use berth_keeper_protocol::Size;
use std::path::PathBuf;

/// How a console is opened.
#[derive(Debug, Clone)]
pub struct ConsoleSettings {
    /// The session's `terminal` folder; made when absent.
    pub folder: PathBuf,
    /// The terminal's size until a client says another.
    pub size: Size,
    /// The most lines of history that are kept.
    pub history_lines: usize,
    /// The most bytes of history that are kept.
    pub history_bytes: usize,
}

impl ConsoleSettings {
    /// The usual ones.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            size: Size::default(),
            history_lines: 100_000,
            history_bytes: 8 * 1024 * 1024,
        }
    }
}

/// What can go wrong with a console.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    #[error("the console is closed")]
    Closed,
    #[error("the session's program is not connected")]
    NotConnected,
    #[error("the console's folder {} cannot be used", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the connection to the keeper was lost")]
    Source(#[source] SourceError),
    #[error("the terminal's state could not be worked out: {0}")]
    State(String),
}
