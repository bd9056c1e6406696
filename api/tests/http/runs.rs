//! Runs: records that a program brings in together, and its batches with their places.

use schemas::record::RecordBatchWriter;
use schemas::{Lane, Op, Record, Version};
use serde_json::{Value, json};

use crate::cases::until;
use crate::house::{Answer, House, Person};

const RELAY: &str = "0123456789abcdef0123456789abcdef";
const OTHER: &str = "ffffffffffffffffffffffffffffffff";

fn wanted() -> Value {
    json!({"connection": "crm", "stream": "opportunity", "system": "salesforce", "relay": RELAY})
}

fn begun(person: &Person) -> Value {
    let answer = person.post("/api/v1/runs", &wanted());
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json()
}

/// A batch of one lane, the ordinals from `first` on.
fn batch(first: u64, count: u64) -> Vec<u8> {
    let mut writer = RecordBatchWriter::new(Lane(7), first - 1, 0);
    for ordinal in first..first + count {
        let payload = format!(r#"{{"Id":"{ordinal}","Name":"Deal","LastModifiedDate":"2026-01-01T00:00:00Z"}}"#);
        let (op, version) = (Op::Upsert, Version::None);
        writer.push(&Record { ordinal, op, key: None, version, defect: None, payload: payload.as_bytes() });
    }
    writer.finish(b"a place of the program's own").body
}

fn relay(person: &Person, relay: &str, body: &[u8]) -> Answer {
    let path = format!("/api/v1/records?connection=crm&stream=opportunity&relay={relay}");
    person.send("POST", &path, &[("content-type", "application/vnd.autonomos.records.v1")], body)
}

fn counts(person: &Person, run: &Value) -> Value {
    let path = format!("/api/v1/runs/{}", run["run"].as_str().unwrap());
    let mut counts = Value::Null;
    until("everything has its fate", || {
        let outcome = person.get(&path);
        assert_eq!(outcome.status, 200, "{}", outcome.text);
        counts = outcome.json()["counts"].clone();
        outcome.json()["settled"] == true
    });
    counts
}

#[test]
fn a_run_counts_each_batch_once_and_a_program_finds_its_place_again() {
    let house = House::open();
    let admin = house.admin("acme");
    let run = begun(&admin);
    assert_eq!((&run["lanes"], &run["table"]), (&json!([]), &json!("opportunities")));
    for _ in 0..3 {
        assert_eq!(relay(&admin, RELAY, &batch(1, 5)).json()["records"], 5);
    }
    assert_eq!(relay(&admin, RELAY, &batch(6, 2)).status, 200);
    let told = counts(&admin, &run);
    assert_eq!((&told["taken"], &told["visible"], &told["duplicate"]), (&json!(17), &json!(7), &json!(10)), "{told}");
    let again = begun(&admin);
    let place = &again["lanes"][0];
    assert_eq!((&place["ordinal"], &place["lane"]), (&json!(7), &json!("00000000000000000000000000000007")));
    assert_eq!(place["cursor"], "YSBwbGFjZSBvZiB0aGUgcHJvZ3JhbSdzIG93bg==");
    let mut other = wanted();
    other["relay"] = json!(OTHER);
    assert_eq!(admin.post("/api/v1/runs", &other).json()["lanes"], json!([]), "another program's places are its own");
    relay(&admin, OTHER, &batch(1, 5));
    let told = counts(&admin, &again);
    assert_eq!((&told["visible"], &told["duplicate"]), (&json!(5), &json!(0)), "its lane of the same name is another");
}

#[test]
fn a_batch_that_is_none_is_refused_and_stops_nothing() {
    let house = House::open();
    let admin = house.admin("acme");
    let run = begun(&admin);
    let whole = batch(1, 5);
    let none = RecordBatchWriter::new(Lane(7), 0, 0).finish(b"").body;
    for wrong in [&b""[..], b"nonsense", b"\xff\xff\xff\xff", &whole[..whole.len() - 30], &whole[5..], &none] {
        assert_eq!(relay(&admin, RELAY, wrong).problem(), "no_records", "{wrong:?}");
    }
    for nobody in ["", "relay", "0123", &RELAY.to_uppercase()] {
        assert_eq!(relay(&admin, nobody, &whole).status, 400, "{nobody}");
    }
    let path = "/api/v1/records?connection=crm&stream=opportunity";
    let unnamed = admin.send("POST", path, &[("content-type", "application/vnd.autonomos.records.v1")], &whole);
    assert_eq!(unnamed.problem(), "invalid_request");
    let newer = admin.send("POST", path, &[("content-type", "application/vnd.autonomos.records.v2")], &whole);
    assert_eq!(newer.status, 415);
    assert_eq!(relay(&admin, RELAY, &whole).status, 200);
    assert_eq!(counts(&admin, &run)["visible"], 5);
}

#[test]
fn a_run_is_its_tenants_and_a_look_opens_nothing() {
    let house = House::open();
    let (admin, stranger) = (house.admin("acme"), house.admin("other"));
    let plan = admin.post("/api/v1/runs/plan", &wanted()).json();
    assert_eq!(plan["entity"]["table"], "opportunities", "{plan}");
    assert_eq!(admin.get("/api/v1/streams").json()["streams"], json!([]));
    let run = begun(&admin);
    assert_eq!(admin.get("/api/v1/streams").json()["streams"][0]["stream"], "crm/opportunity");
    assert_eq!(stranger.get("/api/v1/streams").json()["streams"], json!([]));
    let path = format!("/api/v1/runs/{}", run["run"].as_str().unwrap());
    let viewer = house.user(&admin, "v@acme.example", "viewer");
    let key = json!({"name": "erp", "role": "editor", "connections": ["erp"]});
    let key = house.bearer(admin.post("/api/v1/auth/keys", &key).json()["secret"].as_str().unwrap());
    for (who, status) in [(&stranger, 404), (&viewer, 403), (&key, 404)] {
        assert_eq!((who.get(&path).status, who.delete(&path).status), (status, status));
    }
    for (who, status) in [(&viewer, 403), (&key, 403)] {
        assert_eq!(who.post("/api/v1/runs", &wanted()).status, status);
        assert_eq!(relay(who, RELAY, &batch(1, 1)).status, status);
    }
    assert_eq!(key.get("/api/v1/streams").json()["streams"], json!([]), "a bound key sees its connections alone");
    assert_eq!(admin.delete(&path).status, 204);
    assert_eq!((admin.get(&path).status, admin.delete(&path).status), (404, 404));
    let both = json!({"connection": "crm", "stream": "opportunity", "system": "salesforce", "mapping": "x"});
    assert_eq!(admin.post("/api/v1/runs", &both).problem(), "invalid_request");
    let unknown = json!({"connection": "crm", "stream": "opportunity", "system": "nobody"});
    assert_eq!(admin.post("/api/v1/runs", &unknown).problem(), "mapping_unknown");
    let outside = json!({"connection": "crm", "stream": "opportunity", "system": "../../etc/passwd"});
    assert_eq!(admin.post("/api/v1/runs", &outside).problem(), "mapping_unusable");
}
