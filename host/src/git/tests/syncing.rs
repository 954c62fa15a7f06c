//! The branch in the user's repository, and what the user does to it; what differs.

use super::*;

#[tokio::test]
async fn the_branch_follows_the_session() {
    let fixture = Fixture::new();
    let before = fixture.untouchable();
    let tree = fixture.create("s").await;
    let nothing = fixture.git.sync(&tree).await.unwrap();
    assert_eq!(nothing.outcome, SyncOutcome::Unchanged);
    assert_eq!(nothing.commit, tree.base_commit);
    let first = fixture.commit(&tree, "c.txt", "three");
    let second = fixture.commit(&tree, "d.txt", "four");
    let synced = fixture.git.sync(&tree).await.unwrap();
    assert_eq!(
        (synced.commit.as_str(), synced.outcome),
        (second.as_str(), SyncOutcome::Moved)
    );
    assert_eq!(
        fixture.user(&["log", "--format=%H", "-2", "berth/s"]),
        format!("{second}\n{first}")
    );
    assert_eq!(
        fixture.git.sync(&tree).await.unwrap().outcome,
        SyncOutcome::Unchanged
    );
    // A session may rewrite what it committed.
    fixture.session(&tree, &["commit", "-q", "--amend", "-m", "better"]);
    let third = fixture.session(&tree, &["rev-parse", "HEAD"]);
    assert_eq!(
        fixture.git.sync(&tree).await.unwrap().outcome,
        SyncOutcome::Moved
    );
    assert_eq!(fixture.user(&["rev-parse", "berth/s"]), third);
    // Packed as gc does it, with hundreds of objects.
    for number in 0..150 {
        write(
            &tree.work.join(format!("many/{number}")),
            number.to_string(),
        );
    }
    fixture.session(&tree, &["add", "-A"]);
    fixture.session(&tree, &["commit", "-qm", "many"]);
    fixture.session(&tree, &["gc", "-q"]);
    assert_eq!(
        fixture.git.sync(&tree).await.unwrap().outcome,
        SyncOutcome::Moved
    );
    assert_eq!(fixture.user(&["show", "berth/s:many/149"]), "149");
    fixture.user(&["fsck", "--strict", "--no-dangling"]);
    // A branch that was renamed is still the session's.
    fixture.session(&tree, &["branch", "-m", "mine"]);
    let last = fixture.commit(&tree, "e.txt", "five");
    assert_eq!(fixture.git.sync(&tree).await.unwrap().commit, last);
    assert_eq!(fixture.user(&["rev-parse", "berth/s"]), last);
    fixture.assert_untouched(&before);
}

#[tokio::test]
async fn what_the_user_did_to_the_branch_stays() {
    let fixture = Fixture::new();
    let tree = fixture.create("s").await;
    let own = fixture.commit(&tree, "c.txt", "three");
    fixture.git.sync(&tree).await.unwrap();
    // The user adds a commit: the session, which has nothing new, leaves it.
    let parent = format!("{own}^{{tree}}");
    let moved = fixture.user(&["commit-tree", "-p", &own, "-m", "user's", &parent]);
    fixture.user(&["update-ref", "refs/heads/berth/s", &moved]);
    assert_eq!(
        fixture.git.sync(&tree).await.unwrap().outcome,
        SyncOutcome::Unchanged
    );
    assert_eq!(fixture.user(&["rev-parse", "berth/s"]), moved);
    // Both go on: both are kept.
    let next = fixture.commit(&tree, "d.txt", "four");
    let synced = fixture.git.sync(&tree).await.unwrap();
    let SyncOutcome::Kept { reference, reason } = synced.outcome else {
        panic!("{synced:?}");
    };
    assert_eq!(reason, KeptReason::Diverged);
    assert_eq!(reference, format!("refs/berth/sync/s/{}", &next[..12]));
    assert_eq!(fixture.user(&["rev-parse", &reference]), next);
    assert_eq!(fixture.user(&["rev-parse", "berth/s"]), moved);
    assert!(matches!(
        fixture.git.sync(&tree).await.unwrap().outcome,
        SyncOutcome::Kept { .. }
    ));
    // The session takes the user's commit in (by way of the objects that it borrows), and both agree again.
    fixture.session(&tree, &["merge", "-q", "-m", "merge", &moved]);
    assert_eq!(
        fixture.git.sync(&tree).await.unwrap().outcome,
        SyncOutcome::Moved
    );
    // The user removes the branch: what is committed is not lost.
    fixture.user(&["branch", "-qD", "berth/s"]);
    assert_eq!(
        fixture.git.sync(&tree).await.unwrap().outcome,
        SyncOutcome::Moved
    );
    fixture.user(&["rev-parse", "berth/s"]);
}

#[tokio::test]
async fn a_checkout_of_the_user_is_never_changed() {
    let fixture = Fixture::new();
    let tree = fixture.create("s").await;
    fixture.user(&["checkout", "-q", "berth/s"]);
    let before = fixture.untouchable();
    let own = fixture.commit(&tree, "c.txt", "three");
    let synced = fixture.git.sync(&tree).await.unwrap();
    let SyncOutcome::Kept { reference, reason } = synced.outcome else {
        panic!("{synced:?}");
    };
    assert_eq!(reason, KeptReason::CheckedOut);
    assert_eq!(fixture.user(&["rev-parse", &reference]), own);
    fixture.assert_untouched(&before);
    fixture.user(&["checkout", "-q", "main"]);
    assert_eq!(
        fixture.git.sync(&tree).await.unwrap().outcome,
        SyncOutcome::Moved
    );
}

#[tokio::test]
async fn uncommitted_work_is_listed() {
    let fixture = Fixture::new();
    fixture.write(".gitignore", "*.o\n");
    fixture.user(&["add", "."]);
    fixture.user(&["commit", "-qm", "ignore"]);
    let tree = fixture.create("s").await;
    write(&tree.work.join("a.txt"), "changed");
    std::fs::remove_file(tree.work.join("sub/b.txt")).unwrap();
    write(&tree.work.join("x.o"), "ignored");
    write(&tree.work.join("new/one"), "1");
    write(&tree.work.join("new/two"), "2");
    write(&tree.work.join("ä b"), "3");
    let list = ["a.txt", "new/", "sub/b.txt", "ä b"];
    assert_eq!(fixture.git.uncommitted(&tree).await.unwrap(), list);
    // Staged is not committed.
    fixture.session(&tree, &["add", "-A"]);
    assert_eq!(fixture.git.uncommitted(&tree).await.unwrap(), list);
    fixture.session(&tree, &["commit", "-qm", "all"]);
    assert_eq!(
        fixture.git.uncommitted(&tree).await.unwrap(),
        Vec::<String>::new()
    );
    // On another branch, it is compared with that branch's commit.
    fixture.session(&tree, &["checkout", "-q", "main"]);
    assert_eq!(
        fixture.git.uncommitted(&tree).await.unwrap(),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn a_diff_shows_commits_and_what_is_in_none() {
    let fixture = Fixture::new();
    let tree = fixture.create("s").await;
    let empty = fixture
        .git
        .diff(&tree, DiffLimits::default())
        .await
        .unwrap();
    assert_eq!((empty.files.len(), empty.diff.as_str()), (0, ""));
    fixture.commit(&tree, "c.txt", "three\n");
    write(&tree.work.join("a.txt"), "one\nmore\n");
    write(&tree.work.join("new.txt"), "new\n");
    write(&tree.work.join("bin"), b"\0\x01");
    std::fs::rename(tree.work.join("sub/b.txt"), tree.work.join("moved.txt")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", tree.work.join("link")).unwrap();
    let diff = fixture
        .git
        .diff(&tree, DiffLimits::default())
        .await
        .unwrap();
    let facts: Vec<_> = diff
        .files
        .iter()
        .map(|file| (&*file.path, file.status, file.additions, file.deletions))
        .collect();
    assert_eq!(
        facts,
        [
            ("a.txt", FileStatus::Modified, Some(1), Some(0)),
            ("bin", FileStatus::Added, None, None),
            ("c.txt", FileStatus::Added, Some(1), Some(0)),
            ("link", FileStatus::Added, Some(1), Some(0)),
            ("moved.txt", FileStatus::Renamed, Some(0), Some(0)),
            ("new.txt", FileStatus::Added, Some(1), Some(0)),
        ]
    );
    assert!(
        diff.diff.contains("+more\n") && diff.diff.contains("+new\n"),
        "{}",
        diff.diff
    );
    assert!(
        diff.diff.contains("+/etc/passwd"),
        "a link is its target's name"
    );
    assert!(!diff.diff.contains("root:"), "and never what is there");
    assert!(!diff.truncated);
    assert_eq!(diff.base_commit, tree.base_commit);
    let limits = DiffLimits {
        max_bytes: 100,
        max_files: 2,
    };
    let short = fixture.git.diff(&tree, limits).await.unwrap();
    assert!(short.truncated && short.diff.len() <= 100 && short.diff.ends_with('\n'));
    assert_eq!(short.files.len(), 2);
    // Looking changed nothing.
    assert_eq!(
        fixture.session(&tree, &["diff", "--cached", "--name-only"]),
        ""
    );
}
