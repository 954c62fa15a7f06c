//! What is said about repositories and working trees.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use utoipa::ToSchema;

/// A version of the program `git`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// The oldest that knows everything that keeps a foreign configuration out (`GIT_CONFIG_GLOBAL`).
    pub const MINIMUM: Self = Self(2, 32, 0);

    /// Reads what `git version` prints.
    pub fn parse(text: &str) -> Option<Self> {
        let number = text.trim().strip_prefix("git version ")?;
        let mut parts = number.split(['.', ' ', '-']).map(str::parse::<u32>);
        let major = parts.next()?.ok()?;
        let minor = parts.next()?.ok()?;
        let patch = parts.next().and_then(Result::ok).unwrap_or(0);
        Some(Self(major, minor, patch))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A user's repository, found from a path in it. All paths are absolute, with links resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// The folder of the checkout.
    pub top: PathBuf,
    /// The path that was asked for below `top`; empty for `top` itself.
    pub subfolder: PathBuf,
    /// The `.git` folder of this checkout; a linked worktree has its own.
    pub git_dir: PathBuf,
    /// The `.git` folder that all its worktrees share.
    pub common_dir: PathBuf,
    /// Where its objects are: its own folder first, then those that it borrows from. A session needs to read all of
    /// them, at these very paths.
    pub object_dirs: Vec<PathBuf>,
    /// The branch checked out, without `refs/heads/`; `None` where a commit is checked out by itself.
    pub head_branch: Option<String>,
    /// The commit checked out.
    pub head_commit: String,
    pub object_format: ObjectFormat,
    /// The history is cut off.
    pub shallow: bool,
    /// Who the user's own configuration says commits are by.
    pub identity: Identity,
}

impl Repository {
    /// Every folder of the user's that using this repository reaches; each must be inside the allowed roots.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        [self.top.as_path(), self.common_dir.as_path()].into_iter()
    }
}

/// How objects are named.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectFormat {
    #[default]
    Sha1,
    Sha256,
}

impl ObjectFormat {
    /// The length of a name in hexadecimal digits.
    pub const fn hex_len(self) -> usize {
        match self {
            Self::Sha1 => 40,
            Self::Sha256 => 64,
        }
    }

    /// Whether the text is the full name of an object.
    pub fn is_name(self, text: &str) -> bool {
        text.len() == self.hex_len()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    }
}

/// Who commits are by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub name: Option<String>,
    pub email: Option<String>,
}

/// A working tree to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkingTreeSpec {
    /// What it is made of.
    pub repository: Repository,
    /// The session's name: the branch is `berth/<name>`, or the next free one.
    pub session_name: String,
    /// The branch or commit to begin from; absent: what is checked out.
    pub base_branch: Option<String>,
    /// Where the session works: `<data>/sessions/<id>/work/<mount_name>`. The folder above is there.
    pub work: PathBuf,
    /// Where the host keeps its own notes of it: `<data>/sessions/<id>/git/<mount_name>`. The folder above is there.
    pub git: PathBuf,
}

/// A working tree that was made. It is stored with the session, and is all that later operations need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkingTree {
    /// The user's checkout.
    pub top: PathBuf,
    /// Where in the repository the session works; empty: at the top.
    pub subfolder: PathBuf,
    /// The user's `.git` folder of that checkout.
    pub git_dir: PathBuf,
    /// The user's `.git` folder that all worktrees share.
    pub common_dir: PathBuf,
    /// The user's object folders, to be readable in the session at these paths.
    pub object_dirs: Vec<PathBuf>,
    pub object_format: ObjectFormat,
    pub identity: Identity,
    /// `berth/<name>`, or the free one that was taken.
    pub branch: String,
    /// What the branch was made from; `None` for a commit that no branch named.
    pub base_branch: Option<String>,
    pub base_commit: String,
    pub work: PathBuf,
    pub git: PathBuf,
}

impl WorkingTree {
    /// Whether the folder that the session works in is gone.
    pub fn is_missing(&self) -> bool {
        !self
            .work
            .symlink_metadata()
            .is_ok_and(|metadata| metadata.is_dir())
    }

    /// The folder that the session's program is started in.
    pub fn working_folder(&self) -> PathBuf {
        self.work.join(&self.subfolder)
    }
}

/// Where the session's branch stands in the user's repository after a sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    pub branch: String,
    /// The session's last commit.
    pub commit: String,
    pub outcome: SyncOutcome,
}

/// What a sync did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncOutcome {
    /// The branch holds all of the session's commits already.
    Unchanged,
    /// The branch was brought up to the session's last commit.
    Moved,
    /// The branch was left alone; the session's commits are kept under another ref of the user's repository.
    Kept {
        reference: String,
        reason: KeptReason,
    },
}

/// Why a branch was left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptReason {
    /// The user has moved it, and neither side contains the other.
    Diverged,
    /// The user has it checked out, and a checkout is never changed.
    CheckedOut,
}

impl fmt::Display for KeptReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Diverged => "it has commits that the session does not have",
            Self::CheckedOut => "it is checked out in the repository",
        })
    }
}

/// What was saved of a session's uncommitted work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rescue {
    /// Refs in the user's repository, `refs/berth/rescue/<name>/<time>` first; empty where there was nothing to save.
    pub references: Vec<String>,
    /// What could not be saved, in a sentence.
    pub incomplete: Option<String>,
}

/// The working tree against its base.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Diff {
    pub base_commit: String,
    pub files: Vec<FileDiff>,
    /// A unified diff, as `git apply` takes it. Bytes that are no UTF-8 are replaced.
    pub diff: String,
    /// `diff` or `files` was cut off at its limit.
    pub truncated: bool,
}

/// How one file differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FileDiff {
    pub path: String,
    /// Where a renamed file was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_path: Option<String>,
    pub status: FileStatus,
    /// Null for a binary file, as is `deletions`.
    pub additions: Option<u64>,
    pub deletions: Option<u64>,
    pub binary: bool,
}

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileStatus {
    Added,
    Modified,
    Deleted,
    Renamed,
    /// It became another kind of thing: a link, a file, a submodule.
    TypeChanged,
}

/// How much of a difference is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiffLimits {
    pub max_bytes: usize,
    pub max_files: usize,
}

impl Default for DiffLimits {
    fn default() -> Self {
        Self {
            max_bytes: 4 << 20,
            max_files: 10_000,
        }
    }
}

/// What became of a working tree's branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// It has commits beyond its base (or the user has it checked out) and stays.
    pub branch_kept: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let check = |text, version| assert_eq!(Version::parse(text), version, "{text:?}");
        check("git version 2.39.5\n", Some(Version(2, 39, 5)));
        check(
            "git version 2.39.3 (Apple Git-146)\n",
            Some(Version(2, 39, 3)),
        );
        check("git version 2.47.0.rc1.5.gabc", Some(Version(2, 47, 0)));
        check("git version 3.0-rc0", Some(Version(3, 0, 0)));
        check("gitoxide 1", None);
        assert!(Version(2, 31, 9) < Version::MINIMUM);
    }
}
