//! Supabase: rows as PostgREST and logical replication give them.

use serde_json::json;

use super::{assert_deleted, assert_rows};

#[test]
fn accounts() {
    let api = r#"{"account_id":"A-1","name":"Ada Engines","type":"customer","industry":"Machinery","owner_id":"U-1","owner_name":"Lin Wu",
        "status":"active","annual_revenue":8500000.0000,"employees":420,"website":"ada.example","phone":"030 1","external_ids":["ERP-1","X-2"],
        "created_at":"2024-01-20T11:00:00.123456+00:00","updated_at":"2024-10-31T15:00:00+00:00","deleted_at":null}"#;
    assert_rows(
        "supabase",
        "account",
        &[(
            api,
            json!({
                "account_id": "A-1", "name": "Ada Engines", "type": "customer", "industry": "Machinery",
                "owner_id": "U-1", "owner_name": "Lin Wu", "status": "active", "annual_revenue": "8500000.0000",
                "employee_count": 420, "website": "ada.example", "phone": "030 1",
                "created_at": "2024-01-20T11:00:00.123456Z", "updated_at": "2024-10-31T15:00:00Z",
                "external_ids": ["ERP-1", "X-2"],
            }),
        )],
    );
    assert_deleted(
        "supabase",
        "accounts",
        r#"{"id":1,"updated_at":"2024-10-31T15:00:00Z","deleted_at":"2024-11-01T00:00:00Z"}"#,
    );
}

#[test]
fn contacts() {
    let api = r#"{"id":7,"account_id":"A-1","first_name":"Grace","last_name":"Hopper","name":"Grace Hopper","email":"g@ada.example",
        "phone":"030 99","title":"Admiral","department":"Navy","role":"buyer","owner_id":"U-1",
        "created_at":"2024-01-20T11:00:00+00:00","updated_at":"2024-10-31T15:00:00+00:00"}"#;
    assert_rows(
        "supabase",
        "contact",
        &[(
            api,
            json!({
                "contact_id": "7", "account_id": "A-1", "first_name": "Grace", "last_name": "Hopper",
                "name": "Grace Hopper", "email": "g@ada.example", "phone": "030 99", "title": "Admiral",
                "department": "Navy", "role": "buyer", "owner_id": "U-1", "created_at": "2024-01-20T11:00:00Z",
                "updated_at": "2024-10-31T15:00:00Z",
            }),
        )],
    );
}

#[test]
fn opportunities() {
    let api = r#"{"opportunity_id":"O-1","account_id":"A-1","account_name":"Ada Engines","name":"Pumps","stage":"Proposal",
        "amount":1500.25,"currency":"EUR","close_date":"2024-12-31","owner_id":"U-1","owner_name":"Lin Wu","probability":33.333333333333336,
        "type":"new","created_at":"2024-01-20T11:00:00+00:00","updated_at":"2024-10-31T15:00:00+00:00"}"#;
    assert_rows(
        "supabase",
        "opportunity",
        &[(
            api,
            json!({
                "opportunity_id": "O-1", "account_id": "A-1", "account_name": "Ada Engines", "name": "Pumps",
                "stage": "Proposal", "amount": "1500.2500", "currency": "EUR", "close_date": "2024-12-31",
                "owner_id": "U-1", "owner_name": "Lin Wu", "probability": "33.3333", "type": "new",
                "created_at": "2024-01-20T11:00:00Z", "updated_at": "2024-10-31T15:00:00Z",
            }),
        )],
    );
}

#[test]
fn account_health() {
    let api =
        r#"{"account_id":"A-1","health_score":87.5,"risk_level":"low","last_updated":"2024-10-31T15:00:00+00:00"}"#;
    assert_rows(
        "supabase",
        "account_health",
        &[(
            api,
            json!({
                "account_id": "A-1", "health_score": "87.500000000000000000", "risk_level": "low",
                "last_updated": "2024-10-31T15:00:00Z",
            }),
        )],
    );
}
