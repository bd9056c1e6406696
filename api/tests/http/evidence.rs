//! What a person sees of a case before deciding it, over HTTP.

use serde_json::{Value, json};

use crate::cases::{cases, count, doubtful, push_text, until};
use crate::house::{House, Person};

fn path_of(case: &Value) -> String {
    format!("/api/v1/aam/cases/{}", case["case"].as_str().unwrap())
}

fn shown(person: &Person, case: &Value) -> Value {
    let answer = person.get(&path_of(case));
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// Ten deals whose amount has the new name and is no number.
pub fn push_unreadable(person: &Person) {
    let deal = |id: usize| {
        format!(r#"{{"Id":"{id}","Name":"Deal","Bla":"lots","LastModifiedDate":"2026-01-01T00:00:00Z"}}"#) + "\n"
    };
    push_text(person, &(500..510).map(deal).collect::<String>());
}

#[test]
fn a_case_shows_real_rows_weighed_signals_alternatives_and_whom_it_concerns() {
    let house = House::open();
    let (admin, case) = doubtful(&house);
    let asked = admin.post("/api/v1/query", &json!({"sql": "select sum(amount) from opportunities"}));
    assert_eq!(asked.status, 200, "{}", asked.text);
    let evidence = shown(&admin, &case)["evidence"].clone();
    let diff = evidence["schema_diff"].as_array().unwrap();
    let seen =
        |records: u64, present: u64, types: &[&str]| json!({"records": records, "present": present, "types": types});
    assert_eq!(
        (&diff[0]["path"], &diff[0]["change"], &diff[0]["feeds"]),
        (&json!("Amount"), &json!("lost"), &json!(["amount"]))
    );
    assert_eq!((&diff[0]["before"], &diff[0]["held"]), (&seen(100, 100, &["number"]), &seen(50, 0, &[])));
    assert_eq!((&diff[1]["path"], &diff[1]["change"]), (&json!("Bla"), &json!("added")));
    assert_eq!((&diff[1]["before"], &diff[1]["held"]), (&seen(100, 0, &[]), &seen(50, 50, &["number"])));
    let last = evidence["before"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["key"], &last["source"]["Amount"]), (&json!("99"), &json!(793.5)));
    assert_eq!(last["fields"], json!({"amount": "793.5000"}));
    let alternatives = evidence["alternatives"].as_array().unwrap();
    let place = alternatives.iter().position(|a| a["to"]["to"] == json!(["Bla"])).unwrap();
    let signals = alternatives[place]["to"]["signals"].as_array().unwrap();
    let weights: Vec<f64> = signals.iter().map(|s| s["weight"].as_f64().unwrap().abs()).collect();
    assert!(weights[0] > 0.0 && weights.is_sorted_by(|a, b| a >= b), "{signals:?}");
    let held = evidence["held"].as_array().unwrap().last().unwrap();
    assert_eq!(held["source"], json!({"Bla": 1143.5}));
    assert_eq!(held["mapped"][place], json!({"outcome": "accepted", "fields": {"amount": "1143.5000"}}));
    let impact = &evidence["impact"];
    assert_eq!(impact["rows_held"], 50);
    let view = &impact["views"][0];
    assert_eq!(
        (&view["view"], &view["columns"], &view["rows"]),
        (&json!("opportunities"), &json!(["amount"]), &json!(100))
    );
    assert!(view["consumers"][0]["by"].as_str().unwrap().starts_with("user:"), "{view}");
    assert_eq!(view["consumers"][0]["statement"], "select sum(amount) from opportunities");
    let viewer = house.user(&admin, "viewer@acme.example", "viewer");
    let seen = shown(&viewer, &case)["evidence"]["impact"]["views"][0]["consumers"][0].clone();
    assert_eq!(seen["statement"], Value::Null, "what others ask is for admins");
    assert!(admin.get("/api/v1/audit").text.contains(&path_of(&case)), "who saw rows is journaled");
}

#[test]
fn a_dry_run_says_what_a_decision_would_do_and_changes_nothing() {
    let house = House::open();
    let (admin, case) = doubtful(&house);
    push_unreadable(&admin);
    let path = path_of(&case);
    let edit = json!({"decision": "edit", "moves": [{"from": "Amount", "to": ["Bla"]}]});
    let run = admin.post(&format!("{path}/dry_run"), &edit);
    assert_eq!(run.status, 200, "{}", run.text);
    let run = run.json();
    let counts = |run: &Value| ["records", "accepted", "deleted", "held"].map(|name| run[name].as_u64().unwrap());
    assert_eq!((counts(&run), &run["clean"]), ([60, 50, 0, 0], &json!(false)));
    assert_eq!(run["quarantined"], json!([{"reason": "cast_failed", "field": "amount", "count": 10}]));
    let samples = run["samples"].as_array().unwrap();
    assert!(samples.iter().any(|s| s["mapped"]["detail"].as_str().is_some_and(|d| d.contains("lots"))), "{samples:?}");
    let removed = json!({"decision": "accept_removed", "records": 7});
    let run = admin.post(&format!("{path}/dry_run"), &removed).json();
    assert_eq!((counts(&run), &run["clean"]), ([7, 7, 0, 0], &json!(true)));
    let elsewhere = json!({"decision": "edit", "moves": [{"from": "Amount", "to": ["Nowhere"]}]});
    let refused = admin.post(&format!("{path}/dry_run"), &elsewhere);
    assert!(refused.status == 409 && refused.text.contains("no record had Nowhere"), "{}", refused.text);
    let unknown = json!({"decision": "edit", "moves": [{"from": "Nothing", "to": ["Bla"]}]});
    assert_eq!(admin.post(&format!("{path}/dry_run"), &unknown).status, 409);
    assert_eq!(admin.get(&format!("{path}/dry_run?records=0")).status, 400);
    assert_eq!(house.admin("other").get(&format!("{path}/dry_run")).status, 404);
    let found = &cases(&admin, "?status=waiting")[0];
    assert_eq!((&found["held"], &found["redriven"]), (&json!(60), &json!(0)), "nothing has changed");
    let body = json!({"moves": [{"from": "Amount", "to": ["Bla"]}]});
    assert_eq!(admin.post(&format!("{path}/edit"), &body).json()["status"], "repaired");
    let aside = || admin.get("/api/v1/quarantine").json()["records"].as_array().unwrap().len();
    until("what was held has its fate, as the dry run said", || {
        (count(&admin, "amount is not null"), aside()) == (json!(150), 10)
    });
    assert_eq!(admin.post(&format!("{path}/dry_run"), &edit).problem(), "case_not_open");
}
