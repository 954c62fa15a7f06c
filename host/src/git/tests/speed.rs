//! A repository of 5,000 files.

use super::*;
use std::time::{Duration, Instant};

#[tokio::test]
async fn five_thousand_files_are_made_as_fast_as_cloned() {
    let fixture = Fixture::empty();
    for number in 0..5_000 {
        let text = format!("file {number}\n").repeat(20);
        fixture.write(
            &format!("{}/{}/{number}.txt", number % 20, number % 7),
            &text,
        );
    }
    fixture.user(&["add", "."]);
    fixture.user(&["commit", "-qm", "many"]);
    fixture.user(&["gc", "-q"]);
    let home = fixture.path("home");
    let mut best_clone = Duration::MAX;
    let mut best_create = Duration::MAX;
    for number in 0..3 {
        let started = Instant::now();
        let name = format!("clone-{number}");
        fixture.git_in(&home, &["clone", "-q", "--shared", "../repo", &name]);
        best_clone = best_clone.min(started.elapsed());
        let started = Instant::now();
        let tree = fixture.create(&format!("s{number}")).await;
        best_create = best_create.min(started.elapsed());
        assert_eq!(fixture.session(&tree, &["status", "--porcelain"]), "");
    }
    println!("clone {best_clone:?}, create {best_create:?}");
    // The goal is 50 ms more, measured by the benchmark; here the machine is busy with other tests.
    assert!(
        best_create < best_clone * 2 + Duration::from_millis(250),
        "create {best_create:?}, clone {best_clone:?}"
    );
    let tree = fixture.create("s0").await;
    let started = Instant::now();
    write(&tree.work.join("3/3/3.txt"), "changed");
    assert_eq!(fixture.git.uncommitted(&tree).await.unwrap(), ["3/3/3.txt"]);
    println!("uncommitted {:?}", started.elapsed());
    let started = Instant::now();
    fixture.commit(&tree, "3/3/3.txt", "committed");
    fixture.git.sync(&tree).await.unwrap();
    println!("sync {:?}", started.elapsed());
}
