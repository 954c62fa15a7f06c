//! Programs beside the main one, each with pipes or a terminal of its own.
//!
//! An exec lives as long as somebody is joined to it: one that nobody joins within [`JOIN_LIMIT`], or whose stream is
//! dropped, is killed with all that it started.

use crate::command::{CannotStart, prepare};
use crate::http::{Answer, Gone, Refusal, code, next};
use crate::keeper::Keeper;
use crate::sys::Ending;
use crate::terminal::Terminal;
use crate::tree;
use berth_keeper_protocol::{ExecFrame, ExecStarted, Size, StartExec};
use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};

const JOIN_LIMIT: Duration = Duration::from_secs(10);
/// How long output is awaited after the program's end, where something else holds its pipes.
const DRAIN_LIMIT: Duration = Duration::from_millis(200);
/// A pipe holds no more than this, so what comes after it was not the program's.
const PIPE_LIMIT: usize = 1 << 20;
const PIECE: usize = 16 * 1024;
const HEAD: usize = 5;

/// One exec.
#[derive(Debug)]
pub(crate) struct Exec {
    pid: i32,
    terminal: Option<Rc<Terminal>>,
    /// Taken by the one who joins.
    channels: RefCell<Option<Channels>>,
}

#[derive(Debug)]
struct Channels {
    input: Input,
    outputs: Vec<(ExecFrame, Source)>,
    ending: oneshot::Receiver<Ending>,
}

#[derive(Debug)]
enum Input {
    Pipe(pipe::Sender),
    Terminal(Rc<Terminal>),
    Ended,
}

#[derive(Debug)]
enum Source {
    Pipe(pipe::Receiver),
    Terminal(Rc<Terminal>),
}

impl Exec {
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }
}

impl Keeper {
    pub(crate) fn start_exec(self: &Rc<Self>, start: &StartExec) -> Result<ExecStarted, Refusal> {
        let exec = match start.terminal {
            Some(size) => self.spawn_on_terminal(start, size),
            None => self.spawn_with_pipes(start),
        };
        let exec = Rc::new(exec.map_err(|error| match error {
            CannotStart::Nothing => Refusal::new(code::INVALID, error.to_string()),
            _ => Refusal::new(code::NOT_FOUND, error.to_string()),
        })?);
        let mut execs = self.execs.borrow_mut();
        self.last_exec.set(self.last_exec.get() + 1);
        let id = self.last_exec.get().to_string();
        let pid = exec.pid.cast_unsigned();
        execs.insert(id.clone(), exec);
        let (keeper, name) = (Rc::clone(self), id.clone());
        self.tasks.spawn_local(async move {
            tokio::select! {
                () = sleep(JOIN_LIMIT) => {}
                () = keeper.released.cancelled() => {}
            }
            let exec = keeper.execs.borrow().get(&name).cloned();
            if exec.is_some_and(|exec| exec.channels.borrow().is_some()) {
                drop(Joined { keeper, name });
            }
        });
        Ok(ExecStarted { id, pid })
    }

    fn spawn_with_pipes(&self, start: &StartExec) -> Result<Exec, CannotStart> {
        let prepared = prepare(&start.program, &self.settings.session, &self.settings.state)?;
        let name = prepared.argv[0].clone();
        let mut child = prepared.spawn(Stdio::piped)?;
        let pid = child.id().cast_signed();
        let ending = self.children.adopt(pid);
        let pipes = (|| {
            let missing = || io::Error::other("a pipe is missing");
            let input = OwnedFd::from(child.stdin.take().ok_or_else(missing)?);
            let stdout = OwnedFd::from(child.stdout.take().ok_or_else(missing)?);
            let stderr = OwnedFd::from(child.stderr.take().ok_or_else(missing)?);
            io::Result::Ok(Channels {
                input: Input::Pipe(pipe::Sender::from_owned_fd(input)?),
                outputs: vec![
                    (
                        ExecFrame::Stdout,
                        Source::Pipe(pipe::Receiver::from_owned_fd(stdout)?),
                    ),
                    (
                        ExecFrame::Stderr,
                        Source::Pipe(pipe::Receiver::from_owned_fd(stderr)?),
                    ),
                ],
                ending,
            })
        })();
        let channels = pipes.map_err(|error| {
            tree::send(pid, Signal::SIGKILL);
            CannotStart::Failed {
                program: name,
                reason: error.to_string(),
            }
        })?;
        Ok(Exec {
            pid,
            terminal: None,
            channels: RefCell::new(Some(channels)),
        })
    }

    fn spawn_on_terminal(&self, start: &StartExec, size: Size) -> Result<Exec, CannotStart> {
        let (current, ending) = self.spawn_main(&start.program, size)?;
        let terminal = current.terminal;
        let channels = Channels {
            input: Input::Terminal(Rc::clone(&terminal)),
            outputs: vec![(ExecFrame::Stdout, Source::Terminal(Rc::clone(&terminal)))],
            ending,
        };
        Ok(Exec {
            pid: current.pid,
            terminal: Some(terminal),
            channels: RefCell::new(Some(channels)),
        })
    }

    fn exec(&self, id: &str) -> Result<Rc<Exec>, Refusal> {
        let found = self.execs.borrow().get(id).cloned();
        found.ok_or_else(|| Refusal::new(code::NOT_FOUND, format!("there is no exec {id}")))
    }

    pub(crate) fn resize_exec(&self, id: &str, size: Size) -> Result<(), Refusal> {
        let exec = self.exec(id)?;
        let none = || Refusal::new(code::CONFLICT, format!("exec {id} has no terminal"));
        let terminal = exec.terminal.as_ref().ok_or_else(none)?;
        terminal.resize(size).map_err(Refusal::internal)
    }

    pub(crate) fn signal_exec(&self, id: &str, signal: Signal) -> Result<(), Refusal> {
        let exec = self.exec(id)?;
        if !self.children.is_ours(exec.pid) {
            return Err(Refusal::new(code::CONFLICT, format!("exec {id} has ended")));
        }
        let sent = match &exec.terminal {
            Some(terminal) => terminal.signal(signal, exec.pid),
            None => killpg(Pid::from_raw(exec.pid), signal),
        };
        sent.map_err(Refusal::internal)
    }

    /// Joins an exec: what comes is typed, what it says is answered, to its end.
    pub(crate) async fn join_exec(
        self: &Rc<Self>,
        id: &str,
        body: &mut RecvStream,
        answer: &Answer,
    ) -> Result<(), Refusal> {
        let exec = self.exec(id)?;
        let taken = || Refusal::new(code::CONFLICT, format!("exec {id} is joined already"));
        let channels = exec.channels.take().ok_or_else(taken)?;
        let _joined = Joined {
            keeper: Rc::clone(self),
            name: id.to_owned(),
        };
        if answer.begin(&[]).is_err() {
            return Ok(());
        }
        let feeding = async {
            feed(channels.input, body).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = feeding => {}
            code = speak(channels.outputs, channels.ending, exec.terminal.as_deref(), answer) => {
                if let Ok(code) = code {
                    answer.finish(frame(ExecFrame::Exit, &code.to_be_bytes()));
                }
            }
        }
        Ok(())
    }
}

/// Whoever is joined to an exec; when it is gone, so is the exec.
struct Joined {
    keeper: Rc<Keeper>,
    name: String,
}

impl Drop for Joined {
    fn drop(&mut self) {
        let Some(exec) = self.keeper.execs.borrow_mut().remove(&self.name) else {
            return;
        };
        if self.keeper.children.is_ours(exec.pid) {
            tree::kill_all(&|| {
                let mut all = tree::below(exec.pid, &[]);
                all.push(exec.pid);
                all
            });
            // What it has orphaned is mostly still in its group.
            killpg(Pid::from_raw(exec.pid), Signal::SIGKILL).ok();
        }
    }
}

/// Types what comes, and ends the input at its end. One that does not listen misses it.
async fn feed(mut input: Input, body: &mut RecvStream) {
    while let Ok(Some(bytes)) = next(body).await {
        let fed = match &mut input {
            Input::Pipe(pipe) => pipe.write_all(&bytes).await,
            Input::Terminal(terminal) => terminal.write_all(&bytes).await,
            Input::Ended => Ok(()),
        };
        if fed.is_err() {
            input = Input::Ended;
        }
    }
    if let Input::Terminal(terminal) = &input {
        terminal.end_input().await.ok();
    }
}

/// Answers all that it says, and then its exit code.
async fn speak(
    outputs: Vec<(ExecFrame, Source)>,
    ending: oneshot::Receiver<Ending>,
    terminal: Option<&Terminal>,
    answer: &Answer,
) -> Result<i32, Gone> {
    let (tell, ended) = watch::channel(None);
    let waiting = async {
        let code = ending.await.map_or(255, |ending| ending.code);
        if let Some(terminal) = terminal {
            terminal.release();
        }
        tell.send_replace(Some(Instant::now()));
        code
    };
    let pumps = outputs
        .into_iter()
        .map(|(kind, source)| pump(source, kind, answer, ended.clone()));
    let pumping = futures_util::future::try_join_all(pumps);
    let (code, pumped) = tokio::join!(waiting, pumping);
    pumped.map(|_| code)
}

async fn pump(
    source: Source,
    kind: ExecFrame,
    answer: &Answer,
    mut ended: watch::Receiver<Option<Instant>>,
) -> Result<(), Gone> {
    let mut after_end = 0;
    loop {
        let over = *ended.borrow_and_update();
        if let Some(at) = over {
            if timeout_at(at + DRAIN_LIMIT, source.readable())
                .await
                .is_err()
            {
                return Ok(());
            }
        } else {
            tokio::select! {
                _ = source.readable() => {}
                _ = ended.changed() => continue,
            }
        }
        let room = answer.room(PIECE).await?;
        let mut buffer = BytesMut::zeroed(HEAD + room);
        match source.read(&mut buffer[HEAD..]) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                buffer.truncate(HEAD + count);
                buffer[..HEAD].copy_from_slice(&head(kind, count));
                answer.send(buffer.freeze())?;
                after_end += if over.is_some() { count } else { 0 };
                if after_end > PIPE_LIMIT {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Ok(()),
        }
        tokio::task::yield_now().await;
    }
}

impl Source {
    async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Pipe(pipe) => pipe.readable().await,
            Self::Terminal(terminal) => terminal.readable().await,
        }
    }

    fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Pipe(pipe) => pipe.try_read(room),
            Self::Terminal(terminal) => terminal.read(room),
        }
    }
}

fn head(kind: ExecFrame, count: usize) -> [u8; HEAD] {
    let [a, b, c, d] = u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes();
    [kind as u8, a, b, c, d]
}

fn frame(kind: ExecFrame, body: &[u8]) -> Bytes {
    let mut frame = head(kind, body.len()).to_vec();
    frame.extend_from_slice(body);
    frame.into()
}
