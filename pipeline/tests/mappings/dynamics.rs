//! Dynamics 365: rows of the Dataverse Web API with their annotations, and flat exports.

use serde_json::json;

use super::{assert_rows, flat, row};

#[test]
fn accounts() {
    let api = r#"{"@odata.etag":"W/\"1\"","accountid":"a1b2","name":"Ada Engines","accountnumber":"AN-7","revenue":8500000.0000,
        "numberofemployees":420,"websiteurl":"https://ada.example","telephone1":"030 1234",
        "customertypecode":3,"customertypecode@OData.Community.Display.V1.FormattedValue":"Customer",
        "industrycode":12,"industrycode@OData.Community.Display.V1.FormattedValue":"Engineering",
        "statecode":0,"statecode@OData.Community.Display.V1.FormattedValue":"Active",
        "_ownerid_value":"o-1","_ownerid_value@OData.Community.Display.V1.FormattedValue":"Lin Wu",
        "_ownerid_value@Microsoft.Dynamics.CRM.lookuplogicalname":"systemuser",
        "createdon":"2024-01-20T11:00:00Z","modifiedon":"2024-10-31T15:00:00Z"}"#;
    let header = "accountid,accountname,accounttype,industrycode,ownerid,statecode,createdon,modifiedon,revenue,numberofemployees";
    let cells = "DYN-1,Ada Engines,3,10000,OWN-1,0,2024-01-20T11:00:00Z,2024-10-31T15:00:00Z,8500000,420";
    assert_rows(
        "dynamics",
        "account",
        &[
            (
                api,
                json!({
                    "account_id": "a1b2", "name": "Ada Engines", "type": "Customer", "industry": "Engineering",
                    "owner_id": "o-1", "owner_name": "Lin Wu", "status": "Active", "annual_revenue": "8500000.0000",
                    "employee_count": 420, "website": "https://ada.example", "phone": "030 1234",
                    "created_at": "2024-01-20T11:00:00Z", "updated_at": "2024-10-31T15:00:00Z", "external_ids": "AN-7",
                }),
            ),
            (
                &flat(header, cells),
                json!({
                    "account_id": "DYN-1", "name": "Ada Engines", "type": "3", "industry": "10000", "owner_id": "OWN-1",
                    "status": "0", "annual_revenue": "8500000.0000", "employee_count": 420,
                    "created_at": "2024-01-20T11:00:00Z", "updated_at": "2024-10-31T15:00:00Z",
                }),
            ),
        ],
    );
    assert_eq!(row("dynamics", "account", api).extras["statecode"], 0, "the code behind a label is kept");
}

#[test]
fn contacts() {
    let api = r#"{"contactid":"c1","_parentcustomerid_value":"a1b2","firstname":"Grace","lastname":"Hopper","fullname":"Grace Hopper",
        "emailaddress1":"g@ada.example","telephone1":null,"mobilephone":"0171 5","jobtitle":"Admiral","department":"Navy",
        "accountrolecode":1,"accountrolecode@OData.Community.Display.V1.FormattedValue":"Decision Maker",
        "_ownerid_value":"o-1","createdon":"2024-01-20T11:00:00Z","modifiedon":"2024-10-31T15:00:00Z"}"#;
    assert_rows(
        "dynamics",
        "contact",
        &[(
            api,
            json!({
                "contact_id": "c1", "account_id": "a1b2", "first_name": "Grace", "last_name": "Hopper",
                "name": "Grace Hopper", "email": "g@ada.example", "phone": "0171 5", "title": "Admiral",
                "department": "Navy", "role": "Decision Maker", "owner_id": "o-1", "created_at": "2024-01-20T11:00:00Z",
                "updated_at": "2024-10-31T15:00:00Z",
            }),
        )],
    );
}

#[test]
fn opportunities() {
    let api = r#"{"opportunityid":"p1","name":"Pumps","_parentaccountid_value":"a1b2",
        "_parentaccountid_value@OData.Community.Display.V1.FormattedValue":"Ada Engines","stepname":"2-Propose",
        "salesstagecode":1,"estimatedvalue":1500.2500,"estimatedvalue@OData.Community.Display.V1.FormattedValue":"€1,500.25",
        "transactioncurrencyid":{"isocurrencycode":"EUR","transactioncurrencyid":"t1"},
        "_transactioncurrencyid_value":"t1","_transactioncurrencyid_value@OData.Community.Display.V1.FormattedValue":"Euro",
        "estimatedclosedate":"2024-12-31","_ownerid_value":"o-1",
        "_ownerid_value@OData.Community.Display.V1.FormattedValue":"Lin Wu","closeprobability":75,
        "opportunitytypecode@OData.Community.Display.V1.FormattedValue":"New Business","opportunitytypecode":1,
        "createdon":"2024-01-20T11:00:00Z","modifiedon":"2024-10-31T15:00:00Z"}"#;
    assert_rows(
        "dynamics",
        "opportunity",
        &[(
            api,
            json!({
                "opportunity_id": "p1", "account_id": "a1b2", "account_name": "Ada Engines", "name": "Pumps",
                "stage": "2-Propose", "amount": "1500.2500", "currency": "EUR", "close_date": "2024-12-31",
                "owner_id": "o-1", "owner_name": "Lin Wu", "probability": "75.0000", "type": "New Business",
                "created_at": "2024-01-20T11:00:00Z", "updated_at": "2024-10-31T15:00:00Z",
            }),
        )],
    );
    let unexpanded = r#"{"opportunityid":"p1","name":"Pumps","modifiedon":"2024-10-31T15:00:00Z",
        "_transactioncurrencyid_value@OData.Community.Display.V1.FormattedValue":"US Dollar"}"#;
    let row = row("dynamics", "opportunity", unexpanded);
    assert!(!row.fields.contains_key("currency"), "a label is no ISO code");
    assert_eq!(row.extras["_transactioncurrencyid_value@OData.Community.Display.V1.FormattedValue"], "US Dollar");
}
