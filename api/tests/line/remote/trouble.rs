//! Servers that are gone, locked, older, newer, or something else.

use std::net::TcpListener;
use std::path::Path;

use super::super::folder::{Folder, opportunity, until};
use super::super::serving::Serving;
use super::between::{Meddle, between, not_now};
use super::{Somebody, opportunities};

fn served() -> (Folder, Serving, Somebody) {
    let folder = Folder::new();
    let file = folder.write("a.ndjson", opportunity("1", "1", 1));
    folder.opportunities("acme", &file, &[]);
    let serving = Serving::start(&folder);
    let ada = Somebody::signed_in(&folder, &serving);
    (folder, serving, ada)
}

#[test]
fn a_server_that_is_gone_is_told_at_once() {
    let (folder, serving, ada) = served();
    drop(serving);
    let file = folder.path("a.ndjson");
    for command in [&["query", "select 1"][..], &["whoami"], &["views", "list"], &opportunities(&file, &[])] {
        let told = ada.err(command);
        assert!(told.contains("cannot be reached: is it running"), "{told}");
    }
    assert!(ada.err(&["logout"]).contains("forgotten here, but the server was not told: the session counts until"));
    assert!(ada.err(&["whoami"]).contains("nobody is signed in"));
}

#[test]
fn what_is_no_server_of_ours_is_told() {
    let (_folder, serving, ada) = served();
    let page = |status: &str, more: &str| {
        let body = "<html>somebody else</html>";
        format!(
            "HTTP/1.1 {status}\r\n{more}content-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    let answers = |answer: String| between(&serving.address(), move |_| Meddle::Answer(answer.clone()));
    let asks = |address: &str| ada.through(address).err(&["--retry-for", "0", "whoami"]);
    let there = asks(&answers(page("200 OK", "")));
    assert!(there.contains("cannot be read") && there.contains("does not say its version"), "{there}");
    let nothing = asks(&answers(page("404 Not Found", "")));
    assert!(nothing.contains("does not know /api/v1/auth/me"), "{nothing}");
    let sent_on = asks(&answers(page("301 Moved Permanently", "location: https://a.example/\r\n")));
    assert!(sent_on.contains("sends on to https://a.example/"), "{sent_on}");
    let proxy = asks(&answers(page("502 Bad Gateway", "")));
    assert!(proxy.contains("502 Bad Gateway"), "{proxy}");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    std::thread::spawn(move || silent.incoming().map_while(Result::ok).for_each(drop));
    assert!(asks(&address).contains("went away before its answer was whole"));
}

#[test]
fn a_server_that_is_older_is_named_with_both_versions() {
    let (_folder, serving, ada) = served();
    // It knows no such route, as one before this: the server itself says so.
    let older = between(&serving.address(), |request| match request.path.starts_with("/api/v1/streams") {
        true => Meddle::Path("/api/v1/no-streams".into()),
        false => Meddle::Pass,
    });
    let told = ada.through(&older).err(&["log", "stat"]);
    assert!(told.contains("does not know /api/v1/streams"), "{told}");
    // Its answers lack what this one reads.
    let lacking = between(&serving.address(), |request| match request.path.starts_with("/api/v1/dcl/views") {
        true => Meddle::Change(|answer| {
            let version = format!("autonomos/{}", env!("CARGO_PKG_VERSION"));
            let older = answer.replace(&version, "autonomos/0.0.7").replace("\"entity\":", "\"entitx\":");
            assert!(older.contains("autonomos/0.0.7"), "{older}");
            older
        }),
        false => Meddle::Pass,
    });
    let told = ada.through(&lacking).err(&["views", "list"]);
    assert!(told.contains("cannot be read") && told.contains("it is version 0.0.7, this is"), "{told}");
}

#[test]
fn a_server_that_is_newer_is_understood_where_it_says_more() {
    let (_folder, serving, ada) = served();
    let newer = between(&serving.address(), |request| match request.path.starts_with("/api/v1/dcl/views") {
        true => Meddle::Change(|answer| {
            let more = "{\"colour\":\"blue\",\"name\":";
            let newer = answer.replace("{\"name\":", more);
            assert!(newer.contains(more), "{newer}");
            let (head, body) = newer.split_once("\r\n\r\n").unwrap();
            let is_length = |line: &&str| !line.to_ascii_lowercase().starts_with("content-length:");
            let head: Vec<&str> = head.split("\r\n").filter(is_length).collect();
            format!("{}\r\ncontent-length: {}\r\n\r\n{body}", head.join("\r\n"), body.len())
        }),
        false => Meddle::Pass,
    });
    assert_eq!(ada.through(&newer).ok(&["views", "list"]), ada.ok(&["views", "list"]));
}

#[test]
fn what_a_server_cannot_do_just_now_is_tried_again_for_a_while() {
    let (_folder, serving, ada) = served();
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let busy = between(&serving.address(), move |request| {
        match request.path.starts_with("/api/v1/query") && asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 2 {
            true => not_now("429 Too Many Requests", "quota_queries", 0),
            false => Meddle::Pass,
        }
    });
    assert_eq!(ada.through(&busy).query("select 7 as seven").lines().last(), Some("7"));
    let never = between(&serving.address(), |request| match request.path.starts_with("/api/v1/query") {
        true => not_now("503 Service Unavailable", "unavailable", 1),
        false => Meddle::Pass,
    });
    let told = ada.through(&never).err(&["--retry-for", "0", "query", "select 1"]);
    assert!(told.contains("not now; it may work in 1 s (unavailable, trace 00)"), "{told}");
    let login = ["login", "--email", super::EMAIL];
    let locked = between(&serving.address(), |_| not_now("429 Too Many Requests", "rate_limited", 40));
    let told = super::told(&login, &Somebody::at(&locked).run_with(&login, super::PASSWORD));
    assert!(told.contains("it may work in 40 s"), "nobody waits at a prompt: {told}");
}

#[test]
fn an_answer_that_breaks_off_is_no_answer() {
    let (_folder, serving, ada) = served();
    let cut = between(&serving.address(), |request| match request.path.starts_with("/api/v1/query") {
        // Its end is lost on the way, in the middle of what it says is to come.
        true => Meddle::Cut(200),
        false => Meddle::Pass,
    });
    let told = ada.through(&cut).err(&["--retry-for", "0", "query", "select * from opportunities"]);
    assert!(told.contains("went away before its answer was whole"), "{told}");
}

#[test]
fn a_role_that_is_too_low_and_a_question_that_is_wrong_are_told_in_the_servers_words() {
    let (folder, serving, ada) = served();
    let file = folder.path("a.ndjson");
    let invited = ada.json(&["tenant", "invite", "acme", "bob@acme.example"]);
    let token = invited["token"].as_str().unwrap();
    let body = serde_json::json!({"token": token, "password": super::PASSWORD});
    let (_, bob) = serving.post("/api/v1/auth/accept", None, &body);
    let bob: serde_json::Value = serde_json::from_str(&bob).unwrap();
    let id = bob["user"]["id"].as_str().unwrap();
    let admin = bob["access_token"].as_str().unwrap();
    let changed = serving.patch(&format!("/api/v1/auth/users/{id}"), admin, &serde_json::json!({"role": "viewer"}));
    assert_eq!(changed, 200);
    let bob = Somebody::at(&serving.address());
    let login = bob.run_with(&["login", "--email", "bob@acme.example"], super::PASSWORD);
    assert!(login.status.success());
    assert!(bob.err(&opportunities(&file, &[])).contains("this needs the role editor, you have viewer"));
    assert!(bob.err(&["tenant", "invite", "acme", "x@acme.example"]).contains("needs the role admin"));
    assert!(bob.err(&["query", "drop table opportunities"]).contains("SELECT"));
    assert!(bob.err(&["query", "select * from nothing"]).contains("nothing"));
    let json = bob.run(&["--json", "query", "select * from nothing"]);
    let error: serde_json::Value = serde_json::from_slice(&json.stderr).unwrap();
    assert!(error["error"].as_str().unwrap().contains("nothing"));
}

#[test]
fn an_encrypted_server_is_trusted_by_its_authority_alone() {
    let certificates = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates");
    let file = |name: &str| certificates.join(name).display().to_string();
    let folder = Folder::new();
    let deals = folder.write("a.ndjson", opportunity("1", "1", 1));
    folder.opportunities("acme", &deals, &[]);
    let tls = format!("tls: {{certificate: {}, key: {}}}\n", file("localhost.pem"), file("localhost.key"));
    folder.write("data/autonomos.yaml", tls);
    let serving = Serving::start_encrypted(&folder);
    let invite = ["tenant", "invite", "acme", super::EMAIL];
    until("the server answers on its folder", || folder.run(&invite).status.success());
    let https = format!("https://localhost:{}", serving.port());
    let stranger = Somebody::at(&https).with("AUTONOMOS_API_KEY", "ak_x");
    let untrusted = "no certificate that is trusted here: name the one that it is signed by";
    // A server that has just begun to listen may break off a first handshake.
    until("nobody trusts the server without its authority", || {
        String::from_utf8_lossy(&stranger.run(&["whoami"]).stderr).contains(untrusted)
    });
    let ada = Somebody::at(&https).with("AUTONOMOS_CA", &file("authority.pem"));
    let set = ada.run_with(&["login", "--email", super::EMAIL], "no such password");
    assert!(String::from_utf8_lossy(&set.stderr).contains("the address or the password is wrong"));
    let wrong = Somebody::at(&https).with("AUTONOMOS_CA", &file("localhost.key")).with("AUTONOMOS_API_KEY", "ak_x");
    assert!(wrong.err(&["whoami"]).contains("localhost.key"));
    let open = Somebody::at(&https.replace("https", "http")).with("AUTONOMOS_API_KEY", "ak_x");
    open.err(&["--retry-for", "0", "whoami"]);
}
