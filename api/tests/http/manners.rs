//! What every request goes through, and in which order.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use api::http::manners::rate::{Rate, Rates};
use serde_json::json;

use crate::house::{House, Person, wide};

#[test]
fn every_error_is_a_problem_with_a_trace() {
    let house = House::open();
    let admin = house.admin("acme");
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let missing = admin.send("GET", "/nowhere", &[("traceparent", trace)], b"");
    assert_eq!((missing.status, missing.problem().as_str()), (404, "unknown_path"));
    assert!(missing.header("server").starts_with("autonomos/"));
    assert_eq!(missing.json()["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    assert!(missing.header("traceparent").starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
    let method = admin.delete("/api/v1/auth/me");
    assert_eq!((method.status, method.problem().as_str()), (405, "method_not_allowed"));
    let junk = admin.send("POST", "/api/v1/auth/keys", &[("content-type", "application/json")], b"{nonsense");
    assert_eq!((junk.status, junk.problem().as_str()), (400, "invalid_request"));
    let media = admin.send("POST", "/api/v1/auth/keys", &[("content-type", "text/csv")], b"a,b");
    assert_eq!((media.status, media.problem().as_str()), (415, "unsupported_media_type"));
    let nobody = house.anybody().get("/api/v1/auth/me");
    assert_eq!(
        (nobody.status, nobody.problem().as_str(), nobody.header("www-authenticate")),
        (401, "unauthenticated", "Bearer")
    );
}

#[test]
fn a_credential_in_the_query_or_twice_in_the_header_is_none() {
    let house = House::open();
    let admin = house.admin("acme");
    let token = admin.token.clone().unwrap();
    for name in ["token", "access_token", "Access_Token", "api_key"] {
        assert_eq!(admin.get(&format!("/api/v1/auth/me?{name}={token}")).status, 401, "{name}");
    }
    let bearer = format!("Bearer {token}");
    let twice =
        house.anybody().send("GET", "/api/v1/auth/me", &[("authorization", &bearer), ("authorization", &bearer)], b"");
    assert_eq!(twice.status, 401);
    let long = format!("Bearer {}", "x".repeat(40_000));
    assert!(matches!(
        house.anybody().send("GET", "/api/v1/auth/me", &[("authorization", &long)], b"").status,
        401 | 431
    ));
}

#[test]
fn a_body_beyond_the_bound_is_refused_declared_or_not() {
    let house = House::open();
    let admin = house.admin("acme");
    let large = vec![b' '; (1 << 20) + 1];
    let answer = admin.send("POST", "/api/v1/auth/keys", &[("content-type", "application/json")], &large);
    assert_eq!((answer.status, answer.problem().as_str()), (413, "too_large"));
}

#[test]
fn a_body_is_looked_at_only_once_it_is_known_who_sends_it() {
    let house = House::open();
    let json = [("content-type", "application/json")];
    let large = vec![b' '; 2 << 20];
    let stranger = house.anybody().send("POST", "/api/v1/auth/keys", &json, &large);
    assert_eq!((stranger.status, stranger.problem().as_str()), (401, "unauthenticated"));
    let large = vec![b' '; (64 << 10) + 1];
    let login = house.anybody().send("POST", "/api/v1/auth/login", &json, &large);
    assert_eq!((login.status, login.problem().as_str()), (413, "too_large"));
}

#[test]
fn a_number_is_no_text() {
    let house = House::open();
    let admin = house.admin("acme");
    for body in [json!({"name": 12, "role": "viewer"}), json!({"name": true, "role": "viewer"})] {
        let answer = admin.post("/api/v1/auth/keys", &body);
        assert_eq!((answer.status, answer.problem().as_str()), (400, "invalid_request"), "{body}");
    }
}

#[test]
fn bytes_that_are_no_text_are_told_apart_under_one_idempotency_key() {
    let house = House::open();
    let admin = house.admin("acme");
    let push = |body: &[u8]| {
        let headers = [("content-type", "application/x-ndjson"), ("idempotency-key", "one")];
        let path = "/api/v1/records?connection=crm&stream=opportunity&system=salesforce";
        admin.send("POST", path, &headers, body)
    };
    assert_eq!(push(b"{\"Id\":\"\xff\"}").status, 200);
    assert_eq!(push(b"{\"Id\":\"\xff\"}").status, 200, "the same again");
    assert_eq!(push(b"{\"Id\":\"\xfe\"}").problem(), "idempotency_key_reused");
}

#[test]
fn a_push_that_was_refused_has_not_used_its_idempotency_key() {
    let house = House::open();
    let admin = house.admin("acme");
    let push = |body: &str, system: &str| {
        let headers = [("content-type", "application/json"), ("idempotency-key", "p1")];
        let path = format!("/api/v1/records?connection=crm&stream=opportunity&system={system}");
        admin.send("POST", &path, &headers, body.as_bytes())
    };
    let empty = push("[]", "salesforce");
    assert_eq!((empty.status, empty.problem().as_str()), (422, "no_records"));
    let misspelt = push("[{\"Id\":\"0\"}]", "salesfarce");
    assert_eq!((misspelt.status, misspelt.problem().as_str()), (422, "mapping_unknown"));
    let right = push("[{\"Id\":\"1\"}]", "salesforce");
    assert_eq!((right.status, right.json()["records"].as_u64()), (200, Some(1)), "{}", right.text);
    assert_eq!(push("[{\"Id\":\"2\"}]", "salesforce").problem(), "idempotency_key_reused");
}

#[test]
fn rations_are_counted_for_the_tenant_after_its_credential_is_known() {
    let house = House::with_rates(Rates { read: Rate::new(1, 5), ..wide() });
    let (acme, zeta) = (house.admin("acme"), house.admin("zeta"));
    for _ in 0..5 {
        assert_eq!(acme.get("/api/v1/auth/me").status, 200);
    }
    let refused = acme.get("/api/v1/auth/me");
    assert_eq!((refused.status, refused.problem().as_str()), (429, "rate_limited"));
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 0);
    assert_eq!(zeta.get("/api/v1/auth/me").status, 200, "another tenant has its own");
    // Without a credential nothing is counted for the tenant, and a bad one is refused before any ration is used.
    for _ in 0..20 {
        assert_eq!(house.bearer("junk").get("/api/v1/auth/me").status, 401);
    }
    assert_eq!(zeta.get("/api/v1/auth/me").status, 200);
}

#[test]
fn an_unchanged_answer_is_left_out() {
    let house = House::open();
    let admin = house.admin("acme");
    let first = admin.get("/api/v1/auth/users");
    let tag = first.header("etag").to_owned();
    assert!(!tag.is_empty());
    let second = admin.send("GET", "/api/v1/auth/users", &[("if-none-match", &tag)], b"");
    assert_eq!((second.status, second.text.as_str()), (304, ""));
    house.user(&admin, "new@acme.example", "viewer");
    assert_eq!(admin.send("GET", "/api/v1/auth/users", &[("if-none-match", &tag)], b"").status, 200);
}

#[test]
fn the_journal_says_who_did_what_to_the_admin_only() {
    let house = House::open();
    let admin = house.admin("acme");
    let viewer = house.user(&admin, "v@acme.example", "viewer");
    assert_eq!(viewer.post("/api/v1/auth/keys", &json!({"name": "k", "role": "viewer"})).status, 403);
    assert_eq!(viewer.get("/api/v1/audit").status, 403);
    let audit = admin.get("/api/v1/audit").json();
    let entries = audit["entries"].as_array().unwrap();
    let has = |name: &str, path: &str, status: u64| {
        entries.iter().any(|e| e["name"] == name && e["path"] == path && e["status"] == status)
    };
    assert!(has("admin@acme.example", "/api/v1/auth/register", 201), "{audit}");
    assert!(has("admin@acme.example", "/api/v1/auth/users/invitations", 201));
    assert!(has("v@acme.example", "/api/v1/auth/keys", 403));
    let mut seen = 0;
    let mut path = "/api/v1/audit?limit=1".to_owned();
    loop {
        let page = admin.get(&path).json();
        seen += page["entries"].as_array().unwrap().len();
        match page["next"].as_str() {
            Some(next) => path = format!("/api/v1/audit?limit=1&cursor={next}"),
            None => break,
        }
    }
    assert!(seen >= entries.len());
    assert_eq!(admin.get("/api/v1/audit?cursor=AAAA").status, 400);
}

#[test]
fn the_journal_says_who_took_everything_along_and_who_watched() {
    let house = House::open();
    let admin = house.admin("acme");
    assert_eq!(admin.get("/api/v1/tenant/export").status, 200);
    assert_eq!(admin.get("/api/v1/events/stream?seconds=0").status, 200);
    assert_eq!(socket(&admin, "mode=all").0, 101);
    let audit = admin.get("/api/v1/audit").json();
    let has = |path: &str, status: u64| {
        audit["entries"].as_array().unwrap().iter().any(|e| e["path"] == path && e["status"] == status)
    };
    assert!(has("/api/v1/tenant/export", 200), "{audit}");
    assert!(has("/api/v1/events/stream", 200) && has("/api/v1/events/ws", 101), "{audit}");
}

#[test]
fn a_socket_takes_no_mode_that_does_not_exist() {
    let house = House::open();
    let admin = house.admin("acme");
    for mode in ["", "mode=all", "mode=sample"] {
        assert_eq!(socket(&admin, mode).0, 101, "{mode}");
    }
    for mode in ["mode=some", "mode=", "mode=ALL"] {
        let (status, said) = socket(&admin, mode);
        assert!(status == 400 && said.contains("invalid_request"), "{mode}: {said}");
    }
}

/// Asks for a socket. Answers the status, and what else came with the head.
fn socket(person: &Person, query: &str) -> (u16, String) {
    let address = person.base.strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(address).unwrap();
    let token = person.token.as_deref().unwrap();
    let head = format!(
        "GET /api/v1/events/ws?{query} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
         connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(connection);
    let mut said = String::new();
    while !said.ends_with("\r\n\r\n") && reader.read_line(&mut said).unwrap() > 0 {}
    let status: u16 = said.split(' ').nth(1).unwrap().parse().unwrap();
    if status != 101 {
        let length = said.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        said.push_str(&String::from_utf8_lossy(&body));
    }
    (status, said)
}

#[test]
fn the_document_names_every_answer_and_its_schemas_are_closed() {
    let house = House::open();
    let document = house.anybody().get("/openapi.json").json();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        if schema["properties"].is_object() {
            assert_eq!(schema["additionalProperties"], json!(false), "{name}");
        }
    }
    let mut public = vec!["/healthz", "/readyz", "/metrics"];
    public.extend(["/api/v1/auth/register", "/api/v1/auth/login", "/api/v1/auth/accept"]);
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let is_guarded = operation["security"].as_array().is_some_and(|s| !s.is_empty());
            assert_eq!(is_guarded, !public.contains(&path.as_str()), "{method} {path}");
            assert!(operation["operationId"].is_string(), "{method} {path}");
            assert!(operation["responses"].get("410").is_none(), "nothing is ever gone: {method} {path}");
        }
    }
    let (stream, socket) =
        (&document["paths"]["/api/v1/events/stream"]["get"], &document["paths"]["/api/v1/events/ws"]["get"]);
    let names = |operation: &serde_json::Value| -> Vec<String> {
        let parameters = operation["parameters"].as_array().unwrap().iter();
        parameters.filter(|p| p["in"] == "query").map(|p| p["name"].as_str().unwrap().to_owned()).collect()
    };
    let shared: Vec<String> = names(stream).into_iter().filter(|name| name != "seconds").collect();
    assert_eq!((names(socket), socket["responses"]["101"].is_object()), (shared, true));
    let rows = &document["paths"]["/api/v1/dcl/views/{view}/rows"]["get"]["responses"]["200"];
    assert!(rows["headers"].as_object().is_some_and(|headers| headers.contains_key("Next-Cursor")), "{rows}");
    assert_eq!(house.anybody().get("/docs").status, 200);
}
