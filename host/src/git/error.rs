//! What can go wrong between berth and a repository.

use super::Version;
use std::path::{Path, PathBuf};

/// Why something could not be done with a repository.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    #[error("{} does not exist", .0.display())]
    NotFound(PathBuf),
    #[error("{} is not a folder", .0.display())]
    NotAFolder(PathBuf),
    #[error("{} is not a git repository", .0.display())]
    NotARepository(PathBuf),
    #[error("{} is the inside of a git repository's own folder, not a checkout", .0.display())]
    InsideGitFolder(PathBuf),
    #[error("{} is a bare git repository; a session needs one with a checkout", .0.display())]
    Bare(PathBuf),
    #[error("{} is a git repository with no commit; make a first one", .0.display())]
    NoCommit(PathBuf),
    /// There is something about this repository that berth cannot work with.
    #[error("{} cannot be used: {reason}", .path.display())]
    Unsupported { path: PathBuf, reason: String },
    #[error("{base:?} names no branch or commit of {}", .path.display())]
    UnknownBase { path: PathBuf, base: String },
    /// A branch of the user stands where berth's must.
    #[error("{} has a branch `{blocker}`, beside which git cannot hold `{branch}`; rename it", .path.display())]
    BranchBlocked {
        path: PathBuf,
        blocker: String,
        branch: String,
    },
    /// Somebody else changed the branch at the same moment.
    #[error("the branch {branch} of {} was changed by somebody else meanwhile", .path.display())]
    Raced { path: PathBuf, branch: String },
    #[error("the working tree {} is gone", .0.display())]
    WorktreeMissing(PathBuf),
    /// What the session has in its `.git` folder is no sound repository.
    #[error("the session's repository in {} is damaged: {reason}", .path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("git {found} is too old; berth needs {} or newer", Version::MINIMUM)]
    TooOld { found: Version },
    #[error("the program `git` cannot be run; is it installed?")]
    Missing(#[source] std::io::Error),
    /// `git` itself failed; its words are for the user to act on.
    #[error("git failed to {attempted}: {message}")]
    Failed {
        attempted: &'static str,
        message: String,
    },
    #[error("git did not {attempted} in time")]
    TimedOut { attempted: &'static str },
    #[error("cannot {attempted} {}", .path.display())]
    Io {
        attempted: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Whose fault a [`GitError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitErrorKind {
    /// The repository that was asked for is none that a session can have.
    Invalid,
    /// It collides with what is there, or work would be lost.
    Conflict,
    /// This machine: no `git`, no space, no permission, a damaged repository.
    Failed,
}

impl GitError {
    /// Whose fault it is.
    pub const fn kind(&self) -> GitErrorKind {
        match self {
            Self::NotFound(_)
            | Self::NotAFolder(_)
            | Self::NotARepository(_)
            | Self::InsideGitFolder(_)
            | Self::Bare(_)
            | Self::NoCommit(_)
            | Self::Unsupported { .. }
            | Self::UnknownBase { .. } => GitErrorKind::Invalid,
            Self::BranchBlocked { .. } | Self::Raced { .. } | Self::WorktreeMissing(_) => {
                GitErrorKind::Conflict
            }
            Self::Damaged { .. }
            | Self::TooOld { .. }
            | Self::Missing(_)
            | Self::Failed { .. }
            | Self::TimedOut { .. }
            | Self::Io { .. } => GitErrorKind::Failed,
        }
    }

    /// Wraps an I/O error, for `map_err`.
    pub(super) fn io(attempted: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            attempted,
            path,
            source,
        }
    }
}
