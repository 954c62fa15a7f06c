//! What a folder holds.

use super::roots::{FilesError, Roots, reason};
use nix::fcntl::OFlag;
use serde::Serialize;
use std::cmp::Reverse;
use std::fs::{DirEntry, File, Metadata, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use utoipa::ToSchema;

/// A folder and what is in it: the answer to `POST /api/browse-directory`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Listing {
    /// Absolute, with links resolved.
    pub current_path: String,
    /// Null at a root.
    pub parent: Option<String>,
    /// Folders first, then by name.
    pub entries: Vec<Entry>,
}

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Entry {
    pub name: String,
    pub path: String,
    /// A folder, or a link to one.
    pub is_dir: bool,
    /// A folder with a `.git` in it, or a bare repository.
    pub is_git_repo: bool,
    /// In bytes; 0 for a folder, and for what cannot be read.
    pub size: u64,
}

/// Lists a folder inside the roots. It reads the disk: call it where blocking is allowed. What cannot be read is listed
/// without its facts; a link is listed as what it points to, and one that leads outside the roots as an empty file.
///
/// # Errors
/// The path is outside the roots, missing, no folder, or may not be read.
pub fn browse(roots: &Roots, path: &str, show_hidden: bool) -> Result<Listing, FilesError> {
    let folder = roots.resolve(path)?;
    let invalid = |reason: String| FilesError::Invalid {
        path: path.to_owned(),
        reason,
    };
    let Some(current_path) = folder.to_str() else {
        return Err(invalid("its name is not UTF-8".to_owned()));
    };
    let opened = open(&folder).map_err(|error| invalid(reason(&error)))?;
    // A folder above may have been swapped for a link since the check: what was opened must be what was checked.
    let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    if std::fs::read_link(&by_descriptor).ok().as_ref() != Some(&folder) {
        return Err(invalid("changed while it was read".to_owned()));
    }
    let listed = std::fs::read_dir(&by_descriptor).map_err(|error| invalid(reason(&error)))?;
    let mut entries: Vec<Entry> = listed
        .filter_map(Result::ok)
        .filter_map(|found| entry(roots, &folder, &found, show_hidden))
        .collect();
    entries.sort_by(|a, b| (Reverse(a.is_dir), &a.name).cmp(&(Reverse(b.is_dir), &b.name)));
    let parent = if roots.is_outermost(&folder) {
        None
    } else {
        folder.parent().and_then(Path::to_str).map(str::to_owned)
    };
    Ok(Listing {
        current_path: current_path.to_owned(),
        parent,
        entries,
    })
}

fn open(folder: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_DIRECTORY.bits() | OFlag::O_NOFOLLOW.bits())
        .open(folder)
}

fn entry(roots: &Roots, folder: &Path, found: &DirEntry, show_hidden: bool) -> Option<Entry> {
    let name = found.file_name().into_string().ok()?;
    if name.starts_with('.') && !show_hidden {
        return None;
    }
    let path = folder.join(&name);
    let metadata = facts(roots, &path, found);
    let is_dir = metadata.as_ref().is_some_and(Metadata::is_dir);
    Some(Entry {
        is_dir,
        is_git_repo: is_dir && is_git_repository(&path),
        size: metadata
            .filter(Metadata::is_file)
            .map_or(0, |file| file.len()),
        path: path.to_str()?.to_owned(),
        name,
    })
}

/// What is at the entry, behind a link too, but not where that leads outside.
fn facts(roots: &Roots, path: &Path, found: &DirEntry) -> Option<Metadata> {
    let metadata = found.metadata().ok()?;
    if !metadata.is_symlink() {
        return Some(metadata);
    }
    let target = path.canonicalize().ok()?;
    roots.contains(&target).then(|| target.metadata().ok())?
}

fn is_git_repository(folder: &Path) -> bool {
    folder.join(".git").symlink_metadata().is_ok()
        || (folder.join("HEAD").is_file()
            && folder.join("objects").is_dir()
            && folder.join("refs").is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn names(listing: &Listing) -> Vec<&str> {
        listing.entries.iter().map(|entry| &*entry.name).collect()
    }

    #[test]
    fn folders_come_first() {
        let outer = tempfile::tempdir().unwrap();
        let base = outer.path().canonicalize().unwrap();
        let root = base.join("root");
        let secret = base.join("secret");
        std::fs::create_dir_all(root.join("project/.git")).unwrap();
        std::fs::create_dir_all(root.join("Zoo")).unwrap();
        for folder in ["bare/objects", "bare/refs", ".hidden", "locked"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        std::fs::write(root.join("bare/HEAD"), "ref: refs/heads/main").unwrap();
        std::fs::write(root.join("a.txt"), "12345").unwrap();
        std::fs::write(root.join(OsStr::from_bytes(b"\xff")), "x").unwrap();
        std::fs::create_dir(&secret).unwrap();
        std::fs::write(base.join("secret.txt"), "secret").unwrap();
        symlink(&secret, root.join("out")).unwrap();
        symlink(base.join("secret.txt"), root.join("out.txt")).unwrap();
        symlink(root.join("project"), root.join("link")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        let forbidden = std::fs::Permissions::from_mode(0o000);
        std::fs::set_permissions(root.join("locked"), forbidden).unwrap();
        let roots = Roots::new(std::slice::from_ref(&root));
        let path = root.to_str().unwrap();

        let listing = browse(&roots, path, false).unwrap();
        assert_eq!(listing.current_path, path);
        assert_eq!(listing.parent, None);
        assert_eq!(
            names(&listing),
            [
                "Zoo", "bare", "link", "locked", "project", "a.txt", "dangling", "out", "out.txt"
            ]
        );
        let repositories: Vec<_> = listing
            .entries
            .iter()
            .filter(|entry| entry.is_git_repo)
            .map(|entry| &*entry.name)
            .collect();
        assert_eq!(repositories, ["bare", "link", "project"]);
        let sizes: u64 = listing.entries.iter().map(|entry| entry.size).sum();
        assert_eq!(sizes, 5, "nothing is told of what lies outside");
        assert_eq!(listing.entries[0].path, format!("{path}/Zoo"));

        let hidden = browse(&roots, path, true).unwrap();
        assert_eq!(hidden.entries[0].name, ".hidden");
        let below = browse(&roots, &format!("{path}/link"), false).unwrap();
        assert_eq!(below.current_path, format!("{path}/project"));
        assert_eq!(below.parent.as_deref(), Some(path));

        let refused = |path: &str| browse(&roots, path, false).unwrap_err();
        let error = refused(&format!("{path}/out"));
        assert!(matches!(error, FilesError::Forbidden { .. }), "{error}");
        let error = refused(&format!("{path}/a.txt"));
        assert_eq!(error.to_string(), format!("{path}/a.txt: is not a folder"));
        let error = refused(&format!("{path}/gone"));
        assert_eq!(error.to_string(), format!("{path}/gone: does not exist"));
    }
}
