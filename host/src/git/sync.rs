//! Bringing the session's branch in the user's repository up to the session's commits.

use super::command::Runner;
use super::layout::Host;
use super::objects::{Check, ingest, is_ancestor, publish};
use super::refs::{self, Branch, Change};
use super::session_refs::SessionRefs;
use super::{GitError, KeptReason, Result, SyncOutcome, Synced, WorkingTree};

/// So often the branch may be changed by somebody else between a look and a change.
const ATTEMPTS: usize = 5;

pub(super) async fn sync(runner: &Runner, tree: &WorkingTree) -> Result<Synced> {
    if tree.is_missing() {
        return Err(GitError::WorktreeMissing(tree.work.clone()));
    }
    let host = Host::of(&tree.git);
    let refs = SessionRefs::read(tree).map_err(|error| GitError::Damaged {
        path: tree.work.clone(),
        reason: error.to_string(),
    })?;
    // A session that removed its branch has nothing to say about it.
    let tip = refs.tip.unwrap_or_else(|| host.synced(tree));
    let synced = |outcome| Synced {
        branch: tree.branch.clone(),
        commit: tip.clone(),
        outcome,
    };
    for _ in 0..ATTEMPTS {
        let branch = refs::branch(runner, tree).await?;
        let commit = branch.as_ref().map(|branch| branch.commit.as_str());
        if commit == Some(tip.as_str()) {
            if host.synced(tree) != tip {
                host.write_synced(&tip)?;
            }
            return Ok(synced(SyncOutcome::Unchanged));
        }
        let tips = std::slice::from_ref(&tip);
        ingest(runner, tree, tips).await?;
        publish(runner, tree, tips, Check::Form).await?;
        match decide(runner, tree, &host, branch.as_ref(), &tip).await? {
            Decision::Nothing => return Ok(synced(SyncOutcome::Unchanged)),
            Decision::Keep(reason) => {
                let reference = keep(runner, tree, &tip).await?;
                return Ok(synced(SyncOutcome::Kept { reference, reason }));
            }
            Decision::Move => {}
        }
        let change = Change {
            reference: &format!("refs/heads/{}", tree.branch),
            old: commit,
            new: Some(&tip),
            reason: "berth: sync",
        };
        if refs::change(runner, &tree.git_dir, &change).await? {
            host.write_synced(&tip)?;
            return Ok(synced(SyncOutcome::Moved));
        }
    }
    Err(GitError::Raced {
        path: tree.top.clone(),
        branch: tree.branch.clone(),
    })
}

enum Decision {
    Nothing,
    Move,
    Keep(KeptReason),
}

async fn decide(
    runner: &Runner,
    tree: &WorkingTree,
    host: &Host,
    branch: Option<&Branch>,
    tip: &str,
) -> Result<Decision> {
    // One that the user removed is made again: what is committed is not lost.
    let Some(branch) = branch else {
        return Ok(Decision::Move);
    };
    if is_ancestor(runner, tree, tip, &branch.commit).await? && branch.commit != host.synced(tree) {
        return Ok(Decision::Nothing);
    }
    if branch.is_checked_out {
        return Ok(Decision::Keep(KeptReason::CheckedOut));
    }
    // The user left it where it was: it follows the session, also where that rewrote its commits.
    let is_ours = branch.commit == host.synced(tree);
    if is_ours || is_ancestor(runner, tree, &branch.commit, tip).await? {
        Ok(Decision::Move)
    } else {
        Ok(Decision::Keep(KeptReason::Diverged))
    }
}

/// Keeps the session's last commit under a ref that names it.
async fn keep(runner: &Runner, tree: &WorkingTree, tip: &str) -> Result<String> {
    let name = tree.branch.strip_prefix("berth/").unwrap_or(&tree.branch);
    let short = tip.get(..12).unwrap_or(tip);
    let reference = format!("refs/berth/sync/{name}/{short}");
    let change = Change {
        reference: &reference,
        old: None,
        new: Some(tip),
        reason: "berth: sync",
    };
    // One that is there already names the same commit.
    refs::change(runner, &tree.git_dir, &change).await?;
    Ok(reference)
}
