//! Taking a working tree away.

use super::command::Runner;
use super::create::remove_beside;
use super::layout::Host;
use super::objects::is_ancestor;
use super::refs::{self, Change};
use super::{GitError, Removed, Result, WorkingTree, WorkingTreeSpec, blocking};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Removes the branch where it has nothing of its own, then all files.
pub(super) async fn remove(runner: &Runner, tree: &WorkingTree) -> Result<Removed> {
    let branch_kept = if tree.git_dir.is_dir() {
        !remove_branch(runner, tree).await?
    } else {
        // The user's repository is gone as a whole, and the branch with it.
        false
    };
    remove_folder(&tree.work).await?;
    remove_beside(&tree.git).await?;
    remove_folder(&tree.git).await?;
    Ok(Removed { branch_kept })
}

/// Undoes what a creation made, finished or not.
pub(super) async fn discard(runner: &Runner, spec: &WorkingTreeSpec) -> Result<()> {
    let host = Host::of(&spec.git);
    if let Some(tree) = host.finished().or_else(|| host.begun()) {
        remove(runner, &tree).await?;
        return Ok(());
    }
    remove_folder(&spec.work).await?;
    remove_beside(&spec.git).await?;
    remove_folder(&spec.git).await
}

/// Whether the branch is gone, since it had no commit beyond its base.
async fn remove_branch(runner: &Runner, tree: &WorkingTree) -> Result<bool> {
    // A creation that was cut off may be making it just now.
    runner.settled().await;
    loop {
        let Some(branch) = refs::branch(runner, tree).await? else {
            return Ok(true);
        };
        if branch.is_checked_out {
            return Ok(false);
        }
        let has_own = branch.commit != tree.base_commit
            && (!tree.git.is_dir()
                || !is_ancestor(runner, tree, &branch.commit, &tree.base_commit).await?);
        if has_own {
            return Ok(false);
        }
        let change = Change {
            reference: &format!("refs/heads/{}", tree.branch),
            old: Some(&branch.commit),
            new: None,
            reason: "berth: remove",
        };
        if refs::change(runner, &tree.git_dir, &change).await? {
            return Ok(true);
        }
    }
}

/// Removes a folder or file with all in it, whatever its permissions; what is gone is no fault. Links are not followed.
pub(super) async fn remove_folder(path: &Path) -> Result<()> {
    let path = path.to_owned();
    blocking(move || remove_now(&path)).await
}

fn remove_now(path: &Path) -> Result<()> {
    let removed = match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Ok(metadata) if !metadata.is_dir() => std::fs::remove_file(path),
        _ => std::fs::remove_dir_all(path),
    };
    match removed {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // A folder that its owner may not write keeps what is in it.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            open_up(path);
            std::fs::remove_dir_all(path).map_err(GitError::io("remove", path))
        }
        Err(error) => Err(GitError::io("remove", path)(error)),
    }
}

/// Lets the owner into every folder below.
fn open_up(folder: &Path) {
    let owner_may = std::fs::Permissions::from_mode(0o700);
    if std::fs::set_permissions(folder, owner_may).is_err() {
        return;
    }
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.filter_map(std::result::Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}
