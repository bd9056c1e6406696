//! Two tenants that see nothing of each other.

use serde_json::Value;

use crate::house::{House, Person};

/// Every operation of the document: method, path with its parameters, whether it is guarded.
fn operations(document: &Value) -> Vec<(String, String, bool)> {
    let paths = document["paths"].as_object().unwrap();
    let of = |(path, methods): (&String, &Value)| {
        let methods = methods.as_object().unwrap().iter();
        let each = |(method, operation): (&String, &Value)| {
            let guarded = operation["security"].as_array().is_some_and(|s| !s.is_empty());
            (method.to_uppercase(), path.clone(), guarded)
        };
        methods.map(each).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of).collect()
}

#[test]
fn no_operation_of_the_document_answers_without_a_credential() {
    let house = House::open();
    let document = house.anybody().get("/openapi.json").json();
    for (method, path, guarded) in operations(&document) {
        let path = path.replace(['{', '}'], "x");
        let answer = house.anybody().send(&method, &path, &[("content-type", "application/json")], b"{}");
        assert_eq!(answer.status == 401, guarded, "{method} {path}: {}", answer.status);
    }
}

#[test]
fn the_ids_of_another_tenant_are_not_found_and_nothing_of_it_is_told() {
    let house = House::open();
    let (acme, zeta) = (house.admin("acme"), house.admin("zeta"));
    house.user(&acme, "canary@acme-secret.example", "viewer");
    let ids = ids_of(&acme);
    let document = house.anybody().get("/openapi.json").json();
    let mut called = 0;
    for (method, path, guarded) in operations(&document) {
        if !guarded || !path.contains('{') {
            continue;
        }
        for id in &ids {
            let start = path.find('{').unwrap();
            let end = path.find('}').unwrap();
            let path = format!("{}{id}{}", &path[..start], &path[end + 1..]);
            let body = br#"{"role":"viewer"}"#;
            let answer = zeta.send(&method, &path, &[("content-type", "application/json")], body);
            assert!(matches!(answer.status, 400 | 404 | 405), "{method} {path}: {} {}", answer.status, answer.text);
            assert!(
                !answer.text.contains("canary") && !answer.text.contains("acme"),
                "{method} {path}: {}",
                answer.text
            );
            called += 1;
        }
    }
    assert!(called > 0);
    assert_eq!(ids_of(&acme), ids, "nothing was changed");
}

fn ids_of(admin: &Person) -> Vec<String> {
    let users = admin.get("/api/v1/auth/users").json();
    let sessions = admin.get("/api/v1/auth/sessions").json();
    let ids = |list: &Value| {
        list.as_array().unwrap().iter().map(|e| e["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    [ids(&users["users"]), ids(&sessions["sessions"])].concat()
}
