//! Which records a program measures.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use crate::Workload;

/// Files of the workload, so that all programs and peers of a run read the same; else the same is made for this one.
#[derive(Debug, Clone, Args)]
pub struct Input {
    /// Files that `bench-data` wrote, a tenant each; the options make them when none is named.
    files: Vec<PathBuf>,
    #[command(flatten)]
    workload: Workload,
}

impl Input {
    /// The files, written to `scratch` if there are none yet.
    pub fn files(&self, scratch: &Path) -> Result<Vec<PathBuf>> {
        if !self.files.is_empty() {
            return Ok(self.files.clone());
        }
        Ok(self.workload.write_files(&scratch.join("workload"))?.into_iter().map(|(path, _)| path).collect())
    }

    /// The files' contents, one in memory at a time.
    pub fn texts(&self, scratch: &Path) -> Result<impl Iterator<Item = Result<Vec<u8>>>> {
        let read = |path: PathBuf| std::fs::read(&path).with_context(|| format!("reading {}", path.display()));
        Ok(self.files(scratch)?.into_iter().map(read))
    }
}

/// The lines of a text.
pub fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect()
}
