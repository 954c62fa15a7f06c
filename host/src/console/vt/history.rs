//! Lines that have left the screen, as bytes: text and colours, each line standing for itself, ended by CR LF. A row that
//! went on in the next row has no end of its own, so that a terminal of another width wraps it anew.

use super::super::utf8::incomplete_suffix;
use bytes::{Buf, Bytes};
use std::collections::VecDeque;

/// A block is closed at this size: what is dropped, sent and copied at once.
const BLOCK: usize = 64 * 1024;

#[derive(Debug, Clone)]
struct Block {
    bytes: Bytes,
    lines: usize,
}

/// See the module's text.
#[derive(Debug, Clone)]
pub(in crate::console) struct History {
    blocks: VecDeque<Block>,
    tail: Vec<u8>,
    tail_lines: usize,
    lines: usize,
    bytes: usize,
    /// Cells of the line that has no end yet.
    open_cells: usize,
    max_lines: usize,
    max_bytes: usize,
}

impl History {
    pub(in crate::console) fn new(max_lines: usize, max_bytes: usize) -> Self {
        Self {
            blocks: VecDeque::new(),
            tail: Vec::new(),
            tail_lines: 0,
            lines: 0,
            bytes: 0,
            open_cells: 0,
            max_lines,
            max_bytes,
        }
    }

    /// Takes up what was saved.
    pub(in crate::console) fn load(&mut self, bytes: &Bytes, open_cells: usize) {
        self.clear();
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            let length = rest.len().min(BLOCK);
            let whole = match memchr::memrchr(b'\n', &rest[..length]) {
                Some(end) => end + 1,
                None => length - incomplete_suffix(&rest[..length]),
            };
            let block = rest.split_to(whole.max(1));
            let lines = memchr::memchr_iter(b'\n', &block).count();
            self.lines += lines;
            self.bytes += block.len();
            self.blocks.push_back(Block {
                bytes: block,
                lines,
            });
        }
        self.open_cells = open_cells;
        self.trim();
    }

    /// Ended lines.
    #[cfg(test)]
    pub(in crate::console) fn lines(&self) -> usize {
        self.lines
    }

    #[cfg(test)]
    pub(in crate::console) fn len(&self) -> usize {
        self.bytes
    }

    pub(in crate::console) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    pub(in crate::console) fn open_cells(&self) -> usize {
        self.open_cells
    }

    pub(in crate::console) fn max_lines(&self) -> usize {
        self.max_lines
    }

    pub(in crate::console) fn clear(&mut self) {
        *self = Self::new(self.max_lines, self.max_bytes);
    }

    /// Adds a row of so many cells, or its beginning where it goes on in the next.
    pub(in crate::console) fn push_row(&mut self, row: &[u8], wrapped: bool, cells: usize) {
        self.push_bytes(row);
        if wrapped {
            self.open_cells += cells;
        } else {
            self.open_cells = 0;
            self.push_bytes(b"\r\n");
            self.tail_lines += 1;
            self.lines += 1;
        }
        if self.tail.len() >= BLOCK {
            self.close_block();
        }
        self.trim();
    }

    /// Ends the line that has no end yet.
    pub(in crate::console) fn end_line(&mut self) {
        if self.open_cells > 0 {
            self.push_row(b"", false, 0);
        }
    }

    /// Adds whole lines, each ended by CR LF.
    pub(in crate::console) fn push_lines(&mut self, lines: &[u8]) {
        let mut rest = lines;
        if rest.len() > self.max_bytes {
            let cut = rest.len() - self.max_bytes;
            let begin = memchr::memchr(b'\n', &rest[cut..]).map_or(rest.len(), |at| cut + at + 1);
            rest = &rest[begin..];
            self.clear();
        }
        self.close_block();
        while !rest.is_empty() {
            let part = if rest.len() <= BLOCK {
                rest
            } else {
                let end = memchr::memrchr(b'\n', &rest[..BLOCK]).map_or(BLOCK, |at| at + 1);
                &rest[..end]
            };
            rest = &rest[part.len()..];
            let lines = memchr::memchr_iter(b'\n', part).count();
            self.lines += lines;
            self.bytes += part.len();
            self.blocks.push_back(Block {
                bytes: Bytes::copy_from_slice(part),
                lines,
            });
        }
        self.open_cells = 0;
        self.trim();
    }

    /// The newest lines, at most so many, and the one that has no end yet.
    pub(in crate::console) fn tail(&self, lines: usize) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        let mut wanted = lines;
        let newest = (!self.tail.is_empty()).then(|| Bytes::copy_from_slice(&self.tail));
        let blocks = newest.iter().map(|bytes| (bytes, self.tail_lines)).chain(
            self.blocks
                .iter()
                .rev()
                .map(|block| (&block.bytes, block.lines)),
        );
        for (bytes, count) in blocks {
            if count <= wanted {
                // As many ends as wanted may still leave the oldest line cut: its beginning is in an older block.
                wanted -= count;
                pieces.push(bytes.clone());
                continue;
            }
            let skip = count - wanted;
            let begin = memchr::memchr_iter(b'\n', bytes)
                .nth(skip - 1)
                .map_or(bytes.len(), |at| at + 1);
            pieces.push(bytes.slice(begin..));
            break;
        }
        pieces.reverse();
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }

    /// Takes the newest lines away, at most so many and so many bytes, and the one that has no end yet.
    pub(in crate::console) fn take_tail(&mut self, lines: usize, max_bytes: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        for piece in self.tail(lines) {
            taken.extend_from_slice(&piece);
        }
        if taken.len() > max_bytes {
            let cut = taken.len() - max_bytes;
            match memchr::memchr(b'\n', &taken[cut..]) {
                Some(at) => drop(taken.drain(..=cut + at)),
                None => taken.clear(),
            }
        }
        self.drop_newest(taken.len());
        taken
    }

    fn drop_newest(&mut self, mut count: usize) {
        if count > 0 {
            self.open_cells = 0;
        }
        self.close_block();
        while count > 0 {
            let Some(block) = self.blocks.back_mut() else {
                return;
            };
            if block.bytes.len() <= count {
                count -= block.bytes.len();
                self.bytes -= block.bytes.len();
                self.lines -= block.lines;
                self.blocks.pop_back();
            } else {
                let cut = block.bytes.split_off(block.bytes.len() - count);
                let lines = memchr::memchr_iter(b'\n', &cut).count();
                block.lines -= lines;
                self.lines -= lines;
                self.bytes -= count;
                count = 0;
            }
        }
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.bytes += bytes.len();
    }

    fn close_block(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        self.blocks.push_back(Block {
            bytes: Bytes::from(std::mem::take(&mut self.tail).into_boxed_slice()),
            lines: std::mem::take(&mut self.tail_lines),
        });
    }

    fn trim(&mut self) {
        while self.bytes > self.max_bytes {
            let Some(block) = self.blocks.pop_front() else {
                break;
            };
            self.bytes -= block.bytes.len();
            self.lines -= block.lines;
            // The oldest line is whole, or the rest of it goes too.
            if !block.bytes.ends_with(b"\n") {
                self.drop_oldest_lines(1);
            }
        }
        if self.lines > self.max_lines {
            self.drop_oldest_lines(self.lines - self.max_lines);
        }
    }

    fn drop_oldest_lines(&mut self, mut count: usize) {
        while count > 0 {
            let Some(block) = self.blocks.front_mut() else {
                if self.tail_lines > 0 {
                    self.close_block();
                    continue;
                }
                return;
            };
            if block.lines <= count && block.bytes.ends_with(b"\n") {
                count -= block.lines;
                self.lines -= block.lines;
                self.bytes -= block.bytes.len();
                self.blocks.pop_front();
                continue;
            }
            let ends = count.min(block.lines);
            let begin = match ends {
                0 => block.bytes.len(),
                _ => memchr::memchr_iter(b'\n', &block.bytes)
                    .nth(ends - 1)
                    .map_or(block.bytes.len(), |at| at + 1),
            };
            block.bytes.advance(begin);
            block.lines -= ends;
            self.lines -= ends;
            self.bytes -= begin;
            count -= ends;
            if block.bytes.is_empty() {
                self.blocks.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pieces: &[Bytes]) -> String {
        pieces
            .iter()
            .map(|piece| String::from_utf8_lossy(piece).into_owned())
            .collect()
    }

    #[test]
    fn the_newest_lines_are_kept() {
        let mut history = History::new(1000, 1 << 20);
        for line in 0..50_000 {
            history.push_row(format!("line {line}").as_bytes(), false, 80);
        }
        assert_eq!(history.lines(), 1000);
        let all = text(&history.tail(usize::MAX));
        assert!(all.starts_with("line 49000\r\n"), "{}", &all[..40]);
        assert!(all.ends_with("line 49999\r\n"));
        assert_eq!(all.len(), history.len());
        assert_eq!(text(&history.tail(2)), "line 49998\r\nline 49999\r\n");
        assert_eq!(text(&history.tail(0)), "");
    }

    #[test]
    fn bytes_are_bounded() {
        let mut history = History::new(1_000_000, 1 << 20);
        for line in 0..100_000 {
            history.push_row(
                format!("some longer text of line {line}").as_bytes(),
                false,
                80,
            );
        }
        assert!(history.len() <= 1 << 20);
        assert!(history.len() > 900 << 10);
        assert!(text(&history.tail(usize::MAX)).starts_with("some longer"));
        let many = "0123456789\r\n".repeat(200_000);
        history.push_lines(many.as_bytes());
        assert!(history.len() <= 1 << 20);
        assert!(text(&history.tail(usize::MAX)).starts_with("0123456789\r\n0123"));
    }

    #[test]
    fn wrapped_rows_make_one_line() {
        let mut history = History::new(10, 1 << 20);
        history.push_row(b"abc", true, 3);
        history.push_row(b"def", true, 3);
        assert_eq!((history.lines(), history.open_cells()), (0, 6));
        history.push_row(b"g", false, 3);
        assert_eq!((history.lines(), history.open_cells()), (1, 0));
        assert_eq!(text(&history.tail(10)), "abcdefg\r\n");
        history.push_row(b"open", true, 4);
        assert_eq!(text(&history.tail(0)), "open");
        assert_eq!(history.take_tail(1, 1000), b"abcdefg\r\nopen");
        assert!(history.is_empty());
        assert_eq!(history.lines(), 0);
    }

    #[test]
    fn the_tail_can_be_taken() {
        let mut history = History::new(10_000, 1 << 20);
        for line in 0..5000 {
            history.push_row(format!("line {line}").as_bytes(), false, 80);
        }
        assert_eq!(history.take_tail(1, 1000), b"line 4999\r\n");
        assert_eq!(history.take_tail(100, 25), b"line 4997\r\nline 4998\r\n");
        assert_eq!(history.lines(), 4997);
        assert_eq!(text(&history.tail(1)), "line 4996\r\n");
        let all = Bytes::from(text(&history.tail(usize::MAX)));
        let mut loaded = History::new(10_000, 1 << 20);
        loaded.load(&all, 0);
        assert_eq!(loaded.lines(), 4997);
        assert_eq!(text(&loaded.tail(usize::MAX)).as_bytes(), &all[..]);
    }
}
