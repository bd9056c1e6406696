//! A second look at a record whose walk went well: every value with its path, for profiles.

use super::scan::{number_end, string_end};
use super::tree::{ELEMENTS, NodeId, ShapeTree};
use super::walk::{SlotKind, unescape};

/// Calls `visit` with every value of a payload that was walked into `tree`: the node of its path, what it is, and its
/// text, of a string what stands between the quotes. Of an array's elements the first one is looked at. What the tree does
/// not know is left out.
pub fn leaves<'a>(tree: &ShapeTree, payload: &'a str, visit: &mut impl FnMut(NodeId, SlotKind, &'a str)) {
    let mut look = Look { tree, text: payload, bytes: payload.as_bytes(), at: 0, name: String::new(), visit };
    look.value(Some(0));
}

struct Look<'a, 't, V> {
    tree: &'t ShapeTree,
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    name: String,
    visit: &'t mut V,
}

impl<'a, V: FnMut(NodeId, SlotKind, &'a str)> Look<'a, '_, V> {
    fn peek(&mut self) -> u8 {
        while let Some(byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return *byte;
            }
            self.at += 1;
        }
        0
    }

    /// Takes a value; `None` when the payload is not what a walk lets through. Without a node it is only passed over.
    fn value(&mut self, node: Option<NodeId>) -> Option<()> {
        let first = self.peek();
        let start = self.at;
        let (kind, from, to) = match first {
            b'"' => {
                let end = string_end(self.bytes, start + 1)?;
                self.at = end.at + 1;
                (if end.escaped { SlotKind::EscapedText } else { SlotKind::Text }, start + 1, end.at)
            }
            b'{' => {
                self.object(node)?;
                (SlotKind::Nested, start, self.at)
            }
            b'[' => {
                self.array(node)?;
                (SlotKind::Nested, start, self.at)
            }
            b't' => self.literal(SlotKind::True, 4),
            b'f' => self.literal(SlotKind::False, 5),
            b'n' => self.literal(SlotKind::Null, 4),
            _ => {
                self.at = number_end(self.bytes, start)?;
                (SlotKind::Number, start, self.at)
            }
        };
        if let (Some(node), Some(text)) = (node.filter(|node| *node != 0), self.text.get(from..to)) {
            (self.visit)(node, kind, text);
        }
        Some(())
    }

    fn literal(&mut self, kind: SlotKind, len: usize) -> (SlotKind, usize, usize) {
        let start = self.at;
        self.at += len;
        (kind, start, self.at)
    }

    fn object(&mut self, node: Option<NodeId>) -> Option<()> {
        self.at += 1;
        let mut previous = None;
        while self.peek() != b'}' {
            let end = string_end(self.bytes, self.at + 1)?;
            let raw = self.text.get(self.at + 1..end.at)?;
            self.at = end.at + 1;
            let child = node.and_then(|node| self.child(node, previous, raw, end.escaped));
            previous = child;
            (self.peek() == b':').then_some(())?;
            self.at += 1;
            self.value(child)?;
            if self.peek() == b',' {
                self.at += 1;
            }
        }
        self.at += 1;
        Some(())
    }

    fn child(&mut self, parent: NodeId, previous: Option<NodeId>, raw: &str, escaped: bool) -> Option<NodeId> {
        if !escaped && raw != ELEMENTS {
            return self.tree.guessed(parent, previous, raw).or_else(|| self.tree.child(parent, raw));
        }
        self.name.clear();
        unescape(raw, &mut self.name);
        if self.name == ELEMENTS {
            self.name.push('\\');
        }
        self.tree.child(parent, &self.name)
    }

    fn array(&mut self, node: Option<NodeId>) -> Option<()> {
        self.at += 1;
        let mut element = node.and_then(|node| self.tree.child(node, ELEMENTS));
        while self.peek() != b']' {
            self.value(element.take())?;
            if self.peek() == b',' {
                self.at += 1;
            }
        }
        self.at += 1;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::shape::Walker;

    fn seen(payload: &str) -> Vec<String> {
        let mut tree = ShapeTree::default();
        Walker::default().walk(&mut tree, payload).unwrap();
        let mut all = Vec::new();
        leaves(&tree, payload, &mut |node, kind, text| all.push(format!("{} {kind:?} {text}", tree.path(node))));
        all
    }

    #[test]
    fn every_value_is_seen_with_its_path() {
        let payload =
            r#" { "a" : 1.5 , "o":{"n":null,"t":[{"x":true},{"x":false}],"[]":"e"}, "s\u0041":"q\"", "l":[] } "#;
        let expected = [
            "a Number 1.5",
            "o.n Null null",
            "o.t[].x True true",
            r#"o.t[] Nested {"x":true}"#,
            r#"o.t Nested [{"x":true},{"x":false}]"#,
            r"o.[]\\ Text e",
            r#"o Nested {"n":null,"t":[{"x":true},{"x":false}],"[]":"e"}"#,
            r#"sA EscapedText q\""#,
            "l Nested []",
        ];
        assert_eq!(seen(payload), expected);
    }

    proptest! {
        #[test]
        fn any_text_gives_an_answer_and_no_panic(text: String, json in r#"[\[\]{}",:0-9a-z\\ ]{0,40}"#) {
            for text in [text, json] {
                leaves(&ShapeTree::default(), &text, &mut |_, _, _| {});
            }
        }
    }
}
