//! Mappings and the history of drift, over HTTP.

use serde_json::{Value, json};

use crate::cases::{cases, count, doubtful, push, push_text, until};
use crate::house::{House, Person};

const MAPPING: &str = "/api/v1/aam/mappings/crm/opportunity";

fn versions(person: &Person) -> Vec<Value> {
    person.get(&format!("{MAPPING}/history")).json()["versions"].as_array().unwrap().clone()
}

#[test]
fn every_version_of_a_mapping_says_who_or_what_made_it_and_why() {
    let house = House::open();
    let (admin, case) = doubtful(&house);
    let path = format!("/api/v1/aam/cases/{}", case["case"].as_str().unwrap());
    let edit = json!({"moves": [{"from": "Amount", "to": ["Bla"]}], "why": "the vendor told us"});
    assert_eq!(admin.post(&format!("{path}/edit"), &edit).status, 200);
    let listed = admin.get("/api/v1/aam/mappings").json()["mappings"][0].clone();
    assert_eq!((&listed["stream"], &listed["version"]), (&json!("crm/opportunity"), &json!(2)));
    assert_eq!((&listed["origin"], &listed["entity"]), (&json!("repaired"), &json!("opportunity")));
    let all = versions(&admin);
    let told = |at: usize| (all[at]["version"].clone(), all[at]["origin"].clone(), all[at]["by"].clone());
    assert_eq!(told(0), (json!(1), json!("opened"), json!("open")));
    assert_eq!((&all[1]["origin"], &all[1]["why"]), (&json!("repaired"), &json!("the vendor told us")));
    assert!(all[1]["by"].as_str().unwrap().starts_with("user:"), "{all:?}");
    assert_eq!(all[1]["case"], case["case"]);
    let diff = admin.get(&format!("{MAPPING}/diff?from=1")).json();
    assert_eq!((&diff["from"], &diff["to"]), (&json!(1), &json!(2)));
    let amount = &diff["differences"][0];
    assert_eq!((&amount["what"], diff["differences"].as_array().unwrap().len()), (&json!("amount"), 1), "{diff}");
    assert!(amount["after"].to_string().contains("Bla | ") && !amount["before"].to_string().contains("Bla"), "{diff}");
    let first = admin.get(&format!("{MAPPING}?version=1")).json();
    assert_eq!((&first["version"], &first["in_force"]), (&json!(1), &json!(2)));
    assert!(!first["mapping"].to_string().contains("Bla"), "{first}");
    assert_eq!(admin.get(&format!("{MAPPING}?version=9")).status, 404);
    assert_eq!(admin.get("/api/v1/aam/mappings/crm/nothing").status, 404);
    assert_eq!(house.admin("other").get(MAPPING).status, 404);
}

#[test]
fn a_person_puts_another_mapping_in_force_and_nobody_undoes_it_unasked() {
    let house = House::open();
    let admin = house.admin("acme");
    push(&admin, 0..10, "Amount");
    let known = admin.get(MAPPING);
    let tag = known.header("etag").to_owned();
    let mut mapping = known.json()["mapping"].clone();
    mapping["fields"]["amount"] = json!({"from": "Bla | Amount", "unit": "cents", "round": true});
    let body = json!({"mapping": mapping, "why": "they count in cents"});
    assert_eq!(
        admin.send("PUT", MAPPING, &[("content-type", "application/json")], body.to_string().as_bytes()).status,
        428
    );
    let set = admin.put(MAPPING, &tag, &body);
    assert_eq!((set.status, &set.json()["version"]), (200, &json!(2)), "{}", set.text);
    assert_eq!(admin.put(MAPPING, &tag, &body).problem(), "changed_meanwhile");
    push(&admin, 10..20, "Amount");
    until("the rows are there", || count(&admin, "true") == json!(20));
    assert_eq!(count(&admin, "amount < 10"), json!(10), "what comes from then on is in cents");
    assert_eq!(versions(&admin)[1]["why"], "they count in cents");
    for odd in [json!({"entity": "opportunity"}), json!({"entity": "account", "key": "Id", "fields": {}})] {
        let refused = admin.put(MAPPING, "*", &json!({"mapping": odd}));
        assert!(matches!(refused.status, 409 | 422), "{}", refused.text);
    }
    let mut keyless = known.json()["mapping"].clone();
    keyless["key"] = json!("Other");
    assert_eq!(admin.put(MAPPING, "*", &json!({"mapping": keyless})).status, 409, "rows are found by their keys");
    let editor = house.user(&admin, "editor@acme.example", "editor");
    assert_eq!(editor.put(MAPPING, "*", &body).status, 403);
    let audit = admin.get("/api/v1/audit").text;
    assert!(audit.contains("mapping of crm/opportunity: version 1 → 2"), "{audit}");
}

#[test]
fn where_two_people_decide_the_mapping_of_one_is_refused_while_a_case_waits_about_it() {
    let house = House::open();
    let (admin, _) = doubtful(&house);
    assert_eq!(admin.put("/api/v1/aam/policy", "*", &json!({"two_persons": ["renamed"]})).status, 200);
    let mut mapping = admin.get(MAPPING).json()["mapping"].clone();
    mapping["fields"]["amount"] = json!("Bla");
    let refused = admin.put(MAPPING, "*", &json!({"mapping": mapping}));
    assert_eq!((refused.status, refused.problem()), (409, "conflict".into()), "{}", refused.text);
    assert!(refused.text.contains("decide the case instead"), "{}", refused.text);
    assert_eq!((count(&admin, "true"), cases(&admin, "?status=waiting").len()), (json!(100), 1), "it holds on");
}

#[test]
fn the_history_of_drift_tells_shapes_and_cases_of_a_stream() {
    let house = House::open();
    let admin = house.admin("acme");
    push(&admin, 0..100, "Amount");
    push(&admin, 100..150, "DealAmount");
    until("it is repaired", || cases(&admin, "?status=repaired").len() == 1);
    let listed = admin.get("/api/v1/aam/drift").json()["streams"][0].clone();
    assert_eq!(listed["stream"], "crm/opportunity");
    assert_eq!(listed["cases"], json!([{"name": "repaired", "count": 1}]));
    assert_eq!(listed["kinds"], json!([{"name": "renamed", "count": 1}]));
    let path = "/api/v1/aam/drift/crm/opportunity";
    let shown = admin.get(path).json();
    let shapes = shown["shapes"].as_array().unwrap();
    assert_eq!(shapes.len(), 2, "{shown}");
    assert_eq!(shapes[0]["observed"].as_array().unwrap().len(), 4);
    assert_eq!(shapes[1]["observed"], json!([{"path": "DealAmount", "type": "number"}]));
    assert_eq!(shapes[1]["fingerprint"], listed["fingerprint"]);
    let case = &shown["cases"][0];
    assert_eq!(
        (&case["status"], &case["lost"], &case["by"]),
        (&json!("repaired"), &json!(["Amount"]), &json!("rules"))
    );
    let page = admin.get(&format!("{path}?limit=1")).json();
    assert_eq!(page["shapes"].as_array().unwrap().len(), 1);
    let next = admin.get(&format!("{path}?limit=1&cursor={}", page["next"].as_str().unwrap())).json();
    assert_eq!(next["shapes"][0], shapes[1]);
    assert_eq!(house.admin("other").get(path).status, 404);
}

#[test]
fn what_no_rule_reads_is_suggested_for_the_fields_that_are_empty_to_who_may_map_it() {
    let house = House::open();
    let admin = house.admin("acme");
    let row = |n: u32| {
        json!({"Id": n.to_string(), "LastModifiedDate": "2026-01-01T00:00:00Z", "Name": format!("Deal {n}"), "StageName": "New",
            "Amount": n, "deal_currency": "EUR", "shoe_size": n % 9 + 36, "memo": format!("secret-{n}")})
        .to_string()
    };
    let body: String = (0..50).map(row).collect::<Vec<_>>().join("\n");
    push_text(&admin, &body);
    let suggestions = format!("{MAPPING}/suggestions");
    until("the records are looked at", || {
        admin.get(&suggestions).json()["fields"].as_array().is_some_and(|fields| fields.len() == 3)
    });
    let found = admin.get(&suggestions);
    let value = found.json();
    assert_eq!((&value["entity"], &value["version"]), (&json!("opportunity"), &json!(1)));
    let fields = value["fields"].as_array().unwrap();
    let to = |from: &str| fields.iter().find(|field| field["from"] == from).unwrap();
    assert_eq!(to("deal_currency")["to"], "currency", "{value}");
    assert_eq!(to("shoe_size")["to"], Value::Null, "nothing is like it: {value}");
    assert!(
        !found.text.contains("secret-") && !found.text.contains("EUR"),
        "values are nobody's business: {}",
        found.text
    );
    assert!(value["mapping"].as_str().unwrap().contains("deal_currency"), "{value}");
    let editor = house.user(&admin, "editor@acme.example", "editor");
    let viewer = house.user(&admin, "viewer@acme.example", "viewer");
    assert_eq!((editor.get(&suggestions).status, viewer.get(&suggestions).status), (200, 403));
    assert_eq!(house.admin("other").get(&suggestions).status, 404);
    assert_eq!(admin.get("/api/v1/aam/mappings/crm/nothing/suggestions").status, 404);
}
