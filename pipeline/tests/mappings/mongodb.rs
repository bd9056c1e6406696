//! MongoDB: documents as Extended JSON, canonical and relaxed, in snake and camel case.

use pipeline::step::KeyReader;
use schemas::Version;
use serde_json::json;

use super::{assert_deleted, assert_rows, row, shipped};

#[test]
fn accounts() {
    let canonical = r#"{"_id":{"$oid":"507f1f77bcf86cd799439011"},"account_id":"A-1","name":"Ada Engines","type":"customer",
        "industry":"Machinery","owner_id":{"$oid":"507f191e810c19729de860ea"},"owner_name":"Lin Wu","status":"active",
        "annual_revenue":{"$numberDecimal":"8500000.0000"},"employees":{"$numberInt":"420"},"website":"ada.example","phone":"030 1",
        "external_ids":["ERP-1"],"created_at":{"$date":{"$numberLong":"1705748400000"}},"updated_at":{"$date":{"$numberLong":"1730386800000"}}}"#;
    let camel = r#"{"_id":{"$oid":"507f1f77bcf86cd799439011"},"name":"Ada Engines","ownerId":"U-1","ownerName":"Lin Wu",
        "annualRevenue":{"$numberDouble":"0.30000000000000004"},"employeeCount":420,"externalIds":["ERP-1"],
        "createdAt":{"$date":"2024-01-20T11:00:00Z"},"updatedAt":{"$date":"2024-10-31T15:00:00Z"},"isDeleted":false}"#;
    assert_rows(
        "mongodb",
        "account",
        &[
            (
                canonical,
                json!({
                    "account_id": "A-1", "name": "Ada Engines", "type": "customer", "industry": "Machinery",
                    "owner_id": "507f191e810c19729de860ea", "owner_name": "Lin Wu", "status": "active",
                    "annual_revenue": "8500000.0000", "employee_count": 420, "website": "ada.example", "phone": "030 1",
                    "created_at": "2024-01-20T11:00:00Z", "updated_at": "2024-10-31T15:00:00Z",
                    "external_ids": ["ERP-1"],
                }),
            ),
            (
                camel,
                json!({
                    "account_id": "507f1f77bcf86cd799439011", "name": "Ada Engines", "owner_id": "U-1",
                    "owner_name": "Lin Wu", "annual_revenue": "0.3000", "employee_count": 420,
                    "created_at": "2024-01-20T11:00:00Z", "updated_at": "2024-10-31T15:00:00Z",
                    "external_ids": ["ERP-1"],
                }),
            ),
        ],
    );
    let row = row("mongodb", "account", canonical);
    assert_eq!(row.key, "507f1f77bcf86cd799439011", "the key is the document's own");
    assert_eq!(row.version, Version::Time(1_730_386_800_000_000));
    assert_eq!(row.extras["_id"], json!({"$oid": "507f1f77bcf86cd799439011"}));
    assert!(row.extras.get("annual_revenue").is_none(), "what was unwrapped is not kept twice");
    let gone = r#"{"_id":{"$oid":"1"},"updated_at":{"$date":"2024-10-31T15:00:00Z"},"deleted_at":{"$date":{"$numberLong":"1730386800000"}}}"#;
    assert_deleted("mongodb", "accounts", gone);
}

#[test]
fn contacts() {
    let camel = r#"{"_id":{"$numberLong":"7"},"accountId":"A-1","firstName":"Grace","lastName":"Hopper","name":"Grace Hopper",
        "email":"g@ada.example","phone":"030 99","title":"Admiral","department":"Navy","role":"buyer","ownerId":"U-1",
        "createdAt":{"$date":"2024-01-20T11:00:00Z"},"updatedAt":{"$date":"2024-10-31T15:00:00Z"}}"#;
    let snake = r#"{"_id":7,"contact_id":"C-1","account_id":"A-1","first_name":"Grace","last_name":"Hopper","owner_id":"U-1",
        "created_at":"2024-01-20T11:00:00Z","updated_at":"2024-10-31T15:00:00Z"}"#;
    assert_rows(
        "mongodb",
        "contact",
        &[
            (
                camel,
                json!({
                    "contact_id": "7", "account_id": "A-1", "first_name": "Grace", "last_name": "Hopper",
                    "name": "Grace Hopper", "email": "g@ada.example", "phone": "030 99", "title": "Admiral",
                    "department": "Navy", "role": "buyer", "owner_id": "U-1", "created_at": "2024-01-20T11:00:00Z",
                    "updated_at": "2024-10-31T15:00:00Z",
                }),
            ),
            (
                snake,
                json!({
                    "contact_id": "C-1", "account_id": "A-1", "first_name": "Grace", "last_name": "Hopper",
                    "owner_id": "U-1", "created_at": "2024-01-20T11:00:00Z", "updated_at": "2024-10-31T15:00:00Z",
                }),
            ),
        ],
    );
    assert_eq!(row("mongodb", "contacts", camel).key, "7");
}

#[test]
fn opportunities() {
    let canonical = r#"{"_id":{"$oid":"507f1f77bcf86cd799439012"},"opportunity_id":"O-1","account_id":"A-1","account_name":"Ada Engines",
        "name":"Pumps","stage":"Proposal","amount":{"$numberDecimal":"1500.25"},"currency":"EUR","close_date":{"$date":{"$numberLong":"1735603200000"}},
        "owner_id":"U-1","owner_name":"Lin Wu","probability":{"$numberDouble":"74.99999999999999"},"type":"new",
        "created_at":{"$date":"2024-01-20T11:00:00Z"},"updated_at":{"$date":"2024-10-31T15:00:00Z"}}"#;
    let camel = r#"{"_id":{"$oid":"507f1f77bcf86cd799439012"},"accountId":"A-1","accountName":"Ada Engines","name":"Pumps",
        "amount":0.30000000000000004,"closeDate":"2024-12-31","ownerId":"U-1","ownerName":"Lin Wu","probability":75,
        "createdAt":{"$date":"2024-01-20T11:00:00Z"},"updatedAt":{"$date":"2024-10-31T15:00:00Z"}}"#;
    assert_rows(
        "mongodb",
        "opportunity",
        &[
            (
                canonical,
                json!({
                    "opportunity_id": "O-1", "account_id": "A-1", "account_name": "Ada Engines", "name": "Pumps",
                    "stage": "Proposal", "amount": "1500.2500", "currency": "EUR", "close_date": "2024-12-31",
                    "owner_id": "U-1", "owner_name": "Lin Wu", "probability": "75.0000", "type": "new",
                    "created_at": "2024-01-20T11:00:00Z", "updated_at": "2024-10-31T15:00:00Z",
                }),
            ),
            (
                camel,
                json!({
                    "opportunity_id": "507f1f77bcf86cd799439012", "account_id": "A-1", "account_name": "Ada Engines",
                    "name": "Pumps", "amount": "0.3000", "close_date": "2024-12-31", "owner_id": "U-1",
                    "owner_name": "Lin Wu", "probability": "75.0000", "created_at": "2024-01-20T11:00:00Z",
                    "updated_at": "2024-10-31T15:00:00Z",
                }),
            ),
        ],
    );
}

#[test]
fn account_usage() {
    let snake = r#"{"_id":{"$oid":"507f1f77bcf86cd799439013"},"account_id":"A-1","last_login_days":{"$numberInt":"3"},
        "sessions_30d":{"$numberLong":"41"},"avg_session_duration":{"$numberDouble":"12.5"},"features_used":["reports","alerts"],
        "updated_at":{"$date":"2024-10-31T15:00:00Z"}}"#;
    let camel = r#"{"_id":"x","accountId":"A-1","lastLoginDays":3,"sessions30d":41,"avgSessionDuration":12.5,"featuresUsed":7,
        "updatedAt":{"$date":"2024-10-31T15:00:00Z"}}"#;
    let row = |features| {
        json!({
            "account_id": "A-1", "last_login_days": 3, "sessions_30d": 41,
            "avg_session_duration": "12.500000000000000000", "features_used": features,
            "updated_at": "2024-10-31T15:00:00Z",
        })
    };
    assert_rows("mongodb", "account_usage", &[(snake, row(json!(["reports", "alerts"]))), (camel, row(json!(7)))]);
    assert_eq!(super::row("mongodb", "usage", snake).key, "507f1f77bcf86cd799439013");
}

/// A snapshot compares keys that it reads itself with those of the step: a difference would delete rows.
#[test]
fn keys_are_read_outside_the_step_as_within_it() {
    let (mapping, _) = shipped("mongodb", "account");
    let mut keys = KeyReader::of(&mapping);
    for id in [r#"{"$oid":"507f1f77bcf86cd799439011"}"#, r#"{"$numberDouble":"7.0"}"#, "7", r#""x""#] {
        let document = format!(r#"{{"_id":{id},"name":"x","account_id":"A","updated_at":"2024-10-31T15:00:00Z"}}"#);
        assert_eq!(keys.read(document.as_bytes()), Some(row("mongodb", "account", &document).key.as_str()));
    }
}
