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
        if !end.escaped
            && let Some(child) = self.tree.guessed(parent, previous, raw)
        {
            return Ok(child);
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
mod tests;
