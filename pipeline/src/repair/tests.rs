//! The repairer: what it sends back in, and that dying changes nothing.

mod again;
mod dying;
mod masks;
mod suggestions;
mod told;

use std::pin::pin;

use schemas::drift::{Decide, DriftKind, Move, Verdict};
use schemas::input::Command;
use schemas::{Input, Topic};
use tokio::sync::watch;

use super::{Case, Repairer, list};
use crate::ingest::OpenStream;
use crate::log::Log;
use crate::process::read_state;
use crate::step::Counters;
use crate::testing::{Line, TENANT, stream};

fn payload(id: usize, name: &str) -> String {
    let second = id % 60;
    format!(r#"{{"Id":"{id}","Updated":"2024-01-01T00:00:{second:02}Z","{name}":{}.25}}"#, 1000 + id)
}

async fn feed(line: &Line, open: &OpenStream, lane: u128, ids: std::ops::Range<usize>, name: &str) {
    let payloads: Vec<String> = ids.map(|id| payload(id, name)).collect();
    line.append(open, lane, 0, &payloads.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

async fn repairer(line: &Line) -> Repairer {
    let (stop, stopped) = watch::channel(false);
    // Dropped, it says false for ever.
    drop(stop);
    Repairer::start(line.log.clone(), line.store.clone(), 0, stopped).await.unwrap().0
}

/// Processes and repairs until nothing moves any more.
async fn settle(line: &Line) {
    loop {
        let end = line.log.end(Topic::Inputs, 0).await.unwrap();
        line.process().await;
        drain(line, &mut repairer(line).await).await;
        if line.log.end(Topic::Inputs, 0).await.unwrap() == end {
            return;
        }
    }
}

/// Has one repairer do what there is to do.
async fn drain(line: &Line, repairer: &mut Repairer) {
    let mut draining = pin!(repairer.drain());
    // What it sends may have to be processed before it goes on.
    loop {
        tokio::select! {
            biased;
            drained = &mut draining => break drained.unwrap(),
            () = tokio::task::yield_now() => drop(line.process().await),
        }
    }
}

async fn counters(line: &Line) -> Counters {
    read_state(&*line.store, &stream("orders")).await.unwrap().unwrap().counters
}

async fn cases(line: &Line) -> Vec<Case> {
    list(&*line.store, TENANT, None, None, 100).await.unwrap().into_iter().map(|(_, case)| case).collect()
}

fn renamed(from: &str, to: &str) -> Move {
    Move {
        from: from.into(),
        to: vec![to.into()],
        kind: DriftKind::Renamed,
        confidence: 0,
        part: None,
        change: None,
        transform: None,
        signals: vec![],
    }
}

async fn counters_of(line: &Line) -> (u64, u64) {
    let counters = counters(line).await;
    (counters.taken, counters.accepted)
}

async fn decide(line: &Line, id: &str, verdict: Verdict) {
    decide_of(line, 0, id, verdict).await;
}

async fn decide_of(line: &Line, at: usize, id: &str, verdict: Verdict) {
    let case = cases(line).await.remove(at);
    let (offset, mapping_version) = (case.position.offset, case.mapping_version);
    let decide = Decide {
        case: offset,
        mapping_version,
        version: None,
        once_read: true,
        verdict,
        by: "ada".into(),
        why: "seen".into(),
    };
    let input = Input::Command { id: id.into(), command: Command::Decide(decide) };
    let open = OpenStream { id: stream("orders"), partition: 0 };
    line.ingest().send(&open, &[input]).await.unwrap();
}
