//! One pass over a record's bytes: checks the JSON, notes new (path, type), fills the slots that were asked for, and
//! keeps what nobody takes for `extras`.

use super::scan::{number_end, string_end};
use super::tree::{ELEMENTS, NodeId, ObservedType, ShapeTree, stored_bytes};
use super::{
    DEPTH_MAX, FIELD_NAME_BYTES_MAX, NAMES_BYTES_MAX, NEW_PATHS_MAX, OBSERVED_BYTES_MAX, PATH_BYTES_MAX, PATHS_MAX,
    TypeClass,
};
use crate::reason::Reason;

/// What lies in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SlotKind {
    /// The path is not in the record.
    #[default]
    Absent,
    /// Null.
    Null,
    /// True.
    True,
    /// False.
    False,
    /// A number, as its text.
    Number,
    /// A text without escapes, the quotes left out.
    Text,
    /// A text with escapes, the quotes left out.
    EscapedText,
    /// An object or array, as its JSON.
    Nested,
}

/// The value of a requested path: its kind and where it lies in the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Slot {
    /// What it is.
    pub kind: SlotKind,
    /// First byte.
    pub start: usize,
    /// Behind the last byte.
    pub end: usize,
}

/// Why a payload was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalkError {
    /// The stable code.
    pub reason: Reason,
    /// Byte of the payload at which it was noticed.
    pub at: usize,
}

/// The buffers of a walk, reused from record to record.
#[derive(Debug, Default)]
pub struct Walker {
    /// One slot for each requested path.
    pub slots: Vec<Slot>,
    /// The members that no field takes, comma-separated JSON members without the outer braces.
    pub extras: Vec<u8>,
    /// What the record showed for the first time.
    pub observed: Vec<ObservedType>,
    name: String,
}

impl Walker {
    /// Walks `payload`. On an error nothing of the record stays in `tree`.
    pub fn walk(&mut self, tree: &mut ShapeTree, payload: &str) -> Result<(), WalkError> {
        self.slots.clear();
        self.slots.resize(tree.slots as usize, Slot::default());
        self.extras.clear();
        self.observed.clear();
        let known = tree.nodes.len();
        let mut pass =
            Pass { tree, walker: self, text: payload, bytes: payload.as_bytes(), at: 0, known, observed_bytes: 0 };
        let result = pass.record();
        if result.is_err() {
            tree.undo(&self.observed, known);
        }
        result
    }
}

struct Pass<'a> {
    tree: &'a mut ShapeTree,
    walker: &'a mut Walker,
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    known: usize,
    observed_bytes: usize,
}

impl Pass<'_> {
    fn fail<T>(&self, reason: Reason) -> Result<T, WalkError> {
        Err(WalkError { reason, at: self.at })
    }

    #[inline]
    fn skip_blanks(&mut self) -> u8 {
        while let Some(byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return *byte;
            }
            self.at += 1;
        }
        0
    }

    fn record(&mut self) -> Result<(), WalkError> {
        let first = self.skip_blanks();
        if first == b'{' {
            self.object(0, 1, true)?;
        } else {
            // Still walked, so that bad JSON is called bad JSON.
            self.value(0, 1, false)?;
        }
        self.skip_blanks();
        if self.at != self.bytes.len() {
            return self.fail(Reason::MalformedJson);
        }
        if first != b'{' {
            return self.fail(Reason::NotAnObject);
        }
        if self.observed_bytes > OBSERVED_BYTES_MAX { self.fail(Reason::TooManyFields) } else { Ok(()) }
    }

    /// Walks the object at `at`; with `keep` its unconsumed members go to `extras`.
    fn object(&mut self, node: NodeId, depth: u32, keep: bool) -> Result<(), WalkError> {
        if depth > DEPTH_MAX {
            return self.fail(Reason::TooDeep);
        }
        self.at += 1;
        self.tree.instance += 1;
        let instance = self.tree.instance;
        if self.skip_blanks() == b'}' {
            self.at += 1;
            return Ok(());
        }
        let mut previous = None;
        loop {
            if self.skip_blanks() != b'"' {
                return self.fail(Reason::MalformedJson);
            }
            let name_start = self.at;
            let child = self.member_name(node, previous)?;
            previous = Some(child);
            let name_end = self.at;
            if self.skip_blanks() != b':' {
                return self.fail(Reason::MalformedJson);
            }
            self.at += 1;
            let member = &mut self.tree.nodes[child as usize];
            if member.seen_in == instance {
                return self.fail(Reason::DuplicateField);
            }
            member.seen_in = instance;
            let (consumed, mixed) = (member.consumed, member.consumed_below);
            if keep && !consumed {
                self.kept_member(child, depth, mixed, name_start..name_end)?;
            } else {
                self.value(child, depth + 1, false)?;
            }
            match self.skip_blanks() {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.fail(Reason::MalformedJson),
            }
        }
    }

    /// Walks a member's value and copies to `extras` what no field takes of it.
    fn kept_member(
        &mut self,
        child: NodeId,
        depth: u32,
        mixed: bool,
        name: std::ops::Range<usize>,
    ) -> Result<(), WalkError> {
        let before = self.walker.extras.len();
        if before > 0 && self.walker.extras[before - 1] != b'{' {
            self.walker.extras.push(b',');
        }
        self.walker.extras.extend_from_slice(&self.bytes[name]);
        self.walker.extras.push(b':');
        let first = self.skip_blanks();
        let start = self.at;
        if mixed && first == b'{' {
            self.walker.extras.push(b'{');
            let inside = self.walker.extras.len();
            self.value(child, depth + 1, true)?;
            if self.walker.extras.len() == inside {
                self.walker.extras.truncate(before);
            } else {
                self.walker.extras.push(b'}');
            }
            return Ok(());
        }
        self.value(child, depth + 1, false)?;
        if mixed && first == b'n' {
            // A null parent says only that the mapped fields below are null.
            self.walker.extras.truncate(before);
        } else {
            self.walker.extras.extend_from_slice(&self.bytes[start..self.at]);
        }
        Ok(())
    }

    /// Reads a member's name and finds its node; members mostly come in the order in which they came before.
    #[inline]
    fn member_name(&mut self, parent: NodeId, previous: Option<NodeId>) -> Result<NodeId, WalkError> {
        let start = self.at + 1;
        let Some(end) = string_end(self.bytes, start) else { return self.fail(Reason::MalformedJson) };
        self.at = end.at + 1;
        let raw = &self.text[start..end.at];
        let guess = match previous {
            None => self.tree.nodes[parent as usize].first,
            Some(previous) => self.tree.nodes[previous as usize].follower,
        };
        let guessed = &self.tree.nodes[guess as usize];
        if guess != 0 && !end.escaped && guessed.parent == parent && *guessed.name == *raw {
            return Ok(guess);
        }
        let id = self.unexpected_name(parent, raw, end.escaped)?;
        match previous {
            None => self.tree.nodes[parent as usize].first = id,
            Some(previous) => self.tree.nodes[previous as usize].follower = id,
        }
        Ok(id)
    }

    #[cold]
    fn unexpected_name(&mut self, parent: NodeId, raw: &str, escaped: bool) -> Result<NodeId, WalkError> {
        if raw.len() > FIELD_NAME_BYTES_MAX {
            return self.fail(Reason::FieldNameTooLong);
        }
        let mut name = std::mem::take(&mut self.walker.name);
        name.clear();
        if escaped {
            unescape(raw, &mut name)
        } else {
            name.push_str(raw)
        }
        // A member that is literally called "[]" must not be taken for the elements of an array.
        if name == ELEMENTS {
            name.push('\\');
        }
        let id = self.child(parent, &name);
        self.walker.name = name;
        id
    }

    /// The node of a member or of an array's elements, made within the limits when it is new.
    fn child(&mut self, parent: NodeId, name: &str) -> Result<NodeId, WalkError> {
        if let Some(id) = self.tree.child(parent, name) {
            return Ok(id);
        }
        let (new, names_bytes) = (self.tree.nodes.len() - self.known, self.tree.names_bytes() + stored_bytes(name));
        if new >= NEW_PATHS_MAX || self.tree.paths() >= PATHS_MAX || names_bytes > NAMES_BYTES_MAX {
            return self.fail(Reason::TooManyFields);
        }
        if self.tree.path_bytes(parent, name) > PATH_BYTES_MAX {
            return self.fail(Reason::PathTooLong);
        }
        Ok(self.tree.child_or_insert(parent, name))
    }

    #[inline]
    fn observe(&mut self, node: NodeId, class: TypeClass) {
        if node != 0 && self.tree.observe(node, class) {
            self.note(ObservedType { node, class });
        }
    }

    #[cold]
    fn note(&mut self, seen: ObservedType) {
        self.walker.observed.push(seen);
        self.observed_bytes += self.tree.nodes[seen.node as usize].path_bytes;
    }

    #[inline]
    fn value(&mut self, node: NodeId, depth: u32, keep: bool) -> Result<(), WalkError> {
        let first = self.skip_blanks();
        let start = self.at;
        let (kind, span) = match first {
            b'"' => {
                let Some(end) = string_end(self.bytes, start + 1) else { return self.fail(Reason::MalformedJson) };
                self.at = end.at + 1;
                self.observe(node, TypeClass::Text);
                (if end.escaped { SlotKind::EscapedText } else { SlotKind::Text }, start + 1..end.at)
            }
            b'-' | b'0'..=b'9' => {
                let Some(end) = number_end(self.bytes, start) else { return self.fail(Reason::MalformedJson) };
                self.at = end;
                self.observe(node, TypeClass::Number);
                (SlotKind::Number, start..end)
            }
            b'{' => {
                self.observe(node, TypeClass::Object);
                self.object(node, depth, keep)?;
                (SlotKind::Nested, start..self.at)
            }
            b'[' => {
                self.observe(node, TypeClass::Array);
                self.array(node, depth)?;
                (SlotKind::Nested, start..self.at)
            }
            b't' => (self.literal(b"true", node, SlotKind::True)?, start..self.at),
            b'f' => (self.literal(b"false", node, SlotKind::False)?, start..self.at),
            b'n' => (self.literal(b"null", node, SlotKind::Null)?, start..self.at),
            _ => return self.fail(Reason::MalformedJson),
        };
        if let Some(slot) = self.tree.nodes[node as usize].slot {
            let place = &mut self.walker.slots[slot as usize];
            // Only an array's elements come more than once.
            if matches!(place.kind, SlotKind::Absent | SlotKind::Null) {
                *place = Slot { kind, start: span.start, end: span.end };
            }
        }
        Ok(())
    }

    fn literal(&mut self, text: &[u8], node: NodeId, kind: SlotKind) -> Result<SlotKind, WalkError> {
        if self.bytes.get(self.at..self.at + text.len()) != Some(text) {
            return self.fail(Reason::MalformedJson);
        }
        self.at += text.len();
        if kind != SlotKind::Null {
            self.observe(node, TypeClass::Boolean);
        }
        Ok(kind)
    }

    fn array(&mut self, node: NodeId, depth: u32) -> Result<(), WalkError> {
        if depth > DEPTH_MAX {
            return self.fail(Reason::TooDeep);
        }
        self.at += 1;
        if self.skip_blanks() == b']' {
            self.at += 1;
            return Ok(());
        }
        let elements = self.child(node, ELEMENTS)?;
        loop {
            self.value(elements, depth + 1, false)?;
            match self.skip_blanks() {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.fail(Reason::MalformedJson),
            }
        }
    }
}

/// Resolves the escapes of a valid JSON string (the quotes left out) and appends the text to `out`.
pub fn unescape(raw: &str, out: &mut String) {
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = rest.as_bytes()[at + 1];
        let mut len = 2;
        match escape {
            b'b' => out.push('\u{8}'),
            b'f' => out.push('\u{c}'),
            b'n' => out.push('\n'),
            b'r' => out.push('\r'),
            b't' => out.push('\t'),
            b'u' => {
                let unit =
                    |i: usize| rest.get(i..i + 4).and_then(|h| u32::from_str_radix(h, 16).ok()).unwrap_or(0xFFFD);
                let high = unit(at + 2);
                len = 6;
                let code = if (0xD800..0xDC00).contains(&high) {
                    len = 12;
                    0x10000 + ((high - 0xD800) << 10) + (unit(at + 8).wrapping_sub(0xDC00) & 0x3FF)
                } else {
                    high
                };
                out.push(char::from_u32(code).unwrap_or('\u{FFFD}'));
            }
            other => out.push(char::from(other)),
        }
        rest = &rest[at + len..];
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
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
        assert_eq!(
            paths,
            ["id", "owner", "owner.name", "owner.tags", "owner.tags[]", "owner.tags[]", "owner.tags[].k"]
        );
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
}
