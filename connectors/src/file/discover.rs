//! From what the user named to the files that are there.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pipeline::source::SourceError;

use super::settings::{FileFormat, FileSettings};

/// The canonical paths of all named files, each once, in the order in which they were named (sorted within a directory
/// or glob); and what could not be found.
pub(super) fn discover(settings: &FileSettings) -> (Vec<PathBuf>, Vec<SourceError>) {
    let mut paths = Vec::new();
    let mut errors = Vec::new();
    for named in &settings.files {
        match expand(named, settings) {
            Ok(found) => {
                for path in found {
                    match fs::canonicalize(&path) {
                        Ok(path) => paths.push(path),
                        Err(source) => errors.push(SourceError::Io { what: path.display().to_string(), source }),
                    }
                }
            }
            Err(error) => errors.push(error),
        }
    }
    let mut seen = HashSet::new();
    paths.retain(|path| seen.insert(path.clone()));
    (paths, errors)
}

fn expand(named: &str, settings: &FileSettings) -> Result<Vec<PathBuf>, SourceError> {
    let path = Path::new(named);
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => in_directory(path, settings),
        Ok(_) => Ok(vec![path.to_path_buf()]),
        // A file whose name has a bracket is itself; only what is not there is a pattern.
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.contains(['*', '?', '[']) => {
            in_glob(named, settings)
        }
        Err(source) => Err(SourceError::Io { what: named.to_string(), source }),
    }
}

fn in_directory(folder: &Path, settings: &FileSettings) -> Result<Vec<PathBuf>, SourceError> {
    let failed = |source| SourceError::Io { what: folder.display().to_string(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if is_wanted(&path, settings) && path.is_file() {
            paths.push(path);
        }
    }
    if paths.is_empty() && !settings.follow {
        return Err(SourceError::Config(format!(
            "the directory {} has no csv, ndjson, json, parquet or excel file",
            folder.display()
        )));
    }
    paths.sort();
    Ok(paths)
}

fn is_wanted(path: &Path, settings: &FileSettings) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && FileFormat::of(path).is_some_and(|format| settings.format.is_none_or(|wanted| wanted == format))
}

fn in_glob(pattern: &str, settings: &FileSettings) -> Result<Vec<PathBuf>, SourceError> {
    let entries = glob::glob(pattern)
        .map_err(|error| SourceError::Config(format!("{pattern:?} is no file and no glob: {error}")))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| SourceError::Io {
            what: error.path().display().to_string(),
            source: io::Error::new(error.error().kind(), error.error().to_string()),
        })?;
        if path.is_file() {
            paths.push(path);
        }
    }
    if paths.is_empty() && !settings.follow {
        return Err(SourceError::Config(format!("no file matches {pattern:?}")));
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(files: &[&Path]) -> FileSettings {
        FileSettings { files: files.iter().map(|p| p.to_str().unwrap().to_string()).collect(), ..Default::default() }
    }

    #[test]
    fn a_directory_gives_its_supported_files_sorted_and_once() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.csv", "a.ndjson.gz", ".hidden.csv", "readme.txt"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        fs::create_dir(folder.path().join("sub.csv")).unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let (paths, errors) = discover(&settings(&[folder.path(), &folder.path().join("*.csv")]));
        assert_eq!(paths, [root.join("a.ndjson.gz"), root.join("b.csv"), root.join(".hidden.csv")]);
        assert!(errors.is_empty());
    }

    #[test]
    fn what_is_missing_is_told_and_the_rest_is_found() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a[1].csv"), "x").unwrap();
        let root = folder.path();
        let (paths, errors) =
            discover(&settings(&[&root.join("none.csv"), &root.join("n*.csv"), &root.join("a[1].csv")]));
        assert_eq!(paths.len(), 1);
        assert_eq!(errors.len(), 2);
        assert!(errors[0].to_string().contains("none.csv"));
        assert!(errors[1].to_string().contains("no file matches"));
    }
}
