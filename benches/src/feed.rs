//! Appends records at a steady rate, as a source does that does not wait for us.

use std::time::{Duration, Instant};

use anyhow::Result;
use pipeline::ingest::OpenStream;
use schemas::record::RecordBatchWriter;
use schemas::{Lane, Op, Record, Version};

use crate::command::Product;

/// Records of so long are appended together.
const PERIOD: Duration = Duration::from_millis(10);

/// What was fed.
#[derive(Debug, Default)]
pub struct Fed {
    /// Records acknowledged.
    pub records: u64,
    /// Batches that they came in.
    pub batches: u64,
    /// Batches that began more than a period behind their time: the line did not keep up.
    pub late: u64,
    /// How long each append took, in milliseconds.
    pub append_ms: Vec<f64>,
    /// From the first append to the end of the last.
    pub seconds: f64,
}

impl Fed {
    /// Records a second that were in fact appended.
    pub fn rate(&self) -> f64 {
        (self.records as f64 / self.seconds).round()
    }
}

/// Appends `lines` at `rate` a second, with one record more in each batch for which `mark` gives one. `acknowledged`
/// hears of each batch by its number once it is durable.
pub async fn feed(
    product: &Product,
    open: &OpenStream,
    mut lines: impl Iterator<Item = Vec<u8>>,
    rate: u64,
    mark: impl Fn(u64) -> Option<String>,
    mut acknowledged: impl FnMut(u64, Instant),
) -> Result<Fed> {
    let batch_records = (u128::from(rate) * PERIOD.as_millis() / 1000).max(1) as usize;
    let mut fed = Fed::default();
    let started = Instant::now();
    loop {
        let payloads: Vec<Vec<u8>> = lines.by_ref().take(batch_records).collect();
        if payloads.is_empty() {
            return Ok(fed);
        }
        let due = started + PERIOD * u32::try_from(fed.batches)?;
        match due.checked_duration_since(Instant::now()) {
            Some(early) => tokio::time::sleep(early).await,
            None => fed.late += u64::from(due.elapsed() > PERIOD),
        }
        let marked = mark(fed.batches);
        let mut writer = RecordBatchWriter::new(Lane(1), fed.records, batch_records * 512);
        for payload in payloads.iter().map(|line| line.trim_ascii_end()).chain(marked.as_ref().map(String::as_bytes)) {
            let (ordinal, op, version) = (writer.last_ordinal() + 1, Op::Upsert, Version::None);
            writer.push(&Record { ordinal, op, key: None, version, defect: None, payload });
        }
        fed.records = writer.last_ordinal();
        let before = Instant::now();
        product.append(open, writer.finish(b"")).await?;
        let now = Instant::now();
        fed.append_ms.push((now - before).as_secs_f64() * 1000.0);
        acknowledged(fed.batches, now);
        fed.batches += 1;
        fed.seconds = started.elapsed().as_secs_f64();
    }
}
