//! Writes the workload's files: `bench-data --out DIR` makes `DIR/tenant-0.ndjson` and so on, and says what they hold.

use std::fs::File;
use std::io::{BufWriter, Write};
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
    /// Records over all tenants.
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// Distinct keys over all tenants.
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// Tenants.
    #[arg(long, default_value_t = 4)]
    tenants: u32,
    /// Percentage of records that delete.
    #[arg(long, default_value_t = 2)]
    deletes: u32,
    /// Percentage of records that are older than what their key has.
    #[arg(long, default_value_t = 5)]
    late: u32,
    /// Percentage of lines that repeat an earlier one.
    #[arg(long, default_value_t = 5)]
    repeated: u32,
    /// Decides everything else.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.tenants > 0, "--tenants must be at least 1");
    ensure!(arguments.deletes + arguments.late + arguments.repeated < 100, "the percentages leave no room for updates");
    let workload = Workload {
        records: arguments.records,
        keys: arguments.keys,
        tenants: arguments.tenants,
        deletes_percent: arguments.deletes,
        late_percent: arguments.late,
        repeated_percent: arguments.repeated,
        seed: arguments.seed,
    };
    std::fs::create_dir_all(&arguments.out).with_context(|| format!("cannot make {}", arguments.out.display()))?;
    let mut files = Vec::new();
    for tenant in 0..workload.tenants {
        let path = arguments.out.join(format!("tenant-{tenant}.ndjson"));
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let counts = workload.write(tenant, &mut out)?;
        out.flush()?;
        files.push(json!({
            "path": path, "records": counts.records, "bytes": counts.bytes, "keys": counts.keys,
            "deletes": counts.deletes, "late": counts.late, "late_after_delete": counts.late_after_delete,
            "repeated": counts.repeated, "tied": counts.tied,
        }));
    }
    println!("{}", json!({"seed": workload.seed, "files": files}));
    Ok(())
}
