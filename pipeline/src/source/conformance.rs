//! The suite that every source passes: each function is one behaviour and takes a way to open the source behind cursors.
//!
//! What is opened must always be the same, unchanged thing, with some records in it. A source runs all of it with one
//! line, `source_suite!(name, open)`, or with [`conforms`] where it has many forms.

use schemas::Lane;
use schemas::reason::Reason;
use schemas::record::RecordBatchReader;

use super::{LaneCursor, Source, SourceBatch, SourceError};

/// Makes one test of each behaviour of the suite. `open` is a function from cursors to the source behind them.
#[macro_export]
macro_rules! source_suite {
    ($module:ident, $open:expr) => {
        $crate::source_suite!(@ $module, $open, [
            ordinals_rise_from_one_within_a_lane,
            batches_are_no_larger_than_asked_for_unless_a_record_is,
            the_same_records_come_whatever_the_batch_size,
            reading_on_behind_any_batch_gives_exactly_the_rest,
            what_was_read_is_not_read_again,
        ]);
    };
    (@ $module:ident, $open:expr, [$($behaviour:ident),* $(,)?]) => {
        mod $module {
            #[allow(unused_imports)]
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    $crate::source::conformance::$behaviour(&$open).await;
                }
            )*
        }
    };
}

/// Every behaviour, one after the other.
pub async fn conforms<S: Source>(open: impl Fn(Vec<LaneCursor>) -> S) {
    ordinals_rise_from_one_within_a_lane(&open).await;
    batches_are_no_larger_than_asked_for_unless_a_record_is(&open).await;
    the_same_records_come_whatever_the_batch_size(&open).await;
    reading_on_behind_any_batch_gives_exactly_the_rest(&open).await;
    what_was_read_is_not_read_again(&open).await;
}

const SIZES: [usize; 5] = [1, 200, 1000, 4096, 1 << 16];
/// What a batch may have beside its records and its cursor.
const FRAME_BYTES: usize = 128;

/// One record, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The lane that it came in.
    pub lane: Lane,
    /// Its place there.
    pub ordinal: u64,
    /// The key, where the source gives one.
    pub key: Option<String>,
    /// Why it could not be read.
    pub defect: Option<Reason>,
    /// The payload as text.
    pub payload: String,
}

/// What a reading to the end gave.
#[derive(Debug, Default)]
pub struct Run {
    /// The records of each batch.
    pub batches: Vec<Vec<Row>>,
    /// The cursor behind each batch.
    pub cursors: Vec<LaneCursor>,
    /// Bytes of each batch's body.
    pub bytes: Vec<usize>,
    /// The error, if there was one.
    pub error: Option<SourceError>,
    /// Bytes of the source that were read.
    pub source_bytes: u64,
}

impl Run {
    /// All records.
    pub fn rows(&self) -> Vec<Row> {
        self.batches.concat()
    }
    /// All payloads.
    pub fn payloads(&self) -> Vec<String> {
        self.rows().into_iter().map(|row| row.payload).collect()
    }
    /// The error's text.
    pub fn error_text(&self) -> Option<String> {
        self.error.as_ref().map(ToString::to_string)
    }
}

/// The records of a batch, and the cursor behind it.
pub fn unpacked(batch: &SourceBatch) -> (Vec<Row>, LaneCursor) {
    let mut reader = RecordBatchReader::new(&batch.records.body).expect("a source gives whole batches");
    let mut rows = Vec::new();
    while let Some(record) = reader.next_record().expect("a source gives whole records") {
        rows.push(Row {
            lane: reader.lane,
            ordinal: record.ordinal,
            key: record.key.map(str::to_owned),
            defect: record.defect,
            payload: String::from_utf8_lossy(record.payload).into_owned(),
        });
    }
    assert_eq!(rows.len(), batch.records.count as usize);
    let ordinal = rows.last().expect("a batch has records").ordinal;
    (rows, LaneCursor { lane: reader.lane, ordinal, cursor: reader.cursor.to_vec() })
}

/// Keeps cursors as the line does: the last of each lane.
pub fn remember(cursors: &mut Vec<LaneCursor>, cursor: LaneCursor) {
    match cursors.iter_mut().find(|known| known.lane == cursor.lane) {
        Some(known) => *known = cursor,
        None => cursors.push(cursor),
    }
}

/// Reads to the end. An error is told once.
pub async fn read(source: &mut impl Source, max_bytes: usize) -> Run {
    let mut run = Run::default();
    loop {
        match source.next(max_bytes).await {
            Ok(Some(batch)) => {
                let (rows, cursor) = unpacked(&batch);
                run.source_bytes += batch.source_bytes;
                run.bytes.push(batch.records.body.len());
                run.batches.push(rows);
                run.cursors.push(cursor);
            }
            Ok(None) => return run,
            Err(error) => {
                assert!(run.error.is_none(), "an error is told once");
                run.error = Some(error);
            }
        }
    }
}

/// 0 is "nothing read yet".
pub async fn ordinals_rise_from_one_within_a_lane<S: Source>(open: &impl Fn(Vec<LaneCursor>) -> S) {
    for max_bytes in SIZES {
        let rows = read(&mut open(Vec::new()), max_bytes).await.rows();
        assert!(!rows.is_empty());
        let mut last: Vec<LaneCursor> = Vec::new();
        for Row { lane, ordinal, .. } in rows {
            let before = last.iter().find(|known| known.lane == lane).map_or(0, |known| known.ordinal);
            assert!(ordinal > before, "lane {lane}: {ordinal} behind {before}");
            remember(&mut last, LaneCursor { lane, ordinal, cursor: Vec::new() });
        }
    }
}

/// About `max_bytes`, and one record at least.
pub async fn batches_are_no_larger_than_asked_for_unless_a_record_is<S: Source>(open: &impl Fn(Vec<LaneCursor>) -> S) {
    for max_bytes in SIZES {
        let run = read(&mut open(Vec::new()), max_bytes).await;
        for ((rows, cursor), bytes) in run.batches.iter().zip(&run.cursors).zip(&run.bytes) {
            assert!(*bytes <= max_bytes + cursor.cursor.len() + FRAME_BYTES || rows.len() == 1, "{bytes} bytes");
            assert!(rows.iter().all(|row| row.lane == cursor.lane), "a batch is of one lane");
        }
    }
}

/// Records, ordinals and the error are the same.
pub async fn the_same_records_come_whatever_the_batch_size<S: Source>(open: &impl Fn(Vec<LaneCursor>) -> S) {
    let whole = read(&mut open(Vec::new()), 1 << 20).await;
    for max_bytes in SIZES {
        let run = read(&mut open(Vec::new()), max_bytes).await;
        assert_eq!(run.rows(), whole.rows(), "batches of {max_bytes} bytes");
        assert_eq!(run.error_text(), whole.error_text());
    }
}

/// Nothing is left out, nothing repeated: at every boundary of a few batches, at some of many.
pub async fn reading_on_behind_any_batch_gives_exactly_the_rest<S: Source>(open: &impl Fn(Vec<LaneCursor>) -> S) {
    let expected = read(&mut open(Vec::new()), 1 << 20).await.rows();
    for max_bytes in SIZES {
        let run = read(&mut open(Vec::new()), max_bytes).await;
        let (mut cursors, mut taken) = (Vec::new(), 0);
        for (batch, cursor) in run.batches.iter().zip(run.cursors) {
            remember(&mut cursors, cursor);
            taken += batch.len();
            if run.batches.len() > 30 && taken % 7 != 0 && taken != expected.len() {
                continue;
            }
            let rest = read(&mut open(cursors.clone()), 1500).await;
            assert_eq!(rest.rows(), expected[taken..], "behind {taken} records");
        }
    }
}

/// Behind its last cursors a source has nothing more.
pub async fn what_was_read_is_not_read_again<S: Source>(open: &impl Fn(Vec<LaneCursor>) -> S) {
    for max_bytes in SIZES {
        let mut cursors = Vec::new();
        for cursor in read(&mut open(Vec::new()), max_bytes).await.cursors {
            remember(&mut cursors, cursor);
        }
        assert!(read(&mut open(cursors), max_bytes).await.batches.is_empty());
    }
}
