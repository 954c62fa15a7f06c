//! Absolute paths with `*` and `?` in any component.

use std::fs;
use std::path::{Path, PathBuf};

/// More files than any agent keeps; a glob that finds more is cut off there.
const FILE_LIMIT: usize = 10_000;

/// What a glob finds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Files, by name.
    pub(super) files: Vec<PathBuf>,
    /// Folders in which a change may make the answer another one.
    pub(super) folders: Vec<Folder>,
}

/// A folder on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    /// The names in it that matter.
    pub(super) pattern: String,
    /// These names are the files themselves.
    pub(super) last: bool,
}

/// Finds the files that match now. What cannot be read is not there.
pub(super) fn find(glob: &str) -> Found {
    let components: Vec<&str> = glob.split('/').filter(|part| !part.is_empty()).collect();
    let mut found = Found::default();
    descend(Path::new("/"), &components, &mut found);
    found
}

fn descend(folder: &Path, components: &[&str], found: &mut Found) {
    let Some((first, rest)) = components.split_first() else {
        return;
    };
    found.folders.push(Folder {
        path: folder.to_owned(),
        pattern: (*first).to_owned(),
        last: rest.is_empty(),
    });
    if !first.contains(['*', '?']) {
        visit(folder.join(first), rest, found);
        return;
    }
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| matches(first, name))
        .collect();
    names.sort_unstable();
    for name in names {
        visit(folder.join(name), rest, found);
    }
}

fn visit(path: PathBuf, rest: &[&str], found: &mut Found) {
    let Ok(metadata) = fs::metadata(&path) else {
        return;
    };
    if rest.is_empty() {
        if metadata.is_file() && found.files.len() < FILE_LIMIT {
            found.files.push(path);
        }
    } else if metadata.is_dir() {
        descend(&path, rest, found);
    }
}

/// A `*` is any run of characters, a `?` any one; neither is the dot of a hidden name.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut in_name) = (0, 0);
    // Where the last star stands, and from where in the name what follows it was tried.
    let mut star: Option<(usize, usize)> = None;
    while in_name < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, in_name));
                at += 1;
            }
            Some(&expected) if expected == '?' || expected == name[in_name] => {
                at += 1;
                in_name += 1;
            }
            _ => {
                let Some((star_at, tried)) = star else {
                    return false;
                };
                star = Some((star_at, tried + 1));
                at = star_at + 1;
                in_name = tried + 1;
            }
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*.jsonl", "a.jsonl", true),
            ("*.jsonl", ".jsonl", false),
            ("*.jsonl", "a.json", false),
            ("*", "anything", true),
            ("*", ".hidden", false),
            (".*", ".hidden", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("rollout-*-*.jsonl", "rollout-2026-x-y.jsonl", true),
            (
                "*a*a*a*a*b",
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                false,
            ),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn files_are_found_in_any_component() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in ["p/one/a.log", "p/two/b.log", "p/two/c.txt", "p/.h/d.log"] {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), "").unwrap();
        }
        let found = find(&format!("{}/p/*/*.log", root.display()));
        assert_eq!(
            found.files,
            [root.join("p/one/a.log"), root.join("p/two/b.log")]
        );
        let watched = |found: &Found, path: &str, pattern: &str, last| {
            let folder = Folder {
                path: root.join(path),
                pattern: pattern.to_owned(),
                last,
            };
            found.folders.contains(&folder)
        };
        assert!(watched(&found, "p", "*", false));
        assert!(watched(&found, "p/two", "*.log", true));
        // What is not there yet is awaited in the last folder that is.
        let missing = find(&format!("{}/p/later/*/x.log", root.display()));
        assert!(missing.files.is_empty());
        assert!(watched(&missing, "p", "later", false));
    }
}
