//! Zendesk: users and organizations of the Support API, and flat exports of them.

use serde_json::json;

use super::{assert_deleted, assert_rows, flat, row};

#[test]
fn organizations() {
    let api = r#"{"url":"https://x.zendesk.com/api/v2/organizations/35436.json","id":35436,"external_id":"ERP-1","name":"Ada Engines",
        "domain_names":["ada.example","ada.test"],"details":null,"group_id":null,"shared_tickets":true,"tags":["vip"],
        "organization_fields":{"type":"customer","industry":"machinery","owner_id":"u-1","status":"active","tier":2},
        "created_at":"2024-05-10T09:00:00Z","updated_at":"2024-10-31T12:00:00Z","deleted_at":null}"#;
    assert_rows(
        "zendesk",
        "account",
        &[(
            api,
            json!({
                "account_id": "35436", "name": "Ada Engines", "type": "customer", "industry": "machinery",
                "owner_id": "u-1", "status": "active", "website": "ada.example", "external_ids": "ERP-1",
                "created_at": "2024-05-10T09:00:00Z", "updated_at": "2024-10-31T12:00:00Z",
            }),
        )],
    );
    let extras = row("zendesk", "organizations", api).extras;
    assert_eq!(extras["domain_names"], json!(["ada.example", "ada.test"]));
    assert_eq!(extras["organization_fields"], json!({"tier": 2}));
    let bare = r#"{"id":1,"name":"x","domain_names":[],"updated_at":"2024-10-31T12:00:00Z"}"#;
    assert!(!row("zendesk", "account", bare).fields.contains_key("website"), "an empty list is no value");
    assert_deleted(
        "zendesk",
        "account",
        r#"{"id":1,"updated_at":"2024-10-31T12:00:00Z","deleted_at":"2024-11-01T00:00:00Z"}"#,
    );
}

#[test]
fn users() {
    let api = r#"{"id":9873843,"name":"Grace Hopper","email":"g@ada.example","phone":"+15551234567","organization_id":35436,
        "role":"end-user","active":true,"suspended":true,"verified":true,"tags":["vip"],"external_id":null,
        "user_fields":{"title":"Admiral","department":"Navy"},"photo":null,
        "created_at":"2024-05-10T09:00:00Z","updated_at":"2024-10-31T12:00:00Z"}"#;
    let header = "id,organization_id,name,email,phone,role,tags,created_at,updated_at";
    let cells = "ZD-1,ZD-ORG-1,Grace Hopper,g@ada.example,+1-555-2001,Manager,vip|tech,2024-05-10T09:00:00Z,2024-10-31T12:00:00Z";
    assert_rows(
        "zendesk",
        "contact",
        &[
            (
                api,
                json!({
                    "contact_id": "9873843", "account_id": "35436", "name": "Grace Hopper", "email": "g@ada.example",
                    "phone": "+15551234567", "title": "Admiral", "department": "Navy", "role": "end-user",
                    "created_at": "2024-05-10T09:00:00Z", "updated_at": "2024-10-31T12:00:00Z",
                }),
            ),
            (
                &flat(header, cells),
                json!({
                    "contact_id": "ZD-1", "account_id": "ZD-ORG-1", "name": "Grace Hopper", "email": "g@ada.example",
                    "phone": "+1-555-2001", "role": "Manager", "created_at": "2024-05-10T09:00:00Z",
                    "updated_at": "2024-10-31T12:00:00Z",
                }),
            ),
        ],
    );
    assert_eq!(row("zendesk", "users", api).extras["suspended"], true, "who is suspended is still there");
    for active in ["false", "\"False\""] {
        assert_deleted(
            "zendesk",
            "users",
            &format!(r#"{{"id":1,"active":{active},"updated_at":"2024-10-31T12:00:00Z"}}"#),
        );
    }
}
