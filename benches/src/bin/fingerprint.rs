//! What does one pass over a record for its shape cost, beside reading the same text with serde_json?

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use benches::Input;
use benches::input::lines;
use benches::measure::{Cost, Running, print_row};
use clap::{Parser, ValueEnum};
use schemas::shape::{ShapeTree, Walker};
use serde_json::json;

#[derive(Parser)]
#[command(about = "The shape of every record, without log, disk, step and views")]
struct Arguments {
    /// Who reads the records.
    #[arg(long, value_enum, default_value_t = By::Walker)]
    by: By,
    /// Where files are made that are not given.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    #[command(flatten)]
    input: Input,
}

#[derive(Clone, Copy, ValueEnum)]
enum By {
    /// Our one pass.
    Walker,
    /// serde_json, into a tree of values: what most programs would do first.
    SerdeJson,
}

fn main() -> Result<()> {
    let Arguments { by, dir, input } = Arguments::parse();
    let scratch = tempfile::tempdir_in(dir)?;
    let (mut cost, mut records, mut paths) = (Cost::default(), 0, 0);
    for text in input.texts(scratch.path())? {
        let text = text?;
        let lines = lines(&text);
        let running = Running::start()?;
        paths = match by {
            By::Walker => walk(&lines)?,
            By::SerdeJson => parse(&lines)?,
        };
        cost += running.stop()?;
        records += lines.len() as u64;
    }
    let name = match by {
        By::Walker => "autonomos",
        By::SerdeJson => "serde_json",
    };
    print_row("fingerprint", name, records, &cost, json!({ "paths": paths }));
    Ok(())
}

/// Answers how many paths the records have.
fn walk(lines: &[&[u8]]) -> Result<usize> {
    let (mut tree, mut walker) = (ShapeTree::default(), Walker::default());
    for line in lines {
        walker.walk(&mut tree, std::str::from_utf8(line)?).map_err(|error| anyhow!("{}", error.reason))?;
    }
    Ok(tree.paths())
}

/// Answers how many fields the last record has.
fn parse(lines: &[&[u8]]) -> Result<usize> {
    let mut fields = 0;
    for line in lines {
        let value: serde_json::Value = serde_json::from_slice(line)?;
        fields = value.as_object().map_or(0, serde_json::Map::len);
    }
    Ok(fields)
}
