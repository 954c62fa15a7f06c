//! Which files could be plugins, and whether they are trusted.
//!
//! A plugin becomes code of this process. So it counts only when nobody but the server's user and root can have put it
//! there, and what is checked is what is loaded: the file is read once, and never opened by its name again.

use super::refusal::Refusal;
use super::settings::PluginDir;
use crate::driver::Isolation;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::unistd::geteuid;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::{debug, warn};

/// No plugin is larger.
const SIZE_LIMIT: u64 = 1 << 30;

/// A file in a plugin folder whose name ends in `.so`.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// The place of its folder in the settings.
    pub(super) order: usize,
    pub(super) isolation: Isolation,
    name: OsString,
    folder: Arc<Folder>,
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    fd: OwnedFd,
    stat: FileStat,
}

/// The libraries in these folders, in the order of the folders and of their names.
pub(super) fn find(dirs: &[PluginDir]) -> Vec<Found> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (order, dir) in dirs.iter().enumerate() {
        let path = match std::fs::canonicalize(&dir.path) {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                debug!(folder = %dir.path.display(), "no such plugin folder");
                continue;
            }
            Err(error) => {
                warn!(folder = %dir.path.display(), %error, "the plugin folder cannot be used");
                continue;
            }
        };
        if !seen.insert(path.clone()) {
            continue;
        }
        match find_in(&path) {
            Ok((folder, names)) => {
                let folder = Arc::new(folder);
                found.extend(names.into_iter().map(|name| Found {
                    path: path.join(&name),
                    order,
                    isolation: dir.isolation,
                    name,
                    folder: Arc::clone(&folder),
                }));
            }
            Err(error) => {
                warn!(folder = %path.display(), %error, "the plugin folder cannot be used");
            }
        }
    }
    found
}

/// One library, by its path.
pub(super) fn find_one(path: &Path) -> io::Result<Found> {
    let path = std::path::absolute(path)?;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::IsADirectory.into());
    };
    let folder = std::fs::canonicalize(folder)?;
    let (opened, _) = find_in(&folder)?;
    Ok(Found {
        path: folder.join(name),
        order: 0,
        isolation: Isolation::None,
        name: name.to_owned(),
        folder: Arc::new(opened),
    })
}

fn find_in(path: &Path) -> io::Result<(Folder, Vec<OsString>)> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let fd = open(path, flags, Mode::empty())?;
    let stat = fstat(&fd)?;
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let name = entry?.file_name();
        let is_library = Path::new(&name)
            .extension()
            .is_some_and(|extension| extension == "so");
        if is_library {
            names.push(name);
        }
    }
    names.sort();
    let folder = Folder {
        path: path.to_owned(),
        fd,
        stat,
    };
    Ok((folder, names))
}

/// Reads the file, after it and its folder were found to be trusted.
pub(super) fn read(found: &Found) -> Result<Vec<u8>, Refusal> {
    trust(&found.folder.path, &found.folder.stat)?;
    // Not blocking, so that opening a pipe does not wait for its other end.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let fd = openat(
        &found.folder.fd,
        found.name.as_os_str(),
        flags,
        Mode::empty(),
    )
    .map_err(|errno| match errno {
        Errno::ELOOP => Refusal::Link,
        errno => Refusal::Read(errno.into()),
    })?;
    let stat = fstat(&fd).map_err(|errno| Refusal::Read(errno.into()))?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(Refusal::NotAFile);
    }
    trust(&found.path, &stat)?;
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    if size > SIZE_LIMIT {
        return Err(Refusal::TooLarge { limit: SIZE_LIMIT });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    File::from(fd)
        .take(SIZE_LIMIT)
        .read_to_end(&mut bytes)
        .map_err(Refusal::Read)?;
    Ok(bytes)
}

/// Only what belongs to the server's user or to root, and what nobody else can write, is trusted.
fn trust(path: &Path, stat: &FileStat) -> Result<(), Refusal> {
    let user = geteuid().as_raw();
    if stat.st_uid != user && stat.st_uid != 0 {
        return Err(Refusal::Owner {
            path: path.to_owned(),
            owner: stat.st_uid,
            user,
        });
    }
    let others = Mode::S_IWGRP | Mode::S_IWOTH;
    if Mode::from_bits_truncate(stat.st_mode).intersects(others) {
        return Err(Refusal::Writable {
            path: path.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn dirs(paths: &[&Path]) -> Vec<PluginDir> {
        paths
            .iter()
            .map(|path| PluginDir {
                path: path.to_path_buf(),
                isolation: Isolation::None,
            })
            .collect()
    }

    fn only(path: &Path) -> Found {
        let mut found = find(&dirs(&[path]));
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    #[test]
    fn folders_are_looked_into_in_order_and_once() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(one.path().join("z.so"), "").unwrap();
        std::fs::write(two.path().join("b.so"), "").unwrap();
        std::fs::write(two.path().join("a.so"), "").unwrap();
        std::fs::write(two.path().join("a.txt"), "").unwrap();
        std::fs::create_dir(two.path().join("deeper")).unwrap();
        std::fs::write(two.path().join("deeper/c.so"), "").unwrap();
        let missing = one.path().join("missing");
        let found = find(&dirs(&[one.path(), &missing, two.path(), one.path()]));
        let names: Vec<_> = found
            .iter()
            .map(|found| (found.order, found.name.to_str().unwrap()))
            .collect();
        assert_eq!(names, [(0, "z.so"), (2, "a.so"), (2, "b.so")]);
    }

    #[test]
    fn what_others_can_write_is_refused_and_the_message_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.so");
        std::fs::write(&file, "bytes").unwrap();
        let mode = |path: &Path, mode: u32| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(&file, 0o644);
        assert_eq!(read(&only(folder.path())).unwrap(), b"bytes");
        for bad in [0o664, 0o646] {
            mode(&file, bad);
            let refusal = read(&only(folder.path())).unwrap_err().to_string();
            assert!(refusal.contains("chmod go-w"), "{refusal}");
            assert!(refusal.contains("a.so"), "{refusal}");
        }
        mode(&file, 0o644);
        mode(folder.path(), 0o1777);
        let refusal = read(&only(folder.path())).unwrap_err().to_string();
        assert!(refusal.contains("chmod go-w"), "{refusal}");
        assert!(!refusal.contains("a.so"), "{refusal}");
    }

    #[test]
    fn links_pipes_and_folders_are_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.so");
        symlink("/bin/true", &path).unwrap();
        assert!(matches!(read(&only(folder.path())), Err(Refusal::Link)));
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        assert!(matches!(read(&only(folder.path())), Err(Refusal::NotAFile)));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(read(&only(folder.path())), Err(Refusal::NotAFile)));
    }

    #[test]
    fn what_belongs_to_somebody_else_is_refused() {
        if !geteuid().is_root() {
            return; // only root can give a file away
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.so");
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::chown(&file, Some(12_345), None).unwrap();
        let refusal = read(&only(folder.path())).unwrap_err().to_string();
        assert!(refusal.contains("chown 0"), "{refusal}");
    }
}
