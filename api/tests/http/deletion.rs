//! A tenant as a whole: taken along, and deleted.

use std::collections::BTreeMap;
use std::path::Path;

use api::connections::roots::DeclaredRoot;
use api::http::Operator;
use api::line::Line;
use pipeline::{Expect, Table};
use schemas::TenantId;
use serde_json::{Value, json};

use crate::house::{House, PASSWORD, Person, wide};

const CANARY: &str = "canary-of-acme";

fn push(person: &Person, connection: &str, ids: &[&str]) -> String {
    let record = |id: &&str| {
        json!({"Id": id, "Name": format!("{id} {CANARY}"), "Amount": 1, "StageName": "Open",
            "LastModifiedDate": "2026-01-01T00:00:00Z"})
        .to_string()
            + "\n"
    };
    let path = format!("/api/v1/records?connection={connection}&stream=opportunity&system=salesforce");
    let body = ids.iter().map(record).collect::<String>() + "{broken canary-of-acme\n";
    let answer = person.send("POST", &path, &[("content-type", "application/x-ndjson")], body.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["position"].as_str().unwrap().to_owned()
}

fn names(person: &Person, position: &str) -> Vec<String> {
    let page = person.get(&format!("/api/v1/dcl/views/opportunities/rows?min_position={position}"));
    assert_eq!(page.status, 200, "{}", page.text);
    page.json()["rows"].as_array().unwrap().iter().map(|r| r["opportunity_id"].as_str().unwrap().to_owned()).collect()
}

fn delete(person: &Person, name: &str) -> crate::house::Answer {
    let body = json!({ "name": name }).to_string();
    person.send("DELETE", "/api/v1/tenant", &[("content-type", "application/json")], body.as_bytes())
}

/// The lines of an export by their kinds.
fn export(person: &Person) -> BTreeMap<String, Vec<Value>> {
    let answer = person.get("/api/v1/tenant/export");
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/x-ndjson"), "{}", answer.text);
    let mut kinds: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in answer.text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        kinds.entry(line["kind"].as_str().unwrap().to_owned()).or_default().push(line);
    }
    kinds
}

#[test]
fn an_export_has_everything_of_its_tenant_and_no_secret() {
    let house = House::open();
    let (acme, zeta) = (house.admin("acme"), house.admin("zeta"));
    let viewer = house.user(&acme, "viewer@acme.example", "viewer");
    let key = acme.post("/api/v1/auth/keys", &json!({"name": "robot", "role": "editor"}));
    push(&acme, "crm", &["a", "b"]);
    push(&zeta, "crm", &["foreign-z"]);
    let kinds = export(&acme);
    let count = |kind: &str| kinds.get(kind).map_or(0, Vec::len);
    assert_eq!(kinds["tenant"][0]["name"], "acme");
    assert_eq!((count("user"), count("stream"), count("row"), count("quarantined")), (2, 1, 2, 1), "{kinds:?}");
    let records: Vec<_> = kinds["input"].iter().filter(|i| i["value"]["input"] == "record").collect();
    assert_eq!(records.len(), 3, "the broken one too");
    assert!(records[0]["value"]["payload"].as_str().unwrap().contains(CANARY), "as it came");
    assert!(kinds["row"].iter().all(|row| row["view"] == "opportunities" && row["value"]["amount"] == "1.0000"));
    assert!(kinds["audit"].iter().any(|a| a["value"]["path"] == "/api/v1/records"));
    assert!(kinds["stream"][0]["value"]["mapping"]["fields"].is_object());
    for (kind, lines) in &kinds["end"][0]["lines"].as_object().unwrap().clone() {
        assert_eq!(lines.as_u64().unwrap() as usize, count(kind), "{kind}");
    }
    let text = acme.get("/api/v1/tenant/export").text;
    let secrets = [PASSWORD, "argon2", acme.token.as_deref().unwrap(), "foreign-z", "zeta"];
    for secret in secrets {
        assert!(!text.contains(secret), "{secret}");
    }
    assert_eq!(viewer.get("/api/v1/tenant/export").status, 403);
    let robot = house.bearer(key.json()["secret"].as_str().unwrap());
    assert_eq!(robot.get("/api/v1/tenant/export").status, 403);
}

#[test]
fn a_deleted_tenant_is_gone_at_once_and_for_ever_and_its_name_is_free() {
    let house = House::open();
    let (acme, zeta) = (house.admin("acme"), house.admin("zeta"));
    let viewer = house.user(&acme, "viewer@acme.example", "viewer");
    let made = acme.post("/api/v1/auth/keys", &json!({"name": "robot", "role": "editor"}));
    let robot = house.bearer(made.json()["secret"].as_str().unwrap());
    let position = push(&acme, "crm", &["a", "b"]);
    assert_eq!(names(&acme, &position), ["a", "b"]);
    push(&zeta, "crm", &["z"]);
    let id = acme.get("/api/v1/auth/me").json()["tenant_id"].as_str().unwrap().to_owned();
    let views = house.folder().join("views").join(&id);
    assert!(views.exists());

    assert_eq!(delete(&viewer, "acme").status, 403);
    assert_eq!(delete(&robot, "acme").status, 403);
    assert_eq!(delete(&acme, "acm").problem(), "invalid_request");
    assert_eq!(delete(&zeta, "acme").status, 400, "a name is no way to another tenant");
    assert_eq!(acme.get("/api/v1/auth/me").status, 200, "nothing has happened yet");
    let gone = delete(&acme, "acme");
    assert_eq!(gone.status, 204, "{}", gone.text);
    for person in [&acme, &viewer, &robot] {
        assert_eq!(person.get("/api/v1/dcl/views").status, 401);
    }
    let login = json!({"email": "admin@acme.example", "password": PASSWORD});
    assert_eq!(house.anybody().post("/api/v1/auth/login", &login).status, 401);
    assert!(!views.exists());
    assert_eq!(names(&zeta, &push(&zeta, "crm", &["y"])), ["y", "z"], "the line goes on for others");

    // Another owner of the name meets nothing of the former one, before and after a restart.
    let heir = house.admin("acme");
    assert_ne!(heir.get("/api/v1/auth/me").json()["tenant_id"], id.as_str());
    assert_eq!(names(&heir, &push(&heir, "crm", &["c"])), ["c"]);
    let house = house.restarted();
    let heir = house.bearer(heir.token.as_deref().unwrap());
    assert_eq!(names(&heir, &push(&heir, "crm", &["d"])), ["c", "d"]);
    assert_eq!(export(&heir)["row"].len(), 2);
    let metrics = house.anybody().get("/metrics").text;
    let forgotten = metrics.lines().find_map(|l| l.strip_prefix("autonomos_forgotten_items_total ")).unwrap();
    assert!(forgotten.parse::<u64>().unwrap() > 0, "readers that come by know it");
    assert!(!lies_in(house.folder(), CANARY.as_bytes(), &id), "no file of the database says it");
}

/// Whether a text lies in a file of the folder that is not the heir's view.
fn lies_in(folder: &Path, text: &[u8], former: &str) -> bool {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).any(|path| match path.is_dir() {
        true if path.ends_with("views") => path.join(former).exists(),
        true => lies_in(&path, text, former),
        false => std::fs::read(&path).is_ok_and(|bytes| bytes.windows(text.len()).any(|window| window == text)),
    })
}

#[test]
fn a_watched_connection_of_a_deleted_tenant_stops_and_other_tenants_keep_theirs() {
    let files = tempfile::tempdir().unwrap();
    let root = |tenant: &str| DeclaredRoot { tenant: tenant.into(), folder: files.path().to_owned() };
    let operator = Operator { rates: wide(), files_roots: vec![root("acme"), root("zeta")], ..Operator::default() };
    let house = House::with(operator);
    let record = |id: &str| {
        json!({"Id": id, "Name": id, "StageName": "Won", "SystemModstamp": "2026-10-31T09:30:00Z"}).to_string() + "\n"
    };
    std::fs::write(files.path().join("deals.ndjson"), record("1")).unwrap();
    let stream = json!({"stream": "opportunity", "system": "salesforce", "files": ["deals.ndjson"]});
    let wanted = json!({"name": "crm", "connector": "file", "settings": {"watch": true, "streams": [stream]}});
    let (acme, zeta) = (house.invited("acme"), house.invited("zeta"));
    for person in [&acme, &zeta] {
        assert_eq!(person.post("/api/v1/aam/connections", &wanted).status, 201);
    }
    assert_eq!(delete(&acme, "acme").status, 204);
    std::fs::write(files.path().join("deals.ndjson"), record("1") + &record("2")).unwrap();
    crate::connections::until(&zeta, "/api/v1/aam/connections/crm/streams", |s| {
        s["streams"][0]["counts"]["taken"] == 2
    });
    assert_eq!(house.anybody().get("/readyz").status, 200, "no role has met anything strange");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_was_cut_off_is_finished_at_the_next_start() {
    for has_key in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let line = Line::open(folder.path()).await.unwrap();
        let name = "acme".parse().unwrap();
        let id: TenantId = line.ensure_tenant(&name).await.unwrap();
        line.store.put(id, Table::Users, "ada", "{}".into(), Expect::Absent).await.unwrap();
        let address = format!("ada@acme.example/{id}");
        line.store.put(TenantId::SYSTEM, Table::Addresses, &address, "\"ada\"".into(), Expect::Absent).await.unwrap();
        std::fs::create_dir_all(folder.path().join(format!("views/{id}/opportunities"))).unwrap();
        // What stands there after a crash: the note, and perhaps no key any more.
        let note = serde_json::to_vec(&name).unwrap().into();
        line.store.put(TenantId::SYSTEM, Table::Deletions, &id.to_string(), note, Expect::Absent).await.unwrap();
        if !has_key {
            line.keys.destroy(id).await.unwrap();
            let refused = line.tenant(&name).await.unwrap_err().to_string();
            assert!(refused.contains("is being deleted"), "{refused}");
        }
        line.close().await.unwrap();
        drop(line);
        let line = Line::open(folder.path()).await.unwrap();
        assert!(line.tenants().await.unwrap().is_empty());
        assert!(line.keys.is_destroyed(id).await.unwrap());
        for table in [Table::Addresses, Table::Deletions, Table::Tenants] {
            assert!(line.store.scan(TenantId::SYSTEM, table, "", None, 9).await.unwrap().is_empty(), "{table:?}");
        }
        assert!(!folder.path().join(format!("views/{id}")).exists());
        assert_ne!(line.ensure_tenant(&name).await.unwrap(), id);
        line.close().await.unwrap();
    }
}
