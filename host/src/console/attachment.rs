//! One client of a console.

use super::settings::ConsoleError;
use berth_keeper_protocol::Size;
use bytes::Bytes;

/// What a client may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Type and resize.
    #[default]
    Write,
    /// Watch.
    Read,
}

/// How a client joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinOptions {
    /// The client's size; absent: it did not say, and counts as 80×24 once it types.
    pub size: Option<Size>,
    /// How many lines of history it gets first.
    pub scrollback: usize,
    pub mode: Mode,
    /// It understands notices; others get the program's end as a line of text.
    pub control: bool,
}

impl Default for JoinOptions {
    fn default() -> Self {
        Self {
            size: None,
            scrollback: 5_000,
            mode: Mode::Write,
            control: false,
        }
    }
}

/// What only clients with `control` are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The program ended; `None` where its code is not known.
    Exit { code: Option<i32> },
    /// Another client changed the size.
    Resize(Size),
    /// What came before was the state so far; from now on it is live.
    ReplayEnd,
}

/// What a client is to be sent next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// Terminal bytes, at most 64 KiB, never cut inside a character.
    Bytes(Bytes),
    /// A ping with these eight bytes; the pong's are to be given to [`ClientInput::acknowledge`].
    Ping([u8; 8]),
    Notice(Notice),
}

/// A client that has joined. Dropping both halves leaves.
#[derive(Debug)]
pub struct Attachment {
    pub output: ClientOutput,
    pub input: ClientInput,
}

/// What the client is to be sent.
#[derive(Debug)]
pub struct ClientOutput {
    _private: (),
}

impl ClientOutput {
    /// The next thing to send; `None` when the console was closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<Outgoing> {
        None
    }
}

/// What the client does.
#[derive(Debug)]
pub struct ClientInput {
    _private: (),
}

impl ClientInput {
    /// Types. Waits while too much of this session's input is not yet taken; a client that may not type is not heard.
    ///
    /// # Errors
    /// The console was closed.
    pub async fn type_bytes(&self, bytes: Bytes) -> Result<(), ConsoleError> {
        let _ = bytes;
        Err(ConsoleError::Closed)
    }

    /// The client has another size.
    pub fn resize(&self, size: Size) {
        let _ = size;
    }

    /// A pong came back with these bytes.
    pub fn acknowledge(&self, payload: &[u8]) {
        let _ = payload;
    }
}
