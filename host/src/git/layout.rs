//! The git folders that berth writes itself, file by file: the session's own, and the host's.

use super::{GitError, Identity, ObjectFormat, Result, WorkingTree};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Larger lists of things to ignore are not brought along.
const EXCLUDE_LIMIT: u64 = 1 << 20;

/// Paths of a working tree's host side.
#[derive(Debug, Clone)]
pub(super) struct Host {
    /// The host's own git folder.
    pub(super) git: PathBuf,
}

impl Host {
    pub(super) fn of(git: &Path) -> Self {
        Self {
            git: git.to_owned(),
        }
    }

    pub(super) fn objects(&self) -> PathBuf {
        self.git.join("objects")
    }

    /// Refs as the session was given them, in the form of `packed-refs`.
    pub(super) fn given_refs(&self) -> PathBuf {
        self.git.join("given-refs")
    }

    /// An index of a commit, with what is known of the files in the working tree.
    pub(super) fn index(&self, commit: &str) -> PathBuf {
        self.git.join(format!("index-{commit}"))
    }

    /// The working tree that was made, written last.
    fn finished_note(&self) -> PathBuf {
        self.git.join("tree.json")
    }

    /// What is about to be made, written first.
    fn begun_note(&self) -> PathBuf {
        self.git.join("begun.json")
    }

    fn synced_note(&self) -> PathBuf {
        self.git.join("synced")
    }

    pub(super) fn finished(&self) -> Option<WorkingTree> {
        let text = std::fs::read(self.finished_note()).ok()?;
        serde_json::from_slice(&text).ok()
    }

    pub(super) fn begun(&self) -> Option<WorkingTree> {
        let text = std::fs::read(self.begun_note()).ok()?;
        serde_json::from_slice(&text).ok()
    }

    pub(super) fn write_begun(&self, tree: &WorkingTree) -> Result<()> {
        write_json(&self.begun_note(), tree)
    }

    pub(super) fn write_finished(&self, tree: &WorkingTree) -> Result<()> {
        write_json(&self.finished_note(), tree)
    }

    /// The session's commit that the branch in the user's repository was last brought up to.
    pub(super) fn synced(&self, tree: &WorkingTree) -> String {
        match std::fs::read_to_string(self.synced_note()) {
            Ok(text) if tree.object_format.is_name(text.trim()) => text.trim().to_owned(),
            _ => tree.base_commit.clone(),
        }
    }

    pub(super) fn write_synced(&self, commit: &str) -> Result<()> {
        write_whole(&self.synced_note(), commit.as_bytes())
    }

    /// Makes the host's git folder: no branch, no configuration of anybody's, the user's objects to borrow.
    pub(super) fn write(&self, tree: &WorkingTree, user_common_dir: &Path) -> Result<()> {
        for folder in ["objects/info", "objects/pack", "refs", "info"] {
            make_folder(&self.git.join(folder))?;
        }
        write(&self.git.join("HEAD"), format!("{}\n", tree.base_commit))?;
        let config = config(tree.object_format, false, &Identity::default());
        write(&self.git.join("config"), config)?;
        write_common(&self.git, tree, user_common_dir)
    }
}

/// Makes the `.git` folder of a session's working tree: the branch at `tip`, and the refs that the user had.
pub(super) fn write_session_git(
    git: &Path,
    tree: &WorkingTree,
    tip: &str,
    given_refs: &[u8],
    user_common_dir: &Path,
) -> Result<()> {
    for folder in ["objects/info", "objects/pack", "refs/tags", "info"] {
        make_folder(&git.join(folder))?;
    }
    let branch = git.join("refs/heads").join(&tree.branch);
    make_folder(branch.parent().unwrap_or(git))?;
    write(&branch, format!("{tip}\n"))?;
    write(
        &git.join("HEAD"),
        format!("ref: refs/heads/{}\n", tree.branch),
    )?;
    let config = config(tree.object_format, true, &tree.identity);
    write(&git.join("config"), config)?;
    write(&git.join("packed-refs"), given_refs)?;
    write_common(git, tree, user_common_dir)
}

/// What both kinds have: borrowed objects, where history is cut off, what the user ignores in this repository.
fn write_common(git: &Path, tree: &WorkingTree, user_common_dir: &Path) -> Result<()> {
    let mut alternates = Vec::new();
    if let Some(own) = tree.object_dirs.first() {
        alternates.extend_from_slice(own.as_os_str().as_bytes());
        alternates.push(b'\n');
    }
    write(&git.join("objects/info/alternates"), alternates)?;
    for (name, limit) in [("shallow", u64::MAX), ("info/exclude", EXCLUDE_LIMIT)] {
        let source = user_common_dir.join(name);
        if let Ok(metadata) = source.metadata()
            && metadata.is_file()
            && metadata.len() <= limit
        {
            let bytes = std::fs::read(&source).map_err(GitError::io("read", &source))?;
            write(&git.join(name), bytes)?;
        }
    }
    Ok(())
}

fn config(format: ObjectFormat, is_session: bool, identity: &Identity) -> String {
    let mut text = String::from("[core]\n\tfilemode = true\n\tbare = false\n");
    let version = match format {
        ObjectFormat::Sha1 => 0,
        ObjectFormat::Sha256 => 1,
    };
    let _ = writeln!(text, "\trepositoryformatversion = {version}");
    let _ = writeln!(text, "\tlogallrefupdates = {is_session}");
    if format == ObjectFormat::Sha256 {
        text.push_str("[extensions]\n\tobjectformat = sha256\n");
    }
    if is_session {
        // Its objects are few, and its history outlives it in the user's repository.
        text.push_str("[gc]\n\tauto = 0\n");
    }
    let entries = [("name", &identity.name), ("email", &identity.email)];
    if entries.iter().any(|(_, value)| value.is_some()) {
        text.push_str("[user]\n");
    }
    for (key, value) in entries {
        if let Some(value) = value {
            let _ = writeln!(text, "\t{key} = {}", quoted(value));
        }
    }
    text
}

/// A value as git's configuration files quote it.
fn quoted(value: &str) -> String {
    let mut quoted = String::from("\"");
    for character in value.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\0'..='\u{1f}' => {}
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

pub(super) fn make_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(GitError::io("make the folder", path))
}

fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    std::fs::write(path, bytes).map_err(GitError::io("write", path))
}

/// Writes a file so that it is there as a whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    make_folder(folder)?;
    let file = tempfile::NamedTempFile::new_in(folder).map_err(GitError::io("write", path))?;
    std::fs::write(file.path(), bytes).map_err(GitError::io("write", path))?;
    file.persist(path)
        .map_err(|error| GitError::io("write", path)(error.error))?;
    Ok(())
}

fn write_json(path: &Path, tree: &WorkingTree) -> Result<()> {
    let text = serde_json::to_vec(tree).map_err(|source| GitError::Io {
        attempted: "write",
        path: path.to_owned(),
        source: source.into(),
    })?;
    write_whole(path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted() {
        assert_eq!(quoted("Ann \"A\" \\ B;#"), r#""Ann \"A\" \\ B;#""#);
        assert_eq!(quoted("a\n[core]\r\0"), "\"a\\n[core]\"");
    }
}
