//! `log`: its ends, its items as CloudEvents, and a second fold that must give the same.

use std::collections::{BTreeMap, HashMap};

use pipeline::process::{collect, stream_of};
use pipeline::step::{self, InputBatch, Scratch, StreamState};
use pipeline::{Log, Stored};
use poem_openapi::types::Any;
use schemas::event::{EventBatchReader, EventHash};
use schemas::record::{RecordBatchReader, RecordBatchWriter};
use schemas::{BatchKind, StreamId, TenantId, Topic};
use serde_json::{Value, json};

use super::backend::Backend;
use super::{CatArgs, RefoldArgs};
use crate::http::routes::log::LogItem;
use crate::line::Line;
use crate::output::Output;

const READ_BYTES: usize = 1 << 20;
/// Items of the log that are asked for at once.
const PAGE: usize = 1_000;

/// Shows where each partition ends.
pub async fn ends(line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for topic in Topic::ALL {
        for partition in 0..line.log.partitions(topic) {
            let end = line.log.end(topic, partition).await?;
            rows.push(vec![json!(topic.name()), json!(partition), json!(line.log.epoch(topic)), json!(end)]);
        }
    }
    Ok(out.table(&["topic", "partition", "epoch", "end"], &rows)?)
}

/// Shows the streams of each with their counters.
pub async fn stat<B: Backend>(of: &[B], out: &mut dyn Output) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for backend in of {
        for stream in backend.streams().await? {
            let c = stream.counts;
            rows.push(vec![
                json!(backend.tenant()),
                json!(stream.stream),
                json!(stream.entity),
                json!(c.taken),
                json!(c.accepted),
                json!(c.deleted),
                json!(c.quarantined),
                json!(c.discarded),
                json!(c.held),
                json!(c.duplicate),
                json!(stream.mapping_version),
                json!(stream.fingerprint),
                json!(stream.missing),
            ]);
        }
    }
    let columns = [
        "tenant",
        "stream",
        "entity",
        "in",
        "accepted",
        "deleted",
        "quarantined",
        "discarded",
        "held",
        "duplicate",
        "mapping_version",
        "fingerprint",
        "missing",
    ];
    Ok(out.table(&columns, &rows)?)
}

/// Prints items of the log, one a line.
pub async fn cat(args: &CatArgs, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    let topic: Topic = args.topic.parse().map_err(anyhow::Error::msg)?;
    let (mut left, mut after) = (args.limit, None::<String>);
    while left > 0 {
        let page = of.log(topic, args.from, after.as_deref(), left.min(PAGE)).await?;
        left = left.saturating_sub(page.items.len());
        for item in page.items {
            out.value(&shown(topic, item))?;
        }
        if page.at_end {
            break;
        }
        after = Some(page.next);
    }
    Ok(())
}

/// An item as it is printed: a CloudEvent says itself where it stands, an input is told.
fn shown(topic: Topic, item: LogItem) -> Value {
    let LogItem { position, stream, item: Any(mut item), .. } = item;
    if let (Topic::Inputs, Some(object)) = (topic, item.as_object_mut()) {
        object.insert("position".into(), json!(position));
        object.insert("stream".into(), json!(stream));
    }
    item
}

type Hashes = BTreeMap<StreamId, EventHash>;
/// By epoch and partition of `inputs`: the place behind the last row taken.
type Marks = HashMap<(u32, u32), (u64, u32)>;

/// Folds `inputs` anew with other batches and compares with what lies on `events`.
pub async fn refold(args: &RefoldArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
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
    for (stream, hash) in &refolded {
        let same = stored.get(stream) == Some(hash);
        differ |= !same;
        rows.push(vec![
            json!(stream.tenant.to_string()),
            json!(stream.to_string()),
            json!(hash.count),
            json!(format!("{:032x}", hash.head)),
            json!(same),
        ]);
    }
    out.table(&["tenant", "stream", "events", "hash", "same"], &rows)?;
    anyhow::ensure!(!differ, "the events of at least one stream are not what its inputs give");
    Ok(())
}

async fn stored_hashes(line: &Line, wanted: Option<TenantId>) -> anyhow::Result<Hashes> {
    let mut hashes = Hashes::new();
    for partition in 0..line.log.partitions(Topic::Events) {
        let mut marks = Marks::new();
        let mut next = 0;
        loop {
            let batches = line.log.read(Topic::Events, partition, next, READ_BYTES).await?;
            let Some(end) = batches.last().map(Stored::end) else { break };
            for stored in batches.iter().filter(|s| s.header().kind == BatchKind::Rows) {
                if wanted.is_none_or(|t| t == stored.header().tenant) {
                    let Some(body) = stored.body(Topic::Events, partition)? else { continue };
                    extend(&mut hashes, stored.header().tenant, &body, Some(&mut marks))?;
                }
            }
            next = end;
        }
    }
    Ok(hashes)
}

/// Takes the rows of a batch in; with `marks` runs that stand twice on the log count once.
fn extend(hashes: &mut Hashes, tenant: TenantId, body: &[u8], mut marks: Option<&mut Marks>) -> anyhow::Result<()> {
    let mut reader = EventBatchReader::new(body)?;
    let shared = reader.shared.clone();
    let stream = StreamId { tenant, connection: shared.connection.clone(), stream: shared.stream.clone() };
    let hash = hashes.entry(stream).or_default();
    while let Some(row) = reader.next_row()? {
        if let Some(marks) = marks.as_deref_mut() {
            let place = (row.input_offset, row.ordinal + 1);
            let mark = marks.entry((shared.input_epoch, shared.input_partition)).or_default();
            if place <= *mark {
                continue;
            }
            *mark = place;
        }
        hash.extend(&shared, &row);
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
            let state = states.entry(stream.clone()).or_insert_with(|| StreamState::new(stream, partition, epoch));
            for (first, count, piece) in pieces(header.kind, stored, &body, batch)? {
                let input = InputBatch { kind: header.kind, first, count, logged_at: header.logged_at, body: &piece };
                let outcome = step::fold(state, input, &mut scratch)?;
                let (mut events, mut decisions) = (HashMap::new(), Vec::new());
                collect(outcome, header, partitions, &mut events, &mut decisions);
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
