//! What clients send: which text frames are control, and which input is a terminal's own answer.

use berth_keeper_protocol::Size;
use serde_json::Value;

/// The largest number of columns or rows.
pub const MAX_CELLS: u16 = 1000;

/// What a text frame is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextFrame {
    /// Typed text.
    Input,
    Resize(Size),
    /// Of a known type, but with a bad field: this sentence says which.
    Bad(String),
}

/// Tells control from typed text: a JSON object with a known `type` is control, all else is typed.
pub fn read_text_frame(text: &str) -> TextFrame {
    // Nothing that a key makes begins like this, so typing costs no parsing.
    if !text.trim_start().starts_with('{') {
        return TextFrame::Input;
    }
    let Ok(Value::Object(fields)) = serde_json::from_str(text) else {
        return TextFrame::Input;
    };
    if fields.get("type").and_then(Value::as_str) != Some("resize") {
        return TextFrame::Input;
    }
    let cells = |name: &str| {
        fields
            .get(name)
            .and_then(Value::as_u64)
            .and_then(|number| u16::try_from(number).ok())
            .filter(|number| (1..=MAX_CELLS).contains(number))
            .ok_or_else(|| format!("resize: {name} must be a whole number from 1 to {MAX_CELLS}"))
    };
    match (cells("cols"), cells("rows")) {
        (Ok(cols), Ok(rows)) => TextFrame::Resize(Size { cols, rows }),
        (Err(message), _) | (_, Err(message)) => TextFrame::Bad(message),
    }
}

/// Whether input is nothing but what a terminal says by itself: answers to queries (device attributes, status, cursor
/// position, modes, colours, version). Typed keys never are, but for F3 with a modifier, which looks like a cursor in the
/// first row and is taken for the key.
pub(super) fn is_terminal_answer(input: &[u8]) -> bool {
    let mut rest = input;
    while !rest.is_empty() {
        match answer_length(rest) {
            0 => return false,
            length => rest = &rest[length..],
        }
    }
    !input.is_empty()
}

/// Whether input says only that the window got or lost the focus.
pub(super) fn is_focus_report(input: &[u8]) -> bool {
    matches!(input, b"\x1b[I" | b"\x1b[O")
}

/// The length of the answer at the begin; 0: there is none.
fn answer_length(input: &[u8]) -> usize {
    match input {
        [0x1b, b'[', body @ ..] => {
            let Some(end) = body.iter().position(|byte| (0x40..=0x7e).contains(byte)) else {
                return 0;
            };
            let parameters = &body[..end];
            let digits = |bytes: &[u8]| {
                !bytes.is_empty()
                    && bytes
                        .iter()
                        .all(|byte| byte.is_ascii_digit() || *byte == b';')
            };
            let is_answer = match (parameters, body[end]) {
                ([b'?' | b'>' | b'=', numbers @ ..], b'c')
                | ([b'?', numbers @ ..], b'n' | b'R' | b'u')
                | ([b'4' | b'6' | b'8', b';', numbers @ ..], b't')
                | ([b'?', numbers @ .., b'$'] | [numbers @ .., b'$'], b'y') => digits(numbers),
                (b"0" | b"3", b'n') => true,
                (numbers, b'R') => {
                    digits(numbers) && numbers.contains(&b';') && !is_modified_f3(numbers)
                }
                _ => false,
            };
            if is_answer { 2 + end + 1 } else { 0 }
        }
        [0x1b, b']', body @ ..] => {
            let colors = [&b"4;"[..], b"10;", b"11;", b"12;"];
            if colors.iter().any(|prefix| body.starts_with(prefix))
                && memchr::memmem::find(body, b"rgb").is_some()
            {
                string_length(body).map_or(0, |length| 2 + length)
            } else {
                0
            }
        }
        [0x1b, b'P', body @ ..]
            if body.starts_with(b">|")
                || body.get(1..3) == Some(b"$r")
                || body.get(1..3) == Some(b"+r") =>
        {
            string_length(body).map_or(0, |length| 2 + length)
        }
        _ => 0,
    }
}

fn is_modified_f3(numbers: &[u8]) -> bool {
    matches!(numbers, [b'1', b';', b'2'..=b'8'])
}

/// The length of a string's body with its end.
fn string_length(body: &[u8]) -> Option<usize> {
    let end = memchr::memchr2(0x07, 0x1b, body)?;
    match (body[end], body.get(end + 1)) {
        (0x07, _) => Some(end + 1),
        (_, Some(b'\\')) => Some(end + 2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_known_type_is_control() {
        let resize = |cols, rows| TextFrame::Resize(Size { cols, rows });
        let check =
            |text: &str, frame: TextFrame| assert_eq!(read_text_frame(text), frame, "{text}");
        check("ls\r", TextFrame::Input);
        check("{", TextFrame::Input);
        check("{}", TextFrame::Input);
        check("[1]", TextFrame::Input);
        check(r#"{"type":"other","cols":1}"#, TextFrame::Input);
        check(r#"{"type":7}"#, TextFrame::Input);
        check(r#""resize""#, TextFrame::Input);
        check(r#"{"type":"resize","cols":120,"rows":40}"#, resize(120, 40));
        check(
            r#" { "rows":1, "cols":1000, "type":"resize" } "#,
            resize(1000, 1),
        );
    }

    #[test]
    fn bad_fields_are_named() {
        for (text, field) in [
            (r#"{"type":"resize"}"#, "cols"),
            (r#"{"type":"resize","cols":0,"rows":4}"#, "cols"),
            (r#"{"type":"resize","cols":80,"rows":1001}"#, "rows"),
            (r#"{"type":"resize","cols":80.5,"rows":4}"#, "cols"),
            (r#"{"type":"resize","cols":"80","rows":4}"#, "cols"),
            (r#"{"type":"resize","cols":80,"rows":-4}"#, "rows"),
        ] {
            match read_text_frame(text) {
                TextFrame::Bad(message) => assert!(message.contains(field), "{message}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn answers_are_told_from_keys() {
        for answer in [
            &b"\x1b[?1;2c"[..],
            b"\x1b[>0;276;0c",
            b"\x1b[0n",
            b"\x1b[24;80R",
            b"\x1b[?2026;2$y",
            b"\x1b[4;2$y",
            b"\x1b]11;rgb:0000/0000/0000\x1b\\",
            b"\x1b]4;1;rgb:ff/00/00\x07",
            b"\x1bP>|xterm.js(5.5.0)\x1b\\",
            b"\x1b[8;24;80t",
            b"\x1b[?0u",
            b"\x1b[?1;2c\x1b[24;80R",
        ] {
            assert!(is_terminal_answer(answer), "{answer:?}");
        }
        for key in [
            &b""[..],
            b"a",
            b"\r",
            b"\x03",
            b"\x1b",
            b"\x1b[A",
            b"\x1b[1;2R",
            b"\x1b[1;5C",
            b"\x1bOR",
            b"\x1b[200~text\x1b[201~",
            b"\x1b[<0;10;20M",
            b"\x1b[?1;2ca",
            b"\x1b[97;5u",
            b"\x1b[I",
        ] {
            assert!(!is_terminal_answer(key), "{key:?}");
        }
        assert!(
            is_focus_report(b"\x1b[I") && is_focus_report(b"\x1b[O") && !is_focus_report(b"\x1b[A")
        );
    }
}
