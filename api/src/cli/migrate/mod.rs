//! `migrate`: moves log and store elsewhere, or makes them ready, and says what both sides have.

mod named;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use pipeline::engine::Partitions;
use pipeline::migrate::{MigrateError, Part, Place, Progress, migrate};
use schemas::Topic;
use serde_json::json;

use super::MigrateArgs;
use crate::output::Output;
use named::{Like, Named};

/// How often it is told how far a move is.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// Moves everything and compares both sides, or makes the target alone ready.
pub async fn run(args: &MigrateArgs, out: &mut dyn Output) -> anyhow::Result<()> {
    let to = Named::read(&args.to)?;
    let Some(from) = &args.from else {
        return ready(to, &args.to, out).await;
    };
    let from_place = Named::read(from)?.open().await.with_context(|| format!("opening {}", from.display()))?;
    let like = like(&from_place)?;
    let to_place = to.open_or_make(Some(like)).await.with_context(|| format!("opening {}", args.to.display()))?;
    let mut told = Instant::now();
    let moved = migrate(&from_place, &to_place, &mut |progress| tell(&progress, &mut told)).await;
    let parts = moved.map_err(explained)?;
    out.table(&["part", "count", "sha256"], &rows(&parts))?;
    if !out.json() {
        say_what_is_left(from, out)?;
    }
    Ok(())
}

/// Opens a target, which makes it, and tells what it is.
async fn ready(to: Named, path: &Path, out: &mut dyn Output) -> anyhow::Result<()> {
    let place = to.open_or_make(None).await.with_context(|| format!("opening {}", path.display()))?;
    let of =
        |topic: Topic| vec![json!(topic.name()), json!(place.log.partitions(topic)), json!(place.log.epoch(topic))];
    Ok(out.table(&["topic", "partitions", "epoch"], &Topic::ALL.map(of))?)
}

/// What a target must be so that places stay what they are.
fn like(from: &Place) -> anyhow::Result<Like> {
    let of = |topic| from.log.partitions(topic);
    let partitions =
        Partitions { inputs: of(Topic::Inputs), events: of(Topic::Events), decisions: of(Topic::Decisions) };
    let [epoch, events, decisions] = Topic::ALL.map(|topic| from.log.epoch(topic));
    if (events, decisions) != (epoch, epoch) {
        bail!(
            "the topics are of epochs {epoch}, {events} and {decisions}, so one of them was made again, and only a log of one \
             epoch can move: restore all three from one backup"
        );
    }
    Ok(Like { partitions, epoch })
}

fn tell(progress: &Progress<'_>, told: &mut Instant) {
    if told.elapsed() < TOLD_EVERY {
        return;
    }
    *told = Instant::now();
    match progress.total {
        Some(total) => tracing::info!("{}: {} of {total}", progress.name, progress.done),
        None => tracing::info!("{}: {} rows", progress.name, progress.done),
    }
}

/// What fails by itself may work later; what was found wrong says what to do.
fn explained(error: MigrateError) -> anyhow::Error {
    let is_resumed = matches!(error, MigrateError::Log(_) | MigrateError::Store(_));
    let error = anyhow::Error::from(error);
    if !is_resumed {
        return error;
    }
    error.context("not everything has moved; what has stays: mend this and run the same command again, which goes on")
}

fn rows(parts: &[Part]) -> Vec<Vec<serde_json::Value>> {
    parts.iter().map(|part| vec![json!(part.name), json!(part.count), json!(part.hash)]).collect()
}

fn say_what_is_left(from: &Path, out: &mut dyn Output) -> anyhow::Result<()> {
    out.line("Both sides have the same. Views come back from the log by themselves.")?;
    out.line("Every process needs the same master.key as before, and mappings and ontology if there are any.")?;
    out.line(&format!("Do not serve {} again.", from.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pipeline::{LogError, MemoryLog, MemoryStore};

    use super::*;

    #[test]
    fn only_what_failed_by_itself_is_to_be_run_again() {
        let failed = explained(LogError::Unreachable("a broker is away".into()).into());
        let told = format!("{failed:#}");
        assert!(told.contains("run the same command again") && told.contains("a broker is away"), "{told}");
        let refused = explained(MigrateError::NotEmpty);
        assert!(!format!("{refused:#}").contains("again"), "{refused:#}");
    }

    #[test]
    fn a_target_is_made_like_what_moves() {
        let partitions = Partitions { inputs: 2, events: 3, decisions: 2 };
        let log = Arc::new(MemoryLog::of_epoch(partitions, 7));
        let made = like(&Place { log, store: Arc::new(MemoryStore::new()) }).unwrap();
        assert_eq!((made.partitions, made.epoch), (partitions, 7));
    }
}
