//! Git repositories to work on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A repository of a user, with one commit on `main`.
#[derive(Debug, Clone)]
pub struct Repository {
    path: PathBuf,
}

impl Repository {
    /// Makes one in `folder`, with `README.md`, a file in a subfolder, and one commit.
    pub fn make(folder: &Path, name: &str) -> Self {
        let repository = Self {
            path: folder.join(name),
        };
        fs::create_dir_all(repository.path.join("src")).expect("a repository's folder can be made");
        repository.git(&["init", "--quiet", "--initial-branch", "main"]);
        repository.write("README.md", "# a project\n");
        repository.write("src/main.txt", "one\n");
        repository.commit("first");
        repository
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is, as text.
    pub fn text(&self) -> &str {
        self.path.to_str().expect("test folders have plain names")
    }

    /// Writes a file of its checkout.
    pub fn write(&self, name: &str, content: &str) {
        let path = self.path.join(name);
        fs::write(&path, content).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()));
    }

    /// Commits all that is in its checkout; gives the commit.
    pub fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Runs git in it, by its user's hand; gives what it printed.
    ///
    /// # Panics
    /// Git failed.
    pub fn git(&self, arguments: &[&str]) -> String {
        git_in(&self.path, arguments)
    }

    /// Whether it has this branch.
    pub fn has_branch(&self, branch: &str) -> bool {
        let reference = format!("refs/heads/{branch}");
        !self.git(&["for-each-ref", &reference]).is_empty()
    }

    /// All that a session must not change: the checkout's state, its configuration, its hooks, its `HEAD`.
    pub fn untouched(&self) -> String {
        let config =
            fs::read_to_string(self.path.join(".git/config")).expect("it has a configuration");
        let hooks = fs::read_dir(self.path.join(".git/hooks")).map_or(0, Iterator::count);
        format!(
            "{config}\n{hooks}\n{}\n{}\n{}",
            self.git(&["status", "--porcelain=v2", "--branch"]),
            self.git(&["worktree", "list"]),
            self.git(&["stash", "list"])
        )
    }
}

/// Runs git in a folder, without the configuration of whoever runs the tests.
///
/// # Panics
/// Git failed.
pub(crate) fn git_in(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args([
            "-c",
            "user.name=A User",
            "-c",
            "user.email=user@example.org",
        ])
        .args(arguments)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdin(Stdio::null())
        .output()
        .expect("git is installed");
    assert!(
        output.status.success(),
        "git {arguments:?} in {}: {}",
        folder.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
