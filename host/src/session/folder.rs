//! Taking away a session's folder, whatever its programs made of it.

use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Removes a folder and all that is in it; one that is not there is a success. Folders that their owner may not write,
/// as package caches have them, are no obstacle. Links are removed, never followed.
///
/// # Errors
/// Something cannot be removed.
pub(super) async fn remove(path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || remove_now(&path))
        .await
        .map_err(io::Error::other)?
}

fn remove_now(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            open_up(path)?;
            std::fs::remove_dir_all(path)
        }
        outcome => outcome,
    }
}

/// Lets the owner write every folder from here on.
fn open_up(folder: &Path) -> io::Result<()> {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn folders_that_may_not_be_written_are_opened_up() {
        let outer = tempfile::tempdir().unwrap();
        let kept = outer.path().join("kept");
        fs::create_dir(&kept).unwrap();
        let folder = outer.path().join("gone");
        let inner = folder.join("a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("file"), "x").unwrap();
        std::os::unix::fs::symlink(&kept, inner.join("link")).unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o500)).unwrap();
        open_up(&folder).unwrap();
        assert_eq!(
            fs::metadata(&inner).unwrap().permissions().mode() & 0o777,
            0o700
        );
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o500)).unwrap();
        remove_now(&folder).unwrap();
        assert!(!folder.exists() && kept.exists());
        remove_now(&folder).unwrap();
    }
}
