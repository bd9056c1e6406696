//! Decisions over HTTP: their versions, two people, parts of a case, transforms, being put off.

use serde_json::{Value, json};

use crate::cases::{cases, count, doubtful, proposed, push_text, until};
use crate::house::{House, Person};

fn path_of(case: &Value) -> String {
    format!("/api/v1/aam/cases/{}", case["case"].as_str().unwrap())
}

fn edit() -> Value {
    json!({"moves": [{"from": "Amount", "to": ["Bla"]}], "why": "they told us"})
}

fn with(mut body: Value, member: &str, value: u64) -> Value {
    body[member] = value.into();
    body
}

#[test]
fn a_decision_on_a_case_that_has_changed_is_refused() {
    let house = House::open();
    let (admin, case) = doubtful(&house);
    let path = path_of(&case);
    let version = case["version"].as_u64().unwrap();
    let rejected = admin.post(&format!("{path}/reject"), &with(json!({"why": "no"}), "version", version));
    assert_eq!(rejected.json()["version"], version + 1, "{}", rejected.text);
    let bob = house.user(&admin, "bob@acme.example", "editor");
    let stale = bob.post(&format!("{path}/edit"), &with(edit(), "version", version));
    assert_eq!((stale.status, stale.problem()), (409, "conflict".into()));
    assert!(stale.text.contains("look again"), "{}", stale.text);
    let done = bob.post(&format!("{path}/edit"), &with(edit(), "version", version + 1));
    assert_eq!(done.status, 200, "{}", done.text);
    let shown = admin.get(&path).json();
    let told = |at: usize| {
        let decided = &shown["decided"][at];
        (decided["status"].clone(), decided["name"].clone(), decided["why"].clone())
    };
    assert_eq!(told(0), (json!("rejected"), json!("admin@acme.example"), json!("no")));
    assert_eq!(told(1), (json!("repaired"), json!("bob@acme.example"), json!("they told us")));
    assert!(shown["decided"][1]["at"].as_str().unwrap().contains('T'));
}

#[test]
fn a_decision_that_says_more_than_can_be_done_is_refused_as_a_whole() {
    let house = House::open();
    let (admin, case) = doubtful(&house);
    let path = path_of(&case);
    let twice = json!([{"from": "Amount", "to": ["Bla"]}, {"from": "Amount", "to": ["Name"]}]);
    let refused = admin.post(&format!("{path}/edit"), &json!({"moves": twice}));
    assert!(refused.status == 400 && refused.text.contains("twice"), "{}", refused.text);
    for odd in [
        json!({"decision": "edit", "moves": twice}),
        json!({"decision": "edit", "moves": edit()["moves"], "only": ["Amount"]}),
        json!({"decision": "approve", "moves": edit()["moves"]}),
        json!({"decision": "accept_removed", "moves": edit()["moves"]}),
    ] {
        assert_eq!(admin.post(&format!("{path}/dry_run"), &odd).status, 400, "{odd}");
    }
    let late = admin.post(&format!("{path}/snooze"), &json!({"until": "9999-12-30T23:59:59Z"}));
    assert!(late.status == 400 && late.text.contains("before 9999-12-30T22:00:00Z"), "{}", late.text);
    assert_eq!(admin.get(&path).json()["status"], "open", "nothing was decided");
}

#[test]
fn a_page_of_a_status_has_cases_of_it_where_there_are_some() {
    let house = House::open();
    let (admin, case) = doubtful(&house);
    assert_eq!(admin.post(&format!("{}/edit", path_of(&case)), &edit()).status, 200);
    let of = |status: &str| admin.get(&format!("/api/v1/aam/cases?status={status}&limit=1")).json();
    assert_eq!(of("repaired")["cases"].as_array().unwrap().len(), 1);
    let none = of("rejected");
    assert!(none["cases"].as_array().unwrap().is_empty() && none["next"].is_null(), "{none}");
}

#[test]
fn two_people_decide_what_is_of_a_chosen_class() {
    let house = House::open();
    let (admin, case) = doubtful(&house);
    let policy = admin.put("/api/v1/aam/policy", "*", &json!({"two_persons": ["renamed"]}));
    assert_eq!(policy.status, 200, "{}", policy.text);
    let path = format!("{}/edit", path_of(&case));
    let first = admin.post(&path, &edit());
    assert_eq!((first.status, &first.json()["status"]), (200, &json!("open")), "{}", first.text);
    let approval = first.json()["approval"].clone();
    assert_eq!((&approval["decision"], &approval["class"]), (&json!("edit"), &json!("renamed")));
    assert_eq!(approval["moves"][0]["to"], json!(["Bla"]));
    let again = admin.post(&path, &edit());
    assert_eq!((again.status, again.problem()), (403, "second_person_needed".into()));
    let key = json!({"name": "bot", "role": "editor"});
    let key = house.bearer(admin.post("/api/v1/auth/keys", &key).json()["secret"].as_str().unwrap_or_default());
    let refused = key.post(&path, &edit());
    assert_eq!(refused.status, 409, "{}", refused.text);
    assert_eq!(count(&admin, "true"), json!(100), "nothing has happened yet");
    let bob = house.user(&admin, "bob@acme.example", "editor");
    let second = bob.post(&path, &edit());
    assert_eq!((second.status, &second.json()["status"]), (200, &json!("repaired")), "{}", second.text);
    until("what was held is in its view", || count(&admin, "amount is not null") == json!(150));
    let decided = admin.get(&path_of(&case)).json()["decided"].clone();
    assert_eq!(decided[0]["status"], "approved");
    assert_eq!(decided[1]["name"], "admin@acme.example and bob@acme.example");
    assert_eq!(admin.post(&path, &edit()).problem(), "case_not_open", "a third time");
}

/// Deals with a stage and an amount, both of which are called otherwise from some point on.
fn twice_doubtful(house: &House) -> (Person, Value) {
    let admin = house.admin("acme");
    let deal = |id: usize, stage: &str, amount: &str| {
        format!(
            r#"{{"Id":"{id}","Name":"Deal","{stage}":"Won","{amount}":{id}.5,"LastModifiedDate":"2026-01-01T00:00:00Z"}}"#
        ) + "\n"
    };
    push_text(&admin, &(0..100).map(|id| deal(id, "StageName", "Amount")).collect::<String>());
    push_text(&admin, &(100..150).map(|id| deal(id, "Xx", "Bla")).collect::<String>());
    let case = proposed(&admin);
    assert_eq!(case["lost"].as_array().unwrap().len(), 2, "{case}");
    (admin, case)
}

#[test]
fn some_fields_of_a_case_are_decided_and_the_rest_waits_on() {
    let house = House::open();
    let (admin, case) = twice_doubtful(&house);
    let path = path_of(&case);
    let part = admin.post(&format!("{path}/edit"), &edit());
    assert_eq!((part.status, &part.json()["status"]), (200, &json!("open")), "{}", part.text);
    let now = cases(&admin, "?status=waiting").remove(0);
    assert_eq!((&now["held"], &now["redriven"]), (&json!(50), &json!(0)), "what lacks the other is held on");
    assert_eq!(now["undecided"], json!(["StageName"]));
    let again = admin.post(&format!("{path}/approve"), &json!({"only": ["Amount"]}));
    assert!(again.status == 409 && again.text.contains("Amount of the case is decided already"), "{}", again.text);
    let rest = json!({"moves": [{"from": "StageName", "to": ["Xx"]}]});
    let run = admin.post(&format!("{path}/dry_run"), &json!({"decision": "edit", "moves": rest["moves"]}));
    assert_eq!(run.json()["clean"], true, "{}", run.text);
    assert_eq!(admin.post(&format!("{path}/edit"), &rest).json()["status"], "repaired");
    until("what was held is in its view", || count(&admin, "amount is not null and stage = 'Won'") == json!(150));
}

#[test]
fn what_a_decision_cannot_do_is_refused_and_not_left_out() {
    let house = House::open();
    let (admin, case) = doubtful(&house);
    let path = path_of(&case);
    let moves = edit()["moves"].clone();
    for odd in [
        json!({"decision": "edit", "moves": &moves, "only": ["Amount"]}),
        json!({"decision": "approve", "moves": &moves}),
        json!({"decision": "accept_removed", "moves": &moves}),
    ] {
        let refused = admin.post(&format!("{path}/dry_run"), &odd);
        assert_eq!((refused.status, refused.problem()), (400, "invalid_request".into()), "{}", refused.text);
    }
    for (moves, status, problem) in [
        (json!([{"from": "Amount", "to": ["Bla"]}, {"from": "Amount", "to": ["StageName"]}]), 400, "invalid_request"),
        (json!([{"from": "Amount", "to": ["Amount"]}]), 409, "conflict"),
        (json!([{"from": "Amount", "to": ["Nowhere"]}]), 409, "conflict"),
    ] {
        let tried = admin.post(&format!("{path}/dry_run"), &json!({"decision": "edit", "moves": &moves}));
        let refused = admin.post(&format!("{path}/edit"), &json!({"moves": &moves}));
        assert_eq!((tried.status, refused.status, refused.problem()), (status, status, problem.into()), "{moves}");
    }
    assert_eq!(cases(&admin, "?status=waiting")[0]["held"], 50, "nothing was let go");
}

#[test]
fn a_person_says_how_a_value_is_to_be_transformed() {
    let house = House::open();
    let (admin, case) = doubtful(&house);
    let path = path_of(&case);
    let cents = json!({"moves": [{"from": "Amount", "to": ["Bla"], "transform": {"unit": "cents", "round": true}}]});
    let run = admin.post(&format!("{path}/dry_run"), &json!({"decision": "edit", "moves": cents["moves"]})).json();
    assert_eq!((&run["clean"], &run["samples"][0]["mapped"]["fields"]["amount"]), (&json!(true), &json!("8.0050")));
    let odd = json!({"moves": [{"from": "Amount", "to": ["Bla"], "transform": {"units": "cents"}}]});
    let refused = admin.post(&format!("{path}/edit"), &odd);
    assert!(refused.status == 400 && refused.text.contains("units"), "{}", refused.text);
    let source = json!({"moves": [{"from": "Amount", "to": ["Bla"], "transform": {"from": "Other"}}]});
    assert_eq!(admin.post(&format!("{path}/edit"), &source).status, 409);
    let done = admin.post(&format!("{path}/edit"), &cents).json();
    assert_eq!(done["decided"][0]["moves"][0]["transform"], json!({"unit": "cents", "round": true}), "{done}");
    until("what was held is in its view", || count(&admin, "amount is not null") == json!(150));
    assert_eq!(count(&admin, "amount = 8.005"), json!(1));
}

#[test]
fn a_case_is_put_off_with_a_reason_and_says_when_it_expires() {
    let house = House::open();
    let (admin, case) = doubtful(&house);
    let path = path_of(&case);
    assert!(case["expires_at"].as_str().is_some_and(|at| at > case["opened_at"].as_str().unwrap()), "{case}");
    let off = json!({"until": "2099-01-01T00:00:00Z", "why": "the vendor is asked"});
    let snoozed = admin.post(&format!("{path}/snooze"), &off).json();
    assert_eq!(snoozed["snoozed_until"], "2099-01-01T00:00:00Z");
    let last = &snoozed["decided"][0];
    assert_eq!((&last["status"], &last["why"]), (&json!("snoozed"), &json!("the vendor is asked")));
    let over = json!({"until": "2020-01-01T00:00:00Z"});
    assert_eq!(admin.post(&format!("{path}/snooze"), &over).status, 409);
    assert_eq!(
        admin.post(&format!("{path}/edit"), &edit()).json()["status"],
        "repaired",
        "it can be decided all the same"
    );
}
