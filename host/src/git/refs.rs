//! Refs of the user's repository: read, and changed by comparing.
//!
//! A ref below `refs/heads/berth/` or `refs/berth/` is ours. A lock on one that is older than any change takes was left
//! by a `git` of ours that was killed, or by a machine that stopped, and is removed.

use super::command::{Output, Runner};
use super::{GitError, Result, WorkingTree};
use std::path::Path;
use std::time::Duration;

/// Changing a ref takes milliseconds.
const STALE_LOCK: Duration = Duration::from_mins(2);

/// A change of a ref, made only when it is as expected.
#[derive(Debug)]
pub(super) struct Change<'a> {
    pub(super) reference: &'a str,
    /// What it must be; `None`: it must not be there.
    pub(super) old: Option<&'a str>,
    /// What it shall be; `None`: it shall not be there.
    pub(super) new: Option<&'a str>,
    pub(super) reason: &'a str,
}

/// Changes a ref of the user's repository; false where it was not as expected. Not cut off when nobody waits any more.
pub(super) async fn change(runner: &Runner, git_dir: &Path, change: &Change<'_>) -> Result<bool> {
    let output = attempt(runner, git_dir, change).await?;
    if output.succeeded() {
        return Ok(true);
    }
    let complaint = output.complaint();
    if is_mismatch(&complaint) {
        return Ok(false);
    }
    if complaint.contains(".lock'") && remove_stale_lock(git_dir, change.reference) {
        let output = attempt(runner, git_dir, change).await?;
        if output.succeeded() {
            return Ok(true);
        }
        if is_mismatch(&output.complaint()) {
            return Ok(false);
        }
        return Err(output.failure("change a branch of the repository"));
    }
    Err(output.failure("change a branch of the repository"))
}

async fn attempt(runner: &Runner, git_dir: &Path, change: &Change<'_>) -> Result<Output> {
    let old = change.old.unwrap_or("");
    let invocation = runner
        .git("change a branch of the repository", git_dir)
        .args(["update-ref", "-m", change.reason]);
    let invocation = match change.new {
        // An empty old value says that the ref must not exist.
        Some(new) => invocation.args([change.reference, new, old]),
        None => invocation.args(["-d", change.reference, old]),
    };
    runner.to_the_end(invocation).await
}

fn is_mismatch(complaint: &str) -> bool {
    [
        "but expected",
        "already exists",
        "unable to resolve reference",
        "reference is missing",
    ]
    .iter()
    .any(|words| complaint.contains(words))
}

fn remove_stale_lock(git_dir: &Path, reference: &str) -> bool {
    let is_ours =
        reference.starts_with("refs/heads/berth/") || reference.starts_with("refs/berth/");
    let common_dir = std::fs::read_to_string(git_dir.join("commondir"))
        .map_or_else(|_| git_dir.to_owned(), |text| git_dir.join(text.trim_end()));
    let lock = common_dir.join(format!("{reference}.lock"));
    let is_stale = lock
        .symlink_metadata()
        .and_then(|metadata| metadata.modified())
        .is_ok_and(|made| made.elapsed().is_ok_and(|age| age > STALE_LOCK));
    is_ours && is_stale && std::fs::remove_file(&lock).is_ok()
}

/// Where a branch of the user's repository stands.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) commit: String,
    /// It is checked out, in the user's checkout or in a linked worktree.
    pub(super) is_checked_out: bool,
}

/// A branch of the user's repository, where it is there.
pub(super) async fn branch(runner: &Runner, tree: &WorkingTree) -> Result<Option<Branch>> {
    let reference = format!("refs/heads/{}", tree.branch);
    let output = runner
        .git("look up the branch", &tree.git_dir)
        .args([
            "for-each-ref",
            "--format=%(refname)%00%(objectname)%00%(worktreepath)",
        ])
        .args([&reference])
        .run()
        .await?;
    let text = output.text();
    Ok(text.lines().find_map(|line| {
        let mut fields = line.split('\0');
        let is_it = fields.next() == Some(&reference);
        let commit = fields.next()?;
        let checked_out = fields.next()?;
        is_it.then(|| Branch {
            commit: commit.to_owned(),
            is_checked_out: !checked_out.is_empty(),
        })
    }))
}

/// Makes a ref of the user's repository, under the first free of `name`, `name-2`, …; answers its name.
pub(super) async fn keep(
    runner: &Runner,
    tree: &WorkingTree,
    name: &str,
    commit: &str,
    reason: &str,
) -> Result<String> {
    for number in 1..10_000 {
        let reference = if number == 1 {
            name.to_owned()
        } else {
            format!("{name}-{number}")
        };
        let wanted = Change {
            reference: &reference,
            old: None,
            new: Some(commit),
            reason,
        };
        if change(runner, &tree.git_dir, &wanted).await? {
            return Ok(reference);
        }
    }
    Err(GitError::Raced {
        path: tree.top.clone(),
        branch: name.to_owned(),
    })
}
