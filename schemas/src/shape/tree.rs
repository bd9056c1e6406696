//! The interned paths of a stream and the types seen at each.

use hashbrown::HashTable;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128};

use super::TypeClass;

/// A path's number within its tree; 0 is the record itself.
pub type NodeId = u32;

/// The name that stands for "the elements of this array".
pub const ELEMENTS: &str = "[]";

/// An order-free hash of a set of (path, type): the wrapping sum of the hashes of its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Fingerprint(pub u128);

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A (path, type) seen for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObservedType {
    /// Where.
    pub node: NodeId,
    /// What.
    pub class: TypeClass,
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) parent: NodeId,
    pub(super) name: Box<str>,
    pub(super) children: Vec<NodeId>,
    /// Bits of [`TypeClass`].
    pub(super) types: u8,
    /// Bytes of its path, every name with its divider.
    pub(super) path_bytes: usize,
    /// Where the value of this path is put, if somebody asked for it.
    pub(super) slot: Option<u32>,
    /// Whether the value leaves `extras` because a field took it.
    pub(super) consumed: bool,
    /// Whether a path below is consumed.
    pub(super) consumed_below: bool,
    /// The object in which this member was last seen, to notice a repeated name.
    pub(super) seen_in: u64,
    /// The member that came first when this object was last seen, and the one that came after this member: sources
    /// write their members in the same order again, so a guess mostly saves the look-up. 0 is no guess.
    pub(super) first: NodeId,
    pub(super) follower: NodeId,
}

impl Node {
    fn new(parent: NodeId, name: &str, path_bytes: usize) -> Self {
        Self {
            parent,
            path_bytes,
            name: name.into(),
            children: Vec::new(),
            types: 0,
            slot: None,
            consumed: false,
            consumed_below: false,
            seen_in: 0,
            first: 0,
            follower: 0,
        }
    }
}

/// The shape of a stream: every path seen, the types seen there, and the fingerprint of that set.
#[derive(Debug, Clone)]
pub struct ShapeTree {
    pub(super) nodes: Vec<Node>,
    lookup: HashTable<NodeId>,
    fingerprint: Fingerprint,
    pub(super) instance: u64,
    pub(super) slots: u32,
    names_bytes: usize,
}

impl Default for ShapeTree {
    fn default() -> Self {
        Self {
            nodes: vec![Node::new(0, "", 0)],
            lookup: HashTable::new(),
            fingerprint: Fingerprint::default(),
            instance: 0,
            slots: 0,
            names_bytes: 0,
        }
    }
}

/// How a node lies in a snapshot: parent, name, type bits.
#[derive(Debug, Serialize, Deserialize)]
struct StoredNode(NodeId, String, u8);

impl ShapeTree {
    /// The fingerprint of everything seen so far.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Paths known so far, the record itself not counted.
    pub fn paths(&self) -> usize {
        self.nodes.len() - 1
    }

    /// Every node but the record itself, in the order in which they came.
    pub fn nodes(&self) -> std::ops::Range<NodeId> {
        1..self.nodes.len() as NodeId
    }

    /// The path of a node, its parts joined by dots; a dot within a name is written `\.`. Read as mappings write paths, it
    /// leads to this node.
    pub fn path(&self, node: NodeId) -> String {
        join(self.parts(node).into_iter())
    }

    /// The names on the way to a node, from the outside in.
    pub fn parts(&self, node: NodeId) -> Vec<&str> {
        let mut parts = Vec::new();
        let mut at = node;
        while at != 0 {
            parts.push(&*self.nodes[at as usize].name);
            at = self.nodes[at as usize].parent;
        }
        parts.reverse();
        parts
    }

    /// The node at these parts, if it was ever named.
    pub fn find(&self, parts: &[impl AsRef<str>]) -> Option<NodeId> {
        parts.iter().try_fold(0, |node, part| self.child(node, part.as_ref()))
    }

    /// The node around a node; of the record itself that is the record.
    pub fn parent(&self, node: NodeId) -> NodeId {
        self.nodes.get(node as usize).map_or(0, |node| node.parent)
    }

    /// The members of a node, in the order in which they came.
    pub fn children(&self, node: NodeId) -> &[NodeId] {
        self.nodes.get(node as usize).map_or(&[], |node| node.children.as_slice())
    }

    /// Whether a node lies below another.
    pub fn is_below(&self, node: NodeId, other: NodeId) -> bool {
        let mut at = node;
        while at != 0 {
            at = self.nodes.get(at as usize).map_or(0, |node| node.parent);
            if at == other {
                return true;
            }
        }
        false
    }

    /// The types seen at a node, as bits of [`TypeClass`].
    pub fn types(&self, node: NodeId) -> u8 {
        self.nodes.get(node as usize).map_or(0, |node| node.types)
    }

    /// Whether somebody asked for the node, for one below it, or for all of one around it.
    pub fn is_requested(&self, node: NodeId) -> bool {
        let Some(own) = self.nodes.get(node as usize) else { return false };
        let mut at = own.parent;
        while at != 0 && !self.nodes[at as usize].consumed {
            at = self.nodes[at as usize].parent;
        }
        own.slot.is_some() || own.consumed_below || at != 0
    }

    /// A mark between two walks, for [`ShapeTree::is_in_walk`].
    pub fn mark(&self) -> u64 {
        self.instance
    }

    /// Whether an object had the node as a member, be it null, in what was walked since a mark.
    pub fn is_in_walk(&self, node: NodeId, mark: u64) -> bool {
        self.nodes.get(node as usize).is_some_and(|node| node.seen_in > mark)
    }

    /// Whether a node is that of an array's elements, which are no member of any object.
    pub fn is_elements(&self, node: NodeId) -> bool {
        self.nodes.get(node as usize).is_some_and(|node| &*node.name == ELEMENTS)
    }

    /// Bytes of all names as a snapshot writes them.
    pub fn names_bytes(&self) -> usize {
        self.names_bytes
    }

    /// Every (path, type) seen, ordered by path.
    pub fn observed(&self) -> Vec<(String, TypeClass)> {
        let mut all: Vec<_> = (1..self.nodes.len() as NodeId)
            .flat_map(|id| {
                let types = self.nodes[id as usize].types;
                TypeClass::ALL.into_iter().filter(move |c| types & *c as u8 != 0).map(move |c| (id, c))
            })
            .map(|(id, class)| (self.path(id), class))
            .collect();
        all.sort();
        all
    }

    /// Asks for the value at `path` (its parts from the outside in): the slot that every walk puts it in.
    /// `consumed` takes it out of `extras`. The same path asked for twice has one slot. Of an array's elements
    /// ([`ELEMENTS`]) the first value that is not null is put there.
    pub fn request(&mut self, path: &[impl AsRef<str>], consumed: bool) -> u32 {
        let mut node = 0;
        for part in path {
            node = self.child_or_insert(node, part.as_ref());
        }
        let slot = match self.nodes[node as usize].slot {
            Some(slot) => slot,
            None => {
                let slot = self.slots;
                self.slots += 1;
                self.nodes[node as usize].slot = Some(slot);
                slot
            }
        };
        if consumed {
            self.nodes[node as usize].consumed = true;
            let mut at = node;
            while at != 0 {
                at = self.nodes[at as usize].parent;
                self.nodes[at as usize].consumed_below = true;
            }
        }
        slot
    }

    /// Forgets all requests; paths and types stay.
    pub fn clear_requests(&mut self) {
        self.slots = 0;
        for node in &mut self.nodes {
            node.slot = None;
            node.consumed = false;
            node.consumed_below = false;
        }
    }

    pub(super) fn child(&self, parent: NodeId, name: &str) -> Option<NodeId> {
        self.lookup
            .find(hash(parent, name), |id| {
                let node = &self.nodes[*id as usize];
                node.parent == parent && &*node.name == name
            })
            .copied()
    }

    /// The member of `parent` that came behind `previous`, or first, when that was last walked, if `name` is its name.
    #[inline]
    pub(super) fn guessed(&self, parent: NodeId, previous: Option<NodeId>, name: &str) -> Option<NodeId> {
        let guess = match previous {
            None => self.nodes[parent as usize].first,
            Some(previous) => self.nodes[previous as usize].follower,
        };
        let guessed = &self.nodes[guess as usize];
        (guess != 0 && guessed.parent == parent && *guessed.name == *name).then_some(guess)
    }

    /// Bytes of the path of the member `name` of `parent`, every name with its divider.
    pub(super) fn path_bytes(&self, parent: NodeId, name: &str) -> usize {
        let escapes = name.bytes().filter(|b| matches!(b, b'.' | b'\\')).count();
        self.nodes[parent as usize].path_bytes + name.len() + escapes + 1
    }

    pub(super) fn child_or_insert(&mut self, parent: NodeId, name: &str) -> NodeId {
        if let Some(id) = self.child(parent, name) {
            return id;
        }
        let id = self.nodes.len() as NodeId;
        let path_bytes = self.path_bytes(parent, name);
        self.nodes.push(Node::new(parent, name, path_bytes));
        self.names_bytes += stored_bytes(name);
        self.nodes[parent as usize].children.push(id);
        let nodes = &self.nodes;
        self.lookup.insert_unique(hash(parent, name), id, |id| {
            let node = &nodes[*id as usize];
            hash(node.parent, &node.name)
        });
        id
    }

    /// Notes a type at a node; true when it is new there.
    #[inline]
    pub(super) fn observe(&mut self, node: NodeId, class: TypeClass) -> bool {
        let types = &mut self.nodes[node as usize].types;
        if *types & class as u8 != 0 {
            return false;
        }
        *types |= class as u8;
        self.fingerprint.0 = self.fingerprint.0.wrapping_add(self.member_hash(node, class));
        true
    }

    /// Takes back what a refused record added: the given types, and all nodes from `len` on.
    pub(super) fn undo(&mut self, observed: &[ObservedType], len: usize) {
        for seen in observed {
            let member = self.member_hash(seen.node, seen.class);
            self.fingerprint.0 = self.fingerprint.0.wrapping_sub(member);
            self.nodes[seen.node as usize].types &= !(seen.class as u8);
        }
        if self.nodes.len() == len {
            return;
        }
        while self.nodes.len() > len {
            let id = (self.nodes.len() - 1) as NodeId;
            let node = &self.nodes[id as usize];
            let (parent, node_hash) = (node.parent, hash(node.parent, &node.name));
            self.names_bytes -= stored_bytes(&node.name);
            if let Ok(entry) = self.lookup.find_entry(node_hash, |other| *other == id) {
                entry.remove();
            }
            let siblings = &mut self.nodes[parent as usize].children;
            debug_assert_eq!(siblings.last(), Some(&id), "nodes are added at the end");
            siblings.pop();
            self.nodes.pop();
        }
        // A guess may point at a node that is gone.
        for node in &mut self.nodes {
            node.first = if (node.first as usize) < len { node.first } else { 0 };
            node.follower = if (node.follower as usize) < len { node.follower } else { 0 };
        }
    }

    fn member_hash(&self, node: NodeId, class: TypeClass) -> u128 {
        // A fingerprint stays what it was.
        let mut member = join_formerly(self.parts(node).into_iter()).into_bytes();
        member.push(0);
        member.push(class as u8);
        xxh3_128(&member)
    }
}

/// Bytes of a name as a snapshot writes it: with its escapes, of which a control character needs five bytes more.
pub(super) fn stored_bytes(name: &str) -> usize {
    let escape = |byte: u8| match byte {
        b'"' | b'\\' => 1,
        0..0x20 => 5,
        _ => 0,
    };
    name.len() + name.bytes().map(escape).sum::<usize>()
}

/// The text of a path from its parts: joined by dots, `[]` behind an array. What else would be read as a sign of a path
/// stands behind a backslash: a dot, a bar or a backslash in a name, brackets at its end, blanks at either end.
pub fn join<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    joined(parts, escaped)
}

/// The text of a path as earlier releases wrote it: of other signs in its names than dots and backslashes nothing is told.
pub fn join_formerly<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    joined(parts, |part| part.replace('\\', "\\\\").replace('.', "\\."))
}

fn joined<'a>(parts: impl Iterator<Item = &'a str>, escape: impl Fn(&str) -> String) -> String {
    let mut path = String::new();
    for part in parts {
        if part == ELEMENTS {
            path.push_str(ELEMENTS);
            continue;
        }
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(&escape(part));
    }
    path
}

/// A name within a path.
fn escaped(name: &str) -> String {
    let blanks = |text: &str| text.chars().flat_map(|blank| ['\\', blank]).collect::<String>();
    let (front, back) = (name.trim_start(), name.trim_end());
    let before = &name[..name.len() - front.len()];
    // Of a name that is nothing but blanks they all stand before it.
    let (inner, after) = if back.is_empty() { ("", "") } else { (&back[before.len()..], &name[back.len()..]) };
    let mut text = inner.replace('\\', "\\\\").replace('.', "\\.").replace('|', "\\|");
    if after.is_empty() && text.ends_with(ELEMENTS) {
        text.insert(text.len() - ELEMENTS.len(), '\\');
    }
    format!("{}{text}{}", blanks(before), blanks(after))
}

fn hash(parent: NodeId, name: &str) -> u64 {
    xxh3_64_with_seed(name.as_bytes(), u64::from(parent))
}

impl Serialize for ShapeTree {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.nodes[1..].iter().map(|n| StoredNode(n.parent, n.name.to_string(), n.types)))
    }
}

impl<'de> Deserialize<'de> for ShapeTree {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut tree = Self::default();
        for StoredNode(parent, name, types) in Vec::<StoredNode>::deserialize(deserializer)? {
            if parent as usize >= tree.nodes.len() {
                return Err(serde::de::Error::custom("a path stands before its parent"));
            }
            let id = tree.child_or_insert(parent, &name);
            for class in TypeClass::ALL.into_iter().filter(|c| types & *c as u8 != 0) {
                tree.observe(id, class);
            }
        }
        Ok(tree)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mapping::Path;

    fn node(parts: &[&str]) -> (ShapeTree, NodeId) {
        let mut tree = ShapeTree::default();
        let node = parts.iter().fold(0, |node, part| tree.child_or_insert(node, part));
        (tree, node)
    }

    #[test]
    fn a_path_is_written_so_that_it_is_read_as_itself() {
        let cases: [(&[&str], &str); 10] = [
            (&["amt "], r"amt\ "),
            (&[" a b\t"], "\\ a b\\\t"),
            (&["  "], r"\ \ "),
            (&["stage|title"], r"stage\|title"),
            (&["Close Date[]"], r"Close Date\[]"),
            (&["a[] "], r"a[]\ "),
            (&["a[]", "[]", "b "], r"a\[][].b\ "),
            (&["in ", "b"], r"in\ .b"),
            (&["Close Date", "a[0]"], "Close Date.a[0]"),
            (&["a.b", "c\\"], r"a\.b.c\\"),
        ];
        for (parts, text) in cases {
            let (tree, node) = node(parts);
            assert_eq!(tree.path(node), text);
            assert_eq!(Path::new(text).unwrap().choices(), [parts]);
        }
    }

    #[test]
    fn a_fingerprint_is_what_it_was_before_paths_were_escaped() {
        let (mut tree, bar) = node(&["stage|title"]);
        tree.observe(bar, TypeClass::Text);
        assert_eq!(tree.fingerprint(), Fingerprint(xxh3_128(&[b"stage|title".as_slice(), &[0, 4]].concat())));
    }

    proptest! {
        #[test]
        fn the_path_of_any_names_leads_to_them(names in proptest::collection::vec("[a-c .|\\\\\\[\\]]{1,6}", 1..4)) {
            prop_assume!(!names.iter().any(|name| name == ELEMENTS));
            let parts: Vec<&str> = names.iter().map(String::as_str).collect();
            let (tree, node) = node(&parts);
            let path = Path::new(&tree.path(node)).unwrap();
            prop_assert_eq!(path.choices(), [names.clone()]);
        }
    }
}
