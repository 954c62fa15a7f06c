//! Against the real `git`, in folders of their own.

mod creation;
mod inspection;
mod many_files;
mod rescuing;
mod syncing;
mod trust;

use super::*;
use std::process::Command;
use tempfile::TempDir;

/// A user with a home, a repository, and room for sessions.
struct Fixture {
    folder: TempDir,
    git: Git,
}

impl Fixture {
    /// With one commit on `main`: `a.txt` and `sub/b.txt`.
    fn new() -> Self {
        let fixture = Self::empty();
        fixture.write("a.txt", "one\n");
        fixture.write("sub/b.txt", "two\n");
        fixture.user(&["add", "."]);
        fixture.user(&["commit", "-qm", "first"]);
        fixture
    }

    /// With no commit.
    fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let fixture = Self {
            git: Git::new(GitSettings {
                program: "git".into(),
                search_path: path,
                home: folder.path().canonicalize().unwrap().join("home"),
            }),
            folder,
        };
        for name in ["home", "repo", "work", "git"] {
            std::fs::create_dir(fixture.path(name)).unwrap();
        }
        std::fs::write(
            fixture.path("home/.gitconfig"),
            "[user]\n\tname = Ann \\\"A\\\" B\n\temail = ann@example.org\n",
        )
        .unwrap();
        fixture.user(&["init", "-q", "-b", "main"]);
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    /// Writes a file of the user's checkout.
    fn write(&self, name: &str, text: &str) {
        write(&self.path("repo").join(name), text);
    }

    /// The user's own `git` in their checkout.
    fn user(&self, args: &[&str]) -> String {
        self.git_in(&self.path("repo"), args)
    }

    /// The session's `git` in its working tree.
    fn session(&self, tree: &WorkingTree, args: &[&str]) -> String {
        self.git_in(&tree.work, args)
    }

    fn git_in(&self, folder: &Path, args: &[&str]) -> String {
        let output = self.git_command(folder).args(args).output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {args:?}: {complaint}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn git_command(&self, folder: &Path) -> Command {
        let mut command = Command::new("git");
        command
            .current_dir(folder)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("GIT_CONFIG_NOSYSTEM", "1");
        command
    }

    async fn spec(&self, name: &str) -> WorkingTreeSpec {
        WorkingTreeSpec {
            repository: self.git.inspect(&self.path("repo")).await.unwrap(),
            session_name: name.to_owned(),
            base_branch: None,
            work: self.path("work").join(name),
            git: self.path("git").join(name),
        }
    }

    async fn create(&self, name: &str) -> WorkingTree {
        self.git.create(&self.spec(name).await).await.unwrap()
    }

    /// A commit made in the session.
    fn commit(&self, tree: &WorkingTree, name: &str, text: &str) -> String {
        write(&tree.work.join(name), text);
        self.session(tree, &["add", "-A"]);
        self.session(tree, &["commit", "-qm", name]);
        self.session(tree, &["rev-parse", "HEAD"])
    }

    fn refs(&self) -> String {
        self.user(&["for-each-ref", "--format=%(refname)"])
    }

    /// All that berth must never change of the user's repository.
    fn untouchable(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let git = self.path("repo/.git");
        let mut kept = Vec::new();
        for name in ["HEAD", "index", "config"] {
            kept.push((git.join(name), std::fs::read(git.join(name)).unwrap()));
        }
        let files = self.user(&["ls-files"]);
        for name in files.lines() {
            let file = self.path("repo").join(name);
            kept.push((file.clone(), std::fs::read(file).unwrap()));
        }
        kept
    }

    fn assert_untouched(&self, before: &[(PathBuf, Vec<u8>)]) {
        for (path, bytes) in before {
            assert_eq!(&std::fs::read(path).unwrap(), bytes, "{}", path.display());
        }
        let status = self.user(&["status", "--porcelain"]);
        assert_eq!(status, "");
    }

    /// No folder of a session is left, nor anything beside it.
    fn assert_nothing_left(&self) {
        for folder in ["work", "git"] {
            let left: Vec<_> = std::fs::read_dir(self.path(folder))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            assert_eq!(left, Vec::<PathBuf>::new());
        }
    }
}

fn write(path: &Path, text: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn make_program(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    write(path, text);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
