//! `ingest --mode snapshot`: the files are everything, so what they lack is deleted.

use anyhow::bail;
use arrow::array::Array;
use connectors::file::{FileSettings, FileSource};
use pipeline::Source;
use pipeline::step::KeyReader;
use schemas::record::{RecordBatchReader, RecordBatchWriter};
use schemas::{Lane, Mapping, Op, Record, Version};

use super::backend::{Keys, Run};
use super::ingest::BATCH_BYTES;

/// Appends a delete for each visible row of the stream whose key the files lack, and adds to `acknowledged` what is
/// durable. Deletes nothing when the files hold records without a readable key, or lack more than `percent_max` of the
/// rows.
pub(super) async fn delete_missing(
    percent_max: u8,
    settings: &FileSettings,
    run: &mut dyn Run,
    acknowledged: &mut u64,
) -> anyhow::Result<()> {
    let keys = keys_of_files(run.mapping(), settings).await?;
    let Some(rows) = run.rows().await? else { return Ok(()) };
    let (all, missing) = count_missing(rows.keys().await?, &keys).await?;
    let percent = missing as f64 / all.max(1) as f64 * 100.0;
    if percent > f64::from(percent_max) {
        bail!(
            "the snapshot lacks {missing} of {all} rows ({percent:.1} %), more than {percent_max} %: nothing was \
             deleted. If they are really gone, run it again with --max-deletes {}",
            percent.ceil() as u64
        );
    }
    if missing > 0 {
        let visible = rows.keys().await?;
        drop(rows);
        append_deletes(run, visible, &keys, acknowledged).await?;
    }
    Ok(())
}

async fn count_missing(mut visible: Keys, keys: &KeySet) -> anyhow::Result<(u64, u64)> {
    let (mut all, mut missing) = (0, 0);
    while let Some(batch) = visible.next().await? {
        all += batch.len() as u64;
        missing += batch.iter().flatten().filter(|key| !keys.contains(key)).count() as u64;
    }
    Ok((all, missing))
}

async fn append_deletes(
    run: &mut dyn Run,
    mut visible: Keys,
    keys: &KeySet,
    acknowledged: &mut u64,
) -> anyhow::Result<()> {
    let lane = Lane(uuid::Uuid::now_v7().as_u128());
    let mut writer = RecordBatchWriter::new(lane, 0, BATCH_BYTES);
    let mut ordinal = 0;
    while let Some(batch) = visible.next().await? {
        for key in batch.iter().flatten().filter(|key| !keys.contains(key)) {
            ordinal += 1;
            let (op, version) = (Op::Delete, Version::None);
            writer.push(&Record { ordinal, op, key: Some(key), version, defect: None, payload: b"{}" });
            if writer.bytes() >= BATCH_BYTES {
                let full = std::mem::replace(&mut writer, RecordBatchWriter::new(lane, ordinal, BATCH_BYTES));
                *acknowledged += append(run, full).await?;
            }
        }
    }
    *acknowledged += append(run, writer).await?;
    Ok(())
}

async fn append(run: &mut dyn Run, writer: RecordBatchWriter) -> anyhow::Result<u64> {
    let records = writer.finish(b"");
    let count = u64::from(records.count);
    if count > 0 {
        run.append(records, None).await?;
    }
    Ok(count)
}

/// The keys of everything that the files hold, read as the step reads them; what the line took before is read again.
async fn keys_of_files(mapping: &Mapping, settings: &FileSettings) -> anyhow::Result<KeySet> {
    let mut source = FileSource::open(settings.clone(), Vec::new())?;
    let mut payload_keys = KeyReader::of(mapping);
    let mut keys = KeySet::default();
    let mut unreadable = 0u64;
    while let Some(batch) = source.next(BATCH_BYTES).await? {
        let mut reader = RecordBatchReader::new(&batch.records.body)?;
        while let Some(record) = reader.next_record()? {
            match record.key.or_else(|| payload_keys.read(record.payload)) {
                Some(key) => keys.insert(key),
                None => unreadable += 1,
            }
        }
    }
    // Any of them may be a row that is there and only looks as if it were missing.
    if unreadable > 0 {
        bail!("{unreadable} records of the snapshot have no readable key: nothing was deleted; see quarantine list");
    }
    if !source.is_as_opened() {
        bail!("a file changed while it was read: nothing was deleted. Run it again once the files are whole");
    }
    keys.settle();
    Ok(keys)
}

/// Keys by their 128-bit hashes, sixteen bytes each.
#[derive(Default)]
struct KeySet {
    hashes: Vec<u128>,
    /// How many there were when they were last sorted.
    settled: usize,
}

impl KeySet {
    fn insert(&mut self, key: &str) {
        /// Keys below which sorting is not worth it.
        const FEW: usize = 1 << 16;
        self.hashes.push(hash(key));
        // Repeated keys go each time that the list has doubled.
        if self.hashes.len() >= FEW.max(self.settled * 2) {
            self.settle();
        }
    }

    fn settle(&mut self) {
        self.hashes.sort_unstable();
        self.hashes.dedup();
        self.settled = self.hashes.len();
    }

    /// Whether a key is in it; all must be settled.
    fn contains(&self, key: &str) -> bool {
        self.hashes.binary_search(&hash(key)).is_ok()
    }
}

fn hash(key: &str) -> u128 {
    xxhash_rust::xxh3::xxh3_128(key.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_set_holds_each_key_once_however_often_it_comes() {
        let mut keys = KeySet::default();
        for n in 0..300_000 {
            keys.insert(&(n % 70_000).to_string());
        }
        keys.settle();
        assert_eq!(keys.hashes.len(), 70_000);
        assert!(keys.hashes.capacity() < 300_000, "repeated keys take no memory: {}", keys.hashes.capacity());
        assert!(keys.contains("0") && keys.contains("69999") && !keys.contains("70000"));
    }
}
