//! How each system writes its records, in its own names and ids.

use schemas::time::{format_date, format_timestamp};
use serde_json::{Value, json};

use super::change::Dated;
use super::world::{Customer, Deal, KINDS, Person, SELLERS, STAGE_PERCENT, WON, World};

/// The header of HubSpot's companies.
pub const HUBSPOT_COMPANY: &str = "hs_object_id,name,domain,type,industry,hubspot_owner_id,lifecyclestage,createdate,\
    hs_lastmodifieddate,annualrevenue,numberofemployees,phone,archived";
/// The header of HubSpot's contacts.
pub const HUBSPOT_CONTACT: &str = "hs_object_id,associatedcompanyid,firstname,lastname,email,phone,jobtitle,department,\
    createdate,lastmodifieddate,archived";
/// The header of HubSpot's deals.
pub const HUBSPOT_DEAL: &str = "hs_object_id,hs_associated_company_id,dealname,dealstage,amount,deal_currency_code,closedate,\
    hubspot_owner_id,hs_probability,dealtype,createdate,hs_lastmodifieddate,archived";
/// The header of Zendesk's users.
pub const ZENDESK_USER: &str = "id,organization_id,name,email,phone,role,active,tags,created_at,updated_at";

const SALESFORCE_STAGES: [&str; 7] = [
    "Prospecting",
    "Qualification",
    "Value Proposition",
    "Proposal/Price Quote",
    "Negotiation/Review",
    "Closed Won",
    "Closed Lost",
];
const HUBSPOT_STAGES: [&str; 7] = [
    "appointmentscheduled",
    "qualifiedtobuy",
    "presentationscheduled",
    "decisionmakerboughtin",
    "contractsent",
    "closedwon",
    "closedlost",
];
const PIPEDRIVE_STAGES: [&str; 7] =
    ["Lead In", "Contact Made", "Demo Scheduled", "Proposal Made", "Negotiations Started", "Won", "Lost"];

/// Salesforce's Account, as its API gives it.
pub fn salesforce_account(_: &World, record: &Dated<Customer>) -> String {
    let it = &record.value;
    json!({
        "attributes": {"type": "Account"}, "Id": salesforce_id("001", it.number), "IsDeleted": record.deleted,
        "Name": it.name, "Type": if it.active { "Customer" } else { "Prospect" }, "Industry": it.industry,
        "AnnualRevenue": it.revenue, "NumberOfEmployees": it.employees, "Phone": it.phone,
        "Website": format!("https://{}", it.domain), "OwnerId": salesforce_id("005", it.seller as u64),
        "Owner": salesforce_owner(it.seller), "CreatedDate": salesforce_time(record.created),
        "LastModifiedDate": salesforce_time(record.updated),
    })
    .to_string()
}

/// Salesforce's Contact.
pub fn salesforce_contact(_: &World, record: &Dated<Person>) -> String {
    let it = &record.value;
    json!({
        "attributes": {"type": "Contact"}, "Id": salesforce_id("003", it.number), "IsDeleted": record.deleted,
        "AccountId": salesforce_id("001", it.customer as u64), "FirstName": it.first, "LastName": it.last,
        "Name": format!("{} {}", it.first, it.last), "Email": it.email, "Phone": it.phone, "Title": it.title,
        "Department": it.department, "CreatedDate": salesforce_time(record.created),
        "LastModifiedDate": salesforce_time(record.updated),
    })
    .to_string()
}

/// Salesforce's Opportunity with its owner and account nested.
pub fn salesforce_opportunity(world: &World, record: &Dated<Deal>) -> String {
    let it = &record.value;
    json!({
        "attributes": {"type": "Opportunity"}, "Id": salesforce_id("006", it.number), "IsDeleted": record.deleted,
        "AccountId": salesforce_id("001", it.customer as u64),
        "Account": {"Name": world.customers[it.customer].name}, "Name": it.name,
        "StageName": SALESFORCE_STAGES[it.stage], "Amount": amount(it),
        "CurrencyIsoCode": world.customers[it.customer].country.currency, "Probability": STAGE_PERCENT[it.stage],
        "CloseDate": format_date(it.close_day), "Type": KINDS[it.kind], "OwnerId": salesforce_id("005", it.seller as u64),
        "Owner": salesforce_owner(it.seller), "CreatedDate": salesforce_time(record.created),
        "LastModifiedDate": salesforce_time(record.updated),
    })
    .to_string()
}

/// HubSpot's company, exported flat by property name.
pub fn hubspot_company(_: &World, record: &Dated<Customer>) -> String {
    let it = &record.value;
    csv(&[
        &hubspot_id(it.number),
        &it.name,
        &it.domain,
        if it.active { "CUSTOMER" } else { "PROSPECT" },
        it.industry,
        SELLERS[it.seller].email,
        if it.active { "customer" } else { "lead" },
        &time(record.created),
        &time(record.updated),
        &it.revenue.to_string(),
        &it.employees.to_string(),
        &it.phone,
        &record.deleted.to_string(),
    ])
}

/// HubSpot's contact.
pub fn hubspot_contact(_: &World, record: &Dated<Person>) -> String {
    let it = &record.value;
    csv(&[
        &hubspot_id(100_000 + it.number),
        &hubspot_id(it.customer as u64),
        it.first,
        it.last,
        &it.email,
        &it.phone,
        it.title,
        it.department,
        &time(record.created),
        &time(record.updated),
        &record.deleted.to_string(),
    ])
}

/// HubSpot's deal.
pub fn hubspot_deal(world: &World, record: &Dated<Deal>) -> String {
    let it = &record.value;
    csv(&[
        &hubspot_id(500_000 + it.number),
        &hubspot_id(it.customer as u64),
        &it.name,
        HUBSPOT_STAGES[it.stage],
        &amount_text(it),
        world.customers[it.customer].country.currency,
        &format_date(it.close_day),
        SELLERS[it.seller].email,
        &STAGE_PERCENT[it.stage].to_string(),
        if it.kind == 0 { "newbusiness" } else { "existingbusiness" },
        &time(record.created),
        &time(record.updated),
        &record.deleted.to_string(),
    ])
}

/// Dynamics' account, as the Web API gives it: a lookup and a choice with their labels beside them.
pub fn dynamics_account(_: &World, record: &Dated<Customer>) -> String {
    let it = &record.value;
    let state = u32::from(!it.active);
    json!({
        "@odata.etag": format!("W/\"{}\"", record.updated), "accountid": guid(it.number), "name": it.name,
        "industrycode@OData.Community.Display.V1.FormattedValue": it.industry, "statecode": state,
        "statecode@OData.Community.Display.V1.FormattedValue": if it.active { "Active" } else { "Inactive" },
        "revenue": it.revenue, "numberofemployees": it.employees, "telephone1": it.phone, "websiteurl": it.domain,
        "_ownerid_value": guid(900_000 + it.seller as u64),
        "_ownerid_value@OData.Community.Display.V1.FormattedValue": SELLERS[it.seller].name,
        "createdon": time(record.created), "modifiedon": time(record.updated),
    })
    .to_string()
}

/// Pipedrive's deal with organisation and user nested.
pub fn pipedrive_deal(world: &World, record: &Dated<Deal>) -> String {
    let it = &record.value;
    let status = match it.stage {
        WON => "won",
        stage if stage > WON => "lost",
        _ => "open",
    };
    json!({
        "id": it.number, "title": it.name, "value": amount(it),
        "currency": world.customers[it.customer].country.currency,
        "org_id": {"name": world.customers[it.customer].name, "value": it.customer},
        "user_id": {"id": 700 + it.seller, "name": SELLERS[it.seller].name, "email": SELLERS[it.seller].email},
        "stage_name": PIPEDRIVE_STAGES[it.stage], "status": status, "probability": STAGE_PERCENT[it.stage],
        "expected_close_date": format_date(it.close_day), "deal_type": KINDS[it.kind], "deleted": record.deleted,
        "add_time": pipedrive_time(record.created), "update_time": pipedrive_time(record.updated),
    })
    .to_string()
}

/// Zendesk's user; one that was deleted is no longer active.
pub fn zendesk_user(world: &World, record: &Dated<Person>) -> String {
    let it = &record.value;
    csv(&[
        &format!("{}", 360_000_000_000 + it.number),
        &format!("{}", 114_000_000_000 + it.customer as u64),
        &format!("{} {}", it.first, it.last),
        &it.email,
        &it.phone,
        "end-user",
        &(!record.deleted).to_string(),
        if world.customers[it.customer].active { "customer|priority" } else { "trial" },
        &time(record.created),
        &time(record.updated),
    ])
}

fn salesforce_id(object: &str, number: u64) -> String {
    format!("{object}8c{number:010}IAZ")
}
fn salesforce_owner(seller: usize) -> Value {
    json!({"Name": SELLERS[seller].name, "Email": SELLERS[seller].email})
}
fn salesforce_time(seconds: i64) -> String {
    format!("{}.000+0000", time(seconds).trim_end_matches('Z'))
}
fn pipedrive_time(seconds: i64) -> String {
    time(seconds).replace('T', " ").trim_end_matches('Z').to_owned()
}
fn hubspot_id(number: u64) -> String {
    (9_100_000_000 + number).to_string()
}
fn guid(number: u64) -> String {
    format!("{:08x}-5f3c-ee11-9ae7-{:012x}", 0x4a00_0000 + number, 0x0022_4800_0000 + number)
}
fn time(seconds: i64) -> String {
    format_timestamp(seconds * 1_000_000)
}
fn amount(deal: &Deal) -> Value {
    match deal.amount_cents {
        None => Value::Null,
        Some(cents) if cents % 100 == 0 => json!(cents / 100),
        Some(cents) => json!(cents as f64 / 100.0),
    }
}
fn amount_text(deal: &Deal) -> String {
    deal.amount_cents.map_or(String::new(), |cents| format!("{}.{:02}", cents / 100, cents % 100))
}

fn csv(cells: &[&str]) -> String {
    let quoted = |cell: &&str| match cell.contains([',', '"', '\n']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => (*cell).to_owned(),
    };
    cells.iter().map(quoted).collect::<Vec<_>>().join(",")
}
