//! The envelopes that others see.

use schemas::cloudevent::{CloudEvent, Found};
use schemas::event::{EventBatch, EventBatchReader, EventBatchWriter, RowKind};
use schemas::value::FieldType;
use schemas::{Decision, Position, Topic, Version};

use super::{assert_golden, messages, stream, tenant};

fn found(topic: Topic) -> Found {
    let at = Position { epoch: 1, partition: 2, offset: 7 };
    Found { tenant: tenant(), topic, at, logged_at: 1_700_000_000_000_000 }
}

#[test]
fn a_deleted_row_has_the_envelope_that_it_always_had() {
    let shared = EventBatch {
        connection: "crm".parse().unwrap(),
        stream: "opportunity".parse().unwrap(),
        input_epoch: 1,
        input_partition: 3,
        logged_at: 1_700_000_000_000_000,
        mapping_version: 2,
        confidence: 1000,
    };
    let mut writer = EventBatchWriter::new(&shared, 0);
    writer.push(RowKind::Deleted, 42, 0, 42, "006", &Version::Integer(9), 0, &[], b"");
    let body = writer.finish();
    let row = EventBatchReader::new(&body).unwrap().next_row().unwrap().unwrap();
    let fields = [("opportunity_id".into(), FieldType::Text)];
    let event = CloudEvent::of_row(found(Topic::Events), &"opportunity".parse().unwrap(), &shared, &row, &fields);
    assert_golden("record_deleted_v1.json", &serde_json::to_string_pretty(&event.unwrap()).unwrap());
}

#[test]
fn every_decision_has_the_envelope_that_it_always_had() {
    let events: Vec<_> = (0..)
        .zip(messages::facts())
        .map(|(ordinal, fact)| {
            let decision = Decision { input_offset: 41, ordinal, fact };
            CloudEvent::of_decision(found(Topic::Decisions), &stream(), &decision)
        })
        .collect();
    assert_golden("decision_events_v1.json", &serde_json::to_string_pretty(&events).unwrap());
}
