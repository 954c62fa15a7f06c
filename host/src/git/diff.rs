//! The working tree against its base.

use super::command::Runner;
use super::index::{Index, Untracked};
use super::{Diff, DiffLimits, FileDiff, FileStatus, Result, WorkingTree};
use std::collections::BTreeMap;

/// Facts of more files than anybody reads.
const SUMMARY_LIMIT: usize = 64 << 20;

pub(super) async fn diff(runner: &Runner, tree: &WorkingTree, limits: DiffLimits) -> Result<Diff> {
    let index = Index::open(runner, tree).await?;
    let changes = index.changes(runner, tree, Untracked::Files).await?;
    // New files get an entry, so that they are compared; the name of their content stands for nothing and is not read.
    let mut entries = Vec::new();
    for path in changes
        .untracked
        .iter()
        .filter(|path| !path.ends_with(b"/"))
    {
        entries.extend_from_slice(format!("100644 {}\t", tree.base_commit).as_bytes());
        entries.extend_from_slice(path);
        entries.push(0);
    }
    if !entries.is_empty() {
        index
            .git(runner, tree, "compare the files of the session")
            .args(["update-index", "-z", "--add", "--replace", "--index-info"])
            .input(entries)
            .run()
            .await?;
    }
    let compare = |options: &[&str], limit| {
        index
            .git(runner, tree, "compare the files of the session")
            .args([
                "diff-index",
                "-M",
                "--no-ext-diff",
                "--no-textconv",
                "--no-color",
            ])
            .args(["--ignore-submodules=dirty"])
            .args(options)
            .args([&tree.base_commit])
            .output_limit(limit)
            .run()
    };
    let (summary, patch) = tokio::join!(
        compare(&["-z", "--raw", "--numstat"], SUMMARY_LIMIT),
        compare(&["--patch"], limits.max_bytes)
    );
    let (summary, patch) = (summary?, patch?);
    let mut files = parse(&summary.stdout);
    let truncated = summary.truncated || patch.truncated || files.len() > limits.max_files;
    files.truncate(limits.max_files);
    let mut text = patch.stdout;
    if patch.truncated {
        let end = text.iter().rposition(|byte| *byte == b'\n');
        text.truncate(end.map_or(0, |end| end + 1));
    }
    Ok(Diff {
        base_commit: tree.base_commit.clone(),
        files,
        diff: String::from_utf8_lossy(&text).into_owned(),
        truncated,
    })
}

/// Reads `--raw --numstat -z`: first a record of modes and status for each file, then a record of its lines.
fn parse(output: &[u8]) -> Vec<FileDiff> {
    let text = String::from_utf8_lossy(output);
    let mut fields = text.split('\0');
    let mut files: BTreeMap<String, FileDiff> = BTreeMap::new();
    while let Some(record) = fields.next() {
        if let Some(facts) = record.strip_prefix(':') {
            let letter = facts
                .rsplit(' ')
                .next()
                .and_then(|word| word.chars().next());
            let status = match letter {
                Some('A' | 'C') => FileStatus::Added,
                Some('D') => FileStatus::Deleted,
                Some('R') => FileStatus::Renamed,
                Some('T') => FileStatus::TypeChanged,
                _ => FileStatus::Modified,
            };
            let first = fields.next().unwrap_or_default().to_owned();
            let (path, old_path) = if matches!(letter, Some('R' | 'C')) {
                (fields.next().unwrap_or_default().to_owned(), Some(first))
            } else {
                (first, None)
            };
            let file = FileDiff {
                path: path.clone(),
                old_path,
                status,
                additions: None,
                deletions: None,
                binary: true,
            };
            files.insert(path, file);
        } else if let [added, deleted, path] = record.splitn(3, '\t').collect::<Vec<_>>()[..] {
            let path = if path.is_empty() {
                fields.next();
                fields.next().unwrap_or_default()
            } else {
                path
            };
            if let Some(file) = files.get_mut(path) {
                file.additions = added.parse().ok();
                file.deletions = deleted.parse().ok();
                file.binary = file.additions.is_none();
            }
        }
    }
    files.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_become_files() {
        let output = ":000000 100644 0 0 A\0new\0:100644 100644 1 2 R090\0a\0b\0:100644 100644 1 2 M\0bin\0\
            3\t0\tnew\x001\t2\t\0a\0b\0-\t-\tbin\0";
        let files = parse(output.as_bytes());
        let facts: Vec<_> = files
            .iter()
            .map(|file| {
                (
                    &*file.path,
                    file.old_path.as_deref(),
                    file.status,
                    file.additions,
                    file.deletions,
                )
            })
            .collect();
        assert_eq!(
            facts,
            [
                ("b", Some("a"), FileStatus::Renamed, Some(1), Some(2)),
                ("bin", None, FileStatus::Modified, None, None),
                ("new", None, FileStatus::Added, Some(3), Some(0)),
            ]
        );
        assert!(files[1].binary && !files[0].binary);
    }
}
