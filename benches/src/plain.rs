//! Plain DataFusion on the Parquet files of a view's table: what a query costs without us.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use futures::future::BoxFuture;

/// A session that knows the files as the table `opportunities`. Its calls are boxed for the reason that
/// [`Product`](crate::command::Product) gives.
pub struct Plain(SessionContext);

impl Plain {
    /// Takes the files that a Delta table consists of now.
    pub fn open(table: &Path) -> BoxFuture<'_, Result<Self>> {
        Box::pin(async move {
            let context = SessionContext::new();
            let files = context.read_parquet(active_files(table)?, ParquetReadOptions::default()).await?;
            context.register_table("opportunities", files.into_view())?;
            Ok(Self(context))
        })
    }

    /// How many milliseconds a query takes.
    pub fn query_ms<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<f64>> {
        Box::pin(async move {
            let started = Instant::now();
            self.0.sql(sql).await?.collect().await?;
            Ok(started.elapsed().as_secs_f64() * 1000.0)
        })
    }
}

fn active_files(table: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(table.join("_delta_log"))?;
    let mut commits: Vec<PathBuf> = entries.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
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
    Ok(active.into_iter().collect())
}
