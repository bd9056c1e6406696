//! Files in the canonical layout: rows of cells, and the numbers that Parquet's doubles become.

use serde_json::{Map, Value as Json, json};

use super::{assert_rows, flat};

#[test]
fn accounts() {
    let header = "account_id,name,type,industry,owner_id,owner_name,status,annual_revenue,employees,website,phone,created_at,updated_at,external_ids";
    let cells =
        "007,Ada Engines,customer,Machinery,U-1,Lin Wu,active,8500000,420,ada.example,0301,2024-01-20,2024-10-31,ERP-1";
    assert_rows(
        "filesource",
        "account",
        &[(
            &flat(header, cells),
            json!({
                "account_id": "007", "name": "Ada Engines", "type": "customer", "industry": "Machinery",
                "owner_id": "U-1", "owner_name": "Lin Wu", "status": "active", "annual_revenue": "8500000.0000",
                "employee_count": 420, "website": "ada.example", "phone": "0301", "created_at": "2024-01-20T00:00:00Z",
                "updated_at": "2024-10-31T00:00:00Z", "external_ids": "ERP-1",
            }),
        )],
    );
}

#[test]
fn contacts() {
    let header = "contact_id,account_id,first_name,last_name,name,email,phone,title,department,role,owner_id,created_at,updated_at";
    let cells = "C-1,A-1,Grace,Hopper,Grace Hopper,g@ada.example,030 99,Admiral,Navy,buyer,U-1,2024-01-20,2024-10-31";
    assert_rows(
        "filesource",
        "contact",
        &[(
            &flat(header, cells),
            json!({
                "contact_id": "C-1", "account_id": "A-1", "first_name": "Grace", "last_name": "Hopper",
                "name": "Grace Hopper", "email": "g@ada.example", "phone": "030 99", "title": "Admiral",
                "department": "Navy", "role": "buyer", "owner_id": "U-1", "created_at": "2024-01-20T00:00:00Z",
                "updated_at": "2024-10-31T00:00:00Z",
            }),
        )],
    );
}

#[test]
fn opportunities() {
    let header = "opportunity_id,account_id,account_name,name,stage,amount,currency,close_date,owner_id,owner_name,probability,type,created_at,updated_at";
    let cells = "O-1,A-1,Ada Engines,Pumps,Proposal,0,USD,2024-12-31,U-1,Lin Wu,75,new,2024-01-20,2024-10-31";
    assert_rows(
        "filesource",
        "opportunity",
        &[(
            &flat(header, cells),
            json!({
                "opportunity_id": "O-1", "account_id": "A-1", "account_name": "Ada Engines", "name": "Pumps",
                "stage": "Proposal", "amount": "0.0000", "currency": "USD", "close_date": "2024-12-31",
                "owner_id": "U-1", "owner_name": "Lin Wu", "probability": "75.0000", "type": "new",
                "created_at": "2024-01-20T00:00:00Z", "updated_at": "2024-10-31T00:00:00Z",
            }),
        )],
    );
}

#[test]
fn account_health() {
    assert_rows(
        "filesource",
        "account_health",
        &[(
            &flat("account_id,health_score,risk_level,last_updated", "A-1,87.5,low,2024-10-31"),
            json!({
                "account_id": "A-1", "health_score": "87.500000000000000000", "risk_level": "low",
                "last_updated": "2024-10-31T00:00:00Z",
            }),
        )],
    );
}

#[test]
fn account_usage() {
    let header = "account_id,last_login_days,sessions_30d,avg_session_duration,features_used,updated_at";
    assert_rows(
        "filesource",
        "account_usage",
        &[(
            &flat(header, "A-1,3,41,12.5,reports|alerts,2024-10-31"),
            json!({
                "account_id": "A-1", "last_login_days": 3, "sessions_30d": 41,
                "avg_session_duration": "12.500000000000000000", "features_used": "reports|alerts",
                "updated_at": "2024-10-31T00:00:00Z",
            }),
        )],
    );
}

#[test]
fn aws_resources() {
    let text = [
        ("resource_id", "i-0a1b"),
        ("resource_type", "EC2"),
        ("region", "eu-west-1"),
        ("instance_type", "t3.large"),
        ("db_engine", "postgres"),
        ("instance_class", "db.r5"),
        ("storage_type", "gp3"),
        ("storage_class", "STANDARD"),
        ("versioning", "Enabled"),
    ];
    let mut document: Map<String, Json> = text.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let mut expected = document.clone();
    for name in ["vcpus", "object_count", "get_requests", "put_requests"] {
        document.insert(name.into(), json!("7"));
        expected.insert(name.into(), json!(7));
    }
    for name in [
        "memory",
        "storage",
        "allocated_storage",
        "size_gb",
        "cpu_utilization",
        "memory_utilization",
        "network_in",
        "network_out",
        "db_connections",
        "read_latency",
        "write_latency",
        "data_transfer_out",
    ] {
        document.insert(name.into(), json!(0.000_123_456_789_012_345_67));
        expected.insert(name.into(), json!("0.000123456789012346"));
    }
    document.insert("monthly_cost".into(), json!(245.8));
    expected.insert("monthly_cost".into(), json!("245.800000000000"));
    for name in ["last_analyzed", "created_at"] {
        document.insert(name.into(), json!("2024-10-31T15:00:00Z"));
        expected.insert(name.into(), json!("2024-10-31T15:00:00Z"));
    }
    let document = serde_json::to_string(&document).unwrap();
    assert_rows("filesource", "aws_resource", &[(&document, Json::Object(expected))]);
}

#[test]
fn cost_reports() {
    let header = "cost_id,report_date,service_category,resource_id,region,cost,usage,usage_type,monthly_cost,currency,created_at";
    let cells = "L-1,2024-10-31,EC2,i-0a1b,us-east-1,0.30000000000000004,730,BoxUsage,0.3,USD,2024-11-01";
    assert_rows(
        "filesource",
        "cost_report",
        &[(
            &flat(header, cells),
            json!({
                "cost_id": "L-1", "report_date": "2024-10-31", "service_category": "EC2", "resource_id": "i-0a1b",
                "region": "us-east-1", "cost": "0.300000000000", "usage": "730.000000000000", "usage_type": "BoxUsage",
                "monthly_cost": "0.300000000000", "currency": "USD", "created_at": "2024-11-01T00:00:00Z",
            }),
        )],
    );
}
