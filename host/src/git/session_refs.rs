//! The refs of a session's repository, read as text.

use super::folder::{Folder, is_missing};
use super::{ObjectFormat, WorkingTree};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

const HEAD_LIMIT: u64 = 4 << 10;
const PACKED_LIMIT: u64 = 256 << 20;
const LOG_LIMIT: u64 = 16 << 20;
/// So many names are read of one folder, and so many refs in all.
const MOST_NAMES: usize = 20_000;
const DEEPEST: usize = 16;

/// Where a session's repository stands.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SessionRefs {
    /// The commit checked out.
    pub(super) head: Option<String>,
    /// The last commit of the session's branch, or of what `HEAD` names where the session has renamed its branch.
    pub(super) tip: Option<String>,
    /// All other commits that it names: branches, stashes, a commit checked out by itself. What the session was given
    /// is among them.
    pub(super) others: BTreeSet<String>,
}

impl SessionRefs {
    /// Reads them.
    ///
    /// # Errors
    /// The `.git` folder is no such thing, is gone, or keeps its refs in a form that cannot be read as text.
    pub(super) fn read(tree: &WorkingTree) -> io::Result<Self> {
        let git = Folder::open(&tree.work)?.folder(".git")?;
        if git.folder("reftable").is_ok() {
            return Err(io::Error::other("its refs are not kept as files"));
        }
        let format = tree.object_format;
        let mut refs = BTreeMap::new();
        if let Some(text) = git.text("packed-refs", PACKED_LIMIT)? {
            for line in text.lines() {
                if let Some((commit, name)) = line.split_once(' ')
                    && format.is_name(commit)
                {
                    refs.insert(name.to_owned(), commit.to_owned());
                }
            }
        }
        match git.folder("refs/heads") {
            Ok(folder) => read_loose(&folder, "refs/heads", DEEPEST, format, &mut refs)?,
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(error),
        }
        if let Some(commit) = object_name(&git, "refs/stash", format) {
            refs.insert("refs/stash".to_owned(), commit);
        }
        let head_text = git.text("HEAD", HEAD_LIMIT)?.unwrap_or_default();
        let head = match head_text.trim().strip_prefix("ref:") {
            Some(name) => refs.get(name.trim()).cloned(),
            None => Some(head_text.trim().to_owned()).filter(|name| format.is_name(name)),
        };
        let branch = format!("refs/heads/{}", tree.branch);
        let is_on_branch = head_text.trim().starts_with("ref:");
        let tip = refs
            .get(&branch)
            .or(head.as_ref().filter(|_| is_on_branch))
            .cloned();
        let is_work = |name: &str| name.starts_with("refs/heads/") || name == "refs/stash";
        let mut others: BTreeSet<String> = refs
            .into_iter()
            .filter(|(name, _)| is_work(name) && *name != branch)
            .map(|(_, commit)| commit)
            .collect();
        others.extend(head.clone());
        if let Ok(Some(log)) = git.text("logs/refs/stash", LOG_LIMIT) {
            others.extend(
                log.lines()
                    .filter_map(|line| line.split(' ').nth(1))
                    .filter(|commit| format.is_name(commit))
                    .map(str::to_owned),
            );
        }
        if let Some(tip) = &tip {
            others.remove(tip);
        }
        Ok(Self { head, tip, others })
    }
}

/// Adds the refs that are files, which count more than packed ones.
fn read_loose(
    folder: &Folder,
    prefix: &str,
    depth: usize,
    format: ObjectFormat,
    refs: &mut BTreeMap<String, String>,
) -> io::Result<()> {
    for name in folder.names(MOST_NAMES)? {
        let Some(name) = name.to_str() else { continue };
        let full = format!("{prefix}/{name}");
        if let Some(commit) = object_name(folder, name, format) {
            refs.insert(full, commit);
        } else if depth > 0
            && refs.len() < MOST_NAMES
            && let Ok(below) = folder.folder(name)
        {
            read_loose(&below, &full, depth - 1, format, refs)?;
        }
    }
    Ok(())
}

/// The object that a small file names.
fn object_name(folder: &Folder, path: &str, format: ObjectFormat) -> Option<String> {
    let text = folder.text(path, HEAD_LIMIT).ok().flatten()?;
    Some(text.trim().to_owned()).filter(|name| format.is_name(name))
}
