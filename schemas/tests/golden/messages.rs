//! JSON messages on the three topics: the text is as it was, and a text that was written reads back.

use schemas::advice::{Asked, CallOutcome, Coverage, ModelCall};
use schemas::decision::Fact;
use schemas::drift::{Change, Decide, DriftKind, Lost, Move, Severity, Signal, Tried, Verdict};
use schemas::event::ViewControl;
use schemas::input::{Command, DeclaredField, DefinitionHash, DefinitionKind};
use schemas::mapping::{Repairs, Rule};
use schemas::policy::{DecisionClass, Policy};
use schemas::reason::Reason;
use schemas::settle::{Action, Settle, Settled, Which};
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
            why: None,
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

fn a_move() -> Move {
    Move {
        from: "Amount".into(),
        to: vec!["deal.amount".into()],
        kind: DriftKind::Nested,
        confidence: 951,
        part: None,
        change: None,
        transform: None,
        signals: vec![Signal { name: "letters".into(), strength: 812, weight: 0 }],
    }
}

#[test]
fn what_is_decided_of_drift_is_written_as_it_always_was() {
    let lost = |retyped| Lost {
        path: "Amount".into(),
        paths: vec!["Amount".into(), "amount".into()],
        feeds: vec!["amount".into()],
        retyped,
        change: None,
    };
    let (case, mapping_version, by, why) = (41, 2, || "ada".to_owned(), || "they told us".to_owned());
    let facts = vec![
        Fact::TimerSet { id: "hold-41".into(), at: 1_700_000_030_000_000 },
        Fact::RecordHeld { case, origin: 41 },
        Fact::DriftDetected {
            case,
            lost: vec![lost(false), lost(true)],
            added: vec!["deal.amount".into()],
            lacking: 20,
            having: 1,
            mapping_version,
            severity: None,
            again: false,
            more: 0,
        },
        Fact::RepairProposed {
            case,
            mapping_version,
            moves: vec![a_move()],
            alternatives: vec![Move { part: Some(1), signals: vec![], ..a_move() }],
            waits: Some("Amount has no counterpart".into()),
            breaks: None,
            tried: None,
        },
        Fact::RepairProposed {
            case,
            mapping_version,
            moves: vec![],
            alternatives: vec![],
            waits: None,
            breaks: None,
            tried: None,
        },
        Fact::RepairApplied { case, moves: vec![a_move()], removed: vec!["Note".into()], by: by(), why: why() },
        Fact::RepairReverted { case, into: 70, since: 60, by: by(), why: why() },
        Fact::RepairRejected { case, by: by(), why: why() },
        Fact::MappingActivated {
            version: 3,
            entity: "opportunity".parse().unwrap(),
            mapping: DefinitionHash::of("mapping"),
            entity_definition: DefinitionHash::of("entity"),
            by: "rules".into(),
            text: Some("mapping".into()),
            why: None,
        },
        Fact::RecordsReleased { case, count: 30, why: "repaired".into() },
        Fact::RecordsRedriven { case, count: 30 },
    ];
    let decision = |(ordinal, fact)| Decision { input_offset: 61, ordinal, fact };
    assert_lines("drift_decisions_v1.ndjson", &(0..).zip(facts).map(decision).collect::<Vec<_>>());
}

#[test]
fn what_is_told_of_changed_values_is_written_as_it_always_was() {
    let changes = [
        Change::Unit { shift: -2 },
        Change::Format { from: "iso".into(), to: "epoch_millis".into() },
        Change::Swapped { with: "Cost".into() },
        Change::Nulls { before: 2, now: 450 },
    ];
    let lost = |change: &Change| Lost {
        path: "Amount".into(),
        paths: vec!["Amount".into()],
        feeds: vec!["amount".into()],
        retyped: false,
        change: Some(change.clone()),
    };
    let to = |change: &Change| Move { change: Some(change.clone()), ..a_move() };
    let (case, mapping_version) = (41, 2);
    let facts = [
        Fact::DriftDetected {
            case,
            lost: changes.iter().map(lost).collect(),
            added: vec![],
            lacking: 20,
            having: 1,
            mapping_version,
            severity: Some(Severity::Breaking),
            again: false,
            more: 0,
        },
        Fact::RecordsRecalled { case, since: 30, until: 61 },
        Fact::RepairProposed {
            case,
            mapping_version,
            moves: changes.iter().map(to).collect(),
            alternatives: vec![],
            waits: None,
            breaks: None,
            tried: None,
        },
    ];
    let decision = |(ordinal, fact)| Decision { input_offset: 61, ordinal, fact };
    assert_lines("changed_values_v1.ndjson", &(0..).zip(facts).map(decision).collect::<Vec<_>>());
    let field = |path: &str, class| DeclaredField { path: path.into(), class };
    let fields = vec![field("Id", None), field("deal.amount", Some(TypeClass::Number))];
    assert_lines("declared_schema_v1.ndjson", &[Input::SchemaDeclared { fields }]);
}

#[test]
fn what_is_said_to_drift_is_written_as_it_always_was() {
    let verdicts = [
        Verdict::Approve { only: vec![] },
        Verdict::Edit { moves: vec![a_move()] },
        Verdict::Reject,
        Verdict::AcceptAsRemoved { only: vec!["Amount".into()] },
        Verdict::Revert,
        Verdict::Snooze { until: 1_700_000_030_000_000 },
    ];
    let decide = |verdict| {
        let decide = Decide {
            case: 41,
            mapping_version: 2,
            version: None,
            once_read: false,
            verdict,
            by: "ada".into(),
            why: "seen".into(),
        };
        Input::Command { id: "c-1".into(), command: Command::Decide(decide) }
    };
    let (moves, alternatives) = (vec![a_move()], vec![]);
    let id = "suggest-41-2".into();
    let (tried, asked, version) = (None, None, None);
    let suggestion = Input::Suggestion { id, case: 41, mapping_version: 2, moves, alternatives, tried, asked, version };
    let inputs: Vec<Input> = std::iter::once(suggestion).chain(verdicts.map(decide)).collect();
    assert_lines("drift_inputs_v1.ndjson", &inputs);
}

fn a_policy() -> Policy {
    Policy {
        repairs: Some(Repairs::Automatic),
        at_least: Some(950),
        model: None,
        two_persons: Some(vec![DecisionClass::Key, DecisionClass::Removed]),
        mask: Some(vec!["amount".into()]),
        remind_hours: Some(24),
        expire_hours: Some(168),
    }
}

fn a_settlement() -> Settle {
    let which = Which { offsets: vec![7], reason: Some(Reason::CastFailed), field: Some("amount".into()) };
    Settle { action: Action::Retry, which, by: "ada".into(), why: "the mapping is right now".into() }
}

fn tried() -> Option<Tried> {
    Some(Tried { records: 50, accepted: 48, quarantined: 1, held: 1 })
}

fn a_transformed_move() -> Move {
    let rule = Rule { round: true, ..Rule::default() };
    let signals = vec![Signal { name: "letters".into(), strength: 812, weight: -40 }];
    Move { transform: Some(Box::new(rule)), signals, ..a_move() }
}

#[test]
fn what_people_decide_is_written_as_it_always_was() {
    let (case, by, why) = (41, || "ada".to_owned(), || "they told us".to_owned());
    let edit = || Verdict::Edit { moves: vec![a_transformed_move()] };
    let facts = vec![
        Fact::RepairProposed {
            case,
            mapping_version: 2,
            moves: vec![],
            alternatives: vec![],
            waits: Some("Amount has no counterpart".into()),
            breaks: Some("Amount has no counterpart".into()),
            tried: tried(),
        },
        Fact::ApprovalGiven { case, verdict: edit(), class: DecisionClass::Renamed, by: by(), why: why() },
        Fact::CaseSnoozed { case, until: 1_700_000_030_000_000, by: by(), why: why() },
        Fact::CaseReminded { case },
        Fact::PolicySet { number: 3, policy: a_policy(), by: by() },
        Fact::SettlementBegun { settlement: 90, settle: a_settlement() },
        Fact::RecordDiscarded { settlement: 91, offset: 7 },
        Fact::SettlementEnded {
            settlement: 90,
            action: Action::Retry,
            settled: Settled { records: 5, accepted: 2, deleted: 1, quarantined: 1, held: 1, discarded: 0 },
        },
        Fact::MappingActivated {
            version: 4,
            entity: "opportunity".parse().unwrap(),
            mapping: DefinitionHash::of("mapping"),
            entity_definition: DefinitionHash::of("entity"),
            by: by(),
            text: None,
            why: Some(why()),
        },
    ];
    let decision = |(ordinal, fact)| Decision { input_offset: 61, ordinal, fact };
    assert_lines("deciding_decisions_v1.ndjson", &(0..).zip(facts).map(decision).collect::<Vec<_>>());
    let command = |command| Input::Command { id: "c-1".into(), command };
    let (moves, alternatives) = (vec![a_transformed_move()], vec![]);
    let inputs = [
        Input::Suggestion {
            id: "suggest-41-2".into(),
            case,
            mapping_version: 2,
            moves,
            alternatives,
            tried: tried(),
            asked: None,
            version: None,
        },
        command(Command::Decide(Decide {
            case,
            mapping_version: 2,
            version: Some(3),
            once_read: false,
            verdict: edit(),
            by: by(),
            why: why(),
        })),
        command(Command::SetPolicy { number: 3, policy: a_policy(), by: by() }),
        command(Command::Settle(a_settlement())),
        command(Command::ActivateMapping {
            mapping: DefinitionHash::of("mapping"),
            entity_definition: DefinitionHash::of("entity"),
            by: by(),
            force: false,
            made_on: Some(2),
            why: Some(why()),
            once_read: false,
        }),
        Input::Discarded { settlement: 91, offsets: vec![7, 9] },
        Input::SettlementEnded { settlement: 90 },
    ];
    assert_lines("deciding_inputs_v1.ndjson", &inputs);
}

#[test]
fn what_ends_a_recall_is_written_as_it_always_was() {
    let (verdict, by, why) = (Verdict::Approve { only: vec![] }, "ada".into(), "seen".into());
    let decide = Decide { case: 41, mapping_version: 2, version: Some(3), once_read: true, verdict, by, why };
    let command = |command| Input::Command { id: "c-1".into(), command };
    let inputs = [
        Input::RecallEnded { case: 41, at: 61, since: 30 },
        command(Command::Decide(decide)),
        command(Command::ActivateMapping {
            mapping: DefinitionHash::of("mapping"),
            entity_definition: DefinitionHash::of("entity"),
            by: "ada".into(),
            force: false,
            made_on: Some(2),
            why: None,
            once_read: true,
        }),
    ];
    assert_lines("recalled_inputs_v1.ndjson", &inputs);
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
            command: Command::ActivateMapping {
                mapping,
                entity_definition,
                by: "ada".into(),
                force: false,
                made_on: None,
                why: None,
                once_read: false,
            },
        },
        Input::TimePassed { id: "t-1".into() },
    ];
    assert_lines("inputs_v1.ndjson", &inputs);
}

#[test]
fn what_was_asked_of_a_model_is_written_as_it_always_was() {
    let coverage = Coverage { fields: 4, matched: 3, missing: vec!["Odd".into()], skipped: true, saved_micros: 2100 };
    let call = ModelCall {
        model: "small".into(),
        outcome: CallOutcome::TimedOut,
        input_tokens: 1000,
        output_tokens: 100,
        cost_micros: 2100,
    };
    let facts = [
        Fact::RagCoverageCheck {
            case: 41,
            share: coverage.share(),
            recommendation: coverage.recommendation(),
            coverage: coverage.clone(),
        },
        Fact::ModelAsked { case: 41, call: call.clone() },
    ];
    let decision = |(ordinal, fact)| Decision { input_offset: 61, ordinal, fact };
    assert_lines("asked_decisions_v1.ndjson", &(0..).zip(facts).map(decision).collect::<Vec<_>>());
    let called = Asked { coverage: None, call: Some(ModelCall { outcome: CallOutcome::OverBudget, ..call }) };
    let asked = [(Asked { coverage: Some(coverage), call: None }, None), (called.clone(), None), (called, Some(3))];
    let suggestion = |(asked, version)| Input::Suggestion {
        id: "advise-41-1-60".into(),
        case: 41,
        mapping_version: 1,
        moves: vec![a_move()],
        alternatives: vec![],
        tried: None,
        asked: Some(asked),
        version,
    };
    assert_lines("asked_inputs_v1.ndjson", &asked.map(suggestion));
}
