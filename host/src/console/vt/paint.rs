//! A screen as the bytes that make a terminal show it.
//!
//! The paint writes history and the primary screen as one flow of lines, so that a terminal of another height shows the
//! newest of them, and places the cursor relative to the last row where it can. No byte of it asks the terminal for an answer.

use super::encode::{Pen, is_wrapped, put, put_character, put_row};
use super::screen::{Screen, Tracked};
use alacritty_terminal::grid::{Cursor, Dimensions, Grid};
use alacritty_terminal::index::{Column, Line};
use alacritty_terminal::term::TermMode;
use alacritty_terminal::term::cell::{Cell, Flags};
use alacritty_terminal::vte::ansi::{CharsetIndex, CursorShape, StandardCharset};

/// Brings any terminal to its begin: modes off, screen and history empty.
pub(in crate::console) const RESET: &[u8] = b"\x1b\\\x1b[?2026l\x1b[?1049l\x1b[!p\x1b[r\x1b[?6l\x1b[?7h\x1b[4l\x1b[20l\
\x1b[?1l\x1b>\x1b[?9l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1005l\x1b[?1006l\x1b[?1015l\x1b[?1016l\x1b[?2004l\
\x1b[?2031l\x1b(B\x1b)B\x0f\x1b]8;;\x1b\\\x1b[m\x1b[0 q\x1b[?25h\x1b[H\x1b[2J\x1b[3J";

/// What a program may have left on that the next one does not expect. Erases nothing.
pub(in crate::console) const MODES_OFF: &[u8] = b"\x1b\\\x1b[?2026l\x1b[?1049l\x1b[!p\x1b[r\x1b[?6l\x1b[?7h\x1b[4l\x1b[20l\
\x1b[?1l\x1b>\x1b[?9l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1005l\x1b[?1006l\x1b[?1015l\x1b[?1016l\x1b[?2004l\
\x1b[?2031l\x1b[=0u\x1b[>4m\x1b(B\x1b)B\x0f\x1b]8;;\x1b\\\x1b[m\x1b[0 q\x1b[?25h";

/// What was written before the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follows {
    Nothing,
    /// Whole lines: the screen's rows must fill the screen, to push those above it.
    Lines,
    /// A line that goes on in the first row.
    OpenLine,
}

/// Where the terminal's cursor is while painting.
#[derive(Debug, Clone, Copy)]
enum Placing {
    /// By rows and columns of the screen.
    Absolute { first_row: usize },
    /// From this row on.
    FromRow(usize),
}

impl Screen {
    /// Everything but [`RESET`] and the history before the grid's: `rows_above` rows above the screen, then the screen and
    /// the terminal's state.
    pub(super) fn paint(&mut self, rows_above: usize, follows: Follows, out: &mut Vec<u8>) {
        let alternate = self.is_alternate();
        let mut placing = self.with_primary(|screen| {
            let grid = screen.state.term.grid();
            let rows_above = rows_above.min(grid.history_size());
            let last = put_flow(grid, rows_above, follows, out);
            let placing = Placing::FromRow(last);
            if alternate {
                // Entering the alternate screen keeps this cursor for the way back.
                screen.state.place(&grid.cursor, placing, out);
                put_pen(&grid.cursor, out);
                put_charsets(&grid.cursor, out);
                out.extend_from_slice(b"\x1b[?1049h\x1b[m\x1b]8;;\x1b\\\x1b(B\x1b)B\x0f\x1b[2J");
            }
            placing
        });
        if alternate {
            put_fixed(self.state.term.grid(), out);
            placing = Placing::Absolute { first_row: 0 };
        }
        self.state.put_state(placing, out);
        if let Some(title) = self.title() {
            put(out, format_args!("\x1b]2;{title}\x1b\\"));
        }
    }

    /// What sets the terminal back for the next program and puts the cursor below what is written.
    pub(super) fn fresh_start(&mut self) -> Vec<u8> {
        self.read(MODES_OFF);
        let grid = self.state.term.grid();
        let blank = Cell::default();
        let rows = grid.screen_lines();
        let written = (0..rows)
            .rev()
            .find(|row| grid[line(*row)][..].iter().any(|cell| *cell != blank));
        let mut out = MODES_OFF.to_vec();
        if let Some(row) = written {
            put(&mut out, format_args!("\x1b[{};1H\r\n", row + 1));
        }
        out
    }
}

impl Tracked {
    fn put_state(&self, flow: Placing, out: &mut Vec<u8>) {
        let grid = self.term.grid();
        let mode = *self.term.mode();
        let rows = grid.screen_lines();
        if let Some(tabs) = &self.tabs {
            out.extend_from_slice(b"\r\x1b[3g");
            for (column, _) in tabs.iter().enumerate().filter(|(_, set)| **set) {
                match column {
                    0 => out.extend_from_slice(b"\r\x1bH"),
                    _ => put(out, format_args!("\r\x1b[{column}C\x1bH")),
                }
            }
        }
        let mut placing = flow;
        if self.region != (0, rows) {
            put(
                out,
                format_args!("\x1b[{};{}r", self.region.0 + 1, self.region.1),
            );
            placing = Placing::Absolute { first_row: 0 };
        }
        if mode.contains(TermMode::ORIGIN) {
            out.extend_from_slice(b"\x1b[?6h");
            placing = Placing::Absolute {
                first_row: self.region.0,
            };
        }
        if grid.saved_cursor != Cursor::default() {
            let saved = grid.saved_cursor.clone();
            placing = self.place(&saved, placing, out);
            put_pen(&saved, out);
            put_charsets(&saved, out);
            out.extend_from_slice(b"\x1b7\x1b[m\x1b]8;;\x1b\\\x1b(B\x1b)B\x1b*B\x1b+B");
        }
        self.place(&grid.cursor, placing, out);
        self.put_blanks(out);
        put_pen(&grid.cursor, out);
        put_charsets(&grid.cursor, out);
        match self.active_charset {
            CharsetIndex::G0 => {}
            CharsetIndex::G1 => out.push(0x0e),
            CharsetIndex::G2 => out.extend_from_slice(b"\x1bn"),
            CharsetIndex::G3 => out.extend_from_slice(b"\x1bo"),
        }
        let set_when: [(TermMode, &str); 11] = [
            (TermMode::INSERT, "\x1b[4h"),
            (TermMode::LINE_FEED_NEW_LINE, "\x1b[20h"),
            (TermMode::APP_CURSOR, "\x1b[?1h"),
            (TermMode::APP_KEYPAD, "\x1b="),
            (TermMode::MOUSE_REPORT_CLICK, "\x1b[?1000h"),
            (TermMode::MOUSE_DRAG, "\x1b[?1002h"),
            (TermMode::MOUSE_MOTION, "\x1b[?1003h"),
            (TermMode::FOCUS_IN_OUT, "\x1b[?1004h"),
            (TermMode::UTF8_MOUSE, "\x1b[?1005h"),
            (TermMode::SGR_MOUSE, "\x1b[?1006h"),
            (TermMode::BRACKETED_PASTE, "\x1b[?2004h"),
        ];
        for (flag, sequence) in set_when {
            if mode.contains(flag) {
                out.extend_from_slice(sequence.as_bytes());
            }
        }
        if !mode.contains(TermMode::LINE_WRAP) {
            out.extend_from_slice(b"\x1b[?7l");
        }
        if !mode.contains(TermMode::ALTERNATE_SCROLL) {
            out.extend_from_slice(b"\x1b[?1007l");
        }
        for number in &self.passed_modes {
            put(out, format_args!("\x1b[?{number}h"));
        }
        self.put_keyboard(mode, out);
        self.put_colors(out);
        if let Some(style) = self.cursor_style {
            let shape = match style.shape {
                CursorShape::Underline => 3,
                CursorShape::Beam => 5,
                _ => 1,
            };
            put(
                out,
                format_args!("\x1b[{} q", shape + u8::from(!style.blinking)),
            );
        }
        if !mode.contains(TermMode::SHOW_CURSOR) {
            out.extend_from_slice(b"\x1b[?25l");
        }
    }

    /// Blanks right before the cursor were most likely printed, as behind a prompt: printed again they are text to whoever
    /// copies the line.
    fn put_blanks(&self, out: &mut Vec<u8>) {
        let grid = self.term.grid();
        let cells = &grid[grid.cursor.point.line][..grid.cursor.point.column];
        let blank = Cell::default();
        let written = cells
            .iter()
            .rposition(|cell| *cell != blank)
            .map_or(0, |last| last + 1);
        let count = cells.len() - written;
        if written > 0 && count > 0 && !grid.cursor.input_needs_wrap {
            put(out, format_args!("\x1b[{count}D"));
            out.extend(std::iter::repeat_n(b' ', count));
        }
    }

    fn put_keyboard(&self, mode: TermMode, out: &mut Vec<u8>) {
        let flags = [
            (TermMode::DISAMBIGUATE_ESC_CODES, 1),
            (TermMode::REPORT_EVENT_TYPES, 2),
            (TermMode::REPORT_ALTERNATE_KEYS, 4),
            (TermMode::REPORT_ALL_KEYS_AS_ESC, 8),
            (TermMode::REPORT_ASSOCIATED_TEXT, 16),
        ]
        .into_iter()
        .filter(|(flag, _)| mode.contains(*flag))
        .map(|(_, bit)| bit)
        .sum::<u8>();
        if flags != 0 {
            put(out, format_args!("\x1b[>{flags}u"));
        }
        if self.modify_other_keys != 0 {
            put(out, format_args!("\x1b[>4;{}m", self.modify_other_keys));
        }
    }

    fn put_colors(&self, out: &mut Vec<u8>) {
        let colors = self.term.colors();
        for index in 0..=258usize {
            let Some(color) = colors[index] else { continue };
            let rgb = format!("rgb:{:02x}/{:02x}/{:02x}", color.r, color.g, color.b);
            match index {
                0..=255 => put(out, format_args!("\x1b]4;{index};{rgb}\x1b\\")),
                _ => put(out, format_args!("\x1b]{};{rgb}\x1b\\", 10 + index - 256)),
            }
        }
    }

    /// Puts the terminal's cursor where `cursor` is, ready to wrap if that is.
    fn place(&self, cursor: &Cursor<Cell>, placing: Placing, out: &mut Vec<u8>) -> Placing {
        let grid = self.term.grid();
        let row = usize::try_from(cursor.point.line.0).unwrap_or(0);
        let mut column = cursor.point.column.0;
        let cells = &grid[line(row)];
        let mut reprinted = None;
        if cursor.input_needs_wrap && column + 1 == grid.columns() {
            let at_end = &cells[Column(column)];
            if at_end.flags.contains(Flags::WIDE_CHAR_SPACER) && column > 0 {
                column -= 1;
                reprinted = Some(&cells[Column(column)]);
            } else {
                reprinted = Some(at_end);
            }
        }
        let after = match placing {
            Placing::Absolute { first_row } => {
                let row = row.saturating_sub(first_row);
                put(out, format_args!("\x1b[{};{}H", row + 1, column + 1));
                placing
            }
            Placing::FromRow(from) => {
                out.push(b'\r');
                if row < from {
                    put(out, format_args!("\x1b[{}A", from - row));
                } else if row > from {
                    put(out, format_args!("\x1b[{}B", row - from));
                }
                if column > 0 {
                    put(out, format_args!("\x1b[{column}C"));
                }
                Placing::FromRow(row)
            }
        };
        if let Some(cell) = reprinted {
            let mut pen = Pen::default();
            pen.switch_to(cell, out);
            put_character(cell, out);
            pen.end(out);
        }
        after
    }
}

fn line(row: usize) -> Line {
    Line(i32::try_from(row).unwrap_or(i32::MAX))
}

/// Rows above the screen and the screen's, as they flow. Answers the screen's row that the cursor is then in.
fn put_flow(grid: &Grid<Cell>, rows_above: usize, follows: Follows, out: &mut Vec<u8>) -> usize {
    let rows = i32::try_from(grid.screen_lines()).unwrap_or(i32::MAX);
    let first = -i32::try_from(rows_above).unwrap_or(0);
    let blank = Cell::default();
    let last = if follows != Follows::Nothing || rows_above > 0 {
        rows - 1
    } else {
        (0..rows)
            .rev()
            .find(|row| grid[Line(*row)][..].iter().any(|cell| *cell != blank))
            .unwrap_or(0)
    };
    let mut continued = follows == Follows::OpenLine;
    for row in first..=last {
        let cells = &grid[Line(row)];
        let next = (row < rows - 1).then(|| &grid[Line(row + 1)]);
        put_row(cells, next, continued, out);
        continued = is_wrapped(cells) && row < last;
        if !continued && row < last {
            out.extend_from_slice(b"\r\n");
        }
    }
    usize::try_from(last).unwrap_or(0)
}

/// Rows each at its place; for a screen that does not scroll back.
fn put_fixed(grid: &Grid<Cell>, out: &mut Vec<u8>) {
    let mut encoded = Vec::new();
    for row in 0..grid.screen_lines() {
        let cells = &grid[line(row)];
        encoded.clear();
        put_row(cells, None, false, &mut encoded);
        if !encoded.is_empty() {
            put(out, format_args!("\x1b[{};1H", row + 1));
            out.extend_from_slice(&encoded);
        }
    }
}

fn put_pen(cursor: &Cursor<Cell>, out: &mut Vec<u8>) {
    Pen::default().switch_to(&cursor.template, out);
}

fn put_charsets(cursor: &Cursor<Cell>, out: &mut Vec<u8>) {
    for (index, introducer) in [
        (CharsetIndex::G0, '('),
        (CharsetIndex::G1, ')'),
        (CharsetIndex::G2, '*'),
        (CharsetIndex::G3, '+'),
    ] {
        if cursor.charsets[index] == StandardCharset::SpecialCharacterAndLineDrawing {
            put(out, format_args!("\x1b{introducer}0"));
        }
    }
}
