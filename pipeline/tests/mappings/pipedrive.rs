//! Pipedrive: API v1 (nested owner, organisation, person; lists of addresses), API v2 (plain ids) and flat exports.

use serde_json::json;

use super::{assert_deleted, assert_rows, flat, row};

#[test]
fn organizations() {
    let v1 = r#"{"id":5,"company_id":77,"owner_id":{"id":8,"name":"Lin Wu","email":"lin@us.example","value":8},"name":"Ada Engines",
        "label_name":"Customer","active_flag":true,"people_count":3,"address":"Berlin","website":"https://ada.example","industry":"Machinery",
        "annual_revenue":4500000,"employee_count":220,"add_time":"2024-09-10 10:00:00","update_time":"2024-10-31 13:00:00"}"#;
    let v2 = r#"{"id":5,"name":"Ada Engines","owner_id":8,"org_id":null,"is_deleted":false,"label_ids":[1],"address":{"value":"Berlin"},
        "phone":"030 1","status":"active","external_ids":["ERP-1"],"add_time":"2024-09-10T10:00:00Z","update_time":"2024-10-31T13:00:00Z"}"#;
    assert_rows(
        "pipedrive",
        "account",
        &[
            (
                v1,
                json!({
                    "account_id": "5", "name": "Ada Engines", "type": "Customer", "industry": "Machinery",
                    "owner_id": "8", "owner_name": "Lin Wu", "annual_revenue": "4500000.0000", "employee_count": 220,
                    "website": "https://ada.example", "created_at": "2024-09-10T10:00:00Z",
                    "updated_at": "2024-10-31T13:00:00Z",
                }),
            ),
            (
                v2,
                json!({
                    "account_id": "5", "name": "Ada Engines", "owner_id": "8", "status": "active", "phone": "030 1",
                    "created_at": "2024-09-10T10:00:00Z", "updated_at": "2024-10-31T13:00:00Z", "external_ids": ["ERP-1"],
                }),
            ),
        ],
    );
    assert_deleted("pipedrive", "organizations", r#"{"id":5,"active_flag":false,"update_time":"2024-10-31 13:00:00"}"#);
    assert_deleted("pipedrive", "organizations", r#"{"id":5,"is_deleted":true,"update_time":"2024-10-31T13:00:00Z"}"#);
}

#[test]
fn persons() {
    let v1 = r#"{"id":11,"owner_id":{"id":8,"name":"Lin Wu","value":8},"org_id":{"name":"Ada Engines","people_count":3,"value":5},
        "name":"Grace Hopper","first_name":"Grace","last_name":"Hopper","active_flag":true,"primary_email":"g@ada.example",
        "email":[{"label":"work","value":"g@ada.example","primary":true},{"label":"home","value":"g@home.example","primary":false}],
        "phone":[{"label":"work","value":"030 99","primary":true}],"job_title":"Admiral","department":"Navy","role":"buyer",
        "add_time":"2024-09-10 10:00:00","update_time":"2024-10-31 13:00:00"}"#;
    let v2 = r#"{"id":11,"name":"Grace Hopper","first_name":"Grace","last_name":"Hopper","owner_id":8,"org_id":5,"is_deleted":false,
        "emails":[{"value":"g@ada.example","primary":true,"label":"work"}],"phones":[{"value":"030 99","primary":true,"label":"work"}],
        "add_time":"2024-09-10T10:00:00Z","update_time":"2024-10-31T13:00:00Z"}"#;
    let exported = flat(
        "id,org_id,name,email,phone,update_time",
        "PD-1,PD-ORG-1,Grace Hopper,g@ada.example,030 99,2024-10-31 13:00:00",
    );
    let whole = json!({
        "contact_id": "11", "account_id": "5", "first_name": "Grace", "last_name": "Hopper", "name": "Grace Hopper",
        "email": "g@ada.example", "phone": "030 99", "title": "Admiral", "department": "Navy", "role": "buyer",
        "owner_id": "8", "created_at": "2024-09-10T10:00:00Z", "updated_at": "2024-10-31T13:00:00Z",
    });
    assert_rows(
        "pipedrive",
        "contact",
        &[
            (v1, whole),
            (
                v2,
                json!({
                    "contact_id": "11", "account_id": "5", "first_name": "Grace", "last_name": "Hopper",
                    "name": "Grace Hopper", "email": "g@ada.example", "phone": "030 99", "owner_id": "8",
                    "created_at": "2024-09-10T10:00:00Z", "updated_at": "2024-10-31T13:00:00Z",
                }),
            ),
            (
                &exported,
                json!({
                    "contact_id": "PD-1", "account_id": "PD-ORG-1", "name": "Grace Hopper", "email": "g@ada.example",
                    "phone": "030 99", "updated_at": "2024-10-31T13:00:00Z",
                }),
            ),
        ],
    );
    let extras = row("pipedrive", "person", v1).extras;
    assert_eq!(extras["email"][1]["value"], "g@home.example", "the other addresses are kept");
    assert_eq!(extras["org_id"]["people_count"], 3);
    let numberless =
        r#"{"id":1,"name":"x","email":[],"phone":[{"value":"","primary":true}],"update_time":"2024-10-31 13:00:00"}"#;
    assert!(!row("pipedrive", "persons", numberless).fields.contains_key("email"));
    assert_deleted("pipedrive", "persons", r#"{"id":1,"active_flag":false,"update_time":"2024-10-31 13:00:00"}"#);
}

#[test]
fn deals() {
    let v1 = r#"{"id":21,"creator_user_id":{"id":8},"user_id":{"id":8,"name":"Lin Wu","value":8},"person_id":{"name":"Grace","value":11},
        "org_id":{"name":"Ada Engines","value":5},"stage_id":3,"title":"Pumps","value":1500.25,"currency":"EUR","status":"open",
        "probability":null,"active":true,"deleted":false,"add_time":"2024-09-10 10:00:00","update_time":"2024-10-31 13:00:00",
        "expected_close_date":"2024-12-31"}"#;
    let header = "id,org_id,title,stage_name,value,currency,expected_close_date,user_id,probability,add_time,update_time,deal_type";
    let cells = "PD-1,PD-ORG-1,Pumps,Contract Sent,425000,USD,2024-11-20,PD-USR-1,80,2024-09-10T10:00:00Z,2024-10-31T13:00:00Z,new";
    assert_rows(
        "pipedrive",
        "opportunity",
        &[
            (
                v1,
                json!({
                    "opportunity_id": "21", "account_id": "5", "account_name": "Ada Engines", "name": "Pumps",
                    "stage": "3", "amount": "1500.2500", "currency": "EUR", "close_date": "2024-12-31", "owner_id": "8",
                    "owner_name": "Lin Wu", "created_at": "2024-09-10T10:00:00Z", "updated_at": "2024-10-31T13:00:00Z",
                }),
            ),
            (
                &flat(header, cells),
                json!({
                    "opportunity_id": "PD-1", "account_id": "PD-ORG-1", "name": "Pumps", "stage": "Contract Sent",
                    "amount": "425000.0000", "currency": "USD", "close_date": "2024-11-20", "owner_id": "PD-USR-1",
                    "probability": "80.0000", "type": "new", "created_at": "2024-09-10T10:00:00Z",
                    "updated_at": "2024-10-31T13:00:00Z",
                }),
            ),
        ],
    );
    let v2 = r#"{"id":21,"title":"Pumps","owner_id":8,"org_id":5,"stage_id":3,"value":0,"is_deleted":false,"update_time":"2024-10-31T13:00:00Z"}"#;
    let row = row("pipedrive", "deals", v2);
    assert_eq!((&row.fields["owner_id"], &row.fields["amount"]), (&json!("8"), &json!("0.0000")));
    assert_deleted(
        "pipedrive",
        "deals",
        r#"{"id":21,"status":"deleted","deleted":false,"update_time":"2024-10-31 13:00:00"}"#,
    );
}
