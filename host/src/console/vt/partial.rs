//! Where a stream of terminal bytes stands: between sequences, or inside one that was not yet whole.
//!
//! A screen can be painted exactly only between two sequences. Where the stream stands inside one, its bytes so far are kept
//! here, to be sent after the paint: the receiver's parser then stands where the program's stream does.

use super::super::utf8::incomplete_suffix;

/// A string sequence (OSC, DCS, APC) longer than this is remembered by its beginning only; it is too long to take effect,
/// but its rest must still be swallowed as a string.
const STRING_LIMIT: usize = 64 * 1024;
const STRING_HEAD: usize = 1024;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    Escape,
    EscapeIntermediate,
    Control,
    OperatingSystemCommand,
    String,
}

/// The sequence that is open at the end of what was read.
#[derive(Debug, Clone, Default)]
pub(in crate::console) struct Partial {
    state: State,
    bytes: Vec<u8>,
}

impl Partial {
    /// Reads on.
    pub(in crate::console) fn read(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        // An escape starts a new sequence from any state, so what came before the last one has no part in the end.
        if let Some(last) = memchr::memrchr(0x1b, bytes) {
            self.bytes.clear();
            self.bytes.push(0x1b);
            self.state = State::Escape;
            self.step_all(&bytes[last + 1..]);
        } else {
            self.step_all(bytes);
        }
    }

    /// The bytes of the open sequence; empty between sequences.
    pub(in crate::console) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn step_all(&mut self, bytes: &[u8]) {
        for (index, &byte) in bytes.iter().enumerate() {
            if self.state == State::Ground {
                let rest = &bytes[index..];
                self.end_in_ground(rest);
                return;
            }
            self.step(byte);
        }
    }

    /// `rest` holds no escape: only a character may be open at its end.
    fn end_in_ground(&mut self, rest: &[u8]) {
        if rest.len() < 4 && !self.bytes.is_empty() {
            let mut joined = std::mem::take(&mut self.bytes);
            joined.extend_from_slice(rest);
            let open = incomplete_suffix(&joined);
            self.bytes = joined.split_off(joined.len() - open);
        } else {
            let open = incomplete_suffix(rest);
            self.bytes = rest[rest.len() - open..].to_vec();
        }
    }

    fn step(&mut self, byte: u8) {
        if matches!(byte, 0x18 | 0x1a) {
            self.close();
            return;
        }
        match self.state {
            State::Ground => {}
            State::Escape | State::EscapeIntermediate => match byte {
                0x20..=0x2f => {
                    self.bytes.push(byte);
                    self.state = State::EscapeIntermediate;
                }
                b'[' if self.state == State::Escape => self.enter(State::Control, byte),
                b']' if self.state == State::Escape => {
                    self.enter(State::OperatingSystemCommand, byte);
                }
                b'P' | b'X' | b'^' | b'_' if self.state == State::Escape => {
                    self.enter(State::String, byte);
                }
                0x30..=0x7e => self.close(),
                // Control characters inside a sequence take effect at once and are not part of it.
                _ => {}
            },
            State::Control => match byte {
                0x00..=0x1f | 0x7f => {}
                0x40..=0x7e => self.close(),
                _ => self.push_limited(byte),
            },
            State::OperatingSystemCommand if byte == 0x07 => self.close(),
            State::OperatingSystemCommand | State::String => self.push_limited(byte),
        }
    }

    fn enter(&mut self, state: State, byte: u8) {
        self.bytes.push(byte);
        self.state = state;
    }

    fn close(&mut self) {
        self.bytes.clear();
        self.state = State::Ground;
    }

    fn push_limited(&mut self, byte: u8) {
        if self.bytes.len() == STRING_LIMIT {
            self.bytes.truncate(STRING_HEAD);
        }
        self.bytes.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_sequence_is_kept() {
        let check = |reads: &[&[u8]], open: &[u8]| {
            let mut partial = Partial::default();
            for read in reads {
                partial.read(read);
            }
            assert_eq!(partial.bytes(), open, "{reads:?}");
        };
        check(&[b"text"], b"");
        check(&[b"text\x1b"], b"\x1b");
        check(&[b"text\x1b[3", b"1"], b"\x1b[31");
        check(&[b"text\x1b[31m"], b"");
        check(&[b"\x1b[3\n1"], b"\x1b[31");
        check(&[b"\x1b[3\x18"], b"");
        check(&[b"\x1b(", b"B"], b"");
        check(&[b"\x1b("], b"\x1b(");
        check(&[b"\x1b]0;ti", b"tle"], b"\x1b]0;title");
        check(&[b"\x1b]0;title\x07after"], b"");
        check(&[b"\x1b]0;title\x1b"], b"\x1b");
        check(&[b"\x1b]0;title\x1b\\"], b"");
        check(&[b"\x1bPq#0\x07"], b"\x1bPq#0\x07");
        check(&[b"\x1b[31m\xe2\x82"], b"\xe2\x82");
        check(&[b"\xe2", b"\x82"], b"\xe2\x82");
        check(&[b"\xe2", b"\x82\xac"], b"");
        check(&[b"\xe2", b"a"], b"");
    }

    #[test]
    fn a_long_string_is_kept_by_its_head() {
        let mut partial = Partial::default();
        partial.read(b"\x1bPq");
        partial.read(&vec![b'x'; 200_000]);
        assert!(partial.bytes().starts_with(b"\x1bPqxx"));
        assert!(partial.bytes().len() <= STRING_LIMIT);
    }
}
