use matcher::Matcher;
use matcher::cases::{CasesError, Kind, answer};
use serde_json::{Value, json};

fn ask(kind: Kind, file: &str) -> Result<Value, CasesError> {
    let mut out = Vec::new();
    answer(kind, &Matcher::default(), file.as_bytes(), &mut out)?;
    Ok(serde_json::from_slice(&out).expect("answers are JSON"))
}

fn crm() -> Value {
    json!({
        "canonical": {"contact": [
            {"field": "email", "type": "string", "description": "Primary e-mail address", "sample_values": ["a@b.com"]},
            {"field": "last_name", "type": "string"}
        ]},
        "cases": [
            {"case_id": "z", "source_system": "s", "source_entity": "people", "canonical_entity": "contact",
             "source_field": "EmailAddress", "source_type": "string", "sample_values": ["x@y.org", null]},
            {"case_id": "a", "source_system": "s", "source_entity": "people", "canonical_entity": "contact",
             "source_field": "lastname", "source_type": "string", "sample_values": []}
        ]
    })
}

fn drift() -> Value {
    json!({"cases": [{
        "case_id": "D-1", "entity": "order",
        "before": [{"name": "total", "type": "number", "samples": [1.5], "null_rate": 0}],
        "after": [{"name": "total_amount", "type": "number", "samples": [2.5], "null_rate": 0}],
        "queries": [{"query_id": "D-1/total", "removed": "total"}]
    }]})
}

#[test]
fn answers_keep_the_order_of_the_file_and_targets_come_from_it() {
    let answers = ask(Kind::Crm, &crm().to_string()).expect("cases");
    let ids: Vec<&String> = answers.as_object().expect("an object").keys().collect();
    assert_eq!(ids, ["z", "a"]);
    assert_eq!(answers["z"][0]["field"], "email");
    assert_eq!(answers["a"][0]["field"], "last_name");
}

#[test]
fn drift_is_answered_by_question_and_by_change() {
    let answers = ask(Kind::Drift, &drift().to_string()).expect("cases");
    assert_eq!(answers["D-1/total"][0]["field"], "total_amount");
    let answers = ask(Kind::DriftOperations, &drift().to_string()).expect("cases");
    assert_eq!((&answers["D-1"][0]["op"], &answers["D-1"][0]["to"]), (&json!("rename"), &json!("total_amount")));
}

#[test]
fn null_stands_only_where_there_is_no_candidate() {
    let mut file = drift();
    file["cases"][0]["after"] = json!([]);
    let answers = ask(Kind::Drift, &file.to_string()).expect("cases");
    assert_eq!(answers["D-1/total"][0]["field"], Value::Null);
}

#[test]
fn the_gold_answers_are_not_looked_at() {
    let mut file = drift();
    file["cases"][0]["queries"][0]["gold"] = json!("nonsense");
    file["cases"][0]["gold"] = json!({"ops": "nonsense"});
    assert_eq!(
        ask(Kind::Drift, &file.to_string()).expect("cases"),
        ask(Kind::Drift, &drift().to_string()).expect("cases")
    );
}

#[test]
fn a_mistake_in_the_file_is_named_with_its_place() {
    let message = |kind, file: &str| ask(kind, file).expect_err("a mistake").to_string();
    let broken = ask(Kind::Crm, "{\"cases\": [").expect_err("a mistake");
    assert!(std::error::Error::source(&broken).expect("a cause").to_string().contains("line 1"));
    assert_eq!(message(Kind::Drift, "{}"), "cases: a list is wanted, and nothing is there");
    assert_eq!(message(Kind::Drift, "[]"), "cases: a list is wanted, and nothing is there");
    let mut file = drift();
    file["cases"][0]["before"][0]["name"] = json!(7);
    assert_eq!(message(Kind::Drift, &file.to_string()), "cases[0].before[0].name: a text is wanted, not this number");
    file = drift();
    file["cases"][0]["after"][0]["null_rate"] = json!(40);
    assert!(message(Kind::Drift, &file.to_string()).starts_with("cases[0].after[0].null_rate: a number from 0 to 1"));
    file = drift();
    file["cases"][0]["queries"][0]["removed"] = json!("gone");
    assert!(message(Kind::Drift, &file.to_string()).starts_with("cases[0].queries[0]: the field \"gone\""));
    file = crm();
    file["cases"][1]["case_id"] = json!("z");
    assert_eq!(message(Kind::Crm, &file.to_string()), "cases[1]: the id \"z\" stands in the file twice");
    file = crm();
    file["cases"][0]["canonical_entity"] = json!("ship");
    assert_eq!(message(Kind::Crm, &file.to_string()), "cases[0]: the file's `canonical` has no entity \"ship\"");
}

#[test]
fn a_file_with_a_mistake_at_its_end_gets_no_answer_at_all() {
    let mut file = drift();
    file["cases"].as_array_mut().expect("a list").push(json!({"case_id": "D-2"}));
    let mut out = Vec::new();
    let read = answer(Kind::Drift, &Matcher::default(), file.to_string().as_bytes(), &mut out);
    assert!(read.is_err() && out.is_empty());
}

#[test]
fn a_file_with_a_case_that_is_too_large_gets_no_answer_not_half_of_one() {
    let fields = |name: &str| (0..2_100).map(|n| json!({"name": format!("{name}{n}")})).collect::<Vec<_>>();
    let mut file = drift();
    let large = json!({"case_id": "D-2", "before": fields("a"), "after": fields("b")});
    file["cases"].as_array_mut().expect("a list").push(large);
    for kind in [Kind::Drift, Kind::DriftOperations] {
        let mut out = Vec::new();
        let error = answer(kind, &Matcher::default(), file.to_string().as_bytes(), &mut out).expect_err("too large");
        assert_eq!(String::from_utf8_lossy(&out), "");
        assert!(error.to_string().contains("match fewer at a time"), "{error}");
    }
}
