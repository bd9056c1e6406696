//! How far the roles are behind the log.

use serde_json::Value;

use crate::cases::{push, until};
use crate::house::{House, Person};

fn lags(person: &Person) -> Vec<Value> {
    let answer = person.get("/api/v1/lag");
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["roles"].as_array().unwrap().clone()
}

#[test]
fn every_role_says_of_every_partition_how_far_it_is_behind_in_the_api_and_in_the_metrics() {
    let house = House::open();
    let admin = house.admin("acme");
    push(&admin, 0..200, "Amount");
    // What is in no file yet goes there when it is old enough.
    until("nobody is behind", || lags(&admin).iter().all(|lag| lag["items"] == 0 || lag["role"] == "tables"));
    let found = lags(&admin);
    let of = |role: &str| found.iter().filter(|lag| lag["role"] == role).count();
    let roles = ["processor", "quarantine", "repairer", "notices", "projector", "tables"];
    assert_eq!(roles.map(of), [4; 6], "{found:?}");
    let metrics = house.anybody().get("/metrics").text;
    for named in ["backends_up 1", "processor_lag_inputs{partition=\"0\"} ", "projector_lag_events{partition=\"3\"} "] {
        assert!(metrics.contains(&format!("\nautonomos_{named}")), "{named} in {metrics}");
    }
    for lag in found {
        let (role, topic) = (lag["role"].as_str().unwrap(), lag["topic"].as_str().unwrap());
        let labels = format!("role=\"{role}\",topic=\"{topic}\",partition=\"{}\"", lag["partition"]);
        assert!(metrics.contains(&format!("autonomos_consumer_lag_items{{{labels}}} ")), "{labels} in {metrics}");
    }
}

#[test]
fn only_an_admin_sees_how_far_the_roles_are_behind() {
    let house = House::open();
    let admin = house.admin("acme");
    let editor = house.user(&admin, "eve@acme.example", "editor");
    assert_eq!((editor.get("/api/v1/lag").status, house.anybody().get("/api/v1/lag").status), (403, 401));
}
