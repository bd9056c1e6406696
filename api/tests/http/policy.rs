//! By what cases are decided, over HTTP.

use serde_json::{Value, json};

use crate::cases::{cases, count, doubtful, proposed, push, push_text, until};
use crate::house::{Answer, House, Person};

const POLICY: &str = "/api/v1/aam/policy";

fn set(person: &Person, query: &str, body: &Value) -> Answer {
    person.put(&format!("{POLICY}{query}"), "*", body)
}

/// Deals whose amount has a name that the matcher is sure of.
fn renamed(person: &Person) {
    push(person, 0..100, "Amount");
    push(person, 100..150, "DealAmount");
}

#[test]
fn a_policy_is_an_admins_and_every_change_is_journaled_with_what_was_changed() {
    let house = House::open();
    let admin = house.admin("acme");
    let first = admin.get(POLICY);
    assert_eq!((first.status, &first.json()["in_force"]), (200, &json!({})));
    let tag = first.header("etag").to_owned();
    let wanted = json!({"repairs": "automatic", "at_least": 0.95, "mask": ["amount"], "two_persons": ["key"]});
    assert_eq!(admin.send("PUT", POLICY, &[("content-type", "application/json")], b"{}").status, 428);
    let done = admin.put(POLICY, &tag, &wanted);
    assert_eq!((done.status, &done.json()["own"]), (200, &wanted), "{}", done.text);
    assert_eq!(admin.put(POLICY, &tag, &wanted).problem(), "changed_meanwhile");
    let connection = set(&admin, "?connection=crm", &json!({"repairs": "stop"})).json();
    assert_eq!(connection["own"], json!({"repairs": "stop"}));
    assert_eq!(connection["in_force"]["at_least"], 0.95, "the rest is as the tenant wants it");
    assert_eq!(admin.get(POLICY).json()["connections"], json!(["crm"]));
    for odd in [json!({"at_least": 2}), json!({"repairs": "maybe"}), json!({"expire_hours": 0}), json!({"typo": 1})] {
        assert_eq!(set(&admin, "", &odd).status, 400, "{odd}");
    }
    let editor = house.user(&admin, "editor@acme.example", "editor");
    assert_eq!((set(&editor, "", &wanted).status, editor.get(POLICY).status), (403, 200));
    assert_eq!(house.admin("other").get(POLICY).json()["in_force"], json!({}));
    let gone = admin.send("DELETE", &format!("{POLICY}?connection=crm"), &[("if-match", "*")], b"");
    assert_eq!((gone.status, &gone.json()["own"]), (200, &Value::Null), "{}", gone.text);
    let journal = admin.get("/api/v1/audit").json()["entries"].as_array().unwrap().clone();
    let details: Vec<&str> = journal.iter().filter_map(|entry| entry["detail"].as_str()).collect();
    assert_eq!(details.len(), 3, "{details:?}");
    assert!(details[0].starts_with("policy of the tenant: {} → ") && details[0].contains("950"), "{details:?}");
    assert!(details[2].contains("connection crm") && details[2].ends_with("→ none"), "{details:?}");
}

#[test]
fn a_sure_rename_waits_where_a_person_approves_everything() {
    let house = House::open();
    let admin = house.admin("acme");
    assert_eq!(set(&admin, "", &json!({"repairs": "approve"})).status, 200);
    renamed(&admin);
    let case = proposed(&admin);
    assert!(case["waits"].as_str().unwrap().contains("a person approves"), "{case}");
    assert_eq!(case["tried"], json!({"records": 50, "accepted": 50, "quarantined": 0, "held": 0}));
    let path = format!("/api/v1/aam/cases/{}/approve", case["case"].as_str().unwrap());
    assert_eq!(admin.post(&path, &json!({})).json()["status"], "repaired");
    until("what was held is in its view", || count(&admin, "amount is not null") == json!(150));
}

#[test]
fn a_sure_rename_is_applied_by_itself_only_when_its_dry_run_is_clean() {
    let house = House::open();
    let admin = house.admin("acme");
    push(&admin, 0..100, "Amount");
    let bad = r#"{"Id":"x","Name":"Deal","DealAmount":1e60,"LastModifiedDate":"2026-01-01T00:00:00Z"}"#;
    push_text(&admin, &format!("{bad}\n"));
    push(&admin, 100..150, "DealAmount");
    let case = proposed(&admin);
    assert!(case["waits"].as_str().unwrap().contains("1 would be set aside"), "{case}");
    assert_eq!(case["breaks"], Value::Null);
    assert_eq!(count(&admin, "amount is null"), json!(0));
}

#[test]
fn a_connection_may_propagate_what_its_tenant_has_people_approve() {
    let house = House::open();
    let admin = house.admin("acme");
    assert_eq!(set(&admin, "", &json!({"repairs": "approve"})).status, 200);
    assert_eq!(set(&admin, "?connection=crm", &json!({"repairs": "propagate"})).status, 200);
    renamed(&admin);
    until("it was repaired by itself", || cases(&admin, "?status=repaired").len() == 1);
    assert_eq!(cases(&admin, "")[0]["decided"][0]["why"], "the policy propagates what breaks nothing");
    until("what was held is in its view", || count(&admin, "amount is not null") == json!(150));
}

#[test]
fn a_stopped_connection_holds_everything_until_a_person_decides() {
    let house = House::open();
    let admin = house.admin("acme");
    assert_eq!(set(&admin, "?connection=crm", &json!({"repairs": "stop"})).status, 200);
    renamed(&admin);
    let waiting = || cases(&admin, "?status=waiting");
    assert_eq!(waiting()[0]["held"], 50);
    push(&admin, 150..170, "Amount");
    let case = proposed(&admin);
    assert_eq!(case["held"], 70, "what has everything is held, too");
    assert_eq!(count(&admin, "true"), json!(100));
    let path = format!("/api/v1/aam/cases/{}/approve", case["case"].as_str().unwrap());
    assert_eq!(admin.post(&path, &json!({})).status, 200);
    until("what was held is in its view", || count(&admin, "amount is not null") == json!(170));
}

#[test]
fn a_mask_that_names_nothing_is_refused() {
    let house = House::open();
    let admin = house.admin("acme");
    for odd in ["", "  ", "\u{0}"] {
        assert_eq!(set(&admin, "", &json!({"mask": ["amount", odd]})).status, 400, "{odd:?}");
    }
}

#[test]
fn a_masked_source_path_masks_the_field_that_it_feeds_in_the_evidence_and_wherever_a_decision_would_put_it() {
    let house = House::open();
    let (admin, case) = doubtful(&house);
    assert_eq!(set(&admin, "", &json!({"mask": ["Amount"]})).status, 200);
    let path = format!("/api/v1/aam/cases/{}", case["case"].as_str().unwrap());
    let evidence = admin.get(&path).json()["evidence"].clone();
    assert_eq!(evidence["before"][0]["fields"]["amount"], "***");
    let edit = json!({"decision": "edit", "moves": [{"from": "Amount", "to": ["Bla"]}]});
    let tried = admin.post(&format!("{path}/dry_run"), &edit).text;
    assert!(tried.contains("***"), "{tried}");
    let text = evidence.to_string() + &tried;
    assert!(!text.contains("793.5") && !text.contains("1143.5"), "{text}");
}

#[test]
fn what_a_policy_masks_is_masked_in_the_evidence() {
    let house = House::open();
    let (admin, case) = doubtful(&house);
    assert_eq!(set(&admin, "", &json!({"mask": ["amount"]})).status, 200);
    let path = format!("/api/v1/aam/cases/{}", case["case"].as_str().unwrap());
    let evidence = admin.get(&path).json()["evidence"].clone();
    assert_eq!(evidence["before"][0]["source"]["Amount"], "***");
    assert_eq!(evidence["held"][0]["source"]["Bla"], "***", "it may be the amount");
    let text = evidence.to_string();
    assert!(!text.contains("793.5") && !text.contains("1143.5"), "{text}");
}

#[test]
fn thresholds_are_tested_on_what_people_decided() {
    let house = House::open();
    let (admin, case) = doubtful(&house);
    let path = format!("/api/v1/aam/cases/{}", case["case"].as_str().unwrap());
    let edit = json!({"moves": [{"from": "Amount", "to": ["Bla"]}]});
    assert_eq!(admin.post(&format!("{path}/edit"), &edit).status, 200);
    let test = admin.get(&format!("{POLICY}/backtest?at_least=0.0")).json()["thresholds"][0].clone();
    let proposed = !case["moves"].as_array().unwrap().is_empty();
    assert_eq!((&test["cases"], &test["applied"]), (&json!(1), &json!(u8::from(proposed))), "{test}");
    let all = admin.get(&format!("{POLICY}/backtest")).json();
    let counts: Vec<u64> =
        all["thresholds"].as_array().unwrap().iter().map(|t| t["applied"].as_u64().unwrap()).collect();
    assert!(counts.len() > 5 && counts.is_sorted_by(|a, b| a >= b), "{all}");
    let elsewhere = admin.get(&format!("{POLICY}/backtest?connection=erp&at_least=0.5")).json();
    assert_eq!(elsewhere["thresholds"][0]["cases"], 0);
    for odd in ["7", "-0.1", "NaN"] {
        assert_eq!(admin.get(&format!("{POLICY}/backtest?at_least={odd}")).status, 400, "{odd}");
    }
}
