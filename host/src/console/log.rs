//! The shared log: what the terminal was sent, in order, kept no longer than somebody still needs it.

use super::Notice;
use berth_keeper_protocol::Size;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// Names a client of one console.
pub(super) type ClientId = u64;

/// Chunks smaller than this are copied together, so that a byte does not hold the buffer that it came in.
const COPY_BELOW: usize = 4096;
/// What they are copied into.
const ARENA: usize = 16 * 1024;
/// Many small entries cost more than their bytes; each counts as at least so many.
const ENTRY_COST: u64 = 64;

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct ExitNote {
    pub(super) code: Option<i32>,
    pub(super) message: Option<String>,
}

impl ExitNote {
    pub(super) fn notice(&self) -> Notice {
        Notice::Exit { code: self.code }
    }

    /// The line that clients without notices see.
    pub(super) fn line(&self) -> Bytes {
        let text = match (&self.message, self.code) {
            (Some(message), _) => message.clone(),
            (None, Some(code)) => format!("the program ended with exit code {code}"),
            (None, None) => "the program ended".to_owned(),
        };
        let text: String = text
            .chars()
            .filter(|character| !character.is_control())
            .collect();
        Bytes::from(format!("\r\n[{text}]\r\n"))
    }
}

/// One thing that happened.
#[derive(Debug, Clone)]
pub(super) enum Item {
    /// Output of the program.
    Bytes(Bytes),
    /// The terminal got another size, wanted by this client.
    Resize { size: Size, by: Option<ClientId> },
    /// The program ended.
    Exit(ExitNote),
    /// Another run begins; these bytes set a terminal back for it.
    Restarted(Bytes),
    /// Output is missing here; what follows begins at this offset.
    Gap { next: u64 },
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) item: Item,
    /// A client that answers the terminal's queries was there.
    pub(super) attended: bool,
    cost: u64,
}

/// A place between two entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Of the entry that follows.
    pub(super) number: u64,
    /// Grows with every byte, and measures how far apart two places are.
    pub(super) sum: u64,
    /// The number of the output byte that follows.
    pub(super) offset: u64,
}

impl Place {
    pub(super) fn after(self, entry: &Entry) -> Self {
        Self {
            number: self.number + 1,
            sum: self.sum + entry.cost,
            offset: match &entry.item {
                Item::Bytes(bytes) => self.offset + bytes.len() as u64,
                Item::Gap { next } => *next,
                _ => self.offset,
            },
        }
    }

    /// How much lies between an earlier place and this one.
    pub(super) fn since(self, earlier: Self) -> u64 {
        self.sum - earlier.sum
    }
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Log {
    begin: Place,
    end: Place,
    entries: VecDeque<Entry>,
    arena: BytesMut,
}

impl Log {
    /// An empty log whose first output byte has this number.
    pub(super) fn starting_at(offset: u64) -> Self {
        let place = Place {
            offset,
            ..Place::default()
        };
        Self {
            begin: place,
            end: place,
            ..Self::default()
        }
    }

    pub(super) fn begin(&self) -> Place {
        self.begin
    }

    pub(super) fn end(&self) -> Place {
        self.end
    }

    /// The entry at a place; `None` at the end. The place must not lie before [`Log::begin`].
    pub(super) fn at(&self, place: Place) -> Option<&Entry> {
        let index = usize::try_from(place.number - self.begin.number).ok()?;
        self.entries.get(index)
    }

    pub(super) fn push(&mut self, item: Item, attended: bool) {
        let (item, length) = match item {
            Item::Bytes(bytes) => {
                let length = bytes.len();
                (Item::Bytes(self.settle(bytes)), length)
            }
            Item::Restarted(bytes) => {
                let length = bytes.len();
                (Item::Restarted(bytes), length)
            }
            other => (other, 0),
        };
        let entry = Entry {
            item,
            attended,
            cost: (length as u64).max(ENTRY_COST),
        };
        self.end = self.end.after(&entry);
        self.entries.push_back(entry);
    }

    /// Forgets what lies before a place.
    pub(super) fn forget_before(&mut self, place: Place) {
        while self.begin.number < place.number {
            let Some(entry) = self.entries.pop_front() else {
                break;
            };
            self.begin = self.begin.after(&entry);
        }
        if self.entries.is_empty() {
            self.arena = BytesMut::new();
            if self.entries.capacity() > 256 {
                self.entries = VecDeque::new();
            }
        }
    }

    fn settle(&mut self, bytes: Bytes) -> Bytes {
        if bytes.len() >= COPY_BELOW {
            return bytes;
        }
        if self.arena.capacity() < bytes.len() {
            self.arena = BytesMut::with_capacity(ARENA);
        }
        self.arena.extend_from_slice(&bytes);
        self.arena.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_by_place_until_forgotten() {
        let mut log = Log::default();
        let first = log.end();
        log.push(Item::Bytes(Bytes::from_static(b"one")), true);
        let second = log.end();
        log.push(Item::Bytes(Bytes::from(vec![b'x'; 10_000])), false);
        assert_eq!(log.end().since(second), 10_000);
        assert!(matches!(&log.at(first).unwrap().item, Item::Bytes(bytes) if bytes == "one"));
        assert_eq!(first.after(log.at(first).unwrap()), second);
        log.forget_before(second);
        assert_eq!(log.begin(), second);
        assert!(log.at(second).is_some());
        assert!(log.at(log.end()).is_none());
        log.forget_before(log.end());
        assert_eq!(log.begin(), log.end());
    }

    #[test]
    fn an_end_is_told_in_one_line() {
        let note = |code, message: Option<&str>| ExitNote {
            code,
            message: message.map(str::to_owned),
        };
        assert_eq!(
            note(Some(3), None).line(),
            "\r\n[the program ended with exit code 3]\r\n"
        );
        assert_eq!(note(None, Some("stop\x1bped")).line(), "\r\n[stopped]\r\n");
        assert_eq!(note(None, None).line(), "\r\n[the program ended]\r\n");
    }
}
