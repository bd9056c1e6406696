//! What does a view cost a query that plain files would not? One query over a view of which a tenth of the rows was
//! written again and lies in the tail, beside plain DataFusion on the very Parquet files of the table.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use benches::Workload;
use benches::command::{Product, Question};
use benches::measure::{percentile, rounded};
use benches::plain::Plain;
use clap::Parser;
use serde_json::json;

#[derive(Parser)]
#[command(about = "One query over a table with a tail, beside plain DataFusion on the table's files")]
struct Arguments {
    /// Which query.
    #[arg(value_enum)]
    question: Question,
    /// Rows of the table.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// How often it is asked.
    #[arg(long, default_value_t = 15)]
    runs: usize,
    /// Where the data folder is made; what was made stays there, so that other engines can be asked.
    #[arg(long)]
    folder: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { question, keys, runs, folder } = Arguments::parse();
    let scratch = tempfile::tempdir()?;
    let folder = folder.unwrap_or_else(|| scratch.path().to_owned());
    std::fs::create_dir_all(&folder)?;
    let workload = Workload { records: keys, keys, tenants: 1, ..Workload::default() };
    let written = workload.write_files(&folder)?;
    let (whole, _) = written.first().context("one tenant has one file")?;
    let product = Product::open(&folder.join("data")).await?;
    product.ingest("bench", &[], whole).await?;
    let tenant = product.tenant("bench").await?;
    let loaded = Plain::open(&product.view_folder(tenant)).await?;
    product.ingest("bench", &["--no-wait"], &newer_file(whole)?).await?;
    product.catch_up().await?;
    let tail_rows = product.tail_rows(tenant).await?;
    let (mut ours, mut plain, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..=runs {
        let our_ms = product.query_ms(tenant, question.sql()).await?;
        let plain_ms = loaded.query_ms(question.sql()).await?;
        if product.tail_rows(tenant).await? != tail_rows {
            // The background has flushed the tail: what follows would measure another question.
            break;
        }
        // The first run warms both up.
        if run > 0 {
            ours.push(our_ms);
            plain.push(plain_ms);
            ratios.push(our_ms / plain_ms);
        }
    }
    ensure!(!ours.is_empty(), "the tail was flushed before anything could be measured");
    println!(
        "{}",
        json!({
            "question": "query", "name": question.name(), "runs": ours.len(), "keys": keys, "tail_rows": tail_rows,
            "p50_ms": percentile(&mut ours, 0.5), "p99_ms": percentile(&mut ours, 0.99),
            "datafusion_p50_ms": percentile(&mut plain, 0.5), "ratio": percentile(&mut ratios, 0.5).map(rounded),
        })
    );
    product.close().await
}

/// A file with every tenth of the lines in a newer version.
fn newer_file(whole: &Path) -> Result<PathBuf> {
    let mut newer = String::new();
    for line in std::fs::read_to_string(whole)?.lines().step_by(10) {
        newer.push_str(&line.replace(r#""LastModifiedDate":"2025"#, r#""LastModifiedDate":"2031"#));
        newer.push('\n');
    }
    let path = whole.with_file_name("again.ndjson");
    std::fs::write(&path, newer)?;
    Ok(path)
}
