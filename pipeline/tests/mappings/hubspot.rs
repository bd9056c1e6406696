//! HubSpot: objects of the CRM API v3, flat exports by property name, and exports by label.

use serde_json::json;

use super::{assert_deleted, assert_rows, flat, row};

#[test]
fn companies() {
    let api = r#"{"id":"9001","properties":{"hs_object_id":"9001","name":"Ada Engines","domain":"ada.example","website":"https://ada.example",
        "type":"PARTNER","industry":"MACHINERY","hubspot_owner_id":"77","lifecyclestage":"customer","annualrevenue":"4500000",
        "numberofemployees":"220","phone":"+49 30 1234","createdate":"2024-06-01T08:00:00.000Z",
        "hs_lastmodifieddate":"2024-10-31T09:00:00.123Z"},"createdAt":"2024-06-01T08:00:00.000Z",
        "updatedAt":"2024-10-31T09:00:00.123Z","archived":false}"#;
    let header = "hs_object_id,company_name,company_type,hs_industry,owner_email,lifecycle_stage,createdate,hs_lastmodifieddate,annualrevenue,numberofemployees";
    let cells = "HS-1,Ada Engines,customer,Machinery,lin@us.example,customer,2024-06-01,2024-10-31,4500000,220";
    let label_header = "Record ID,Company name,Company owner,Last Modified Date,external_ids,Company Domain Name";
    let label_cells = "9001,Ada Engines,Lin Wu,2024-10-31 09:00,ERP-1,ada.example";
    assert_rows(
        "hubspot",
        "account",
        &[
            (
                api,
                json!({
                    "account_id": "9001", "name": "Ada Engines", "type": "PARTNER", "industry": "MACHINERY",
                    "owner_id": "77", "status": "customer", "annual_revenue": "4500000.0000", "employee_count": 220,
                    "website": "https://ada.example", "phone": "+49 30 1234", "created_at": "2024-06-01T08:00:00Z",
                    "updated_at": "2024-10-31T09:00:00.123Z",
                }),
            ),
            (
                &flat(header, cells),
                json!({
                    "account_id": "HS-1", "name": "Ada Engines", "type": "customer", "industry": "Machinery",
                    "owner_id": "lin@us.example", "status": "customer", "annual_revenue": "4500000.0000",
                    "employee_count": 220, "created_at": "2024-06-01T00:00:00Z", "updated_at": "2024-10-31T00:00:00Z",
                }),
            ),
            (
                &flat(label_header, label_cells),
                json!({
                    "account_id": "9001", "name": "Ada Engines", "owner_name": "Lin Wu", "website": "ada.example",
                    "updated_at": "2024-10-31T09:00:00Z", "external_ids": "ERP-1",
                }),
            ),
        ],
    );
    assert_eq!(row("hubspot", "account", api).extras["properties"]["domain"], "ada.example", "once, and kept");
    assert_deleted("hubspot", "companies", r#"{"id":"9001","updatedAt":"2024-11-01T00:00:00Z","archived":true}"#);
}

#[test]
fn contacts() {
    let api = r#"{"id":"101","properties":{"hs_object_id":"101","firstname":"Grace","lastname":"Hopper","email":"g@ada.example",
        "phone":"030 99","jobtitle":"Admiral","department":"Navy","hs_role":"decision maker","hubspot_owner_id":"77",
        "createdate":"2024-06-01T08:00:00Z","lastmodifieddate":"2024-10-31T09:00:00Z"},
        "associations":{"companies":{"results":[{"id":"9001","type":"contact_to_company"},{"id":"9002","type":"x"}]}},
        "createdAt":"2024-06-01T08:00:00Z","updatedAt":"2024-10-31T09:00:00Z","archived":false}"#;
    let header = "hs_object_id,associatedcompanyid,firstname,lastname,email,phone,jobtitle,hs_department,createdate,lastmodifieddate";
    let cells = "HS-C-1,HS-1,,Hopper,g@ada.example,030 99,Admiral,Navy,2024-06-01,2024-10-31";
    assert_rows(
        "hubspot",
        "contact",
        &[
            (
                api,
                json!({
                    "contact_id": "101", "account_id": "9001", "first_name": "Grace", "last_name": "Hopper",
                    "name": "Grace Hopper", "email": "g@ada.example", "phone": "030 99", "title": "Admiral",
                    "department": "Navy", "role": "decision maker", "owner_id": "77",
                    "created_at": "2024-06-01T08:00:00Z", "updated_at": "2024-10-31T09:00:00Z",
                }),
            ),
            (
                &flat(header, cells),
                json!({
                    "contact_id": "HS-C-1", "account_id": "HS-1", "last_name": "Hopper", "name": "Hopper",
                    "email": "g@ada.example", "phone": "030 99", "title": "Admiral", "department": "Navy",
                    "created_at": "2024-06-01T00:00:00Z", "updated_at": "2024-10-31T00:00:00Z",
                }),
            ),
        ],
    );
    let nameless = r#"{"id":"1","properties":{"firstname":"","lastname":""},"updatedAt":"2024-10-31T09:00:00Z"}"#;
    assert!(!row("hubspot", "contact", nameless).fields.contains_key("name"), "two empty names are none");
}

/// The API's probability comes as all the digits of a float.
#[test]
fn deals() {
    let api = r#"{"id":"555","properties":{"hs_object_id":"555","dealname":"Pumps","dealstage":"contractsent","amount":"1500.25",
        "deal_currency_code":"EUR","closedate":"2024-12-31T23:00:00Z","hubspot_owner_id":"77","dealtype":"newbusiness",
        "hs_deal_stage_probability":"0.200000000000000011102230246251565404236316680908203125",
        "createdate":"2024-06-01T08:00:00Z","hs_lastmodifieddate":"2024-10-31T09:00:00Z"},
        "associations":{"companies":{"results":[{"id":"9001","type":"deal_to_company"}]}},
        "createdAt":"2024-06-01T08:00:00Z","updatedAt":"2024-10-31T09:00:00Z","archived":false}"#;
    let header = "hs_object_id,hs_associated_company_id,dealname,dealstage,amount,deal_currency_code,closedate,hubspot_owner_id,hs_probability,createdate,hs_lastmodifieddate,dealtype";
    let cells = "HS-D-1,HS-1,Pumps,closedwon,0,USD,2024-10-20,lin@us.example,70,2024-08-15,2024-10-20,existingbusiness";
    let labels = flat(
        "Record ID,Deal Name,Associated Company,Deal owner,Deal Probability,Last Modified Date",
        "555,Pumps,Ada Engines,Lin Wu,0.9,2024-10-31 09:00",
    );
    let cases = [
        (
            api,
            json!({
                "opportunity_id": "555", "account_id": "9001", "name": "Pumps", "stage": "contractsent",
                "amount": "1500.2500", "currency": "EUR", "close_date": "2024-12-31", "owner_id": "77",
                "probability": "20.0000", "type": "newbusiness", "created_at": "2024-06-01T08:00:00Z",
                "updated_at": "2024-10-31T09:00:00Z",
            }),
        ),
        (
            &flat(header, cells),
            json!({
                "opportunity_id": "HS-D-1", "account_id": "HS-1", "name": "Pumps", "stage": "closedwon",
                "amount": "0.0000", "currency": "USD", "close_date": "2024-10-20", "owner_id": "lin@us.example",
                "probability": "70.0000", "type": "existingbusiness", "created_at": "2024-08-15T00:00:00Z",
                "updated_at": "2024-10-20T00:00:00Z",
            }),
        ),
        (
            &labels,
            json!({
                "opportunity_id": "555", "account_name": "Ada Engines", "name": "Pumps", "owner_name": "Lin Wu",
                "probability": "90.0000", "updated_at": "2024-10-31T09:00:00Z",
            }),
        ),
    ];
    assert_rows("hubspot", "opportunity", &cases);
    assert_rows("hubspot", "deal", &cases);
}
