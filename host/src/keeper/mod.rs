//! The client of the keeper in each session.
//!
//! A [`Keeper`] is one connection: HTTP/2 on one byte stream, as `berth_keeper_protocol` describes it. It is cheap to
//! clone and owns the task that drives it; when the last clone and the last stream of it are dropped, the connection is
//! closed. Reconnecting is the caller's: every stream says where it stands, so that the next one goes on from there.
//!
//! Rules:
//! - dropping what a method answered (or its future) cancels the work at the keeper: an exec is killed, an upload leaves
//!   nothing behind;
//! - a reader that does not call `next` stops what it reads from, and nothing else: every stream has its own window;
//! - the keeper runs beside a program that nobody trusts, so what comes from it is checked and bounded.

mod body;
mod connection;
mod error;
mod exec;
mod file;
mod follow;
mod output;
mod pipe;

#[cfg(test)]
mod tests;

pub use berth_keeper_protocol as protocol;
pub use error::KeeperError;
pub use exec::{Exec, ExecEvent, ExecInput, ExecOutput, Finished};
pub use file::{FileBody, PutFile};
pub use follow::Following;
pub use output::{Changes, Chunk, Output};

use berth_keeper_protocol::{Hello, Release, Signal, Size, StartProgram, Status, Stop};
use berth_plugin_api::Stream;
use bytes::Bytes;
use connection::Connection;
use http::Method;
use std::sync::Arc;
use std::time::Duration;

/// How long the keeper has to answer what takes it no time.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// What stopping may take beyond its grace: freezing and killing a large process tree.
const STOP_LIMIT: Duration = Duration::from_mins(1);

/// A connection to the keeper of one session.
#[derive(Debug, Clone)]
pub struct Keeper {
    connection: Arc<Connection>,
    hello: Arc<Hello>,
}

/// What [`Keeper::dial`] reaches, seen from inside the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dial {
    /// A unix socket by its absolute path.
    Unix(String),
    /// A port of the loopback interface.
    Tcp(u16),
}

impl Keeper {
    /// Greets the keeper at the other end of `stream`.
    ///
    /// # Errors
    /// Nothing that speaks the protocol answers within 10 seconds.
    pub async fn connect(stream: Stream) -> Result<Self, KeeperError> {
        let (connection, hello) = Connection::open(stream).await?;
        Ok(Self {
            connection: Arc::new(connection),
            hello: Arc::new(hello),
        })
    }

    /// Who is at the other end, as it said when the connection was made.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Waits until the connection is lost, and says why.
    pub async fn closed(&self) -> KeeperError {
        self.connection.closed().await
    }

    /// The connection is lost.
    pub fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }

    /// What the main program is doing.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn status(&self) -> Result<Status, KeeperError> {
        self.connection
            .ask(Method::GET, "/v1/status", &(), ANSWER_LIMIT)
            .await
    }

    /// Starts the main program. The same `run_id` again changes nothing. A program that cannot be started is no error
    /// but the state `Failed`.
    ///
    /// # Errors
    /// Another run goes on ([`KeeperError::is_conflict`]), or the connection is lost: then ask again.
    pub async fn start(&self, program: &StartProgram) -> Result<Status, KeeperError> {
        self.connection
            .ask(Method::POST, "/v1/program", program, ANSWER_LIMIT)
            .await
    }

    /// Tells the main program's status now and at each change.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn changes(&self) -> Result<Changes, KeeperError> {
        Changes::open(&self.connection).await
    }

    /// Reads the terminal's output from byte `from` on, or from the oldest byte that is kept. Waits until a program was
    /// started. With `pace` the program waits for this reader when it falls behind, but never longer than that at a time.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn output(&self, from: u64, pace: Option<Duration>) -> Result<Output, KeeperError> {
        Output::open(&self.connection, from, pace).await
    }

    /// Types into the terminal; returns once the terminal has taken all of it. Calls that are made one after another
    /// arrive in this order, even where the earlier ones were not awaited to their end.
    ///
    /// # Errors
    /// No program runs ([`KeeperError::is_conflict`]), or the connection is lost: then it may or may not have arrived.
    pub async fn input(&self, bytes: Bytes) -> Result<(), KeeperError> {
        self.connection.send("/v1/input", bytes).await
    }

    /// Sets the terminal's size.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn resize(&self, size: Size) -> Result<(), KeeperError> {
        self.connection.tell("/v1/resize", &size).await
    }

    /// Sends a signal, named without `SIG`, to the terminal's foreground group.
    ///
    /// # Errors
    /// There is no such signal, no program runs, or the connection is lost.
    pub async fn signal(&self, signal: &str) -> Result<(), KeeperError> {
        let signal = Signal {
            signal: signal.to_owned(),
        };
        self.connection.tell("/v1/signal", &signal).await
    }

    /// Ends the main program and everything that was started in the session; the keeper stays. Nothing running is a
    /// success.
    ///
    /// # Errors
    /// Something could not be killed, or the connection is lost.
    pub async fn stop(&self, grace: Duration) -> Result<Status, KeeperError> {
        let stop = Stop {
            grace_ms: millis(grace),
        };
        self.connection
            .ask(Method::POST, "/v1/stop", &stop, grace + STOP_LIMIT)
            .await
    }

    /// Lets the keeper end, with the exit code of its program: everything that is wanted of it was taken.
    ///
    /// # Errors
    /// The program runs, or another run has begun since ([`KeeperError::is_conflict`]), or the connection is lost.
    pub async fn release(&self, run_id: &str) -> Result<(), KeeperError> {
        let release = Release {
            run_id: run_id.to_owned(),
        };
        self.connection.tell("/v1/release", &release).await
    }

    /// Opens a byte stream to a server inside the session. Shutting its writing half down is an end of file there.
    ///
    /// # Errors
    /// Nobody listens there ([`KeeperError::is_not_found`]), or the connection is lost.
    pub async fn dial(&self, target: &Dial) -> Result<Stream, KeeperError> {
        let query = match target {
            Dial::Unix(path) => connection::query(&[("unix", path)]),
            Dial::Tcp(port) => connection::query(&[("tcp", &port.to_string())]),
        };
        let (input, answer) = self
            .connection
            .begin(Method::POST, &format!("/v1/dial?{query}"), false)
            .await?;
        let body = self.connection.accept("/v1/dial", answer).await?;
        Ok(Stream::new(pipe::Pipe::new(input, body)))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
