//! Programs that run beside the main one.

use super::body::{Frames, send_all};
use super::connection::{Connection, Lease};
use super::{ANSWER_LIMIT, Keeper, KeeperError};
use berth_keeper_protocol::{ExecFrame, ExecStarted, Program, Signal, Size, StartExec};
use bytes::Bytes;
use h2::SendStream;
use http::Method;
use std::sync::Arc;

/// The keeper cuts frames far smaller.
const FRAME_LIMIT: usize = 1 << 20;

/// A program beside the main one. Dropping it, or both of its halves, kills the program.
#[derive(Debug)]
pub struct Exec {
    /// Writes its standard input.
    pub input: ExecInput,
    /// Reads what it says.
    pub output: ExecOutput,
}

/// The standard input of an exec, and its terminal's controls.
#[derive(Debug)]
pub struct ExecInput {
    id: String,
    pid: u32,
    connection: Arc<Connection>,
    stream: SendStream<Bytes>,
    ended: bool,
}

/// What an exec says.
#[derive(Debug)]
pub struct ExecOutput {
    frames: Frames,
    ended: bool,
}

/// What an exec said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecEvent {
    /// On standard output, or on its terminal.
    Stdout(Bytes),
    /// On standard error.
    Stderr(Bytes),
    /// It ended, with this code; 128 + n when signal n ended it. The last event.
    Exit(i32),
}

/// What a program that was run to its end has said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finished {
    /// 128 + n when signal n ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

impl Keeper {
    /// Starts a program beside the main one.
    ///
    /// # Errors
    /// It cannot be started, as in `command not found: X` ([`KeeperError::is_not_found`]), or the connection is lost.
    pub async fn exec(&self, start: &StartExec) -> Result<Exec, KeeperError> {
        let started: ExecStarted = self
            .connection
            .ask(Method::POST, "/v1/execs", start, ANSWER_LIMIT)
            .await?;
        let path = format!("/v1/execs/{}/io", started.id);
        let (stream, answer) = self.connection.begin(Method::POST, &path, false).await?;
        let body = self.connection.accept("/v1/execs/ID/io", answer).await?;
        Ok(Exec {
            input: ExecInput {
                id: started.id,
                pid: started.pid,
                connection: Arc::clone(&self.connection),
                stream,
                ended: false,
            },
            output: ExecOutput {
                frames: Frames::new(body),
                ended: false,
            },
        })
    }

    /// Runs a program with pipes to its end. What it says is held in memory: at most `limit` bytes, more is an error and
    /// kills it. The time is the caller's to limit: dropping the future kills the program.
    ///
    /// # Errors
    /// As [`Keeper::exec`]; or it says too much.
    pub async fn run(
        &self,
        program: &Program,
        input: Bytes,
        limit: usize,
    ) -> Result<Finished, KeeperError> {
        let start = StartExec {
            program: program.clone(),
            terminal: None,
        };
        let Exec {
            input: mut stdin,
            mut output,
        } = self.exec(&start).await?;
        let feed = async {
            // A program that does not read its input is its own affair.
            stdin.write(input).await.ok();
            stdin.end().ok();
            std::future::pending::<()>().await;
        };
        let mut finished = Finished::default();
        let collect = async {
            while let Some(event) = output.next().await {
                match event? {
                    ExecEvent::Stdout(bytes) => finished.stdout.extend_from_slice(&bytes),
                    ExecEvent::Stderr(bytes) => finished.stderr.extend_from_slice(&bytes),
                    ExecEvent::Exit(code) => {
                        finished.code = code;
                        return Ok(());
                    }
                }
                if finished.stdout.len() + finished.stderr.len() > limit {
                    return Err(KeeperError::Refused {
                        code: "INVALID".to_owned(),
                        message: format!("the program said more than {limit} bytes"),
                    });
                }
            }
            Err(KeeperError::malformed("no exit code of an exec"))
        };
        tokio::select! {
            biased;
            result = collect => result?,
            () = feed => {}
        }
        Ok(finished)
    }
}

impl Exec {
    /// Its process id, as the keeper sees it.
    pub fn pid(&self) -> u32 {
        self.input.pid
    }
}

impl ExecInput {
    /// Writes to its standard input, as fast as it reads.
    ///
    /// # Errors
    /// It ended or closed its input, or the connection is lost.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), KeeperError> {
        let lease: &Lease = self.connection.lease();
        send_all(&mut self.stream, bytes, lease).await
    }

    /// Ends its standard input; it may go on talking.
    ///
    /// # Errors
    /// It ended, or the connection is lost.
    pub fn end(&mut self) -> Result<(), KeeperError> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        self.stream
            .send_data(Bytes::new(), true)
            .map_err(|error| self.connection.lease().explain(error))
    }

    /// Sets its terminal's size.
    ///
    /// # Errors
    /// It ended, has no terminal, or the connection is lost.
    pub async fn resize(&self, size: Size) -> Result<(), KeeperError> {
        let path = format!("/v1/execs/{}/resize", self.id);
        self.connection.tell(&path, &size).await
    }

    /// Sends it a signal, named without `SIG`: to its terminal's foreground group, or to its own.
    ///
    /// # Errors
    /// It ended, there is no such signal, or the connection is lost.
    pub async fn signal(&self, signal: &str) -> Result<(), KeeperError> {
        let path = format!("/v1/execs/{}/signal", self.id);
        let signal = Signal {
            signal: signal.to_owned(),
        };
        self.connection.tell(&path, &signal).await
    }
}

impl ExecOutput {
    /// What it said next; `None` after its exit code. Cancel safe.
    ///
    /// # Errors
    /// The connection is lost; the program is then killed.
    pub async fn next(&mut self) -> Option<Result<ExecEvent, KeeperError>> {
        if self.ended {
            return None;
        }
        let event = self.frame().await;
        self.ended = !matches!(event, Ok(ExecEvent::Stdout(_) | ExecEvent::Stderr(_)));
        Some(event)
    }

    async fn frame(&mut self) -> Result<ExecEvent, KeeperError> {
        if !self.frames.fill(5).await? {
            return Err(KeeperError::malformed("no exit code of an exec"));
        }
        let head = self.frames.held();
        let kind = head[0];
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > FRAME_LIMIT {
            return Err(KeeperError::malformed("an exec frame of more than 1 MiB"));
        }
        self.frames.fill(5 + length).await?;
        let frame = self.frames.take(5 + length).slice(5..);
        if kind == ExecFrame::Stdout as u8 {
            Ok(ExecEvent::Stdout(frame))
        } else if kind == ExecFrame::Stderr as u8 {
            Ok(ExecEvent::Stderr(frame))
        } else if kind == ExecFrame::Exit as u8 {
            let code = <[u8; 4]>::try_from(&frame[..])
                .map_err(|_| KeeperError::malformed("an exit code that is not 4 bytes"))?;
            Ok(ExecEvent::Exit(i32::from_be_bytes(code)))
        } else {
            Err(KeeperError::malformed(format!(
                "an exec frame of kind {kind}"
            )))
        }
    }
}
