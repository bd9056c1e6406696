//! The step's behaviour, told on whole records.

use proptest::prelude::*;
use schemas::decision::Fact;
use schemas::event::{EventBatchReader, EventHash, RowKind};
use schemas::input::{Command, DefinitionKind};
use schemas::reason::Reason;
use schemas::record::{RecordBatch, RecordBatchWriter};
use schemas::{BatchKind, Decision, Entity, Input, Lane, Mapping, Op, Record, StreamId, TenantId, Value, Version};

use super::{InputBatch, Outcome, Scratch, StreamState, fold};

const ENTITY: &str = r#"{"entity":"order","table":"orders","fields":[
    {"name":"order_id","type":"text","required":true},{"name":"total","type":"decimal"},
    {"name":"chance","type":"decimal","unit":"percent"},{"name":"placed","type":"timestamp"},
    {"name":"buyer","type":"text"},{"name":"paid","type":"boolean"}]}"#;
const MAPPING: &str = r#"{"entity":"order","key":"Id","version":"Updated","deleted":{"field":"IsDeleted"},"fields":{
    "order_id":"Id","total":"Total | Amount","chance":{"from":"P","unit":"fraction"},
    "placed":{"from":"Placed","format":"epoch_seconds"},"buyer":"Buyer.Name","paid":"Paid"}}"#;

struct Stream {
    state: StreamState,
    scratch: Scratch,
    ordinal: u64,
}

impl Stream {
    fn new() -> Self {
        let id = StreamId {
            tenant: TenantId::from_bytes([1; 16]),
            connection: "crm".parse().unwrap(),
            stream: "orders".parse().unwrap(),
        };
        Self { state: StreamState::new(id, 0, 1), scratch: Scratch::default(), ordinal: 0 }
    }

    fn opened() -> Self {
        let mut stream = Self::new();
        for input in opening(MAPPING, ENTITY) {
            stream.control(&input);
        }
        stream
    }

    fn control(&mut self, input: &Input) -> Outcome {
        self.fold(BatchKind::Control, 1, &serde_json::to_vec(input).unwrap())
    }

    fn fold(&mut self, kind: BatchKind, count: u32, body: &[u8]) -> Outcome {
        let input = InputBatch { kind, first: self.state.next.offset, count, logged_at: 7, body };
        fold(&mut self.state, input, &mut self.scratch).unwrap()
    }

    fn records(&mut self, payloads: &[&str]) -> Outcome {
        let batch = batch(Lane(1), self.ordinal, payloads);
        self.ordinal += payloads.len() as u64;
        self.fold(BatchKind::Records, batch.count, &batch.body)
    }
}

fn opening(mapping: &str, entity: &str) -> [Input; 3] {
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

fn batch(lane: Lane, after: u64, payloads: &[&str]) -> RecordBatch {
    let mut writer = RecordBatchWriter::new(lane, after, 0);
    for (at, payload) in payloads.iter().enumerate() {
        let ordinal = after + 1 + at as u64;
        let payload = payload.as_bytes();
        writer.push(&Record { ordinal, op: Op::Upsert, key: None, version: Version::None, defect: None, payload });
    }
    writer.finish(b"here")
}

fn quarantined(outcome: &Outcome) -> Vec<(Reason, Option<String>)> {
    let reason = |d: &Decision| match &d.fact {
        Fact::RecordQuarantined { reason, field, .. } => Some((*reason, field.clone())),
        _ => None,
    };
    outcome.decisions.iter().filter_map(reason).collect()
}

#[test]
fn a_record_becomes_a_canonical_row_with_its_unmapped_fields_in_extras() {
    let mut stream = Stream::opened();
    let outcome = stream.records(&[
        r#"{"Id":"007","Amount":0,"P":0.75,"Placed":1700000000,"Buyer":{"Name":"Zoë","Age":3},"Paid":"no","Updated":"2024-01-01","x":[1]}"#,
    ]);
    let (body, count) = outcome.rows.unwrap();
    assert_eq!(count, 1);
    let mut reader = EventBatchReader::new(&body).unwrap();
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
    let (body, _) = outcome.rows.unwrap();
    let row = EventBatchReader::new(&body).unwrap().next_row().unwrap().unwrap();
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
        assert_eq!(outcome.rows.map(|(_, count)| count), Some(1), "{payload}");
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
    assert_eq!(outcome.rows.map(|(_, count)| count), Some(3));
}

#[test]
fn records_at_or_below_their_lanes_ordinal_are_counted_duplicates() {
    let mut stream = Stream::opened();
    let payloads = [r#"{"Id":"1","Updated":"2024-01-01"}"#, r#"{"Id":"2","Updated":"2024-01-01"}"#];
    stream.records(&payloads);
    stream.ordinal = 0;
    let outcome = stream.records(&payloads);
    assert!(outcome.rows.is_none());
    assert_eq!(stream.state.counters.duplicate, 2);
    let other = batch(Lane(2), 0, &payloads);
    let outcome = stream.fold(BatchKind::Records, other.count, &other.body);
    assert_eq!(outcome.rows.map(|(_, count)| count), Some(2), "another lane is another reading");
}

#[test]
fn records_of_a_stream_that_nobody_opened_are_quarantined() {
    let outcome = Stream::new().records(&[r#"{"Id":"1"}"#]);
    assert_eq!(quarantined(&outcome), [(Reason::StreamNotOpened, None)]);
}

#[test]
fn a_mapping_is_activated_once_and_another_entity_is_refused() {
    let mut stream = Stream::opened();
    let activate = |stream: &mut Stream, mapping: &str, entity: &str| {
        let [m, e, Input::StreamOpened { mapping, entity_definition, .. }] = opening(mapping, entity) else {
            unreachable!()
        };
        stream.control(&m);
        stream.control(&e);
        let command = Command::ActivateMapping { mapping, entity_definition, by: "test".into() };
        let facts = stream.control(&Input::Command { id: "c".into(), command }).decisions;
        facts.into_iter().map(|d| d.fact.type_name()).collect::<Vec<_>>()
    };
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
                if let Some((body, _)) = &outcome.rows {
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
