//! Writing a tree from its keys in descending order.

use crate::base::Id;
use crate::base::sort::KeyOrder;
use crate::format::tree::{Node, Root};
use crate::store::blob::{Batch, BlobSink, Error, Lane, Result};

use super::kind::TreeKind;

/// Keys of a node at most: below the order of 50 that every root names.
const MAX_KEYS: usize = 49;
/// Children of an inner node at most.
const MAX_CHILDREN: usize = MAX_KEYS + 1;
/// Keys or children below which a node is not cut by content.
const MIN_CUT: usize = 16;
/// A node is cut at one key in 2^4, once it is long enough: about 30 keys a node.
const CUT_BITS: u32 = 4;
/// Levels that have bits of the hash of their own; there are never that many.
const CUT_LEVELS: usize = 16;

/// How a tree is cut into nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TreeShape {
    /// Full nodes, each leaf with its successor's id: what upstream expects for scans.
    Chained,
    /// Nodes cut by content, without a chain: what deduplicates.
    ByContent,
}

/// Writes a tree from right to left.
#[derive(Debug)]
pub struct TreeBuilder<'a, S: ?Sized> {
    batch: Batch<'a, S>,
    kind: TreeKind,
    shape: TreeShape,
    leaf: Pairs,
    /// The leaf written before, which is the next one in key order.
    next: Option<Id>,
    levels: Vec<Level>,
    keys: u64,
}

/// Keys with ids, descending. In inner levels the key is the smallest one below the child.
type Pairs = Vec<(Vec<u8>, Id)>;

/// An inner level: the node being filled, and the one before it. That one is written a step late, so that the
/// leftmost node, which gets what is left over, can be given company: a node of one child has no key.
#[derive(Debug, Default)]
struct Level {
    current: Pairs,
    held: Option<Pairs>,
}

impl<'a, S: BlobSink + ?Sized> TreeBuilder<'a, S> {
    /// Starts a tree.
    pub fn new(sink: &'a S, kind: TreeKind, shape: TreeShape) -> Self {
        Self {
            batch: Batch::new(sink),
            kind,
            shape,
            leaf: Vec::new(),
            next: None,
            levels: Vec::new(),
            keys: 0,
        }
    }

    /// Takes the next smaller key. Fails when it is not smaller.
    pub fn push(&mut self, key: &[u8], id: Id) -> Result<()> {
        let last = self.leaf.last().or_else(|| self.levels.first()?.last());
        if let Some((last, _)) = last
            && self.kind.order.compare(key, last).is_ge()
        {
            let found = format!("\"{}\" before \"{}\"", last.escape_ascii(), key.escape_ascii());
            return Err(Error::malformed("the order of a tree being written", &found));
        }
        self.leaf.push((key.to_vec(), id));
        self.keys += 1;
        if self.leaf.len() == MAX_KEYS || self.cuts(&self.leaf, 0) {
            self.write_leaf()?;
        }
        Ok(())
    }

    /// Returns the number of keys so far.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Writes what is left, the upper levels and the root; returns the root's id.
    pub fn finish(mut self) -> Result<Id> {
        let node = if self.keys == 0 {
            self.write(&Node { keys: Vec::new(), ..Node::default() })?
        } else {
            if !self.leaf.is_empty() {
                self.write_leaf()?;
            }
            self.write_upper_levels()?
        };
        let root = self.batch.put(self.kind.root, &Root::new(node).encode(), Lane::Tree)?;
        self.batch.flush()?;
        Ok(root)
    }

    /// Returns whether a node is cut before its first key: a property of the key alone, so that equal ranges of
    /// keys are cut alike whatever stands beside them.
    fn cuts(&self, pairs: &[(Vec<u8>, Id)], level: usize) -> bool {
        let Some((first, _)) = pairs.last() else { return false };
        self.shape == TreeShape::ByContent
            && pairs.len() >= MIN_CUT
            && level < CUT_LEVELS
            && (hash(first) >> (CUT_BITS * u32::try_from(level).unwrap_or(0))).trailing_zeros() >= CUT_BITS
    }

    fn write_leaf(&mut self) -> Result<()> {
        let first = self.leaf.last().map(|(key, _)| key.clone()).unwrap_or_default();
        let (keys, values) =
            std::mem::take(&mut self.leaf).into_iter().rev().map(|(k, v)| (k.into(), v)).unzip();
        let id = self.write(&Node { keys, values, next: self.next, ..Node::default() })?;
        if self.shape == TreeShape::Chained {
            self.next = Some(id);
        }
        self.push_child(0, first, id)
    }

    /// Takes a child into an inner level, and what becomes full into the levels above.
    fn push_child(&mut self, level: usize, first: Vec<u8>, id: Id) -> Result<()> {
        let (mut level, mut child) = (level, (first, id));
        loop {
            if self.levels.len() <= level {
                self.levels.push(Level::default());
            }
            self.levels[level].current.push(child);
            let current = &self.levels[level].current;
            if current.len() < MAX_CHILDREN && !self.cuts(current, level + 1) {
                return Ok(());
            }
            let full = std::mem::take(&mut self.levels[level].current);
            match self.levels[level].held.replace(full) {
                Some(held) => child = self.write_inner(held)?,
                None => return Ok(()),
            }
            level += 1;
        }
    }

    /// Writes the inner levels from the lowest to the highest; returns the id of the topmost node.
    fn write_upper_levels(&mut self) -> Result<Id> {
        let mut level = 0;
        loop {
            let Level { mut current, held } = std::mem::take(&mut self.levels[level]);
            let Some(mut held) = held else {
                return match &current[..] {
                    [(_, only)] => Ok(*only),
                    _ => Ok(self.write_inner(current)?.1),
                };
            };
            if current.len() == 1 {
                if held.len() < MAX_CHILDREN {
                    held.append(&mut current);
                } else {
                    current.insert(0, held.pop().expect("a held node is full"));
                }
            }
            let top = current.is_empty() && self.levels.len() == level + 1;
            let (first, id) = self.write_inner(held)?;
            if top {
                return Ok(id);
            }
            self.push_child(level + 1, first, id)?;
            if !current.is_empty() {
                let (first, id) = self.write_inner(current)?;
                self.push_child(level + 1, first, id)?;
            }
            level += 1;
        }
    }

    fn write_inner(&mut self, children: Pairs) -> Result<(Vec<u8>, Id)> {
        let first = children.last().map(|(key, _)| key.clone()).unwrap_or_default();
        let pointers = children.iter().rev().map(|(_, id)| *id).collect();
        let keys = children.into_iter().rev().skip(1).map(|(key, _)| key.into()).collect();
        let id = self.write(&Node { keys, pointers, ..Node::default() })?;
        Ok((first, id))
    }

    fn write(&mut self, node: &Node) -> Result<Id> {
        self.batch.put(self.kind.node, &node.encode(), Lane::Tree)
    }
}

impl Level {
    fn last(&self) -> Option<&(Vec<u8>, Id)> {
        self.current.last().or_else(|| self.held.as_ref()?.last())
    }
}

/// FNV-1a with a final mix: decides about cuts only, so nothing depends on its strength. Whoever chooses names
/// to avoid cuts gets full nodes.
fn hash(key: &[u8]) -> u64 {
    let mut hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ hash >> 33
}
