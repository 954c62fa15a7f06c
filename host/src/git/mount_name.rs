//! What a repository's folder is called in a session.

use std::collections::BTreeSet;

const MAX_LEN: usize = 32;

/// A given name breaks the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct MountNameError {
    /// Which repository, from 0.
    pub index: usize,
    pub reason: String,
}

/// The names of a session's repositories, in their order: each is given as the name of its folder and the name that
/// the caller chose, if any. A chosen name is never changed; the others are the folder's name made to fit.
///
/// # Errors
/// A chosen name breaks the rule, or two are the same.
pub fn mount_names<'a>(
    repositories: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
) -> Result<Vec<String>, MountNameError> {
    let repositories: Vec<_> = repositories.into_iter().collect();
    let mut taken = BTreeSet::new();
    for (index, (_, chosen)) in repositories.iter().enumerate() {
        let Some(chosen) = *chosen else { continue };
        if !fits(chosen) {
            return Err(MountNameError {
                index,
                reason: format!(
                    "1 to {MAX_LEN} characters of A-Z, a-z, 0-9, '_' and '-', the first a letter; got {chosen:?}"
                ),
            });
        }
        if !taken.insert(chosen.to_owned()) {
            return Err(MountNameError {
                index,
                reason: format!("{chosen:?} is the name of another repository of this session"),
            });
        }
    }
    let name = |(folder, chosen): (&str, Option<&str>)| {
        if let Some(chosen) = chosen {
            return chosen.to_owned();
        }
        let fitting = fitting(folder);
        let mut name = cut(&fitting, MAX_LEN).to_owned();
        let mut number = 2;
        while !taken.insert(name.clone()) {
            let suffix = format!("-{number}");
            name = format!("{}{suffix}", cut(&fitting, MAX_LEN - suffix.len()));
            number += 1;
        }
        name
    };
    Ok(repositories.into_iter().map(name).collect())
}

fn allowed(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_' || character == '-'
}

fn fits(name: &str) -> bool {
    name.len() <= MAX_LEN
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(allowed)
}

/// The folder's name of allowed characters only, of any length.
fn fitting(folder: &str) -> String {
    let name: String = folder
        .chars()
        .map(|character| if allowed(character) { character } else { '-' })
        .collect();
    if name.starts_with(|first: char| first.is_ascii_alphabetic()) {
        name
    } else {
        format!("r-{name}")
    }
}

/// The first `len` characters of text that is ASCII.
fn cut(name: &str, len: usize) -> &str {
    name.get(..len).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_make_names() {
        let check = |repositories: &[(&str, Option<&str>)], names: &[&str]| {
            assert_eq!(
                mount_names(repositories.iter().copied()).unwrap(),
                names,
                "{repositories:?}"
            );
        };
        check(&[("project", None)], &["project"]);
        check(&[("My App_2", None)], &["My-App_2"]);
        check(&[("2048", None)], &["r-2048"]);
        check(&[(".dotfiles", None)], &["r--dotfiles"]);
        check(&[("_x", None)], &["r-_x"]);
        check(&[("für", None)], &["f-r"]);
        check(&[("日本", None)], &["r---"]);
        check(&[("", None)], &["r-"]);
        check(&[(&"a".repeat(40), None)], &[&"a".repeat(32)]);
        check(
            &[(&"1".repeat(40), None)],
            &[&format!("r-{}", "1".repeat(30))],
        );
        check(
            &[("lib", None), ("lib", None), ("lib", None)],
            &["lib", "lib-2", "lib-3"],
        );
        check(
            &[(&"a".repeat(32), None), (&"a".repeat(33), None)],
            &[&"a".repeat(32), &format!("{}-2", "a".repeat(30))],
        );
        check(&[("lib", None), ("x", Some("lib"))], &["lib-2", "lib"]);
        check(
            &[("lib", None), ("lib-2", None), ("lib", None)],
            &["lib", "lib-2", "lib-3"],
        );
        check(&[("a b", None), ("a-b", None)], &["a-b", "a-b-2"]);
        check(&[("x", Some("A1_-"))], &["A1_-"]);
    }

    #[test]
    fn chosen_names_keep_the_rule() {
        let check = |repositories: &[(&str, Option<&str>)], index| {
            let error = mount_names(repositories.iter().copied()).unwrap_err();
            assert_eq!(error.index, index, "{repositories:?}: {error}");
        };
        check(&[("x", Some(""))], 0);
        check(&[("x", Some("1a"))], 0);
        check(&[("x", None), ("x", Some("a b"))], 1);
        check(&[("x", Some("a.b"))], 0);
        check(&[("x", Some("ä"))], 0);
        check(&[("x", Some(&"a".repeat(33)))], 0);
        check(&[("x", Some("a")), ("y", Some("a"))], 1);
    }
}
