//! `ingest`: files in, every record's fate out.

use std::time::Instant;

use anyhow::Context;
use connectors::file::FileSource;
use pipeline::Source;
use pipeline::ingest::OpenStream;
use pipeline::source::LaneCursor;
use pipeline::step::{Counters, StreamState};
use schemas::Topic;
use serde::Serialize;
use tokio::sync::mpsc;

use super::plan::{Plan, plan};
use super::snapshot::delete_missing;
use super::{IngestArgs, Mode};
use crate::line::{Account, Line, Superseded};
use crate::output::{Output, Progress};

/// Bytes of records that go to the log at once.
pub(super) const BATCH_BYTES: usize = 512 << 10;

/// What became of the records of one run. `in` + released + others = visible + superseded + quarantined + held + duplicate
/// + pending.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Fates {
    /// Records acknowledged: durable in `inputs`.
    #[serde(rename = "in")]
    pub taken: u64,
    /// Rows, or deletes, that count now.
    pub visible: u64,
    /// Rows that a greater order key beat, before or after them.
    pub superseded: u64,
    /// Set aside with a reason.
    pub quarantined: u64,
    /// Kept back, because they lack what was always there: they come once their case is decided.
    #[serde(default)]
    pub held: u64,
    /// Of earlier runs: kept back then, released now.
    #[serde(default)]
    pub released: u64,
    /// Taken before.
    pub duplicate: u64,
    /// Not waited for: any of the others, in a moment.
    pub pending: u64,
    /// Deletes among the visible and the superseded.
    pub deletes: u64,
    /// Records that others, such as pushes, brought into the stream meanwhile: they are counted with the fates, not in `in`.
    pub others: u64,
}

/// Reads files into the line; answers once every record has its fate, or, if nobody waits for that, is durable.
pub async fn run(args: &IngestArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<Fates> {
    let started = Instant::now();
    let plan = plan(args, line).await?;
    out.progress(&Progress { stage: "its turn".into(), ..Progress::default() });
    let turn = line.turn(&plan.stream).await;
    let open = line.ingest.open(&plan.stream, &plan.mapping, plan.entity.as_ref(), "ingest").await?;
    // A run before this one that was left may have had an append under way: it stands before what is counted from here.
    line.log.sync().await?;
    line.wait_processed(open.partition).await?;
    let before = line.stream_state(&plan.stream).await?;
    let counting = match args.no_wait {
        true => None,
        false => {
            let from = line.log.end(Topic::Inputs, open.partition).await?;
            Some(line.count_superseded(&plan.stream, &plan.mapping.entity, from).await?)
        }
    };
    let source = FileSource::open(plan.settings.clone(), cursors(before.as_ref()))?;
    // What a tenant has read on its behalf counts as its own; the operator's files do not.
    let account = match &args.behalf {
        Some(behalf) => Some(line.account(behalf.tenant).await?),
        None => None,
    };
    let Reading { mut acknowledged, failed } = read(line, &open, source, account.as_deref(), out).await?;
    let mut failed = failed.map(|error| {
        anyhow::Error::from(error).context("some files could not be read to their end; what was read before is kept")
    });
    if args.mode == Mode::Snapshot && failed.is_none() {
        failed = delete_missing(args.max_deletes, line, &plan, &open, &mut acknowledged).await.err();
    }
    let fates = match counting {
        None => {
            line.log.sync().await?;
            Fates { taken: acknowledged, pending: acknowledged, ..Fates::default() }
        }
        Some(counting) => {
            let counted = before.map_or_else(Counters::default, |s| s.counters);
            settle(line, &plan, &open, counting, counted, acknowledged, out).await?
        }
    };
    // Who reads the answer slowly holds nobody up.
    drop(turn);
    report(&plan, fates, started, out)?;
    failed.map_or(Ok(fates), Err)
}

fn cursors(state: Option<&StreamState>) -> Vec<LaneCursor> {
    let lanes = state.into_iter().flat_map(|state| &state.lanes);
    lanes.map(|(lane, l)| LaneCursor { lane: *lane, ordinal: l.ordinal, cursor: l.cursor.clone() }).collect()
}

/// Waits until every record of the run has its fate and is in the table.
async fn settle(
    line: &Line,
    plan: &Plan,
    open: &OpenStream,
    counting: Superseded,
    counted: Counters,
    acknowledged: u64,
    out: &mut dyn Output,
) -> anyhow::Result<Fates> {
    out.progress(&Progress { acknowledged, stage: "waiting".into(), ..Progress::default() });
    line.wait_settled(open.partition).await?;
    let after = line.stream_state(&plan.stream).await?.map_or_else(Counters::default, |s| s.counters);
    let superseded = line.superseded(counting).await?;
    let rows = after.accepted + after.deleted - counted.accepted - counted.deleted;
    let visible = rows.saturating_sub(superseded);
    out.progress(&Progress { acknowledged, stage: "flushing".into(), ..Progress::default() });
    line.flush_folded(plan.stream.tenant, &plan.mapping.entity).await?;
    Ok(Fates {
        taken: acknowledged,
        visible,
        superseded: rows - visible,
        quarantined: after.quarantined.saturating_sub(counted.quarantined),
        held: after.held.saturating_sub(counted.held),
        released: counted.held.saturating_sub(after.held),
        duplicate: after.duplicate - counted.duplicate,
        pending: 0,
        deletes: after.deleted - counted.deleted,
        others: (after.taken - counted.taken).saturating_sub(acknowledged),
    })
}

fn report(plan: &Plan, fates: Fates, started: Instant, out: &mut dyn Output) -> anyhow::Result<()> {
    let seconds = started.elapsed().as_secs_f64();
    let rate = fates.taken as f64 / seconds.max(1e-9);
    if out.json() {
        let mut value = serde_json::to_value(fates)?;
        value["durable"] = fates.taken.into();
        value["seconds"] = serde_json::json!(seconds);
        return Ok(out.value(&value)?);
    }
    let Fates { taken, visible, superseded, quarantined, held, released, duplicate, pending, deletes, others } = fates;
    let stream = &plan.stream;
    if pending > 0 {
        return Ok(out.line(&format!("{stream}: {taken} in, durable, their fates pending; {rate:.0} a second"))?);
    }
    if others > 0 {
        out.line(&format!(
            "others brought {others} records meanwhile, which are counted with the fates of this run's"
        ))?;
    }
    if released > 0 {
        out.line(&format!("{stream}: {released} of earlier runs were kept back and are released"))?;
    }
    out.line(&format!(
        "{stream}: {taken} in = {visible} visible + {superseded} superseded + {quarantined} quarantined + {held} held + \
         {duplicate} duplicate; {deletes} of them deletes; {rate:.0} a second"
    ))?;
    if quarantined > 0 {
        out.line("see why with: autonomos quarantine list")?;
    }
    if held > 0 {
        out.line("they lack what was always there; see with: autonomos cases list --all")?;
    }
    Ok(())
}

struct Reading {
    acknowledged: u64,
    failed: Option<pipeline::SourceError>,
}

/// Reads the source to its end and appends everything; reading goes on while the log writes.
async fn read(
    line: &Line,
    open: &OpenStream,
    mut source: FileSource,
    account: Option<&Account>,
    out: &mut dyn Output,
) -> anyhow::Result<Reading> {
    let total = source.total_bytes();
    let (sender, mut receiver) = mpsc::channel(2);
    let reader = tokio::spawn(async move {
        loop {
            let next = source.next(BATCH_BYTES).await;
            let last = !matches!(next, Ok(Some(_)));
            if sender.send(next).await.is_err() || last {
                return;
            }
        }
    });
    let mut reading = Reading { acknowledged: 0, failed: None };
    let mut progress = Progress { source_bytes_total: total, stage: "reading".into(), ..Progress::default() };
    while let Some(next) = receiver.recv().await {
        match next {
            Ok(Some(batch)) => {
                let count = u64::from(batch.records.count);
                let bytes = batch.records.body.len() as u64;
                if let Some(account) = account {
                    line.wait_to_bring_in(account, count, bytes).await?;
                }
                line.ingest.append(open, batch.records).await?;
                if let Some(account) = account {
                    line.note_brought_in(open.id.tenant, account, bytes).await?;
                }
                reading.acknowledged += count;
                progress.acknowledged = reading.acknowledged;
                progress.source_bytes += batch.source_bytes;
                out.progress(&progress);
            }
            Ok(None) => break,
            Err(error) => reading.failed = Some(error),
        }
    }
    reader.await.context("the reader of the files ended early")?;
    Ok(reading)
}
