//! Saving what a session's branch does not hold.
//!
//! The session's program must have ended: what changes while it is read is saved in one state or the other.

use super::command::Runner;
use super::folder::Folder;
use super::index::{Changes, Index, Untracked, in_work};
use super::layout::Host;
use super::objects::{Check, ingest, publish};
use super::raw::{self, RawFile};
use super::refs;
use super::sync::sync;
use super::{GitError, Identity, Rescue, Result, WorkingTree};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::path::Path;

/// So many commits that no branch of the user's holds are kept.
const MOST_STRAYS: usize = 100;

pub(super) async fn save(
    runner: &Runner,
    tree: &WorkingTree,
    session_name: &str,
) -> Result<Rescue> {
    if tree.is_missing() {
        return Ok(Rescue::default());
    }
    if !tree.git_dir.join("HEAD").exists() || !tree.common_dir.join("objects").is_dir() {
        let mut rescue = Rescue::default();
        rescue.note(&format!(
            "the repository {} is gone, and nothing could be saved in it",
            tree.top.display()
        ));
        return Ok(rescue);
    }
    match sync(runner, tree).await {
        // What the branch does not take is saved beside it.
        Ok(_)
        | Err(GitError::Damaged { .. } | GitError::Failed { .. } | GitError::Raced { .. }) => {}
        Err(error) => return Err(error),
    }
    rescue(runner, tree, session_name).await
}

pub(super) async fn rescue(
    runner: &Runner,
    tree: &WorkingTree,
    session_name: &str,
) -> Result<Rescue> {
    if tree.is_missing() {
        return Ok(Rescue::default());
    }
    let saver = Saver {
        runner,
        tree,
        folder: format!("refs/berth/rescue/{session_name}"),
        time: Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string(),
    };
    let mut rescue = Rescue::default();
    let index = Index::open(runner, tree).await?;
    saver.save_files(&index, &mut rescue).await?;
    saver.save_strays(&index, &mut rescue).await?;
    if index.refs.is_none() {
        rescue.note("the session's .git folder is damaged: commits that were not synchronised could not be saved");
    }
    Ok(rescue)
}

impl Rescue {
    fn note(&mut self, sentence: &str) {
        let text = self.incomplete.get_or_insert_default();
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(sentence);
    }
}

struct Saver<'a> {
    runner: &'a Runner,
    tree: &'a WorkingTree,
    /// The refs' common beginning.
    folder: String,
    time: String,
}

impl Saver<'_> {
    /// Commits the files that are in no commit.
    async fn save_files(&self, index: &Index, rescue: &mut Rescue) -> Result<()> {
        let changes = index
            .changes(self.runner, self.tree, Untracked::Files)
            .await?;
        if changes.modified.is_empty() && changes.deleted.is_empty() && changes.untracked.is_empty()
        {
            return Ok(());
        }
        let unreadable = self.add(index, changes).await?;
        if !unreadable.is_empty() {
            rescue.note(&format!("could not be read: {}", unreadable.join(", ")));
        }
        let files = index
            .git(
                self.runner,
                self.tree,
                "write down the files of the session",
            )
            .args(["write-tree"])
            .run()
            .await?
            .text();
        let before = self.tree_of(&index.commit).await?;
        if files == before {
            return Ok(());
        }
        // A run that was killed after this point has saved the same already.
        if let Some(reference) = self.saved_before(&files, &index.commit).await? {
            rescue.references.push(reference);
            return Ok(());
        }
        let commit = self.commit(&files, &index.commit).await?;
        rescue.references.push(self.keep(&commit).await?);
        Ok(())
    }

    /// Puts everything that differs into the index; answers the files that could not be read.
    async fn add(&self, index: &Index, changes: Changes) -> Result<Vec<String>> {
        let work = Folder::open(&self.tree.work).map_err(GitError::io("open", &self.tree.work))?;
        let mut unreadable = Vec::new();
        let mut files = Vec::new();
        let mut raw_files = Vec::new();
        for path in changes.modified.iter().chain(&changes.untracked) {
            if let Some(nested) = path.strip_suffix(b"/") {
                raw::walk(&work, nested, &mut raw_files, &mut unreadable);
            } else if is_readable(self.tree, &work, path) {
                files.push(path.clone());
            } else {
                unreadable.push(String::from_utf8_lossy(path).into_owned());
            }
        }
        raw::remove(self.runner, self.tree, index, &changes.deleted).await?;
        let added = index
            .git(
                self.runner,
                self.tree,
                "write down the files of the session",
            )
            .args(["update-index", "-z", "--add", "--replace", "--stdin"])
            .input(joined(&files))
            .outcome()
            .await?;
        if !added.succeeded() {
            // An attribute asked for a conversion that fails. Bytes as they are are better than none.
            raw_files.extend(files.into_iter().map(RawFile::at_its_place));
        }
        raw::add(self.runner, self.tree, index, raw_files).await?;
        Ok(unreadable)
    }

    /// Keeps the commits that no ref of the user's repository holds.
    async fn save_strays(&self, index: &Index, rescue: &mut Rescue) -> Result<()> {
        let Some(refs) = &index.refs else {
            return Ok(());
        };
        let host = Host::of(&self.tree.git);
        let given = std::fs::read_to_string(host.given_refs()).unwrap_or_default();
        let given: BTreeSet<&str> = given
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect();
        let strays: Vec<&String> = refs
            .others
            .iter()
            .chain(&refs.tip)
            .filter(|commit| !given.contains(commit.as_str()) && **commit != self.tree.base_commit)
            .collect();
        if strays.len() > MOST_STRAYS {
            rescue.note(&format!(
                "of {} other commits, only {MOST_STRAYS} were saved",
                strays.len()
            ));
        }
        for stray in strays.into_iter().take(MOST_STRAYS) {
            match self.save_stray(stray).await {
                Ok(kept) => rescue.references.extend(kept),
                Err(GitError::Damaged { reason, .. }) => {
                    rescue.note(&format!("the commit {stray} could not be saved: {reason}"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn save_stray(&self, commit: &String) -> Result<Option<String>> {
        let commits = std::slice::from_ref(commit);
        ingest(self.runner, self.tree, commits).await?;
        publish(self.runner, self.tree, commits, Check::Names).await?;
        let unheld = self
            .runner
            .git("look for a commit", &self.tree.git_dir)
            .args(["rev-list", "--max-count=1", commit, "--not", "--all"])
            .run()
            .await?;
        if !unheld.text().is_empty() {
            return self.keep(commit).await.map(Some);
        }
        // Held, perhaps by what a killed run saved.
        Ok(self
            .saved()
            .await?
            .into_iter()
            .find(|saved| saved.commit == *commit)
            .map(|saved| saved.reference))
    }

    async fn tree_of(&self, commit: &str) -> Result<String> {
        let output = self
            .runner
            .git("look up a commit", &self.tree.git)
            .args(["rev-parse", "--verify", &format!("{commit}^{{tree}}")])
            .run()
            .await?;
        Ok(output.text())
    }

    async fn commit(&self, files: &str, parent: &str) -> Result<String> {
        let Identity { name, email } = &self.tree.identity;
        let or = |value: &Option<String>, default: &str| {
            let value = value.as_deref().unwrap_or_default().trim();
            let is_usable = value.chars().any(char::is_alphanumeric);
            if is_usable {
                value.to_owned()
            } else {
                default.to_owned()
            }
        };
        let message =
            "Work of a session that was in no commit\n\nSaved by berth before it was removed.\n";
        let commit = self
            .runner
            .git("commit the files of the session", &self.tree.git)
            .env("GIT_AUTHOR_NAME", or(name, "berth"))
            .env("GIT_AUTHOR_EMAIL", or(email, "berth@localhost"))
            .args(["commit-tree", "-p", parent, files])
            .input(message)
            .run()
            .await?
            .text();
        publish(
            self.runner,
            self.tree,
            std::slice::from_ref(&commit),
            Check::Names,
        )
        .await?;
        Ok(commit)
    }

    async fn keep(&self, commit: &str) -> Result<String> {
        let name = format!("{}/{}", self.folder, self.time);
        refs::keep(self.runner, self.tree, &name, commit, "berth: rescue").await
    }

    async fn saved_before(&self, files: &str, parent: &str) -> Result<Option<String>> {
        let saved = self.saved().await?;
        Ok(saved
            .into_iter()
            .find(|saved| saved.files == files && saved.parents == parent)
            .map(|saved| saved.reference))
    }

    /// What was saved of this session.
    async fn saved(&self) -> Result<Vec<Saved>> {
        let output = self
            .runner
            .git("list what was saved", &self.tree.git_dir)
            .args(["for-each-ref"])
            .args(["--format=%(refname)%00%(objectname)%00%(tree)%00%(parent)"])
            .args([&self.folder])
            .run()
            .await?;
        Ok(output
            .text()
            .lines()
            .filter_map(|line| {
                let mut fields = line.split('\0').map(str::to_owned);
                Some(Saved {
                    reference: fields.next()?,
                    commit: fields.next()?,
                    files: fields.next()?,
                    parents: fields.next()?,
                })
            })
            .collect())
    }
}

struct Saved {
    reference: String,
    commit: String,
    files: String,
    parents: String,
}

fn is_readable(tree: &WorkingTree, work: &Folder, path: &[u8]) -> bool {
    let file = in_work(tree, path);
    match file.symlink_metadata() {
        Ok(metadata) if metadata.is_file() => work.file(relative(path)).is_ok(),
        // A link, or a repository within.
        Ok(_) => true,
        Err(_) => false,
    }
}

fn relative(path: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(path))
}

/// Paths as `-z` takes them.
fn joined(paths: &[Vec<u8>]) -> Vec<u8> {
    let mut joined = Vec::new();
    for path in paths {
        joined.extend_from_slice(path);
        joined.push(0);
    }
    joined
}
