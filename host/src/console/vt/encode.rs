//! Cells as terminal bytes.

use alacritty_terminal::grid::Row;
use alacritty_terminal::index::Column;
use alacritty_terminal::term::cell::{Cell, Flags, Hyperlink};
use alacritty_terminal::vte::ansi::{Color, NamedColor};
use std::io::Write as _;

/// What of a cell's flags is told by SGR.
const STYLE: Flags = Flags::INVERSE
    .union(Flags::BOLD_ITALIC)
    .union(Flags::ALL_UNDERLINES)
    .union(Flags::DIM)
    .union(Flags::HIDDEN)
    .union(Flags::STRIKEOUT);

/// How a character is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pen {
    fg: Color,
    bg: Color,
    style: Flags,
    underline: Option<Color>,
    link: Option<Hyperlink>,
}

impl Default for Pen {
    fn default() -> Self {
        Self {
            fg: Color::Named(NamedColor::Foreground),
            bg: Color::Named(NamedColor::Background),
            style: Flags::empty(),
            underline: None,
            link: None,
        }
    }
}

impl Pen {
    fn of(cell: &Cell) -> Self {
        Self {
            fg: cell.fg,
            bg: cell.bg,
            style: cell.flags.intersection(STYLE),
            underline: cell.underline_color(),
            link: cell.hyperlink(),
        }
    }

    fn draws_as(&self, cell: &Cell) -> bool {
        self.fg == cell.fg
            && self.bg == cell.bg
            && self.style == cell.flags.intersection(STYLE)
            && match &cell.extra {
                None => self.underline.is_none() && self.link.is_none(),
                Some(_) => {
                    self.underline == cell.underline_color() && self.link == cell.hyperlink()
                }
            }
    }

    /// Makes the terminal draw as the cell is drawn.
    pub(super) fn switch_to(&mut self, cell: &Cell, out: &mut Vec<u8>) {
        if !self.draws_as(cell) {
            self.set(Self::of(cell), out);
        }
    }

    /// Makes the terminal draw in its default way.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        if *self != Self::default() {
            self.set(Self::default(), out);
        }
    }

    fn set(&mut self, to: Self, out: &mut Vec<u8>) {
        if self.link != to.link {
            match &to.link {
                None => out.extend_from_slice(b"\x1b]8;;\x1b\\"),
                Some(link) => put(
                    out,
                    format_args!("\x1b]8;id={};{}\x1b\\", link.id(), link.uri()),
                ),
            }
        }
        let same_style = self.fg == to.fg
            && self.bg == to.bg
            && self.style == to.style
            && self.underline == to.underline;
        if !same_style {
            out.extend_from_slice(b"\x1b[");
            let plain = Self {
                link: to.link.clone(),
                ..Self::default()
            };
            if to != plain {
                out.push(b'0');
                put_style(to.style, out);
                put_color(to.fg, 30, out);
                put_color(to.bg, 40, out);
                match to.underline {
                    Some(Color::Indexed(index)) => put(out, format_args!(";58;5;{index}")),
                    Some(Color::Spec(rgb)) => {
                        put(out, format_args!(";58;2;{};{};{}", rgb.r, rgb.g, rgb.b));
                    }
                    Some(Color::Named(_)) | None => {}
                }
            }
            out.push(b'm');
        }
        *self = to;
    }
}

/// Writing to a vector cannot fail.
pub(super) fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

fn put_style(style: Flags, out: &mut Vec<u8>) {
    let codes: [(Flags, &str); 11] = [
        (Flags::BOLD, ";1"),
        (Flags::DIM, ";2"),
        (Flags::ITALIC, ";3"),
        (Flags::UNDERLINE, ";4"),
        (Flags::DOUBLE_UNDERLINE, ";4:2"),
        (Flags::UNDERCURL, ";4:3"),
        (Flags::DOTTED_UNDERLINE, ";4:4"),
        (Flags::DASHED_UNDERLINE, ";4:5"),
        (Flags::INVERSE, ";7"),
        (Flags::HIDDEN, ";8"),
        (Flags::STRIKEOUT, ";9"),
    ];
    for (flag, code) in codes {
        if style.contains(flag) {
            out.extend_from_slice(code.as_bytes());
        }
    }
}

fn put_color(color: Color, base: u16, out: &mut Vec<u8>) {
    match color {
        Color::Named(named) => {
            let number = named as u16;
            match number {
                0..=7 => put(out, format_args!(";{}", base + number)),
                8..=15 => put(out, format_args!(";{}", base + 60 + number - 8)),
                _ => {}
            }
        }
        Color::Indexed(index) => put(out, format_args!(";{};5;{index}", base + 8)),
        Color::Spec(rgb) => put(
            out,
            format_args!(";{};2;{};{};{}", base + 8, rgb.r, rgb.g, rgb.b),
        ),
    }
}

/// One character with what stands on it.
pub(super) fn put_character(cell: &Cell, out: &mut Vec<u8>) {
    if cell.c == '\t' {
        out.push(b' ');
        return;
    }
    let mut buffer = [0; 4];
    out.extend_from_slice(cell.c.encode_utf8(&mut buffer).as_bytes());
    for mark in cell.zerowidth().unwrap_or_default() {
        out.extend_from_slice(mark.encode_utf8(&mut buffer).as_bytes());
    }
}

pub(super) fn is_wrapped(row: &Row<Cell>) -> bool {
    row.last()
        .is_some_and(|cell| cell.flags.contains(Flags::WRAPLINE))
}

/// The row's characters and styles, from the default style to the default style, without an end of line. `continued`: the
/// row before it goes on here, so at least one character must be written.
pub(super) fn put_row(
    row: &Row<Cell>,
    next: Option<&Row<Cell>>,
    continued: bool,
    out: &mut Vec<u8>,
) {
    let cells = &row[Column(0)..];
    let blank = Cell::default();
    let end = if is_wrapped(row) {
        cells.len()
    } else {
        cells
            .iter()
            .rposition(|cell| *cell != blank)
            .map_or(0, |last| last + 1)
    };
    if end == 0 && continued {
        out.push(b' ');
        return;
    }
    let mut pen = Pen::default();
    let mut after_wide = false;
    for (index, cell) in cells[..end].iter().enumerate() {
        if std::mem::take(&mut after_wide) {
            continue;
        }
        if cell.flags.is_empty() || !cell.flags.intersects(wide_flags()) {
            pen.switch_to(cell, out);
            put_character(cell, out);
            continue;
        }
        let spacer_follows = cells
            .get(index + 1)
            .is_some_and(|next| next.flags.contains(Flags::WIDE_CHAR_SPACER));
        if cell.flags.contains(Flags::WIDE_CHAR) && spacer_follows {
            pen.switch_to(cell, out);
            put_character(cell, out);
            after_wide = true;
        } else if cell.flags.contains(Flags::LEADING_WIDE_CHAR_SPACER)
            && index + 1 == cells.len()
            && next.is_some_and(|next| next[Column(0)].flags.contains(Flags::WIDE_CHAR))
        {
            // The wide character that did not fit leaves this cell empty by itself.
        } else if cell.flags.contains(Flags::LEADING_WIDE_CHAR_SPACER) {
            pen.end(out);
            out.push(b' ');
        } else {
            // Half of a wide character whose other half is gone.
            pen.switch_to(cell, out);
            out.push(b' ');
        }
    }
    pen.end(out);
    if continued && end < cells.len() && cells[0].bg != blank.bg {
        // Wrapping with this background may have filled the whole row with it.
        out.extend_from_slice(b"\x1b[K");
    }
}

fn wide_flags() -> Flags {
    Flags::WIDE_CHAR | Flags::WIDE_CHAR_SPACER | Flags::LEADING_WIDE_CHAR_SPACER
}

/// Encoded lines as plain text: sequences are left out, line ends are LF.
pub(super) fn plain_text(encoded: &[u8], out: &mut Vec<u8>) {
    let mut rest = encoded;
    loop {
        let Some(at) = memchr::memchr2(0x1b, b'\r', rest) else {
            out.extend_from_slice(rest);
            return;
        };
        out.extend_from_slice(&rest[..at]);
        let sequence = &rest[at..];
        let length = match sequence {
            [0x1b, b'[', body @ ..] => {
                2 + body
                    .iter()
                    .position(|byte| (0x40..=0x7e).contains(byte))
                    .map_or(body.len(), |end| end + 1)
            }
            [0x1b, b']', body @ ..] => {
                2 + memchr::memmem::find(body, b"\x1b\\").map_or(body.len(), |end| end + 2)
            }
            [0x1b, _, ..] => 2,
            _ => 1,
        };
        rest = &sequence[length..];
    }
}
