//! What may be taken for a data folder. Nothing is made here.

use std::path::Path;

use anyhow::{Context, bail};
use pipeline::engine::format_version;

/// What may lie in a folder that becomes a data folder: what operators put there, be it the key of another process, what a
/// creation that was cut off left, and what file systems have at their root.
const EXPECTED: [&str; 9] =
    ["autonomos.yaml", "master.key", "mappings", "ontology", "lock", "format.new", "engine.new", "views", "lost+found"];

/// Fails unless `folder` is a data folder, or may become one for a command that `creates` it.
pub fn check(folder: &Path, creates: bool) -> anyhow::Result<()> {
    // A database without its format file is told by who opens it.
    if format_version(folder)?.is_some() || folder.join("engine").exists() {
        return Ok(());
    }
    let shown = folder.display();
    if !creates {
        bail!("{shown} is no data folder: ingest something first, or name another with --data-dir");
    }
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("looking into {shown}")),
    };
    for entry in entries {
        let name = entry.with_context(|| format!("looking into {shown}"))?.file_name();
        if !EXPECTED.iter().any(|expected| name == *expected) {
            bail!("{shown} is no data folder and holds {}: name an empty one with --data-dir", name.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_folder_or_one_with_definitions_becomes_a_data_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert!(check(&path.join("new"), true).is_ok());
        assert!(check(&path.join("new"), false).unwrap_err().to_string().contains("no data folder"));
        assert!(check(path, true).is_ok());
        assert!(check(path, false).is_err());
        std::fs::create_dir(path.join("mappings")).unwrap();
        std::fs::write(path.join("autonomos.yaml"), "").unwrap();
        assert!(check(path, true).is_ok());
        std::fs::write(path.join(".bashrc"), "").unwrap();
        assert!(check(path, true).unwrap_err().to_string().contains(".bashrc"));
        assert!(check(&path.join(".bashrc"), true).is_err(), "a file is no folder");
    }
}
