//! JSON messages on the three topics: the text is as it was, and a text that was written reads back.

use schemas::decision::Fact;
use schemas::event::ViewControl;
use schemas::input::{Command, DefinitionHash, DefinitionKind};
use schemas::reason::Reason;
use schemas::shape::TypeClass;
use schemas::{Decision, Input, Lane, Position};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{assert_golden, stream};

/// One message a line.
fn assert_lines<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, messages: &[T]) {
    let lines: Vec<_> = messages.iter().map(|m| serde_json::to_string(m).unwrap()).collect();
    assert_golden(name, &lines.join("\n"));
    let read: Vec<T> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(read, messages);
}

pub(crate) fn facts() -> Vec<Fact> {
    let quarantined = |field: Option<&str>| Fact::RecordQuarantined {
        reason: Reason::CastFailed,
        stage: Reason::CastFailed.stage(),
        field: field.map(str::to_owned),
        detail: "\"lots\" is not a decimal number".into(),
        lane: Lane(5),
        lane_ordinal: 9,
    };
    vec![
        Fact::ShapeObserved {
            path: "emails[].value".into(),
            class: TypeClass::Text,
            fingerprint: "00000000000000000000000000000abc".into(),
        },
        quarantined(Some("amount")),
        quarantined(None),
        Fact::MappingActivated {
            version: 2,
            entity: "opportunity".parse().unwrap(),
            mapping: DefinitionHash::of("mapping"),
            entity_definition: DefinitionHash::of("entity"),
            by: "ada".into(),
            text: None,
        },
        Fact::CommandApplied { id: "c-1".into() },
        Fact::CommandRefused { id: "c-2".into(), reason: "the stream feeds opportunity for ever".into() },
    ]
}

#[test]
fn decisions_are_written_as_they_always_were() {
    let decision = |(ordinal, fact)| Decision { input_offset: 41, ordinal, fact };
    assert_lines("decisions_v1.ndjson", &(0..).zip(facts()).map(decision).collect::<Vec<_>>());
}

#[test]
fn view_controls_are_written_as_they_always_were() {
    let input = Position { epoch: 1, partition: 3, offset: 41 };
    let defined =
        ViewControl::EntityDefined { hash: DefinitionHash::of("entity"), text: "{\"entity\":\"x\"}".into(), input };
    assert_lines("view_controls_v1.ndjson", &[defined, ViewControl::Progress { input }]);
}

#[test]
fn inputs_are_written_as_they_always_were() {
    let (mapping, entity_definition) = (DefinitionHash::of("mapping"), DefinitionHash::of("entity"));
    let inputs = [
        Input::Definition { hash: mapping.clone(), kind: DefinitionKind::Mapping, text: "mapping".into() },
        Input::Definition { hash: entity_definition.clone(), kind: DefinitionKind::Entity, text: "entity".into() },
        Input::StreamOpened {
            stream: stream(),
            entity: "opportunity".parse().unwrap(),
            mapping: mapping.clone(),
            entity_definition: entity_definition.clone(),
        },
        Input::Command {
            id: "c-1".into(),
            command: Command::ActivateMapping { mapping, entity_definition, by: "ada".into(), force: false },
        },
        Input::TimePassed { id: "t-1".into() },
    ];
    assert_lines("inputs_v1.ndjson", &inputs);
}
