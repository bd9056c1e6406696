//! Where files may lie whose names come from somebody who is not the operator.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders in which files may be read. Links are followed before it is decided, and again on the opened file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Every file must lie under one of these; with none, nothing may be read.
    pub roots: Vec<PathBuf>,
    /// No file may lie under any of these, whatever the roots: the data folder.
    pub except: Vec<PathBuf>,
}

impl Bounds {
    /// With the true paths of its folders. A root that is not there allows nothing.
    pub(super) fn resolved(&self) -> Self {
        let roots = self.roots.iter().filter_map(|root| fs::canonicalize(root).ok()).collect();
        let except = self.except.iter().map(|folder| nearest(folder)).collect();
        Self { roots, except }
    }

    /// Whether a file with this true path may be read.
    pub(super) fn admit(&self, real: &Path) -> bool {
        self.roots.iter().any(|root| real.starts_with(root))
            && !self.except.iter().any(|folder| real.starts_with(folder))
    }

    /// Whether a path may be looked at at all, also one that is not there: what lies outside is refused in the same words
    /// whether it is there or not.
    pub(super) fn admit_named(&self, path: &Path) -> bool {
        self.admit(&nearest(path))
    }
}

/// The true path of what is there of `path`, and the rest as it is named.
fn nearest(path: &Path) -> PathBuf {
    let Ok(path) = std::path::absolute(path) else {
        return PathBuf::new();
    };
    for ancestor in path.ancestors() {
        if let Ok(real) = fs::canonicalize(ancestor) {
            let rest = path.strip_prefix(ancestor).unwrap_or(Path::new(""));
            // What is not there cannot be gone up from.
            let goes_up = rest.components().any(|part| !matches!(part, std::path::Component::Normal(_)));
            return if goes_up { PathBuf::new() } else { real.join(rest) };
        }
    }
    PathBuf::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_truly_lies_under_a_root_is_admitted() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        for name in ["root", "root/data", "other"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink(folder.path().join("other"), root.join("link")).unwrap();
        let bounds = Bounds { roots: vec![root.clone()], except: vec![root.join("data")] }.resolved();
        for inside in ["a.csv", "none/a.csv", "x/../a.csv"] {
            assert_eq!(bounds.admit_named(&root.join(inside)), !inside.contains(".."), "{inside}");
        }
        for outside in ["../other/a.csv", "link/a.csv", "data/a.csv", "none/../../other/a.csv"] {
            assert!(!bounds.admit_named(&root.join(outside)), "{outside}");
        }
        assert!(!bounds.admit_named(Path::new("/etc/passwd")) && !bounds.admit_named(Path::new("")));
        assert!(!Bounds::default().resolved().admit(&root));
    }
}
