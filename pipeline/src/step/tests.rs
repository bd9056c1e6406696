//! The step's behaviour, told on whole records.

use proptest::prelude::*;
use schemas::decision::Fact;
use schemas::event::{EventBatchReader, EventHash, RowKind};
use schemas::input::{Command, DefinitionHash, DefinitionKind};
use schemas::reason::Reason;
use schemas::record::{RecordBatch, RecordBatchWriter};
use schemas::{BatchKind, Decision, Entity, Input, Lane, Mapping, Op, Record, StreamId, TenantId, Value, Version};

use super::{InputBatch, Outcome, Scratch, StepError, StreamState, fold};

const ENTITY: &str = r#"{"entity":"order","table":"orders","fields":[
    {"name":"order_id","type":"text","required":true},{"name":"total","type":"decimal"},
    {"name":"chance","type":"decimal","unit":"percent"},{"name":"placed","type":"timestamp"},
    {"name":"buyer","type":"text"},{"name":"paid","type":"boolean"}]}"#;
const MAPPING: &str = r#"{"entity":"order","key":"Id","version":"Updated","deleted":{"field":"IsDeleted"},"fields":{
    "order_id":"Id","total":"Total | Amount","chance":{"from":"P","unit":"fraction"},
    "placed":{"from":"Placed","format":"epoch_seconds"},"buyer":"Buyer.Name","paid":"Paid"}}"#;

pub(super) struct Stream {
    pub(super) state: StreamState,
    scratch: Scratch,
    ordinal: u64,
}

impl Stream {
    pub(super) fn new() -> Self {
        let id = StreamId {
            tenant: TenantId::from_bytes([1; 16]),
            connection: "crm".parse().unwrap(),
            stream: "orders".parse().unwrap(),
        };
        Self { state: StreamState::new(id, 0, 1), scratch: Scratch::default(), ordinal: 0 }
    }

    pub(super) fn opened() -> Self {
        let mut stream = Self::new();
        for input in opening(MAPPING, ENTITY) {
            stream.control(&input);
        }
        stream
    }

    pub(super) fn control(&mut self, input: &Input) -> Outcome {
        self.fold(BatchKind::Control, 1, &serde_json::to_vec(input).unwrap())
    }

    pub(super) fn fold(&mut self, kind: BatchKind, count: u32, body: &[u8]) -> Outcome {
        let input = InputBatch { kind, first: self.state.next.offset, count, logged_at: 7, body };
        fold(&mut self.state, input, &mut self.scratch).unwrap()
    }

    pub(super) fn records(&mut self, payloads: &[&str]) -> Outcome {
        let batch = batch(Lane(1), self.ordinal, payloads);
        self.ordinal += payloads.len() as u64;
        self.fold(BatchKind::Records, batch.count, &batch.body)
    }
}

pub(super) fn opening(mapping: &str, entity: &str) -> [Input; 3] {
    let mapping: Mapping = serde_json::from_str(mapping).unwrap();
    let entity: Entity = serde_json::from_str(entity).unwrap();
    [
        Input::Definition { hash: mapping.hash(), kind: DefinitionKind::Mapping, text: mapping.text() },
        Input::Definition { hash: entity.hash(), kind: DefinitionKind::Entity, text: entity.text() },
        Input::StreamOpened {
            stream: Stream::new().state.stream,
            entity: entity.entity.clone(),
            mapping: mapping.hash(),
            entity_definition: entity.hash(),
        },
    ]
}

pub(super) fn batch(lane: Lane, after: u64, payloads: &[&str]) -> RecordBatch {
    let mut writer = RecordBatchWriter::new(lane, after, 0);
    for (at, payload) in payloads.iter().enumerate() {
        let ordinal = after + 1 + at as u64;
        let payload = payload.as_bytes();
        writer.push(&Record { ordinal, op: Op::Upsert, key: None, version: Version::None, defect: None, payload });
    }
    writer.finish(b"here")
}

pub(super) fn quarantined(outcome: &Outcome) -> Vec<(Reason, Option<String>)> {
    let reason = |d: &Decision| match &d.fact {
        Fact::RecordQuarantined { reason, field, .. } => Some((*reason, field.clone())),
        _ => None,
    };
    outcome.decisions.iter().filter_map(reason).collect()
}

pub(super) fn row_count(outcome: &Outcome) -> u32 {
    outcome.rows.iter().map(|(_, count)| count).sum()
}

#[test]
fn a_record_becomes_a_canonical_row_with_its_unmapped_fields_in_extras() {
    let mut stream = Stream::opened();
    let outcome = stream.records(&[
        r#"{"Id":"007","Amount":0,"P":0.75,"Placed":1700000000,"Buyer":{"Name":"Zoë","Age":3},"Paid":"no","Updated":"2024-01-01","x":[1]}"#,
    ]);
    let [(body, count)] = &outcome.rows[..] else { panic!("one batch of rows") };
    assert_eq!(*count, 1);
    let mut reader = EventBatchReader::new(body).unwrap();
    let row = reader.next_row().unwrap().unwrap();
    assert_eq!((row.kind, row.key, row.input_offset), (RowKind::Accepted, "007", 3));
    assert_eq!(row.version, Version::Time(1_704_067_200_000_000));
    let mut values = row.values.clone();
    let expected = [
        Value::Text("007"),
        Value::Decimal(0),
        Value::Decimal(750_000),
        Value::Timestamp(1_700_000_000_000_000),
        Value::Text("Zoë"),
        Value::Boolean(false),
    ];
    for value in expected {
        assert_eq!(values.next_value(), Ok(value));
    }
    assert_eq!(row.extras, r#"{"Buyer":{"Age":3},"Updated":"2024-01-01","x":[1]}"#);
}

#[test]
fn an_alternative_that_was_not_chosen_is_kept_in_extras() {
    let mut stream = Stream::opened();
    let outcome = stream.records(&[r#"{"Id":"1","Total":5,"Amount":6,"Updated":"2024-01-01"}"#]);
    let row = EventBatchReader::new(&outcome.rows[0].0).unwrap().next_row().unwrap().unwrap();
    assert_eq!(row.extras, r#"{"Updated":"2024-01-01","Amount":6}"#);
}

#[test]
fn what_cannot_be_a_row_is_quarantined_with_its_reason_and_the_rest_goes_on() {
    let mut stream = Stream::opened();
    let cases = [
        (r#"{"Id":"1""#, Reason::MalformedJson, None),
        ("[]", Reason::NotAnObject, None),
        (r#"{"Updated":"2024-01-01"}"#, Reason::KeyMissing, Some("Id")),
        (r#"{"Id":{},"Updated":"2024-01-01"}"#, Reason::KeyUnreadable, Some("Id")),
        (r#"{"Id":"1"}"#, Reason::VersionMissing, Some("Updated")),
        (r#"{"Id":"1","Updated":"soon"}"#, Reason::VersionUnreadable, Some("Updated")),
        (r#"{"Id":"1","Updated":"2024-01-01","Total":"lots"}"#, Reason::CastFailed, Some("total")),
        (r#"{"Id":"1","Updated":"2024-01-01","Total":1.23456}"#, Reason::CastFailed, Some("total")),
        (r#"{"Id":"1","Updated":"2024-01-01","Buyer":{"Name":[1]}}"#, Reason::CastFailed, Some("buyer")),
        (r#"{"Id":"1","Updated":"2024-01-01","IsDeleted":"perhaps"}"#, Reason::DeletedUnreadable, Some("IsDeleted")),
        (r#"{"Id":"1","Id":"2"}"#, Reason::DuplicateField, None),
    ];
    for (payload, reason, field) in cases {
        let outcome = stream.records(&[payload, r#"{"Id":"9","Updated":"2024-01-01"}"#]);
        assert_eq!(quarantined(&outcome), [(reason, field.map(str::to_owned))], "{payload}");
        assert_eq!(row_count(&outcome), 1, "{payload}");
    }
    let counters = stream.state.counters;
    assert_eq!(counters.taken, counters.accepted + counters.deleted + counters.quarantined + counters.duplicate);
    assert_eq!(counters.quarantined, cases.len() as u64);
}

#[test]
fn a_required_field_may_not_be_missing_and_others_are_counted() {
    let mapping = MAPPING.replace(r#""key":"Id","#, r#""key":"Key","#);
    let mut stream = Stream::new();
    opening(&mapping, ENTITY).iter().for_each(|input| _ = stream.control(input));
    let outcome = stream
        .records(&[r#"{"Key":1,"Id":"","Updated":"2024-01-01"}"#, r#"{"Key":1,"Id":"a","Updated":"2024-01-01"}"#]);
    assert_eq!(quarantined(&outcome), [(Reason::RequiredMissing, Some("order_id".to_owned()))]);
    let snapshot = stream.state.snapshot();
    let state = StreamState::from_snapshot(&snapshot).unwrap();
    assert_eq!(state.missing["total"], 1);
}

#[test]
fn deletes_need_only_their_key() {
    let mut stream = Stream::opened();
    let outcome = stream.records(&[
        r#"{"Id":"1","Updated":"2024-01-01","IsDeleted":true,"Total":"lots"}"#,
        r#"{"Id":"2","Updated":"2024-01-01","IsDeleted":"2024-05-05T00:00:00Z"}"#,
        r#"{"Id":"3","Updated":"2024-01-01","IsDeleted":null}"#,
    ]);
    assert_eq!(stream.state.counters.deleted, 2);
    assert_eq!(row_count(&outcome), 3);
}

#[test]
fn records_at_or_below_their_lanes_ordinal_are_counted_duplicates() {
    let mut stream = Stream::opened();
    let payloads = [r#"{"Id":"1","Updated":"2024-01-01"}"#, r#"{"Id":"2","Updated":"2024-01-01"}"#];
    stream.records(&payloads);
    stream.ordinal = 0;
    let outcome = stream.records(&payloads);
    assert!(outcome.rows.is_empty());
    assert_eq!(stream.state.counters.duplicate, 2);
    let other = batch(Lane(2), 0, &payloads);
    let outcome = stream.fold(BatchKind::Records, other.count, &other.body);
    assert_eq!(row_count(&outcome), 2, "another lane is another reading");
}

#[test]
fn records_of_a_stream_that_nobody_opened_are_quarantined() {
    let outcome = Stream::new().records(&[r#"{"Id":"1"}"#]);
    assert_eq!(quarantined(&outcome), [(Reason::StreamNotOpened, None)]);
}

fn activate(stream: &mut Stream, mapping: &str, entity: &str) -> Vec<&'static str> {
    let id = format!("c-{}", stream.state.next.offset);
    activate_as(stream, &id, mapping, entity, false)
}

fn activate_as(stream: &mut Stream, id: &str, mapping: &str, entity: &str, force: bool) -> Vec<&'static str> {
    let [m, e, Input::StreamOpened { mapping, entity_definition, .. }] = opening(mapping, entity) else {
        unreachable!()
    };
    stream.control(&m);
    stream.control(&e);
    let (by, made_on, why, once_read) = ("test".into(), None, None, false);
    let command = Command::ActivateMapping { mapping, entity_definition, by, force, made_on, why, once_read };
    let facts = stream.control(&Input::Command { id: id.into(), command }).decisions;
    facts.into_iter().map(|d| d.fact.type_name()).collect()
}

#[test]
fn an_open_stream_keeps_its_key_and_the_type_of_its_versions() {
    let mut stream = Stream::opened();
    let versionless = MAPPING.replace(r#""version":"Updated""#, r#""version":"none""#);
    let integers = MAPPING.replace(r#""version":"Updated""#, r#""version":"Updated","version_type":"integer""#);
    let other_key = MAPPING.replace(r#""key":"Id""#, r#""key":"Number""#);
    let renamed_key = MAPPING.replace(r#""key":"Id""#, r#""key":"Number | Id""#);
    assert_eq!(activate(&mut stream, &integers, ENTITY), ["MappingActivated", "CommandApplied"], "before any record");
    assert_eq!(activate(&mut stream, MAPPING, ENTITY), ["MappingActivated", "CommandApplied"]);
    stream.records(&[r#"{"Id":"1","Updated":"2024-01-01"}"#]);
    for refused in [&versionless, &integers, &other_key] {
        assert_eq!(activate(&mut stream, refused, ENTITY), ["CommandRefused"], "{refused}");
    }
    assert_eq!(activate(&mut stream, &renamed_key, ENTITY), ["MappingActivated", "CommandApplied"]);
    assert_eq!(activate(&mut stream, MAPPING, ENTITY), ["MappingActivated", "CommandApplied"]);
    let forced = activate_as(&mut stream, "forced", &other_key, ENTITY, true);
    assert_eq!(forced, ["MappingActivated", "CommandApplied"]);
    let forced = activate_as(&mut stream, "forced too", &versionless, ENTITY, true);
    assert_eq!(forced, ["CommandRefused"], "no force makes versions of two types comparable");
}

#[test]
fn a_stream_that_is_opened_again_has_the_mapping_that_was_asked_for_last() {
    let mut stream = Stream::opened();
    let corrected = MAPPING.replace("Total | Amount", "Amount");
    let facts: Vec<_> = opening(&corrected, ENTITY).iter().flat_map(|input| stream.control(input).decisions).collect();
    assert_eq!(facts.iter().map(|d| d.fact.type_name()).collect::<Vec<_>>(), ["MappingActivated"]);
    assert!(opening(&corrected, ENTITY).iter().all(|input| stream.control(input).decisions.is_empty()));
}

#[test]
fn a_command_that_comes_again_is_ignored_and_going_back_is_a_command_of_its_own() {
    let mut stream = Stream::opened();
    let other = MAPPING.replace("Total | Amount", "Amount");
    assert_eq!(activate_as(&mut stream, "1", &other, ENTITY, false), ["MappingActivated", "CommandApplied"]);
    assert_eq!(activate_as(&mut stream, "2", MAPPING, ENTITY, false), ["MappingActivated", "CommandApplied"]);
    assert!(activate_as(&mut stream, "1", &other, ENTITY, false).is_empty());
    let snapshot = stream.state.snapshot();
    stream.state = StreamState::from_snapshot(&snapshot).unwrap();
    assert!(activate_as(&mut stream, "1", &other, ENTITY, false).is_empty(), "a restart forgets none");
    assert_eq!(activate_as(&mut stream, &"x".repeat(300), MAPPING, ENTITY, false), ["CommandRefused"]);
}

#[test]
fn a_definition_that_is_not_the_text_of_its_name_is_of_no_use() {
    let mut stream = Stream::new();
    let [mut mapping, entity, opened] = opening(MAPPING, ENTITY);
    if let Input::Definition { text, .. } = &mut mapping {
        text.push(' ');
    }
    let facts: Vec<_> = [mapping, entity, opened].iter().flat_map(|i| stream.control(i).decisions).collect();
    assert_eq!(facts.iter().map(|d| d.fact.type_name()).collect::<Vec<_>>(), ["CommandRefused"]);
}

#[test]
fn definitions_that_nobody_uses_are_bounded() {
    let mut stream = Stream::new();
    for n in 0..10 {
        let text = format!("{n}{}", "x".repeat(400 << 10));
        stream.control(&Input::Definition { hash: DefinitionHash::of(&text), kind: DefinitionKind::Entity, text });
    }
    assert!(stream.state.snapshot().len() < 2 << 20);
}

#[test]
fn what_a_source_gives_itself_is_bounded_too() {
    let mut stream = Stream::opened();
    let payload = r#"{"Id":"1","Updated":"2024-01-01"}"#.as_bytes();
    let (long, large) = ("k".repeat(5000), vec![b' '; (16 << 20) + 1]);
    let text = |text: &str| Version::Text(text.into());
    let given = [
        (Some(&*long), Version::None, payload, Reason::KeyUnreadable),
        (Some("k"), text(&long), payload, Reason::VersionUnreadable),
        (Some("k"), Version::None, &large, Reason::RecordTooLarge),
    ];
    for (ordinal, (key, version, payload, reason)) in (1..).zip(given) {
        let mut writer = RecordBatchWriter::new(Lane(9), ordinal - 1, 0);
        writer.push(&Record { ordinal, op: Op::Upsert, key, version, defect: None, payload });
        let outcome = stream.fold(BatchKind::Records, 1, &writer.finish(b"").body);
        assert_eq!(quarantined(&outcome), [(reason, None)]);
    }
}

#[test]
fn a_batch_whose_count_is_wrong_stops_the_partition() {
    let stream = Stream::opened();
    let batch = batch(Lane(1), 0, &[r#"{"Id":"1","Updated":"2024-01-01"}"#; 3]);
    for count in [2, 4] {
        let input = InputBatch { kind: BatchKind::Records, first: 3, count, logged_at: 7, body: &batch.body };
        let refused = fold(&mut stream.state.clone(), input, &mut Scratch::default());
        assert!(matches!(refused, Err(StepError::Malformed { offset: 3, .. })), "{refused:?}");
    }
}

#[test]
fn absent_fields_are_counted_for_accepted_records_only() {
    let mut stream = Stream::opened();
    stream.records(&[
        r#"{"Id":"1","Updated":"2024-01-01","Paid":"perhaps"}"#,
        r#"{"Id":"2","Updated":"2024-01-01","Paid":"yes"}"#,
    ]);
    let state = StreamState::from_snapshot(&stream.state.snapshot()).unwrap();
    assert_eq!(state.missing["total"], 1);
}

#[test]
fn extras_hold_each_unused_alternative_once_and_where_it_stood() {
    let mapping = r#"{"entity":"order","key":"Id","version":"Updated","fields":{
        "order_id":"Id","total":"A.Total | B.Total | Sum","chance":"Sum | B.Total","buyer":"Buyer.Name | Name"}}"#;
    let mut stream = Stream::new();
    opening(mapping, ENTITY).iter().for_each(|input| _ = stream.control(input));
    let payload = r#"{"Id":"1","Updated":"2024-01-01","A":{"Total":1,"x":0},"B":{"y":{},"Total":2},"Sum":3,
        "Name":"n","Buyer":{"Name":"b"}}"#;
    let outcome = stream.records(&[payload]);
    let row = EventBatchReader::new(&outcome.rows[0].0).unwrap().next_row().unwrap().unwrap();
    let expected = r#"{"Updated":"2024-01-01","A":{"x":0},"B":{"y":{},"Total":2},"Name":"n"}"#;
    assert_eq!(row.extras, expected);
}

#[test]
fn a_mapping_is_activated_once_and_another_entity_is_refused() {
    let mut stream = Stream::opened();
    assert_eq!(activate(&mut stream, MAPPING, ENTITY), ["CommandApplied"], "nothing changed");
    let added = ENTITY.replace(r#""type":"boolean"}"#, r#""type":"boolean"},{"name":"note","type":"text"}"#);
    assert_eq!(activate(&mut stream, MAPPING, &added), ["MappingActivated", "CommandApplied"]);
    assert_eq!(stream.state.mapping().unwrap().1, 2);
    let (other_mapping, other_entity) =
        (MAPPING.replace("\"order\"", "\"bill\""), ENTITY.replace("\"order\"", "\"bill\""));
    assert_eq!(activate(&mut stream, &other_mapping, &other_entity), ["CommandRefused"]);
    assert_eq!(stream.state.entity().unwrap().entity.as_str(), "order");
}

#[test]
fn a_new_type_is_observed_once() {
    let mut stream = Stream::opened();
    let shapes = |outcome: Outcome| {
        let path = |d: Decision| match d.fact {
            Fact::ShapeObserved { path, .. } => Some(path),
            _ => None,
        };
        outcome.decisions.into_iter().filter_map(path).collect::<Vec<_>>()
    };
    assert_eq!(shapes(stream.records(&[r#"{"Id":"1","Updated":"2024-01-01"}"#])), ["Id", "Updated"]);
    assert!(shapes(stream.records(&[r#"{"Updated":"2024-01-01","Id":"2"}"#])).is_empty());
    assert_eq!(shapes(stream.records(&[r#"{"Id":3,"Updated":"2024-01-01"}"#])), ["Id"]);
}

proptest! {
    #[test]
    fn the_same_inputs_give_the_same_events_whatever_the_batching_and_wherever_it_stops(
        picks in proptest::collection::vec(0usize..8, 1..60), cuts in proptest::collection::vec(1usize..9, 1..20),
    ) {
        let payloads = [
            r#"{"Id":"1","Updated":"2024-01-01","Total":1.5}"#, r#"{"Id":"2","Updated":"2024-01-02","x":{"y":1}}"#,
            r#"{"Id":"1","Updated":"2023-01-01","IsDeleted":true}"#, "nonsense", r#"{"Id":3,"Updated":"2024-01-01","x":"t"}"#,
            r#"{"Id":"4"}"#, r#"{"Updated":"2024-01-01","Id":"5","Buyer":{"Name":"n\u00e9","z":[{}]}}"#, r#"{}"#,
        ];
        let all: Vec<&str> = picks.iter().map(|p| payloads[*p]).collect();
        let run = |pieces: &[&[&str]], restart: bool| {
            let mut stream = Stream::opened();
            let (mut hash, mut decisions) = (EventHash::default(), Vec::new());
            for piece in pieces {
                let outcome = stream.records(piece);
                for (body, _) in &outcome.rows {
                    let mut reader = EventBatchReader::new(body).unwrap();
                    let shared = reader.shared.clone();
                    while let Some(row) = reader.next_row().unwrap() {
                        hash.extend(&shared, &row);
                    }
                }
                decisions.extend(outcome.decisions);
                if restart {
                    let snapshot = stream.state.snapshot();
                    stream.state = StreamState::from_snapshot(&snapshot).unwrap();
                }
            }
            (hash, decisions, stream.state.snapshot())
        };
        let whole = run(&[&all], false);
        let mut pieces = Vec::new();
        let (mut rest, mut cut) = (&all[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, left) = rest.split_at((*cut.next().unwrap()).min(rest.len()));
            pieces.push(piece);
            rest = left;
        }
        prop_assert_eq!(&run(&pieces, false), &whole);
        prop_assert_eq!(&run(&pieces, true), &whole);
    }
}
