//! One client of a console.

use super::control::{is_focus_report, is_terminal_answer};
use super::credit::Credit;
use super::hub::{Command, FRAME, Hub, INPUT_ROOM, Painted};
use super::log::{ClientId, Item};
use super::settings::ConsoleError;
use berth_keeper_protocol::Size;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

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
    /// The terminal has this size, and not by this client's wish.
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

/// What both halves share; the last one to go leaves the console.
#[derive(Debug)]
struct Member {
    hub: Arc<Hub>,
    id: ClientId,
    mode: Mode,
    credit: Mutex<Credit>,
    answered: Notify,
}

impl Member {
    fn credit(&self) -> MutexGuard<'_, Credit> {
        self.credit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.hub.leave(self.id);
    }
}

impl Attachment {
    pub(super) async fn join(hub: &Arc<Hub>, options: JoinOptions) -> Result<Self, ConsoleError> {
        if hub.closed.is_cancelled() {
            return Err(ConsoleError::Closed);
        }
        let member = Arc::new(Member {
            hub: Arc::clone(hub),
            id: hub.new_client(),
            mode: options.mode,
            credit: Mutex::default(),
            answered: Notify::new(),
        });
        if options.mode == Mode::Write {
            let mut state = hub.state();
            let wanted = state.policy.join(member.id, options.size);
            if let Some(wanted) = wanted {
                state.wanted = Some(wanted);
                // While the program runs the terminal has the new size before it is painted; the program hears it next.
                if state.running && state.size != wanted {
                    state.size = wanted;
                    let by = Some(member.id);
                    state.log.push(Item::Resize { size: wanted, by }, true);
                }
                drop(state);
                hub.announce();
                hub.tell(Command::Size);
            }
        }
        let mut output = ClientOutput {
            tip: hub.subscribe(),
            member: Arc::clone(&member),
            size: options.size,
            scrollback: options.scrollback,
            control: options.control,
            saw_end_line: false,
            painting: None,
            frames: VecDeque::new(),
            queue: VecDeque::new(),
            after_paint: VecDeque::new(),
        };
        let painted = output.paint().await?;
        output.take_up(painted);
        Ok(Self {
            output,
            input: ClientInput { member },
        })
    }
}

/// What the client is to be sent.
#[derive(Debug)]
pub struct ClientOutput {
    member: Arc<Member>,
    tip: watch::Receiver<u64>,
    size: Option<Size>,
    scrollback: usize,
    control: bool,
    /// A line that no other client has stands on this one's screen.
    saw_end_line: bool,
    painting: Option<JoinHandle<Result<Painted, ConsoleError>>>,
    /// The rest of a paint.
    frames: VecDeque<Bytes>,
    queue: VecDeque<Outgoing>,
    /// To be sent when the paint is.
    after_paint: VecDeque<Outgoing>,
}

/// What the log has for the client.
enum Taken {
    Bytes(Bytes),
    Queued,
    Nothing,
    /// What it missed is gone, or what is on its screen is no longer right.
    Lost,
}

impl ClientOutput {
    /// The next thing to send; `None` when the console was closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<Outgoing> {
        loop {
            if let Some(outgoing) = self.queue.pop_front() {
                return Some(outgoing);
            }
            if self.member.hub.closed.is_cancelled() {
                return None;
            }
            if self.painting.is_some() {
                match self.paint().await {
                    Ok(painted) => self.take_up(painted),
                    Err(error) => {
                        tracing::warn!(%error, "a client cannot be painted anew");
                        return None;
                    }
                }
            }
            let room = self.member.credit().room();
            if room == 0 {
                self.wait_for_room().await;
                continue;
            }
            if let Some(frame) = self.frames.pop_front() {
                self.member
                    .hub
                    .state()
                    .progressed(self.member.id, frame.len());
                return Some(self.spend(frame));
            }
            if let Some(outgoing) = self.after_paint.pop_front() {
                return Some(match outgoing {
                    Outgoing::Bytes(bytes) => self.spend(bytes),
                    other => other,
                });
            }
            self.tip.borrow_and_update();
            match self.take(usize::try_from(room).unwrap_or(FRAME).min(FRAME)) {
                Taken::Bytes(bytes) => return Some(self.spend(bytes)),
                Taken::Queued => {}
                Taken::Lost => self.begin_paint(),
                Taken::Nothing => {
                    let closed = self.member.hub.closed.clone();
                    tokio::select! {
                        () = closed.cancelled() => {}
                        // The sender lives in the hub, which this half keeps.
                        _ = self.tip.changed() => {}
                    }
                }
            }
        }
    }

    async fn wait_for_room(&self) {
        tokio::select! {
            () = self.member.answered.notified() => {}
            () = self.member.hub.closed.cancelled() => {}
        }
    }

    /// Counts the bytes and puts their ping behind them.
    fn spend(&mut self, bytes: Bytes) -> Outgoing {
        let ping = self.member.credit().spend(bytes.len(), Instant::now());
        if let Some(ping) = ping {
            self.queue.push_front(Outgoing::Ping(ping));
        }
        Outgoing::Bytes(bytes)
    }

    fn begin_paint(&mut self) {
        let hub = Arc::clone(&self.member.hub);
        let (id, types, lines) = (
            self.member.id,
            self.member.mode == Mode::Write,
            self.scrollback,
        );
        self.frames.clear();
        self.after_paint.clear();
        self.painting = Some(tokio::task::spawn_blocking(move || {
            hub.paint_for(id, types, lines)
        }));
    }

    /// Waits for the paint that was begun, or begins it. Cancel-safe.
    async fn paint(&mut self) -> Result<Painted, ConsoleError> {
        if self.painting.is_none() {
            self.begin_paint();
        }
        let Some(painting) = &mut self.painting else {
            return Err(ConsoleError::Closed);
        };
        let painted = painting
            .await
            .map_err(|error| ConsoleError::State(error.to_string()));
        self.painting = None;
        painted?
    }

    fn take_up(&mut self, painted: Painted) {
        self.frames = painted.frames.into();
        self.saw_end_line = false;
        if self.control {
            if self.size.is_some_and(|size| size != painted.size) {
                self.queue
                    .push_back(Outgoing::Notice(Notice::Resize(painted.size)));
            }
            self.after_paint
                .push_back(Outgoing::Notice(Notice::ReplayEnd));
        }
        if let Some(exit) = painted.exit {
            if self.control {
                self.after_paint.push_back(Outgoing::Notice(exit.notice()));
            } else {
                self.saw_end_line = true;
                self.after_paint.push_back(Outgoing::Bytes(exit.line()));
            }
        }
    }

    /// Takes what is next in the log, at most about so many bytes.
    fn take(&mut self, most: usize) -> Taken {
        let hub = Arc::clone(&self.member.hub);
        let mut state = hub.state();
        let Some(client) = state.clients.get(&self.member.id) else {
            return Taken::Lost;
        };
        let mut place = client.place;
        if place.number < state.log.begin().number {
            return Taken::Lost;
        }
        let mut first: Option<Bytes> = None;
        let mut joined = BytesMut::new();
        while let Some(entry) = state.log.at(place) {
            let bytes = match &entry.item {
                Item::Bytes(bytes) => bytes,
                Item::Restarted(bytes) if !self.saw_end_line => bytes,
                _ if first.is_some() => break,
                Item::Resize { size, by } => {
                    if self.control && *by != Some(self.member.id) {
                        self.queue
                            .push_back(Outgoing::Notice(Notice::Resize(*size)));
                    }
                    place = place.after(entry);
                    continue;
                }
                Item::Exit(exit) => {
                    if self.control {
                        self.queue.push_back(Outgoing::Notice(exit.notice()));
                    } else {
                        self.saw_end_line = true;
                        self.after_paint.push_back(Outgoing::Bytes(exit.line()));
                    }
                    place = place.after(entry);
                    state.moved(self.member.id, place, 0);
                    return Taken::Queued;
                }
                Item::Restarted(_) | Item::Gap { .. } => return Taken::Lost,
            };
            // A notice goes before the bytes that come after it.
            if !self.queue.is_empty() {
                break;
            }
            match &first {
                None => first = Some(bytes.clone()),
                Some(one) => {
                    let length = if joined.is_empty() {
                        one.len()
                    } else {
                        joined.len()
                    };
                    if length + bytes.len() > most {
                        break;
                    }
                    if joined.is_empty() {
                        joined.reserve(most);
                        joined.extend_from_slice(one);
                    }
                    joined.extend_from_slice(bytes);
                }
            }
            place = place.after(entry);
        }
        let bytes = if joined.is_empty() {
            first.unwrap_or_default()
        } else {
            joined.freeze()
        };
        state.moved(self.member.id, place, bytes.len());
        drop(state);
        hub.progress.notify_one();
        if !bytes.is_empty() {
            Taken::Bytes(bytes)
        } else if self.queue.is_empty() {
            Taken::Nothing
        } else {
            Taken::Queued
        }
    }
}

impl Drop for ClientOutput {
    fn drop(&mut self) {
        if let Some(painting) = &self.painting {
            painting.abort();
        }
    }
}

/// What the client does.
#[derive(Debug)]
pub struct ClientInput {
    member: Arc<Member>,
}

impl ClientInput {
    /// Types. Waits while too much of this session's input is not yet taken. A client that may not type is not heard, nor
    /// is any while the program has ended, nor a terminal's answer to a query by any but the client whose size holds.
    ///
    /// # Errors
    /// The console was closed.
    pub async fn type_bytes(&self, bytes: Bytes) -> Result<(), ConsoleError> {
        let hub = &self.member.hub;
        if hub.closed.is_cancelled() {
            return Err(ConsoleError::Closed);
        }
        if self.member.mode == Mode::Read || bytes.is_empty() {
            return Ok(());
        }
        {
            let mut state = hub.state();
            if state.exit.is_some() {
                return Ok(());
            }
            if is_terminal_answer(&bytes) {
                if state.policy.holder() != Some(self.member.id) {
                    return Ok(());
                }
            } else if !is_focus_report(&bytes)
                && let Some(size) = state.policy.typed(self.member.id)
            {
                state.wanted = Some(size);
            }
        }
        let count = u32::try_from(bytes.len().min(INPUT_ROOM)).unwrap_or(u32::MAX);
        let room = tokio::select! {
            biased;
            () = hub.closed.cancelled() => return Err(ConsoleError::Closed),
            room = Arc::clone(&hub.input_room).acquire_many_owned(count) => room.ok(),
        };
        hub.tell_in_turn(Command::Input { bytes, _room: room })
            .await;
        Ok(())
    }

    /// The client has another size. Not heard of a client that may only watch.
    pub fn resize(&self, size: Size) {
        if self.member.mode == Mode::Read {
            return;
        }
        let hub = &self.member.hub;
        let wanted = {
            let mut state = hub.state();
            let wanted = state.policy.resized(self.member.id, size);
            if wanted.is_some() {
                state.wanted = wanted;
            }
            wanted
        };
        if wanted.is_some() {
            hub.tell(Command::Size);
        }
    }

    /// A pong came back with these bytes.
    pub fn acknowledge(&self, payload: &[u8]) {
        if self.member.credit().answer(payload, Instant::now()) {
            self.member.answered.notify_one();
        }
    }
}
