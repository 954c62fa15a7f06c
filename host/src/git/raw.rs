//! Files put into an index as they are: byte by byte, no attribute heeded, repositories within included.
//!
//! Git takes no path with a component `.git`, so that of a repository within becomes `rescued.git`.

use super::command::Runner;
use super::folder::Folder;
use super::index::{Index, in_work};
use super::{GitError, Result, WorkingTree};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const DEEPEST: usize = 200;
const MOST_NAMES: usize = 1_000_000;

/// A file to put into an index.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RawFile {
    /// Where it is in the working tree.
    source: Vec<u8>,
    /// Where it is put in the index.
    place: Vec<u8>,
}

impl RawFile {
    pub(super) fn at_its_place(path: Vec<u8>) -> Self {
        Self {
            place: path.clone(),
            source: path,
        }
    }
}

/// Collects all files of a folder of the working tree, the inside of `.git` folders included. Links are not followed.
pub(super) fn walk(
    work: &Folder,
    path: &[u8],
    files: &mut Vec<RawFile>,
    unreadable: &mut Vec<String>,
) {
    let found = RawFile::at_its_place(path.to_vec());
    match work.folder(Path::new(OsStr::from_bytes(path))) {
        Ok(folder) => walk_open(&folder, &found, DEEPEST, files, unreadable),
        Err(_) => unreadable.push(lossy(path)),
    }
}

fn walk_open(
    folder: &Folder,
    at: &RawFile,
    depth: usize,
    files: &mut Vec<RawFile>,
    unreadable: &mut Vec<String>,
) {
    let Ok(names) = folder.names(MOST_NAMES) else {
        unreadable.push(lossy(&at.source));
        return;
    };
    for name in names {
        let name = name.as_bytes();
        let found = RawFile {
            source: join(&at.source, name),
            place: join(&at.place, &acceptable(name)),
        };
        match folder.kind(OsStr::from_bytes(name)) {
            Some(kind) if kind.is_dir() => match folder.folder(OsStr::from_bytes(name)) {
                Ok(below) if depth > 0 => {
                    walk_open(&below, &found, depth - 1, files, unreadable);
                }
                _ => unreadable.push(lossy(&found.source)),
            },
            Some(kind) if kind.is_symlink() => files.push(found),
            Some(kind) if kind.is_file() => match folder.file(OsStr::from_bytes(name)) {
                Ok(_) => files.push(found),
                Err(_) => unreadable.push(lossy(&found.source)),
            },
            // Pipes and sockets hold nothing.
            _ => {}
        }
    }
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    [folder, b"/", name].concat()
}

/// The name, or one that git takes in its place.
fn acceptable(name: &[u8]) -> Vec<u8> {
    let lower = name.to_ascii_lowercase();
    let is_odd = lower.split(|byte| *byte == b'\\').any(|part| {
        let end = part
            .iter()
            .position(|byte| *byte == b':')
            .unwrap_or(part.len());
        let part = part[..end].trim_ascii_end();
        let trimmed = part
            .iter()
            .rposition(|byte| !matches!(byte, b'.' | b' '))
            .map_or(&part[..0], |last| &part[..=last]);
        trimmed == b".git" || trimmed.starts_with(b"git~") || trimmed.starts_with(b".gitmodules")
    });
    if is_odd {
        let plain: Vec<u8> = name
            .iter()
            .map(|byte| {
                if matches!(byte, b'\\' | b':') {
                    b'_'
                } else {
                    *byte
                }
            })
            .collect();
        [b"rescued".as_slice(), &plain].concat()
    } else {
        name.to_vec()
    }
}

/// Takes paths out of the index.
pub(super) async fn remove(
    runner: &Runner,
    tree: &WorkingTree,
    index: &Index,
    paths: &BTreeSet<Vec<u8>>,
) -> Result<()> {
    if paths.is_empty() {
        return Ok(());
    }
    let none = "0".repeat(tree.object_format.hex_len());
    let mut input = Vec::new();
    for path in paths {
        input.extend_from_slice(format!("0 {none}\t").as_bytes());
        input.extend_from_slice(path);
        input.push(0);
    }
    update(runner, tree, index, input).await
}

/// Puts files into the index.
pub(super) async fn add(
    runner: &Runner,
    tree: &WorkingTree,
    index: &Index,
    files: Vec<RawFile>,
) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let mut hashed = Vec::new();
    let mut modes = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let source = in_work(tree, &file.source);
        let metadata = source
            .symlink_metadata()
            .map_err(GitError::io("read", &source))?;
        if metadata.is_symlink() {
            let target = fs::read_link(&source).map_err(GitError::io("read", &source))?;
            let copy = index.folder().join(format!("link-{number}"));
            fs::write(&copy, target.as_os_str().as_bytes())
                .map_err(GitError::io("write", &copy))?;
            hashed.push(quoted(copy.as_os_str().as_bytes()));
            modes.push("120000");
        } else {
            hashed.push(quoted(source.as_os_str().as_bytes()));
            let is_program = metadata.permissions().mode() & 0o100 != 0;
            modes.push(if is_program { "100755" } else { "100644" });
        }
    }
    let names = runner
        .git("write down the files of the session", &tree.git)
        .args(["hash-object", "-w", "--no-filters", "--stdin-paths"])
        .input(hashed.concat())
        .run()
        .await?
        .text();
    let mut input = Vec::new();
    for ((name, mode), file) in names.lines().zip(modes).zip(&files) {
        input.extend_from_slice(format!("{mode} {name}\t").as_bytes());
        input.extend_from_slice(&file.place);
        input.push(0);
    }
    update(runner, tree, index, input).await
}

async fn update(runner: &Runner, tree: &WorkingTree, index: &Index, input: Vec<u8>) -> Result<()> {
    index
        .git(runner, tree, "write down the files of the session")
        .args(["update-index", "-z", "--add", "--replace", "--index-info"])
        .input(input)
        .run()
        .await?;
    Ok(())
}

/// A line with a path, as `--stdin-paths` takes it.
fn quoted(path: &[u8]) -> Vec<u8> {
    let mut line = vec![b'"'];
    for byte in path {
        match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', *byte]),
            b'\n' => line.extend_from_slice(b"\\n"),
            0..=0x1f => line.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
            _ => line.push(*byte),
        }
    }
    line.extend_from_slice(b"\"\n");
    line
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_git_refuses_are_changed() {
        let check = |name: &str, place: &str| {
            assert_eq!(lossy(&acceptable(name.as_bytes())), place);
        };
        check(".git", "rescued.git");
        check(".GIT. .", "rescued.GIT. .");
        check("git~1", "rescuedgit~1");
        check("a\\.git", "rescueda_.git");
        check(".git:x", "rescued.git_x");
        check(".gitmodules", "rescued.gitmodules");
        for same in [".gitignore", "git", "a.git", ".github", ".gitattributes"] {
            check(same, same);
        }
    }

    #[test]
    fn paths_are_quoted() {
        assert_eq!(
            quoted(b"/a b\"\\\n\x01\xff"),
            b"\"/a b\\\"\\\\\\n\\001\xff\"\n"
        );
    }
}
