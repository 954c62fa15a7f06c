//! The main program's output: the ring, who reads it, and whom the program waits for.

use crate::ring::Ring;
use berth_keeper_protocol::PACE_WINDOW;
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Output, as many see it.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) ring: RefCell<Ring>,
    readers: RefCell<Readers>,
    /// More output, or its end.
    pub(crate) grown: Notify,
    /// A reader has moved or gone.
    pub(crate) read_on: Notify,
    /// The program has ended, and all of its output is in the ring.
    pub(crate) complete: Cell<bool>,
}

impl Output {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            ring: RefCell::new(Ring::new(limit)),
            readers: RefCell::default(),
            grown: Notify::new(),
            read_on: Notify::new(),
            complete: Cell::new(false),
        }
    }

    /// Until when the program is to wait for a reader; `None`: go on.
    pub(crate) fn hold_until(&self, now: Instant) -> Option<Instant> {
        let next = self.ring.borrow().next();
        self.readers.borrow_mut().hold_until(next, now)
    }

    pub(crate) fn changed(&self) {
        self.grown.notify_waiters();
    }

    /// Registers a reader from byte `from` on, or the nearest to it that there is.
    pub(crate) fn reader(&self, from: u64, pace: Option<Duration>) -> Reader<'_> {
        let position = {
            let ring = self.ring.borrow();
            from.clamp(ring.first(), ring.next())
        };
        let id = self.readers.borrow_mut().enter(position, pace);
        Reader {
            output: self,
            id,
            position,
        }
    }

    /// Somebody reads who has not everything yet.
    pub(crate) fn is_awaited(&self) -> bool {
        let next = self.ring.borrow().next();
        let readers = self.readers.borrow();
        readers.entries.values().any(|entry| entry.position < next)
    }
}

/// What a reader finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Bytes(Bytes),
    /// Nothing yet.
    Nothing,
    /// What it wanted to read is no longer kept.
    Lost,
    /// Nothing will come any more.
    End,
}

/// One who reads the output.
#[derive(Debug)]
pub(crate) struct Reader<'output> {
    output: &'output Output,
    id: u64,
    position: u64,
}

impl Reader<'_> {
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn peek(&self, limit: usize) -> Found {
        let ring = self.output.ring.borrow();
        if self.position < ring.first() || self.position > ring.next() {
            Found::Lost
        } else if self.position < ring.next() {
            Found::Bytes(ring.read(self.position, limit))
        } else if self.output.complete.get() {
            Found::End
        } else {
            Found::Nothing
        }
    }

    pub(crate) fn advance(&mut self, count: usize) {
        self.position += count as u64;
        self.output
            .readers
            .borrow_mut()
            .moved(self.id, self.position);
        self.output.read_on.notify_waiters();
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.output.readers.borrow_mut().entries.remove(&self.id);
        self.output.read_on.notify_waiters();
    }
}

/// Who reads, how far they are, and who has a say in the program's pace.
#[derive(Debug, Default)]
struct Readers {
    entries: BTreeMap<u64, Entry>,
    entered: u64,
}

#[derive(Debug)]
struct Entry {
    position: u64,
    pace: Option<Duration>,
    /// Since when the program has been waiting for it.
    behind_since: Option<Instant>,
    /// It was waited for in vain, and is not waited for again until it has caught up.
    ignored: bool,
}

impl Readers {
    fn enter(&mut self, position: u64, pace: Option<Duration>) -> u64 {
        self.entered += 1;
        let entry = Entry {
            position,
            pace,
            behind_since: None,
            // One that starts far behind has to catch up first.
            ignored: true,
        };
        self.entries.insert(self.entered, entry);
        self.entered
    }

    fn moved(&mut self, id: u64, position: u64) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.position = position;
        }
    }

    fn hold_until(&mut self, next: u64, now: Instant) -> Option<Instant> {
        let mut until = None;
        for entry in self.entries.values_mut() {
            let Some(pace) = entry.pace else { continue };
            if next.saturating_sub(entry.position) <= PACE_WINDOW {
                entry.behind_since = None;
                entry.ignored = false;
                continue;
            }
            if entry.ignored {
                continue;
            }
            let deadline = *entry.behind_since.get_or_insert(now) + pace;
            if deadline <= now {
                entry.ignored = true;
                entry.behind_since = None;
            } else {
                until = until.max(Some(deadline));
            }
        }
        until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Duration = Duration::from_millis(100);

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn the_program_waits_for_a_reader_once_and_goes_on_until_it_caught_up() {
        let start = Instant::now();
        let mut readers = Readers::default();
        let reader = readers.enter(0, Some(PACE));
        assert_eq!(readers.hold_until(PACE_WINDOW, start), None);
        let next = PACE_WINDOW + 1;
        assert_eq!(readers.hold_until(next, start), Some(start + PACE));
        assert_eq!(
            readers.hold_until(next, after(start, 99)),
            Some(start + PACE)
        );
        // In vain: it loses its say,
        assert_eq!(readers.hold_until(next, after(start, 100)), None);
        assert_eq!(readers.hold_until(next * 5, after(start, 101)), None);
        // until it has caught up.
        readers.moved(reader, next * 5);
        assert_eq!(readers.hold_until(next * 5, after(start, 102)), None);
        let late = after(start, 103);
        assert_eq!(readers.hold_until(next * 7, late), Some(late + PACE));
    }

    #[test]
    fn a_slow_reader_that_goes_on_is_waited_for_each_time_anew() {
        let start = Instant::now();
        let mut readers = Readers::default();
        let reader = readers.enter(0, Some(PACE));
        readers.hold_until(0, start);
        for round in 1..10 {
            let next = round * 2 * PACE_WINDOW;
            let now = after(start, round * 90);
            assert_eq!(readers.hold_until(next, now), Some(now + PACE));
            readers.moved(reader, next);
            assert_eq!(readers.hold_until(next, now), None);
        }
    }

    #[test]
    fn nobody_waits_for_a_reader_without_pace_or_one_that_starts_far_behind() {
        let start = Instant::now();
        let mut readers = Readers::default();
        readers.enter(0, None);
        readers.enter(0, Some(PACE));
        assert_eq!(readers.hold_until(10 * PACE_WINDOW, start), None);
    }

    #[test]
    fn a_reader_finds_bytes_then_nothing_then_the_end() {
        let output = Output::new(1000);
        let append = |bytes: &[u8]| {
            let mut bytes = bytes;
            let mut ring = output.ring.borrow_mut();
            ring.append_with(|room| io_read(&mut bytes, room)).unwrap();
        };
        append(b"abc");
        let mut reader = output.reader(1, None);
        assert_eq!(reader.peek(10), Found::Bytes(Bytes::from_static(b"bc")));
        assert!(output.is_awaited());
        reader.advance(2);
        assert!(!output.is_awaited());
        assert_eq!(reader.peek(10), Found::Nothing);
        output.complete.set(true);
        assert_eq!(reader.peek(10), Found::End);
        // One that asks for what never was starts at what comes next.
        assert_eq!(output.reader(77, None).position(), 3);
        output.ring.borrow_mut().go_on_at(100);
        assert_eq!(reader.peek(10), Found::Lost);
    }

    fn io_read(bytes: &mut &[u8], room: &mut [u8]) -> std::io::Result<usize> {
        std::io::Read::read(bytes, room)
    }
}
