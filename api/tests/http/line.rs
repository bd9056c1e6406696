//! Records pushed in by one door, rows read out by the others.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::house::{Answer, House, Person};

const PUSH: &str = "/api/v1/records?connection=crm&stream=opportunity&system=salesforce";

fn deal(id: &str, amount: &str, at: &str) -> String {
    format!(r#"{{"Id":"{id}","Name":"Deal {id}","Amount":{amount},"StageName":"Open","LastModifiedDate":"{at}"}}"#)
        + "\n"
}

fn push(person: &Person, body: &str, headers: &[(&str, &str)]) -> Answer {
    let headers = [&[("content-type", "application/x-ndjson")], headers].concat();
    person.send("POST", PUSH, &headers, body.as_bytes())
}

fn pushed(person: &Person, body: &str) -> String {
    let answer = push(person, body, &[]);
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["position"].as_str().unwrap().to_owned()
}

fn rows(person: &Person, query: &str) -> Value {
    let answer = person.get(&format!("/api/v1/dcl/views/opportunities/rows?{query}"));
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

fn keys(page: &Value) -> Vec<String> {
    page["rows"].as_array().unwrap().iter().map(|row| row["opportunity_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_was_pushed_is_read_at_its_position_in_every_format() {
    let house = House::open();
    let admin = house.admin("acme");
    let body = deal("007", "0", "2026-01-01T00:00:00Z") + &deal("b", "12.50", "2026-01-02T00:00:00Z") + "{broken\n";
    let position = pushed(&admin, &body);
    let page = rows(&admin, &format!("min_position={position}"));
    assert_eq!(keys(&page), ["007", "b"]);
    assert_eq!(page["rows"][0]["amount"], "0.0000", "zero stays zero, money is text: {page}");

    let sql = json!({"sql": "select sum(amount) as total from opportunities", "min_position": position});
    let json_answer = admin.post("/api/v1/query", &sql);
    assert_eq!(json_answer.json()["rows"][0]["total"], "12.5000", "{}", json_answer.text);
    let ask = |accept: &str| {
        let headers = [("content-type", "application/json"), ("accept", accept)];
        admin.send("POST", "/api/v1/query", &headers, sql.to_string().as_bytes())
    };
    assert_eq!(ask("text/csv").text, "total\r\n12.5000\r\n");
    assert_eq!(&ask("application/vnd.apache.parquet").bytes[..4], b"PAR1");
    assert_eq!(ask("application/vnd.apache.arrow.stream").status, 200);
    assert_eq!(ask("image/png").problem(), "not_acceptable");
    assert_eq!(admin.post("/api/v1/query", &json!({"sql": "drop table opportunities"})).problem(), "sql_forbidden");

    let set_aside = admin.get("/api/v1/quarantine").json();
    assert_eq!(set_aside["records"][0]["reason"], "malformed_json", "{set_aside}");
    let at = set_aside["records"][0]["position"].as_str().unwrap();
    assert_eq!(admin.get(&format!("/api/v1/quarantine/{at}")).json()["payload"], "{broken");

    let log = admin.get("/api/v1/log?topic=events").json();
    let accepted =
        log["items"].as_array().unwrap().iter().filter(|i| i["item"]["type"] == "autonomos.RecordAccepted.v1");
    assert_eq!(accepted.count(), 2, "{log}");
}

#[test]
fn the_same_push_again_adds_nothing_and_another_body_under_its_key_is_refused() {
    let house = House::open();
    let admin = house.admin("acme");
    let body = deal("a", "1", "2026-01-01T00:00:00Z") + &deal("b", "2", "2026-01-01T00:00:00Z");
    let key = [("idempotency-key", "push-1")];
    for _ in 0..3 {
        assert_eq!(push(&admin, &body, &key).status, 200);
    }
    let last = push(&admin, &body, &key).json()["position"].as_str().unwrap().to_owned();
    assert_eq!(keys(&rows(&admin, &format!("min_position={last}"))), ["a", "b"]);
    let log = admin.get("/api/v1/log?topic=events").json();
    let rows = log["items"].as_array().unwrap().iter().filter(|i| i["item"]["type"] == "autonomos.RecordAccepted.v1");
    assert_eq!(rows.count(), 2, "each record once: {log}");
    let other = push(&admin, &deal("c", "3", "2026-01-01T00:00:00Z"), &key);
    assert_eq!(other.problem(), "idempotency_key_reused");
}

#[test]
fn pages_follow_each_other_without_a_gap_whatever_the_order() {
    let house = House::open();
    let admin = house.admin("acme");
    let body: String =
        (0..25).map(|n| deal(&format!("{n:02}"), &format!("{}", n % 4), "2026-01-01T00:00:00Z")).collect();
    let position = pushed(&admin, &body);
    for order in ["", "&order_by=amount", "&order_by=amount&direction=desc", "&order_by=close_date"] {
        let mut query = format!("limit=7&min_position={position}{order}");
        let mut seen = Vec::new();
        loop {
            let page = rows(&admin, &query);
            seen.extend(keys(&page));
            match page["next"].as_str() {
                Some(next) => query = format!("limit=7{order}&cursor={next}"),
                None => break,
            }
        }
        let mut sorted = seen.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!((seen.len(), sorted.len()), (25, 25), "{order}");
    }
    assert_eq!(keys(&rows(&admin, "filter=amount:gte:3&limit=100")).len(), 6);
    let refused = admin.get("/api/v1/dcl/views/opportunities/rows?filter=amount:gte:1%20or%201");
    assert_eq!(refused.problem(), "invalid_request");
    let next = rows(&admin, "limit=7")["next"].as_str().unwrap().to_owned();
    let other = admin.get(&format!("/api/v1/dcl/views/opportunities/rows?order_by=name&cursor={next}"));
    assert_eq!(other.problem(), "invalid_request", "a cursor belongs to its question");
}

#[test]
fn a_viewer_does_not_push_and_a_bound_key_stays_with_its_connection() {
    let house = House::open();
    let admin = house.admin("acme");
    let viewer = house.user(&admin, "v@acme.example", "viewer");
    assert_eq!(push(&viewer, &deal("a", "1", "2026-01-01T00:00:00Z"), &[]).status, 403);
    let wanted = json!({"name": "erp", "role": "editor", "connections": ["erp"]});
    let made = admin.post("/api/v1/auth/keys", &wanted).json();
    let key = house.bearer(made["secret"].as_str().unwrap());
    assert_eq!(push(&key, &deal("a", "1", "2026-01-01T00:00:00Z"), &[]).status, 403);
    let position = pushed(&admin, &deal("a", "1", "2026-01-01T00:00:00Z"));
    assert_eq!(keys(&rows(&key, &format!("min_position={position}"))), Vec::<String>::new());
    assert_eq!(key.post("/api/v1/query", &json!({"sql": "select 1"})).status, 403);
}

#[test]
fn two_tenants_with_the_same_names_see_only_their_own() {
    let house = House::open();
    let (acme, zeta) = (house.admin("acme"), house.admin("zeta"));
    let canary = pushed(&acme, &deal("canary-of-acme", "1", "2026-01-01T00:00:00Z"));
    assert_eq!(keys(&rows(&acme, &format!("min_position={canary}"))), ["canary-of-acme"]);
    let position = pushed(&zeta, &deal("z", "2", "2026-01-01T00:00:00Z"));
    assert_eq!(keys(&rows(&zeta, &format!("min_position={position}"))), ["z"]);
    for path in ["/api/v1/log?topic=inputs", "/api/v1/log?topic=events", "/api/v1/quarantine", "/api/v1/dcl/views"] {
        assert!(!zeta.get(path).text.contains("canary"), "{path}");
    }
    let all = zeta.post("/api/v1/query", &json!({"sql": "select * from opportunities"}));
    assert!(all.text.contains("\"z\"") && !all.text.contains("canary"));
    let cursor = acme.get("/api/v1/log?topic=events&limit=1").json()["next"].as_str().unwrap().to_owned();
    assert_eq!(zeta.get(&format!("/api/v1/log?topic=events&cursor={cursor}")).status, 400);
}

/// The first server-sent events with a stage, until there are enough: their ids and data. HTTP/1.0, so that the body is
/// not in chunks.
fn watch(
    house: &House,
    token: &str,
    query: &str,
    after: Option<&str>,
    is_enough: impl Fn(&[(String, Value)]) -> bool,
) -> Vec<(String, Value)> {
    let mut stream = TcpStream::connect(house.address).unwrap();
    let after = after.map_or(String::new(), |id| format!("last-event-id: {id}\r\n"));
    let request = format!(
        "GET /api/v1/events/stream?{query} HTTP/1.0\r\nhost: x\r\nauthorization: Bearer {token}\r\n{after}\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let (mut id, mut found) = (String::new(), Vec::new());
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        if let Some(text) = line.strip_prefix("id: ").or(line.strip_prefix("id:")) {
            id = text.to_owned();
        } else if let Some(data) = line.strip_prefix("data: ").or(line.strip_prefix("data:")) {
            let data: Value = serde_json::from_str(data).unwrap();
            // Others say only that the stream is still there.
            if data["stage"].is_string() {
                found.push((id.clone(), data));
            }
            if is_enough(&found) {
                break;
            }
        }
    }
    found
}

#[test]
fn a_resumed_stream_repeats_nothing_and_skips_nothing() {
    let house = House::open();
    let admin = house.admin("acme");
    let token = admin.token.clone().unwrap();
    let first = pushed(&admin, &deal("first", "1", "2026-01-01T00:00:00Z"));
    rows(&admin, &format!("min_position={first}"));
    let query = "stages=canonicalized,materialized";
    let ids = |events: &[(String, Value)], stage: &str| -> Vec<String> {
        let of = events.iter().filter(|(_, data)| data["stage"] == stage);
        of.map(|(_, data)| data["position"].as_str().unwrap().to_owned()).collect()
    };
    let body: String = (0..30).map(|n| deal(&format!("{n:02}"), "1", "2026-01-02T00:00:00Z")).collect();
    let watching = std::thread::scope(|scope| {
        let watched = scope.spawn(|| watch(&house, &token, query, None, |found| found.len() == 5));
        // Pushed until the stream, which begins at the end of the log, has seen enough.
        while !watched.is_finished() {
            pushed(&admin, &body);
        }
        watched.join().unwrap()
    });
    // There is enough behind them, however late in a push the stream began.
    pushed(&admin, &body);
    let last = watching.last().unwrap().0.clone();
    let rest = watch(&house, &token, query, Some(&last), |found| found.len() == 40);
    let again = watch(&house, &token, query, Some(&watching[0].0), |found| found.len() == 44);
    let joined = [&watching[1..], &rest[..]].concat();
    for stage in ["canonicalized", "materialized"] {
        let (a, b) = (ids(&joined, stage), ids(&again, stage));
        let shared = a.len().min(b.len());
        assert_eq!(a[..shared], b[..shared], "{stage}: the same whether read in one go or resumed");
        let mut unique = a.clone();
        unique.dedup();
        assert_eq!(unique, a, "{stage}: nothing twice");
    }
    let zeta = house.admin("zeta");
    let foreign = zeta.send("GET", "/api/v1/events/stream", &[("last-event-id", &last)], b"");
    assert_eq!(foreign.status, 400, "another tenant's place is none");
}

#[test]
fn a_ticket_opens_one_stream_once() {
    let house = House::open();
    let admin = house.admin("acme");
    let ticket = admin.post("/api/v1/events/tickets", &json!({})).json()["ticket"].as_str().unwrap().to_owned();
    let open = |ticket: &str| house.anybody().get(&format!("/api/v1/events/stream?seconds=0&ticket={ticket}")).status;
    assert_eq!(open(&ticket), 200);
    assert_eq!(open(&ticket), 401);
    assert_eq!(open("made-by-hand"), 401);
}

#[test]
fn a_trace_goes_through_the_log_to_the_event_stream_and_a_query_is_told_as_viewed() {
    let house = House::open();
    let (admin, zeta) = (house.admin("acme"), house.admin("zeta"));
    let token = admin.token.clone().unwrap();
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
    let header = [("traceparent", parent.as_str())];
    let position = push(&admin, &deal("a", "1", "2026-01-01T00:00:00Z"), &header).json()["position"].clone();
    let stages = "stages=ingested,canonicalized,materialized";
    let is_enough =
        |found: &[(String, Value)]| found.len() >= 6 && found.iter().any(|(_, data)| data["stage"] == "materialized");
    let first = std::thread::scope(|scope| {
        let watched = scope.spawn(|| watch(&house, &token, stages, None, is_enough));
        while !watched.is_finished() {
            assert_eq!(push(&admin, &deal("b", "1", "2026-01-01T00:00:00Z"), &header).status, 200);
        }
        watched.join().unwrap()
    });
    assert!(first.iter().any(|(_, data)| data["stage"] == "materialized"));
    for (_, data) in &first {
        let trace = data["traceparent"].as_str().unwrap_or_default();
        assert_eq!(trace.get(3..35), Some(TRACE), "{data}");
    }
    let log = admin.get("/api/v1/log?topic=events").json();
    let accepted = log["items"].as_array().unwrap().iter().find(|i| i["item"]["subject"].is_string()).unwrap();
    assert_eq!(accepted["item"]["traceparent"].as_str().unwrap().get(3..35), Some(TRACE), "a CloudEvents extension");

    pushed(&zeta, &deal("z", "1", "2026-01-01T00:00:00Z"));
    let seen = std::thread::scope(|scope| {
        let watched = scope.spawn(|| watch(&house, &token, "stages=viewed", None, |found| found.len() == 1));
        while !watched.is_finished() {
            // Another tenant's, one that reads no view though it names one, and one that is told.
            zeta.post("/api/v1/query", &json!({"sql": "select count(*) from opportunities"}));
            admin.post("/api/v1/query", &json!({"sql": "select 'opportunities' as text", "id": "names-it"}));
            let sql =
                json!({"sql": "select count(*) as n from opportunities", "id": "reads-it", "min_position": position});
            let body = sql.to_string();
            let headers = [("content-type", "application/json"), ("traceparent", parent.as_str())];
            assert_eq!(admin.send("POST", "/api/v1/query", &headers, body.as_bytes()).status, 200);
        }
        watched.join().unwrap()
    });
    let (_, viewed) = &seen[0];
    assert_eq!(viewed["stage"], "viewed");
    assert_eq!(viewed["item"], json!({"query": "reads-it", "view": "opportunities"}), "{viewed}");
    assert_eq!(viewed["entity"], "opportunity");
    assert!(viewed["position"].as_str().unwrap().starts_with("events/"), "{viewed}");
    assert_eq!(viewed["traceparent"].as_str().unwrap().get(3..35), Some(TRACE));
}
