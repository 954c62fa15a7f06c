//! Which bytes of which files come next. Knows nothing of who is told.

use super::glob::Found;
use berth_keeper_protocol::{FilePosition, Follow, FollowFrame};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::time::UNIX_EPOCH;

/// A line longer than this comes in pieces.
const LINE_LIMIT: usize = 1 << 20;
/// What is read at once where lines are short.
const CHUNK: usize = 64 * 1024;
/// How many files are held open at most, so that one that is renamed away is read to its end.
const OPEN_LIMIT: usize = 64;

/// All files of one follow, by their ids.
#[derive(Debug, Default)]
pub(super) struct Tails {
    files: BTreeMap<String, Tail>,
    queue: VecDeque<String>,
    /// How many files are held open.
    open: usize,
}

#[derive(Debug)]
struct Tail {
    path: String,
    offset: u64,
    file: Option<File>,
    /// The size up to which no whole line was found.
    searched: u64,
    /// To be told with the next frame, which is then due even without bytes.
    restarted: bool,
    /// It no longer has a name that matches: to be forgotten once it was read to its end.
    gone: bool,
}

impl Tail {
    fn new(path: &str, offset: u64) -> Self {
        Self {
            path: path.to_owned(),
            offset,
            file: None,
            searched: 0,
            restarted: false,
            gone: false,
        }
    }
}

impl Tails {
    pub(super) fn new(follow: &Follow) -> Self {
        let known = follow.from.iter().map(|position| {
            let tail = Tail::new(&position.path, position.offset);
            (position.file_id.clone(), tail)
        });
        Self {
            files: known.collect(),
            ..Self::default()
        }
    }

    /// Takes in what was found now.
    pub(super) fn look(&mut self, found: &Found) {
        for tail in self.files.values_mut() {
            tail.gone = true;
        }
        for path in &found.files {
            // One that went away in between is seen so at the next look.
            if let (Some(text), Ok(metadata)) = (path.to_str(), std::fs::metadata(path)) {
                self.see(text, &metadata);
            }
        }
        self.queue = self.files.keys().cloned().collect();
        // What a renamed file still holds comes before what took its place.
        self.queue
            .make_contiguous()
            .sort_by_key(|id| !self.files[id].gone);
    }

    fn see(&mut self, path: &str, metadata: &Metadata) {
        let id = file_id(metadata);
        if !self.files.contains_key(&id) {
            let mut tail = Tail::new(path, 0);
            tail.restarted = self.files.values().any(|other| other.path == path);
            self.files.insert(id.clone(), tail);
        }
        let Some(tail) = self.files.get_mut(&id) else {
            return;
        };
        tail.gone = false;
        path.clone_into(&mut tail.path);
        if metadata.len() < tail.offset {
            tail.offset = 0;
            tail.searched = 0;
            tail.restarted = true;
        }
    }

    /// The next frame and its bytes; `None` when there are none until something changes.
    pub(super) fn next(&mut self) -> Option<(FollowFrame, Bytes)> {
        while let Some(id) = self.queue.front().cloned() {
            if let Some(tail) = self.files.get_mut(&id) {
                let held = tail.file.is_some();
                // A file that cannot be read now is read when it can.
                let bytes = tail.read(&id, self.open < OPEN_LIMIT).unwrap_or_default();
                self.open += usize::from(tail.file.is_some() && !held);
                if !bytes.is_empty() || tail.restarted {
                    return Some(tail.frame(&id, bytes));
                }
                if tail.gone {
                    self.open -= usize::from(tail.file.is_some());
                    self.files.remove(&id);
                }
            }
            self.queue.pop_front();
        }
        None
    }
}

impl Tail {
    fn frame(&mut self, id: &str, bytes: Bytes) -> (FollowFrame, Bytes) {
        let frame = FollowFrame {
            position: FilePosition {
                path: self.path.clone(),
                file_id: id.to_owned(),
                offset: self.offset,
            },
            bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            restarted: std::mem::take(&mut self.restarted),
        };
        self.offset += bytes.len() as u64;
        (frame, bytes)
    }

    /// Whole lines from the offset on, or a piece of one that is too long. Holds the file open where it may.
    fn read(&mut self, id: &str, hold: bool) -> io::Result<Bytes> {
        let opened;
        let file = match &self.file {
            Some(file) => file,
            // Its name may be another file's by now.
            None if self.gone => return Ok(Bytes::new()),
            None => {
                let file = File::open(&self.path)?;
                if file_id(&file.metadata()?) != id {
                    return Ok(Bytes::new());
                }
                if hold {
                    self.file.insert(file)
                } else {
                    opened = file;
                    &opened
                }
            }
        };
        let size = file.metadata()?.len();
        if size <= self.offset.max(self.searched) {
            return Ok(Bytes::new());
        }
        let mut limit = CHUNK;
        loop {
            let mut buffer = vec![0; limit];
            let count = read_at(file, &mut buffer, self.offset)?;
            buffer.truncate(count);
            if let Some(end) = buffer.iter().rposition(|byte| *byte == b'\n') {
                buffer.truncate(end + 1);
                return Ok(buffer.into());
            }
            if count < limit {
                // Torn: the rest of the line is still to come.
                self.searched = self.offset + count as u64;
                return Ok(Bytes::new());
            }
            if limit == LINE_LIMIT {
                return Ok(buffer.into());
            }
            limit = LINE_LIMIT;
        }
    }
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match file.read_at(&mut buffer[count..], offset + count as u64) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// Device, inode, and when it was made: inodes are used again.
fn file_id(metadata: &Metadata) -> String {
    let made = metadata
        .created()
        .ok()
        .and_then(|made| made.duration_since(UNIX_EPOCH).ok())
        .map_or(0, |made| made.as_nanos());
    format!("{:x}-{:x}-{made:x}", metadata.dev(), metadata.ino())
}

/// What `path` is now, for tests.
#[cfg(test)]
pub(super) fn id_of(path: &std::path::Path) -> String {
    file_id(&std::fs::metadata(path).unwrap())
}

#[cfg(test)]
mod tests {
    use super::super::glob::find;
    use super::*;
    use std::fs;
    use std::io::Write as _;
    use std::path::Path;

    struct Case {
        folder: tempfile::TempDir,
        tails: Tails,
    }

    impl Case {
        fn new() -> Self {
            Self {
                folder: tempfile::tempdir().unwrap(),
                tails: Tails::default(),
            }
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.folder.path().join(name)
        }

        fn append(&self, name: &str, bytes: &[u8]) {
            let file = File::options()
                .create(true)
                .append(true)
                .open(self.path(name));
            file.unwrap().write_all(bytes).unwrap();
        }

        /// What comes now: name, offset, bytes, restarted.
        fn next(&mut self) -> Vec<(String, u64, String, bool)> {
            let glob = format!("{}/*.log", self.folder.path().display());
            self.tails.look(&find(&glob));
            std::iter::from_fn(|| self.tails.next())
                .map(|(frame, bytes)| {
                    let name = Path::new(&frame.position.path).file_name().unwrap();
                    let text = String::from_utf8(bytes.to_vec()).unwrap();
                    (
                        name.to_str().unwrap().to_owned(),
                        frame.position.offset,
                        text,
                        frame.restarted,
                    )
                })
                .collect()
        }
    }

    fn frame(name: &str, offset: u64, text: &str, restarted: bool) -> (String, u64, String, bool) {
        (name.to_owned(), offset, text.to_owned(), restarted)
    }

    #[test]
    fn a_torn_line_waits_for_its_end() {
        let mut case = Case::new();
        assert_eq!(case.next(), []);
        case.append("a.log", b"one\ntw");
        assert_eq!(case.next(), [frame("a.log", 0, "one\n", false)]);
        assert_eq!(case.next(), []);
        case.append("a.log", b"o\n");
        assert_eq!(case.next(), [frame("a.log", 4, "two\n", false)]);
    }

    #[test]
    fn a_file_cut_short_is_read_from_its_start() {
        let mut case = Case::new();
        case.append("a.log", b"one\ntwo\n");
        assert_eq!(case.next().len(), 1);
        fs::write(case.path("a.log"), "new\n").unwrap();
        assert_eq!(case.next(), [frame("a.log", 0, "new\n", true)]);
        // Told at once, even where nothing is in it yet.
        fs::write(case.path("a.log"), "").unwrap();
        assert_eq!(case.next(), [frame("a.log", 0, "", true)]);
    }

    #[test]
    fn a_rotated_file_is_read_to_its_end_before_the_new_one() {
        let mut case = Case::new();
        case.append("a.log", b"one\n");
        assert_eq!(case.next().len(), 1);
        case.append("a.log", b"two\n");
        fs::rename(case.path("a.log"), case.path("a.log.1")).unwrap();
        case.append("a.log", b"three\n");
        let expected = [
            frame("a.log", 4, "two\n", false),
            frame("a.log", 0, "three\n", true),
        ];
        assert_eq!(case.next(), expected);
        assert_eq!(case.next(), []);
    }

    #[test]
    fn a_renamed_file_that_still_matches_goes_on() {
        let mut case = Case::new();
        case.append("a.log", b"one\n");
        assert_eq!(case.next().len(), 1);
        fs::rename(case.path("a.log"), case.path("b.log")).unwrap();
        case.append("b.log", b"two\n");
        assert_eq!(case.next(), [frame("b.log", 4, "two\n", false)]);
    }

    #[test]
    fn a_long_line_comes_in_pieces_and_a_middling_one_whole() {
        let mut case = Case::new();
        let middling = format!("{}\n", "m".repeat(CHUNK * 3));
        let long = format!("{}\n", "l".repeat(LINE_LIMIT + 10));
        case.append("a.log", middling.as_bytes());
        case.append("a.log", long.as_bytes());
        let lengths: Vec<usize> = case.next().iter().map(|frame| frame.2.len()).collect();
        assert_eq!(lengths, [middling.len(), LINE_LIMIT, 11]);
    }

    #[test]
    fn reading_goes_on_where_it_was_left() {
        let mut case = Case::new();
        case.append("a.log", b"one\ntwo\n");
        case.append("b.log", b"other\n");
        let position = |name: &str, file_id: String, offset| FilePosition {
            path: case.path(name).to_str().unwrap().to_owned(),
            file_id,
            offset,
        };
        let from = vec![
            position("a.log", id_of(&case.path("a.log")), 4),
            // Another file stood there.
            position("b.log", "0-0-0".to_owned(), 3),
        ];
        let glob = String::new();
        case.tails = Tails::new(&Follow { glob, from });
        let expected = [
            frame("a.log", 4, "two\n", false),
            frame("b.log", 0, "other\n", true),
        ];
        let mut next = case.next();
        next.sort();
        assert_eq!(next, expected);
    }
}
