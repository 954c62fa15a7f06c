//! Reading what a session has written, without being led elsewhere.
//!
//! No component of a path is ever followed through a link, nothing but regular files is opened, and nothing is read
//! beyond a limit.

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;
use std::ffi::{OsStr, OsString};
use std::fs::{File, FileType};
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder(OwnedFd);

impl Folder {
    /// Opens a folder of the host's; only its last component must be no link.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        open_at(AT_FDCWD, path, OFlag::O_DIRECTORY).map(Self)
    }

    /// A folder below.
    pub(super) fn folder(&self, path: impl AsRef<Path>) -> io::Result<Self> {
        self.open_below(path.as_ref(), OFlag::O_DIRECTORY).map(Self)
    }

    /// A regular file below.
    pub(super) fn file(&self, path: impl AsRef<Path>) -> io::Result<File> {
        // Opening a pipe that nobody writes would wait for ever.
        let file = File::from(self.open_below(path.as_ref(), OFlag::O_NONBLOCK)?);
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::Error::new(
                ErrorKind::InvalidInput,
                "not a regular file",
            ))
        }
    }

    /// What kind of thing a name in it is, links not followed.
    pub(super) fn kind(&self, name: &OsStr) -> Option<FileType> {
        let path = self.by_descriptor().join(name);
        Some(path.symlink_metadata().ok()?.file_type())
    }

    /// The text of a file below; `None` where there is none.
    pub(super) fn text(&self, path: impl AsRef<Path>, limit: u64) -> io::Result<Option<String>> {
        let file = match self.file(path) {
            Ok(file) => file,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::new(
                ErrorKind::FileTooLarge,
                "larger than it can be",
            ));
        }
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The names of what is in it, in no order; at most `limit`.
    pub(super) fn names(&self, limit: usize) -> io::Result<Vec<OsString>> {
        std::fs::read_dir(self.by_descriptor())?
            .take(limit)
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect()
    }

    /// A path to this very folder, wherever it was moved to.
    fn by_descriptor(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }

    fn open_below(&self, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
        let mut components = path.components().peekable();
        let mut above: Option<OwnedFd> = None;
        while let Some(component) = components.next() {
            let Component::Normal(name) = component else {
                return Err(io::Error::new(ErrorKind::InvalidInput, "no plain path"));
            };
            let flags = if components.peek().is_some() {
                OFlag::O_DIRECTORY
            } else {
                flags
            };
            let from = above.as_ref().map_or(self.0.as_fd(), AsFd::as_fd);
            above = Some(open_at(from, Path::new(name), flags)?);
        }
        above.ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "an empty path"))
    }
}

fn open_at(from: impl AsFd, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    let flags = flags | OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(from, path, flags, Mode::empty())?)
}

/// Whether there is nothing at a path.
pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_and_pipes_are_not_followed() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("inner");
        std::fs::create_dir_all(inner.join("a/b")).unwrap();
        std::fs::write(inner.join("a/b/c"), "text").unwrap();
        std::fs::write(outer.path().join("secret"), "secret").unwrap();
        symlink("../secret", inner.join("link")).unwrap();
        symlink("..", inner.join("up")).unwrap();
        nix::unistd::mkfifo(&inner.join("pipe"), Mode::S_IRWXU).unwrap();
        let folder = Folder::open(&inner).unwrap();
        assert_eq!(folder.text("a/b/c", 4).unwrap().as_deref(), Some("text"));
        assert!(folder.text("a/b/c", 3).is_err(), "too large");
        assert_eq!(folder.text("a/x", 9).unwrap(), None);
        for path in [
            "link",
            "up/secret",
            "../secret",
            "pipe",
            "a",
            "/etc/passwd",
            "",
        ] {
            assert!(!matches!(folder.text(path, 99), Ok(Some(_))), "{path}");
        }
        assert_eq!(folder.folder("a").unwrap().names(9).unwrap(), ["b"]);
        assert!(folder.folder("up").is_err());
        symlink(&inner, outer.path().join("alias")).unwrap();
        assert!(Folder::open(&outer.path().join("alias")).is_err());
    }
}
