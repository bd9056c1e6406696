//! How fast are queries while records arrive? The same query is asked over and over, first of a line at rest, then of one
//! that takes records at a steady rate into the very view that is asked.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use benches::Workload;
use benches::command::{Product, Question};
use benches::feed::feed;
use benches::measure::{Running, percentile, print_row, rounded};
use clap::Parser;
use serde_json::json;

/// How often a line at rest is asked.
const RUNS_AT_REST: usize = 100;

#[derive(Parser)]
#[command(about = "One query over and over while records arrive in the view that it reads")]
struct Arguments {
    /// Which query.
    #[arg(value_enum)]
    question: Question,
    /// Rows of the view.
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// Records a second.
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    /// For so long.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Where the data folder is made; on the disk that you mean to measure.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { question, keys, rate, seconds, dir } = Arguments::parse();
    let folder = tempfile::tempdir_in(dir)?;
    let before = Workload { records: keys, keys, tenants: 1, ..Workload::default() };
    let written = before.write_files(folder.path())?;
    let (whole, _) = written.first().context("one tenant has one file")?;
    let product = Product::open(&folder.path().join("data")).await?;
    product.ingest("bench", &[], whole).await?;
    let tenant = product.tenant("bench").await?;
    let mut at_rest = Vec::new();
    while at_rest.len() < RUNS_AT_REST {
        at_rest.push(product.query_ms(tenant, question.sql()).await?);
    }
    let open = product.open_stream("bench", whole).await?;

    let running = Running::start()?;
    let is_fed = Arc::new(AtomicBool::new(false));
    let asking = tokio::spawn({
        let (product, is_fed) = (product.clone(), is_fed.clone());
        async move {
            let mut took = Vec::new();
            while !is_fed.load(Ordering::Relaxed) {
                took.push(product.query_ms(tenant, question.sql()).await?);
            }
            anyhow::Ok(took)
        }
    });
    let arriving = Workload { records: rate * seconds, keys, tenants: 1, seed: 2, ..Workload::default() };
    let fed = feed(&product, &open, arriving.lines(0), rate, |_| None, |_, _| ()).await;
    is_fed.store(true, Ordering::Relaxed);
    let mut took = asking.await??;
    let (fed, cost) = (fed?, running.stop()?);
    ensure!(!took.is_empty(), "no query was answered while records arrived");
    let (rest, under) = (percentile(&mut at_rest, 0.5), percentile(&mut took, 0.5));
    print_row(
        "query under ingest",
        question.name(),
        fed.records,
        &cost,
        json!({
            "wanted_rate": rate, "rate": fed.rate(), "late_batches": fed.late, "queries": took.len(),
            "p50_ms": under, "p99_ms": percentile(&mut took, 0.99), "at_rest_p50_ms": rest,
            "at_rest_p99_ms": percentile(&mut at_rest, 0.99),
            "ratio": under.zip(rest).map(|(under, rest)| rounded(under / rest)),
        }),
    );
    product.close().await
}
