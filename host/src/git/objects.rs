//! Bringing objects over: from what a session wrote to the host's git folder, and from there to the user's repository.
//!
//! Files of the session are copied, never borrowed: a folder of objects may name others to borrow from, anywhere on the
//! disk. From the copies a pack is made of exactly what the wanted commits need, and whoever takes that pack names
//! every object anew by its content and refuses what is not whole.

use super::blocking;
use super::command::{Output, Runner};
use super::folder::Folder;
use super::index::passing;
use super::layout::{Host, make_folder};
use super::{GitError, Result, WorkingTree};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A pack with fewer objects is taken apart, as `git fetch` does.
const UNPACK_LIMIT: u32 = 100;
/// More files than this are in no folder of objects that anybody made by working.
const MOST_FILES: usize = 1_000_000;

/// Makes the commits, with all that they need, readable in the host's git folder.
///
/// # Errors
/// `Damaged` where the session does not have all of it, or has it unsound.
pub(super) async fn ingest(runner: &Runner, tree: &WorkingTree, commits: &[String]) -> Result<()> {
    if commits.is_empty()
        || has_whole(runner, tree, &tree.git, commits)
            .await?
            .succeeded()
    {
        return Ok(());
    }
    let copies = tempfile::Builder::new()
        .prefix("objects-")
        .tempdir_in(passing(tree)?)
        .map_err(GitError::io("make a folder beside", &tree.git))?;
    let (from, into) = (tree.clone(), copies.path().to_owned());
    let packs =
        blocking(move || copy_objects(&from, &into).map_err(|error| damaged(&from, &error)));
    for pack in packs.await? {
        // The session's own table of contents is not trusted. A damaged pack is as good as absent.
        runner
            .git("read a pack of the session", &tree.git)
            .args([OsStr::new("index-pack"), pack.as_os_str()])
            .outcome()
            .await?;
    }
    let source = Source {
        objects: copies.path(),
        not: vec![tree.base_commit.clone()],
        check: Check::Names,
    };
    transfer(runner, tree, &source, &tree.git, commits)
        .await
        .map_err(|error| match error {
            GitError::Failed { message, .. } => GitError::Damaged {
                path: tree.work.clone(),
                reason: message,
            },
            other => other,
        })
}

/// Brings a commit that the host's git folder has into the user's repository, which has it whole afterwards.
pub(super) async fn publish(
    runner: &Runner,
    tree: &WorkingTree,
    commits: &[String],
    check: Check,
) -> Result<()> {
    let objects = Host::of(&tree.git).objects();
    let source = Source {
        objects: &objects,
        not: vec![tree.base_commit.clone()],
        check,
    };
    transfer(runner, tree, &source, &tree.git_dir, commits).await
}

/// Whether one commit is in the history of another.
pub(super) async fn is_ancestor(
    runner: &Runner,
    tree: &WorkingTree,
    older: &str,
    newer: &str,
) -> Result<bool> {
    let attempted = "compare commits";
    let output = runner
        .git(attempted, &tree.git)
        .args(["merge-base", "--is-ancestor", older, newer])
        .outcome()
        .await?;
    match output.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => Err(output.failure(attempted)),
    }
}

/// Whether a git folder has the commits with all that they need. A transfer that failed may have left a part.
async fn has_whole(
    runner: &Runner,
    tree: &WorkingTree,
    git_dir: &Path,
    commits: &[String],
) -> Result<Output> {
    runner
        .git("find all that the commits of the session need", git_dir)
        .args(["rev-list", "--objects", "--quiet", "--stdin"])
        .input(format!("{}^{}\n", lines(commits), tree.base_commit))
        .outcome()
        .await
}

/// What is asked of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// That they are what they are named for, and whole. What is saved may be odd.
    Names,
    /// That they are also well formed: no path that would write into a `.git` folder, for one.
    Form,
}

/// Where objects come from.
struct Source<'a> {
    /// The folder of objects; those that it borrows are not brought over.
    objects: &'a Path,
    /// Commits that the other side has.
    not: Vec<String>,
    check: Check,
}

async fn transfer(
    runner: &Runner,
    tree: &WorkingTree,
    source: &Source<'_>,
    into: &Path,
    commits: &[String],
) -> Result<()> {
    let pack = tempfile::NamedTempFile::new_in(passing(tree)?)
        .map_err(GitError::io("make a file beside", &tree.git))?;
    let mut wanted = lines(commits);
    for commit in &source.not {
        wanted.push('^');
        wanted.push_str(commit);
        wanted.push('\n');
    }
    let reopened = |attempted| pack.reopen().map_err(GitError::io(attempted, pack.path()));
    runner
        .git("pack the commits of the session", &tree.git)
        .env("GIT_OBJECT_DIRECTORY", source.objects)
        .args(["pack-objects", "--revs", "--local", "--stdout", "-q"])
        .args(["--delta-base-offset", "--window=0"])
        .input(wanted)
        .output_to(reopened("write")?)
        .run()
        .await?;
    let count = objects_in(&mut reopened("read")?).map_err(GitError::io("read", pack.path()))?;
    if count > 0 {
        let take = if count < UNPACK_LIMIT {
            &["unpack-objects", "-q"][..]
        } else {
            &["index-pack", "--stdin"]
        };
        let strict: &[&str] = match source.check {
            Check::Names => &[],
            Check::Form => &["--strict"],
        };
        runner
            .git("take the commits of the session", into)
            .args(take)
            .args(strict)
            .input_from(reopened("read")?)
            .run()
            .await?;
    }
    let whole = has_whole(runner, tree, into, commits).await?;
    if whole.succeeded() {
        Ok(())
    } else {
        Err(whole.failure("find all that the commits of the session need"))
    }
}

fn lines(commits: &[String]) -> String {
    commits
        .iter()
        .flat_map(|commit| [commit.as_str(), "\n"])
        .collect()
}

/// How many objects a pack says it has.
fn objects_in(pack: &mut File) -> io::Result<u32> {
    let mut header = [0; 12];
    pack.read_exact(&mut header)?;
    let [.., a, b, c, d] = header;
    Ok(u32::from_be_bytes([a, b, c, d]))
}

fn damaged(tree: &WorkingTree, error: &io::Error) -> GitError {
    GitError::Damaged {
        path: tree.work.clone(),
        reason: error.to_string(),
    }
}

/// Copies what looks like objects out of the session's repository; answers the packs, whose tables are still to be made.
fn copy_objects(tree: &WorkingTree, into: &Path) -> io::Result<Vec<PathBuf>> {
    let own = Host::of(&tree.git).objects();
    std::fs::create_dir_all(into.join("info"))?;
    let mut alternates = own.as_os_str().as_bytes().to_vec();
    alternates.push(b'\n');
    std::fs::write(into.join("info/alternates"), alternates)?;
    let from = Folder::open(&tree.work)?.folder(".git/objects")?;
    let mut packs = Vec::new();
    for name in from.names(MOST_FILES)? {
        let Some(name) = name.to_str() else { continue };
        if !is_hex(name, 2) && name != "pack" {
            continue;
        }
        let Ok(folder) = from.folder(name) else {
            continue;
        };
        let target = into.join(name);
        make_folder(&target).map_err(io::Error::other)?;
        for file in folder.names(MOST_FILES)? {
            let Some(file) = file.to_str() else { continue };
            let is_pack = name == "pack" && is_pack_name(file);
            let is_object = name != "pack"
                && is_hex(file, tree.object_format.hex_len() - 2)
                && !own.join(name).join(file).exists();
            if !is_pack && !is_object {
                continue;
            }
            let Ok(mut source) = folder.file(file) else {
                continue;
            };
            let target = target.join(file);
            io::copy(&mut source, &mut File::create(&target)?)?;
            if is_pack {
                packs.push(target);
            }
        }
    }
    Ok(packs)
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn is_pack_name(name: &str) -> bool {
    name.strip_prefix("pack-")
        .and_then(|name| name.strip_suffix(".pack"))
        .is_some_and(|hash| is_hex(hash, 40) || is_hex(hash, 64))
}
