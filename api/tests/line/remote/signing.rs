//! Who asks a server.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::super::folder::{Folder, opportunity, until};
use super::super::serving::Serving;
use super::{EMAIL, PASSWORD, Somebody, invited, told};

fn served() -> (Folder, Serving) {
    let folder = Folder::new();
    let file = folder.write("a.ndjson", opportunity("1", "1.5", 1));
    folder.opportunities("acme", &file, &[]);
    let serving = Serving::start(&folder);
    (folder, serving)
}

#[test]
fn a_person_signs_in_is_known_and_signs_out() {
    let (folder, serving) = served();
    invited(&folder, &serving);
    let ada = Somebody::at(&serving.address());
    assert!(ada.err(&["whoami"]).contains("autonomos login --server"));
    let said = ada.run_with(&["login", "--email", EMAIL], PASSWORD);
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("as ada@acme.example, admin of acme, until "), "{said}");
    let kept = ada.kept();
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    let token: Value = serde_json::from_str(&std::fs::read_to_string(&kept).unwrap()).unwrap();
    let token = token["token"].as_str().unwrap().to_owned();
    assert!(!said.contains(&token));

    let me = ada.json(&["whoami"]);
    assert_eq!((&me["name"], &me["tenant"], &me["role"]), (&json!(EMAIL), &json!("acme"), &json!("admin")));
    assert!(ada.ok(&["whoami"]).starts_with("ada@acme.example, admin of acme at http://"));
    assert_eq!(ada.query("select sum(amount) from opportunities").lines().last(), Some("1.5000"));

    assert!(ada.ok(&["logout"]).contains("signed out"));
    assert!(!kept.exists());
    assert!(ada.err(&["query", "select 1"]).contains("nobody is signed in"));
    assert!(ada.err(&["logout"]).contains("nobody is signed in"));
    assert_eq!(serving.get_as("/api/v1/auth/me", &token).0, 401, "the session has ended");
}

#[test]
fn a_wrong_password_is_told_and_nothing_is_kept() {
    let (folder, serving) = served();
    invited(&folder, &serving);
    let ada = Somebody::at(&serving.address());
    for (email, password) in [(EMAIL, "not that one at all"), ("eve@acme.example", PASSWORD)] {
        let login = ["login", "--email", email];
        assert!(told(&login, &ada.run_with(&login, password)).contains("the address or the password is wrong"));
    }
    let login = ["login", "--email", EMAIL];
    assert!(told(&login, &ada.run_with(&login, "")).contains("no password on standard input"));
    assert!(!ada.config().join("autonomos/servers").exists());
}

#[test]
fn a_session_that_was_ended_is_told_with_what_to_do() {
    let (folder, serving) = served();
    let ada = Somebody::signed_in(&folder, &serving);
    let token: Value = serde_json::from_str(&std::fs::read_to_string(ada.kept()).unwrap()).unwrap();
    let token = token["token"].as_str().unwrap();
    let (_, sessions) = serving.get_as("/api/v1/auth/sessions", token);
    let sessions: Value = serde_json::from_str(&sessions).unwrap();
    for session in sessions["sessions"].as_array().unwrap() {
        serving.delete(&format!("/api/v1/auth/sessions/{}", session["id"].as_str().unwrap()), token);
    }
    let told = ada.err(&["query", "select 1"]);
    assert!(told.contains("does not know you (any more)") && told.contains("autonomos login --server"), "{told}");
    ada.ok(&["logout"]);
    ada.login();
    ada.ok(&["query", "select 1"]);
}

#[test]
fn a_program_asks_with_its_key_until_that_expires() {
    let (folder, serving) = served();
    let ada = Somebody::signed_in(&folder, &serving);
    let token: Value = serde_json::from_str(&std::fs::read_to_string(ada.kept()).unwrap()).unwrap();
    let token = token["token"].as_str().unwrap();
    // A key that had expired before everything was asked with it was too brief for this machine.
    let keys = [3, 30, 300].into_iter().find_map(|seconds| with_key(&serving, token, seconds));
    let (program, stored) = keys.expect("a key counts for a while");
    until("the key has expired", || !program.run(&["whoami"]).status.success());
    assert!(program.err(&["whoami"]).contains("set AUTONOMOS_API_KEY to an API key that counts"));
    assert!(stored.err(&["whoami"]).contains("does not know you (any more)"));
    let login = ["login", "--api-key-stdin"];
    assert!(told(&login, &stored.run_with(&login, "ak_nonsense")).contains("does not know you"));
}

/// A program with a key that counts for so many seconds, and one that has stored it, after both have asked with it;
/// nothing when it expired meanwhile.
fn with_key(serving: &Serving, token: &str, seconds: u64) -> Option<(Somebody, Somebody)> {
    let started = std::time::Instant::now();
    // It expires in whole seconds of the clock.
    let in_time = |is_well: bool, said: &dyn std::fmt::Debug| {
        assert!(is_well || started.elapsed().as_secs() + 1 >= seconds, "{said:?}");
        is_well.then_some(())
    };
    let wanted = json!({"name": "nightly", "role": "viewer", "expires_at": seconds_from_now(seconds)});
    let (status, made) = serving.post("/api/v1/auth/keys", Some(token), &wanted);
    in_time(status == 201, &made)?;
    let made: Value = serde_json::from_str(&made).unwrap();
    let secret = made["secret"].as_str().unwrap();

    let program = Somebody::at(&serving.address()).with("AUTONOMOS_API_KEY", secret);
    let me = program.run(&["--json", "whoami"]);
    in_time(me.status.success(), &me)?;
    let me: Value = serde_json::from_str(String::from_utf8_lossy(&me.stdout).lines().last().unwrap()).unwrap();
    assert_eq!((&me["name"], &me["role"]), (&json!("nightly"), &json!("viewer")));
    let stored = Somebody::at(&serving.address());
    let login = stored.run_with(&["login", "--api-key-stdin"], secret);
    in_time(login.status.success(), &login)?;
    let asked = stored.run(&["query", "--format", "csv", "select count(*) from opportunities"]);
    in_time(asked.status.success(), &asked)?;
    assert_eq!(String::from_utf8_lossy(&asked.stdout).lines().last(), Some("1"));
    Some((program, stored))
}

fn seconds_from_now(seconds: u64) -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    schemas::time::format_timestamp(i64::try_from(since + seconds).unwrap() * 1_000_000)
}

#[test]
fn the_command_line_says_where_it_asks() {
    let (folder, serving) = served();
    let ada = Somebody::signed_in(&folder, &serving);
    let data = folder.data();
    let data = data.to_str().unwrap();
    let both = ada.run(&["--data-dir", data, "query", "select 1"]);
    assert_eq!(both.status.code(), Some(2), "{}", String::from_utf8_lossy(&both.stderr));
    // What is said on the command line counts more than the environment.
    let mut on_folder = folder.command(&["query", "--tenant", "acme", "--format", "csv", "select 1 as one"]);
    let output = on_folder.env("AUTONOMOS_SERVER", "http://127.0.0.1:1").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().last(), Some("1"));
    let mut by_variable = std::process::Command::new(super::super::folder::BINARY);
    by_variable.args(["query", "--format", "csv", "select 2 as two"]).env("AUTONOMOS_SERVER", serving.address());
    let output = by_variable.env("XDG_CONFIG_HOME", ada.config()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().last(), Some("2"));
    for role in ["serve", "demo"] {
        let mut elsewhere = std::process::Command::new(super::super::folder::BINARY);
        let output = elsewhere.args(["--server", &serving.address(), role]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && stderr.contains("without --server"), "{role}: {stderr}");
    }
    let nameless = folder.run(&["query", "select 1"]);
    assert_eq!(nameless.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nameless.stderr).contains("--tenant"));

    ada.ok(&["query", "--tenant", "acme", "select 1"]);
    assert!(ada.err(&["query", "--tenant", "other", "select 1"]).contains("signed in to acme"));
    for operators in [&["doctor"][..], &["log", "refold"], &["views", "flush"], &["views", "rebuild"]] {
        assert!(ada.err(operators).contains("--data-dir"), "{operators:?}");
    }
    let open = Somebody::at("http://192.0.2.1:7400").with("AUTONOMOS_API_KEY", "ak_x");
    assert!(open.err(&["whoami"]).contains("--insecure-http"));
    for wrong in ["127.0.0.1:7400", "https://ada:pw@a.example"] {
        assert_eq!(Somebody::at(wrong).run(&["whoami"]).status.code(), Some(2), "{wrong}");
    }
}
