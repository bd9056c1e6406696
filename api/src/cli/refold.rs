//! `log refold`: a second fold of the inputs, which must give the same events and the same decisions. It asks nobody: what the
//! matcher or a language model said is on the log.

use std::collections::{BTreeMap, HashMap};

use pipeline::process::{collect, decode_decisions, stream_of};
use pipeline::step::{self, InputBatch, Scratch, StreamState};
use pipeline::{Log, Stored};
use schemas::decision::DecisionHash;
use schemas::event::{EventBatchReader, EventHash};
use schemas::record::{RecordBatchReader, RecordBatchWriter};
use schemas::{BatchKind, StreamId, TenantId, Topic};
use serde_json::json;

use super::RefoldArgs;
use crate::line::Line;
use crate::output::Output;

const READ_BYTES: usize = 1 << 20;

/// What a stream has told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Told {
    events: EventHash,
    decisions: DecisionHash,
}

type Hashes = BTreeMap<StreamId, Told>;
/// By epoch and partition of `inputs`: the place behind the last item taken.
type Marks = HashMap<(u32, u32), (u64, u32)>;

/// Folds `inputs` anew with other batches and compares with what lies on `events` and `decisions`.
pub async fn run(args: &RefoldArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let wanted = match &args.tenant {
        Some(name) => Some(line.tenant(&name.parse()?).await?),
        None => None,
    };
    line.wait_all_processed().await?;
    let stored = stored_hashes(line, wanted).await?;
    let mut refolded = Hashes::new();
    let partitions: Vec<u32> = (0..line.log.partitions(Topic::Inputs)).collect();
    for group in partitions.chunks(args.threads.max(1)) {
        let folds = group.iter().map(|partition| {
            let log = line.log.clone();
            let (partition, batch) = (*partition, args.batch.max(1));
            tokio::spawn(async move { refold_partition(&*log, partition, batch, wanted).await })
        });
        for fold in futures::future::join_all(folds).await {
            refolded.extend(fold??);
        }
    }
    let mut rows = Vec::new();
    let mut differ = stored.len() != refolded.len();
    for (stream, told) in &refolded {
        let same = stored.get(stream) == Some(told);
        differ |= !same;
        rows.push(vec![
            json!(stream.tenant.to_string()),
            json!(stream.to_string()),
            json!(told.events.count),
            json!(format!("{:032x}", told.events.head)),
            json!(told.decisions.count),
            json!(format!("{:032x}", told.decisions.head)),
            json!(same),
        ]);
    }
    out.table(&["tenant", "stream", "events", "hash", "decisions", "decisions_hash", "same"], &rows)?;
    anyhow::ensure!(!differ, "the events or decisions of at least one stream are not what its inputs give");
    Ok(())
}

async fn stored_hashes(line: &Line, wanted: Option<TenantId>) -> anyhow::Result<Hashes> {
    let mut hashes = Hashes::new();
    for (topic, kind) in [(Topic::Events, BatchKind::Rows), (Topic::Decisions, BatchKind::Decisions)] {
        for partition in 0..line.log.partitions(topic) {
            let mut marks = Marks::new();
            let mut next = 0;
            loop {
                let batches = line.log.read(topic, partition, next, READ_BYTES).await?;
                let Some(end) = batches.last().map(Stored::end) else { break };
                for stored in batches.iter().filter(|s| s.header().kind == kind) {
                    let header = stored.header();
                    if wanted.is_some_and(|tenant| tenant != header.tenant) {
                        continue;
                    }
                    let Some(body) = stored.body(topic, partition)? else { continue };
                    match stream_of(header).filter(|_| kind == BatchKind::Decisions) {
                        Some(stream) => decided(&mut hashes, stream, &body, partition, Some(&mut marks))?,
                        None => extend(&mut hashes, header.tenant, &body, Some(&mut marks))?,
                    }
                }
                next = end;
            }
        }
    }
    Ok(hashes)
}

/// Whether something stands behind what was taken; then it is taken.
fn is_first(marks: &mut Marks, (epoch, partition): (u32, u32), (offset, ordinal): (u64, u32)) -> bool {
    let mark = marks.entry((epoch, partition)).or_default();
    let place = (offset, ordinal + 1);
    let is_first = place > *mark;
    *mark = place.max(*mark);
    is_first
}

/// Takes the decisions of a batch in, in the same way.
fn decided(
    hashes: &mut Hashes,
    stream: StreamId,
    body: &[u8],
    partition: u32,
    mut marks: Option<&mut Marks>,
) -> anyhow::Result<()> {
    let hash = &mut hashes.entry(stream).or_default().decisions;
    for decision in decode_decisions(body)? {
        let place = (decision.input_offset, decision.ordinal);
        if marks.as_deref_mut().is_none_or(|marks| is_first(marks, (0, partition), place)) {
            hash.extend(&decision)?;
        }
    }
    Ok(())
}

/// Takes the rows of a batch in; with `marks` runs that stand twice on the log count once.
fn extend(hashes: &mut Hashes, tenant: TenantId, body: &[u8], mut marks: Option<&mut Marks>) -> anyhow::Result<()> {
    let mut reader = EventBatchReader::new(body)?;
    let shared = reader.shared.clone();
    let stream = StreamId { tenant, connection: shared.connection.clone(), stream: shared.stream.clone() };
    let hash = &mut hashes.entry(stream).or_default().events;
    let from = (shared.input_epoch, shared.input_partition);
    while let Some(row) = reader.next_row()? {
        let place = (row.input_offset, row.ordinal);
        if marks.as_deref_mut().is_none_or(|marks| is_first(marks, from, place)) {
            hash.extend(&shared, &row);
        }
    }
    Ok(())
}

/// Folds one partition from zero, its batches of records cut into other pieces.
async fn refold_partition(
    log: &dyn Log,
    partition: u32,
    batch: usize,
    wanted: Option<TenantId>,
) -> anyhow::Result<Hashes> {
    let (mut states, mut hashes, mut scratch) = (HashMap::new(), Hashes::new(), Scratch::default());
    let partitions = log.partitions(Topic::Events);
    let mut next = 0;
    loop {
        let batches = log.read(Topic::Inputs, partition, next, READ_BYTES).await?;
        let Some(end) = batches.last().map(Stored::end) else { return Ok(hashes) };
        for stored in &batches {
            let header = stored.header();
            let Some(stream) = stream_of(header).filter(|s| wanted.is_none_or(|t| t == s.tenant)) else { continue };
            let Some(body) = stored.body(Topic::Inputs, partition)? else { continue };
            let epoch = log.epoch(Topic::Inputs);
            let state =
                states.entry(stream.clone()).or_insert_with(|| StreamState::new(stream.clone(), partition, epoch));
            for (first, count, piece) in pieces(header.kind, stored, &body, batch)? {
                let input = InputBatch { kind: header.kind, first, count, logged_at: header.logged_at, body: &piece };
                let outcome = step::fold(state, input, &mut scratch)?;
                let (mut events, mut decisions) = (HashMap::new(), Vec::new());
                collect(outcome, header, partitions, &mut events, &mut decisions);
                for batch in &decisions {
                    decided(&mut hashes, stream.clone(), &batch.body, partition, None)?;
                }
                for event in events.into_values().flatten().filter(|b| b.header.kind == BatchKind::Rows) {
                    extend(&mut hashes, header.tenant, &event.body, None)?;
                }
            }
        }
        next = end;
    }
}

/// A batch of records cut into pieces of at most `batch` records; anything else as it is.
fn pieces(kind: BatchKind, stored: &Stored, body: &[u8], batch: usize) -> anyhow::Result<Vec<(u64, u32, Vec<u8>)>> {
    if !matches!(kind, BatchKind::Records | BatchKind::Redriven) {
        return Ok(vec![(stored.first, stored.header().count, body.to_vec())]);
    }
    let mut reader = RecordBatchReader::new(body)?;
    let (lane, cursor) = (reader.lane, reader.cursor);
    let (mut pieces, mut first, mut after) = (Vec::new(), stored.first, 0);
    let mut writer = RecordBatchWriter::new(lane, after, body.len());
    while let Some(record) = reader.next_record()? {
        writer.push_from(&record, reader.origin);
        after = record.ordinal;
        if writer.count() as usize >= batch {
            let full = std::mem::replace(&mut writer, RecordBatchWriter::new(lane, after, body.len())).finish(cursor);
            pieces.push((first, full.count, full.body));
            first += u64::from(full.count);
        }
    }
    let last = writer.finish(cursor);
    if last.count > 0 {
        pieces.push((first, last.count, last.body));
    }
    Ok(pieces)
}
