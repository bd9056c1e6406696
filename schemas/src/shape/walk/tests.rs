use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn walk(tree: &mut ShapeTree, payload: &str) -> Result<Walker, WalkError> {
    let mut walker = Walker::default();
    walker.walk(tree, payload)?;
    Ok(walker)
}

fn reason(payload: &str) -> Option<Reason> {
    Walker::default().walk(&mut ShapeTree::default(), payload).err().map(|e| e.reason)
}

#[test]
fn a_fingerprint_knows_no_order_and_no_values() {
    let (mut a, mut b) = (ShapeTree::default(), ShapeTree::default());
    walk(&mut a, r#"{"id":1,"owner":{"name":"x","tags":["a",{"k":1}]}}"#).unwrap();
    walk(&mut b, r#"{"owner":{"tags":[{"k":-2.5e3},"b"],"name":"y"},"id":2.5}"#).unwrap();
    assert_eq!(a.fingerprint(), b.fingerprint());
    walk(&mut b, r#"{"id":"2"}"#).unwrap();
    assert_ne!(a.fingerprint(), b.fingerprint());
    let paths: Vec<_> = a.observed().into_iter().map(|(p, _)| p).collect();
    assert_eq!(paths, ["id", "owner", "owner.name", "owner.tags", "owner.tags[]", "owner.tags[]", "owner.tags[].k"]);
}

#[test]
fn absent_and_null_fields_change_no_shape() {
    let mut tree = ShapeTree::default();
    walk(&mut tree, r#"{"a":1,"b":"x"}"#).unwrap();
    let before = tree.fingerprint();
    for payload in [r#"{"a":2}"#, r#"{"a":null,"b":null}"#, r#"{}"#, r#"{"b":"y","a":3}"#] {
        assert!(walk(&mut tree, payload).unwrap().observed.is_empty(), "{payload}");
    }
    assert_eq!(tree.fingerprint(), before);
}

#[test]
fn slots_hold_what_was_asked_for_and_extras_the_rest() {
    let mut tree = ShapeTree::default();
    let id = tree.request(&["Id"], true);
    let owner = tree.request(&["Owner", "Name"], true);
    let version = tree.request(&["Modified"], false);
    let payload = r#"{"Id":"7","Owner":{"Name":"a\"b","Mail":null},"Modified":"now","x":[1,{"y":2}]}"#;
    let walker = walk(&mut tree, payload).unwrap();
    let text = |slot: u32| {
        let slot = walker.slots[slot as usize];
        (slot.kind, &payload[slot.start..slot.end])
    };
    assert_eq!(text(id), (SlotKind::Text, "7"));
    assert_eq!(text(owner), (SlotKind::EscapedText, r#"a\"b"#));
    assert_eq!(text(version), (SlotKind::Text, "now"));
    let extras = String::from_utf8(walker.extras).unwrap();
    assert_eq!(extras, r#""Owner":{"Mail":null},"Modified":"now","x":[1,{"y":2}]"#);
    let bare = walk(&mut tree, r#"{"Owner":{"Name":"z"},"Id":"8"}"#).unwrap();
    assert!(bare.extras.is_empty());
    assert!(walk(&mut tree, r#"{"Owner":null}"#).unwrap().extras.is_empty());
    assert_eq!(walk(&mut tree, r#"{"Owner":5}"#).unwrap().extras, br#""Owner":5"#);
}

#[test]
fn bad_payloads_are_refused_with_their_reason_and_leave_nothing_behind() {
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let wide: String = (0..20_000).map(|i| format!("\"k{i}\":1,")).collect();
    let long = format!("{{\"{}\":1}}", "n".repeat(5000));
    let cases: [(&str, Reason); 13] = [
        ("{\"a\":1", Reason::MalformedJson),
        ("{\"a\":1}}", Reason::MalformedJson),
        ("{\"a\":01}", Reason::MalformedJson),
        ("{\"a\":NaN}", Reason::MalformedJson),
        ("{\"a\":\"\\ud800\"}", Reason::MalformedJson),
        ("{\"a\":\"\0\"}", Reason::MalformedJson),
        ("{\"a\":1,}", Reason::MalformedJson),
        ("", Reason::MalformedJson),
        ("[1]", Reason::NotAnObject),
        ("{\"a\":1,\"\\u0061\":2}", Reason::DuplicateField),
        (&deep, Reason::TooDeep),
        (&long, Reason::FieldNameTooLong),
        (&format!("{{{wide}\"z\":1}}"), Reason::TooManyFields),
    ];
    for (payload, expected) in cases {
        let mut tree = ShapeTree::default();
        walk(&mut tree, r#"{"a":1}"#).unwrap();
        let before = (tree.fingerprint(), tree.paths());
        let error = Walker::default().walk(&mut tree, payload).unwrap_err();
        assert_eq!(error.reason, expected, "{:.60}", payload);
        assert_eq!((tree.fingerprint(), tree.paths()), before);
    }
    assert_eq!(reason(" {\"n\":9223372036854775808, \"e\":1E+5} \r\n"), None);
}

#[test]
fn of_an_array_the_first_value_that_is_not_null_is_found_and_the_array_stays_whole() {
    let mut tree = ShapeTree::default();
    let first = tree.request(&["emails", ELEMENTS, "value"], false);
    let payload = r#"{"emails":[{"label":"x"},{"value":null},{"value":"a"},{"value":"b"}]}"#;
    let walker = walk(&mut tree, payload).unwrap();
    let slot = walker.slots[first as usize];
    assert_eq!(&payload[slot.start..slot.end], "a");
    assert_eq!(format!("{{{}}}", String::from_utf8(walker.extras).unwrap()), payload);
    assert_eq!(walk(&mut tree, r#"{"emails":[]}"#).unwrap().slots[first as usize].kind, SlotKind::Absent);
}

#[test]
fn what_a_stream_keeps_of_names_and_a_record_says_of_shapes_is_bounded_in_bytes() {
    let nest = |depth: usize, len: usize, leaf: &str| {
        let name = "n".repeat(len);
        format!("{}{leaf}{}", format!("{{\"{name}\":").repeat(depth), "}".repeat(depth))
    };
    assert_eq!(reason(&nest(4, 1000, "1")), None);
    assert_eq!(reason(&nest(5, 1000, "1")), Some(Reason::PathTooLong));
    let wide = |names: usize, len: usize, salt: usize| {
        let members: Vec<_> = (0..names).map(|i| format!("\"{salt}-{i:0len$}\":1")).collect();
        format!("{{{}}}", members.join(","))
    };
    assert_eq!(reason(&nest(3, 1000, &wide(300, 10, 0))), None);
    assert_eq!(reason(&nest(3, 1000, &wide(400, 10, 0))), Some(Reason::TooManyFields), "a mebibyte of paths");
    let mut tree = ShapeTree::default();
    let refused = (0..20).find_map(|salt| Walker::default().walk(&mut tree, &wide(1000, 1000, salt)).err());
    assert_eq!(refused.map(|e| e.reason), Some(Reason::TooManyFields), "eight mebibytes of names");
    assert!(tree.names_bytes() <= NAMES_BYTES_MAX && tree.paths() < PATHS_MAX);
}

#[test]
fn nested_arrays_count_as_paths() {
    let arrays: Vec<_> = (0..200).map(|i| format!("\"k{i}\":{}{}", "[".repeat(120), "]".repeat(120))).collect();
    assert_eq!(reason(&format!("{{{}}}", arrays.join(","))), Some(Reason::TooManyFields));
}

#[test]
fn a_shape_reads_back_from_its_snapshot() {
    let mut tree = ShapeTree::default();
    walk(&mut tree, r#"{"a.b":1,"c":{"d":[true]},"[]":null}"#).unwrap();
    let stored = serde_json::to_string(&tree).unwrap();
    let back: ShapeTree = serde_json::from_str(&stored).unwrap();
    assert_eq!(back.fingerprint(), tree.fingerprint());
    assert_eq!(back.observed(), tree.observed());
    assert_eq!(back.observed()[0].0, r"a\.b");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::hash_map(any::<String>(), inner, 0..6).prop_map(|m| json!(m)),
        ]
    })
}

proptest! {
    #[test]
    fn valid_json_objects_are_accepted_and_extras_keep_them_whole(
        members in proptest::collection::hash_map("[a-zé\"\\\\]{0,12}", any_json(), 0..8), pretty: bool,
    ) {
        let record = json!(members);
        let text = if pretty { serde_json::to_string_pretty(&record) } else { serde_json::to_string(&record) }.unwrap();
        let walker = walk(&mut ShapeTree::default(), &text).unwrap();
        let extras = format!("{{{}}}", String::from_utf8(walker.extras).unwrap());
        prop_assert_eq!(serde_json::from_str::<Value>(&extras).unwrap(), serde_json::from_str::<Value>(&text).unwrap());
    }

    #[test]
    fn what_is_refused_or_accepted_agrees_with_serde_json(text in r#"\{("a":|[ 0-9.eE+\-]|"|\\u|\\n|[\[\]{},:]|true|null|x){0,12}\}"#) {
        let theirs = serde_json::from_str::<serde_json::Map<String, Value>>(&text);
        let ours = reason(&text);
        // A number too large for a float is fine with us; a repeated name is fine with them.
        let out_of_range = theirs.as_ref().is_err_and(|e| e.to_string().contains("out of range"));
        prop_assume!(!out_of_range && ours != Some(Reason::DuplicateField));
        prop_assert_eq!(ours.is_none(), theirs.is_ok(), "{} {:?} {:?}", text, ours, theirs);
    }

    #[test]
    fn unescaping_agrees_with_serde_json(text: String) {
        let json = serde_json::to_string(&text).unwrap();
        let mut out = String::new();
        unescape(&json[1..json.len() - 1], &mut out);
        prop_assert_eq!(out, text);
    }
}
