//! Moving a data folder to another place.

use serde_json::json;

use super::folder::{Folder, fates, opportunity};
use super::serving::Serving;

fn deals(ids: std::ops::Range<u32>) -> String {
    ids.map(|n| opportunity(&n.to_string(), &n.to_string(), 1)).collect()
}

#[test]
fn a_folder_moves_whole_goes_on_where_it_was_and_answers_what_it_answered() {
    let folder = Folder::new();
    let file = folder.write("a.ndjson", deals(0..300) + "broken\n");
    assert_eq!(fates(&folder.opportunities("acme", &file, &[])), [301, 300, 0, 1, 0]);
    let sum = "select count(*), sum(amount), max(_position), max(_logged_at) from opportunities";
    let told = || {
        (
            folder.query("acme", sum),
            folder.json_lines(&["log", "refold"]),
            folder.ok(&["quarantine", "list", "--tenant", "acme"]),
        )
    };
    let before = told();
    let (from, to) = (folder.data(), folder.path("moved"));
    let migrate = ["migrate", "--from", from.to_str().unwrap(), "--to", to.to_str().unwrap()];
    let parts = folder.json_lines(&migrate);
    let count = |name: &str| parts.iter().find(|part| part["part"] == name).map(|part| part["count"].clone());
    assert_eq!((count("StreamStates"), count("Quarantine")), (Some(json!(1)), Some(json!(1))), "{parts:?}");
    assert_eq!(folder.json_lines(&migrate), parts, "a second run finds everything there");

    std::fs::copy(from.join("master.key"), to.join("master.key")).unwrap();
    std::fs::rename(&from, folder.path("former")).unwrap();
    std::fs::rename(&to, &from).unwrap();
    assert_eq!(told(), before);
    folder.append("a.ndjson", &deals(300..310));
    assert_eq!(fates(&folder.opportunities("acme", &file, &[])), [10, 10, 0, 0, 0]);
    folder.ok(&["doctor"]);
}

#[test]
fn a_folder_that_somebody_holds_does_not_move() {
    let folder = Folder::new();
    let _serving = Serving::start(&folder);
    let (from, to) = (folder.data(), folder.path("moved"));
    let refused = folder.err(&["migrate", "--from", from.to_str().unwrap(), "--to", to.to_str().unwrap()]);
    assert!(refused.contains("is held by process") && !to.exists(), "{refused}");
}
