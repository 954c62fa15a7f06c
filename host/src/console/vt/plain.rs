//! A short way for much plain text: lines that would only pass over the screen go into history as they are.

use super::encode::{is_wrapped, put_row};
use super::screen::Screen;
use super::{History, Vt};
use alacritty_terminal::grid::Dimensions;
use alacritty_terminal::index::{Column, Line};
use alacritty_terminal::term::cell::Cell;

/// Fewer lines than this are not worth the way round.
const WORTH_LINES: usize = 64;

impl Vt {
    /// Reads the begin of `bytes` the short way, if it can be; answers how much was read.
    ///
    /// Where the terminal does nothing unusual and the text is whole lines of printable characters, the screen afterwards
    /// shows the last lines, whatever came before them. So the rows on the screen and all lines but the last are history,
    /// and the last lines are read into an empty screen.
    pub(super) fn read_plain(&mut self, bytes: &[u8]) -> usize {
        if !self.partial.bytes().is_empty() {
            return 0;
        }
        let rows = usize::from(self.size.rows.max(1));
        if !self.live().is_plain() {
            return 0;
        }
        if !self.live().is_at_bottom() {
            // Ends the line that is being written; from there on lines are whole.
            let Some(end) = memchr::memchr(b'\n', &bytes[..bytes.len().min(2048)]) else {
                return 0;
            };
            if plain_length(&bytes[..=end]) != end + 1 {
                return 0;
            }
            self.live().read(&bytes[..=end]);
            self.take_rows();
            return end + 1;
        }
        let length = plain_length(bytes);
        // The last lines, enough to fill the screen, are read as usual.
        let Some(cut) = memchr::memrchr_iter(b'\n', &bytes[..length]).nth(rows) else {
            return 0;
        };
        let lines = &bytes[..=cut];
        if memchr::memchr_iter(b'\n', lines).nth(WORTH_LINES).is_none() {
            return 0;
        }
        self.push_rows_and_screen();
        self.live().clear();
        self.history.end_line();
        self.history.push_lines(lines);
        let mut read = lines.len();
        // The screen must be full before anything else is read, or it would not scroll as it should.
        let fill = memchr::memchr_iter(b'\n', &bytes[read..])
            .nth(rows - 1)
            .map_or(0, |at| at + 1);
        let slice = (400_000 / usize::from(self.size.cols.max(1))).clamp(256, 4096);
        for part in bytes[read..read + fill].chunks(slice) {
            self.live().read(part);
            self.take_rows();
        }
        read += fill;
        read
    }
}

/// How many bytes at the begin are printable characters, tabs and CR LF, up to the last whole line.
fn plain_length(bytes: &[u8]) -> usize {
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\r' if bytes.get(at + 1) == Some(&b'\n') => at += 2,
            0xc2 if bytes.get(at + 1).is_none_or(|next| *next < 0xa0) => break,
            b' '..=b'~' | b'\t' | 0x80.. => at += 1,
            _ => break,
        }
    }
    let valid = match std::str::from_utf8(&bytes[..at]) {
        Ok(_) => at,
        Err(error) => error.valid_up_to(),
    };
    memchr::memrchr(b'\n', &bytes[..valid]).map_or(0, |end| end + 1)
}

impl Screen {
    /// Turns the oldest rows above the screen into bytes.
    pub(super) fn push_oldest_rows(&mut self, count: usize, history: &mut History) {
        let above = self.rows_above();
        let count = count.min(above);
        if count == 0 {
            return;
        }
        let first = -i32::try_from(above).unwrap_or(0);
        let end = first + i32::try_from(count).unwrap_or(0);
        self.push_range(first, end, history);
        self.keep_rows_above(above - count);
    }

    /// Turns the screen's rows into bytes, up to the last that is written.
    pub(super) fn push_screen(&mut self, history: &mut History) {
        let grid = self.state.term.grid();
        let blank = Cell::default();
        let rows = i32::try_from(grid.screen_lines()).unwrap_or(0);
        let end = (0..rows)
            .rev()
            .find(|row| grid[Line(*row)][..].iter().any(|cell| *cell != blank))
            .map_or(0, |last| last + 1);
        self.push_range(0, end, history);
    }

    fn push_range(&self, first: i32, end: i32, history: &mut History) {
        let grid = self.state.term.grid();
        let rows = i32::try_from(grid.screen_lines()).unwrap_or(0);
        let mut row_bytes = Vec::new();
        for row in first..end {
            let cells = &grid[Line(row)];
            let next = (row + 1 < rows).then(|| &grid[Line(row + 1)]);
            row_bytes.clear();
            put_row(cells, next, history.open_cells() > 0, &mut row_bytes);
            history.push_row(&row_bytes, is_wrapped(cells), grid.columns());
        }
    }

    /// All rows as encoded lines: above the screen, the primary screen, and the alternate one where that is shown.
    pub(super) fn put_text(&mut self, out: &mut Vec<u8>) {
        self.with_primary(|screen| put_lines(screen.state.term.grid(), out));
        if self.is_alternate() {
            put_lines(self.state.term.grid(), out);
        }
    }
}

fn put_lines(grid: &alacritty_terminal::Grid<Cell>, out: &mut Vec<u8>) {
    let first = -i32::try_from(grid.history_size()).unwrap_or(0);
    let rows = i32::try_from(grid.screen_lines()).unwrap_or(0);
    let blank = Cell::default();
    let end = (first..rows)
        .rev()
        .find(|row| {
            grid[Line(*row)][Column(0)..]
                .iter()
                .any(|cell| *cell != blank)
        })
        .map_or(first, |last| last + 1);
    for row in first..end {
        let cells = &grid[Line(row)];
        put_row(cells, None, false, out);
        if !is_wrapped(cells) {
            out.extend_from_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::plain_length;

    #[test]
    fn only_whole_plain_lines_count() {
        let check =
            |bytes: &[u8], length: usize| assert_eq!(plain_length(bytes), length, "{bytes:?}");
        check(b"abc\r\ndef\r\n", 10);
        check(b"abc\r\ndef", 5);
        check(b"abc\ndef\r\n", 0);
        check(b"a\r\nab\rc\r\n", 3);
        check(b"a\r\n\x1b[m\r\n", 3);
        check("é\tö\r\n".as_bytes(), 7);
        check(b"a\r\n\xff\r\n", 3);
        check(b"a\r\n\xc2\x85\r\n", 3);
    }
}
