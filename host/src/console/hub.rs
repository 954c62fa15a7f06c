//! What a console's parts share: the log and who stands where in it, and the terminal's state, which follows.

use super::log::{ClientId, Entry, ExitNote, Item, Log, Place};
use super::settings::{ConsoleError, ConsoleSettings};
use super::size::SizePolicy;
use super::utf8::incomplete_suffix;
use super::vt::{History, Vt};
use super::{STALL_LIMIT, saved};
use berth_keeper_protocol::Size;
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// The largest piece in the log, and the largest frame to a client.
pub(super) const FRAME: usize = 32 * 1024;
/// A client with a say that has more than this ahead of it makes reading wait.
const PACE: u64 = 64 * 1024;
/// A client that does not move by so much within [`STALL_LIMIT`] loses its say.
const PACE_STEP: u64 = 32 * 1024;
/// How far back the log reaches for a client; one further behind is painted anew.
const CLIENT_BACKLOG: u64 = 1024 * 1024;
/// The terminal's state is brought up to date when so much is ahead of it.
pub(super) const PARSE_BACKLOG: u64 = 1024 * 1024;
/// Reading waits when the terminal's state is this far behind.
const MAX_PARSE_BACKLOG: u64 = 8 * 1024 * 1024;
/// What the emulator reads at once.
const PARSE_PIECE: usize = 256 * 1024;
/// How much input waits for the program.
pub(super) const INPUT_ROOM: usize = 1024 * 1024;
const COMMANDS: usize = 1024;

/// What the program's terminal is to be told.
#[derive(Debug)]
pub(super) enum Command {
    Input {
        bytes: Bytes,
        /// Gives back the room that the bytes took.
        _room: Option<OwnedSemaphorePermit>,
    },
    /// Look at the wanted size.
    Size,
}

/// One client as the log sees it.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) place: Place,
    pub(super) types: bool,
    /// Reading waits for it.
    has_say: bool,
    /// Since when, and at what progress, it has been behind.
    behind: Option<(Instant, u64)>,
    pub(super) progress: u64,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) log: Log,
    /// The begin of a character whose rest has not come yet.
    held: Vec<u8>,
    /// How far the terminal's state is.
    pub(super) parsed: Place,
    pub(super) clients: BTreeMap<ClientId, Client>,
    next_client: ClientId,
    pub(super) policy: SizePolicy,
    /// The size at the log's end.
    pub(super) size: Size,
    /// The size that a client asked for last.
    pub(super) wanted: Option<Size>,
    /// How the program ended, and the place after that.
    pub(super) exit: Option<(ExitNote, Place)>,
    pub(super) running: bool,
    /// Somebody waits for an answer that only the terminal's state can give.
    urgent: bool,
    saved: Option<Place>,
}

#[derive(Debug)]
pub(super) enum Slot {
    /// As it was saved.
    Stored,
    Loaded(Box<Vt>),
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Hub {
    settings: ConsoleSettings,
    state: Mutex<State>,
    slot: Mutex<Slot>,
    /// Moves when the log grows.
    tip: watch::Sender<u64>,
    /// A client or the terminal's state moved on.
    pub(super) progress: Notify,
    /// The terminal's state has work.
    pub(super) work: Notify,
    pub(super) closed: CancellationToken,
    commands: mpsc::Sender<Command>,
    pub(super) receiver: Arc<tokio::sync::Mutex<mpsc::Receiver<Command>>>,
    pub(super) input_room: Arc<Semaphore>,
}

/// Whether reading may go on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room {
    Free,
    /// Look again when something moved, at the latest then.
    Until(Instant),
    /// Look again when something moved.
    Wait,
}

impl Hub {
    pub(super) fn open(settings: ConsoleSettings) -> Result<Self, ConsoleError> {
        let failed = |source| ConsoleError::Folder {
            path: settings.folder.clone(),
            source,
        };
        std::fs::create_dir_all(&settings.folder).map_err(failed)?;
        let head = match saved::read_head(&settings.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                warn!(folder = %settings.folder.display(), %error, "a saved terminal is damaged; it begins empty");
                saved::put_aside(&settings.folder).map_err(failed)?;
                None
            }
            other => other.map_err(failed)?,
        };
        let log = Log::starting_at(head.as_ref().map_or(0, |head| head.offset));
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let size = head.as_ref().map_or(settings.size, saved::Head::size);
        let slot = match &head {
            Some(_) => Slot::Stored,
            None => Slot::Loaded(Box::new(Vt::new(size, new_history(&settings)))),
        };
        let place = log.end();
        Ok(Self {
            settings,
            state: Mutex::new(State {
                held: Vec::new(),
                parsed: place,
                clients: BTreeMap::new(),
                next_client: 1,
                policy: SizePolicy::default(),
                size,
                wanted: None,
                exit: head.and_then(|head| head.exit).map(|exit| (exit, place)),
                running: false,
                urgent: false,
                saved: Some(place),
                log,
            }),
            slot: Mutex::new(slot),
            tip: watch::Sender::new(0),
            progress: Notify::new(),
            work: Notify::new(),
            closed: CancellationToken::new(),
            commands,
            receiver: Arc::new(tokio::sync::Mutex::new(receiver)),
            input_room: Arc::new(Semaphore::new(INPUT_ROOM)),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.tip.subscribe()
    }

    /// Tells clients that the log grew.
    pub(super) fn announce(&self) {
        self.tip.send_modify(|tip| *tip += 1);
    }

    /// The number of the next output byte to ask for.
    pub(super) fn next_offset(&self) -> u64 {
        let state = self.state();
        state.log.end().offset + state.held.len() as u64
    }

    /// Takes output of the program's.
    pub(super) fn append(&self, bytes: Bytes) {
        let looks = bytes.len() < 4096 && memchr::memchr(0x1b, &bytes).is_some();
        let mut state = self.state();
        let whole = state.hold_back(bytes);
        if whole.is_empty() {
            return;
        }
        let before = state.backlog();
        let attended = state.is_attended();
        push_pieces(&mut state.log, whole, attended);
        state.forget();
        let after = state.backlog();
        let urgent = looks && !attended;
        state.urgent |= urgent;
        drop(state);
        self.announce();
        if before == 0 || urgent || (before < PARSE_BACKLOG && after >= PARSE_BACKLOG) {
            self.work.notify_one();
        }
    }

    /// Lets the begin of a character go whose rest did not come.
    pub(super) fn release_held(&self) {
        let mut state = self.state();
        if state.held.is_empty() {
            return;
        }
        let held = Bytes::from(std::mem::take(&mut state.held));
        let attended = state.is_attended();
        state.log.push(Item::Bytes(held), attended);
        drop(state);
        self.announce();
        self.work.notify_one();
    }

    pub(super) fn holds_back(&self) -> bool {
        !self.state().held.is_empty()
    }

    /// Adds what is no output.
    pub(super) fn push(&self, item: Item) {
        let mut state = self.state();
        state.log.push(item, true);
        drop(state);
        self.announce();
        self.work.notify_one();
    }

    /// Output up to `next` is missing.
    pub(super) fn gap(&self, next: u64) {
        self.state().held.clear();
        self.push(Item::Gap { next });
    }

    /// Whether more output may be read now.
    pub(super) fn room(&self) -> Room {
        let mut state = self.state();
        if state.backlog() > MAX_PARSE_BACKLOG {
            return Room::Wait;
        }
        let end = state.log.end();
        let mut latest: Option<Instant> = None;
        for client in state.clients.values_mut().filter(|client| client.has_say) {
            if end.since(client.place) <= PACE {
                client.behind = None;
                continue;
            }
            let now = Instant::now();
            let since = match client.behind {
                Some((since, progress)) if client.progress < progress + PACE_STEP => since,
                _ => {
                    client.behind = Some((now, client.progress));
                    now
                }
            };
            let until = since + STALL_LIMIT;
            if until <= now {
                client.has_say = false;
                client.behind = None;
            } else {
                latest = Some(latest.map_or(until, |latest| latest.min(until)));
            }
        }
        latest.map_or(Room::Free, Room::Until)
    }

    /// Queues what the program's terminal is to be told, if there is room.
    pub(super) fn tell(&self, command: Command) {
        if self.commands.try_send(command).is_err() {
            warn!("a terminal takes no input; something for it is dropped");
        }
    }

    /// Queues what the program's terminal is to be told.
    pub(super) async fn tell_in_turn(&self, command: Command) {
        // The receiver lives as long as the hub.
        let _ = self.commands.send(command).await;
    }

    /// Whether the terminal's state should be worked on at once; asked once each.
    pub(super) fn take_urgent(&self) -> bool {
        std::mem::take(&mut self.state().urgent)
    }

    /// Does something with the terminal's state as it is at the log's end of now. Blocks: not for the runtime's threads.
    pub(super) fn with_vt<T>(
        &self,
        act: impl FnOnce(&Self, &mut Vt) -> T,
    ) -> Result<T, ConsoleError> {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Slot::Stored = *slot {
            *slot = Slot::Loaded(Box::new(self.load()?));
        }
        let Slot::Loaded(vt) = &mut *slot else {
            return Err(ConsoleError::State("it is not loaded".to_owned()));
        };
        let end = self.state().log.end();
        self.catch_up(vt, end);
        Ok(act(self, vt))
    }

    fn load(&self) -> Result<Vt, ConsoleError> {
        let parts = saved::read(&self.settings.folder).map_err(|source| ConsoleError::Folder {
            path: self.settings.folder.clone(),
            source,
        })?;
        let history = new_history(&self.settings);
        Ok(match parts {
            Some(parts) => Vt::from_parts(parts, history),
            None => Vt::new(self.settings.size, history),
        })
    }

    /// Reads the log up to a place into the terminal's state.
    fn catch_up(&self, vt: &mut Vt, end: Place) {
        loop {
            let (work, place) = {
                let state = self.state();
                if state.parsed.number >= end.number {
                    return;
                }
                state.next_work()
            };
            let answers = match work {
                Work::Bytes { bytes, answer } => vt.read(&bytes, answer),
                Work::Resize(size) => {
                    vt.resize(size);
                    Vec::new()
                }
                Work::Gap => {
                    vt.gap();
                    Vec::new()
                }
                Work::Nothing => Vec::new(),
            };
            if !answers.is_empty() {
                self.tell(Command::Input {
                    bytes: answers.into(),
                    _room: None,
                });
            }
            let mut state = self.state();
            state.parsed = place;
            state.forget();
            drop(state);
            self.progress.notify_one();
        }
    }

    /// Writes everything to the folder. Blocks.
    pub(super) fn save(&self) -> Result<(), ConsoleError> {
        let written = self.with_vt(|hub, vt| {
            let (place, exit) = {
                let state = hub.state();
                (
                    state.parsed,
                    state.exit.as_ref().map(|(exit, _)| exit.clone()),
                )
            };
            let parts = vt.put_away();
            saved::write(&hub.settings.folder, place.offset, exit, &parts)
                .map(|()| hub.state().saved = Some(place))
        })?;
        written.map_err(|source| ConsoleError::Folder {
            path: self.settings.folder.clone(),
            source,
        })?;
        self.unload();
        Ok(())
    }

    /// Forgets the terminal's state of an ended session that nobody looks at; it is on disk.
    pub(super) fn unload(&self) {
        let Ok(mut slot) = self.slot.try_lock() else {
            return;
        };
        let state = self.state();
        let at_rest = state.exit.is_some()
            && !state.running
            && state.clients.is_empty()
            && state.backlog() == 0
            && state.saved == Some(state.parsed);
        drop(state);
        if at_rest {
            *slot = Slot::Stored;
        }
    }

    /// The program ended.
    pub(super) fn end(&self, note: ExitNote) {
        self.release_held();
        let mut state = self.state();
        if state.exit.as_ref().is_some_and(|(told, _)| *told == note) {
            return;
        }
        state.log.push(Item::Exit(note.clone()), true);
        state.exit = Some((note, state.log.end()));
        drop(state);
        self.announce();
        self.work.notify_one();
    }

    /// Another run begins. Blocks.
    pub(super) fn restart(&self) -> Result<(), ConsoleError> {
        self.release_held();
        self.with_vt(|hub, vt| {
            let bytes = vt.fresh_start();
            let mut state = hub.state();
            state.exit = None;
            state.log.push(Item::Restarted(bytes.into()), true);
            // The terminal's state has it already, if nothing else came in between.
            if state.parsed.number + 1 == state.log.end().number {
                state.parsed = state.log.end();
            }
            drop(state);
            hub.announce();
        })
    }

    pub(super) fn new_client(&self) -> ClientId {
        let mut state = self.state();
        state.next_client += 1;
        state.next_client - 1
    }

    /// The paint for a client, which stands behind it from now on. Blocks.
    pub(super) fn paint_for(
        &self,
        client: ClientId,
        types: bool,
        lines: usize,
    ) -> Result<Painted, ConsoleError> {
        self.with_vt(|hub, vt| {
            let pieces = vt.paint(lines);
            let mut state = hub.state();
            let place = state.parsed;
            let exit = state
                .exit
                .as_ref()
                .filter(|(_, after)| after.number <= place.number)
                .map(|(exit, _)| exit.clone());
            let progress = state
                .clients
                .get(&client)
                .map_or(0, |client| client.progress);
            state.clients.insert(
                client,
                Client {
                    place,
                    types,
                    has_say: true,
                    behind: None,
                    progress,
                },
            );
            Painted {
                frames: frames(pieces),
                exit,
                size: state.size,
            }
        })
    }

    pub(super) fn leave(&self, client: ClientId) {
        let mut state = self.state();
        state.clients.remove(&client);
        let wanted = state.policy.leave(client);
        if wanted.is_some() {
            state.wanted = wanted;
        }
        state.forget();
        let ended = state.exit.is_some();
        drop(state);
        self.progress.notify_one();
        if wanted.is_some() {
            self.tell(Command::Size);
        }
        if ended {
            self.unload();
        }
    }
}

/// What a client is painted with.
#[derive(Debug)]
pub(super) struct Painted {
    pub(super) frames: Vec<Bytes>,
    /// The program ended before.
    pub(super) exit: Option<ExitNote>,
    pub(super) size: Size,
}

enum Work {
    Bytes { bytes: Bytes, answer: bool },
    Resize(Size),
    Gap,
    Nothing,
}

impl State {
    pub(super) fn backlog(&self) -> u64 {
        self.log.end().since(self.parsed)
    }

    /// Whether a client is there that answers the terminal's queries.
    fn is_attended(&self) -> bool {
        self.clients.values().any(|client| client.types)
    }

    /// The bytes with what was held back before them, less what is to be held back now.
    fn hold_back(&mut self, bytes: Bytes) -> Bytes {
        let mut bytes = if self.held.is_empty() {
            bytes
        } else {
            let mut joined = BytesMut::with_capacity(self.held.len() + bytes.len());
            joined.extend_from_slice(&self.held);
            joined.extend_from_slice(&bytes);
            self.held.clear();
            joined.freeze()
        };
        let open = incomplete_suffix(&bytes);
        if open > 0 {
            self.held = bytes.split_off(bytes.len() - open).to_vec();
        }
        bytes
    }

    /// Drops from the log what nobody needs.
    fn forget(&mut self) {
        let end = self.log.end();
        let needed = self
            .clients
            .values()
            .map(|client| client.place)
            .filter(|place| end.since(*place) <= CLIENT_BACKLOG)
            .chain([self.parsed])
            .min_by_key(|place| place.number);
        if let Some(place) = needed {
            self.log.forget_before(place);
        }
    }

    /// A client was sent so much of a paint.
    pub(super) fn progressed(&mut self, client: ClientId, count: usize) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.progress += count as u64;
        }
    }

    /// A client moved on in the log.
    pub(super) fn moved(&mut self, client: ClientId, place: Place, count: usize) {
        let end = self.log.end();
        if let Some(client) = self.clients.get_mut(&client) {
            client.place = place;
            client.progress += count as u64;
            if end.since(place) <= PACE / 2 {
                client.has_say = true;
                client.behind = None;
            }
        }
    }

    /// What the terminal's state reads next, and where it then is.
    fn next_work(&self) -> (Work, Place) {
        let mut place = self.parsed;
        let Some(first) = self.log.at(place) else {
            return (Work::Nothing, self.log.end());
        };
        let attended = first.attended;
        let single = |work: Work, entry: &Entry| (work, place.after(entry));
        match &first.item {
            Item::Resize { size, .. } => return single(Work::Resize(*size), first),
            Item::Gap { .. } => return single(Work::Gap, first),
            Item::Exit(_) => return single(Work::Nothing, first),
            Item::Restarted(bytes) => {
                let work = Work::Bytes {
                    bytes: bytes.clone(),
                    answer: false,
                };
                return single(work, first);
            }
            Item::Bytes(_) => {}
        }
        let mut pieces: Vec<Bytes> = Vec::new();
        let mut length = 0;
        while let Some(entry) = self.log.at(place) {
            let Item::Bytes(bytes) = &entry.item else {
                break;
            };
            if entry.attended != attended || length + bytes.len() > PARSE_PIECE {
                break;
            }
            length += bytes.len();
            pieces.push(bytes.clone());
            place = place.after(entry);
        }
        let bytes = match pieces.as_slice() {
            [one] => one.clone(),
            many => many.concat().into(),
        };
        let work = Work::Bytes {
            bytes,
            answer: !attended,
        };
        (work, place)
    }
}

fn new_history(settings: &ConsoleSettings) -> History {
    History::new(settings.history_lines, settings.history_bytes)
}

/// Puts bytes into the log in pieces that end between characters.
fn push_pieces(log: &mut Log, mut bytes: Bytes, attended: bool) {
    while !bytes.is_empty() {
        let piece = cut_frame(&mut bytes, FRAME);
        log.push(Item::Bytes(piece), attended);
    }
}

/// Takes at most `most` bytes off the front, without cutting a character.
fn cut_frame(bytes: &mut Bytes, most: usize) -> Bytes {
    if bytes.len() <= most {
        return std::mem::take(bytes);
    }
    let cut = most - incomplete_suffix(&bytes[..most]);
    bytes.split_to(cut.max(1))
}

/// Pieces as frames: large ones uncopied, small ones together.
fn frames(pieces: Vec<Bytes>) -> Vec<Bytes> {
    let mut frames = Vec::new();
    let mut small = BytesMut::new();
    for mut piece in pieces {
        while !piece.is_empty() {
            if small.is_empty() && piece.len() >= FRAME / 2 {
                frames.push(cut_frame(&mut piece, FRAME));
                continue;
            }
            let room = FRAME - small.len();
            if room < 4 {
                frames.push(small.split().freeze());
                continue;
            }
            small.extend_from_slice(&cut_frame(&mut piece, room));
            if !piece.is_empty() {
                frames.push(small.split().freeze());
            }
        }
    }
    if !small.is_empty() {
        frames.push(small.freeze());
    }
    frames
}
