//! The folders that callers may name.

use std::path::{Path, PathBuf};

/// Why a path is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The path is outside the allowed roots.
    #[error("{path} is outside the folders that the setting `roots` allows: {roots}")]
    Forbidden { path: String, roots: String },
    /// There is no such folder, or the path is malformed.
    #[error("{path}: {reason}")]
    Invalid { path: String, reason: String },
}

/// The folders that repositories may stand in and that may be browsed.
#[derive(Debug, Clone)]
pub struct Roots {
    /// As they were set, and resolved; a root that is not there allows nothing.
    roots: Vec<(PathBuf, Option<PathBuf>)>,
}

impl Roots {
    /// Takes the folders of the setting `roots`, and resolves links in them once.
    pub fn new(roots: &[PathBuf]) -> Self {
        Self {
            roots: roots
                .iter()
                .map(|root| (root.clone(), root.canonicalize().ok()))
                .collect(),
        }
    }

    /// The folder or file at an absolute path, with links resolved. Whether a path outside the roots exists is not told.
    ///
    /// # Errors
    /// `Forbidden` outside the roots; `Invalid` for what is missing, or is no absolute path.
    pub fn resolve(&self, path: &str) -> Result<PathBuf, FilesError> {
        let invalid = |reason: String| FilesError::Invalid {
            path: path.to_owned(),
            reason,
        };
        if path.contains('\0') {
            return Err(invalid("a path holds no NUL".to_owned()));
        }
        let asked = Path::new(path);
        if !asked.is_absolute() {
            return Err(invalid("must be an absolute path".to_owned()));
        }
        match asked.canonicalize() {
            Ok(resolved) if self.contains(&resolved) => Ok(resolved),
            Ok(_) => Err(self.forbidden(asked)),
            // Outside the roots, an error must not tell what is there and what is not.
            Err(error) => {
                if self.contains(&nearest_existing(asked)) {
                    Err(invalid(reason(&error)))
                } else {
                    Err(self.forbidden(asked))
                }
            }
        }
    }

    /// Whether a resolved path is inside a root.
    ///
    /// # Errors
    /// `Forbidden` when it is not.
    pub fn check(&self, resolved: &Path) -> Result<(), FilesError> {
        if self.contains(resolved) {
            Ok(())
        } else {
            Err(self.forbidden(resolved))
        }
    }

    fn forbidden(&self, path: &Path) -> FilesError {
        let roots: Vec<String> = self
            .roots
            .iter()
            .map(|(root, _)| root.display().to_string())
            .collect();
        FilesError::Forbidden {
            path: path.display().to_string(),
            roots: roots.join(", "),
        }
    }

    /// Whether a resolved path is inside a root.
    pub fn contains(&self, resolved: &Path) -> bool {
        self.resolved().any(|root| resolved.starts_with(root))
    }

    /// Whether a resolved path is a root that lies in no other root: browsing goes no higher.
    pub(super) fn is_outermost(&self, resolved: &Path) -> bool {
        !resolved
            .parent()
            .is_some_and(|parent| self.contains(parent))
    }

    fn resolved(&self) -> impl Iterator<Item = &Path> {
        self.roots.iter().filter_map(|(_, root)| root.as_deref())
    }
}

/// What of a path is there, resolved; the path itself where nothing is.
fn nearest_existing(path: &Path) -> PathBuf {
    path.ancestors()
        .skip(1)
        .find_map(|ancestor| ancestor.canonicalize().ok())
        .unwrap_or_else(|| path.to_owned())
}

pub(super) fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        std::io::ErrorKind::NotADirectory => "is not a folder".to_owned(),
        std::io::ErrorKind::PermissionDenied => "the server's user may not read it".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_what_is_inside_is_resolved() {
        let outer = tempfile::tempdir().unwrap();
        let base = outer.path().canonicalize().unwrap();
        let root = base.join("root");
        std::fs::create_dir_all(root.join("a")).unwrap();
        std::fs::create_dir(base.join("root-2")).unwrap();
        symlink(base.join("root-2"), root.join("out")).unwrap();
        symlink(root.join("a"), root.join("in")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink(&root, base.join("alias")).unwrap();
        let roots = Roots::new(&[base.join("alias"), base.join("missing")]);
        let good = |path: &str, resolved: &str| {
            let path = base.join(path);
            assert_eq!(
                roots.resolve(path.to_str().unwrap()).unwrap(),
                base.join(resolved)
            );
        };
        good("root", "root");
        good("root/", "root");
        good("alias/in/", "root/a");
        good("root/a/../a/.", "root/a");
        let bad = |path: &str, forbidden: bool| {
            let error = roots.resolve(path).unwrap_err();
            assert_eq!(
                matches!(error, FilesError::Forbidden { .. }),
                forbidden,
                "{path}: {error}"
            );
            assert!(error.to_string().contains(path), "{error}");
            assert!(
                !forbidden || error.to_string().contains("`roots`"),
                "{error}"
            );
        };
        let base = base.to_str().unwrap();
        bad(base, true);
        bad(&format!("{base}/root-2"), true);
        bad(&format!("{base}/root/out"), true);
        bad(&format!("{base}/root/out/missing"), true);
        bad(&format!("{base}/root/../x"), true);
        bad(&format!("{base}/missing"), true);
        bad(&format!("{base}/root/missing"), false);
        bad(&format!("{base}/root/loop"), false);
        bad("", false);
        bad("root", false);
        bad("~", false);
        bad(&format!("{base}/root\0"), false);
    }
}
