//! Records that were set aside, retried and discarded over HTTP.

use serde_json::{Value, json};

use crate::cases::{count, push, push_text, until};
use crate::house::{House, Person};

const QUARANTINE: &str = "/api/v1/quarantine";

fn waiting(person: &Person, query: &str) -> Vec<Value> {
    person.get(&format!("{QUARANTINE}{query}")).json()["records"].as_array().unwrap().clone()
}

/// Ten records whose amount is no number, and two that are no JSON.
fn set_aside(house: &House) -> Person {
    let admin = house.admin("acme");
    push(&admin, 0..10, "Amount");
    let bad = |id: usize| {
        format!(r#"{{"Id":"{id}","Name":"Deal","Amount":"lots","Sum":{id},"LastModifiedDate":"2026-01-01T00:00:00Z"}}"#)
            + "\n"
    };
    push_text(&admin, &((20..30).map(bad).collect::<String>() + "broken\nbroken\n"));
    assert_eq!(waiting(&admin, "").len(), 12);
    admin
}

/// Has the amount read where there is a number.
fn map_sum(admin: &Person) {
    let path = "/api/v1/aam/mappings/crm/opportunity";
    let mut mapping = admin.get(path).json()["mapping"].clone();
    mapping["fields"]["amount"] = json!("Sum | Amount");
    let set = admin.put(path, "*", &json!({"mapping": mapping}));
    assert_eq!(set.status, 200, "{}", set.text);
}

#[test]
fn records_are_retried_by_reason_and_become_rows_once_the_mapping_is_right() {
    let house = House::open();
    let admin = set_aside(&house);
    let retry = |body: &Value| admin.post(&format!("{QUARANTINE}/retry"), body);
    let by_reason = json!({"reason": "cast_failed", "why": "the mapping is right now"});
    let early = retry(&by_reason).json();
    assert_eq!((&early["records"], &early["quarantined"]), (&json!(10), &json!(10)), "{early}");
    map_sum(&admin);
    let done = retry(&by_reason);
    assert_eq!(done.status, 200, "{}", done.text);
    assert_eq!((&done.json()["records"], &done.json()["accepted"]), (&json!(10), &json!(10)));
    until("they are in their view", || count(&admin, "amount between 20 and 29") == json!(10));
    assert_eq!(waiting(&admin, "").len(), 2);
    assert_eq!(retry(&by_reason).json()["records"], 0, "once");
    let settled = waiting(&admin, "?settled=true");
    assert_eq!(settled.len(), 20);
    let first = &settled[0]["settled"];
    assert_eq!((&first["action"], &first["why"]), (&json!("retry"), &json!("the mapping is right now")));
    assert!(first["by"].as_str().unwrap().starts_with("user:"), "{first}");
    for odd in [json!({"why": "x"}), json!({"reason": "odd", "why": "x"}), json!({"reason": "cast_failed"})] {
        assert_eq!(retry(&odd).status, 400, "{odd}");
    }
    let audit = admin.get("/api/v1/audit").text;
    assert!(audit.contains("the mapping is right now"), "{audit}");
}

#[test]
fn nothing_is_settled_of_a_stream_that_is_not_there_nor_without_a_reason_and_the_attempt_makes_no_stream() {
    let house = House::open();
    let admin = set_aside(&house);
    for action in ["retry", "discard"] {
        let of = |stream: &str, why: &str| {
            let body = json!({"connection": "crm", "stream": stream, "why": why});
            admin.post(&format!("{QUARANTINE}/{action}"), &body)
        };
        let unknown = of("typo", "x");
        assert_eq!((unknown.status, &*unknown.problem()), (404, "not_found"), "{}", unknown.text);
        assert_eq!(of("opportunity", "  ").status, 400, "blanks are no reason");
    }
    let streams = admin.get("/api/v1/streams").text;
    assert!(streams.contains("crm/opportunity") && !streams.contains("typo"), "{streams}");
    assert_eq!(waiting(&admin, "").len(), 12);
}

#[test]
fn a_record_is_given_up_with_a_reason_and_its_bytes_stay() {
    let house = House::open();
    let admin = set_aside(&house);
    let record = waiting(&admin, "").remove(0);
    let path = format!("{QUARANTINE}/{}", record["position"].as_str().unwrap());
    assert_eq!(admin.post(&format!("{path}/discard"), &json!({"why": ""})).status, 400, "a reason is needed");
    let viewer = house.user(&admin, "viewer@acme.example", "viewer");
    assert_eq!(viewer.post(&format!("{path}/discard"), &json!({"why": "x"})).status, 403);
    assert_eq!(house.admin("other").post(&format!("{path}/discard"), &json!({"why": "x"})).status, 404);
    let done = admin.post(&format!("{path}/discard"), &json!({"why": "a test record"}));
    assert_eq!((done.status, &done.json()["discarded"]), (200, &json!(1)), "{}", done.text);
    for action in ["retry", "discard"] {
        assert_eq!(admin.post(&format!("{path}/{action}"), &json!({"why": "x"})).problem(), "settled_already");
    }
    let shown = admin.get(&path).json();
    assert_eq!(shown["record"]["settled"]["action"], "discard");
    assert!(shown["payload"].as_str().unwrap().contains("lots"), "{shown}");
    let all = json!({"connection": "crm", "stream": "opportunity", "why": "the rest as well"});
    assert_eq!(admin.post(&format!("{QUARANTINE}/discard"), &all).json()["discarded"], 11);
    assert_eq!(waiting(&admin, ""), Vec::<Value>::new());
    assert_eq!(admin.get(&format!("{QUARANTINE}/1:0:99999")).status, 404);
}

#[test]
fn a_retry_that_lacks_what_is_always_there_is_held_and_no_row_is_blank() {
    let house = House::open();
    let admin = house.admin("acme");
    push(&admin, 0..10, "Amount");
    // Nothing is always there after ten records: it is set aside for its date alone.
    let bad = r#"{"Id":"x","Name":"Deal","CloseDate":"soon","LastModifiedDate":"2026-01-01T00:00:00Z"}"#;
    push_text(&admin, &format!("{bad}\n"));
    assert_eq!(waiting(&admin, "").len(), 1);
    push(&admin, 10..100, "Amount");
    let path = "/api/v1/aam/mappings/crm/opportunity";
    let mut mapping = admin.get(path).json()["mapping"].clone();
    mapping["fields"].as_object_mut().unwrap().remove("close_date");
    let set = admin.put(path, "*", &json!({"mapping": mapping}));
    assert_eq!(set.status, 200, "{}", set.text);
    let done = admin.post(&format!("{QUARANTINE}/retry"), &json!({"reason": "cast_failed", "why": "again"})).json();
    assert_eq!((&done["records"], &done["held"]), (&json!(1), &json!(1)), "{done}");
    assert_eq!(count(&admin, "amount is null"), json!(0));
}
