//! A key that is bound to connections sees nothing of others, and nothing that spans them.

use serde_json::{Value, json};

use crate::cases::{cases, count, of_two, until};
use crate::house::{House, Person};

const POLICY: &str = "/api/v1/aam/policy";

/// A key for these connections.
fn key(house: &House, admin: &Person, connections: &[&str]) -> Person {
    let wanted = json!({"name": "bound", "role": "viewer", "connections": connections});
    let made = admin.post("/api/v1/auth/keys", &wanted);
    assert_eq!(made.status, 201, "{}", made.text);
    house.bearer(made.json()["secret"].as_str().unwrap())
}

#[test]
fn a_bound_key_sees_the_policy_of_its_connection_and_no_others_name() {
    let house = House::open();
    let admin = house.admin("acme");
    for connection in ["crm", "payroll"] {
        let set = admin.put(&format!("{POLICY}?connection={connection}"), "*", &json!({"repairs": "stop"}));
        assert_eq!(set.status, 200, "{}", set.text);
    }
    let key = key(&house, &admin, &["crm"]);
    for path in ["", "?connection=payroll", "/backtest", "/backtest?connection=payroll"] {
        let refused = key.get(&format!("{POLICY}{path}"));
        assert_eq!((refused.status, refused.problem()), (403, "forbidden".into()), "{path}: {}", refused.text);
    }
    let own = key.get(&format!("{POLICY}?connection=crm"));
    assert_eq!((own.status, &own.json()["connections"]), (200, &json!(["crm"])), "{}", own.text);
    assert_eq!((&own.json()["in_force"]["repairs"], &own.json()["by"]), (&json!("stop"), &Value::Null));
    assert!(!own.text.contains("payroll"), "{}", own.text);
    assert_eq!(key.get(&format!("{POLICY}/backtest?connection=crm")).status, 200);
    assert_eq!(admin.get(POLICY).json()["connections"], json!(["crm", "payroll"]), "others see them as before");
}

#[test]
fn a_bound_key_sees_the_cases_of_its_connection_and_nothing_of_the_tenant_as_a_whole() {
    let house = House::open();
    let admin = of_two(&house);
    until("both are in the view", || count(&admin, "true") == json!(200));
    let asked = admin.post("/api/v1/query", &json!({"sql": "select sum(amount) from opportunities"}));
    assert_eq!(asked.status, 200, "{}", asked.text);
    let key = key(&house, &admin, &["erp"]);
    let refused = key.get("/api/v1/aam/cases");
    assert_eq!((refused.status, refused.problem()), (400, "invalid_request".into()), "{}", refused.text);
    assert_eq!(key.get("/api/v1/aam/cases?connection=crm").status, 403);
    let own = cases(&key, "?connection=erp&status=waiting");
    assert_eq!((own.len(), &own[0]["stream"]), (1, &json!("erp/opportunity")), "{own:?}");
    let other = &cases(&admin, "?connection=crm")[0];
    assert_eq!(key.get(&format!("/api/v1/aam/cases/{}", other["case"].as_str().unwrap())).status, 404);

    let path = format!("/api/v1/aam/cases/{}", own[0]["case"].as_str().unwrap());
    let consumers = |person: &Person| person.get(&path).json()["evidence"]["impact"]["views"][0]["consumers"].clone();
    assert_eq!(consumers(&admin).as_array().unwrap().len(), 1);
    assert_eq!(consumers(&key), json!([]), "who asks a view asks for what others brought, too");

    assert_eq!(key.get("/api/v1/aam/advice/usage").problem(), "forbidden");
    let views = |person: &Person| person.get("/api/v1/dcl/views").json()["views"][0].clone();
    assert!(views(&admin)["rows"].is_u64(), "{}", views(&admin));
    assert_eq!((&views(&key)["name"], &views(&key)["rows"]), (&json!("opportunities"), &Value::Null));
    for path in ["/api/v1/aam/drift", "/api/v1/aam/mappings", "/api/v1/streams"] {
        let answer = key.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        assert!(answer.text.contains("erp/opportunity") && !answer.text.contains("crm/"), "{path}: {}", answer.text);
    }
}
