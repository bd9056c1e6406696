//! Opening streams: with a mapping, or with another one from here on.

use std::time::Duration;

use schemas::input::{Command, DefinitionKind};
use schemas::{Entity, EntityName, Input, Mapping, StreamId, Topic};

use super::register::{StreamRow, announcement, read_row};
use super::{Ingest, IngestError, OPENING, OpenStream};
use crate::definitions::{self, DefinitionError};
use crate::policies;
use crate::process::read_snapshot;
use crate::step::{DEFINITION_BYTES_MAX, check_change};
use crate::store::{Expect, Table};

/// How often an opener tries that always loses to another; some ten seconds in all.
const OPEN_ATTEMPTS: u32 = 24;

impl Ingest {
    /// Opens a stream with a mapping, or puts another mapping in force. `entity` brings new definitions; without it the
    /// tenant's own or the shipped one is used. `by` says who wants it. An open stream keeps its entity, its key and the
    /// type of its versions.
    pub async fn open(
        &self,
        stream: &StreamId,
        mapping: &Mapping,
        entity: Option<&Entity>,
        by: &str,
    ) -> Result<OpenStream, IngestError> {
        Ok(self.open_asking(stream, mapping, entity, by).await?.0)
    }

    /// The same; beside it the id of the command by which an open stream was asked to use this mapping, if it was: its outcome
    /// tells whether it does.
    pub async fn open_asking(
        &self,
        stream: &StreamId,
        mapping: &Mapping,
        entity: Option<&Entity>,
        by: &str,
    ) -> Result<(OpenStream, Option<String>), IngestError> {
        self.open_with(stream, mapping, entity, by, false).await
    }

    /// The same, and the key may change: every row of the stream then stands twice until the old ones are deleted.
    pub async fn open_forced(
        &self,
        stream: &StreamId,
        mapping: &Mapping,
        entity: Option<&Entity>,
        by: &str,
    ) -> Result<OpenStream, IngestError> {
        Ok(self.open_with(stream, mapping, entity, by, true).await?.0)
    }

    async fn open_with(
        &self,
        stream: &StreamId,
        mapping: &Mapping,
        entity: Option<&Entity>,
        by: &str,
        force: bool,
    ) -> Result<(OpenStream, Option<String>), IngestError> {
        let entity = match entity {
            Some(entity) => definitions::define_entity(&*self.store, stream.tenant, entity).await?,
            None => self.known_entity(stream, &mapping.entity).await?,
        };
        mapping.validate(&entity)?;
        if mapping.text().len() > DEFINITION_BYTES_MAX {
            return Err(IngestError::MappingTooLong);
        }
        let _turn = self.opening[(stream.hash() % OPENING as u64) as usize].lock().await;
        for attempt in 0..OPEN_ATTEMPTS {
            if let Some(opened) = self.try_open(stream, mapping, &entity, by, force).await? {
                return Ok(opened);
            }
            tokio::time::sleep(pause(attempt)).await;
        }
        Err(IngestError::Contended { stream: stream.clone() })
    }

    /// Nothing when somebody else opened the stream meanwhile: whose mapping came last must also be announced last.
    async fn try_open(
        &self,
        stream: &StreamId,
        mapping: &Mapping,
        entity: &Entity,
        by: &str,
        force: bool,
    ) -> Result<Option<(OpenStream, Option<String>)>, IngestError> {
        let row = self.store.get(stream.tenant, Table::Streams, &stream.to_string()).await?;
        let known = row.as_ref().map(|row| read_row(stream, row)).transpose()?;
        let partition = match &known {
            Some(known) => known.partition,
            None => (stream.hash() % u64::from(self.log.partitions(Topic::Inputs))) as u32,
        };
        let open = OpenStream { id: stream.clone(), partition };
        let mut wanted = StreamRow {
            partition,
            entity: entity.entity.clone(),
            mapping: mapping.clone(),
            entity_definition: entity.clone(),
            announced: true,
            former: known.as_ref().map(StreamRow::as_former),
        };
        if let Some(known) = &known {
            if known.asks_the_same(&wanted) {
                return Ok(Some((open, None)));
            }
            self.check(stream, known, &wanted, force).await?;
        }
        wanted.announced = false;
        let expect = row.map_or(Expect::Absent, |r| Expect::Version(r.version));
        let Some(version) = self.register(&open, &wanted, expect).await? else { return Ok(None) };
        self.announce(&open, &wanted, known.is_none(), by, version, force).await?;
        wanted.announced = true;
        let asked = known.map(|_| announcement(version));
        Ok(self.register(&open, &wanted, Expect::Version(version)).await?.map(|_| (open, asked)))
    }

    /// Refuses what the step would refuse, as far as the last state that was written tells: nothing is said on the log then.
    /// Before a stream's first record everything but its entity may change. What came since then the step alone knows, such as
    /// that records are looked at again for a case.
    async fn check(
        &self,
        stream: &StreamId,
        known: &StreamRow,
        wanted: &StreamRow,
        force: bool,
    ) -> Result<(), IngestError> {
        if known.entity != wanted.entity {
            let (opened, asked) = (known.entity.clone(), wanted.entity.clone());
            return Err(IngestError::OtherEntity { stream: stream.clone(), opened, asked });
        }
        let state = read_snapshot(&*self.store, stream).await.map_err(|e| {
            let message = e.to_string();
            IngestError::Unreadable { stream: stream.clone(), message }
        })?;
        let Some(state) = state else { return Ok(()) };
        // What was not said to its end is in force if the state says so.
        let before = state.mapping().filter(|_| !known.announced).map_or(&known.mapping, |(in_force, _)| in_force);
        let is_fit = match state.counters.taken {
            0 => Ok(()),
            _ => check_change(before, &wanted.mapping, force),
        };
        let checked = is_fit
            .and_then(|()| state.check_undecided(&wanted.mapping))
            .and_then(|()| state.check_read(&wanted.mapping))
            .and_then(|()| state.check_watched(&wanted.mapping));
        checked.map_err(|source| IngestError::Change { stream: stream.clone(), source })
    }

    /// Has an open stream use another mapping from here on, as a person wants it; answers the offset behind the command,
    /// whose outcome tells whether it does. The register is left alone: whoever opens the stream with the mapping that it
    /// was opened with before leaves in force what is in force.
    pub async fn set_mapping(
        &self,
        open: &OpenStream,
        mapping: &Mapping,
        id: &str,
        made_on: Option<u32>,
        (by, why): (&str, &str),
    ) -> Result<u64, IngestError> {
        let entity = self.known_entity(&open.id, &mapping.entity).await?;
        mapping.validate(&entity)?;
        let text = mapping.text();
        if text.len() > DEFINITION_BYTES_MAX {
            return Err(IngestError::MappingTooLong);
        }
        let command = Command::ActivateMapping {
            mapping: mapping.hash(),
            entity_definition: entity.hash(),
            by: by.to_owned(),
            force: false,
            made_on,
            why: (!why.is_empty()).then(|| why.to_owned()),
            once_read: true,
        };
        let inputs = [
            Input::Definition { hash: mapping.hash(), kind: DefinitionKind::Mapping, text },
            Input::Definition { hash: entity.hash(), kind: DefinitionKind::Entity, text: entity.text() },
            Input::Command { id: id.to_owned(), command },
        ];
        Ok(self.send(open, &inputs).await?)
    }

    async fn known_entity(&self, stream: &StreamId, name: &EntityName) -> Result<Entity, IngestError> {
        if let Some(entity) = definitions::entity(&*self.store, stream.tenant, name).await? {
            definitions::claim_table(&*self.store, stream.tenant, &entity).await?;
            return Ok(entity);
        }
        let shipped = schemas::ontology::shipped_entities();
        let known = shipped.iter().map(|e| e.entity.as_str()).collect::<Vec<_>>().join(", ");
        Err(DefinitionError::Unknown(name.clone(), known).into())
    }

    /// Puts the definitions, then the opening or the command, on the log. `version` is the register's, which no other
    /// announcement of the stream has.
    async fn announce(
        &self,
        open: &OpenStream,
        row: &StreamRow,
        first: bool,
        by: &str,
        version: u64,
        force: bool,
    ) -> Result<(), IngestError> {
        let (mapping, entity_definition) = (row.mapping.hash(), row.entity_definition.hash());
        let last = if first {
            let entity = row.entity.clone();
            Input::StreamOpened {
                stream: open.id.clone(),
                entity,
                mapping: mapping.clone(),
                entity_definition: entity_definition.clone(),
            }
        } else {
            let command = Command::ActivateMapping {
                mapping: mapping.clone(),
                entity_definition: entity_definition.clone(),
                by: by.to_owned(),
                force,
                made_on: None,
                why: None,
                // The register says by now that it is in force: of a refusal it is told by the repairer.
                once_read: true,
            };
            Input::Command { id: announcement(version), command }
        };
        let inputs = [
            Input::Definition { hash: mapping, kind: DefinitionKind::Mapping, text: row.mapping.text() },
            Input::Definition {
                hash: entity_definition,
                kind: DefinitionKind::Entity,
                text: row.entity_definition.text(),
            },
            last,
        ];
        // Read behind the register's row: whoever changes a policy meanwhile finds the stream there.
        let policies = policies::read(&*self.store, open.id.tenant).await?;
        let policy = (policies.number > 0).then(|| policies::input(&policies, &open.id.connection));
        self.send(open, &inputs.into_iter().chain(policy).collect::<Vec<_>>()).await?;
        Ok(())
    }
}

/// How long an opener that lost to another steps aside: at random, and longer each time. Two that came back at once would
/// undo each other's work for ever, and fill the log with it.
fn pause(attempt: u32) -> Duration {
    Duration::from_micros(fastrand::u64(0..1000 << attempt.min(10)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::log::Log;
    use crate::process::read_state;
    use crate::step::MappingChange;
    use crate::store::Store;
    use crate::testing::{ENTITY, Fuse, Fused, Line, MAPPING, TENANT, parse, record, stream};

    fn with_total(from: &str) -> (Mapping, Entity) {
        parse(&MAPPING.replace("\"Total\"", &format!("\"{from}\"")), ENTITY)
    }

    async fn register(line: &Line) -> StreamRow {
        let row = line.store.get(TENANT, Table::Streams, "crm/orders").await.unwrap().unwrap();
        serde_json::from_slice(&row.value).unwrap()
    }

    async fn in_force(line: &Line) -> Mapping {
        line.process().await;
        let state = read_state(&*line.store, &stream("orders")).await.unwrap().unwrap();
        state.mapping().unwrap().0.clone()
    }

    /// A line with so many orders, whose total has another name from the 50th on; two persons may have to decide.
    async fn renamed(count: usize, needs_two_persons: bool) -> Line {
        let line = Line::new();
        let open = line.open("orders", MAPPING, ENTITY).await;
        if needs_two_persons {
            let policy = serde_json::from_str(r#"{"two_persons":["all"]}"#).unwrap();
            let command = Command::SetPolicy { number: 1, policy, by: "root".into() };
            line.ingest().send(&open, &[Input::Command { id: "p".into(), command }]).await.unwrap();
        }
        let payload = |id: usize, name: &str| format!(r#"{{"Id":"{id}","Updated":"2024-01-01T00:00:00Z","{name}":1}}"#);
        let all: Vec<String> = (0..count).map(|id| payload(id, if id < 50 { "Total" } else { "zq" })).collect();
        line.append(&open, 1, 0, &all.iter().map(String::as_str).collect::<Vec<_>>()).await;
        line.process().await;
        line
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn wherever_an_opener_dies_the_next_one_brings_register_and_log_together() {
        let (first, entity) = with_total("Total");
        let (second, _) = with_total("Amount");
        let (third, _) = with_total("Sum");
        for is_open in [false, true] {
            for writes in 0..6 {
                for next in [&first, &second, &third] {
                    let line = Line::new();
                    if is_open {
                        line.ingest().open(&stream("orders"), &first, Some(&entity), "test").await.unwrap();
                    }
                    let fuse = Fuse::crash(writes);
                    let log = Arc::new(Fused { fuse: fuse.clone(), inner: line.log.clone() });
                    let store = Arc::new(Fused { fuse: fuse.clone(), inner: line.store.clone() });
                    let _ = Ingest::new(log, store).open(&stream("orders"), &second, Some(&entity), "test").await;
                    line.ingest().open(&stream("orders"), next, Some(&entity), "test").await.unwrap();
                    assert!(register(&line).await.announced);
                    assert_eq!(register(&line).await.mapping, *next);
                    assert_eq!(in_force(&line).await, *next, "it died at write {writes}");
                }
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn openers_that_race_leave_one_mapping_in_register_and_log() {
        for _ in 0..20 {
            let line = Line::new();
            let open = |n: usize| {
                let (mapping, entity) = with_total(&format!("Total{n}"));
                let ingest = line.ingest();
                tokio::spawn(async move { ingest.open(&stream("orders"), &mapping, Some(&entity), "test").await })
            };
            for opened in futures::future::join_all((0..6).map(open)).await {
                opened.unwrap().unwrap();
            }
            assert_eq!(register(&line).await.mapping, in_force(&line).await);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn going_back_to_a_former_mapping_works() {
        let line = Line::new();
        for from in ["Total", "Amount", "Total", "Amount"] {
            let (mapping, entity) = with_total(from);
            line.ingest().open(&stream("orders"), &mapping, Some(&entity), "test").await.unwrap();
            assert_eq!(in_force(&line).await, mapping);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_the_step_would_refuse_is_refused_at_the_door() {
        let line = Line::new();
        let (mapping, entity) = parse(MAPPING, ENTITY);
        let open = line.open("orders", MAPPING, ENTITY).await;
        line.append(&open, 1, 0, &[&record(1)]).await;
        line.process().await;
        let end = line.log.end(Topic::Inputs, 0).await.unwrap();
        let (id, ingest) = (stream("orders"), line.ingest());
        let (bad_version, _) = parse(&MAPPING.replace("\"Updated\"", "\"none\""), ENTITY);
        let (bad_key, _) = parse(&MAPPING.replace("\"key\":\"Id\"", "\"key\":\"Number\""), ENTITY);
        for bad in [&bad_version, &bad_key] {
            let refused = ingest.open(&id, bad, Some(&entity), "test").await;
            assert!(matches!(refused, Err(IngestError::Change { .. })), "{refused:?}");
        }
        assert_eq!(register(&line).await.mapping, mapping);
        assert_eq!(line.log.end(Topic::Inputs, 0).await.unwrap(), end, "nothing was said on the log");
        assert!(ingest.open_forced(&id, &bad_version, Some(&entity), "test").await.is_err());
        ingest.open_forced(&id, &bad_key, Some(&entity), "test").await.unwrap();
        assert_eq!(in_force(&line).await, bad_key);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_two_people_would_decide_is_refused_at_the_door_too() {
        let line = renamed(80, true).await;
        let (other, entity) = with_total("zq");
        let refused = line.ingest().open(&stream("orders"), &other, Some(&entity), "test").await;
        let is_undecided = matches!(refused, Err(IngestError::Change { source: MappingChange::Undecided { .. }, .. }));
        assert!(is_undecided, "{refused:?}");
        assert_eq!(register(&line).await.mapping, with_total("Total").0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_may_become_a_case_for_two_people_is_refused_at_the_door_before_it_opens() {
        let line = renamed(53, true).await;
        let (other, entity) = with_total("zq");
        let refused = line.ingest().open(&stream("orders"), &other, Some(&entity), "test").await;
        let is_watched = matches!(refused, Err(IngestError::Change { source: MappingChange::Watched { .. }, .. }));
        assert!(is_watched, "{refused:?}");
        assert_eq!(register(&line).await.mapping, with_total("Total").0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_mapping_that_may_end_a_case_for_which_records_are_still_read_is_refused_at_the_door_too() {
        let line = renamed(80, false).await;
        let row = line.store.get(TENANT, Table::StreamStates, "crm/orders").await.unwrap().unwrap();
        let mut state: serde_json::Value = serde_json::from_slice(&row.value).unwrap();
        for (_, case) in state["drift"]["cases"].as_object_mut().unwrap() {
            case["reading"] = serde_json::json!([[60, 0]]);
        }
        let value = bytes::Bytes::from(serde_json::to_vec(&state).unwrap());
        line.store.put(TENANT, Table::StreamStates, "crm/orders", value, Expect::Any).await.unwrap();
        let (other, entity) = with_total("zq");
        let refused = line.ingest().open(&stream("orders"), &other, Some(&entity), "test").await;
        let is_read = matches!(refused, Err(IngestError::Change { source: MappingChange::StillRead { .. }, .. }));
        assert!(is_read, "{refused:?}");
        assert_eq!(register(&line).await.mapping, with_total("Total").0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_the_step_refused_is_taken_back_and_announced_again_by_who_asks_for_it_and_nothing_later_is() {
        let line = Line::new();
        let open = line.open("orders", MAPPING, ENTITY).await;
        let ((former, _), (other, entity), ingest) = (parse(MAPPING, ENTITY), with_total("Amount"), line.ingest());
        let asked =
            async |what: &Mapping| ingest.open_asking(&stream("orders"), what, Some(&entity), "test").await.unwrap().1;
        let first = asked(&other).await.unwrap();
        assert_eq!(asked(&other).await, None, "it was announced");
        ingest.refused(&open, "of somebody else").await.unwrap();
        assert_eq!(register(&line).await.mapping, other);
        ingest.refused(&open, &first).await.unwrap();
        let row = register(&line).await;
        assert_eq!((row.mapping, row.announced), (former.clone(), true));
        assert_eq!(asked(&former).await, None, "what is in force instead of it stays in force");
        let second = asked(&other).await.unwrap();
        assert_ne!(first, second);
        ingest.refused(&open, &first).await.unwrap();
        let row = register(&line).await;
        assert_eq!((row.mapping, row.announced), (other.clone(), true));
        assert_eq!(in_force(&line).await, other);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_register_that_cannot_be_read_is_an_error() {
        let line = Line::new();
        line.open("orders", MAPPING, ENTITY).await;
        let value = bytes::Bytes::from_static(b"{");
        line.store.put(TENANT, Table::Streams, "crm/orders", value, Expect::Any).await.unwrap();
        let (mapping, entity) = parse(MAPPING, ENTITY);
        let refused = line.ingest().open(&stream("orders"), &mapping, Some(&entity), "test").await;
        assert!(matches!(refused, Err(IngestError::Unreadable { .. })));
    }
}
