//! Who deals with which request.

use super::{Answer, Query, Refusal, code};
use crate::keeper::Keeper;
use crate::output::Found;
use crate::{dial, file, follow};
use berth_keeper_protocol::{
    BEHIND, OFFSET_HEADER, Release, Signal, Size, StartExec, StartProgram, Stop,
};
use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream};
use http::{Method, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Documents are small.
const DOCUMENT_LIMIT: usize = 4 << 20;
/// Nobody asks for more than this in earnest.
const LONGEST: Duration = Duration::from_hours(1);

/// One request and what belongs to it.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) keeper: Rc<Keeper>,
    pub(super) answer: Answer,
    /// Held by the one that types: what comes on one connection is typed in its order.
    pub(super) typing: Rc<Mutex<()>>,
}

#[derive(Serialize)]
struct Nothing {}

impl Call {
    /// Deals with the request. An error is answered by the caller.
    pub(super) async fn route(&self, request: Request<RecvStream>) -> Result<(), Refusal> {
        let (head, mut body) = request.into_parts();
        let query = Query::parse(head.uri.query().unwrap_or_default())?;
        let path: Vec<&str> = head.uri.path().trim_start_matches('/').split('/').collect();
        let keeper = Rc::clone(&self.keeper);
        match (&head.method, path.as_slice()) {
            (&Method::GET, ["v1", "hello"]) => self.answer.document(&keeper.hello),
            (&Method::GET, ["v1", "status"]) => self.answer.document(&keeper.status()),
            (&Method::GET, ["v1", "changes"]) => self.changes().await?,
            (&Method::GET, ["v1", "output"]) => self.output(&query).await?,
            (&Method::POST, ["v1", "input"]) => self.input(&mut body).await?,
            (&Method::POST, ["v1", "program"]) => {
                let start: StartProgram = document(&mut body).await?;
                let started = keeper.surely(Rc::clone(&keeper).start(start)).await;
                self.answer.document(&done(started)?);
            }
            (&Method::POST, ["v1", "resize"]) => {
                let size: Size = document(&mut body).await?;
                keeper.resize(size)?;
                self.answer.document(&Nothing {});
            }
            (&Method::POST, ["v1", "signal"]) => {
                keeper.signal(signal(&mut body).await?)?;
                self.answer.document(&Nothing {});
            }
            (&Method::POST, ["v1", "stop"]) => {
                let stop: Stop = document(&mut body).await?;
                let grace = Duration::from_millis(stop.grace_ms).min(LONGEST);
                let stopped = keeper.surely(Rc::clone(&keeper).stop(grace)).await;
                self.answer.document(&done(stopped)?);
            }
            (&Method::POST, ["v1", "release"]) => {
                let release: Release = document(&mut body).await?;
                Rc::clone(&keeper).release(&release.run_id).await?;
                self.answer.document(&Nothing {});
            }
            (&Method::POST, ["v1", "execs"]) => {
                let start: StartExec = document(&mut body).await?;
                self.answer.document(&keeper.start_exec(&start)?);
            }
            (&Method::POST, ["v1", "execs", id, "io"]) => {
                keeper.join_exec(id, &mut body, &self.answer).await?;
            }
            (&Method::POST, ["v1", "execs", id, "resize"]) => {
                keeper.resize_exec(id, document(&mut body).await?)?;
                self.answer.document(&Nothing {});
            }
            (&Method::POST, ["v1", "execs", id, "signal"]) => {
                keeper.signal_exec(id, signal(&mut body).await?)?;
                self.answer.document(&Nothing {});
            }
            (&Method::PUT, ["v1", "file"]) => {
                let put = file::put(&query, &mut body).await?;
                self.answer.document(&put);
            }
            (&Method::GET, ["v1", "file"]) => file::get(&query, &self.answer).await?,
            (&Method::GET, ["v1", "stat"]) => self.answer.document(&file::stat(&query).await?),
            (&Method::POST, ["v1", "follow"]) => {
                let what = document(&mut body).await?;
                tokio::select! {
                    followed = follow::follow(&what, &self.answer) => followed?,
                    () = keeper.closing.cancelled() => self.answer.finish(Bytes::new()),
                }
            }
            (&Method::POST, ["v1", "dial"]) => {
                dial::dial(&query, &mut body, &self.answer).await?;
            }
            _ => {
                let message = format!("there is no {} {}", head.method, head.uri.path());
                return Err(Refusal::new(code::UNKNOWN_ROUTE, message));
            }
        }
        Ok(())
    }

    async fn changes(&self) -> Result<(), Refusal> {
        let mut changes = self.keeper.status.subscribe();
        let mut begun = self.answer.begin(&[]);
        while begun.is_ok() {
            changes.borrow_and_update();
            let mut line = serde_json::to_vec(&self.keeper.status()).map_err(Refusal::internal)?;
            line.push(b'\n');
            begun = self.answer.send_all(line.into()).await;
            tokio::select! {
                _ = changes.changed() => {}
                () = self.keeper.closing.cancelled() => break,
            }
        }
        self.answer.finish(Bytes::new());
        Ok(())
    }

    async fn output(&self, query: &Query) -> Result<(), Refusal> {
        let from = query.parsed("from")?.unwrap_or(0);
        let pace = query.parsed("pace_ms")?;
        let pace = pace.map(|pace| Duration::from_millis(pace).min(LONGEST));
        // The first offset is known only once a program was started.
        let mut status = self.keeper.status.subscribe();
        let started = status.wait_for(|status| !status.run_id.is_empty()).await;
        drop(started.map_err(Refusal::internal)?);
        let output = &self.keeper.output;
        let mut reader = output.reader(from, pace);
        let mut going = self.answer.begin(&[(OFFSET_HEADER, reader.position())]);
        while going.is_ok() {
            let grown = output.grown.notified();
            match reader.peek(0) {
                Found::Nothing => grown.await,
                Found::End => {
                    self.answer.finish(Bytes::new());
                    break;
                }
                Found::Lost => {
                    self.answer.reset(Reason::from(BEHIND));
                    break;
                }
                Found::Bytes(_) => {
                    // While room is awaited the ring goes on, so what is sent is looked up only then.
                    let Ok(room) = self.answer.room(super::answer::PIECE).await else {
                        break;
                    };
                    if let Found::Bytes(bytes) = reader.peek(room) {
                        let count = bytes.len();
                        going = self.answer.send(bytes);
                        reader.advance(count);
                    }
                }
            }
        }
        Ok(())
    }

    async fn input(&self, body: &mut RecvStream) -> Result<(), Refusal> {
        let _turn = self.typing.lock().await;
        while let Some(bytes) = next(body).await? {
            let current = self.keeper.running()?;
            let mut status = self.keeper.status.subscribe();
            let pid = current.pid.cast_unsigned();
            tokio::select! {
                written = current.terminal.write_all(&bytes) => {
                    written.map_err(|error| Refusal::new(code::CONFLICT, format!("the terminal has ended: {error}")))?;
                }
                _ = status.wait_for(|status| !is_running(status, pid)) => {
                    return Err(Refusal::new(code::CONFLICT, "the program has ended"));
                }
            }
        }
        self.answer.document(&Nothing {});
        Ok(())
    }
}

fn is_running(status: &berth_keeper_protocol::Status, pid: u32) -> bool {
    status.program == berth_keeper_protocol::ProgramState::Running { pid }
}

/// The next bytes of a body; `None` at its end.
pub(crate) async fn next(body: &mut RecvStream) -> Result<Option<Bytes>, Refusal> {
    let Some(bytes) = body.data().await else {
        return Ok(None);
    };
    let cut = |error: h2::Error| Refusal::new(code::INVALID, format!("the body was cut: {error}"));
    let bytes = bytes.map_err(cut)?;
    body.flow_control()
        .release_capacity(bytes.len())
        .map_err(cut)?;
    Ok(Some(bytes))
}

/// A body that is a document.
pub(crate) async fn document<T: DeserializeOwned>(body: &mut RecvStream) -> Result<T, Refusal> {
    let mut whole = BytesMut::new();
    while let Some(bytes) = next(body).await? {
        if whole.len() + bytes.len() > DOCUMENT_LIMIT {
            return Err(Refusal::new(code::INVALID, "the document is too large"));
        }
        whole.extend_from_slice(&bytes);
    }
    serde_json::from_slice(&whole)
        .map_err(|error| Refusal::new(code::INVALID, format!("not the document expected: {error}")))
}

/// A body that names a signal.
pub(super) async fn signal(body: &mut RecvStream) -> Result<nix::sys::signal::Signal, Refusal> {
    let Signal { signal } = document(body).await?;
    let name = format!("SIG{}", signal.trim_start_matches("SIG"));
    name.parse()
        .map_err(|_| Refusal::new(code::INVALID, format!("there is no signal {signal}")))
}

/// What work that was surely done has come to.
fn done<T>(result: Option<Result<T, Refusal>>) -> Result<T, Refusal> {
    result.unwrap_or_else(|| Err(Refusal::internal("a task of the keeper has failed")))
}
