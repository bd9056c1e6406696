//! Webhooks: a real receiver on a port of its own, told of cases, signed, again when it was away.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use api::http::Operator;
use api::notices::send::sign;
use serde_json::{Value, json};

use crate::cases::{cases, doubtful, push, until};
use crate::house::{House, Person, wide};

const WEBHOOKS: &str = "/api/v1/webhooks";
/// What a receiver answers that takes a message.
const TAKEN: &str = "204 No Content";

/// A message as it was received.
#[derive(Debug, Clone)]
struct Message {
    headers: Vec<(String, String)>,
    body: String,
}

impl Message {
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A server that takes messages, unless it is told to answer otherwise.
struct Receiver {
    address: SocketAddr,
    messages: Arc<Mutex<Vec<Message>>>,
    connects: Arc<AtomicUsize>,
    status: Arc<Mutex<&'static str>>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (messages, connects) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let status = Arc::new(Mutex::new(TAKEN));
        let (taken, counted, said) = (messages.clone(), connects.clone(), status.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
                let status = *said.lock().unwrap();
                if let Some(message) = answer(stream.unwrap(), status).filter(|_| status.starts_with('2')) {
                    taken.lock().unwrap().push(message);
                }
            }
        });
        Self { address, messages, connects, status }
    }

    /// Has it answer so from now on.
    fn answer_with(&self, status: &'static str) {
        *self.status.lock().unwrap() = status;
    }

    fn url(&self) -> String {
        format!("http://{}/hook?token=secret", self.address)
    }

    fn wait(&self, count: usize) -> Vec<Message> {
        until("messages have come", || self.messages.lock().unwrap().len() >= count);
        self.messages.lock().unwrap().clone()
    }
}

fn answer(mut stream: TcpStream, status: &str) -> Option<Message> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length")?.1.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let more = if status.starts_with('3') { "Location: http://127.0.0.1:1/\r\n" } else { "" };
    write!(stream, "HTTP/1.1 {status}\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n").ok()?;
    Some(Message { headers, body: String::from_utf8(body).ok()? })
}

/// A server whose operator lets notices go to loopback.
fn house() -> House {
    reached_at(None)
}

/// The same, which people reach at an address.
fn reached_at(public_url: Option<&str>) -> House {
    let (webhook_networks, public_url) = (vec!["127.0.0.0/8".parse().unwrap()], public_url.map(str::to_owned));
    House::with(Operator { rates: wide(), webhook_networks, public_url, ..Operator::default() })
}

fn made(person: &Person, body: &Value) -> Value {
    let answer = person.post(WEBHOOKS, body);
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json()
}

fn shown(person: &Person, made: &Value) -> Value {
    person.get(&format!("{WEBHOOKS}/{}", made["webhook"]["id"].as_str().unwrap())).json()
}

#[test]
fn a_case_that_opens_is_told_once_signed_and_names_fields_and_views() {
    let house = house();
    let receiver = Receiver::start();
    let admin = house.admin("acme");
    let webhook = made(&admin, &json!({"form": "event", "url": receiver.url()}));
    push(&admin, 0..100, "Amount");
    push(&admin, 100..150, "Bla");
    let case = cases(&admin, "?status=waiting").remove(0);
    let message = receiver.wait(1).remove(0);
    assert_eq!(message.header("content-type"), "application/cloudevents+json");
    let (id, at) = (message.header("webhook-id"), message.header("webhook-timestamp").parse().unwrap());
    let secret = webhook["secret"].as_str().unwrap();
    assert_eq!(Some(message.header("webhook-signature")), sign(secret, id, at, &message.body).as_deref());
    let event = message.json();
    assert_eq!((&event["specversion"], &event["type"]), (&json!("1.0"), &json!("autonomos.case.opened.v1")));
    assert_eq!((&event["id"], &event["subject"]), (&json!(id), &case["case"]));
    let data = &event["data"];
    assert_eq!((&data["tenant"], &data["case"]["stream"]), (&json!("acme"), &json!("crm/opportunity")));
    assert_eq!(data["case"]["lost"], json!([{"path": "Amount", "feeds": ["amount"], "retyped": false}]));
    assert_eq!(data["views"], json!([{"view": "opportunities", "columns": ["amount"]}]));
    let link = admin.get(data["link"].as_str().unwrap());
    assert_eq!(link.json()["case"], case["case"]);
    until("it is noted that it was taken", || shown(&admin, &webhook)["delivered"] == 1);
    assert_eq!(receiver.connects.load(Ordering::SeqCst), 1, "once");
    let text = admin.get(WEBHOOKS).text + &admin.get("/api/v1/audit").text;
    assert!(!text.contains("token=secret") && !text.contains(secret), "secrets are told once: {text}");
}

#[test]
fn slack_is_told_in_words_and_other_topics_when_they_are_chosen() {
    let house = house();
    let receiver = Receiver::start();
    let admin = house.admin("acme");
    let topics = ["case.opened", "case.decided", "case.reverted"];
    let webhook = made(&admin, &json!({"form": "slack", "url": receiver.url(), "topics": topics}));
    assert_eq!(webhook["secret"], Value::Null);
    push(&admin, 0..100, "Amount");
    push(&admin, 100..150, "DealAmount");
    let texts: Vec<String> = receiver.wait(2).iter().map(|m| m.json()["text"].as_str().unwrap().to_owned()).collect();
    assert!(texts[0].contains("`Amount` is missing; it fills amount of the view opportunities"), "{texts:?}");
    assert!(texts[1].starts_with("Decided: drift in crm/opportunity of acme"), "{texts:?}");
    assert!(texts[1].contains("repaired by rules"), "{texts:?}");
    let path = format!("/api/v1/aam/cases/{}/revert", cases(&admin, "")[0]["case"].as_str().unwrap());
    until("what was held has come, and it is taken back", || {
        admin.post(&path, &json!({"why": "wrong"}));
        cases(&admin, "?status=reverted").len() == 1
    });
    // The new case opens, and the old one is told as reverted.
    let last = receiver.wait(4).iter().map(|m| m.json()["text"].as_str().unwrap().to_owned()).collect::<String>();
    assert!(last.contains("Taken back: the repair of drift"), "{last}");
}

#[test]
fn slack_has_a_link_to_the_case_where_people_reach_the_server() {
    let house = reached_at(Some("https://autonomos.example"));
    let receiver = Receiver::start();
    let admin = house.admin("acme");
    made(&admin, &json!({"form": "slack", "url": receiver.url()}));
    push(&admin, 0..100, "Amount");
    push(&admin, 100..150, "Bla");
    let case = cases(&admin, "?status=waiting").remove(0);
    let message = receiver.wait(1).remove(0).json();
    let (text, id) = (message["text"].as_str().unwrap(), case["case"].as_str().unwrap());
    assert!(text.ends_with(&format!("\n<https://autonomos.example/api/v1/aam/cases/{id}>")), "{text}");
    assert!(text.contains("Severity: "), "{text}");
}

#[test]
fn what_a_receiver_did_not_take_is_sent_again_also_by_another_process_and_nobody_waits_for_it() {
    let house = house();
    let receiver = Receiver::start();
    receiver.answer_with("500 Internal Server Error");
    let admin = house.admin("acme");
    let webhook = made(&admin, &json!({"form": "event", "url": receiver.url()}));
    let dead = made(&admin, &json!({"form": "event", "url": "http://127.0.0.1:1/"}));
    let (admin, _) = {
        push(&admin, 0..100, "Amount");
        push(&admin, 100..150, "Bla");
        (admin, ())
    };
    let has_failed = |person: &Person, webhook: &Value, why: &str| {
        let fared = shown(person, webhook);
        let is_noted = fared["error"].as_str().is_some_and(|error| error.contains(why));
        assert_eq!(fared["delivered"], 0, "{fared}");
        is_noted && fared["failed"].as_u64() >= Some(1)
    };
    until("a try has failed", || has_failed(&admin, &webhook, "answered 500"));
    // How many tries there are by now is up to the machine; one that a stop cuts off is none.
    receiver.answer_with("302 Found");
    push(&admin, 150..160, "Amount");
    let house = house.restarted();
    let again = house.bearer(admin.token.as_ref().unwrap());
    until("a redirect is not followed", || has_failed(&again, &webhook, "answered 302"));
    assert!(shown(&again, &webhook)["failed"].as_u64() >= Some(2));
    receiver.answer_with(TAKEN);
    assert_eq!(receiver.wait(1)[0].json()["type"], "autonomos.case.opened.v1");
    until("it is noted that it was taken", || shown(&again, &webhook)["delivered"] == 1);
    assert_eq!(shown(&again, &webhook)["error"], Value::Null);
    until("the other is tried, too", || has_failed(&again, &dead, "could not be reached"));
}

#[test]
fn a_webhook_is_tested_paused_and_removed() {
    let house = house();
    let receiver = Receiver::start();
    let admin = house.admin("acme");
    let webhook = made(&admin, &json!({"form": "event", "url": receiver.url(), "connections": ["erp"]}));
    let path = format!("{WEBHOOKS}/{}", webhook["webhook"]["id"].as_str().unwrap());
    assert_eq!(admin.post(&format!("{path}/test"), &json!({})).status, 202);
    assert_eq!(receiver.wait(1)[0].json()["type"], "autonomos.webhook.tested.v1");
    assert_eq!(admin.patch(&path, &json!({"paused": true})).json()["paused"], true);
    admin.post(&format!("{path}/test"), &json!({}));
    push(&admin, 0..100, "Amount");
    push(&admin, 100..150, "Bla");
    assert_eq!(cases(&admin, "?status=waiting").len(), 1);
    assert_eq!(receiver.messages.lock().unwrap().len(), 1, "it is paused");
    admin.patch(&path, &json!({"paused": false}));
    assert_eq!(receiver.wait(2).len(), 2, "and is told nothing of another connection");
    let stranger = house.admin("other");
    assert_eq!((stranger.get(&path).status, stranger.delete(&path).status), (404, 404));
    let editor = house.user(&admin, "editor@acme.example", "editor");
    assert_eq!(
        (
            editor.get(WEBHOOKS).status,
            editor.post(WEBHOOKS, &json!({"form": "slack", "url": "https://a.example/"})).status
        ),
        (403, 403)
    );
    assert_eq!((admin.delete(&path).status, admin.get(&path).status), (204, 404));
    assert_eq!(admin.get(WEBHOOKS).json()["webhooks"], json!([]));
}

#[test]
fn no_webhook_leads_to_where_the_operator_did_not_allow_it() {
    let house = House::open();
    let receiver = Receiver::start();
    let admin = house.admin("acme");
    let port = receiver.address.port();
    for host in ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "localhost", "localhost."]
    {
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://{host}:{port}/hook");
            let refused = admin.post(WEBHOOKS, &json!({"form": "event", "url": url}));
            assert_eq!((refused.status, refused.problem()), (400, "host_not_allowed".into()), "{url}");
        }
    }
    for url in ["https://a@b.example/", "file:///etc/passwd", "http://example.com/"] {
        assert_eq!(admin.post(WEBHOOKS, &json!({"form": "event", "url": url})).problem(), "host_not_allowed");
    }
    assert_eq!(receiver.connects.load(Ordering::SeqCst), 0, "nobody has connected");
}

#[test]
fn the_tenants_of_a_server_are_told_of_their_own_cases_alone() {
    let house = house();
    let (receiver, other) = (Receiver::start(), Receiver::start());
    let stranger = house.admin("other");
    made(&stranger, &json!({"form": "event", "url": other.url()}));
    let (admin, _) = doubtful(&house);
    made(&admin, &json!({"form": "event", "url": receiver.url()}));
    push(&stranger, 0..100, "Amount");
    push(&stranger, 100..150, "Bla");
    assert_eq!(other.wait(1)[0].json()["data"]["tenant"], "other");
    assert_eq!(receiver.messages.lock().unwrap().len(), 0, "what was before is not told");
}
