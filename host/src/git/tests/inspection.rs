//! What is taken, and what is refused by name.

use super::*;

async fn refused(fixture: &Fixture, path: &Path) -> GitError {
    let error = fixture.git.inspect(path).await.unwrap_err();
    assert_eq!(error.kind(), GitErrorKind::Invalid, "{error}");
    assert!(
        error.to_string().contains(path.to_str().unwrap()),
        "{error}"
    );
    error
}

#[tokio::test]
async fn what_is_no_repository_is_refused() {
    let fixture = Fixture::empty();
    let repo = fixture.path("repo");
    let home = fixture.path("home");
    assert!(matches!(
        refused(&fixture, &repo).await,
        GitError::NoCommit(_)
    ));
    assert!(matches!(
        refused(&fixture, &home).await,
        GitError::NotARepository(_)
    ));
    let missing = home.join("missing");
    assert!(matches!(
        refused(&fixture, &missing).await,
        GitError::NotFound(_)
    ));
    let file = home.join(".gitconfig");
    assert!(matches!(
        refused(&fixture, &file).await,
        GitError::NotAFolder(_)
    ));
    let inside = repo.join(".git/refs");
    assert!(matches!(
        refused(&fixture, &inside).await,
        GitError::InsideGitFolder(_)
    ));
    fixture.git_in(&home, &["init", "-q", "--bare", "bare"]);
    let bare = home.join("bare");
    assert!(matches!(refused(&fixture, &bare).await, GitError::Bare(_)));
    write(&home.join("odd/.git"), "gitdir: ../nowhere\n");
    let odd = home.join("odd");
    assert!(matches!(
        refused(&fixture, &odd).await,
        GitError::Unsupported { .. }
    ));
    write(&home.join("fake/.git"), "text");
    let fake = home.join("fake");
    assert!(matches!(
        refused(&fixture, &fake).await,
        GitError::NotARepository(_)
    ));
}

#[tokio::test]
async fn what_cannot_work_is_refused() {
    let fixture = Fixture::new();
    let repo = fixture.path("repo");
    fixture.user(&["config", "remote.origin.promisor", "true"]);
    let error = refused(&fixture, &repo).await;
    assert!(error.to_string().contains("partial clone"), "{error}");
    fixture.user(&["config", "--unset", "remote.origin.promisor"]);
    fixture.user(&["config", "core.repositoryformatversion", "1"]);
    fixture.user(&["config", "extensions.unheardOf", "true"]);
    let error = refused(&fixture, &repo).await;
    assert!(
        error.to_string().to_lowercase().contains("unheardof"),
        "{error}"
    );
}

#[tokio::test]
async fn somebody_elses_repository_is_refused_unless_it_is_said_to_be_safe() {
    let fixture = Fixture::new();
    let repo = fixture.path("repo");
    if !nix::unistd::Uid::effective().is_root() {
        return; // Only root can give a folder away.
    }
    std::os::unix::fs::chown(&repo, Some(12345), None).unwrap();
    let error = refused(&fixture, &repo).await;
    assert!(error.to_string().contains("safe.directory"), "{error}");
    let home = fixture.path("home");
    fixture.git_in(
        &home,
        &[
            "config",
            "--global",
            "--add",
            "safe.directory",
            repo.to_str().unwrap(),
        ],
    );
    fixture.git.inspect(&repo).await.unwrap();
}

#[tokio::test]
async fn a_subfolder_belongs_to_its_repository() {
    let fixture = Fixture::new();
    let found = fixture
        .git
        .inspect(&fixture.path("repo/sub"))
        .await
        .unwrap();
    assert_eq!(found.top, fixture.path("repo"));
    assert_eq!(found.subfolder, Path::new("sub"));
    assert_eq!(found.head_branch.as_deref(), Some("main"));
    assert_eq!(found.head_commit, fixture.user(&["rev-parse", "HEAD"]));
    assert_eq!(found.identity.name.as_deref(), Some("Ann \"A\" B"));
    assert!(!found.shallow);
    let spec = WorkingTreeSpec {
        repository: found,
        ..fixture.spec("s").await
    };
    let tree = fixture.git.create(&spec).await.unwrap();
    assert_eq!(tree.working_folder(), tree.work.join("sub"));
    assert!(tree.working_folder().is_dir());
}

#[tokio::test]
async fn a_head_by_itself_has_no_branch() {
    let fixture = Fixture::new();
    fixture.user(&["checkout", "-q", "--detach"]);
    let tree = fixture.create("s").await;
    assert_eq!(tree.base_branch, None);
    assert_eq!(tree.base_commit, fixture.user(&["rev-parse", "HEAD"]));
}

#[tokio::test]
async fn linked_worktrees_borrowed_objects_and_shallow_clones_work() {
    let fixture = Fixture::new();
    let home = fixture.path("home");
    fixture.user(&["worktree", "add", "-q", "-b", "other", "../home/linked"]);
    write(&home.join("linked/c.txt"), "three");
    fixture.git_in(&home.join("linked"), &["add", "."]);
    fixture.git_in(&home.join("linked"), &["commit", "-qm", "second"]);
    let linked = fixture.git.inspect(&home.join("linked")).await.unwrap();
    assert_eq!(linked.head_branch.as_deref(), Some("other"));
    assert_eq!(linked.common_dir, fixture.path("repo/.git"));
    assert!(
        linked
            .folders()
            .any(|folder| folder == fixture.path("repo/.git"))
    );

    fixture.git_in(&home, &["clone", "-q", "--shared", "../repo", "shared"]);
    let shared = fixture.git.inspect(&home.join("shared")).await.unwrap();
    let objects = fixture.path("repo/.git/objects");
    assert_eq!(
        shared.object_dirs,
        [home.join("shared/.git/objects"), objects]
    );

    fixture.write("a.txt", "four\n");
    fixture.user(&["commit", "-qam", "third"]);
    let url = format!("file://{}", fixture.path("repo").display());
    fixture.git_in(&home, &["clone", "-q", "--depth=1", &url, "shallow"]);
    let shallow = fixture.git.inspect(&home.join("shallow")).await.unwrap();
    assert!(shallow.shallow);

    fixture.git_in(&home, &["init", "-q", "--object-format=sha256", "long"]);
    write(&home.join("long/d.txt"), "five");
    fixture.git_in(&home.join("long"), &["add", "."]);
    fixture.git_in(&home.join("long"), &["commit", "-qm", "first"]);
    let long = fixture.git.inspect(&home.join("long")).await.unwrap();
    assert_eq!(long.object_format, ObjectFormat::Sha256);

    for (name, repository) in [("l", linked), ("b", shared), ("s", shallow), ("x", long)] {
        let top = repository.top.clone();
        let spec = WorkingTreeSpec {
            repository,
            ..fixture.spec(name).await
        };
        let tree = fixture.git.create(&spec).await.unwrap();
        assert_eq!(
            fixture.session(&tree, &["status", "--porcelain"]),
            "",
            "{name}"
        );
        let commit = fixture.commit(&tree, "new.txt", "new\n");
        let synced = fixture.git.sync(&tree).await.unwrap();
        assert_eq!(synced.outcome, SyncOutcome::Moved, "{name}");
        let branch = fixture.git_in(&top, &["rev-parse", &tree.branch]);
        assert_eq!(branch, commit, "{name}");
        assert_eq!(fixture.git_in(&top, &["status", "--porcelain"]), "");
        write(&tree.work.join("loose.txt"), "loose");
        assert_eq!(fixture.git.uncommitted(&tree).await.unwrap(), ["loose.txt"]);
        let rescue = fixture.git.rescue(&tree, name).await.unwrap();
        assert_eq!(
            (rescue.references.len(), rescue.incomplete),
            (1, None),
            "{name}"
        );
        fixture.git_in(&top, &["fsck", "--no-dangling"]);
        fixture.git.remove(&tree).await.unwrap();
    }
    fixture.assert_nothing_left();
}
