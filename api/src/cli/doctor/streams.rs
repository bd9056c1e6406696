//! The streams: what the register says against the log, and whether the counters reconcile.

use std::collections::HashMap;

use pipeline::Table;
use pipeline::ingest::StreamRow;
use pipeline::step::Counters;
use schemas::TenantName;

use super::log::{Name, Seen};
use super::{FROM_BACKUP, Findings};
use crate::line::Line;

const PAGE: usize = 1000;

/// What a stream's state says it has counted.
pub(super) struct Counted {
    tenant: TenantName,
    counters: Counters,
    /// The first input that is not counted.
    pub(super) next: u64,
}

/// What each stream's state has counted, taken before the log is read.
pub(super) async fn counted(line: &Line) -> anyhow::Result<HashMap<Name, Counted>> {
    let mut all = HashMap::new();
    for (name, tenant) in line.tenants().await? {
        for (stream, state) in line.streams(tenant).await? {
            let (counters, next) = (state.counters, state.next.offset);
            all.insert((tenant, stream.to_string()), Counted { tenant: name.clone(), counters, next });
        }
    }
    Ok(all)
}

/// Every stream of the register was opened on the log, in that partition and for that entity.
pub(super) async fn register(line: &Line, seen: &Seen, findings: &mut Findings) -> anyhow::Result<()> {
    let (mut wrong, mut registered) = (Vec::new(), 0);
    for (name, tenant) in line.tenants().await? {
        let mut after: Option<String> = None;
        loop {
            let rows = line.store.scan(tenant, Table::Streams, "", after.as_deref(), PAGE).await?;
            let Some((last, _)) = rows.last() else { break };
            after = Some(last.clone());
            registered += rows.len();
            for (stream, row) in rows {
                let said = serde_json::from_slice::<StreamRow>(&row.value);
                match (said, seen.opened.get(&(tenant, stream.clone()))) {
                    (Err(error), _) => wrong.push(format!("{stream} of {name} cannot be read: {error}")),
                    (Ok(said), Some((partition, entity))) => {
                        if (said.partition, &said.entity) != (*partition, entity) {
                            wrong.push(format!(
                                "{stream} of {name} is registered in partition {} for {}, the log opened it in \
                                 {partition} for {entity}",
                                said.partition, said.entity
                            ));
                        }
                    }
                    (Ok(_), None) if seen.is_whole => {
                        wrong.push(format!("{stream} of {name} is registered, the log never opened it"));
                    }
                    (Ok(_), None) => {}
                }
            }
        }
    }
    // What the log opened and the register lacks was cut off in between; the next ingest registers it.
    findings.all("register", &wrong, format!("{registered} streams, as the log opened them"), FROM_BACKUP);
    Ok(())
}

/// In = accepted + deleted + quarantined + discarded + held + duplicate, and as many as the log holds.
pub(super) fn counters(counted: &HashMap<Name, Counted>, seen: &Seen, findings: &mut Findings) {
    let (mut wrong, mut records) = (Vec::new(), 0);
    for (key, Counted { tenant, counters: c, .. }) in counted {
        records += c.taken;
        let stream = &key.1;
        let fates = c.fates();
        if c.taken != fates {
            wrong.push(format!("{stream} of {tenant}: {} in, {fates} with a fate", c.taken));
        }
        let on_log = seen.records.get(key).copied().unwrap_or_default();
        if seen.is_whole && c.taken != on_log {
            wrong.push(format!("{stream} of {tenant}: {} in, {on_log} on the log", c.taken));
        }
    }
    let streams = counted.len();
    findings.all(
        "counters",
        &wrong,
        format!("{records} records of {streams} streams, each with one fate"),
        FROM_BACKUP,
    );
}
