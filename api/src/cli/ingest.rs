//! `ingest`: files in, every record's fate out.

use std::time::Instant;

use anyhow::Context;
use connectors::file::{ContentCounts, FileSettings, FileSource};
use pipeline::Source;
use schemas::VersionType;
use schemas::mapping::Path;
use tokio::sync::mpsc;

use super::backend::Run;
use super::backend::folder::FolderRun;
use super::plan::{plan, settings, shown_version_type};
use super::snapshot::delete_missing;
use super::{IngestArgs, Mode};
use crate::client::Client;
use crate::line::{Fates, Line};
use crate::output::{Output, Progress};

/// Bytes of records that go to the log at once.
pub(super) const BATCH_BYTES: usize = 512 << 10;

/// Reads files into the line; answers once every record has its fate, or, if nobody waits for that, is durable.
pub async fn run(args: &IngestArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<Fates> {
    let started = Instant::now();
    let plan = plan(args, line).await?;
    out.progress(&Progress { stage: "its turn".into(), ..Progress::default() });
    let turn = line.turn(&plan.stream).await;
    let run = line.begin_run(&plan.stream, plan.mapping, plan.entity.as_ref(), "ingest", !args.no_wait).await?;
    // What a tenant has read on its behalf counts as its own; the operator's files do not.
    let account = match &args.behalf {
        Some(behalf) => Some(line.account(behalf.tenant).await?),
        None => None,
    };
    let mut run = FolderRun { line, run, account };
    let brought = bring_in(args, &plan.settings, line.content_counts.clone(), &mut run, out).await?;
    // Who reads the answer slowly holds nobody up.
    drop(turn);
    report(args, &brought, started, out)?;
    brought.failed.map_or(Ok(brought.fates), Err)
}

/// Reads files into a stream of a server; answers once every record has its fate there, or, if nobody waits for that, is
/// durable.
pub async fn at(args: &IngestArgs, server: &Client, out: &mut dyn Output) -> anyhow::Result<()> {
    let started = Instant::now();
    // Whether there are files to read is told before anything is opened.
    let shown = shown_version(args).await?;
    out.progress(&Progress { stage: "opening".into(), ..Progress::default() });
    let mut run = server.begin(args, shown).await?;
    let settings = settings(args, run.mapping().key.is_empty())?;
    let brought = bring_in(args, &settings, ContentCounts::default(), &mut run, out).await?;
    report(args, &brought, started, out)?;
    brought.failed.map_or(Ok(()), Err)
}

/// The type of the versions as the first records show it, where nothing else says it.
pub(super) async fn shown_version(args: &IngestArgs) -> anyhow::Result<Option<VersionType>> {
    let source = FileSource::open(settings(args, false)?, Vec::new())?;
    let path = match (&args.version, &args.version_type) {
        (Some(version), None) => Path::or_none(version)?,
        _ => None,
    };
    match path {
        Some(path) => Ok(Some(shown_version_type(source, &path).await?)),
        None => Ok(None),
    }
}

/// What a run brought in, and why it was not all.
pub(super) struct Brought {
    pub(super) fates: Fates,
    pub(super) failed: Option<anyhow::Error>,
    /// What is to be said of records of earlier runs, if they stay what a former mapping made of them.
    former: Option<Former>,
}

/// Records of earlier runs under a former mapping.
struct Former {
    records: u64,
    has_key: bool,
}

/// Reads files into a run, deletes what a snapshot lacks, and waits for what becomes of it all.
pub(super) async fn bring_in(
    args: &IngestArgs,
    settings: &FileSettings,
    counts: ContentCounts,
    run: &mut dyn Run,
    out: &mut dyn Output,
) -> anyhow::Result<Brought> {
    let source = FileSource::open_counting(settings.clone(), run.lanes(), counts)?;
    let (records, has_key) = (run.under_former(), !run.mapping().key.is_empty());
    let former = (records > 0).then_some(Former { records, has_key });
    let Reading { mut acknowledged, failed } = read(run, source, out).await?;
    let mut failed = failed.map(|error| {
        anyhow::Error::from(error).context("some files could not be read to their end; what was read before is kept")
    });
    if args.mode == Mode::Snapshot && failed.is_none() {
        failed = delete_missing(args.max_deletes, settings, run, &mut acknowledged).await.err();
    }
    let fates = match args.no_wait {
        true => {
            run.leave().await?;
            Fates::pending(acknowledged)
        }
        false => {
            out.progress(&Progress { acknowledged, stage: "waiting".into(), ..Progress::default() });
            run.settle(acknowledged).await?
        }
    };
    Ok(Brought { fates, failed, former })
}

/// Says what became of a run's records.
fn report(args: &IngestArgs, brought: &Brought, started: Instant, out: &mut dyn Output) -> anyhow::Result<()> {
    let Brought { fates, former, .. } = brought;
    let seconds = started.elapsed().as_secs_f64();
    let rate = fates.taken as f64 / seconds.max(1e-9);
    if out.json() {
        let mut value = serde_json::to_value(fates)?;
        value["under_former_mapping"] = former.as_ref().map_or(0, |former| former.records).into();
        value["durable"] = fates.taken.into();
        value["seconds"] = serde_json::json!(seconds);
        return Ok(out.value(&value)?);
    }
    let Fates {
        taken,
        visible,
        superseded,
        quarantined,
        held,
        released,
        recalled,
        duplicate,
        pending,
        deletes,
        others,
    } = *fates;
    let stream = format!("{}/{}", args.connection, args.stream);
    if let Some(former) = former {
        out.line(&format!("{stream}: {}", former.told()))?;
    }
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
    if recalled > 0 {
        out.line(&format!("{stream}: {recalled} rows of earlier runs were taken back and are held, as a case opened"))?;
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

impl Former {
    fn told(&self) -> String {
        // Rows without a key are told apart by their file too.
        let instead = if self.has_key { "" } else { " with --mode snapshot --max-deletes 100" };
        format!(
            "its mapping is another one from this run on; {} records taken before stay what the former one made of them. \
             To have them read by it too, ingest copies of their files under other names{instead}",
            self.records
        )
    }
}

struct Reading {
    acknowledged: u64,
    failed: Option<pipeline::SourceError>,
}

/// Reads the source to its end and appends everything; reading goes on while the run takes what was read.
async fn read(run: &mut dyn Run, mut source: FileSource, out: &mut dyn Output) -> anyhow::Result<Reading> {
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
                run.append(batch.records, batch.declared.as_deref()).await?;
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
