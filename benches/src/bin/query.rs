//! What does a query pay for rows that are still in memory? A filtered and a grouped query over 1M keys of which a
//! tenth was written again and lies in the tail, beside plain DataFusion on the very Parquet files of the table.
//!
//! `cargo run -p benches --bin query -- [KEYS] [RUNS] [FOLDER]`; with a folder, what was made stays there for other engines

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use api::cli::ingest;
use api::line::Line;
use api::output::Silent;
use benches::Workload;
use benches::command::{ingest_arguments, query};
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use schemas::TenantId;
use serde_json::json;

const QUERIES: [(&str, &str); 2] = [
    ("filtered", "select count(*), sum(amount) from opportunities where stage = 'Closed Won' and amount > 1000000"),
    ("grouped", "select stage, count(*), sum(amount) from opportunities group by stage order by stage"),
];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let keys: u64 = arguments.next().map_or(Ok(1_000_000), |n| n.parse())?;
    let runs: usize = arguments.next().map_or(Ok(15), |n| n.parse())?;
    let scratch = tempfile::tempdir()?;
    let folder = arguments.next().map_or_else(|| scratch.path().to_owned(), PathBuf::from);
    std::fs::create_dir_all(&folder)?;
    let line = Line::open(&folder.join("data")).await?;

    let whole = whole_file(&folder, keys)?;
    ingest::run(&ingest_arguments("bench", &[], &whole)?, &line, &mut Silent).await?;
    let tenant = line.tenant(&"bench".parse()?).await?;
    let loaded = plain(&line.view_folder(tenant, "opportunities")).await?;
    for (round, (name, sql)) in QUERIES.into_iter().enumerate() {
        let again = newer_file(&whole, 2031 + round)?;
        ingest::run(&ingest_arguments("bench", &["--no-wait"], &again)?, &line, &mut Silent).await?;
        line.catch_up().await?;
        let tail_rows = tail(&line, tenant).await?;
        let (mut ours, mut plain, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for run in 0..=runs {
            let started = Instant::now();
            query(&line, tenant, sql).await?;
            let our_ms = started.elapsed().as_secs_f64() * 1000.0;
            let started = Instant::now();
            loaded.sql(sql).await?.collect().await?;
            let plain_ms = started.elapsed().as_secs_f64() * 1000.0;
            if tail(&line, tenant).await? != tail_rows {
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
        println!(
            "{}",
            json!({
                "query": name, "runs": ours.len(), "tail_rows": tail_rows, "ours_ms": median(&mut ours),
                "datafusion_ms": median(&mut plain), "ratio": median(&mut ratios),
            })
        );
        anyhow::ensure!(!ours.is_empty(), "the tail was flushed before {name} could be measured");
    }
    line.close().await
}

async fn tail(line: &Line, tenant: TenantId) -> anyhow::Result<usize> {
    Ok(line.views(tenant).await?.first().and_then(|view| view.info.as_ref().ok()).map_or(0, |info| info.tail_rows))
}

/// A file with every key once.
fn whole_file(folder: &Path, keys: u64) -> anyhow::Result<PathBuf> {
    let path = folder.join("whole.ndjson");
    let mut out = std::io::BufWriter::new(std::fs::File::create(&path)?);
    Workload { records: keys, keys, tenants: 1, ..Workload::default() }.write(0, &mut out)?;
    out.into_inner()?;
    Ok(path)
}

/// A file with every tenth of the lines in a version of that year.
fn newer_file(whole: &Path, year: usize) -> anyhow::Result<PathBuf> {
    let version = format!(r#""LastModifiedDate":"{year}"#);
    let mut newer = String::new();
    for line in std::fs::read_to_string(whole)?.lines().step_by(10) {
        newer.push_str(&line.replace(r#""LastModifiedDate":"2025"#, &version));
        newer.push('\n');
    }
    let path = whole.with_file_name(format!("again-{year}.ndjson"));
    std::fs::write(&path, newer)?;
    Ok(path)
}

/// Plain DataFusion over the files that a Delta table consists of now.
async fn plain(table: &Path) -> anyhow::Result<SessionContext> {
    let mut commits: Vec<PathBuf> =
        std::fs::read_dir(table.join("_delta_log"))?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    commits.retain(|path| path.extension().is_some_and(|e| e == "json"));
    commits.sort();
    let mut active = BTreeSet::new();
    for commit in commits {
        for action in std::fs::read_to_string(commit)?.lines() {
            let action: serde_json::Value = serde_json::from_str(action)?;
            let path = |kind: &str| action[kind]["path"].as_str().map(|p| table.join(p).display().to_string());
            active.extend(path("add"));
            if let Some(gone) = path("remove") {
                active.remove(&gone);
            }
        }
    }
    let context = SessionContext::new();
    let files = context.read_parquet(active.into_iter().collect::<Vec<_>>(), ParquetReadOptions::default()).await?;
    context.register_table("opportunities", files.into_view())?;
    Ok(context)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).map_or(0.0, |v| (v * 100.0).round() / 100.0)
}
