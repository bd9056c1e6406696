//! Salesforce: REST and Bulk API records (related records nested, or flat with dots) and the flat CRM export.

use serde_json::json;

use super::{assert_deleted, assert_rows, flat, row};

#[test]
fn accounts() {
    let api = r#"{"attributes":{"type":"Account","url":"/services/data/v62.0/sobjects/Account/0015g00000A1"},
        "Id":"0015g00000A1b2CAAR","IsDeleted":false,"Name":"Ada Engines","Type":"Customer - Direct","Industry":"Energy",
        "AnnualRevenue":350000000.0,"NumberOfEmployees":9000,"Website":"https://ada.example","Phone":"(336) 222-7000",
        "OwnerId":"0055g00000B1","Owner":{"attributes":{"type":"User"},"Name":"Lin Wu"},"Active__c":"Yes",
        "AccountNumber":"CD656092","BillingCity":"Burlington","CreatedDate":"2024-01-15T10:00:00.000+0000",
        "LastModifiedDate":"2024-10-20T14:30:00.000+0000","SystemModstamp":"2024-10-20T14:30:05.000+0000"}"#;
    let header = "account_id,name,type,industry,owner_id,status,created_at,updated_at,annual_revenue,employees";
    let cells = "A-1,Ada Engines,Enterprise,Energy,U-1,active,2024-01-15T10:00:00Z,2024-10-20T14:30:00Z,0,250";
    assert_rows(
        "salesforce",
        "account",
        &[
            (
                api,
                json!({
                    "account_id": "0015g00000A1b2CAAR", "name": "Ada Engines", "type": "Customer - Direct",
                    "industry": "Energy", "owner_id": "0055g00000B1", "owner_name": "Lin Wu", "status": "Yes",
                    "annual_revenue": "350000000.0000", "employee_count": 9000, "website": "https://ada.example",
                    "phone": "(336) 222-7000", "created_at": "2024-01-15T10:00:00Z",
                    "updated_at": "2024-10-20T14:30:00Z", "external_ids": "CD656092",
                }),
            ),
            (
                &flat(header, cells),
                json!({
                    "account_id": "A-1", "name": "Ada Engines", "type": "Enterprise", "industry": "Energy",
                    "owner_id": "U-1", "status": "active", "annual_revenue": "0.0000", "employee_count": 250,
                    "created_at": "2024-01-15T10:00:00Z", "updated_at": "2024-10-20T14:30:00Z",
                }),
            ),
        ],
    );
    let extras = row("salesforce", "account", api).extras;
    assert_eq!((&extras["BillingCity"], &extras["attributes"]["type"]), (&json!("Burlington"), &json!("Account")));
    assert_eq!(extras["SystemModstamp"], "2024-10-20T14:30:05.000+0000");
    assert_eq!(extras["Owner"], json!({"attributes": {"type": "User"}}));
}

#[test]
fn contacts() {
    let api = r#"{"attributes":{"type":"Contact"},"Id":"0035g00000C1","IsDeleted":false,"AccountId":"0015g00000A1",
        "FirstName":"Rose","LastName":"Gonzalez","Name":"Rose Gonzalez","Email":"rose@ada.example","Phone":"(512) 757-6000",
        "Title":"SVP, Procurement","Department":"Procurement","Role__c":"Buyer","OwnerId":"0055g00000B1",
        "MailingAddress":{"city":"Austin"},"CreatedDate":"2024-01-15T10:00:00.000Z",
        "LastModifiedDate":"2024-10-20T14:30:00.000Z"}"#;
    let header = "contact_id,account_id,first_name,last_name,email,phone,title,department,created_at,updated_at";
    let cells =
        "C-1,A-1,Rose,Gonzalez,rose@ada.example,0512 7576,SVP,Procurement,2024-01-15T10:00:00Z,2024-10-20T14:30:00Z";
    assert_rows(
        "salesforce",
        "contact",
        &[
            (
                api,
                json!({
                    "contact_id": "0035g00000C1", "account_id": "0015g00000A1", "first_name": "Rose",
                    "last_name": "Gonzalez", "name": "Rose Gonzalez", "email": "rose@ada.example",
                    "phone": "(512) 757-6000", "title": "SVP, Procurement", "department": "Procurement", "role": "Buyer",
                    "owner_id": "0055g00000B1", "created_at": "2024-01-15T10:00:00Z",
                    "updated_at": "2024-10-20T14:30:00Z",
                }),
            ),
            (
                &flat(header, cells),
                json!({
                    "contact_id": "C-1", "account_id": "A-1", "first_name": "Rose", "last_name": "Gonzalez",
                    "email": "rose@ada.example", "phone": "0512 7576", "title": "SVP", "department": "Procurement",
                    "created_at": "2024-01-15T10:00:00Z", "updated_at": "2024-10-20T14:30:00Z",
                }),
            ),
        ],
    );
}

#[test]
fn opportunities() {
    let api = r#"{"attributes":{"type":"Opportunity"},"Id":"0065g00000D1","IsDeleted":false,"AccountId":"0015g00000A1",
        "Account":{"attributes":{"type":"Account"},"Name":"Ada Engines"},"Name":"Generators","StageName":"Closed Won",
        "Amount":120000.5,"Probability":100.0,"CurrencyIsoCode":"EUR","CloseDate":"2024-12-31","Type":"New Customer",
        "OwnerId":"0055g00000B1","Owner":{"Name":"Lin Wu"},"IsClosed":true,"CreatedDate":"2024-01-15T10:00:00.000+0000",
        "LastModifiedDate":"","SystemModstamp":"2024-10-20T14:30:00.000+0000"}"#;
    let dotted = r#"{"Id":"0065g00000D1","Name":"Generators","Account.Name":"Ada Engines","Owner.Name":"Lin Wu",
        "LastModifiedDate":"2024-10-20T14:30:00.000Z"}"#;
    let header = "opportunity_id,account_id,name,stage,amount,currency,close_date,owner_id,probability,created_at,updated_at,type";
    let cells =
        "O-1,A-1,Generators,Proposal,250000,USD,2024-12-31,U-1,75,2024-10-01T09:00:00Z,2024-10-30T14:00:00Z,Upsell";
    assert_rows(
        "salesforce",
        "opportunity",
        &[
            (
                api,
                json!({
                    "opportunity_id": "0065g00000D1", "account_id": "0015g00000A1", "account_name": "Ada Engines",
                    "name": "Generators", "stage": "Closed Won", "amount": "120000.5000", "currency": "EUR",
                    "close_date": "2024-12-31", "owner_id": "0055g00000B1", "owner_name": "Lin Wu",
                    "probability": "100.0000", "type": "New Customer", "created_at": "2024-01-15T10:00:00Z",
                    "updated_at": "2024-10-20T14:30:00Z",
                }),
            ),
            (
                dotted,
                json!({
                    "opportunity_id": "0065g00000D1", "account_name": "Ada Engines", "name": "Generators",
                    "owner_name": "Lin Wu", "updated_at": "2024-10-20T14:30:00Z",
                }),
            ),
            (
                &flat(header, cells),
                json!({
                    "opportunity_id": "O-1", "account_id": "A-1", "name": "Generators", "stage": "Proposal",
                    "amount": "250000.0000", "currency": "USD", "close_date": "2024-12-31", "owner_id": "U-1",
                    "probability": "75.0000", "type": "Upsell", "created_at": "2024-10-01T09:00:00Z",
                    "updated_at": "2024-10-30T14:00:00Z",
                }),
            ),
        ],
    );
    assert_deleted(
        "salesforce",
        "opportunity",
        r#"{"Id":"1","IsDeleted":true,"LastModifiedDate":"2024-10-20T14:30:00Z"}"#,
    );
}
