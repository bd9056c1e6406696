//! Writes the workload's files: `bench-data --out DIR` makes `DIR/tenant-0.ndjson` and so on, and says what they hold.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use benches::Workload;
use clap::Parser;
use serde_json::json;

#[derive(Parser)]
#[command(about = "Writes the shared workload as NDJSON, a file for each tenant")]
struct Arguments {
    /// The folder to write to.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    workload: Workload,
}

fn main() -> Result<()> {
    let Arguments { out, workload } = Arguments::parse();
    let percent = workload.deletes_percent + workload.late_percent + workload.repeated_percent;
    ensure!(percent < 100, "the percentages leave no room for updates");
    let files = workload.write_files(&out).with_context(|| format!("writing to {}", out.display()))?;
    let files: Vec<_> = files
        .into_iter()
        .map(|(path, counts)| {
            json!({
                "path": path, "records": counts.records, "bytes": counts.bytes, "keys": counts.keys,
                "deletes": counts.deletes, "late": counts.late, "late_after_delete": counts.late_after_delete,
                "repeated": counts.repeated, "tied": counts.tied,
            })
        })
        .collect();
    println!("{}", json!({"seed": workload.seed, "files": files}));
    Ok(())
}
