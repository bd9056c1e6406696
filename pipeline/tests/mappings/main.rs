//! The shipped mappings, run through the real step on documents in the shapes in which the systems give them.

mod dynamics;
mod filesource;
mod hubspot;
mod mongodb;
mod pipedrive;
mod readme;
mod salesforce;
mod supabase;
mod zendesk;

use std::collections::BTreeSet;

use pipeline::step::{InputBatch, Scratch, StreamState, fold};
use schemas::cloudevent::json_value;
use schemas::decision::Fact;
use schemas::event::{EventBatchReader, RowKind};
use schemas::input::DefinitionKind;
use schemas::record::RecordBatchWriter;
use schemas::shape::{ShapeTree, Walker};
use schemas::{BatchKind, Entity, Input, Lane, Mapping, Op, Record, StreamId, TenantId, Version};
use schemas::{ontology, shipped_mapping, shipped_systems};
use serde_json::{Map, Value as Json};

/// What the step made of one record.
#[derive(Debug)]
struct Row {
    kind: RowKind,
    key: String,
    version: Version,
    /// The canonical fields that are not null.
    fields: Map<String, Json>,
    extras: Json,
}

/// A stream with the mapping that ships.
fn shipped(system: &str, stream: &str) -> (Mapping, Entity) {
    let file = shipped_mapping(system).unwrap();
    let mapping = file.stream(&stream.parse().unwrap()).unwrap_or_else(|| panic!("{system} has no {stream}")).clone();
    let entity = ontology::shipped_entity(&mapping.entity).unwrap();
    (mapping, entity)
}

/// Opens a stream with the mapping and folds one record.
fn row_of(mapping: &Mapping, entity: &Entity, document: &str) -> Row {
    let (connection, stream) = ("crm".parse().unwrap(), "some".parse().unwrap());
    let stream = StreamId { tenant: TenantId::from_bytes([1; 16]), connection, stream };
    let mut state = StreamState::new(stream.clone(), 0, 1);
    let (m, e) = (mapping.hash(), entity.hash());
    for input in [
        Input::Definition { hash: m.clone(), kind: DefinitionKind::Mapping, text: mapping.text() },
        Input::Definition { hash: e.clone(), kind: DefinitionKind::Entity, text: entity.text() },
        Input::StreamOpened { stream, entity: entity.entity.clone(), mapping: m, entity_definition: e },
    ] {
        let body = serde_json::to_vec(&input).unwrap();
        let input =
            InputBatch { kind: BatchKind::Control, first: state.next.offset, count: 1, logged_at: 0, body: &body };
        fold(&mut state, input, &mut Scratch::default()).unwrap();
    }
    let mut writer = RecordBatchWriter::new(Lane(1), 0, 0);
    // A stream without a key of its own gets one from the source.
    let key = mapping.key.is_empty().then_some("given");
    let (version, payload) = (Version::None, document.as_bytes());
    writer.push(&Record { ordinal: 1, op: Op::Upsert, key, version, defect: None, payload });
    let batch = writer.finish(b"");
    let first = state.next.offset;
    let input = InputBatch { kind: BatchKind::Records, first, count: 1, logged_at: 0, body: &batch.body };
    let outcome = fold(&mut state, input, &mut Scratch::default()).unwrap();
    let refused: Vec<_> =
        outcome.decisions.iter().filter(|d| matches!(d.fact, Fact::RecordQuarantined { .. })).collect();
    assert!(refused.is_empty(), "{document}: {refused:?}");
    let (body, _) = outcome.rows.into_iter().next().expect("the record gives a row");
    let row = EventBatchReader::new(&body).unwrap().next_row().unwrap().unwrap();
    let mut values = row.values.clone();
    let mut fields = Map::new();
    for field in &entity.fields {
        let value = json_value(values.next_value().unwrap(), field.field_type());
        if !value.is_null() {
            fields.insert(field.name.to_string(), value);
        }
    }
    // The walk refuses a name that stands twice.
    Walker::default().walk(&mut ShapeTree::default(), if row.extras.is_empty() { "{}" } else { row.extras }).unwrap();
    let extras = if row.extras.is_empty() { Json::Null } else { serde_json::from_str(row.extras).unwrap() };
    Row { kind: row.kind, key: row.key.to_owned(), version: row.version.clone(), fields, extras }
}

/// A record of a file of cells: every value a text, an empty cell null.
fn flat(header: &str, cells: &str) -> String {
    let cell = |text: &str| if text.is_empty() { Json::Null } else { text.into() };
    let members: Map<String, Json> = header.split(',').map(str::to_owned).zip(cells.split(',').map(cell)).collect();
    assert_eq!(members.len(), cells.split(',').count(), "{header}");
    serde_json::to_string(&members).unwrap()
}

/// The row that a shipped mapping makes of a document.
fn row(system: &str, stream: &str, document: &str) -> Row {
    let (mapping, entity) = shipped(system, stream);
    row_of(&mapping, &entity, document)
}

/// Documents of one stream, each with the canonical fields that it must give, no more and no fewer. Together they fill
/// every field that the mapping names, so that no rule is untested.
fn assert_rows(system: &str, stream: &str, cases: &[(&str, Json)]) {
    let (mapping, entity) = shipped(system, stream);
    let mut filled = BTreeSet::new();
    for (document, expected) in cases {
        let row = row_of(&mapping, &entity, document);
        assert_eq!(row.kind, RowKind::Accepted);
        assert_eq!(&Json::Object(row.fields.clone()), expected, "{system}/{stream}");
        assert_eq!(row.version == Version::None, mapping.version.is_none(), "{system}/{stream}");
        filled.extend(row.fields.into_iter().map(|(name, _)| name));
    }
    let named: BTreeSet<_> = mapping.fields.keys().map(ToString::to_string).collect();
    assert_eq!(filled, named, "{system}/{stream}");
}

fn assert_deleted(system: &str, stream: &str, document: &str) {
    assert_eq!(row(system, stream, document).kind, RowKind::Deleted, "{document}");
}

#[test]
fn every_shipped_stream_has_a_test_here() {
    let tested = [
        ("dynamics", include_str!("dynamics.rs")),
        ("filesource", include_str!("filesource.rs")),
        ("hubspot", include_str!("hubspot.rs")),
        ("mongodb", include_str!("mongodb.rs")),
        ("pipedrive", include_str!("pipedrive.rs")),
        ("salesforce", include_str!("salesforce.rs")),
        ("supabase", include_str!("supabase.rs")),
        ("zendesk", include_str!("zendesk.rs")),
    ];
    for system in shipped_systems() {
        let (_, text) = tested.iter().find(|(name, _)| *name == system).unwrap_or_else(|| panic!("{system}"));
        let file = shipped_mapping(system).unwrap();
        for stream in file.streams.keys() {
            let words: String = text.split_whitespace().collect();
            assert!(words.contains(&format!("assert_rows(\"{system}\",\"{stream}\"")), "{system}/{stream}");
        }
    }
}
