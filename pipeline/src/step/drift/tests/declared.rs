//! Schemas that sources declare: drift from the first record on.

use schemas::drift::Severity;
use schemas::input::DeclaredField;
use schemas::shape::TypeClass;

use super::*;

fn declare(stream: &mut Stream, names: &[&str]) -> Outcome {
    let field = |name: &&str| DeclaredField { path: (*name).to_owned(), class: None };
    stream.control(&Input::SchemaDeclared { fields: names.iter().map(field).collect() })
}

fn last_input(stream: &Stream) -> u64 {
    stream.state.next.offset - 1
}

fn decide_of(stream: &mut Stream, case: u64, id: &str, verdict: Verdict) {
    let decide = Decide {
        case,
        mapping_version: 1,
        version: None,
        once_read: false,
        verdict,
        by: "ada".into(),
        why: String::new(),
    };
    let outcome = stream.control(&Input::Command { id: id.into(), command: Command::Decide(decide) });
    assert_eq!(names(&outcome), ["RepairApplied", "RecordsReleased", "CommandApplied"]);
}

const ALL: [&str; 4] = ["Id", "Total", "Note", "Buyer.Name"];

fn declaring(records: usize) -> Stream {
    let mut stream = stream();
    assert!(names(&declare(&mut stream, &ALL)).is_empty(), "the first schema is none that changed");
    feed(&mut stream, &(0..records).map(|id| with(id, "Total")).collect::<Vec<_>>());
    stream
}

#[test]
fn a_column_that_is_gone_from_the_schema_opens_a_case_at_the_first_record() {
    let mut stream = declaring(3);
    assert!(names(&declare(&mut stream, &["Id", "Amount", "Note", "Buyer.Name"])).is_empty(), "no record, no case");
    let payloads: Vec<String> = (3..40).map(|id| with(id, "Amount")).collect();
    let first = feed(&mut stream, &payloads[..1]);
    assert_eq!((names(&first), held(&first).len()), (vec!["TimerSet", "DriftDetected"], 1));
    let rest = feed(&mut stream, &payloads[1..]);
    assert_eq!(held(&rest).len(), 36);
    assert_eq!(names(&rest), ["DriftDetected"], "told again once twenty records say more of it");
    let case = only_case(&stream);
    suggest(&mut stream, "s", vec![renamed("Total", "Amount", 950)]);
    let offsets: Vec<u64> = held(&first).into_iter().chain(held(&rest)).collect();
    assert_eq!(totals(&redrive(&mut stream, case, &offsets, &payloads)).iter().flatten().count(), 37);
    assert!(names(&declare(&mut stream, &ALL)).is_empty(), "the old schema again is no drift: both paths are read");
    assert!(held(&feed(&mut stream, &[with(50, "Total")])).is_empty());
    reconciles(&stream);
}

#[test]
fn an_added_column_is_told_and_nothing_is_held_for_it() {
    let mut stream = declaring(3);
    declare(&mut stream, &["Id", "Total", "Note", "Buyer.Name", r"of\ no\ use", r"a\.b"]);
    let seen = last_input(&stream);
    decide_of(&mut stream, seen, "n", Verdict::Approve { only: vec![] });
    let outcome =
        declare(&mut stream, &["Id", "Total", "Note", "Buyer.Name", r"of\ no\ use", r"a\.b", "Region", "Phone"]);
    let told = outcome.decisions.iter().find_map(|d| match &d.fact {
        Fact::DriftDetected { lost, added, severity, .. } => Some((lost.len(), added.clone(), *severity)),
        _ => None,
    });
    let added = vec!["Region".to_owned(), "Phone".to_owned()];
    assert_eq!(told, Some((0, added, Some(Severity::Info))));
    assert!(held(&feed(&mut stream, &[with(9, "Total").replacen('{', r#"{"Region":"EU","#, 1)])).is_empty());
    let more = declare(&mut stream, &["Id", "Total", "Note", "Buyer.Name", "Region", "Fax"]);
    assert_eq!(names(&more), ["DriftDetected"], "joins the case");
    assert!(names(&declare(&mut stream, &["Id", "Total", "Note", "Buyer.Name", "Region", "Phone"])).is_empty());
}

#[test]
fn a_declared_column_that_no_rule_reads_is_told_once_when_it_goes() {
    let mut stream = stream();
    let (long, short) = (["Id", "Total", "Note", "Buyer.Name", "Region"], ALL);
    declare(&mut stream, &long);
    feed(&mut stream, &[with(0, "Total")]);
    let outcome = declare(&mut stream, &short);
    let told = outcome.decisions.iter().find_map(|d| match &d.fact {
        Fact::DriftDetected { lost, added, severity, .. } => Some((lost.clone(), added.clone(), *severity)),
        _ => None,
    });
    let (lost, added, severity) = told.unwrap();
    assert_eq!((lost.len(), &*lost[0].path, lost[0].feeds.len(), lost[0].kind()), (1, "Region", 0, DriftKind::Removed));
    assert_eq!((added.len(), severity), (0, Some(Severity::Info)));
    assert!(held(&feed(&mut stream, &[with(1, "Total")])).is_empty(), "nothing is held for it");
    assert_eq!(stream.state.drift().waiting().count(), 0, "and nothing is proposed");
    for schema in [&long[..], &short[..], &long[..], &short[..]] {
        assert!(names(&declare(&mut stream, schema)).is_empty(), "one that comes and goes is told once");
    }
    let case = last_input(&stream) - 5;
    decide_of(&mut stream, case, "n", Verdict::Approve { only: vec![] });
    assert!(names(&declare(&mut stream, &long)).is_empty());
    let renamed = declare(&mut stream, &["Id", "Total", "Note", "Buyer.Name", "Area"]);
    assert_eq!(names(&renamed), ["DriftDetected"], "{renamed:?}");
}

#[test]
fn of_many_declared_columns_that_came_some_are_named_and_the_rest_is_counted() {
    let mut stream = declaring(3);
    let many: Vec<String> = (0..250).map(|n| format!("new_{n}")).collect();
    let all: Vec<&str> = ALL.into_iter().chain(many.iter().map(String::as_str)).collect();
    let outcome = declare(&mut stream, &all);
    let told = outcome.decisions.iter().find_map(|d| match &d.fact {
        Fact::DriftDetected { added, more, .. } => Some((added.len(), *more)),
        _ => None,
    });
    assert_eq!(told, Some((200, 50)));
}

#[test]
fn a_declared_type_that_changes_is_held_from_the_first_record() {
    let mut stream = stream();
    let schema = |class| {
        let field = |path: &str, class| DeclaredField { path: path.to_owned(), class: Some(class) };
        let rest = ["Id", "Note", "Buyer.Name"].map(|path| field(path, TypeClass::Text));
        Input::SchemaDeclared { fields: rest.into_iter().chain([field("Total", class)]).collect() }
    };
    stream.control(&schema(TypeClass::Number));
    feed(&mut stream, &[with(0, "Total"), with(1, "Total")]);
    stream.control(&schema(TypeClass::Text));
    let texts: Vec<String> = (2..4).map(|id| with(id, "Total").replace(&format!("{id}.5"), "\"x\"")).collect();
    let outcome = feed(&mut stream, &texts);
    assert_eq!((names(&outcome), held(&outcome).len()), (vec!["TimerSet", "DriftDetected"], 2));
    assert!(stream.state.drift().lost(only_case(&stream), stream.state.shape())[0].retyped);
}

#[test]
fn files_of_two_headers_that_take_turns_make_one_case_and_none_after_it_was_accepted() {
    let mut stream = declaring(30);
    let without = |id: usize| format!(r#"{{"Id":"{id}","Note":"n","Buyer":{{"Name":"b"}}}}"#);
    let short = ["Id", "Note", "Buyer.Name"];
    let (mut told, mut kept) = (Vec::new(), Vec::new());
    for turn in 0..20 {
        let (schema, payload) =
            if turn % 2 == 0 { (&short[..], without(turn)) } else { (&ALL[..], with(turn, "Total")) };
        told.extend(names(&declare(&mut stream, schema)));
        let outcome = feed(&mut stream, &[payload]);
        told.extend(names(&outcome));
        kept.extend(held(&outcome));
    }
    assert_eq!((told, kept.len()), (vec!["TimerSet", "DriftDetected"], 10));
    let case = only_case(&stream);
    decide(&mut stream, "c", Verdict::AcceptAsRemoved { only: vec![] });
    redrive(&mut stream, case, &kept, &(0..10).map(without).collect::<Vec<_>>());
    for turn in 0..20 {
        let (schema, payload) =
            if turn % 2 == 0 { (&short[..], without(turn)) } else { (&ALL[..], with(turn, "Total")) };
        assert!(names(&declare(&mut stream, schema)).is_empty());
        assert!(names(&feed(&mut stream, &[payload])).is_empty());
    }
    reconciles(&stream);
}

#[test]
fn a_schema_says_nothing_of_what_lies_within_a_column_that_it_does_not_take_apart() {
    let mut stream = stream();
    declare(&mut stream, &["Id", "Total", "Note", "Buyer"]);
    feed(&mut stream, &[with(0, "Total")]);
    declare(&mut stream, &["Buyer", "Note", "Total", "Id"]);
    assert!(held(&feed(&mut stream, &[with(1, "Total")])).is_empty());
}

#[test]
fn a_suggestion_does_not_overrule_a_rejection() {
    let mut stream = declaring(3);
    declare(&mut stream, &["Id", "Amount", "Note", "Buyer.Name"]);
    feed(&mut stream, &[with(3, "Amount")]);
    suggest(&mut stream, "s", vec![renamed("Total", "Amount", 500)]);
    decide(&mut stream, "c", Verdict::Reject);
    assert_eq!(names(&suggest(&mut stream, "t", vec![renamed("Total", "Amount", 990)])), ["RepairProposed"]);
}

#[test]
fn many_columns_that_come_and_go_are_told_once_whether_they_are_named_or_not() {
    let mut stream = declaring(3);
    let many: Vec<String> = (0..1_500).map(|n| format!("new_{n}")).collect();
    let all: Vec<&str> = ALL.into_iter().chain(many.iter().map(String::as_str)).collect();
    assert_eq!(names(&declare(&mut stream, &all)), ["DriftDetected"]);
    let case = last_input(&stream);
    for schema in [&ALL[..], &all[..], &ALL[..], &all[..]] {
        assert!(names(&declare(&mut stream, schema)).is_empty());
        let snapshot = stream.state.snapshot();
        stream.state = crate::step::StreamState::from_snapshot(&snapshot).unwrap();
    }
    decide_of(&mut stream, case, "n", Verdict::Approve { only: vec![] });
    for schema in [&ALL[..], &all[..], &ALL[..], &all[..]] {
        assert!(names(&declare(&mut stream, schema)).is_empty(), "nor once it was seen");
    }
}

#[test]
fn a_column_that_an_earlier_release_had_told_is_not_told_again() {
    let mut stream = declaring(3);
    let mut snapshot: serde_json::Value = serde_json::from_slice(&stream.state.snapshot()).unwrap();
    snapshot["drift"]["told_gone"] = serde_json::json!(["Region"]);
    stream.state = crate::step::StreamState::from_snapshot(snapshot.to_string().as_bytes()).unwrap();
    assert!(names(&declare(&mut stream, &["Id", "Total", "Note", "Buyer.Name", "Region"])).is_empty());
    assert!(names(&declare(&mut stream, &ALL)).is_empty());
}
