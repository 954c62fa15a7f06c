//! What differs between a commit and the working tree, by an index of the host's.

use super::command::Runner;
use super::create::beside;
use super::layout::Host;
use super::objects::ingest;
use super::session_refs::SessionRefs;
use super::{GitError, Result, WorkingTree};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// An index of a commit with what is known of the files in the working tree; a passing copy, used by one operation.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) path: PathBuf,
    /// The commit that it is of.
    pub(super) commit: String,
    /// What the session's repository says, where it can be read.
    pub(super) refs: Option<SessionRefs>,
    folder: TempDir,
}

/// How the working tree differs from the index. Paths are bytes, relative to the top.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Tracked, and different now.
    pub(super) modified: BTreeSet<Vec<u8>>,
    /// Tracked, and gone.
    pub(super) deleted: BTreeSet<Vec<u8>>,
    /// Not tracked. A repository within the working tree is one entry, with `/` at its end.
    pub(super) untracked: BTreeSet<Vec<u8>>,
}

/// Whether files that are not tracked are listed one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Untracked {
    Files,
    /// A folder that is new as a whole is one entry, with `/` at its end.
    Folders,
}

impl Index {
    /// The index of what the session has checked out; of the last commit known to the host where the session's
    /// repository is damaged.
    pub(super) async fn open(runner: &Runner, tree: &WorkingTree) -> Result<Self> {
        if tree.is_missing() {
            return Err(GitError::WorktreeMissing(tree.work.clone()));
        }
        let host = Host::of(&tree.git);
        let refs = SessionRefs::read(tree).ok();
        let named = refs
            .as_ref()
            .and_then(|refs| refs.head.clone().or_else(|| refs.tip.clone()));
        let commit = match named {
            Some(head) => match ingest(runner, tree, std::slice::from_ref(&head)).await {
                Ok(()) => head,
                Err(GitError::Damaged { .. }) => host.synced(tree),
                Err(error) => return Err(error),
            },
            None => host.synced(tree),
        };
        let folder = tempfile::Builder::new()
            .prefix("index-")
            .tempdir_in(passing(tree)?)
            .map_err(GitError::io("make a folder beside", &tree.git))?;
        let path = folder.path().join("index");
        let index = Self {
            path,
            commit,
            refs,
            folder,
        };
        index.fill(runner, tree, &host).await?;
        Ok(index)
    }

    async fn fill(&self, runner: &Runner, tree: &WorkingTree, host: &Host) -> Result<()> {
        let kept = host.index(&self.commit);
        if fs::copy(&kept, &self.path).is_err() {
            let other =
                any_index(&tree.git).is_some_and(|other| fs::copy(other, &self.path).is_ok());
            let merge: &[&str] = if other { &["-m"] } else { &[] };
            let merged = self
                .git(runner, tree, "read the session's last commit")
                .args(["read-tree"])
                .args(merge)
                .args([&self.commit])
                .outcome()
                .await?;
            if !merged.succeeded() {
                let _ = fs::remove_file(&self.path);
                self.git(runner, tree, "read the session's last commit")
                    .args(["read-tree", &self.commit])
                    .run()
                    .await?;
            }
        }
        // Its exit code says that something differs.
        self.git(runner, tree, "look at the files of the session")
            .args(["update-index", "-q", "--ignore-submodules", "--refresh"])
            .outcome()
            .await?;
        let copy = self.folder.path().join("kept");
        if fs::copy(&self.path, &copy).is_ok() && fs::rename(&copy, &kept).is_ok() {
            remove_other_indexes(&tree.git, &kept);
        }
        Ok(())
    }

    /// `git` on the working tree by this index.
    pub(super) fn git(
        &self,
        runner: &Runner,
        tree: &WorkingTree,
        attempted: &'static str,
    ) -> super::command::Invocation {
        runner.git(attempted, &tree.git).on(&tree.work, &self.path)
    }

    /// A folder for passing files, removed with this.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What differs.
    pub(super) async fn changes(
        &self,
        runner: &Runner,
        tree: &WorkingTree,
        untracked: Untracked,
    ) -> Result<Changes> {
        let tracked = self
            .git(runner, tree, "look at the files of the session")
            .args(["diff-files", "-z", "--raw", "--no-renames", "--no-ext-diff"])
            .args(["--ignore-submodules=dirty"])
            .run();
        let folders: &[&str] = match untracked {
            Untracked::Files => &[],
            Untracked::Folders => &["--directory", "--no-empty-directory"],
        };
        let others = self
            .git(runner, tree, "look for new files of the session")
            .args(["ls-files", "-z", "--others", "--exclude-standard"])
            .args(folders)
            .run();
        let (tracked, others) = tokio::join!(tracked, others);
        let mut changes = Changes::default();
        let tracked = tracked?.stdout;
        let mut fields = tracked.split(|byte| *byte == 0);
        while let (Some(facts), Some(path)) = (fields.next(), fields.next()) {
            match facts.last() {
                Some(b'D') => changes.deleted.insert(path.to_vec()),
                _ => changes.modified.insert(path.to_vec()),
            };
        }
        changes.untracked = others?
            .stdout
            .split(|byte| *byte == 0)
            .filter(|path| !path.is_empty())
            .map(<[u8]>::to_vec)
            .collect();
        Ok(changes)
    }
}

/// The files with work that is in no commit.
pub(super) async fn uncommitted(runner: &Runner, tree: &WorkingTree) -> Result<Vec<String>> {
    let index = Index::open(runner, tree).await?;
    let changes = index.changes(runner, tree, Untracked::Folders).await?;
    let all: BTreeSet<Vec<u8>> = [changes.modified, changes.deleted, changes.untracked]
        .into_iter()
        .flatten()
        .collect();
    Ok(all
        .into_iter()
        .map(|path| String::from_utf8_lossy(&path).into_owned())
        .collect())
}

/// The folder for passing things beside the host's git folder.
pub(super) fn passing(tree: &WorkingTree) -> Result<PathBuf> {
    let folder = beside(&tree.git, "tmp");
    super::layout::make_folder(&folder)?;
    Ok(folder)
}

fn is_index(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_bytes().starts_with(b"index-"))
        && path.extension().is_none()
}

fn indexes(git: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(git)
        .into_iter()
        .flatten()
        .filter_map(std::result::Result::ok)
        .map(|entry| entry.path())
        .filter(|path| is_index(path))
}

fn any_index(git: &Path) -> Option<PathBuf> {
    indexes(git).next()
}

fn remove_other_indexes(git: &Path, kept: &Path) {
    for index in indexes(git).filter(|index| index != kept) {
        // Another operation may have removed it; one that uses it has a copy.
        let _ = fs::remove_file(index);
    }
}

/// A path of the working tree.
pub(super) fn in_work(tree: &WorkingTree, path: &[u8]) -> PathBuf {
    tree.work.join(OsStr::from_bytes(path))
}
