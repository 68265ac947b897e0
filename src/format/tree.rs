//! Roots and nodes of B+trees (blob types 10/11, 13/14, 16/17, 19/20).
//!
//! Keys are strings, values are ids. Child `i` of an inner node holds the keys `k` with
//! `keys[i-1] <= k < keys[i]`; leaves are chained through `next`.

use super::error::{Error, Result};
use super::msgpack::{Reader, Writer};
use super::version::Version;
use crate::base::{Id, RawString};

/// The order of the trees that are written: a node has fewer keys than this.
pub const ORDER: i64 = 50;

/// The root record of a tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Root {
    /// 0 as written.
    pub version: Version,
    /// The order: every node has fewer keys.
    pub order: i64,
    /// 0 as written; says nothing.
    pub count: i64,
    /// The id of the topmost node.
    pub root: Id,
}

impl Root {
    /// Creates the record of a tree with the topmost node `root`.
    pub fn new(root: Id) -> Self {
        Self { version: Version::NONE, order: ORDER, count: 0, root }
    }

    /// Encodes the canonical serialization, 67 bytes in practice.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(80);
        Writer::new(&mut out).map(|m| {
            m.key("Version").u32(self.version.0);
            m.key("Order").int(self.order);
            m.key("Count").int(self.count);
            m.key("Root").id(&self.root);
        });
        out
    }

    /// Decodes a serialization.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut root = Self { version: Version::NONE, order: 0, count: 0, root: Id::ZERO };
        let mut r = Reader::new("tree root", bytes);
        r.map(|key, r| {
            match key {
                b"Version" => root.version = r.version()?,
                b"Order" => root.order = r.i64()?,
                b"Count" => root.count = r.i64()?,
                b"Root" => root.root = r.id()?,
                _ => r.skip()?,
            }
            Ok(())
        })?;
        r.finish()?;
        Ok(root)
    }
}

/// A node: a leaf when it has no pointers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Node {
    /// 0 as written.
    pub version: Version,
    /// The keys of a leaf, or the separators of an inner node.
    pub keys: Vec<RawString>,
    /// The children of an inner node, one more than separators.
    pub pointers: Vec<Id>,
    /// The values of a leaf, one per key.
    pub values: Vec<Id>,
    /// Never written.
    pub prev: Option<Id>,
    /// The next leaf in key order.
    pub next: Option<Id>,
}

impl Node {
    /// Returns whether this is a leaf.
    pub fn is_leaf(&self) -> bool {
        self.pointers.is_empty()
    }

    /// Checks that the numbers of keys, pointers and values belong together. Order of keys and the graph of nodes
    /// are for the walker to check.
    fn check(&self) -> Result<()> {
        let fits = if self.is_leaf() {
            self.values.len() == self.keys.len()
        } else {
            self.pointers.len() == self.keys.len() + 1 && self.values.is_empty()
        };
        if fits {
            return Ok(());
        }
        let (keys, pointers, values) = (self.keys.len(), self.pointers.len(), self.values.len());
        Err(Error::malformed(
            "tree node",
            format!("{keys} keys with {pointers} pointers and {values} values"),
        ))
    }

    /// Encodes the canonical serialization. Empty arrays are null.
    pub fn encode(&self) -> Vec<u8> {
        let keys: usize = self.keys.iter().map(|key| key.len() + 5).sum();
        let mut out = Vec::with_capacity(96 + keys + 34 * (self.pointers.len() + self.values.len()));
        Writer::new(&mut out).map(|m| {
            m.key("version").u32(self.version.0);
            m.key("keys").list_or_nil(&self.keys, |w, key| w.str(key));
            m.key("pointers").list_or_nil(&self.pointers, write_id);
            m.key("values").list_or_nil(&self.values, write_id);
            if let Some(prev) = &self.prev {
                m.key("prev").id(prev);
            }
            if let Some(next) = &self.next {
                m.key("next").id(next);
            }
        });
        out
    }

    /// Decodes a serialization. Fails when the numbers of keys, pointers and values do not belong together.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut node = Self::default();
        let mut r = Reader::new("tree node", bytes);
        r.map(|key, r| {
            match key {
                b"version" => node.version = r.version()?,
                b"keys" => node.keys = r.list(Reader::raw)?,
                b"pointers" => node.pointers = r.list(Reader::id)?,
                b"values" => node.values = r.list(Reader::id)?,
                b"prev" => node.prev = if r.nil() { None } else { Some(r.id()?) },
                b"next" => node.next = if r.nil() { None } else { Some(r.id()?) },
                _ => r.skip()?,
            }
            Ok(())
        })?;
        r.finish()?;
        node.check()?;
        Ok(node)
    }
}

fn write_id(w: &mut Writer<'_>, id: &Id) {
    w.id(id);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_round_trip() {
        let leaf = Node {
            keys: vec!["/a".into(), "/b".into()],
            values: vec![Id([1; 32]), Id([2; 32])],
            next: Some(Id([3; 32])),
            ..Node::default()
        };
        let inner = Node { keys: vec!["/b".into()], pointers: vec![Id([1; 32]); 2], ..Node::default() };
        for node in [Node::default(), leaf, inner] {
            assert_eq!(Node::decode(&node.encode()).unwrap(), node);
        }
        assert_eq!(Node::default().encode().len(), 38);
        let root = Root::new(Id([5; 32]));
        assert_eq!(root.encode().len(), 67);
        assert_eq!(Root::decode(&root.encode()).unwrap(), root);
    }

    #[test]
    fn numbers_that_do_not_match_are_refused() {
        for (keys, pointers, values) in [(1, 0, 0), (0, 0, 1), (1, 1, 0), (1, 2, 1), (0, 2, 0)] {
            let node = Node {
                keys: vec!["k".into(); keys],
                pointers: vec![Id::ZERO; pointers],
                values: vec![Id::ZERO; values],
                ..Node::default()
            };
            assert!(Node::decode(&node.encode()).is_err());
        }
    }
}
