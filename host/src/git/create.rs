//! Making a working tree.
//!
//! A note of what is begun comes first, a note that it is finished last; whoever finds the first without the second
//! starts over, with the same branch. Files are put in place under another name and moved as a whole.

use super::command::Runner;
use super::inspect::commit;
use super::layout::{Host, make_folder, write_session_git};
use super::objects::{Check, ingest, publish};
use super::refs::{self, Change};
use super::remove::remove_folder;
use super::session_refs::SessionRefs;
use super::{GitError, Repository, Result, WorkingTree, WorkingTreeSpec};
use std::path::{Path, PathBuf};

/// So many branches of one name are tried.
const MOST_NUMBERS: u32 = 10_000;

pub(super) async fn create(runner: &Runner, spec: &WorkingTreeSpec) -> Result<WorkingTree> {
    runner.version().await?;
    let host = Host::of(&spec.git);
    if let Some(tree) = host.finished() {
        return Ok(tree);
    }
    let begun = host.begun();
    // One that was cut off may be making its branch just now.
    runner.settled().await;
    remove_folder(&spec.work).await?;
    remove_beside(&spec.git).await?;
    remove_folder(&spec.git).await?;
    let user_refs = UserRefs::read(runner, &spec.repository.git_dir).await?;
    let mut tree = match begun {
        Some(tree) => tree,
        None => plan(runner, spec, &user_refs).await?,
    };
    // What stands at the base was made by the run that left the note, or is at least none of anybody's commits.
    let mut is_made = user_refs.commit_of(&tree.branch) == Some(tree.base_commit.as_str());
    if !is_made {
        tree.branch = free_branch(spec, &user_refs, None)?;
    }
    host.write_begun(&tree)?;
    host.write(&tree, &tree.common_dir)?;
    let given = user_refs.given(&tree);
    std::fs::write(host.given_refs(), &given).map_err(GitError::io("write", &host.given_refs()))?;
    let base = tree.base_commit.clone();
    let first_branch = tree.branch.clone();
    let (staged, made) = tokio::join!(
        check_out(runner, &tree, &base),
        make_branch(runner, &tree, &first_branch, is_made)
    );
    let staged = staged?;
    is_made = made?;
    while !is_made {
        let user_refs = UserRefs::read(runner, &tree.git_dir).await?;
        tree.branch = free_branch(spec, &user_refs, Some(&tree.branch))?;
        host.write_begun(&tree)?;
        is_made = make_branch(runner, &tree, &tree.branch, false).await?;
    }
    put_in_place(&tree, &staged, &base).await?;
    host.write_finished(&tree)?;
    Ok(tree)
}

/// Makes the working tree anew at its branch's last commit, beside the old one until it is whole.
pub(super) async fn recheckout(runner: &Runner, tree: &WorkingTree) -> Result<()> {
    let host = Host::of(&tree.git);
    if !tree.git.join("HEAD").exists() {
        host.write(tree, &tree.common_dir)?;
        host.write_finished(tree)?;
    }
    // Where the user's branch has not moved since, the session's own last commit may be newer.
    let own = SessionRefs::read(tree).ok().and_then(|refs| refs.tip);
    let branch = refs::branch(runner, tree).await?;
    let is_there = branch.is_some();
    let tip = match (own, branch) {
        (Some(own), _)
            if ingest(runner, tree, std::slice::from_ref(&own))
                .await
                .is_ok() =>
        {
            own
        }
        (_, Some(branch)) => branch.commit,
        (_, None) => host.synced(tree),
    };
    if commit(runner, &tree.git, &tip).await?.is_none() {
        return Err(GitError::Damaged {
            path: tree.work.clone(),
            reason: format!("its last commit {tip} is gone"),
        });
    }
    remove_beside(&tree.git).await?;
    let user_refs = UserRefs::read(runner, &tree.git_dir).await?;
    let given = user_refs.given(tree);
    std::fs::write(host.given_refs(), &given).map_err(GitError::io("write", &host.given_refs()))?;
    if !is_there {
        // It had nothing of its own and went with its session, or the user removed it.
        publish(runner, tree, std::slice::from_ref(&tip), Check::Form).await?;
        make_branch_at(runner, tree, &tree.branch, &tip).await?;
    }
    let staged = check_out(runner, tree, &tip).await?;
    put_in_place(tree, &staged, &tip).await
}

/// Decides on base and branch.
async fn plan(
    runner: &Runner,
    spec: &WorkingTreeSpec,
    user_refs: &UserRefs,
) -> Result<WorkingTree> {
    let repository = &spec.repository;
    let (base_branch, base_commit) =
        base(runner, repository, spec.base_branch.as_deref(), user_refs).await?;
    Ok(WorkingTree {
        top: repository.top.clone(),
        subfolder: repository.subfolder.clone(),
        git_dir: repository.git_dir.clone(),
        common_dir: repository.common_dir.clone(),
        object_dirs: repository.object_dirs.clone(),
        object_format: repository.object_format,
        identity: repository.identity.clone(),
        branch: free_branch(spec, user_refs, None)?,
        base_branch,
        base_commit,
        work: spec.work.clone(),
        git: spec.git.clone(),
    })
}

/// Whether a working tree of this repository can begin from `base`.
pub(super) async fn check_base(runner: &Runner, repository: &Repository, base: &str) -> Result<()> {
    let user_refs = UserRefs::read(runner, &repository.git_dir).await?;
    self::base(runner, repository, Some(base), &user_refs)
        .await
        .map(drop)
}

/// What to begin from: the branch, where one was named, and the commit.
async fn base(
    runner: &Runner,
    repository: &Repository,
    asked: Option<&str>,
    user_refs: &UserRefs,
) -> Result<(Option<String>, String)> {
    let Some(asked) = asked else {
        return Ok((
            repository.head_branch.clone(),
            repository.head_commit.clone(),
        ));
    };
    for kind in ["refs/heads", "refs/remotes"] {
        if let Some(commit) = user_refs.find(&format!("{kind}/{asked}")) {
            return Ok((Some(asked.to_owned()), commit.to_owned()));
        }
    }
    let unknown = || GitError::UnknownBase {
        path: repository.top.clone(),
        base: asked.to_owned(),
    };
    let is_odd = |character: char| character.is_control() || character == ':';
    if asked.is_empty() || asked.len() > 255 || asked.starts_with('-') || asked.contains(is_odd) {
        return Err(unknown());
    }
    match commit(runner, &repository.git_dir, asked).await {
        Ok(Some(commit)) => Ok((None, commit)),
        Ok(None) | Err(GitError::Failed { .. }) => Err(unknown()),
        Err(error) => Err(error),
    }
}

/// `berth/<name>`, or the first of `berth/<name>-2`, … that is free; never `but`, which was just taken.
fn free_branch(spec: &WorkingTreeSpec, refs: &UserRefs, but: Option<&str>) -> Result<String> {
    let first = format!("berth/{}", spec.session_name);
    if refs.commit_of("berth").is_some() {
        return Err(GitError::BranchBlocked {
            path: spec.repository.top.clone(),
            blocker: "berth".to_owned(),
            branch: first,
        });
    }
    let is_free = |branch: &String| Some(branch.as_str()) != but && !refs.is_taken(branch);
    std::iter::once(first.clone())
        .chain((2..MOST_NUMBERS).map(|number| format!("{first}-{number}")))
        .find(is_free)
        .ok_or_else(|| GitError::Raced {
            path: spec.repository.top.clone(),
            branch: first,
        })
}

/// Puts the branch into the user's repository; false where it is there already.
async fn make_branch(
    runner: &Runner,
    tree: &WorkingTree,
    branch: &str,
    is_made: bool,
) -> Result<bool> {
    if is_made {
        return Ok(true);
    }
    make_branch_at(runner, tree, branch, &tree.base_commit).await
}

async fn make_branch_at(
    runner: &Runner,
    tree: &WorkingTree,
    branch: &str,
    commit: &str,
) -> Result<bool> {
    let change = Change {
        reference: &format!("refs/heads/{branch}"),
        old: None,
        new: Some(commit),
        reason: "berth: create",
    };
    refs::change(runner, &tree.git_dir, &change).await
}

/// Files of a commit, in a folder that is not yet in its place, and the index of them.
#[derive(Debug)]
struct Staged {
    files: PathBuf,
    index: PathBuf,
}

async fn check_out(runner: &Runner, tree: &WorkingTree, commit: &str) -> Result<Staged> {
    let files = beside(&tree.git, "new");
    let index = beside(&tree.git, "index");
    make_folder(&files)?;
    runner
        .git("check out the branch", &tree.git)
        .on(&files, &index)
        // As many as there are processors, where there is enough to do.
        .args(["-c", "checkout.workers=0", "read-tree", "-u", "--reset"])
        .args([commit])
        .run()
        .await?;
    Ok(Staged { files, index })
}

/// Gives the files a `.git` folder and moves them to where the session works.
async fn put_in_place(tree: &WorkingTree, staged: &Staged, tip: &str) -> Result<()> {
    let host = Host::of(&tree.git);
    let given = host.given_refs();
    let given = std::fs::read(&given).map_err(GitError::io("read", &given))?;
    let session_git = staged.files.join(".git");
    write_session_git(&session_git, tree, tip, &given, &tree.common_dir)?;
    let copied = session_git.join("index");
    std::fs::copy(&staged.index, &copied).map_err(GitError::io("write", &copied))?;
    let index = host.index(tip);
    std::fs::rename(&staged.index, &index).map_err(GitError::io("write", &index))?;
    let old = beside(&tree.git, "old");
    match std::fs::rename(&tree.work, &old) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(GitError::io("move away", &tree.work)(error)),
    }
    std::fs::rename(&staged.files, &tree.work).map_err(GitError::io("make", &tree.work))?;
    remove_folder(&old).await
}

/// A path beside the host's git folder, where mount names never are: they have no dot.
pub(super) fn beside(git: &Path, suffix: &str) -> PathBuf {
    let mut name = git.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    git.with_file_name(name)
}

/// Removes what a killed run left beside the host's git folder.
pub(super) async fn remove_beside(git: &Path) -> Result<()> {
    let (Some(folder), Some(name)) = (git.parent(), git.file_name()) else {
        return Ok(());
    };
    let mut prefix = name.to_string_lossy().into_owned();
    prefix.push('.');
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries.filter_map(Result::ok) {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            remove_folder(&entry.path()).await?;
        }
    }
    Ok(())
}

/// The refs of the user's repository.
#[derive(Debug)]
struct UserRefs {
    /// `<commit> <ref>` a line, sorted by ref.
    text: String,
}

impl UserRefs {
    async fn read(runner: &Runner, git_dir: &Path) -> Result<Self> {
        let output = runner
            .git("list the branches", git_dir)
            .args(["for-each-ref", "--format=%(objectname) %(refname)"])
            .args(["refs/heads", "refs/remotes", "refs/tags"])
            .run()
            .await?;
        Ok(Self {
            text: String::from_utf8_lossy(&output.stdout).into_owned(),
        })
    }

    fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text.lines().filter_map(|line| line.split_once(' '))
    }

    fn find(&self, reference: &str) -> Option<&str> {
        self.all()
            .find(|(_, name)| *name == reference)
            .map(|(commit, _)| commit)
    }

    fn commit_of(&self, branch: &str) -> Option<&str> {
        self.find(&format!("refs/heads/{branch}"))
    }

    /// Whether the branch is there, or branches below it are.
    fn is_taken(&self, branch: &str) -> bool {
        self.all().any(|(_, name)| {
            name.strip_prefix("refs/heads/")
                .and_then(|name| name.strip_prefix(branch))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// What a session is given of them, in the form of `packed-refs`: branches, remote branches and tags under their own
    /// names, but no branch of a session.
    fn given(&self, tree: &WorkingTree) -> Vec<u8> {
        let mut given = String::from("# pack-refs with: sorted \n");
        for (commit, name) in self.all() {
            let branch = name.strip_prefix("refs/heads/").unwrap_or("");
            let is_base = Some(branch) == tree.base_branch.as_deref();
            if branch == tree.branch || (branch.starts_with("berth/") && !is_base) {
                continue;
            }
            given.push_str(commit);
            given.push(' ');
            given.push_str(name);
            given.push('\n');
        }
        given.into_bytes()
    }
}
