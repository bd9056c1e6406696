//! What does it cost to make views again from the log? The workload's tenants are ingested, then each view is rebuilt.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use arrow::util::pretty::pretty_format_batches;
use benches::Input;
use benches::command::Product;
use benches::measure::{Cost, Running, print_row};
use clap::Parser;
use schemas::TenantId;
use serde_json::json;

/// Holds what a rebuild must not change; row for row is the campaign `exact`.
const SUMMARY: &str = "select count(*), sum(amount), max(updated_at), min(name) from opportunities";

#[derive(Parser)]
#[command(about = "Every view once more from the log")]
struct Arguments {
    /// Where the data folder is made; on the disk that you mean to measure.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    #[command(flatten)]
    input: Input,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { dir, input } = Arguments::parse();
    let scratch = tempfile::tempdir_in(dir)?;
    let product = Product::open(&scratch.path().join("data")).await?;
    let (mut cost, mut records, mut rows) = (Cost::default(), 0, 0);
    for (number, file) in input.files(scratch.path())?.iter().enumerate() {
        let name = format!("tenant{number}");
        records += product.ingest(&name, &[], file).await?;
        let tenant = product.tenant(&name).await?;
        let before = summary(&product, tenant).await?;
        let running = Running::start()?;
        product.rebuild(tenant).await.context("rebuilding")?;
        cost += running.stop()?;
        let after = summary(&product, tenant).await?;
        ensure!(before == after, "the rebuild changed the view of {name} from\n{before}\nto\n{after}");
        rows += product.query_number(tenant, "select count(*) from opportunities").await?;
    }
    print_row("rebuild", "autonomos", records, &cost, json!({ "rows": rows }));
    product.close().await
}

async fn summary(product: &Product, tenant: TenantId) -> Result<String> {
    Ok(pretty_format_batches(&product.query(tenant, SUMMARY).await?)?.to_string())
}
