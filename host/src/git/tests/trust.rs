//! What the user has set up never runs, and neither does what a session plants.

use super::*;

/// A program that leaves a mark when anything runs it.
struct Trap {
    program: PathBuf,
    mark: PathBuf,
}

impl Trap {
    fn set(fixture: &Fixture) -> Self {
        let mark = fixture.path("home/mark");
        let program = fixture.path("home/trap");
        make_program(
            &program,
            &format!(
                "#!/bin/sh\necho \"$0 $*\" >> '{}'\ncat\nexit 0\n",
                mark.display()
            ),
        );
        Self { program, mark }
    }

    fn assert_unsprung(&self) {
        let ran = std::fs::read_to_string(&self.mark).unwrap_or_default();
        assert_eq!(ran, "", "something ran");
    }

    /// Hooks and a configuration that runs the trap wherever git can be made to.
    fn arm(&self, git: &Path) {
        let hooks = [
            "applypatch-msg",
            "commit-msg",
            "fsmonitor-watchman",
            "post-applypatch",
            "post-checkout",
            "post-commit",
            "post-index-change",
            "post-merge",
            "post-receive",
            "post-rewrite",
            "post-update",
            "pre-auto-gc",
            "pre-commit",
            "pre-merge-commit",
            "pre-push",
            "pre-rebase",
            "pre-receive",
            "prepare-commit-msg",
            "proc-receive",
            "push-to-checkout",
            "reference-transaction",
            "sendemail-validate",
            "update",
        ];
        for hook in hooks {
            let path = git.join("hooks").join(hook);
            make_program(
                &path,
                &format!("#!/bin/sh\nexec '{}' {hook}\n", self.program.display()),
            );
        }
        let trap = self.program.display();
        let config = format!(
            "[core]\n\tfsmonitor = {trap}\n\tsshCommand = {trap}\n\teditor = {trap}\n\tpager = {trap}\n\
             \taskPass = {trap}\n\talternateRefsCommand = {trap}\n\tgitProxy = {trap}\n\thooksPath = {hooks}\n\
             [filter \"x\"]\n\tclean = {trap}\n\tsmudge = {trap}\n\tprocess = {trap}\n\trequired = true\n\
             [diff]\n\texternal = {trap}\n[diff \"x\"]\n\tcommand = {trap}\n\ttextconv = {trap}\n\
             [merge \"x\"]\n\tdriver = {trap}\n[credential]\n\thelper = {trap}\n[gpg]\n\tprogram = {trap}\n\
             [commit]\n\tgpgSign = true\n[user]\n\tsigningKey = x\n[pager]\n\tlog = {trap}\n\
             [interactive]\n\tdiffFilter = {trap}\n[uploadpack]\n\tpackObjectsHook = {trap}\n\
             [alias]\n\tupdate-ref = !{trap}\n\tread-tree = !{trap}\n[sequence]\n\teditor = {trap}\n\
             [remote \"origin\"]\n\turl = ext::{trap}\n\tuploadpack = {trap}\n\
             [submodule \"m\"]\n\tupdate = !{trap}\n\tactive = true\n[submodule]\n\trecurse = true\n",
            hooks = git.join("hooks").display(),
        );
        let path = git.join("config");
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        std::fs::write(&path, format!("{kept}{config}")).unwrap();
    }
}

/// What is done to a session's `.git` folder to have it reach another folder of objects.
type Plant = fn(&Path, &Path);

const ATTRIBUTES: &str = "* filter=x diff=x merge=x ident\n";

/// All operations on a session; what each answers does not matter here.
async fn use_everything(fixture: &Fixture, tree: &WorkingTree) {
    let _ = fixture.git.uncommitted(tree).await;
    let _ = fixture.git.diff(tree, DiffLimits::default()).await;
    let _ = fixture.git.sync(tree).await;
    let _ = fixture.git.rescue(tree, "s").await;
    let _ = fixture.git.recheckout(tree).await;
    let _ = fixture.git.remove(tree).await;
}

#[tokio::test]
async fn nothing_of_the_users_runs() {
    let fixture = Fixture::new();
    fixture.write(".gitattributes", ATTRIBUTES);
    fixture.user(&["add", "."]);
    fixture.user(&["commit", "-qm", "attributes"]);
    let trap = Trap::set(&fixture);
    trap.arm(&fixture.path("repo/.git"));
    // The trap works: the user's own git does run it.
    let _ = fixture
        .git_command(&fixture.path("repo"))
        .args(["checkout", "-q", "-b", "proof"])
        .output()
        .unwrap();
    assert!(trap.mark.exists());
    std::fs::remove_file(&trap.mark).unwrap();

    let config = std::fs::read_to_string(fixture.path("repo/.git/config")).unwrap();
    std::fs::write(
        fixture.path("home/.gitconfig"),
        format!("{config}\n[user]\n\tname = A\n\temail = a@b\n"),
    )
    .unwrap();
    let tree = fixture.create("s").await;
    trap.assert_unsprung();
    let session_config = read(&tree.work.join(".git/config"));
    assert!(!session_config.contains("trap"), "{session_config}");
    // What the session's own git does is the session's affair: here it has no configuration to run anything.
    std::fs::write(fixture.path("home/.gitconfig"), "").unwrap();
    fixture.commit(&tree, "c.txt", "three");
    trap.assert_unsprung();
    write(&tree.work.join("new.txt"), "new");
    assert_eq!(fixture.git.uncommitted(&tree).await.unwrap(), ["new.txt"]);
    fixture
        .git
        .diff(&tree, DiffLimits::default())
        .await
        .unwrap();
    let synced = fixture.git.sync(&tree).await.unwrap();
    assert_eq!(synced.outcome, SyncOutcome::Moved);
    assert_eq!(
        fixture
            .git
            .rescue(&tree, "s")
            .await
            .unwrap()
            .references
            .len(),
        1
    );
    fixture.git.recheckout(&tree).await.unwrap();
    fixture.git.remove(&tree).await.unwrap();
    trap.assert_unsprung();
}

#[tokio::test]
async fn nothing_that_a_session_plants_runs() {
    let fixture = Fixture::new();
    let tree = fixture.create("s").await;
    let trap = Trap::set(&fixture);
    fixture.commit(&tree, "c.txt", "three");
    write(&tree.work.join(".gitattributes"), ATTRIBUTES);
    // A submodule with a trap of its own, and a repository within.
    for inner in ["module", "inner"] {
        fixture.session(&tree, &["init", "-q", inner]);
        write(&tree.work.join(inner).join("x"), "x");
        fixture.git_in(&tree.work.join(inner), &["add", "."]);
        fixture.git_in(&tree.work.join(inner), &["commit", "-qm", "inner"]);
    }
    write(
        &tree.work.join(".gitmodules"),
        "[submodule \"m\"]\n\tpath = module\n\turl = ./module\n\tignore = none\n",
    );
    fixture.session(&tree, &["add", "module", ".gitmodules", ".gitattributes"]);
    fixture.session(&tree, &["commit", "-qm", "module"]);
    write(&tree.work.join("module/x"), "changed");
    write(&tree.work.join("a.txt"), "changed");
    for git in [".git", "module/.git", "inner/.git"] {
        trap.arm(&tree.work.join(git));
        write(&tree.work.join(git).join("info/attributes"), ATTRIBUTES);
    }
    use_everything(&fixture, &tree).await;
    trap.assert_unsprung();
    fixture.assert_nothing_left();
    assert!(fixture.refs().contains("refs/berth/rescue/s/"));
}

#[tokio::test]
async fn objects_are_not_borrowed_from_elsewhere() {
    let fixture = Fixture::new();
    // Somebody's secret, in a repository that the session names as its own objects' place.
    let secret = fixture.path("home/secret");
    fixture.git_in(&fixture.path("home"), &["init", "-q", "secret"]);
    write(&secret.join("secret.txt"), "secret");
    fixture.git_in(&secret, &["add", "."]);
    fixture.git_in(&secret, &["commit", "-qm", "secret"]);
    let commit = fixture.git_in(&secret, &["rev-parse", "HEAD"]);
    let objects = secret.join(".git/objects");
    let plants: [(&str, Plant); 4] = [
        ("alternates", |git, objects| {
            let own = git.join("objects/info/alternates");
            let kept = std::fs::read_to_string(&own).unwrap();
            std::fs::write(own, format!("{kept}{}\n", objects.display())).unwrap();
        }),
        ("a linked folder", |git, objects| {
            std::fs::remove_dir_all(git.join("objects")).unwrap();
            std::os::unix::fs::symlink(objects, git.join("objects")).unwrap();
        }),
        ("linked folders below", |git, objects| {
            for entry in std::fs::read_dir(objects).unwrap() {
                let entry = entry.unwrap();
                let _ = std::os::unix::fs::symlink(
                    entry.path(),
                    git.join("objects").join(entry.file_name()),
                );
            }
        }),
        ("a linked .git", |git, objects| {
            std::fs::remove_dir_all(git).unwrap();
            std::os::unix::fs::symlink(objects.parent().unwrap(), git).unwrap();
        }),
    ];
    for (number, (what, plant)) in plants.into_iter().enumerate() {
        let tree = fixture.create(&format!("s{number}")).await;
        let git = tree.work.join(".git");
        std::fs::write(git.join("refs/heads").join(&tree.branch), &commit).unwrap();
        std::fs::write(git.join("refs/heads/stray"), &commit).unwrap();
        plant(&git, &objects);
        let error = fixture.git.sync(&tree).await.unwrap_err();
        assert!(matches!(error, GitError::Damaged { .. }), "{what}: {error}");
        use_everything(&fixture, &tree).await;
        let found = fixture
            .git_command(&fixture.path("repo"))
            .args(["cat-file", "-e", &commit])
            .output()
            .unwrap();
        assert!(!found.status.success(), "{what}: the secret came over");
    }
    fixture.assert_nothing_left();
}

#[tokio::test]
async fn links_lead_nowhere() {
    let fixture = Fixture::new();
    let outside = fixture.path("home/outside");
    write(&outside.join("deep/file"), "outside");
    let tree = fixture.create("s").await;
    let git = tree.work.join(".git");
    let link = |target: &Path, at: &str| {
        let at = tree.work.join(at);
        let _ = std::fs::remove_dir_all(&at).or_else(|_| std::fs::remove_file(&at));
        std::os::unix::fs::symlink(target, at).unwrap();
    };
    link(&outside.join("deep/file"), "a.txt");
    link(&outside.join("deep"), "sub");
    link(Path::new("/"), "root");
    link(&fixture.path("repo/.git/HEAD"), ".git/HEAD");
    link(Path::new("/etc/passwd"), ".git/packed-refs");
    link(Path::new("/dev/zero"), ".git/index");
    link(&outside, ".git/refs");
    nix::unistd::mkfifo(&git.join("logs-pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    nix::unistd::mkfifo(&tree.work.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let uncommitted = fixture.git.uncommitted(&tree).await.unwrap();
    assert_eq!(uncommitted, ["a.txt", "root", "sub", "sub/b.txt"]);
    let diff = fixture
        .git
        .diff(&tree, DiffLimits::default())
        .await
        .unwrap();
    assert!(!diff.diff.contains("+outside"), "{}", diff.diff);
    let saved = fixture.git.rescue(&tree, "s").await.unwrap();
    let listed = fixture.user(&["ls-tree", "-r", &saved.references[0]]);
    assert!(
        listed.lines().all(|line| line.starts_with("120000")),
        "{listed}"
    );
    use_everything(&fixture, &tree).await;
    assert_eq!(read(&outside.join("deep/file")), "outside");
    fixture.assert_nothing_left();
}

#[tokio::test]
async fn lies_about_objects_are_found_out() {
    let fixture = Fixture::new();
    let tree = fixture.create("s").await;
    fixture.commit(&tree, "c.txt", "the truth");
    // The content of one object under the name of another.
    let objects = tree.work.join(".git/objects");
    let place = |name: &str| objects.join(&name[..2]).join(&name[2..]);
    let truth = fixture.session(&tree, &["rev-parse", "HEAD:c.txt"]);
    write(&fixture.path("home/lie"), "a lie");
    let lie_path = fixture.path("home/lie");
    let lie = fixture.session(&tree, &["hash-object", "-w", lie_path.to_str().unwrap()]);
    std::fs::remove_file(place(&truth)).unwrap();
    std::fs::copy(place(&lie), place(&truth)).unwrap();
    let error = fixture.git.sync(&tree).await.unwrap_err();
    assert!(matches!(error, GitError::Damaged { .. }), "{error}");
    fixture.user(&["fsck", "--no-dangling"]);
    assert_eq!(fixture.user(&["rev-parse", &tree.branch]), tree.base_commit);
    // The files themselves are still saved.
    let saved = fixture.git.rescue(&tree, "s").await.unwrap();
    let text = fixture.user(&["show", &format!("{}:c.txt", saved.references[0])]);
    assert_eq!(text, "the truth");
    // And with the file's content, the commit is whole again.
    assert_eq!((saved.references.len(), saved.incomplete), (2, None));
}

#[tokio::test]
async fn a_commit_that_would_write_into_a_git_folder_stays_out() {
    let fixture = Fixture::new();
    let tree = fixture.create("s").await;
    let blob = fixture.session(&tree, &["rev-parse", "HEAD:a.txt"]);
    let mut mktree = fixture.git_command(&tree.work);
    let listing = fixture.path("home/listing");
    write(&listing, format!("100644 blob {blob}\tconfig\n"));
    mktree
        .arg("mktree")
        .stdin(std::fs::File::open(&listing).unwrap());
    let inner = String::from_utf8(mktree.output().unwrap().stdout).unwrap();
    write(&listing, format!("040000 tree {}\t.git\n", inner.trim()));
    let mut mktree = fixture.git_command(&tree.work);
    mktree
        .arg("mktree")
        .stdin(std::fs::File::open(&listing).unwrap());
    let outer = String::from_utf8(mktree.output().unwrap().stdout).unwrap();
    let commit = fixture.session(
        &tree,
        &["commit-tree", "-p", "HEAD", "-m", "bad", outer.trim()],
    );
    fixture.session(&tree, &["update-ref", "refs/heads/berth/s", &commit]);
    let error = fixture.git.sync(&tree).await.unwrap_err();
    assert!(error.to_string().contains("take the commits"), "{error}");
    assert_eq!(fixture.user(&["rev-parse", "berth/s"]), tree.base_commit);
    use_everything(&fixture, &tree).await;
    fixture.assert_nothing_left();
}
