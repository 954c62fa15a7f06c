//! Finding a repository, and saying why it is none that a session can work on.

use super::command::{Runner, os};
use super::{GitError, Identity, ObjectFormat, Repository, Result};
use nix::unistd::{AccessFlags, Uid, access};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// As deep as git itself follows borrowed objects.
const ALTERNATES_DEPTH: usize = 5;

/// Finds the repository that `path` is in.
pub(super) async fn inspect(runner: &Runner, path: &Path) -> Result<Repository> {
    runner.version().await?;
    let found = discover(path)?;
    let unsupported = |reason: String| GitError::Unsupported {
        path: path.to_owned(),
        reason,
    };
    if let Some(line) = ["\n", "\r"].iter().find(|line| {
        found
            .common_dir
            .as_os_str()
            .as_bytes()
            .contains(&line.as_bytes()[0])
    }) {
        return Err(unsupported(format!("its path holds {line:?}")));
    }
    check_owner(runner, &found, path).await?;
    let configured = Configured::read(runner, &found).await?;
    if configured.bare && found.git_dir == found.common_dir {
        return Err(GitError::Bare(path.to_owned()));
    }
    if configured.partial {
        return Err(unsupported(
            "it is a partial clone, and what it lacks would have to be fetched; `git fetch --refetch` in a full clone has everything"
                .to_owned(),
        ));
    }
    for folder in ["objects", "refs"] {
        let folder = found.common_dir.join(folder);
        if access(&folder, AccessFlags::W_OK | AccessFlags::X_OK).is_err() {
            return Err(unsupported(format!(
                "the server's user cannot write {}, where the session's branch is to be",
                folder.display()
            )));
        }
    }
    let head_branch = head_branch(runner, &found.git_dir).await?;
    let head_commit = commit(runner, &found.git_dir, "HEAD")
        .await
        .map_err(|error| unsupported(error.to_string()))?
        .ok_or_else(|| GitError::NoCommit(path.to_owned()))?;
    let shallow = found.common_dir.join("shallow").metadata();
    Ok(Repository {
        object_dirs: object_dirs(&found.common_dir.join("objects"), path)?,
        head_branch,
        head_commit,
        object_format: configured.object_format,
        shallow: shallow.is_ok_and(|file| file.len() > 0),
        identity: configured.identity,
        top: found.top,
        subfolder: found.subfolder,
        git_dir: found.git_dir,
        common_dir: found.common_dir,
    })
}

/// The commit that a revision names, `None` where it names none. The revision is one that cannot be taken for an
/// option.
pub(super) async fn commit(
    runner: &Runner,
    git_dir: &Path,
    revision: &str,
) -> Result<Option<String>> {
    let attempted = "look up a commit";
    let output = runner
        .git(attempted, git_dir)
        .args(["rev-parse", "--verify", "--quiet"])
        .args([format!("{revision}^{{commit}}")])
        .outcome()
        .await?;
    match output.code() {
        Some(0) => Ok(Some(output.text())),
        Some(1) => Ok(None),
        _ => Err(output.failure(attempted)),
    }
}

struct Found {
    top: PathBuf,
    subfolder: PathBuf,
    git_dir: PathBuf,
    common_dir: PathBuf,
}

/// Looks for `.git` in the folder and above, as git does.
fn discover(path: &Path) -> Result<Found> {
    let start = path.canonicalize().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => GitError::NotFound(path.to_owned()),
        _ => GitError::io("find", path)(error),
    })?;
    if !start.is_dir() {
        return Err(GitError::NotAFolder(path.to_owned()));
    }
    for folder in start.ancestors() {
        let Some(git_dir) = git_dir_of(folder)? else {
            if is_git_dir(folder) {
                return Err(if folder.file_name() == Some(OsStr::new(".git")) {
                    GitError::InsideGitFolder(path.to_owned())
                } else if folder == start {
                    GitError::Bare(path.to_owned())
                } else {
                    GitError::InsideGitFolder(path.to_owned())
                });
            }
            continue;
        };
        let subfolder = start.strip_prefix(folder).unwrap_or(Path::new(""));
        let common_dir = match read_line(&git_dir.join("commondir")) {
            Some(line) => git_dir
                .join(line)
                .canonicalize()
                .map_err(GitError::io("find", &git_dir))?,
            None => git_dir.clone(),
        };
        return Ok(Found {
            top: folder.to_owned(),
            subfolder: subfolder.to_owned(),
            git_dir,
            common_dir,
        });
    }
    Err(GitError::NotARepository(path.to_owned()))
}

/// The git folder of a checkout: `.git` itself, or where a file of this name points.
fn git_dir_of(folder: &Path) -> Result<Option<PathBuf>> {
    let dot_git = folder.join(".git");
    let Ok(metadata) = dot_git.metadata() else {
        return Ok(None);
    };
    let git_dir = if metadata.is_dir() {
        dot_git.clone()
    } else {
        match read_line(&dot_git)
            .as_deref()
            .and_then(|line| line.strip_prefix("gitdir: "))
        {
            Some(target) => folder.join(target),
            None => return Ok(None),
        }
    };
    if !is_git_dir(&git_dir) {
        if metadata.is_dir() {
            return Ok(None);
        }
        return Err(GitError::Unsupported {
            path: folder.to_owned(),
            reason: format!(
                "its .git file points to {}, where no repository is",
                git_dir.display()
            ),
        });
    }
    git_dir
        .canonicalize()
        .map(Some)
        .map_err(GitError::io("find", &dot_git))
}

fn is_git_dir(folder: &Path) -> bool {
    let has_head = folder.join("HEAD").symlink_metadata().is_ok();
    let is_linked = folder.join("commondir").is_file();
    has_head && (is_linked || (folder.join("objects").is_dir() && folder.join("refs").is_dir()))
}

/// The first line of a small file.
fn read_line(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().next().map(|line| line.trim_end().to_owned())
}

/// Git's own rule: a repository of somebody else's is used only when the user's configuration says that it is safe.
async fn check_owner(runner: &Runner, found: &Found, path: &Path) -> Result<()> {
    let own = Uid::effective().as_raw();
    let mut stranger = None;
    for folder in [&found.top, &found.git_dir, &found.common_dir] {
        let owner = folder
            .metadata()
            .map_err(GitError::io("read", folder))?
            .uid();
        if owner != own {
            stranger = Some(owner);
        }
    }
    let Some(owner) = stranger else { return Ok(()) };
    let listed = runner
        .config(Path::new("/dev/null"))
        .args(["--global", "--null", "--get-all", "safe.directory"])
        .outcome()
        .await?;
    let is_safe = listed.stdout.split(|byte| *byte == 0).any(|entry| {
        let entry = OsStr::from_bytes(entry);
        let above = entry.as_bytes().strip_suffix(b"/*").map(OsStr::from_bytes);
        entry == "*"
            || Path::new(entry) == found.top
            || above.is_some_and(|above| found.top.starts_with(above))
    });
    if is_safe {
        return Ok(());
    }
    Err(GitError::Unsupported {
        path: path.to_owned(),
        reason: format!(
            "it belongs to another user (uid {owner}); `git config --global --add safe.directory {}` allows it",
            found.top.display()
        ),
    })
}

/// What of the configuration matters.
#[derive(Default)]
struct Configured {
    bare: bool,
    partial: bool,
    object_format: ObjectFormat,
    identity: Identity,
}

impl Configured {
    async fn read(runner: &Runner, found: &Found) -> Result<Self> {
        let output = runner
            .config(&found.git_dir)
            .args(["--null", "--get-regexp"])
            .args([r"^(core\.bare|extensions\.(objectformat|partialclone)|remote\..*\.promisor|user\.(name|email))$"])
            .outcome()
            .await?;
        if !matches!(output.code(), Some(0 | 1)) {
            return Err(output.failure("read the configuration"));
        }
        let mut configured = Self::default();
        for entry in String::from_utf8_lossy(&output.stdout).split('\0') {
            let (key, value) = entry.split_once('\n').unwrap_or((entry, "true"));
            let is_true = matches!(
                value.to_ascii_lowercase().as_str(),
                "true" | "yes" | "on" | "1"
            );
            match key {
                "core.bare" => configured.bare = is_true,
                "extensions.objectformat" if value == "sha256" => {
                    configured.object_format = ObjectFormat::Sha256;
                }
                "extensions.partialclone" => configured.partial = true,
                "user.name" => configured.identity.name = Some(value.to_owned()),
                "user.email" => configured.identity.email = Some(value.to_owned()),
                key if key.ends_with(".promisor") => configured.partial |= is_true,
                _ => {}
            }
        }
        Ok(configured)
    }
}

/// The branch checked out, whether it has a commit or not.
async fn head_branch(runner: &Runner, git_dir: &Path) -> Result<Option<String>> {
    let head = git_dir.join("HEAD");
    let is_link = head.symlink_metadata().is_ok_and(|head| head.is_symlink());
    let line = read_line(&head).unwrap_or_default();
    let target = match line.strip_prefix("ref: ") {
        // Where refs are not kept as files, the file holds a name that no branch can have.
        Some("refs/heads/.invalid") => None,
        Some(target) if !is_link => Some(target.to_owned()),
        None if !is_link => return Ok(None),
        _ => None,
    };
    let target = if let Some(target) = target {
        target
    } else {
        let output = runner
            .git("read HEAD", git_dir)
            .args(["symbolic-ref", "--quiet", "HEAD"])
            .outcome()
            .await?;
        output.text()
    };
    Ok(target.strip_prefix("refs/heads/").map(str::to_owned))
}

/// The folder of a repository's objects and all that it borrows from.
fn object_dirs(own: &Path, path: &Path) -> Result<Vec<PathBuf>> {
    let own = own.canonicalize().map_err(GitError::io("find", own))?;
    let mut found = vec![own.clone()];
    let mut level = vec![own];
    for _ in 0..ALTERNATES_DEPTH {
        let mut next = Vec::new();
        for folder in level {
            let Ok(listed) = std::fs::read(folder.join("info/alternates")) else {
                continue;
            };
            for line in listed.split(|byte| *byte == b'\n') {
                if line.is_empty() || line.starts_with(b"#") {
                    continue;
                }
                if line.starts_with(b"\"") {
                    return Err(GitError::Unsupported {
                        path: path.to_owned(),
                        reason: "it borrows objects from a path that has to be quoted".to_owned(),
                    });
                }
                // One that is gone is passed over, as git does.
                let alternate = folder.join(os(OsStr::from_bytes(line)));
                if let Ok(alternate) = alternate.canonicalize()
                    && !found.contains(&alternate)
                {
                    found.push(alternate.clone());
                    next.push(alternate);
                }
            }
        }
        level = next;
    }
    Ok(found)
}
