//! A console on disk: one file, written whole or not at all.
//!
//! Its first line is a JSON document that says what follows: the history, the paint of the screen and the open sequence,
//! one behind the other.

use super::log::ExitNote;
use super::vt::VtParts;
use berth_keeper_protocol::Size;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;

const FILE: &str = "state";
const FORMAT: u32 = 1;

/// What is known without reading the rest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Head {
    format: u32,
    /// The number of the first output byte that is not in here.
    pub(super) offset: u64,
    pub(super) cols: u16,
    pub(super) rows: u16,
    pub(super) exit: Option<ExitNote>,
    open_cells: usize,
    history_bytes: usize,
    screen_bytes: usize,
    partial_bytes: usize,
}

impl Head {
    pub(super) fn size(&self) -> Size {
        Size {
            cols: self.cols,
            rows: self.rows,
        }
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Writes the file.
pub(super) fn write(
    folder: &Path,
    offset: u64,
    exit: Option<ExitNote>,
    parts: &VtParts,
) -> io::Result<()> {
    let head = Head {
        format: FORMAT,
        offset,
        cols: parts.size.cols,
        rows: parts.size.rows,
        exit,
        open_cells: parts.open_cells,
        history_bytes: parts.history.iter().map(Bytes::len).sum(),
        screen_bytes: parts.screen.len(),
        partial_bytes: parts.partial.len(),
    };
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer(&mut file, &head)?;
    file.write_all(b"\n")?;
    for piece in parts.history.iter().chain([&parts.screen, &parts.partial]) {
        file.write_all(piece)?;
    }
    file.as_file().sync_data()?;
    file.persist(folder.join(FILE))
        .map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

fn open(folder: &Path) -> io::Result<Option<(Head, BufReader<File>)>> {
    let file = match File::open(folder.join(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    (&mut reader).take(64 * 1024).read_until(b'\n', &mut line)?;
    let head: Head =
        serde_json::from_slice(&line).map_err(|_| damaged("its head is no document"))?;
    if head.format != FORMAT {
        return Err(damaged("its format is not known"));
    }
    let rest = [head.history_bytes, head.screen_bytes, head.partial_bytes]
        .iter()
        .try_fold(line.len(), |sum, part| sum.checked_add(*part))
        .ok_or_else(|| damaged("its head is wrong"))?;
    if length != rest as u64 {
        return Err(damaged("it is cut short"));
    }
    Ok(Some((head, reader)))
}

/// The head of what was saved; `None`: nothing was.
pub(super) fn read_head(folder: &Path) -> io::Result<Option<Head>> {
    Ok(open(folder)?.map(|(head, _)| head))
}

/// All that was saved.
pub(super) fn read(folder: &Path) -> io::Result<Option<VtParts>> {
    let Some((head, mut reader)) = open(folder)? else {
        return Ok(None);
    };
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest)?;
    let mut rest = Bytes::from(rest);
    if rest.len() < head.history_bytes + head.screen_bytes {
        return Err(damaged("it is cut short"));
    }
    Ok(Some(VtParts {
        size: head.size(),
        history: vec![rest.split_to(head.history_bytes)],
        open_cells: head.open_cells,
        screen: rest.split_to(head.screen_bytes),
        partial: rest,
    }))
}

/// Puts a file that cannot be read out of the way, for a person to look at.
pub(super) fn put_aside(folder: &Path) -> io::Result<()> {
    fs::rename(folder.join(FILE), folder.join("state.damaged"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).unwrap().is_none());
        let parts = VtParts {
            size: Size { cols: 90, rows: 20 },
            history: vec![
                Bytes::from_static(b"one\r\n"),
                Bytes::from_static(b"two\r\n"),
            ],
            open_cells: 0,
            screen: Bytes::from_static(b"screen"),
            partial: Bytes::from_static(b"\x1b["),
        };
        let exit = ExitNote {
            code: Some(3),
            message: None,
        };
        write(folder.path(), 1234, Some(exit.clone()), &parts).unwrap();
        let head = read_head(folder.path()).unwrap().unwrap();
        assert_eq!(
            (head.offset, head.size(), head.exit),
            (1234, parts.size, Some(exit))
        );
        let read_back = read(folder.path()).unwrap().unwrap();
        assert_eq!(read_back.history.concat(), b"one\r\ntwo\r\n");
        assert_eq!(
            (read_back.screen, read_back.partial),
            (parts.screen, parts.partial)
        );
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "{}\n", "no\n", "{\"format\":9}\n"] {
            fs::write(folder.path().join(FILE), text).unwrap();
            assert_eq!(
                read(folder.path()).unwrap_err().kind(),
                io::ErrorKind::InvalidData
            );
        }
        put_aside(folder.path()).unwrap();
        assert!(read(folder.path()).unwrap().is_none());
    }
}
