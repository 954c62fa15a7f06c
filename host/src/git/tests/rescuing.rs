//! Nothing is lost.

use super::*;
use std::os::unix::fs::PermissionsExt;

/// What is done to a session's `.git` folder.
type Damage = fn(&Path);

async fn rescue(fixture: &Fixture, tree: &WorkingTree) -> Rescue {
    let rescue = fixture.git.rescue(tree, "s").await.unwrap();
    for reference in &rescue.references {
        assert!(reference.starts_with("refs/berth/rescue/s/"), "{reference}");
        assert!(fixture.refs().contains(reference.as_str()));
    }
    fixture.user(&["fsck", "--no-dangling"]);
    rescue
}

fn files(fixture: &Fixture, reference: &str) -> String {
    fixture.user(&["ls-tree", "-r", "--name-only", reference])
}

#[tokio::test]
async fn uncommitted_work_becomes_a_commit() {
    let fixture = Fixture::new();
    let before = fixture.untouchable();
    let tree = fixture.create("s").await;
    assert_eq!(
        rescue(&fixture, &tree).await,
        Rescue::default(),
        "there is nothing yet"
    );
    write(&tree.work.join("a.txt"), "changed\n");
    write(&tree.work.join("new\n\"file\"/ä"), "new\n");
    write(&tree.work.join(".gitignore"), "*.o\n");
    write(&tree.work.join("x.o"), "ignored");
    make_program(&tree.work.join("run"), "#!/bin/sh\n");
    std::os::unix::fs::symlink("a.txt", tree.work.join("link")).unwrap();
    std::fs::remove_file(tree.work.join("sub/b.txt")).unwrap();
    let saved = rescue(&fixture, &tree).await;
    assert_eq!((saved.references.len(), &saved.incomplete), (1, &None));
    let reference = &saved.references[0];
    assert_eq!(
        files(&fixture, reference),
        ".gitignore\na.txt\nlink\n\"new\\n\\\"file\\\"/\\303\\244\"\nrun"
    );
    assert_eq!(
        fixture.user(&["show", &format!("{reference}:a.txt")]),
        "changed"
    );
    let modes = fixture.user(&["ls-tree", reference, "run", "link"]);
    assert!(
        modes.contains("120000") && modes.contains("100755"),
        "{modes}"
    );
    let parent = fixture.user(&["rev-parse", &format!("{reference}^")]);
    assert_eq!(parent, tree.base_commit);
    let author = fixture.user(&["log", "-1", "--format=%an", reference]);
    assert_eq!(author, "Ann \"A\" B");
    // The same work is saved once.
    assert_eq!(rescue(&fixture, &tree).await, saved);
    fixture.assert_untouched(&before);
}

#[tokio::test]
async fn stashes_and_other_branches_are_kept() {
    let fixture = Fixture::new();
    let tree = fixture.create("s").await;
    for text in ["older", "newer"] {
        write(&tree.work.join("a.txt"), text);
        fixture.session(&tree, &["stash", "-q"]);
    }
    let stashes = fixture.session(&tree, &["stash", "list", "--format=%H"]);
    fixture.session(&tree, &["checkout", "-q", "-b", "side"]);
    let side = fixture.commit(&tree, "side.txt", "side");
    fixture.session(&tree, &["checkout", "-q", "--detach", "main"]);
    let alone = fixture.commit(&tree, "alone.txt", "alone");
    let saved = rescue(&fixture, &tree).await;
    let mut expected: Vec<&str> = stashes
        .lines()
        .chain([side.as_str(), alone.as_str()])
        .collect();
    expected.sort_unstable();
    let mut kept: Vec<String> = saved
        .references
        .iter()
        .map(|reference| fixture.user(&["rev-parse", reference]))
        .collect();
    kept.sort();
    assert_eq!(kept, expected);
    assert_eq!(saved.incomplete, None);
    assert_eq!(rescue(&fixture, &tree).await, saved);
    // A detached head with uncommitted work on top.
    write(&tree.work.join("loose.txt"), "loose");
    let more = rescue(&fixture, &tree).await;
    assert_eq!(more.references.len(), saved.references.len() + 1);
    let parent = fixture.user(&["rev-parse", &format!("{}^", more.references[0])]);
    assert_eq!(parent, alone);
}

#[tokio::test]
async fn work_is_saved_from_a_damaged_repository() {
    let damages: [(&str, Damage); 7] = [
        ("no folder", |git| std::fs::remove_dir_all(git).unwrap()),
        ("a file", |git| {
            std::fs::remove_dir_all(git).unwrap();
            std::fs::write(git, "gitdir: /nowhere\n").unwrap();
        }),
        ("no HEAD", |git| {
            std::fs::remove_file(git.join("HEAD")).unwrap();
        }),
        ("an unborn branch", |git| {
            std::fs::write(git.join("HEAD"), "ref: refs/heads/unborn\n").unwrap();
        }),
        ("a HEAD that is no object", |git| {
            std::fs::write(git.join("HEAD"), "1".repeat(40)).unwrap();
        }),
        ("no objects", |git| {
            std::fs::remove_dir_all(git.join("objects")).unwrap();
        }),
        ("garbage", |git| {
            std::fs::write(git.join("packed-refs"), b"\xff\0garbage\n^\n  \n").unwrap();
            std::fs::write(git.join("config"), "[[[").unwrap();
            std::fs::write(git.join("index"), "garbage").unwrap();
        }),
    ];
    for (what, damage) in damages {
        let fixture = Fixture::new();
        let tree = fixture.create("s").await;
        fixture.commit(&tree, "c.txt", "three");
        fixture.git.sync(&tree).await.unwrap();
        fixture.commit(&tree, "d.txt", "four");
        write(&tree.work.join("new.txt"), "new");
        damage(&tree.work.join(".git"));
        let saved = rescue(&fixture, &tree).await;
        let reference = &saved.references[0];
        assert_eq!(
            files(&fixture, reference),
            "a.txt\nc.txt\nd.txt\nnew.txt\nsub/b.txt",
            "{what}"
        );
        let uncommitted = fixture.git.uncommitted(&tree).await.unwrap();
        assert!(uncommitted.contains(&"new.txt".to_owned()), "{what}");
        fixture
            .git
            .diff(&tree, DiffLimits::default())
            .await
            .unwrap();
        fixture.git.recheckout(&tree).await.unwrap();
        assert_eq!(
            fixture.session(&tree, &["status", "--porcelain"]),
            "",
            "{what}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_said() {
    if nix::unistd::Uid::effective().is_root() {
        return; // Root reads everything.
    }
    let fixture = Fixture::new();
    let tree = fixture.create("s").await;
    write(&tree.work.join("secret"), "secret");
    write(&tree.work.join("open"), "open");
    let none = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(tree.work.join("secret"), none).unwrap();
    let saved = rescue(&fixture, &tree).await;
    assert_eq!(
        saved.incomplete.as_deref(),
        Some("could not be read: secret")
    );
    assert_eq!(saved.references.len(), 1);
}

#[tokio::test]
async fn repositories_within_are_saved_whole() {
    let fixture = Fixture::new();
    let tree = fixture.create("s").await;
    let inner = tree.work.join("inner");
    fixture.session(&tree, &["init", "-q", "inner"]);
    write(&inner.join("x.txt"), "x");
    write(&inner.join("git~1"), "y");
    fixture.session(&tree, &["init", "-q", "committed"]);
    write(&tree.work.join("committed/z.txt"), "z");
    fixture.git_in(&tree.work.join("committed"), &["add", "."]);
    fixture.git_in(&tree.work.join("committed"), &["commit", "-qm", "inner"]);
    assert_eq!(
        fixture.git.uncommitted(&tree).await.unwrap(),
        ["committed/", "inner/"]
    );
    let saved = rescue(&fixture, &tree).await;
    assert_eq!(saved.incomplete, None);
    let files = files(&fixture, &saved.references[0]);
    for file in [
        "inner/x.txt",
        "inner/rescuedgit~1",
        "inner/rescued.git/HEAD",
        "committed/z.txt",
        "committed/rescued.git/refs/heads/",
    ] {
        assert!(files.contains(file), "{file} in {files}");
    }
}

#[tokio::test]
async fn attributes_cannot_stand_in_the_way() {
    let fixture = Fixture::new();
    let tree = fixture.create("s").await;
    write(
        &tree.work.join(".gitattributes"),
        "* working-tree-encoding=UTF-16 filter=x diff=x merge=x\n",
    );
    write(&tree.work.join("odd.txt"), b"\xffodd");
    std::fs::remove_dir_all(tree.work.join("sub")).unwrap();
    std::os::unix::fs::symlink("/etc", tree.work.join("sub")).unwrap();
    let saved = rescue(&fixture, &tree).await;
    assert_eq!(saved.incomplete, None);
    let reference = &saved.references[0];
    assert_eq!(
        files(&fixture, reference),
        ".gitattributes\na.txt\nodd.txt\nsub"
    );
    let output = fixture
        .git_command(&fixture.path("repo"))
        .args(["cat-file", "blob", &format!("{reference}:odd.txt")])
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"\xffodd");
}

#[tokio::test]
async fn a_session_that_cannot_be_synchronised_is_saved_all_the_same() {
    let fixture = Fixture::new();
    let tree = fixture.create("s").await;
    fixture.commit(&tree, "c.txt", "three");
    std::fs::remove_file(tree.work.join(".git/HEAD")).unwrap();
    std::fs::remove_dir_all(tree.work.join(".git/objects")).unwrap();
    fixture.git.sync(&tree).await.unwrap_err();
    let saved = fixture.git.save(&tree, "s").await.unwrap();
    assert_eq!(
        files(&fixture, &saved.references[0]),
        "a.txt\nc.txt\nsub/b.txt"
    );
    assert!(saved.incomplete.is_some(), "the commit itself is lost");
    fixture.git.remove(&tree).await.unwrap();

    let tree = fixture.create("gone").await;
    std::fs::remove_dir_all(fixture.path("repo")).unwrap();
    let saved = fixture.git.save(&tree, "gone").await.unwrap();
    assert!(saved.references.is_empty());
    assert!(saved.incomplete.unwrap().contains("is gone"));
    fixture.git.remove(&tree).await.unwrap();
    fixture.assert_nothing_left();
}
