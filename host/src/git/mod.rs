//! Working trees of users' repositories.
//!
//! A session works in a repository of its own, which borrows the user's objects. Of the user's repository, berth reads
//! refs and objects, and writes two things into it: objects, and refs below `refs/heads/berth/` and `refs/berth/`. Its
//! checkout, index, configuration and hooks are never touched nor run.
//!
//! What a session can write is not trusted as a repository: once its program has started, `git` is never run on the
//! session's `.git` folder. Refs are read from it as text, objects are copied and checked, and everything is asked of
//! a git folder of the host's own.
//!
//! Every operation may be cut off at any moment and called again.

mod error;
mod model;
mod mount_name;

mod command;
mod create;
mod diff;
mod folder;
mod index;
mod inspect;
mod layout;
mod objects;
mod raw;
mod refs;
mod remove;
mod rescue;
mod session_refs;
mod sync;

#[cfg(test)]
mod tests;

pub use error::{GitError, GitErrorKind};
pub use model::{
    Diff, DiffLimits, FileDiff, FileStatus, Identity, KeptReason, ObjectFormat, Removed,
    Repository, Rescue, SyncOutcome, Synced, Version, WorkingTree, WorkingTreeSpec,
};
pub use mount_name::{MountNameError, mount_names};

use command::Runner;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

type Result<T, E = GitError> = std::result::Result<T, E>;

/// What the module needs of its surroundings.
#[derive(Debug, Clone)]
pub struct GitSettings {
    /// The program; a bare name is looked for in `search_path`.
    pub program: PathBuf,
    /// `PATH` for it.
    pub search_path: OsString,
    /// The home folder of the server's user: its git configuration says who commits are by, and nothing else is taken
    /// from it.
    pub home: PathBuf,
}

/// The `git` program, run so that nothing of anybody's configuration runs. A cheap clone of one thing.
#[derive(Debug, Clone)]
pub struct Git {
    runner: Arc<Runner>,
}

/// Runs what waits for the disk where waiting holds nobody up.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| GitError::Failed {
            attempted: "use the disk",
            message: error.to_string(),
        })?
}

impl Git {
    /// Runs nothing yet.
    pub fn new(settings: GitSettings) -> Self {
        Self {
            runner: Arc::new(Runner::new(settings)),
        }
    }

    /// The program's version.
    ///
    /// # Errors
    /// There is no such program, or it is too old.
    pub async fn version(&self) -> Result<Version> {
        self.runner.version().await
    }

    /// Finds the repository that a path is in. The caller checks [`Repository::folders`] against the allowed roots.
    ///
    /// # Errors
    /// It is none that a session can work on; the message names the path and says why.
    pub async fn inspect(&self, path: &Path) -> Result<Repository> {
        inspect::inspect(&self.runner, path).await
    }

    /// Whether work in this repository can begin from `base`, a branch or another name of a commit.
    ///
    /// # Errors
    /// There is no such commit in it.
    pub async fn check_base(&self, repository: &Repository, base: &str) -> Result<()> {
        create::check_base(&self.runner, repository, base).await
    }

    /// Makes a working tree, or finishes one that a killed server began, or answers the one that is there.
    ///
    /// # Errors
    /// The base is unknown, the branch cannot be made, the disk is full. What was made stays until
    /// [`Git::discard`] or another call.
    pub async fn create(&self, spec: &WorkingTreeSpec) -> Result<WorkingTree> {
        create::create(&self.runner, spec).await
    }

    /// Undoes whatever [`Git::create`] made for this.
    ///
    /// # Errors
    /// Something could not be removed.
    pub async fn discard(&self, spec: &WorkingTreeSpec) -> Result<()> {
        remove::discard(&self.runner, spec).await
    }

    /// The files with work that is in no commit, untracked ones included, ignored ones not; sorted. Paths as in the
    /// repository, a folder that is new as a whole with `/` at its end.
    ///
    /// # Errors
    /// The working tree is gone.
    pub async fn uncommitted(&self, tree: &WorkingTree) -> Result<Vec<String>> {
        index::uncommitted(&self.runner, tree).await
    }

    /// Brings the session's branch in the user's repository up to the session's commits. What the user did to the
    /// branch meanwhile is kept, and so are the session's commits.
    ///
    /// # Errors
    /// The working tree is gone, or what the session has is damaged.
    pub async fn sync(&self, tree: &WorkingTree) -> Result<Synced> {
        sync::sync(&self.runner, tree).await
    }

    /// Saves all of a session that its branch does not hold, as commits under `refs/berth/rescue/<name>/<time>` in the
    /// user's repository: uncommitted work, stashes, and commits on other branches or none. To be called after
    /// [`Git::sync`] and before anything that destroys a working tree; there is nothing to save in one that is gone.
    ///
    /// # Errors
    /// Nothing could be saved.
    pub async fn rescue(&self, tree: &WorkingTree, session_name: &str) -> Result<Rescue> {
        rescue::rescue(&self.runner, tree, session_name).await
    }

    /// [`Git::sync`] and [`Git::rescue`] before a working tree is taken away: a session that is damaged, or whose
    /// repository is gone, does not stand in the way; what is lost by that is said in [`Rescue::incomplete`].
    ///
    /// # Errors
    /// Something could not be saved that may be when it is tried again.
    pub async fn save(&self, tree: &WorkingTree, session_name: &str) -> Result<Rescue> {
        rescue::save(&self.runner, tree, session_name).await
    }

    /// The working tree against its base, untracked files included.
    ///
    /// # Errors
    /// The working tree is gone.
    pub async fn diff(&self, tree: &WorkingTree, limits: DiffLimits) -> Result<Diff> {
        diff::diff(&self.runner, tree, limits).await
    }

    /// Makes the working tree anew, as its branch's last commit has it, also after [`Git::remove`]. What else is in it is gone then, so
    /// [`Git::save`] comes first.
    ///
    /// # Errors
    /// The branch is gone, or the disk is full.
    pub async fn recheckout(&self, tree: &WorkingTree) -> Result<()> {
        create::recheckout(&self.runner, tree).await
    }

    /// Removes the working tree and the host's notes of it, and the branch where it has no commit beyond its base.
    /// [`Git::save`] comes first. What is gone already is no fault.
    ///
    /// # Errors
    /// Something could not be removed.
    pub async fn remove(&self, tree: &WorkingTree) -> Result<Removed> {
        remove::remove(&self.runner, tree).await
    }
}
