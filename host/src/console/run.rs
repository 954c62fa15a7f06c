//! What runs while a program is connected: reading its output, typing to it, and keeping the terminal's state up to date.
//! Three tasks, so that none of them waits for another.

use super::hub::{Command, Hub, PARSE_BACKLOG, Room};
use super::log::Item;
use super::settings::ConsoleError;
use super::source::{Source, SourceError};
use super::{RunEnd, STALL_LIMIT};
use berth_keeper_protocol::Size;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// How long the program waits for us before it goes on without. Much more than [`STALL_LIMIT`], so that it is ours to say
/// which client has no say.
const PACE: Duration = Duration::from_secs(2);
/// How long the rest of a character is awaited.
const HOLD_LIMIT: Duration = Duration::from_secs(1);
/// After so long without output the terminal's state is brought up to date.
const QUIET: Duration = Duration::from_millis(50);
/// After so long its grid is put away.
const REST: Duration = Duration::from_secs(2);
/// Sizes follow one another no faster.
const SIZE_PAUSE: Duration = Duration::from_millis(50);
/// Input that waits is sent together up to this.
const INPUT_PIECE: usize = 64 * 1024;
/// Where output begins in the midst of a line, this much is passed over at most to find a line's begin.
const LINE_SEARCH: usize = 64 * 1024;

const _: () = assert!(PACE.as_millis() > 4 * STALL_LIMIT.as_millis());

/// Reads, types and parses until the output ends.
pub(super) async fn run(
    hub: &Arc<Hub>,
    source: Arc<dyn Source>,
    cancel: CancellationToken,
) -> Result<RunEnd, ConsoleError> {
    let receiver = Arc::clone(&hub.receiver).lock_owned().await;
    let size = source.size().await.map_err(ConsoleError::Source)?;
    adopt_size(hub, size);
    let running = Running::begin(hub);
    let mut tasks = JoinSet::new();
    tasks.spawn(read(Arc::clone(hub), Arc::clone(&source)));
    tasks.spawn(type_in(Arc::clone(hub), source, receiver, size));
    tasks.spawn(keep_state(Arc::clone(hub)));
    let ended = tokio::select! {
        biased;
        () = cancel.cancelled() => Ok(RunEnd::Cancelled),
        () = hub.closed.cancelled() => Ok(RunEnd::Cancelled),
        ended = tasks.join_next() => match ended {
            Some(Ok(ended)) => ended.map_err(ConsoleError::Source),
            Some(Err(error)) => Err(ConsoleError::State(error.to_string())),
            None => Ok(RunEnd::Cancelled),
        },
    };
    tasks.shutdown().await;
    hub.release_held();
    drop(running);
    ended
}

/// Marks the hub as running for as long as it lives.
struct Running<'a>(&'a Hub);

impl<'a> Running<'a> {
    fn begin(hub: &'a Hub) -> Self {
        hub.state().running = true;
        hub.work.notify_one();
        Self(hub)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.state().running = false;
    }
}

/// The terminal's own size is the truth at the begin; what a client wants follows.
fn adopt_size(hub: &Hub, size: Size) {
    let mut state = hub.state();
    if state.size == size {
        return;
    }
    state.size = size;
    drop(state);
    hub.push(Item::Resize { size, by: None });
}

async fn read(hub: Arc<Hub>, source: Arc<dyn Source>) -> Result<RunEnd, SourceError> {
    loop {
        let from = hub.next_offset();
        let mut output = source.output(from, PACE).await?;
        let mut line_begin = None;
        if output.first_offset != from {
            hub.gap(output.first_offset);
            line_begin = (output.first_offset > 0).then_some(LINE_SEARCH);
        }
        loop {
            make_room(&hub).await;
            let next = if !hub.holds_back() {
                output.bytes.next().await
            } else if let Ok(next) = timeout(HOLD_LIMIT, output.bytes.next()).await {
                next
            } else {
                hub.release_held();
                continue;
            };
            match next {
                Some(Ok(bytes)) => match line_begin {
                    None => hub.append(bytes),
                    Some(left) => line_begin = skip_to_line(&hub, bytes, left),
                },
                Some(Err(SourceError::Behind)) => {
                    debug!("the keeper no longer has the next bytes");
                    break;
                }
                Some(Err(error)) => return Err(error),
                None => return Ok(RunEnd::ProgramEnded),
            }
        }
    }
}

/// Passes over the rest of a line; what is passed over is a gap too. Answers how much more may be.
fn skip_to_line(hub: &Hub, mut bytes: Bytes, left: usize) -> Option<usize> {
    let offset = hub.next_offset();
    let end = memchr::memchr(b'\n', &bytes).map(|end| end + 1);
    let (skip, left) = match end {
        Some(end) => (end, None),
        None if bytes.len() < left => (bytes.len(), Some(left - bytes.len())),
        None => (0, None),
    };
    let rest = bytes.split_off(skip);
    hub.gap(offset + skip as u64);
    if !rest.is_empty() {
        hub.append(rest);
    }
    left
}

async fn make_room(hub: &Hub) {
    loop {
        match hub.room() {
            Room::Free => return,
            Room::Wait => hub.progress.notified().await,
            Room::Until(until) => {
                let _ = timeout_at(until.into(), hub.progress.notified()).await;
            }
        }
    }
}

async fn type_in(
    hub: Arc<Hub>,
    source: Arc<dyn Source>,
    mut receiver: OwnedMutexGuard<mpsc::Receiver<Command>>,
    mut size: Size,
) -> Result<RunEnd, SourceError> {
    let mut next_size = Instant::now();
    let mut left = None;
    loop {
        let wants = hub.state().wanted.is_some_and(|wanted| wanted != size);
        let command = match left.take() {
            Some(command) => Some(command),
            None if wants => tokio::select! {
                biased;
                command = receiver.recv() => command,
                () = sleep_until(next_size) => Some(Command::Size),
            },
            None => receiver.recv().await,
        };
        // The hub keeps a sender, so the end never comes.
        let Some(command) = command else {
            return std::future::pending().await;
        };
        match command {
            Command::Size => {
                if wants && Instant::now() < next_size {
                    continue;
                }
                set_size(&hub, &*source, &mut size).await?;
                next_size = Instant::now() + SIZE_PAUSE;
            }
            Command::Input { bytes, _room: room } => {
                // A key that comes from a client of another size finds the terminal in that size.
                set_size(&hub, &*source, &mut size).await?;
                let mut rooms = vec![room];
                let mut input = bytes;
                while input.len() < INPUT_PIECE {
                    match receiver.try_recv() {
                        Ok(Command::Input { bytes, _room: room })
                            if input.len() + bytes.len() <= INPUT_PIECE =>
                        {
                            let mut joined = BytesMut::from(&input[..]);
                            joined.extend_from_slice(&bytes);
                            input = joined.freeze();
                            rooms.push(room);
                        }
                        Ok(other) => {
                            left = Some(other);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                go_on(source.input(input).await)?;
            }
        }
    }
}

/// Brings the program's terminal to the size that is wanted.
async fn set_size(hub: &Hub, source: &dyn Source, size: &mut Size) -> Result<(), SourceError> {
    let wanted = {
        let mut state = hub.state();
        let Some(wanted) = state.wanted.filter(|wanted| wanted != size) else {
            return Ok(());
        };
        if state.size != wanted {
            state.size = wanted;
            let by = state.policy.holder();
            state.log.push(Item::Resize { size: wanted, by }, true);
        }
        wanted
    };
    hub.announce();
    hub.work.notify_one();
    *size = wanted;
    go_on(source.resize(wanted).await)
}

/// What was refused is not tried again; only a lost connection ends the typing.
fn go_on(result: Result<(), SourceError>) -> Result<(), SourceError> {
    match result {
        Err(SourceError::Lost(reason)) => Err(SourceError::Lost(reason)),
        Err(error) => {
            debug!(%error, "the program's terminal refused");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Keeps the terminal's state near the log's end, at leisure.
async fn keep_state(hub: Arc<Hub>) -> Result<RunEnd, SourceError> {
    let mut rested = false;
    loop {
        let backlog = hub.state().backlog();
        if backlog == 0 {
            if rested {
                hub.work.notified().await;
            } else if timeout(REST, hub.work.notified()).await.is_err() {
                block(&hub, |hub| hub.with_vt(|_, vt| vt.rest())).await;
                rested = true;
            }
            continue;
        }
        rested = false;
        if backlog < PARSE_BACKLOG && !hub.take_urgent() {
            wait_for_quiet(&hub).await;
        }
        block(&hub, |hub| hub.with_vt(|_, _| ())).await;
    }
}

/// Comes back when nothing came for a while, much came, or it is urgent.
async fn wait_for_quiet(hub: &Hub) {
    loop {
        let end = hub.state().log.end();
        tokio::select! {
            () = hub.work.notified() => {
                if hub.take_urgent() || hub.state().backlog() >= PARSE_BACKLOG {
                    return;
                }
            }
            () = sleep(QUIET) => {
                let state = hub.state();
                if state.log.end() == end || state.backlog() >= PARSE_BACKLOG {
                    return;
                }
            }
        }
    }
}

async fn block<T: Send + 'static>(
    hub: &Arc<Hub>,
    act: impl FnOnce(&Hub) -> Result<T, ConsoleError> + Send + 'static,
) {
    if let Err(error) = on_blocking_thread(hub, act).await {
        tracing::warn!(%error, "a terminal's state could not be kept up to date");
        // Not again at once: what failed may fail again.
        sleep(REST).await;
    }
}

/// Does what takes time where it holds up nobody.
pub(super) async fn on_blocking_thread<T: Send + 'static>(
    hub: &Arc<Hub>,
    act: impl FnOnce(&Hub) -> Result<T, ConsoleError> + Send + 'static,
) -> Result<T, ConsoleError> {
    let hub = Arc::clone(hub);
    tokio::task::spawn_blocking(move || act(&hub))
        .await
        .map_err(|error| ConsoleError::State(error.to_string()))?
}
