//! Drift, decided over HTTP.

use serde_json::{Value, json};

use crate::house::{House, Person};

const PUSH: &str = "/api/v1/records?connection=crm&stream=opportunity&system=salesforce";

pub fn push(person: &Person, ids: std::ops::Range<usize>, name: &str) -> String {
    push_text(person, &deals(ids, name))
}

/// Deals of these numbers, their amount under this name.
fn deals(ids: std::ops::Range<usize>, name: &str) -> String {
    let deal = |id: usize| {
        let amount = 100 + id * 7;
        format!(r#"{{"Id":"{id}","Name":"Deal","{name}":{amount}.5,"LastModifiedDate":"2026-01-01T00:00:00Z"}}"#) + "\n"
    };
    ids.map(deal).collect()
}

/// Pushes lines of JSON; answers the position.
pub fn push_text(person: &Person, body: &str) -> String {
    push_to(person, PUSH, body)
}

fn push_to(person: &Person, path: &str, body: &str) -> String {
    let answer = person.send("POST", path, &[("content-type", "application/x-ndjson")], body.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["position"].as_str().unwrap().to_owned()
}

pub fn cases(person: &Person, query: &str) -> Vec<Value> {
    let answer = person.get(&format!("/api/v1/aam/cases{query}"));
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["cases"].as_array().unwrap().clone()
}

/// The rows for which a condition holds, once the views have everything that has come in by now.
pub fn count(person: &Person, condition: &str) -> Value {
    let sql = format!("select count(*) as n from opportunities where {condition}");
    // What was told to stand there is processed; who reads behind it waits until that is in the views.
    let position = person.get("/api/v1/streams").json()["streams"][0]["position"].clone();
    person.post("/api/v1/query", &json!({ "sql": sql, "min_position": position })).json()["rows"][0]["n"].clone()
}

/// Waits for a condition; the limit only ends a test that would never end.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !condition() {
        assert!(started.elapsed().as_secs() < 300, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

/// A tenant with a hundred rows and one case that waits: fifty deals whose amount is called otherwise.
pub fn doubtful(house: &House) -> (Person, Value) {
    let admin = house.admin("acme");
    push(&admin, 0..100, "Amount");
    push(&admin, 100..150, "Bla");
    let case = proposed(&admin);
    assert_eq!(count(&admin, "true"), json!(100), "the view is there");
    (admin, case)
}

/// A tenant whose connections crm and erp have a case each that waits, and says why.
pub fn of_two(house: &House) -> Person {
    let admin = house.admin("acme");
    for path in [PUSH.to_owned(), PUSH.replace("connection=crm", "connection=erp")] {
        push_to(&admin, &path, &deals(0..100, "Amount"));
        push_to(&admin, &path, &deals(100..150, "Bla"));
    }
    until("something is proposed", || {
        let found = cases(&admin, "?status=waiting");
        found.len() == 2 && found.iter().all(|case| !case["waits"].is_null())
    });
    admin
}

/// The only case that waits, once it says why it does: what is proposed follows a case.
pub fn proposed(person: &Person) -> Value {
    let mut found = Vec::new();
    until("something is proposed", || {
        found = cases(person, "?status=waiting");
        !found.is_empty() && found.iter().all(|case| !case["waits"].is_null())
    });
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn a_case_is_listed_shown_and_decided_and_its_rows_appear() {
    let house = House::open();
    let (admin, case) = doubtful(&house);
    assert_eq!(
        (&case["status"], &case["held"], &case["lost"][0]["path"]),
        (&json!("open"), &json!(50), &json!("Amount"))
    );
    let path = format!("/api/v1/aam/cases/{}", case["case"].as_str().unwrap());
    assert_eq!(admin.get(&path).json()["case"], case["case"]);
    let body = json!({"moves": [{"from": "Amount", "to": ["Bla"]}], "why": "the vendor told us"});
    let done = admin.post(&format!("{path}/edit"), &body);
    assert_eq!((done.status, &done.json()["status"]), (200, &json!("repaired")), "{}", done.text);
    assert!(done.json()["decided"][0]["by"].as_str().unwrap().starts_with("user:"));
    let position = push(&admin, 150..151, "Bla");
    let waited = admin.get(&format!("/api/v1/dcl/views/opportunities/rows?limit=1&min_position={position}"));
    assert_eq!(waited.status, 200);
    until("what was held is in its view", || count(&admin, "amount is not null") == json!(151));
    assert_eq!(count(&admin, "amount is null"), json!(0));
    assert_eq!(admin.post(&format!("{path}/reject"), &json!({})).problem(), "case_not_open");
    for stale in [json!({"version": 1}), json!({"mapping_version": 1})] {
        let refused = admin.post(&format!("{path}/revert"), &stale);
        assert_eq!((refused.status, refused.problem()), (409, "conflict".into()), "{stale}: {}", refused.text);
    }
    assert_eq!(cases(&admin, "?status=waiting"), Vec::<Value>::new());
}

#[test]
fn stale_decisions_low_roles_and_other_tenants_are_refused() {
    let house = House::open();
    let (admin, case) = doubtful(&house);
    let path = format!("/api/v1/aam/cases/{}", case["case"].as_str().unwrap());
    let stale = admin.post(&format!("{path}/reject"), &json!({"mapping_version": 7}));
    assert_eq!((stale.status, stale.problem()), (409, "conflict".into()), "{}", stale.text);
    for whole in ["reject", "revert"] {
        let part = admin.post(&format!("{path}/{whole}"), &json!({"only": ["Amount"]}));
        assert_eq!((part.status, part.problem()), (400, "invalid_request".into()), "{}", part.text);
    }
    let viewer = house.user(&admin, "viewer@acme.example", "viewer");
    assert_eq!(viewer.get(&path).status, 200);
    assert_eq!(viewer.post(&format!("{path}/reject"), &json!({})).status, 403);
    let editor = house.user(&admin, "editor@acme.example", "editor");
    assert_eq!(editor.post(&format!("{path}/reject"), &json!({"why": "no"})).json()["status"], "rejected");
    let stranger = house.admin("other");
    assert_eq!(stranger.get(&path).status, 404);
    assert_eq!(stranger.post(&format!("{path}/reject"), &json!({})).status, 404);
    assert_eq!(cases(&stranger, ""), Vec::<Value>::new());
    assert_eq!(admin.get("/api/v1/aam/cases?status=odd").status, 400);
    let journal = admin.get("/api/v1/audit").text;
    assert!(journal.contains(&format!("{path}/reject")), "{journal}");
}

#[test]
fn cases_are_listed_by_connection_severity_and_kind() {
    let house = House::open();
    let admin = of_two(&house);
    let streams = |query: &str| -> Vec<String> {
        cases(&admin, query).iter().map(|case| case["stream"].as_str().unwrap().to_owned()).collect()
    };
    let both = ["crm/opportunity", "erp/opportunity"];
    assert_eq!(streams(""), both);
    assert_eq!(streams("?connection=erp"), ["erp/opportunity"]);
    assert_eq!(streams("?connection=erp&stream=opportunity&status=open"), ["erp/opportunity"]);
    assert_eq!(streams("?connection=er"), [""; 0]);
    let case = cases(&admin, "?connection=crm").remove(0);
    let kinds: Vec<&str> = case["kinds"].as_array().unwrap().iter().map(|kind| kind.as_str().unwrap()).collect();
    for severity in ["info", "warning", "breaking"] {
        let expected = if case["severity"] == severity { &both[..] } else { &[] };
        assert_eq!(streams(&format!("?severity={severity}")), expected, "{severity}: {case}");
    }
    for kind in ["renamed", "nested", "unnested", "split", "merged", "retyped", "removed", "added", "nulls"] {
        let expected = if kinds.contains(&kind) { &both[..] } else { &[] };
        assert_eq!(streams(&format!("?kind={kind}&status=waiting")), expected, "{kind}: {case}");
    }
    let page = |query: &str| admin.get(&format!("/api/v1/aam/cases?limit=1&kind={}{query}", kinds[0])).json();
    let first = page("");
    assert_eq!(first["cases"][0]["stream"], both[0]);
    let second = page(&format!("&cursor={}", first["next"].as_str().unwrap()));
    assert_eq!((&second["cases"][0]["stream"], &second["next"]), (&json!(both[1]), &Value::Null));
    for odd in ["severity=grave", "kind=Renamed", "status=odd", "stream=opportunity", "connection=a%20b"] {
        let refused = admin.get(&format!("/api/v1/aam/cases?{odd}"));
        assert_eq!((refused.status, refused.problem()), (400, "invalid_request".into()), "{odd}: {}", refused.text);
    }
}
