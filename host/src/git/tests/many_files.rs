//! A repository of 5,000 files. How long it takes is the benchmark's matter.

use super::*;

#[tokio::test]
async fn five_thousand_files_are_made_changed_and_synchronised() {
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
    let tree = fixture.create("many").await;
    assert_eq!(fixture.session(&tree, &["status", "--porcelain"]), "");
    write(&tree.work.join("3/3/3.txt"), "changed");
    assert_eq!(fixture.git.uncommitted(&tree).await.unwrap(), ["3/3/3.txt"]);
    fixture.commit(&tree, "3/3/3.txt", "committed");
    let committed = fixture.session(&tree, &["rev-parse", "HEAD"]);
    fixture.git.sync(&tree).await.unwrap();
    assert_eq!(fixture.user(&["rev-parse", &tree.branch]), committed);
}
