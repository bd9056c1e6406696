//! People and their accounts.

use serde_json::json;

use crate::house::{House, PASSWORD};

#[test]
fn who_registers_is_the_first_admin_and_a_taken_name_is_a_conflict() {
    let house = House::open();
    let admin = house.admin("acme");
    let me = admin.get("/api/v1/auth/me").json();
    assert_eq!(
        (me["email"].as_str(), me["role"].as_str(), me["tenant"].as_str()),
        (Some("admin@acme.example"), Some("admin"), Some("acme"))
    );
    let again = json!({"name": "acme", "email": "other@acme.example", "password": PASSWORD});
    let again = house.anybody().post("/api/v1/auth/register", &again);
    assert_eq!((again.status, again.problem().as_str()), (409, "conflict"));
    for name in ["../x", "a.b", "A", "..", "tenant%00", "a\u{0}b", "\u{430}cme", &"x".repeat(10_000)] {
        let body = json!({"name": name, "email": "a@b.example", "password": PASSWORD});
        assert_eq!(house.anybody().post("/api/v1/auth/register", &body).status, 400, "{name:.20}");
    }
}

#[test]
fn a_role_or_a_tenant_in_the_body_of_a_registration_is_refused() {
    let house = House::open();
    for extra in ["role", "tenant_id", "admin"] {
        let mut body = json!({"name": "acme", "email": "a@b.example", "password": PASSWORD});
        body[extra] = json!("admin");
        assert_eq!(house.anybody().post("/api/v1/auth/register", &body).status, 400, "{extra}");
    }
}

#[test]
fn signing_in_tells_unknown_addresses_and_wrong_passwords_alike() {
    let house = House::open();
    house.admin("acme");
    let login = |email: &str, password: &str| {
        house.anybody().post("/api/v1/auth/login", &json!({"email": email, "password": password}))
    };
    let right = login("Admin@ACME.example", PASSWORD);
    assert_eq!(right.status, 200, "{}", right.text);
    let (wrong, unknown) = (login("admin@acme.example", "not the password"), login("nobody@acme.example", PASSWORD));
    assert_eq!((wrong.status, wrong.problem()), (401, "wrong_password".into()));
    assert_eq!((unknown.status, unknown.problem()), (401, "wrong_password".into()));
    let without_trace = |answer: &crate::house::Answer| {
        let mut body = answer.json();
        body["trace_id"] = json!("");
        body
    };
    assert_eq!(without_trace(&wrong), without_trace(&unknown));
    assert_eq!(login("admin@acme.example", &"x".repeat(2_000)).status, 400, "refused before it is hashed");
}

#[test]
fn one_address_in_two_tenants_signs_in_to_the_one_that_is_named() {
    let house = House::open();
    let (acme, zeta) = (house.admin("acme"), house.admin("zeta"));
    house.user(&acme, "both@x.example", "viewer");
    house.user(&zeta, "both@x.example", "editor");
    let body = json!({"email": "both@x.example", "password": PASSWORD});
    let both = house.anybody().post("/api/v1/auth/login", &body);
    assert_eq!((both.status, both.problem().as_str()), (409, "tenant_needed"));
    let body = json!({"tenant": "zeta", "email": "both@x.example", "password": PASSWORD});
    let zeta = house.anybody().post("/api/v1/auth/login", &body).json();
    assert_eq!((zeta["user"]["tenant"].as_str(), zeta["user"]["role"].as_str()), (Some("zeta"), Some("editor")));
}

#[test]
fn a_session_ends_at_logout_and_the_others_at_a_new_password() {
    let house = House::open();
    let admin = house.admin("acme");
    let login = json!({"email": "admin@acme.example", "password": PASSWORD});
    let second = house.anybody().post("/api/v1/auth/login", &login).json();
    let second = house.bearer(second["access_token"].as_str().unwrap());
    let third = house.anybody().post("/api/v1/auth/login", &login).json();
    let third = house.bearer(third["access_token"].as_str().unwrap());
    assert_eq!(admin.get("/api/v1/auth/sessions").json()["sessions"].as_array().unwrap().len(), 3);

    assert_eq!(third.post("/api/v1/auth/logout", &json!({})).status, 204);
    assert_eq!(third.get("/api/v1/auth/me").status, 401);

    let change = json!({"old_password": PASSWORD, "new_password": "another correct horse"});
    assert_eq!(second.post("/api/v1/auth/password", &change).status, 204);
    assert_eq!(second.get("/api/v1/auth/me").status, 200, "the session that asks goes on");
    assert_eq!(admin.get("/api/v1/auth/me").status, 401);
    assert_eq!(house.anybody().post("/api/v1/auth/login", &login).status, 401);
}

#[test]
fn wrong_old_passwords_count_as_those_of_a_sign_in_do() {
    let house = House::open();
    let admin = house.admin("acme");
    let wrong = json!({"old_password": "not the password", "new_password": "another correct horse"});
    let login = json!({"email": "admin@acme.example", "password": "not the password"});
    for n in 0..10 {
        assert_eq!(admin.post("/api/v1/auth/password", &wrong).problem(), "wrong_password", "{n}");
        assert_eq!(house.anybody().post("/api/v1/auth/login", &login).problem(), "wrong_password", "{n}");
    }
    // One more may be tried every 30 s, which this may have taken.
    let mut answers = (0..10).map(|_| admin.post("/api/v1/auth/password", &wrong));
    let refused = answers.find(|answer| answer.status != 401).unwrap();
    assert_eq!((refused.status, refused.problem().as_str()), (429, "too_many_guesses"));
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 0);
}

#[test]
fn the_last_admin_stays_and_roles_count_at_once() {
    let house = House::open();
    let admin = house.admin("acme");
    let own = admin.get("/api/v1/auth/me").json()["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/auth/users/{own}");
    assert_eq!(admin.patch(&path, &json!({"role": "viewer"})).status, 409);
    assert_eq!(admin.delete(&path).status, 409);

    let other = house.user(&admin, "second@acme.example", "admin");
    let other_id = other.get("/api/v1/auth/me").json()["id"].as_str().unwrap().to_owned();
    let other_path = format!("/api/v1/auth/users/{other_id}");
    assert_eq!(other.get("/api/v1/auth/users").status, 200);
    assert_eq!(admin.patch(&other_path, &json!({"role": "viewer"})).status, 200);
    let lowered = other.get("/api/v1/auth/users");
    assert_eq!((lowered.status, lowered.problem().as_str()), (403, "forbidden"));
    assert_eq!(admin.delete(&other_path).status, 204);
    assert_eq!(other.get("/api/v1/auth/me").status, 401);
    assert_eq!(admin.patch(&other_path, &json!({"role": "admin"})).status, 404);
}

#[test]
fn an_invitation_and_a_reset_count_once() {
    let house = House::open();
    let admin = house.admin("acme");
    let invited = admin.post("/api/v1/auth/users/invitations", &json!({"email": "n@acme.example", "role": "viewer"}));
    let token = invited.json()["token"].clone();
    let accept = |token: &serde_json::Value, password: &str| {
        house.anybody().post("/api/v1/auth/accept", &json!({"token": token, "password": password}))
    };
    assert_eq!(accept(&token, "short").status, 400);
    let accepted = accept(&token, PASSWORD);
    assert_eq!(accepted.status, 200);
    assert_eq!(accept(&token, PASSWORD).status, 404);
    let user = accepted.json()["user"]["id"].as_str().unwrap().to_owned();
    let reset = admin.post(&format!("/api/v1/auth/users/{user}/reset"), &json!({})).json()["token"].clone();
    assert_eq!(accept(&reset, "a quite different one").status, 200);
    assert_eq!(accept(&reset, "a quite different one").status, 404);
    let first = house.bearer(accepted.json()["access_token"].as_str().unwrap());
    assert_eq!(first.get("/api/v1/auth/me").status, 401, "the reset ended what was open");
}

#[test]
fn a_key_is_told_once_bound_to_its_role_and_revoked_at_once() {
    let house = House::open();
    let admin = house.admin("acme");
    let refused = admin.post("/api/v1/auth/keys", &json!({"name": "k", "role": "admin"}));
    assert_eq!(refused.status, 400);
    let made = admin.post("/api/v1/auth/keys", &json!({"name": "loader", "role": "editor"}));
    assert_eq!(made.status, 201, "{}", made.text);
    let key = house.bearer(made.json()["secret"].as_str().unwrap());
    assert_eq!(key.get("/api/v1/auth/me").json()["role"], "editor");
    assert_eq!(key.get("/api/v1/auth/users").status, 403);
    assert_eq!(key.post("/api/v1/auth/logout", &json!({})).status, 403);
    let listed = admin.get("/api/v1/auth/keys");
    assert!(!listed.text.contains(made.json()["secret"].as_str().unwrap().rsplit('_').next().unwrap()));
    let id = listed.json()["keys"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(admin.delete(&format!("/api/v1/auth/keys/{id}")).status, 204);
    assert_eq!(key.get("/api/v1/auth/me").status, 401);
}
