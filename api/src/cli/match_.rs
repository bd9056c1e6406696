//! `match`: gold sets and anybody's own cases, answered by the matcher. It needs no data folder.

use std::fs::File;
use std::io::{BufWriter, ErrorKind};
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use matcher::Matcher;
use matcher::cases::{self, CasesError, Kind};

/// Options of `match`.
#[derive(Debug, Clone, Args)]
pub struct MatchArgs {
    /// What the file holds and what is wanted of it.
    #[arg(value_enum)]
    pub kind: Wanted,
    /// The file of cases.
    pub cases: PathBuf,
}

/// What is wanted of a file of cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Wanted {
    /// For each source field the canonical fields that it may map to.
    Crm,
    /// For each removed field where it may have gone.
    Drift,
    /// For each change what happened.
    DriftOps,
}

/// Writes the answers to standard output, as JSON in the order of the file.
pub fn run(args: &MatchArgs) -> anyhow::Result<()> {
    let kind = match args.kind {
        Wanted::Crm => Kind::Crm,
        Wanted::Drift => Kind::Drift,
        Wanted::DriftOps => Kind::DriftOperations,
    };
    let input = File::open(&args.cases).with_context(|| format!("reading {}", args.cases.display()))?;
    let output = BufWriter::new(std::io::stdout().lock());
    match cases::answer(kind, &Matcher::default(), input, output) {
        // Who reads the answers has seen enough.
        Err(CasesError::Io(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        answered => answered.with_context(|| args.cases.display().to_string()),
    }
}
