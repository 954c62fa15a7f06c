//! A session's terminal as its clients see it: one state, many clients.
//!
//! One [`Console`] stands for one session's terminal, for as long as the session has a record. While the program runs,
//! [`Console::run`] reads the keeper's output, always and in one place, into a shared log; each client has a cursor in that
//! log and nothing of its own. What the screen shows is worked out beside that path, and is what a client that joins, or that
//! fell too far behind, is painted with. An ended session keeps its last screen and history, on disk too.
//!
//! Rules:
//! - A program never waits for a client that does not read: [`STALL_LIMIT`] at most, then that client has no say.
//! - Output bytes are numbered by the keeper. What a client gets on joining ends at one exact number, and live bytes begin there.
//! - Input never waits behind output.

mod attachment;
mod control;
mod credit;
mod hub;
mod log;
mod run;
mod saved;
mod settings;
mod size;
mod source;
#[cfg(test)]
mod tests;
mod utf8;
mod vt;

pub use attachment::{Attachment, ClientInput, ClientOutput, JoinOptions, Mode, Notice, Outgoing};
pub use control::{MAX_CELLS, TextFrame, read_text_frame};
pub use settings::{ConsoleError, ConsoleSettings};
pub use source::{Source, SourceError, SourceOutput};

use berth_keeper_protocol::Size;
use hub::Hub;
use log::ExitNote;
use run::on_blocking_thread;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long reading of the program's output may wait for a client that does not read.
pub const STALL_LIMIT: Duration = Duration::from_millis(250);

/// Why [`Console::run`] came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// The program has ended and every byte of its output is here.
    ProgramEnded,
    /// It was asked to.
    Cancelled,
}

/// One session's terminal. A cheap clone of one shared state.
#[derive(Debug, Clone)]
pub struct Console {
    hub: Arc<Hub>,
}

impl Console {
    /// Opens what was saved in the session's `terminal` folder, or begins an empty one. Reads no more than its head; the
    /// rest is read when it is asked for.
    ///
    /// # Errors
    /// The folder cannot be made or read. A damaged file is no error: it is put aside and the console begins empty.
    pub async fn open(settings: ConsoleSettings) -> Result<Self, ConsoleError> {
        let hub = tokio::task::spawn_blocking(move || Hub::open(settings))
            .await
            .map_err(|error| ConsoleError::State(error.to_string()))??;
        Ok(Self { hub: Arc::new(hub) })
    }

    /// The number of the next byte of output: what a new run's `first_offset` is to be, and where reading goes on.
    pub fn next_offset(&self) -> u64 {
        self.hub.next_offset()
    }

    /// The size that the terminal has or, before a run, should be started with.
    pub fn size(&self) -> Size {
        let state = self.hub.state();
        state.wanted.unwrap_or(state.size)
    }

    /// Reads the program's output from [`Console::next_offset`] on, and hands it what clients type, until the program's
    /// output ends, the connection does, or `cancel` is. One at a time; the session's task owns it. After an error, connect
    /// again and call it again: nothing is lost or repeated.
    ///
    /// # Errors
    /// The connection to the keeper was lost.
    pub async fn run(
        &self,
        source: Arc<dyn Source>,
        cancel: CancellationToken,
    ) -> Result<RunEnd, ConsoleError> {
        run::run(&self.hub, source, cancel).await
    }

    /// Tells all clients, and those that join from now on, that the program has ended. `message` is for people, as in
    /// `stopped by request`; without one it is made from the code.
    pub async fn ended(&self, code: Option<i32>, message: Option<String>) {
        self.hub.end(ExitNote { code, message });
        let rested = on_blocking_thread(&self.hub, |hub| hub.with_vt(|_, vt| vt.rest())).await;
        if let Err(error) = rested {
            tracing::warn!(%error, "an ended terminal could not be put away");
        }
    }

    /// A new run of the program is about to begin: what the last one left of modes is set back, its text stays.
    /// To be called before `run`, once a run.
    pub async fn restarted(&self) {
        if let Err(error) = on_blocking_thread(&self.hub, Hub::restart).await {
            tracing::warn!(%error, "a terminal could not be made ready for another run");
        }
    }

    /// Joins a client.
    ///
    /// # Errors
    /// The console was closed, or what was saved of it cannot be read.
    pub async fn join(&self, options: JoinOptions) -> Result<Attachment, ConsoleError> {
        Attachment::join(&self.hub, options).await
    }

    /// Everything that is kept, history and screen, as plain text.
    ///
    /// # Errors
    /// What was saved cannot be read.
    pub async fn history_text(&self) -> Result<String, ConsoleError> {
        on_blocking_thread(&self.hub, |hub| {
            let text = hub.with_vt(|_, vt| vt.text());
            hub.unload();
            text
        })
        .await
    }

    /// Saves screen, history and [`Console::next_offset`]: written whole or not at all. To be called before the keeper is
    /// released, and on a graceful stop of the server.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub async fn save(&self) -> Result<(), ConsoleError> {
        on_blocking_thread(&self.hub, Hub::save).await
    }

    /// Ends every attachment, now and from now on: the session is being deleted.
    pub fn close(&self) {
        self.hub.closed.cancel();
    }
}
