//! Making a working tree, being killed at it, and removing it.

use super::*;

#[tokio::test]
async fn a_working_tree_is_a_repository_of_its_own() {
    let fixture = Fixture::new();
    fixture.user(&["branch", "feature"]);
    fixture.user(&["tag", "v1"]);
    write(&fixture.path("repo/.git/info/exclude"), "*.log\n");
    let before = fixture.untouchable();
    let tree = fixture.create("fix").await;
    assert_eq!(tree.branch, "berth/fix");
    assert_eq!(tree.base_branch.as_deref(), Some("main"));
    assert_eq!(read(&tree.work.join("sub/b.txt")), "two\n");
    assert!(tree.work.join(".git").is_dir());
    assert_eq!(
        fixture.session(&tree, &["branch", "--show-current"]),
        "berth/fix"
    );
    assert_eq!(fixture.session(&tree, &["status", "--porcelain"]), "");
    assert_eq!(
        fixture.session(&tree, &["diff", "main", "feature", "v1"]),
        ""
    );
    write(&tree.work.join("x.log"), "ignored");
    assert_eq!(
        fixture.git.uncommitted(&tree).await.unwrap(),
        Vec::<String>::new()
    );
    fixture.session(&tree, &["fsck", "--strict"]);
    // Its own configuration has the user's name, though that has quotes in it, and nothing else of the user's.
    std::fs::write(fixture.path("home/.gitconfig"), "").unwrap();
    fixture.commit(&tree, "c.txt", "three");
    assert_eq!(
        fixture.session(&tree, &["log", "-1", "--format=%an <%ae>"]),
        "Ann \"A\" B <ann@example.org>"
    );
    assert_eq!(
        fixture.refs(),
        "refs/heads/berth/fix\nrefs/heads/feature\nrefs/heads/main\nrefs/tags/v1"
    );
    fixture.assert_untouched(&before);
    // The same again is the same.
    assert_eq!(fixture.create("fix").await, tree);
}

#[tokio::test]
async fn the_next_free_branch_is_taken() {
    let fixture = Fixture::new();
    fixture.user(&["branch", "berth/a"]);
    fixture.user(&["branch", "berth/a-2/below"]);
    assert_eq!(fixture.create("a").await.branch, "berth/a-3");
    fixture.user(&["pack-refs", "--all"]);
    fixture.user(&["branch", "berth/b"]);
    fixture.user(&["pack-refs", "--all"]);
    assert_eq!(fixture.create("b").await.branch, "berth/b-2");
}

#[tokio::test]
async fn sessions_of_one_name_at_once_have_branches_of_their_own() {
    let fixture = Fixture::new();
    let specs: Vec<_> = futures_util::future::join_all((0..8).map(|number| {
        let fixture = &fixture;
        async move {
            let mut spec = fixture.spec("same").await;
            spec.work = fixture.path("work").join(number.to_string());
            spec.git = fixture.path("git").join(number.to_string());
            spec
        }
    }))
    .await;
    let made = futures_util::future::join_all(specs.iter().map(|spec| fixture.git.create(spec)));
    let mut branches: Vec<_> = made
        .await
        .into_iter()
        .map(|tree| tree.unwrap().branch)
        .collect();
    branches.sort();
    branches.dedup();
    assert_eq!(branches.len(), 8, "{branches:?}");
}

#[tokio::test]
async fn a_branch_in_the_way_is_named() {
    let fixture = Fixture::new();
    fixture.user(&["branch", "berth"]);
    let error = fixture
        .git
        .create(&fixture.spec("a").await)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), GitErrorKind::Conflict);
    assert!(error.to_string().contains("`berth`"), "{error}");
}

#[tokio::test]
async fn the_base_is_a_branch_or_a_commit() {
    let fixture = Fixture::new();
    let first = fixture.user(&["rev-parse", "HEAD"]);
    fixture.user(&["branch", "old"]);
    fixture.user(&["tag", "-a", "-m", "tag", "v1"]);
    fixture.user(&["update-ref", "refs/remotes/origin/main", &first]);
    fixture.write("a.txt", "changed\n");
    fixture.user(&["commit", "-qam", "second"]);
    let bases = [
        ("old", Some("old")),
        ("origin/main", Some("origin/main")),
        ("v1", None),
        ("HEAD~1", None),
        (&first[..10], None),
    ];
    for (number, (base, branch)) in bases.into_iter().enumerate() {
        let mut spec = fixture.spec(&format!("s{number}")).await;
        spec.base_branch = Some(base.to_owned());
        let tree = fixture.git.create(&spec).await.unwrap();
        assert_eq!(tree.base_branch.as_deref(), branch, "{base}");
        assert_eq!(tree.base_commit, first, "{base}");
        assert_eq!(read(&tree.work.join("a.txt")), "one\n");
    }
    let odd = [
        "",
        "nothing",
        "--all",
        "-h",
        ":/first",
        "HEAD:a.txt",
        "a\nb",
        "main..old",
    ];
    for base in odd {
        let mut spec = fixture.spec("odd").await;
        spec.base_branch = Some(base.to_owned());
        let error = fixture.git.create(&spec).await.unwrap_err();
        assert!(
            matches!(error, GitError::UnknownBase { .. }),
            "{base}: {error}"
        );
        fixture.git.discard(&spec).await.unwrap();
    }
}

#[tokio::test]
async fn a_creation_cut_off_anywhere_is_finished_or_undone() {
    let fixture = Fixture::new();
    let before = fixture.untouchable();
    let delays = (0..40).map(|step| std::time::Duration::from_micros(step * 700));
    for (number, delay) in delays.enumerate() {
        let spec = fixture.spec(&format!("s{number}")).await;
        let cut = tokio::time::timeout(delay, fixture.git.create(&spec)).await;
        if number % 2 == 0 {
            let tree = fixture.git.create(&spec).await.unwrap();
            assert_eq!(tree.branch, format!("berth/s{number}"), "{cut:?}");
            assert_eq!(fixture.session(&tree, &["status", "--porcelain"]), "");
            assert!(!fixture.git.remove(&tree).await.unwrap().branch_kept);
        } else {
            fixture.git.discard(&spec).await.unwrap();
            assert_eq!(fixture.refs(), "refs/heads/main", "{cut:?}");
        }
    }
    fixture.assert_nothing_left();
    fixture.assert_untouched(&before);
    assert_eq!(fixture.refs(), "refs/heads/main");
}

#[tokio::test]
async fn what_a_killed_run_left_is_replaced() {
    let fixture = Fixture::new();
    let spec = fixture.spec("s").await;
    let tree = fixture.git.create(&spec).await.unwrap();
    // As it is before the last step: all is there but the note.
    std::fs::remove_file(tree.git.join("tree.json")).unwrap();
    write(&tree.work.join("half"), "half");
    write(&fixture.path("git/s.new/half"), "half");
    std::fs::write(fixture.path("git/s.index.lock"), "").unwrap();
    let again = fixture.git.create(&spec).await.unwrap();
    assert_eq!(again, tree, "the branch that it made is its own");
    assert!(!again.work.join("half").exists());
    // A lock on its branch that is as old as no living git's.
    let lock = fixture.path("repo/.git/refs/heads/berth/s.lock");
    std::fs::write(&lock, "").unwrap();
    let commit = fixture.commit(&tree, "c.txt", "three");
    let error = fixture.git.sync(&tree).await.unwrap_err();
    assert!(error.to_string().contains("s.lock"), "{error}");
    let old = std::time::SystemTime::now() - std::time::Duration::from_mins(10);
    std::fs::File::open(&lock)
        .unwrap()
        .set_modified(old)
        .unwrap();
    assert_eq!(fixture.git.sync(&tree).await.unwrap().commit, commit);
}

#[tokio::test]
async fn a_branch_without_commits_goes_with_its_session() {
    let fixture = Fixture::new();
    let tree = fixture.create("empty").await;
    assert!(!fixture.git.remove(&tree).await.unwrap().branch_kept);
    assert!(
        !fixture.git.remove(&tree).await.unwrap().branch_kept,
        "twice is a success"
    );
    let tree = fixture.create("full").await;
    fixture.commit(&tree, "c.txt", "three");
    fixture.git.sync(&tree).await.unwrap();
    assert!(fixture.git.remove(&tree).await.unwrap().branch_kept);
    let tree = fixture.create("used").await;
    fixture.user(&["checkout", "-q", "berth/used"]);
    assert!(
        fixture.git.remove(&tree).await.unwrap().branch_kept,
        "it is checked out"
    );
    assert_eq!(
        fixture.refs(),
        "refs/heads/berth/full\nrefs/heads/berth/used\nrefs/heads/main"
    );
    fixture.assert_nothing_left();
}

#[tokio::test]
async fn folders_that_may_not_be_written_are_removed() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new();
    let tree = fixture.create("s").await;
    write(&tree.work.join("locked/deep/file"), "x");
    for folder in ["locked/deep", "locked"] {
        let none = std::fs::Permissions::from_mode(0o000);
        std::fs::set_permissions(tree.work.join(folder), none).unwrap();
    }
    fixture.git.remove(&tree).await.unwrap();
    fixture.assert_nothing_left();
}

#[tokio::test]
async fn a_working_tree_that_is_gone_is_checked_out_again() {
    let fixture = Fixture::new();
    let tree = fixture.create("s").await;
    let commit = fixture.commit(&tree, "c.txt", "three");
    fixture.git.sync(&tree).await.unwrap();
    write(&tree.work.join("a.txt"), "uncommitted");
    write(&tree.work.join("new.txt"), "untracked");
    fixture.git.recheckout(&tree).await.unwrap();
    assert_eq!(read(&tree.work.join("a.txt")), "one\n");
    assert!(!tree.work.join("new.txt").exists());
    std::fs::remove_dir_all(&tree.work).unwrap();
    assert!(tree.is_missing());
    let error = fixture.git.sync(&tree).await.unwrap_err();
    assert!(matches!(error, GitError::WorktreeMissing(_)), "{error}");
    assert_eq!(
        fixture.git.rescue(&tree, "s").await.unwrap(),
        Rescue::default()
    );
    fixture.git.recheckout(&tree).await.unwrap();
    assert_eq!(fixture.session(&tree, &["rev-parse", "HEAD"]), commit);
    assert_eq!(fixture.session(&tree, &["status", "--porcelain"]), "");
    assert_eq!(
        fixture.git.uncommitted(&tree).await.unwrap(),
        Vec::<String>::new()
    );
    // With the host's own notes gone as well.
    std::fs::remove_dir_all(&tree.work).unwrap();
    std::fs::remove_dir_all(&tree.git).unwrap();
    fixture.git.recheckout(&tree).await.unwrap();
    assert_eq!(fixture.session(&tree, &["rev-parse", "HEAD"]), commit);
    // After it was removed, with a branch that stays and with one that does not.
    assert!(fixture.git.remove(&tree).await.unwrap().branch_kept);
    fixture.git.recheckout(&tree).await.unwrap();
    assert_eq!(fixture.session(&tree, &["rev-parse", "HEAD"]), commit);
    let tree = fixture.create("empty").await;
    assert!(!fixture.git.remove(&tree).await.unwrap().branch_kept);
    fixture.git.recheckout(&tree).await.unwrap();
    assert_eq!(
        fixture.user(&["rev-parse", "berth/empty"]),
        tree.base_commit
    );
    let commit = fixture.commit(&tree, "c.txt", "three");
    assert_eq!(fixture.git.sync(&tree).await.unwrap().commit, commit);
}

#[tokio::test]
async fn a_git_that_is_too_old_or_missing_is_named() {
    let fixture = Fixture::new();
    let old = fixture.path("home/git");
    make_program(&old, "#!/bin/sh\necho git version 2.20.1\n");
    let with = |program: PathBuf| {
        Git::new(GitSettings {
            program,
            search_path: "/nowhere".into(),
            home: fixture.path("home"),
        })
    };
    let error = with(old).inspect(&fixture.path("repo")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "git 2.20.1 is too old; berth needs 2.32.0 or newer"
    );
    let error = with("git".into()).version().await.unwrap_err();
    assert!(matches!(error, GitError::Missing(_)), "{error}");
}
