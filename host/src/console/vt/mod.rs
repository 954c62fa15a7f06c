//! What the terminal shows, worked out from the program's output beside the path that hands it to clients.
//!
//! Rows that leave the screen become bytes ([`History`]). The emulator's grid exists only while output comes: a quiet
//! terminal is kept as the paint that makes it ([`Vt::rest`]), a few kilobytes.

mod encode;
mod history;
mod paint;
mod partial;
mod plain;
mod screen;
#[cfg(test)]
mod tests;

pub(super) use history::History;
pub(super) use paint::RESET;
pub(super) use partial::Partial;

use berth_keeper_protocol::Size;
use bytes::Bytes;
use paint::Follows;
use screen::Screen;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tracing::warn;

/// When more rows than this are above the screen in the grid, the older ones become bytes.
const ROWS_ABOVE: usize = 512;
/// How many stay, so that a terminal that grows higher gets rows back.
const ROWS_KEPT: usize = 256;

/// What is asked of a terminal and only its emulator would not answer by itself.
const VERSION_QUERIES: [&[u8]; 2] = [b"\x1b[>q", b"\x1b[>0q"];

#[derive(Debug)]
enum Grid {
    /// Being written to.
    Live(Box<Screen>),
    /// Quiet: the paint of the screen, after the history.
    Resting(Bytes),
}

/// A terminal: history, screen, and where the stream stands in the midst of a sequence.
#[derive(Debug)]
pub(super) struct Vt {
    size: Size,
    history: History,
    grid: Grid,
    partial: Partial,
}

/// What a terminal is when it is put away.
#[derive(Debug, Clone)]
pub(super) struct VtParts {
    pub(super) size: Size,
    pub(super) history: Vec<Bytes>,
    pub(super) open_cells: usize,
    pub(super) screen: Bytes,
    pub(super) partial: Bytes,
}

impl Vt {
    pub(super) fn new(size: Size, history: History) -> Self {
        Self {
            size,
            history,
            grid: Grid::Resting(Bytes::new()),
            partial: Partial::default(),
        }
    }

    /// The terminal that was put away as `parts`.
    pub(super) fn from_parts(parts: VtParts, mut history: History) -> Self {
        let bytes = match parts.history.as_slice() {
            [one] => one.clone(),
            many => Bytes::from(many.concat()),
        };
        history.load(&bytes, parts.open_cells);
        let mut partial = Partial::default();
        partial.read(&parts.partial);
        Self {
            size: parts.size,
            history,
            grid: Grid::Resting(parts.screen),
            partial,
        }
    }

    /// Puts the grid away, and answers everything that makes the terminal.
    pub(super) fn put_away(&mut self) -> VtParts {
        self.rest();
        VtParts {
            size: self.size,
            history: self.history.tail(usize::MAX),
            open_cells: self.history.open_cells(),
            screen: match &self.grid {
                Grid::Resting(screen) => screen.clone(),
                Grid::Live(_) => Bytes::new(),
            },
            partial: Bytes::copy_from_slice(self.partial.bytes()),
        }
    }

    /// Reads output of the program's. With `answer`, the answers to what it asks of its terminal are returned.
    pub(super) fn read(&mut self, bytes: &[u8], answer: bool) -> Vec<u8> {
        if !answer {
            self.read_all(bytes);
            self.live().take_answers();
            return Vec::new();
        }
        let mut answers = Vec::new();
        let mut rest = bytes;
        while let Some(end) = VERSION_QUERIES
            .iter()
            .filter_map(|query| memchr::memmem::find(rest, query).map(|at| at + query.len()))
            .min()
        {
            self.read_all(&rest[..end]);
            answers.extend(self.live().take_answers());
            answers.extend_from_slice(
                concat!("\x1bP>|berth(", env!("CARGO_PKG_VERSION"), ")\x1b\\").as_bytes(),
            );
            rest = &rest[end..];
        }
        self.read_all(rest);
        answers.extend(self.live().take_answers());
        answers
    }

    /// The terminal got another size.
    pub(super) fn resize(&mut self, size: Size) {
        if size == self.size {
            return;
        }
        self.guarded(|vt| {
            vt.live();
            vt.size = size;
            vt.live().resize(size);
            vt.take_rows();
        });
    }

    /// Output is missing from here on: what is on the screen becomes history, and all else begins anew.
    pub(super) fn gap(&mut self) {
        self.guarded(|vt| {
            vt.push_rows_and_screen();
            vt.history.end_line();
        });
        self.grid = Grid::Resting(Bytes::new());
        self.live();
        self.partial = Partial::default();
    }

    /// Sets modes back for the next program; answers the bytes that do the same to a client's terminal.
    pub(super) fn fresh_start(&mut self) -> Vec<u8> {
        self.partial = Partial::default();
        if self.is_untouched() {
            return Vec::new();
        }
        let bytes = self.live().fresh_start();
        self.read(&bytes, false);
        bytes
    }

    /// The bytes that make any terminal show this one, with at most so many lines of history, and bring its parser to
    /// where the stream stands.
    pub(super) fn paint(&mut self, lines: usize) -> Vec<Bytes> {
        let mut out = vec![Bytes::from_static(RESET)];
        let lines = lines.min(self.history.max_lines());
        let above = self.live().with_primary(|screen| screen.rows_above());
        let encoded = if lines > above {
            self.history.tail(lines - above)
        } else {
            Vec::new()
        };
        let mut body = Vec::new();
        let follows = match (encoded.is_empty(), self.follows()) {
            (true, _) => Follows::Nothing,
            (false, follows) => follows,
        };
        if follows == Follows::Lines && self.history.open_cells() > 0 {
            body.extend_from_slice(b"\r\n");
        }
        out.extend(encoded);
        self.live().paint(lines.min(above), follows, &mut body);
        body.extend_from_slice(self.partial.bytes());
        out.push(body.into());
        out
    }

    /// Puts the grid away until it is needed again.
    pub(super) fn rest(&mut self) {
        let Grid::Live(_) = self.grid else { return };
        self.guarded(|vt| {
            vt.push_all_rows();
            let follows = vt.follows();
            let mut screen = Vec::new();
            vt.live().paint(0, follows, &mut screen);
            vt.grid = Grid::Resting(screen.into());
        });
    }

    /// History and screen as plain text, each line ended by LF.
    pub(super) fn text(&mut self) -> String {
        let mut flow = Vec::new();
        self.live();
        for piece in self.history.tail(usize::MAX) {
            flow.extend_from_slice(&piece);
        }
        if self.follows() == Follows::Lines && self.history.open_cells() > 0 {
            flow.extend_from_slice(b"\r\n");
        }
        self.live().put_text(&mut flow);
        let mut text = Vec::new();
        encode::plain_text(&flow, &mut text);
        let mut text = String::from_utf8_lossy(&text).into_owned();
        text.truncate(text.trim_end().len());
        if !text.is_empty() {
            text.push('\n');
        }
        text
    }

    /// What the row after the history comes after.
    fn follows(&self) -> Follows {
        let columns = usize::from(self.size.cols.max(2));
        let open = self.history.open_cells();
        if self.history.is_empty() {
            Follows::Nothing
        } else if open > 0 && open.is_multiple_of(columns) {
            Follows::OpenLine
        } else {
            // A line that was wrapped at another width cannot go on exactly, so it is ended.
            Follows::Lines
        }
    }

    fn is_untouched(&self) -> bool {
        self.history.is_empty() && matches!(&self.grid, Grid::Resting(screen) if screen.is_empty())
    }

    fn read_all(&mut self, bytes: &[u8]) {
        self.guarded(|vt| vt.read_in_slices(bytes));
    }

    /// A fault in the emulator costs the screen, not the session.
    fn guarded(&mut self, act: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| act(self))).is_err() {
            warn!("the terminal emulator failed; its screen begins anew");
            self.grid = Grid::Resting(Bytes::new());
            self.partial = Partial::default();
        }
    }

    fn read_in_slices(&mut self, bytes: &[u8]) {
        // A byte makes at most one new row, and all of a slice's rows must fit in the grid.
        let slice = (400_000 / usize::from(self.size.cols.max(1))).clamp(256, 4096);
        let mut rest = bytes;
        let mut plain_from = 0;
        while !rest.is_empty() {
            if plain_from == 0 && rest.len() > 2 * slice {
                let skipped = self.read_plain(rest);
                if skipped > 0 {
                    rest = &rest[skipped..];
                    continue;
                }
                // Not here: look again after a few slices.
                plain_from = 4;
            }
            plain_from = usize::saturating_sub(plain_from, 1);
            let (now, later) = rest.split_at(rest.len().min(slice));
            self.live().read(now);
            self.partial.read(now);
            self.take_rows();
            rest = later;
        }
    }

    /// Turns rows that are far above the screen into bytes.
    fn take_rows(&mut self) {
        let screen = self.live();
        if std::mem::take(&mut screen.state.history_erased) {
            self.history.clear();
        }
        let above = self.live().rows_above();
        if above > ROWS_ABOVE {
            self.push_rows(above - ROWS_KEPT);
        }
    }

    /// Turns the oldest rows above the screen into bytes.
    fn push_rows(&mut self, count: usize) {
        let Self {
            grid: Grid::Live(screen),
            history,
            ..
        } = self
        else {
            return;
        };
        screen.push_oldest_rows(count, history);
    }

    fn push_all_rows(&mut self) {
        self.live();
        let Self {
            grid: Grid::Live(screen),
            history,
            ..
        } = self
        else {
            return;
        };
        screen.with_primary(|screen| screen.push_oldest_rows(usize::MAX, history));
    }

    fn push_rows_and_screen(&mut self) {
        self.push_all_rows();
        let Self {
            grid: Grid::Live(screen),
            history,
            ..
        } = self
        else {
            return;
        };
        screen.with_primary(|screen| screen.push_screen(history));
    }

    /// The grid, brought back when it was put away.
    fn live(&mut self) -> &mut Screen {
        if let Grid::Resting(paint) = &self.grid {
            let paint = paint.clone();
            let columns = usize::from(self.size.cols.max(2));
            let mut screen = Box::new(Screen::new(self.size));
            if !self.history.is_empty() {
                let ended = self.follows() == Follows::Lines && self.history.open_cells() > 0;
                let limit = (columns * 2000).min(256 * 1024);
                let tail = self.history.take_tail(ROWS_KEPT, limit);
                screen.read(&tail);
                if ended && !tail.is_empty() {
                    screen.read(b"\r\n");
                }
            }
            screen.read(&paint);
            screen.take_answers();
            self.grid = Grid::Live(screen);
        }
        match &mut self.grid {
            Grid::Live(screen) => screen,
            Grid::Resting(_) => unreachable!("the grid was just brought back"),
        }
    }
}
