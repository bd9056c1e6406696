//! What a tenant may take, and that a loud one takes nothing from the others.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use api::connections::roots::DeclaredRoot;
use api::http::Operator;
use api::line::{QuotaChange, QuotaSettings};
use serde_json::json;

use crate::connections::until;
use crate::house::{Answer, House, Person, wide};

const PUSH: &str = "/api/v1/records?connection=crm&stream=opportunity&system=salesforce";
/// Every row with every row with every row: it runs until it is stopped.
const ENDLESS: &str = "select count(*) as n from opportunities a join opportunities b on a.stage = b.stage \
    join opportunities c on b.stage = c.stage join opportunities d on c.stage = d.stage";

fn house(tenant: &str, change: QuotaChange) -> House {
    let quotas = QuotaSettings { tenants: [(tenant.to_owned(), change)].into(), ..QuotaSettings::default() };
    House::with(Operator { rates: wide(), quotas, ..Operator::default() })
}

fn deals(count: usize) -> String {
    let deal = |n| {
        json!({"Id": format!("{n}"), "Name": "Deal", "Amount": 1, "StageName": "Open",
            "LastModifiedDate": "2026-01-01T00:00:00Z"})
        .to_string()
            + "\n"
    };
    (0..count).map(deal).collect()
}

fn push(person: &Person, count: usize) -> Answer {
    person.send("POST", PUSH, &[("content-type", "application/x-ndjson")], deals(count).as_bytes())
}

/// Pushes deals, and waits until they can be asked.
fn filled(person: &Person, count: usize) {
    let position = push(person, count).json()["position"].as_str().unwrap().to_owned();
    let page = person.get(&format!("/api/v1/dcl/views/opportunities/rows?limit=1&min_position={position}"));
    assert_eq!(page.status, 200, "{}", page.text);
}

#[test]
fn a_tenant_that_brings_in_too_much_is_told_when_to_come_back_and_others_are_not() {
    let house = house("acme", QuotaChange { records_per_second: Some(1), ..QuotaChange::default() });
    let (acme, zeta) = (house.admin("acme"), house.admin("zeta"));
    let started = Instant::now();
    assert_eq!(push(&acme, 50).status, 200, "the first is taken whole");
    let refused = push(&acme, 1);
    assert_eq!((refused.status, refused.problem().as_str()), (429, "quota_rate"), "{}", refused.text);
    let seconds: u64 = refused.header("retry-after").parse().unwrap();
    let least = 48_u64.saturating_sub(started.elapsed().as_secs());
    assert!((least..=50).contains(&seconds), "what is owed: {seconds}");
    for _ in 0..3 {
        assert_eq!(push(&zeta, 50).status, 200);
    }
}

#[test]
fn a_tenant_whose_storage_is_used_up_is_refused_also_after_a_restart() {
    let house = house("acme", QuotaChange { stored_bytes: Some(1_500), ..QuotaChange::default() });
    let (acme, zeta) = (house.admin("acme"), house.admin("zeta"));
    assert_eq!(push(&acme, 10).status, 200);
    let refused = push(&acme, 10);
    assert_eq!((refused.status, refused.problem().as_str()), (507, "quota_storage"), "{}", refused.text);
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(push(&acme, 1).status, 200, "what still fits is taken");
    let house = house.restarted();
    let acme = house.bearer(acme.token.as_deref().unwrap());
    assert_eq!(push(&acme, 10).problem(), "quota_storage");
    assert_eq!(push(&house.bearer(zeta.token.as_deref().unwrap()), 100).status, 200);
}

/// Sends a request and leaves the connection open.
fn open(house: &House, person: &Person, head: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(house.address).unwrap();
    let token = person.token.as_deref().unwrap();
    let length = body.len();
    let request = format!(
        "{head} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

#[test]
fn streams_and_connections_are_counted_for_each_tenant() {
    let files = tempfile::tempdir().unwrap();
    let change = QuotaChange { streams: Some(1), connections: Some(1), ..QuotaChange::default() };
    let quotas = QuotaSettings { each: change, ..QuotaSettings::default() };
    let root = DeclaredRoot { tenant: "acme".into(), folder: files.path().to_owned() };
    let house = House::with(Operator { rates: wide(), quotas, files_roots: vec![root], ..Operator::default() });
    let (acme, zeta) = (house.invited("acme"), house.admin("zeta"));
    let mut first = open(&house, &acme, "GET /api/v1/events/stream", "");
    let mut answer = [0; 12];
    first.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    let second = |person: &Person| person.get("/api/v1/events/stream?seconds=0");
    let refused = second(&acme);
    assert_eq!((refused.status, refused.problem().as_str()), (429, "quota_streams"));
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(second(&zeta).status, 200);
    drop(first);
    while second(&acme).status != 200 {
        std::thread::yield_now();
    }
    let wanted = |name: &str| {
        let stream = json!({"stream": "opportunity", "system": "salesforce", "files": ["a.ndjson"]});
        json!({"name": name, "connector": "file", "settings": {"watch": false, "streams": [stream]}})
    };
    assert_eq!(acme.post("/api/v1/aam/connections", &wanted("one")).status, 201);
    assert_eq!(acme.post("/api/v1/aam/connections", &wanted("two")).problem(), "quota_connections");
}

/// Stops every query of a tenant that runs or waits.
fn stop_all(admin: &Person) {
    for query in admin.get("/api/v1/query").json()["queries"].as_array().unwrap() {
        admin.delete(&format!("/api/v1/query/{}", query["id"].as_str().unwrap()));
    }
}

#[test]
fn a_flood_of_one_tenant_keeps_no_other_from_pushing_and_asking() {
    let house = House::open();
    let (loud, quiet) = (house.admin("loud"), house.admin("quiet"));
    filled(&loud, 2_000);
    filled(&quiet, 10);
    let (stop, pushed, asked) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let flood: Vec<_> = (0..32)
            .map(|n| {
                let (loud, stop, pushed, asked) = (&loud, &stop, &pushed, &asked);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        if n % 2 == 0 {
                            assert!(matches!(push(loud, 500).status, 200 | 429));
                            pushed.fetch_add(1, Ordering::Relaxed);
                        } else {
                            asked.fetch_add(1, Ordering::Relaxed);
                            let answer = loud.post("/api/v1/query", &json!({ "sql": ENDLESS }));
                            let codes =
                                ["query_cancelled", "query_limit", "quota_queries", "query_timeout", "query_busy"];
                            assert!(codes.contains(&answer.problem().as_str()), "{}", answer.text);
                        }
                    }
                })
            })
            .collect();
        until(&loud, "/api/v1/query", |running| running["queries"].as_array().unwrap().len() >= 12);
        while pushed.load(Ordering::Relaxed) < 20 {
            std::thread::yield_now();
        }
        for turn in 0..10 {
            let answer = push(&quiet, 10);
            assert_eq!(answer.status, 200, "push {turn}: {}", answer.text);
            let sql = json!({"sql": "select count(*) as n from opportunities"});
            let answer = quiet.post("/api/v1/query", &sql);
            assert_eq!(answer.status, 200, "query {turn}: {}", answer.text);
            assert_eq!(answer.json()["rows"][0]["n"], 10, "{}", answer.text);
            assert!(quiet.get("/api/v1/query").json()["queries"].as_array().unwrap().is_empty(), "own ones only");
        }
        stop.store(true, Ordering::Relaxed);
        while flood.iter().any(|thread| !thread.is_finished()) {
            stop_all(&loud);
        }
    });
    assert!(asked.load(Ordering::Relaxed) >= 16);
}

#[test]
fn a_query_is_stopped_by_its_id_by_whoever_asked_or_an_admin_and_by_hanging_up() {
    let house = House::open();
    let (admin, other) = (house.admin("acme"), house.admin("zeta"));
    let asker = house.user(&admin, "asker@acme.example", "viewer");
    let viewer = house.user(&admin, "viewer@acme.example", "viewer");
    filled(&admin, 3_000);
    let running =
        |count: usize| until(&admin, "/api/v1/query", |running| running["queries"].as_array().unwrap().len() == count);
    for stopper in [&asker, &admin] {
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| asker.post("/api/v1/query", &json!({"sql": ENDLESS, "id": "my-query"})));
            assert_eq!(running(1)["queries"][0]["id"], "my-query");
            assert_eq!(asker.post("/api/v1/query", &json!({"sql": ENDLESS, "id": "my-query"})).status, 409);
            assert_eq!(asker.get("/api/v1/query").json()["queries"].as_array().unwrap().len(), 1);
            assert!(viewer.get("/api/v1/query").json()["queries"].as_array().unwrap().is_empty());
            for stranger in [&other, &viewer] {
                assert_eq!(stranger.delete("/api/v1/query/my-query").status, 404);
            }
            assert_eq!(stopper.delete("/api/v1/query/my-query").status, 204);
            let answer = asked.join().unwrap();
            assert_eq!((answer.status, answer.problem().as_str()), (409, "query_cancelled"), "{}", answer.text);
            assert_eq!(stopper.delete("/api/v1/query/my-query").status, 404);
        });
    }
    let hung = open(&house, &asker, "POST /api/v1/query", &json!({ "sql": ENDLESS }).to_string());
    running(1);
    drop(hung);
    running(0);
}
