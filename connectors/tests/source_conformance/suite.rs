//! The contract of the port `Source` as functions over "a way to open the source".

use pipeline::source::{LaneCursor, Source, SourceBatch, SourceError};
use schemas::Lane;
use schemas::reason::Reason;
use schemas::record::RecordBatchReader;

/// One record, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub lane: Lane,
    pub ordinal: u64,
    pub key: Option<String>,
    pub defect: Option<Reason>,
    pub payload: String,
}

/// What a run gave: its batches' rows, the cursor behind each batch, and the error at its end.
#[derive(Debug, Default)]
pub struct Run {
    pub batches: Vec<Vec<Row>>,
    pub cursors: Vec<LaneCursor>,
    pub error: Option<SourceError>,
    pub source_bytes: u64,
}

impl Run {
    pub fn rows(&self) -> Vec<Row> {
        self.batches.concat()
    }
    pub fn payloads(&self) -> Vec<String> {
        self.rows().into_iter().map(|row| row.payload).collect()
    }
    pub fn without_error(self) -> Self {
        assert!(self.error.is_none(), "{:?}", self.error);
        self
    }
}

pub fn unpacked(batch: &SourceBatch) -> (Vec<Row>, LaneCursor) {
    let mut reader = RecordBatchReader::new(&batch.records.body).expect("a source gives whole batches");
    let mut rows = Vec::new();
    while let Some(record) = reader.next_record().expect("a source gives whole records") {
        rows.push(Row {
            lane: reader.lane,
            ordinal: record.ordinal,
            key: record.key.map(str::to_string),
            defect: record.defect,
            payload: String::from_utf8_lossy(record.payload).into_owned(),
        });
    }
    assert_eq!(rows.len(), batch.records.count as usize);
    let ordinal = rows.last().expect("a batch has records").ordinal;
    (rows, LaneCursor { lane: reader.lane, ordinal, cursor: reader.cursor.to_vec() })
}

/// The line's cursors after a batch: one per lane.
pub fn remember(cursors: &mut Vec<LaneCursor>, cursor: LaneCursor) {
    match cursors.iter_mut().find(|known| known.lane == cursor.lane) {
        Some(known) => *known = cursor,
        None => cursors.push(cursor),
    }
}

/// Reads to the end.
pub async fn read(source: &mut impl Source, max_bytes: usize) -> Run {
    let mut run = Run::default();
    loop {
        match source.next(max_bytes).await {
            Ok(Some(batch)) => {
                let (rows, cursor) = unpacked(&batch);
                assert!(rows.windows(2).all(|pair| pair[0].ordinal < pair[1].ordinal), "ordinals rise");
                assert!(batch.records.body.len() <= max_bytes + cursor.cursor.len() + 128 || rows.len() == 1);
                run.source_bytes += batch.source_bytes;
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

/// Holds a source to its contract: `open` must always open the same, unchanged thing.
pub async fn conforms<S: Source>(open: impl Fn(Vec<LaneCursor>) -> S) {
    let whole = read(&mut open(Vec::new()), 1 << 20).await;
    let error = whole.error.as_ref().map(ToString::to_string);
    let expected = whole.rows();
    assert!(!expected.is_empty());
    for max_bytes in [1, 200, 1000, 4096, 1 << 16] {
        let run = read(&mut open(Vec::new()), max_bytes).await;
        assert_eq!(run.rows(), expected, "the same records whatever the batch size ({max_bytes})");
        assert_eq!(run.error.as_ref().map(ToString::to_string), error);
        let mut cursors = Vec::new();
        let mut taken = 0;
        for (batch, cursor) in run.batches.iter().zip(run.cursors) {
            remember(&mut cursors, cursor);
            taken += batch.len();
            // Every boundary for a few batches, some of them for many.
            if run.batches.len() > 30 && taken % 7 != 0 && taken != expected.len() {
                continue;
            }
            let rest = read(&mut open(cursors.clone()), 1500).await;
            assert_eq!(rest.rows(), expected[taken..], "resuming behind {taken} records gives exactly the rest");
        }
        let again = read(&mut open(cursors), max_bytes).await;
        assert!(again.batches.is_empty(), "what was read is not read again");
    }
}
