//! What does the whole step cost, fingerprint, mapping and casts, without log, disk and views?

use std::path::PathBuf;

use anyhow::{Result, ensure};
use benches::Input;
use benches::input::lines;
use benches::measure::{Cost, Running, print_row};
use benches::stream;
use clap::Parser;
use schemas::TenantId;
use serde_json::json;

#[derive(Parser)]
#[command(about = "Records into rows, without log, disk and views")]
struct Arguments {
    /// Where files are made that are not given.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    #[command(flatten)]
    input: Input,
}

fn main() -> Result<()> {
    let Arguments { dir, input } = Arguments::parse();
    let scratch = tempfile::tempdir_in(dir)?;
    let (mut cost, mut records, mut row_bytes) = (Cost::default(), 0, 0);
    for text in input.texts(scratch.path())? {
        let text = text?;
        let lines = lines(&text);
        let batches = stream::batches(&lines, 0);
        let mut state = stream::opened(TenantId::generate())?;
        let running = Running::start()?;
        let rows = stream::fold(&mut state, &batches)?;
        cost += running.stop()?;
        ensure!(state.counters.quarantined == 0, "records were set aside: {:?}", state.counters);
        records += lines.len() as u64;
        row_bytes += rows.iter().map(|(_, _, body)| body.len()).sum::<usize>();
    }
    print_row("step", "autonomos", records, &cost, json!({ "row_bytes": row_bytes as u64 / records.max(1) }));
    Ok(())
}
