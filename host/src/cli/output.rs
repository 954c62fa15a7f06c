//! How the command line writes: to standard output and standard error, and quietly done when nobody reads any more.

use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// Writes a line to standard output.
pub(super) fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Writes a document to standard output, indented.
pub(super) fn json<T: Serialize>(document: &T) -> io::Result<()> {
    let text = serde_json::to_string_pretty(document)?;
    line(&text)
}

/// Writes a line to standard error, for the person at the terminal. Where that is gone, nobody is left to tell.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Rows under a head, in columns as wide as they need; an empty table is its head alone.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let bold = io::stdout().is_terminal();
    let mut text = String::new();
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    for (index, row) in std::iter::once(&head).chain(rows).enumerate() {
        let mut written = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let pad = width - cell.chars().count();
            written.push_str(cell);
            written.extend(std::iter::repeat_n(' ', pad + 2));
        }
        let written = written.trim_end();
        if index == 0 && bold {
            text.push_str("\x1b[1m");
            text.push_str(written);
            text.push_str("\x1b[0m\n");
        } else {
            text.push_str(written);
            text.push('\n');
        }
    }
    line(&text)
}

/// Text of a session or a plugin as it may be shown on a terminal: control characters are taken out.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect()
}
