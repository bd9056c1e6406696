//! From what the user named to the files that are there.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use pipeline::source::SourceError;

use super::settings::{FileFormat, FileSettings};
use super::stamp::Stamp;

/// A file that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Its canonical path.
    pub(super) path: PathBuf,
    /// The canonical folder that it must not lead out of, unless it was named itself.
    pub(super) base: Option<PathBuf>,
    /// What it was when it was found, if it could be looked at.
    pub(super) stamp: Option<Stamp>,
}

/// All named files, each once, in the order in which they were named (sorted within a directory or glob); and what could
/// not be found.
pub(super) fn discover(settings: &FileSettings) -> (Vec<Found>, Vec<SourceError>) {
    let mut search = Search { settings, seen: HashSet::new(), found: Vec::new(), errors: Vec::new() };
    for named in &settings.files {
        if let Err(error) = search.expand(named) {
            search.errors.push(error);
        }
    }
    (search.found, search.errors)
}

/// The first named file that lies outside the bounds, by its number.
pub(super) fn outside(settings: &FileSettings) -> Option<(usize, SourceError)> {
    let search = Search { settings, seen: HashSet::new(), found: Vec::new(), errors: Vec::new() };
    let refused = |(number, named): (usize, &String)| {
        search.refuse_outside(Path::new(named), named).err().map(|error| (number, error))
    };
    settings.files.iter().enumerate().find_map(refused)
}

struct Search<'a> {
    settings: &'a FileSettings,
    seen: HashSet<PathBuf>,
    found: Vec<Found>,
    errors: Vec<SourceError>,
}

impl Search<'_> {
    fn expand(&mut self, named: &str) -> Result<(), SourceError> {
        let path = Path::new(named);
        self.refuse_outside(path, named)?;
        match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => self.in_directory(path),
            Ok(_) => {
                self.take(path, None);
                Ok(())
            }
            // A file whose name has a bracket is itself; only what is not there is a pattern.
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_pattern(path) => self.in_glob(named),
            Err(source) => Err(failed(path, source)),
        }
    }

    fn refuse_outside(&self, path: &Path, named: &str) -> Result<(), SourceError> {
        let Some(bounds) = &self.settings.bounds else {
            return Ok(());
        };
        let base = base_of(path);
        let rest = path.strip_prefix(&base).unwrap_or(Path::new(""));
        // Behind a wildcard it is not known yet what would be gone up from.
        let goes_up = is_pattern(path) && rest.components().any(|part| part == Component::ParentDir);
        let looked_at = if is_pattern(path) { base.as_path() } else { path };
        if goes_up || !bounds.admit_named(looked_at) {
            return Err(SourceError::Config(format!("{named} is not in a folder in which files may be read")));
        }
        Ok(())
    }

    fn in_directory(&mut self, folder: &Path) -> Result<(), SourceError> {
        let base = fs::canonicalize(folder).map_err(|source| failed(folder, source))?;
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).map_err(|source| failed(folder, source))? {
            match entry {
                Ok(entry) if is_wanted(&entry.path(), self.settings) => paths.push(entry.path()),
                Ok(_) => {}
                Err(source) => self.errors.push(failed(folder, source)),
            }
        }
        let nothing = || format!("the directory {} has no csv, ndjson, json, parquet or excel file", folder.display());
        self.take_members(paths, &base, nothing)
    }

    fn in_glob(&mut self, pattern: &str) -> Result<(), SourceError> {
        let entries = glob::glob(pattern)
            .map_err(|error| SourceError::Config(format!("{pattern:?} is no file and no glob: {error}")))?;
        let base = base_of(Path::new(pattern));
        let mut paths = Vec::new();
        for entry in entries {
            match entry {
                Ok(path) => paths.push(path),
                // One folder that cannot be read hides its own files and no others.
                Err(error) => {
                    let source = io::Error::new(error.error().kind(), error.error().to_string());
                    self.errors.push(failed(error.path(), source));
                }
            }
        }
        let base = fs::canonicalize(&base).map_err(|source| failed(&base, source))?;
        self.take_members(paths, &base, || format!("no file matches {pattern:?}"))
    }

    /// Takes the members of a directory or glob that are no directories.
    fn take_members(
        &mut self,
        mut paths: Vec<PathBuf>,
        base: &Path,
        nothing: impl Fn() -> String,
    ) -> Result<(), SourceError> {
        let errors_before = self.errors.len();
        let mut is_nothing = true;
        paths.sort();
        for path in paths {
            match fs::metadata(&path) {
                Ok(meta) if meta.is_dir() => {}
                Ok(_) => {
                    is_nothing = false;
                    self.take(&path, Some(base));
                }
                // Gone since, or a link to nothing.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => self.errors.push(failed(&path, source)),
            }
        }
        if is_nothing && self.errors.len() == errors_before && !self.settings.follow {
            return Err(SourceError::Config(nothing()));
        }
        Ok(())
    }

    fn take(&mut self, path: &Path, base: Option<&Path>) {
        let real = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(source) => return self.errors.push(failed(path, source)),
        };
        let bounds = self.settings.bounds.as_ref();
        if base.is_some_and(|base| !real.starts_with(base)) || bounds.is_some_and(|bounds| !bounds.admit(&real)) {
            let path = path.display();
            let refusal = format!("{path} is a link out of its folder, which is not followed; name the file itself");
            return self.errors.push(SourceError::Config(refusal));
        }
        if self.seen.insert(real.clone()) {
            let stamp = fs::metadata(&real).ok().map(|meta| Stamp::of(&meta));
            self.found.push(Found { path: real, base: base.map(Path::to_path_buf), stamp });
        }
    }
}

fn failed(path: &Path, source: io::Error) -> SourceError {
    SourceError::Io { what: path.display().to_string(), source }
}

fn is_wanted(path: &Path, settings: &FileSettings) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && FileFormat::of(path).is_some_and(|format| settings.format.is_none_or(|wanted| wanted == format))
}

fn has_wildcard(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}

fn is_pattern(path: &Path) -> bool {
    has_wildcard(path) && !path.exists()
}

/// The folder in which changes of what is named show: the directory itself, a file's parent, a glob's part before the
/// first wildcard.
pub(super) fn base_of(path: &Path) -> PathBuf {
    if path.is_dir() {
        return path.to_path_buf();
    }
    let is_plain = |part: &Path| part.exists() || !has_wildcard(part);
    let parent = path.ancestors().skip(1).find(|part| is_plain(part)).unwrap_or(Path::new(""));
    if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_path_buf() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::file::Bounds;

    fn settings(files: &[&Path]) -> FileSettings {
        FileSettings { files: files.iter().map(|p| p.to_str().unwrap().to_string()).collect(), ..Default::default() }
    }

    fn paths(settings: &FileSettings) -> (Vec<PathBuf>, Vec<String>) {
        let (found, errors) = discover(settings);
        (found.into_iter().map(|found| found.path).collect(), errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_directory_gives_its_supported_files_sorted_and_once() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.csv", "a.ndjson.gz", ".hidden.csv", "readme.txt"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        fs::create_dir(folder.path().join("sub.csv")).unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let (paths, errors) = paths(&settings(&[folder.path(), &folder.path().join("*.csv")]));
        assert_eq!(paths, [root.join("a.ndjson.gz"), root.join("b.csv"), root.join(".hidden.csv")]);
        assert!(errors.is_empty());
    }

    #[test]
    fn what_is_missing_is_told_and_the_rest_is_found() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a[1].csv"), "x").unwrap();
        let root = folder.path();
        let (paths, errors) = paths(&settings(&[&root.join("none.csv"), &root.join("n*.csv"), &root.join("a[1].csv")]));
        assert_eq!(paths.len(), 1);
        assert_eq!(errors.len(), 2);
        assert!(errors[0].contains("none.csv"));
        assert!(errors[1].contains("no file matches"));
    }

    #[test]
    fn links_out_of_a_directory_or_glob_are_refused_and_the_rest_is_found() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = fs::canonicalize(folder.path()).unwrap();
        fs::write(other.path().join("secret.csv"), "x").unwrap();
        fs::write(root.join("a.csv"), "x").unwrap();
        symlink(other.path().join("secret.csv"), root.join("b.csv")).unwrap();
        symlink(root.join("a.csv"), root.join("c.csv")).unwrap();
        symlink(other.path(), root.join("d")).unwrap();
        symlink(root.join("none"), root.join("e.csv")).unwrap();
        for named in [root.clone(), root.join("*.csv"), root.join("**/*.csv")] {
            let (paths, errors) = paths(&settings(&[&named]));
            assert_eq!(paths, [root.join("a.csv")], "{}", named.display());
            assert!(errors.iter().any(|error| error.contains("b.csv is a link out of its folder")), "{errors:?}");
        }
        // Who names the link itself means it.
        assert_eq!(paths(&settings(&[&root.join("b.csv")])).0.len(), 1);
    }

    #[test]
    fn within_bounds_nothing_outside_is_looked_at_by_any_name() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = fs::canonicalize(folder.path()).unwrap();
        fs::create_dir(root.join("data")).unwrap();
        for inside in ["a.csv", "data/b.csv"] {
            fs::write(root.join(inside), "x").unwrap();
        }
        fs::write(other.path().join("secret.csv"), "x").unwrap();
        symlink(other.path(), root.join("link")).unwrap();
        symlink(other.path().join("secret.csv"), root.join("c.csv")).unwrap();
        let bounds = Bounds { roots: vec![folder.path().into()], except: vec![root.join("data")] }.resolved();
        let bounded = |named: &Path| paths(&FileSettings { bounds: Some(bounds.clone()), ..settings(&[named]) });
        assert_eq!(bounded(&root.join("a.csv")).0, [root.join("a.csv")]);
        assert_eq!(bounded(&root).0, [root.join("a.csv")]);
        let name = other.path().file_name().unwrap();
        let outside = [
            other.path().join("secret.csv"),
            other.path().join("*.csv"),
            other.path().to_path_buf(),
            root.join("..").join(name).join("secret.csv"),
            root.join("link/secret.csv"),
            root.join("link/*.csv"),
            root.join("*/..").join("..").join(name).join("*.csv"),
            root.join("c.csv"),
            root.join("data"),
            root.join("data/*.csv"),
            root.join("*/b.csv"),
        ];
        for named in outside {
            let (paths, errors) = bounded(&named);
            assert!(paths.is_empty(), "{}", named.display());
            assert_eq!(errors.len(), 1, "{errors:?}");
        }
        // What is outside is refused in the same words whether it is there or not.
        let refusal = |name: &str| bounded(&other.path().join(name)).1[0].replace(name, "");
        assert_eq!(refusal("secret.csv"), refusal("none.csv"));
    }
}
