//! Paints against the emulator itself: what a fresh terminal shows after a paint and the rest of the stream is what the
//! first terminal shows after all of it.

use super::*;
use alacritty_terminal::grid::Dimensions;
use alacritty_terminal::index::{Column, Line};
use alacritty_terminal::term::TermMode;
use alacritty_terminal::term::cell::{Cell, Flags};
use proptest::prelude::*;
use std::fmt::Write as _;

fn size(cols: u16, rows: u16) -> Size {
    Size { cols, rows }
}

fn vt(size: Size) -> Vt {
    Vt::new(size, History::new(100_000, 8 << 20))
}

/// What a person or program could tell of a terminal.
#[derive(Debug, PartialEq)]
struct Seen {
    rows: Vec<String>,
    above: Vec<String>,
    cursor: (i32, usize, bool),
    template: Cell,
    saved: (i32, usize),
    mode: TermMode,
    region: (usize, usize),
    title: Option<String>,
    charsets: String,
    tabs: Option<Vec<bool>>,
    primary: Vec<String>,
}

/// A cell as it looks: its character and, where it has any, its style.
fn look(cell: &Cell) -> String {
    // A spacer's own look does not show.
    if cell.flags.contains(Flags::WIDE_CHAR_SPACER) {
        return "_".to_owned();
    }
    // Nor does what a wide character left empty at a row's end: no terminal says how that looks.
    if cell.flags.contains(Flags::LEADING_WIDE_CHAR_SPACER) {
        return " ".to_owned();
    }
    let flags = cell.flags - Flags::WRAPLINE - Flags::WIDE_CHAR;
    let character = if cell.c == '\t' { ' ' } else { cell.c };
    let shows_ink = character != ' '
        || flags.intersects(Flags::INVERSE | Flags::ALL_UNDERLINES | Flags::STRIKEOUT);
    let plain = Cell::default();
    let mut look = character.to_string();
    if cell.bg != plain.bg {
        write!(look, "<bg {:?}>", cell.bg).unwrap();
    }
    if shows_ink && cell.fg != plain.fg {
        write!(look, "<fg {:?}>", cell.fg).unwrap();
    }
    if shows_ink && !flags.is_empty() {
        write!(look, "<{flags:?}>").unwrap();
    }
    if let Some(extra) = &cell.extra {
        write!(look, "<{extra:?}>").unwrap();
    }
    look
}

fn rows_of(screen: &Screen, first: i32, end: i32) -> Vec<String> {
    let grid = screen.state.term.grid();
    (first..end)
        .map(|row| grid[Line(row)][Column(0)..].iter().map(look).collect())
        .collect()
}

fn seen(vt: &mut Vt) -> Seen {
    let screen = vt.live();
    let rows = i32::try_from(screen.state.term.screen_lines()).unwrap();
    let alternate = screen.is_alternate();
    let (primary, above) = screen.with_primary(|screen| {
        let above = i32::try_from(screen.rows_above()).unwrap().min(20);
        (rows_of(screen, 0, rows), rows_of(screen, -above, 0))
    });
    let grid = screen.state.term.grid();
    let cursor = &grid.cursor;
    Seen {
        rows: rows_of(screen, 0, rows),
        above,
        cursor: (
            cursor.point.line.0,
            cursor.point.column.0,
            cursor.input_needs_wrap,
        ),
        template: cursor.template.clone(),
        saved: (
            grid.saved_cursor.point.line.0,
            grid.saved_cursor.point.column.0,
        ),
        mode: *screen.state.term.mode(),
        region: screen.state.region,
        title: screen.title(),
        charsets: format!("{:?} {:?}", cursor.charsets, screen.state.active_charset),
        tabs: screen.state.tabs.clone(),
        primary: if alternate { primary } else { Vec::new() },
    }
}

fn repaint(from: &mut Vt, lines: usize) -> Vt {
    let mut fresh = vt(from.size);
    for piece in from.paint(lines) {
        fresh.read(&piece, false);
    }
    fresh
}

/// Both terminals, with no more rows above the screen than each still has in its grid.
fn seen_both(first: &mut Vt, second: &mut Vt) -> (Seen, Seen) {
    let (mut first, mut second) = (seen(first), seen(second));
    let common = first.above.len().min(second.above.len());
    first.above.drain(..first.above.len() - common);
    second.above.drain(..second.above.len() - common);
    (first, second)
}

fn assert_same(first: &mut Vt, second: &mut Vt, told: &str) {
    let (first, second) = seen_both(first, second);
    assert_eq!(second, first, "{told}");
}

fn same_text(got: &str, expected: &str) {
    for (number, (got, expected)) in got.lines().zip(expected.lines()).enumerate() {
        // Blanks that were printed at a line's end are kept on one way and not on the other.
        assert_eq!(got.trim_end(), expected.trim_end(), "line {number}");
    }
    assert_eq!(got.lines().count(), expected.lines().count());
}

fn check_paint(size: Size, stream: &[u8]) {
    for cut in 0..=stream.len() {
        let mut first = vt(size);
        first.read(&stream[..cut], false);
        let mut second = repaint(&mut first, 1000);
        assert_same(
            &mut first,
            &mut second,
            &format!(
                "painted at {cut}: {:?}",
                String::from_utf8_lossy(&stream[..cut])
            ),
        );
        first.read(&stream[cut..], false);
        second.read(&stream[cut..], false);
        assert_same(
            &mut first,
            &mut second,
            &format!("cut at {cut} of {:?}", String::from_utf8_lossy(stream)),
        );
        // Resting and coming back changes nothing.
        let before = seen(&mut first);
        first.rest();
        assert_eq!(
            seen(&mut first),
            before,
            "rested after {:?}",
            String::from_utf8_lossy(stream)
        );
    }
}

#[test]
fn paints_show_what_was_shown() {
    let small = size(10, 4);
    for stream in [
        &b"hello\r\nworld"[..],
        b"0123456789abc\r\nx",
        b"0123456789",
        b"one\r\ntwo\r\nthree\r\nfour\r\nfive\r\nsix\r\n\x1b[2;3Hhere",
        b"\x1b[31mred\x1b[1;44mbold\x1b[m \x1b[4:3;58;5;9mcurl\x1b[0m\x1b[38;2;1;2;3mrgb",
        b"\x1b]2;a title\x07\x1b[?1h\x1b=\x1b[?2004h\x1b[?1002h\x1b[?1006h\x1b[?25l\x1b[3 q",
        b"before\x1b7\x1b[?1049h\x1b[2;2Halt\x1b[31m!\x1b[?1049lafter",
        b"a\r\nb\r\nc\r\nd\r\ne\r\nf\x1b[?1049h\x1b[Hfull\r\nscreen\x1b[?1049l\r\ng",
        b"\x1b[2;3r\x1b[2;1Hin\r\nregion\r\nscrolls\x1b[?6h\x1b[1;1Ho",
        b"\x1b(0lqk\x1b(B\x1b)0\x0exxx\x0fyyy",
        "wide 漢字 and é e\u{301} 😀x漢字漢字漢".as_bytes(),
        "012345678漢字".as_bytes(),
        b"\x1b]8;id=1;http://x/\x1b\\link\x1b]8;;\x1b\\ no",
        b"\x1b[3g\x1b[1;5H\x1bH\r\tx\ty",
        b"\x1b[4hins\x1b[1;1Hert\x1b[4l",
        b"0123456789\x1b7\r\nmore\x1b8Z",
        b"\x1b[44m\x1b[2J\x1b[Hblue\x1b[K\r\n\x1b[m\n\n\n\n",
        b"text\x1b[2J\x1b[3Jmore",
        b"\x1b[?47halt\x1b[?47l",
        b"\x1b[>1u\x1b[>4;2m\x1b[?1004hx",
        b"\x1b[?7l0123456789abc\x1b[?7h",
        b"\x1b]10;#ff0000\x07\x1b]4;1;#00ff00\x07x",
        b"\x1bPq some sixel \x1b\\x\x1b[?2026hin\x1b[?2026l",
        b"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz\x1b[H\x1b[K\x1b[2Bz",
        b"x\x1bcy",
    ] {
        check_paint(small, stream);
    }
}

#[test]
fn history_flows_into_the_paint() {
    let mut first = vt(size(20, 5));
    for line in 0..3000 {
        first.read(
            format!("line {line} {}\r\n", "x".repeat(line % 50)).as_bytes(),
            false,
        );
    }
    first.read(b"$ ", false);
    let mut second = repaint(&mut first, 100_000);
    assert_same(&mut first, &mut second, "");
    same_text(&second.text(), &first.text());
    assert_eq!(first.text().lines().count(), 3001);
}

#[test]
fn a_paint_holds_as_many_lines_as_asked_for() {
    let mut first = vt(size(20, 5));
    for line in 0..3000 {
        first.read(format!("line {line}\r\n").as_bytes(), false);
    }
    for lines in [0, 1, 10, 300, 700, 2996, 5000] {
        let text = repaint(&mut first, lines).text();
        assert_eq!(text.lines().count(), (lines + 4).min(3000), "{lines}");
        assert!(text.ends_with("line 2999\n"));
    }
}

#[test]
fn much_plain_text_takes_the_short_way_and_ends_the_same() {
    let mut stream = Vec::new();
    stream.extend_from_slice(b"\x1b[31mfirst\x1b[m words");
    for line in 0..20_000 {
        stream.extend_from_slice(
            format!("[{line}] some words ü {}\r\n", "-".repeat(line % 90)).as_bytes(),
        );
    }
    stream.extend_from_slice(b"\x1b[1mlast");
    let mut slow = vt(size(80, 24));
    for part in stream.chunks(1000) {
        slow.read(part, false);
    }
    let mut fast = vt(size(80, 24));
    fast.read(&stream, false);
    same_text(&fast.text(), &slow.text());
    assert_same(&mut slow, &mut fast, "");
}

#[test]
fn growing_gives_rows_back_and_text_stays() {
    let mut first = vt(size(20, 5));
    for line in 0..40 {
        first.read(format!("line {line}\r\n").as_bytes(), false);
    }
    first.rest();
    first.resize(size(10, 12));
    first.rest();
    first.resize(size(30, 3));
    assert!(first.text().ends_with("line 38\nline 39\n"));
    assert_eq!(first.text().lines().count(), 40);
}

#[test]
fn queries_are_answered_when_asked_to() {
    let mut first = vt(size(80, 24));
    assert_eq!(first.read(b"ab\x1b[6n", true), b"\x1b[1;3R");
    assert_eq!(first.read(b"\x1b[c", true), b"\x1b[?6c");
    assert_eq!(first.read(b"\x1b[6n\x1b[c", false), b"");
    assert_eq!(first.read(b"\x1b[5n", true), b"\x1b[0n");
    assert_eq!(first.read(b"\x1b[?2004$p", true), b"\x1b[?2004;2$y");
    assert_eq!(
        first.read(b"\x1b]11;?\x07", true),
        b"\x1b]11;rgb:0000/0000/0000\x07"
    );
    let both = first.read(b"\x1b[>0q\x1b[c", true);
    assert!(both.starts_with(b"\x1bP>|berth(") && both.ends_with(b"\x1b[?6c"));
}

#[test]
fn a_paint_asks_nothing() {
    let mut first = vt(size(20, 5));
    first.read(
        b"text\x1b[6n\x1b[c\x1b[?1049h\x1b]11;?\x07\x1b[?u\x1b[18t",
        true,
    );
    let mut fresh = vt(size(20, 5));
    for piece in first.paint(100) {
        assert_eq!(fresh.read(&piece, true), b"");
    }
}

#[test]
fn a_gap_keeps_what_was_shown_as_history() {
    let mut first = vt(size(20, 3));
    first.read(b"one\r\n\x1b[31mtwo\x1b[?2004h\x1b[5", false);
    first.gap();
    first.read(b"three", false);
    assert_eq!(first.text(), "one\ntwo\nthree\n");
    assert!(!seen(&mut first).mode.contains(TermMode::BRACKETED_PASTE));
}

#[test]
fn a_new_run_begins_below_with_modes_off() {
    let mut first = vt(size(20, 6));
    assert_eq!(first.fresh_start(), b"");
    first.read(b"one\r\ntwo\x1b[?2004h\x1b[1;1H\x1b[?25l\x1b[32m", false);
    let mut second = repaint(&mut first, 100);
    let bytes = first.fresh_start();
    second.read(&bytes, false);
    assert_same(&mut first, &mut second, "");
    first.read(b"three", false);
    assert_eq!(first.text(), "one\ntwo\nthree\n");
}

#[test]
fn parts_make_the_terminal_again() {
    let mut first = vt(size(20, 4));
    for line in 0..600 {
        first.read(
            format!("\x1b[3{}mline {line}\r\n", line % 8).as_bytes(),
            false,
        );
    }
    first.read(b"\x1b[?1049h\x1b[Hin alt\x1b[3", false);
    let before = seen(&mut first);
    let parts = first.put_away();
    let mut second = Vt::from_parts(parts, History::new(100_000, 8 << 20));
    assert_eq!(seen(&mut second), before);
    assert_eq!(second.partial.bytes(), b"\x1b[3");
    assert_eq!(second.text(), first.text());
}

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let number = || 0u16..14;
    prop_oneof![
        6 => "[a-zA-Z0-9é ]{1,12}".prop_map(String::into_bytes),
        4 => Just(b"\r\n".to_vec()),
        1 => Just(b"\n".to_vec()),
        1 => Just(b"\r".to_vec()),
        1 => Just(b"\t".to_vec()),
        1 => Just(b"\x08".to_vec()),
        3 => (number(), number()).prop_map(|(row, column)| format!("\x1b[{row};{column}H").into_bytes()),
        3 => (number(), prop::sample::select(b"ABCDEFGdXPL@MST".to_vec()))
            .prop_map(|(count, end)| format!("\x1b[{count}{}", end as char).into_bytes()),
        2 => (0u16..3, prop::sample::select(b"JK".to_vec()))
            .prop_map(|(kind, end)| format!("\x1b[{kind}{}", end as char).into_bytes()),
        2 => prop::sample::select(vec![0, 1, 2, 3, 4, 7, 9, 22, 24, 31, 42, 97, 104, 39, 49])
            .prop_map(|code| format!("\x1b[{code}m").into_bytes()),
        1 => (0u16..256).prop_map(|index| format!("\x1b[38;5;{index}m").into_bytes()),
        2 => (prop::sample::select(vec![1, 7, 25, 1000, 1002, 1003, 1004, 1006, 2004, 1049, 1049]), any::<bool>())
            .prop_map(|(mode, on)| format!("\x1b[?{mode}{}", if on { 'h' } else { 'l' }).into_bytes()),
        1 => (1u16..6, 1u16..9).prop_map(|(top, bottom)| format!("\x1b[{top};{bottom}r").into_bytes()),
        1 => prop::sample::select(vec!["\x1b7", "\x1b8", "\x1bM", "\x1bD", "\x1bE", "\x1b=", "\x1b>", "\x0e", "\x0f", "\x1b)0", "\x1b(0", "\x1b(B", "\x1b[4h", "\x1b[4l"])
            .prop_map(|text| text.as_bytes().to_vec()),
        1 => "[a-z ]{0,10}".prop_map(|title| format!("\x1b]2;{}\x07", title.trim()).into_bytes()),
    ]
}

/// With characters of two cells, but nothing that erases one of the two: what is left then is each terminal's own matter.
fn wide_pieces() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => "[a-z漢字é😀 ]{1,12}".prop_map(String::into_bytes),
        3 => Just(b"\r\n".to_vec()),
        1 => prop::sample::select(vec![0, 1, 7, 31, 42]).prop_map(|code| format!("\x1b[{code}m").into_bytes()),
        1 => prop::sample::select(vec!["\x1b[2J\x1b[H", "\x1b[?1049h", "\x1b[?1049l"])
            .prop_map(|text| text.as_bytes().to_vec()),
    ]
}

fn check_cut(stream: &[u8], at: f64, size: Size) -> Result<(), TestCaseError> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a length"
    )]
    let cut = (stream.len() as f64 * at) as usize;
    let mut first = vt(size);
    first.read(&stream[..cut], false);
    let mut second = repaint(&mut first, 1000);
    let (expected, got) = seen_both(&mut first, &mut second);
    prop_assert_eq!(got, expected, "painted");
    first.read(&stream[cut..], false);
    second.read(&stream[cut..], false);
    let (expected, got) = seen_both(&mut first, &mut second);
    prop_assert_eq!(got, expected, "then all");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]
    #[test]
    fn a_paint_and_the_rest_show_what_all_shows(
        stream in prop::collection::vec(pieces(), 0..80),
        at in 0.0f64..1.0,
        cols in 2u16..16,
        rows in 1u16..8,
    ) {
        check_cut(&stream.concat(), at, size(cols, rows))?;
    }

    #[test]
    fn so_do_wide_characters(
        stream in prop::collection::vec(wide_pieces(), 0..60),
        at in 0.0f64..1.0,
        cols in 4u16..16,
        rows in 1u16..8,
    ) {
        check_cut(&stream.concat(), at, size(cols, rows))?;
    }
}
