//! The main program: its start, its terminal, its end.
//!
//! ```text
//! waiting ── start ──► running ── ends ──► exited ── start with another run id ──► running …
//!                └──── cannot ───────────► failed ──┘
//! ```
//! The end of a program is the end of its process, not of its terminal: others may hold that for ever. Once the process is
//! gone, what is in the terminal is read to its end, or for [`DRAIN_LIMIT`]; then the end is told, and what the program
//! left running is ended.

use crate::command::{CannotStart, prepare};
use crate::http::{Refusal, code};
use crate::keeper::Keeper;
use crate::note;
use crate::sys::Ending;
use crate::terminal::Terminal;
use berth_keeper_protocol::{Program, ProgramState, Size, StartProgram, Status};
use nix::sys::signal::Signal;
use std::io;
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// How long output is awaited after the program's end, where something else holds the terminal.
const DRAIN_LIMIT: Duration = Duration::from_millis(200);
/// How long what the program left running has to end by itself.
const LEFTOVER_GRACE: Duration = Duration::from_secs(2);
/// How much is read before others get their turn.
const READ_TURN: usize = 64 * 1024;

/// The program that runs.
#[derive(Debug, Clone)]
pub(crate) struct Current {
    pub(crate) pid: i32,
    pub(crate) terminal: Rc<Terminal>,
}

impl Keeper {
    /// Starts the main program; see the protocol for what is idempotent.
    pub(crate) async fn start(self: Rc<Self>, start: StartProgram) -> Result<Status, Refusal> {
        if start.run_id.is_empty() {
            return Err(Refusal::new(code::INVALID, "run_id is missing"));
        }
        // What an earlier program left behind is ended first.
        let _turn = self.turn.lock().await;
        if self.status.borrow().run_id == start.run_id {
            return Ok(self.status());
        }
        if matches!(self.status.borrow().program, ProgramState::Running { .. }) {
            let message = format!("run {} goes on", self.status.borrow().run_id);
            return Err(Refusal::new(code::CONFLICT, message));
        }
        if self.released.is_cancelled() {
            return Err(Refusal::new(code::CONFLICT, "the keeper is ending"));
        }
        self.end_leftovers(LEFTOVER_GRACE).await;
        self.output.ring.borrow_mut().go_on_at(start.first_offset);
        let started = self.spawn_all(&start).await;
        let program = match &started {
            Ok((current, _)) => {
                self.output.complete.set(false);
                ProgramState::Running {
                    pid: current.pid.cast_unsigned(),
                }
            }
            Err(error) => {
                self.exit_code.set(error.code());
                self.output.complete.set(true);
                ProgramState::Failed {
                    message: error.to_string(),
                }
            }
        };
        self.change(|status| {
            status.run_id = start.run_id;
            status.size = start.size;
            status.program = program;
        });
        self.output.changed();
        if let Ok((current, ending)) = started {
            self.current.replace(Some(current.clone()));
            let keeper = Rc::clone(&self);
            self.tasks.spawn_local(keeper.attend(current, ending));
        }
        Ok(self.status())
    }

    /// Starts the side programs, then the main one; all or none.
    async fn spawn_all(
        &self,
        start: &StartProgram,
    ) -> Result<(Current, oneshot::Receiver<Ending>), CannotStart> {
        let spawned = self.spawn_sidecars(&start.sidecars);
        let result = match spawned {
            Ok(()) => self.spawn_main(&start.program, start.size),
            Err(error) => Err(error),
        };
        if result.is_err() {
            self.end_leftovers(LEFTOVER_GRACE).await;
        }
        result
    }

    fn spawn_sidecars(&self, sidecars: &[Program]) -> Result<(), CannotStart> {
        for sidecar in sidecars {
            let prepared = prepare(sidecar, &self.settings.session, &self.settings.state)?;
            let child = prepared.spawn(Stdio::null)?;
            drop(self.children.adopt(child.id().cast_signed()));
        }
        Ok(())
    }

    pub(crate) fn spawn_main(
        &self,
        program: &Program,
        size: Size,
    ) -> Result<(Current, oneshot::Receiver<Ending>), CannotStart> {
        let prepared = prepare(program, &self.settings.session, &self.settings.state)?;
        let terminal = Terminal::open(size).map_err(|error| CannotStart::Failed {
            program: prepared.argv[0].clone(),
            reason: format!("no terminal: {error}"),
        })?;
        let pid = terminal.spawn(&prepared)?;
        let ending = self.children.adopt(pid);
        let terminal = Rc::new(terminal);
        Ok((Current { pid, terminal }, ending))
    }

    /// Reads the program's output until its end, and tells that.
    async fn attend(self: Rc<Self>, current: Current, mut ending: oneshot::Receiver<Ending>) {
        let terminal = &current.terminal;
        let ended = loop {
            tokio::select! {
                biased;
                ended = &mut ending => break ended,
                result = self.read_some(terminal) => if let Err(error) = result {
                    note(&format!("the terminal cannot be read: {error}"));
                    break ending.await;
                },
            }
        };
        let ended = ended.unwrap_or(Ending {
            code: 255,
            signal: None,
        });
        terminal.release();
        self.drain(terminal, Instant::now() + DRAIN_LIMIT).await;
        let run_id = self.status.borrow().run_id.clone();
        self.current.replace(None);
        self.exit_code.set(ended.code);
        self.output.complete.set(true);
        self.change(|status| {
            status.program = ProgramState::Exited {
                code: ended.code,
                signal: ended.signal,
            };
        });
        self.output.changed();
        // Nothing is awaited since the end was told, so that this turn comes before that of a next program or a release.
        let _turn = self.turn.lock().await;
        if self.status.borrow().run_id != run_id {
            return;
        }
        let left = self.end_leftovers(LEFTOVER_GRACE).await;
        if left > 0 {
            note(&format!("{left} processes could not be ended"));
        }
    }

    /// Waits for output, and for readers that have a say; then reads what is there, but not too much at a time.
    async fn read_some(&self, terminal: &Terminal) -> io::Result<()> {
        loop {
            let moved = self.output.read_on.notified();
            let Some(until) = self.output.hold_until(Instant::now()) else {
                break;
            };
            timeout_at(until, moved).await.ok();
        }
        terminal.readable().await?;
        self.read_until(terminal, READ_TURN)?;
        tokio::task::yield_now().await;
        Ok(())
    }

    /// Reads up to about `limit` bytes without waiting. Answers whether the end was reached.
    fn read_until(&self, terminal: &Terminal, limit: usize) -> io::Result<bool> {
        let mut total = 0;
        let result = loop {
            let mut ring = self.output.ring.borrow_mut();
            match ring.append_with(|room| terminal.read(room)) {
                Ok(0) => break Ok(true),
                Ok(count) => total += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
            if total >= limit {
                break Ok(false);
            }
        };
        if total > 0 {
            self.output.changed();
        }
        result
    }

    async fn drain(&self, terminal: &Terminal, deadline: Instant) {
        while Instant::now() < deadline {
            match self.read_until(terminal, READ_TURN) {
                Ok(false) => {}
                Ok(true) | Err(_) => return,
            }
            if timeout_at(deadline, terminal.readable()).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// The program that runs, or why there is none.
    pub(crate) fn running(&self) -> Result<Current, Refusal> {
        self.current
            .borrow()
            .clone()
            .ok_or_else(|| Refusal::new(code::CONFLICT, "no program runs"))
    }

    pub(crate) fn resize(&self, size: Size) -> Result<(), Refusal> {
        if size.cols == 0 || size.rows == 0 {
            return Err(Refusal::new(code::INVALID, "a terminal has no size 0"));
        }
        if let Some(current) = &*self.current.borrow() {
            current.terminal.resize(size).map_err(Refusal::internal)?;
        }
        if self.status.borrow().size != size {
            self.change(|status| status.size = size);
        }
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Refusal> {
        let current = self.running()?;
        if !self.children.is_ours(current.pid) {
            return Err(Refusal::new(code::CONFLICT, "no program runs"));
        }
        current
            .terminal
            .signal(signal, current.pid)
            .map_err(Refusal::internal)
    }

    /// Ends everything, and answers once the main program's end is told.
    pub(crate) async fn stop(self: Rc<Self>, grace: Duration) -> Result<Status, Refusal> {
        let left = {
            let _turn = self.turn.lock().await;
            self.end_all(grace).await
        };
        if left > 0 {
            let message = format!("{left} processes could not be ended");
            return Err(Refusal::new(code::INTERNAL, message));
        }
        let running = |status: &Status| matches!(status.program, ProgramState::Running { .. });
        let mut status = self.status.subscribe();
        status.wait_for(|status| !running(status)).await.ok();
        Ok(self.status())
    }

    /// Lets the keeper end. Waits until what the program left is ended.
    pub(crate) async fn release(self: Rc<Self>, run_id: &str) -> Result<(), Refusal> {
        let _turn = self.turn.lock().await;
        let status = self.status.borrow().clone();
        if status.run_id != run_id {
            let message = format!("the present run is {}, not {run_id}", status.run_id);
            return Err(Refusal::new(code::CONFLICT, message));
        }
        if matches!(status.program, ProgramState::Running { .. }) {
            return Err(Refusal::new(code::CONFLICT, "the program runs"));
        }
        self.released.cancel();
        Ok(())
    }
}
