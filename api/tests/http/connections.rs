//! Connections: made, followed, paused, deleted; held to the folders that the operator declared.

use std::path::Path;
use std::time::{Duration, Instant};

use api::connections::roots::DeclaredRoot;
use api::http::Operator;
use serde_json::{Value, json};

use crate::house::{Answer, House, Person, wide};

const CONNECTIONS: &str = "/api/v1/aam/connections";

/// A house in which `acme` may read a folder.
fn house(folder: &Path) -> House {
    let root = DeclaredRoot { tenant: "acme".into(), folder: folder.to_owned() };
    House::with(Operator { rates: wide(), files_roots: vec![root], ..Operator::default() })
}

fn deal(number: u32) -> String {
    json!({"Id": format!("006{number:09}AAA"), "Name": format!("deal {number}"), "StageName": "Won",
        "Amount": "10.00", "CloseDate": "2026-01-01", "SystemModstamp": "2026-10-31T09:30:00Z"})
    .to_string()
        + "\n"
}

fn wanted(name: &str, file: &str, watch: bool) -> Value {
    let stream = json!({"stream": "opportunity", "system": "salesforce", "files": [file]});
    json!({"name": name, "connector": "file", "settings": {"watch": watch, "streams": [stream]}})
}

/// Asks until the answer is as it should be.
#[track_caller]
pub fn until(person: &Person, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        let answer = person.get(path);
        assert_eq!(answer.status, 200, "{}", answer.text);
        let value = answer.json();
        if is_so(&value) {
            return value;
        }
        assert!(Instant::now() < deadline, "{value}");
        std::thread::yield_now();
    }
}

fn taken(streams: &Value) -> u64 {
    streams["streams"][0]["counts"]["taken"].as_u64().unwrap_or_default()
}

fn pointers(answer: &Answer) -> Vec<String> {
    assert_eq!((answer.status, answer.problem().as_str()), (422, "settings_invalid"), "{}", answer.text);
    let errors = answer.json()["errors"].clone();
    errors.as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_connection_is_made_synced_changed_and_deleted_and_its_rows_stay() {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("deals.ndjson"), deal(1) + &deal(2)).unwrap();
    let house = house(files.path());
    let admin = house.invited("acme");
    let made = admin.post(CONNECTIONS, &wanted("crm", "deals.ndjson", false));
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.header("location"), "/api/v1/aam/connections/crm");
    assert_eq!(admin.post(CONNECTIONS, &wanted("crm", "deals.ndjson", false)).status, 409);
    let healthy = admin.get(&format!("{CONNECTIONS}/crm/health")).json();
    assert_eq!((&healthy["healthy"], &healthy["streams"][0]["records_seen"]), (&json!(true), &json!(2)), "{healthy}");

    let asked = admin.post(&format!("{CONNECTIONS}/crm/sync"), &json!({}));
    assert_eq!(asked.status, 202, "{}", asked.text);
    let streams = until(&admin, asked.header("location"), |s| s["state"] == "idle" && s["streams"][0]["runs"] == 1);
    assert_eq!(taken(&streams), 2, "{streams}");
    assert_eq!(
        (&streams["streams"][0]["last_error"], streams["streams"][0]["last_run"]["visible"].as_u64()),
        (&Value::Null, Some(2))
    );

    let shown = admin.get(&format!("{CONNECTIONS}/crm"));
    let tag = shown.header("etag").to_owned();
    assert_eq!((made.header("etag"), shown.json()["paused"].clone()), (tag.as_str(), json!(false)));
    assert_eq!(admin.send("GET", &format!("{CONNECTIONS}/crm"), &[("if-none-match", &tag)], b"").status, 304);
    let body = json!({"settings": wanted("crm", "*.ndjson", false)["settings"]});
    let unmatched = admin.send(
        "PUT",
        &format!("{CONNECTIONS}/crm"),
        &[("content-type", "application/json")],
        body.to_string().as_bytes(),
    );
    assert_eq!((unmatched.status, unmatched.problem().as_str()), (428, "if_match_missing"));
    let changed = admin.put(&format!("{CONNECTIONS}/crm"), &tag, &body);
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_ne!(changed.header("etag"), tag);
    let late = admin.put(&format!("{CONNECTIONS}/crm"), &tag, &body);
    assert_eq!((late.status, late.problem().as_str()), (412, "changed_meanwhile"));

    let deleted = admin.delete(&format!("{CONNECTIONS}/crm"));
    assert!(deleted.status == 200 && deleted.text.contains("stay"), "{}", deleted.text);
    assert_eq!(admin.get(&format!("{CONNECTIONS}/crm")).status, 404);
    let rows = admin.post("/api/v1/query", &json!({"sql": "SELECT count(*) AS n FROM opportunities"})).json();
    assert_eq!(rows["rows"][0]["n"], 2, "{rows}");
    let journal = admin.get("/api/v1/audit").text;
    for written in ["/api/v1/aam/connections\"", "/crm/sync", "\"DELETE\""] {
        assert!(journal.contains(written), "{written}: {journal}");
    }
}

#[test]
fn a_watched_connection_is_followed_also_after_a_restart_and_not_while_it_is_paused() {
    let files = tempfile::tempdir().unwrap();
    let house = house(files.path());
    let admin = house.invited("acme");
    assert_eq!(admin.post(CONNECTIONS, &wanted("crm", ".", true)).status, 201);
    std::fs::write(files.path().join("1.ndjson"), deal(1)).unwrap();
    let streams = format!("{CONNECTIONS}/crm/streams");
    until(&admin, &streams, |s| taken(s) == 1 && s["state"] == "watching");

    let house = house.restarted();
    let admin = house.bearer(admin.token.as_ref().unwrap());
    std::fs::write(files.path().join("2.ndjson"), deal(2)).unwrap();
    until(&admin, &streams, |s| taken(s) == 2);

    let paused = admin.post(&format!("{CONNECTIONS}/crm/pause"), &json!({}));
    assert_eq!((paused.status, &paused.json()["paused"]), (200, &json!(true)));
    let refused = admin.post(&format!("{CONNECTIONS}/crm/sync"), &json!({}));
    assert_eq!((refused.status, refused.problem().as_str()), (409, "paused"));
    let house = house.restarted();
    let admin = house.bearer(admin.token.as_ref().unwrap());
    std::fs::write(files.path().join("3.ndjson"), deal(3)).unwrap();
    let still = admin.get(&streams).json();
    assert_eq!((taken(&still), &still["state"]), (2, &json!("paused")));
    assert_eq!(admin.post(&format!("{CONNECTIONS}/crm/resume"), &json!({})).status, 200);
    until(&admin, &streams, |s| taken(s) == 3);
}

#[test]
fn settings_that_are_wrong_are_told_place_by_place() {
    let files = tempfile::tempdir().unwrap();
    let house = house(files.path());
    let admin = house.invited("acme");
    let make =
        |settings: Value| admin.post(CONNECTIONS, &json!({"name": "c", "connector": "file", "settings": settings}));
    assert_eq!(pointers(&make(json!({}))), ["/settings/streams"]);
    assert_eq!(pointers(&make(json!(null))), ["/settings"]);
    let one = |more: Value| {
        let mut stream = json!({"stream": "opportunity", "files": ["a.csv"], "system": "salesforce"});
        stream.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        make(json!({"streams": [stream]}))
    };
    assert_eq!(pointers(&one(json!({"files": []}))), ["/settings/streams/0/files"]);
    assert_eq!(pointers(&one(json!({"tenant": "zeta"}))), ["/settings/streams/0/tenant"]);
    assert_eq!(pointers(&one(json!({"system": "nowhere"}))), ["/settings/streams/0"]);
    assert_eq!(pointers(&one(json!({"stream": "nothing"}))), ["/settings/streams/0"]);
    assert_eq!(pointers(&one(json!({"encoding": "klingon"}))), ["/settings/streams/0"]);
    let unknown = admin.post(CONNECTIONS, &json!({"name": "c", "connector": "ftp", "settings": {}}));
    assert_eq!(pointers(&unknown), ["/connector"]);
    let name = admin.post(CONNECTIONS, &wanted("../x", "a.csv", false));
    assert_eq!((name.status, name.problem().as_str()), (400, "invalid_request"));
    let schema = admin.get("/api/v1/aam/connectors").json()["connectors"][0]["settings_schema"].clone();
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(admin.get(CONNECTIONS).json()["connections"], json!([]));
}

#[test]
fn files_outside_the_declared_folder_are_never_read() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret.ndjson"), deal(7)).unwrap();
    let files = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret.ndjson"), files.path().join("link.ndjson")).unwrap();
    let house = house(files.path());
    let admin = house.invited("acme");
    let secret = outside.path().join("secret.ndjson");
    let data = house.folder().join("master.key");
    for bad in [
        "../x.csv",
        "link.ndjson",
        "/etc/passwd",
        "/proc/self/environ",
        secret.to_str().unwrap(),
        data.to_str().unwrap(),
    ] {
        let answer = admin.post(CONNECTIONS, &wanted("crm", bad, false));
        assert_eq!(pointers(&answer), ["/settings/streams/0/files/0"], "{bad}");
    }
    // A link that appears later leads nowhere either.
    assert_eq!(admin.post(CONNECTIONS, &wanted("crm", "later.ndjson", false)).status, 201);
    std::os::unix::fs::symlink(&secret, files.path().join("later.ndjson")).unwrap();
    let health = admin.get(&format!("{CONNECTIONS}/crm/health")).json();
    assert_eq!(health["healthy"], false, "{health}");
    assert!(health["streams"][0]["trouble"]["remedy"].as_str().is_some_and(|r| !r.is_empty()), "{health}");
    assert_eq!(admin.post(&format!("{CONNECTIONS}/crm/sync"), &json!({})).status, 202);
    let streams = until(&admin, &format!("{CONNECTIONS}/crm/streams"), |s| s["state"] == "idle");
    assert_eq!(taken(&streams), 0);
    assert!(streams["streams"][0]["last_error"].is_string(), "{streams}");
    assert!(!streams.to_string().contains(outside.path().to_str().unwrap()), "{streams}");
}

#[test]
fn without_a_declared_folder_the_problem_says_what_the_operator_does() {
    let files = tempfile::tempdir().unwrap();
    let house = house(files.path());
    let zeta = house.admin("zeta");
    let refused = zeta.post(CONNECTIONS, &wanted("crm", "a.csv", false));
    assert_eq!((refused.status, refused.problem().as_str()), (403, "no_files_root"));
    assert!(refused.text.contains("--files-root zeta="), "{}", refused.text);
    let taken = json!({"name": "acme", "email": "mallory@acme.example", "password": crate::house::PASSWORD});
    assert_eq!(
        house.anybody().post("/api/v1/auth/register", &taken).status,
        409,
        "nobody takes over the folder's tenant"
    );
}

#[test]
fn each_role_may_do_its_part_and_another_tenant_sees_nothing() {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("a.ndjson"), deal(1)).unwrap();
    let house = house(files.path());
    let (admin, zeta) = (house.invited("acme"), house.admin("zeta"));
    for name in ["crm", "erp", "web"] {
        assert_eq!(admin.post(CONNECTIONS, &wanted(name, "a.ndjson", false)).status, 201);
    }
    let viewer = house.user(&admin, "v@acme.example", "viewer");
    let editor = house.user(&admin, "e@acme.example", "editor");
    let one = format!("{CONNECTIONS}/crm");
    for reads in ["", "/health", "/streams"] {
        assert_eq!(viewer.get(&format!("{one}{reads}")).status, 200);
        let foreign = zeta.get(&format!("{one}{reads}"));
        assert_eq!((foreign.status, foreign.problem().as_str()), (404, "not_found"));
    }
    for runs in ["/pause", "/resume", "/sync"] {
        assert_eq!(viewer.post(&format!("{one}{runs}"), &json!({})).status, 403);
        assert!(editor.post(&format!("{one}{runs}"), &json!({})).status < 300, "{runs}");
        assert_eq!(zeta.post(&format!("{one}{runs}"), &json!({})).status, 404);
    }
    assert_eq!(editor.post(CONNECTIONS, &wanted("new", "a.ndjson", false)).status, 403);
    assert_eq!((editor.delete(&one).status, zeta.delete(&one).status), (403, 404));

    let first = viewer.get(&format!("{CONNECTIONS}?limit=2")).json();
    assert_eq!((&first["connections"][0]["name"], &first["connections"][1]["name"]), (&json!("crm"), &json!("erp")));
    let cursor = first["next"].as_str().unwrap();
    let second = viewer.get(&format!("{CONNECTIONS}?limit=2&cursor={cursor}")).json();
    assert_eq!((&second["connections"][0]["name"], &second["next"]), (&json!("web"), &Value::Null));
    assert_eq!(zeta.get(&format!("{CONNECTIONS}?cursor={cursor}")).status, 400, "a cursor of another tenant");
    assert_eq!(zeta.get(CONNECTIONS).json()["connections"], json!([]));

    let key = json!({"name": "etl", "role": "editor", "connections": ["erp"]});
    let program = house.bearer(admin.post("/api/v1/auth/keys", &key).json()["secret"].as_str().unwrap());
    assert_eq!((program.get(&one).status, program.get(&format!("{CONNECTIONS}/erp")).status), (403, 200));
    assert_eq!(program.get(CONNECTIONS).json()["connections"].as_array().unwrap().len(), 1);
}
