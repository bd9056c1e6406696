//! The log: every batch, and how far its readers are.

use std::collections::HashMap;

use pipeline::quarantine::{list_foreign, note_foreign};
use pipeline::{LogError, Stored, Table};
use schemas::{BatchKind, EntityName, Input, TenantId, Topic};

use super::streams::Counted;
use super::{FROM_BACKUP, Findings};
use crate::line::Line;

const READ_BYTES: usize = 4 << 20;
const PAGE: usize = 1000;

/// A stream as the log names it: its tenant and its subject.
pub(super) type Name = (TenantId, String);

/// What the log of `inputs` says about streams.
#[derive(Default)]
pub(super) struct Seen {
    /// Where each stream was opened first, and for what.
    pub(super) opened: HashMap<Name, (u32, EntityName)>,
    /// Records of each stream below the first that its state has not counted.
    pub(super) records: HashMap<Name, u64>,
    /// Whether all of it could be read.
    pub(super) is_whole: bool,
}

/// Reads every batch, which checks its checksum, and notes what `inputs` say about streams. `counted` says up
/// to where each stream's state has counted them.
pub(super) async fn read(
    line: &Line,
    counted: &HashMap<Name, Counted>,
    findings: &mut Findings,
) -> anyhow::Result<Seen> {
    let mut seen = Seen { is_whole: true, ..Seen::default() };
    for topic in Topic::ALL {
        let (mut wrong, mut items, mut batches, mut bytes, mut forgotten) = (Vec::new(), 0, 0, 0, 0);
        for partition in 0..line.log.partitions(topic) {
            let end = line.log.end(topic, partition).await?;
            let mut next = 0;
            while next < end {
                let read = match read_some(line, topic, partition, next, counted, &mut seen).await {
                    Ok(read) if read.is_empty() => Err(format!("partition {partition} ends at {next}, not at {end}")),
                    Ok(read) => Ok(read),
                    Err(error) => Err(error.to_string()),
                };
                match read {
                    Ok(read) => {
                        next = read.last().map_or(end, Stored::end);
                        batches += read.len();
                        forgotten += read.iter().filter(|stored| stored.is_forgotten()).count();
                        bytes += read.iter().map(|stored| stored.packed.packed_bytes()).sum::<usize>();
                    }
                    Err(error) => {
                        wrong.push(error);
                        break;
                    }
                }
            }
            items += next;
        }
        seen.is_whole &= wrong.is_empty() || topic != Topic::Inputs;
        let mut fine = format!("{items} items in {batches} batches, {bytes} bytes packed, every checksum right");
        if forgotten > 0 {
            fine += &format!("; {forgotten} batches are forgotten, their tenants were deleted");
        }
        findings.all(&format!("log {topic}"), &wrong, fine, FROM_BACKUP);
    }
    Ok(seen)
}

async fn read_some(
    line: &Line,
    topic: Topic,
    partition: u32,
    from: u64,
    counted: &HashMap<Name, Counted>,
    seen: &mut Seen,
) -> Result<Vec<Stored>, LogError> {
    let read = line.log.read(topic, partition, from, READ_BYTES).await?;
    for stored in &read {
        let Some(body) = stored.body(topic, partition)? else { continue };
        if topic != Topic::Inputs {
            continue;
        }
        let header = stored.header();
        let name = (header.tenant, header.subject.clone());
        match header.kind {
            BatchKind::Records if counted.get(&name).is_some_and(|c| stored.end() <= c.next) => {
                *seen.records.entry(name).or_default() += u64::from(header.count);
            }
            BatchKind::Control => {
                if let Ok(Input::StreamOpened { entity, .. }) = serde_json::from_slice(&body) {
                    seen.opened.entry(name).or_insert((partition, entity));
                }
            }
            _ => {}
        }
    }
    Ok(read)
}

/// What was odd on the log's servers: messages of others that nobody has seen to, and readers that stood still.
pub(super) async fn oddities(line: &Line, findings: &mut Findings) -> anyhow::Result<()> {
    let Some(oddities) = line.log.oddities() else { return Ok(()) };
    // What was met just now, by the checks before this one.
    for topic in Topic::ALL {
        for partition in 0..line.log.partitions(topic) {
            note_foreign(&*line.log, &*line.store, topic, partition).await?;
        }
    }
    let (mut after, mut unseen, mut last) = (None::<String>, 0, None);
    loop {
        let notes = list_foreign(&*line.store, after.as_deref(), PAGE).await?;
        let Some((key, _)) = notes.last() else { break };
        after = Some(key.clone());
        for (_, note) in notes.into_iter().filter(|(_, note)| !note.is_seen) {
            unseen += 1;
            last = Some(note);
        }
    }
    match last {
        None => findings.ok("foreign messages", "none that nobody has seen to"),
        Some(note) => findings.failed(
            "foreign messages",
            format!(
                "{unseen} on the topics were passed over, one of them as message {} of {}, partition {}: {}",
                note.message, note.topic, note.partition, note.why
            ),
            "see `autonomos quarantine foreign`, allow nobody else to write to the topics, then say `autonomos quarantine \
             foreign --seen`",
        ),
    }
    findings.ok("readers of the log", format!("{} times one stood still and was replaced", oddities.stalls()));
    Ok(())
}

/// No reader may be further than what it reads.
pub(super) async fn checkpoints(line: &Line, findings: &mut Findings) -> anyhow::Result<()> {
    let mut ends = HashMap::new();
    let mut rows = Vec::new();
    loop {
        let after = rows.last().map(|(key, _): &(String, pipeline::Row)| key.as_str());
        let page = line.store.scan(TenantId::SYSTEM, Table::Checkpoints, "", after, PAGE).await?;
        if page.is_empty() {
            break;
        }
        rows.extend(page);
    }
    // After the checkpoints: meanwhile both only grow.
    for topic in Topic::ALL {
        for partition in 0..line.log.partitions(topic) {
            ends.insert(format!("{topic}/{partition}/"), line.log.end(topic, partition).await?);
        }
    }
    let mut wrong = Vec::new();
    for (key, row) in &rows {
        // What stands behind the partition is the reader's, whatever it has.
        let end = key.match_indices('/').nth(1).and_then(|(at, _)| ends.get(&key[..=at]));
        // The offset stands last, whether or not an epoch stands before it.
        match (row.value.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes)), end) {
            (Some(at), Some(end)) if at <= *end => {}
            (Some(at), Some(end)) => wrong.push(format!("{key} stands at {at}, the log ends at {end}")),
            (None, _) => wrong.push(format!("{key} cannot be read")),
            (Some(_), None) => wrong.push(format!("{key} is of a partition that is not there")),
        }
    }
    findings.all("checkpoints", &wrong, format!("{} readers, none beyond its log", rows.len()), FROM_BACKUP);
    Ok(())
}
