//! Reading trees: look-ups, scans from a key, and nothing a hostile tree could make endless.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use crate::base::sort::KeyOrder;
use crate::base::{Id, RawString};
use crate::format::tree::{Node, Root};
use crate::store::blob::{BlobSource, Error, Result};

use super::kind::{Order, TreeKind};

/// Levels at most. Even nodes of two children reach any number of keys before that.
const MAX_DEPTH: usize = 64;
/// Nodes kept for the next look-up: a few levels of a large tree, about 2 MiB.
const CACHED_NODES: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");

/// Nodes of more keys are never kept; none of ours and of upstream's has that many.
const CACHED_KEYS: usize = 64;

/// A tree of a snapshot.
///
/// Every node is held against the separators on the way to it: its keys ascend and lie between them, and no
/// leaf but that of an empty tree is empty. So a scan visits every node once, in order, however the nodes point
/// at one another, and no set of visited nodes is needed.
pub struct Tree<'a, S: ?Sized> {
    source: &'a S,
    kind: TreeKind,
    top: Id,
    cache: Mutex<LruCache<Id, Arc<Node>>>,
}

impl<S: ?Sized> fmt::Debug for Tree<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tree({}, {})", self.kind.root, self.top.short())
    }
}

impl<'a, S: BlobSource + ?Sized> Tree<'a, S> {
    /// Opens the tree whose root blob has this id.
    pub fn open(source: &'a S, kind: TreeKind, root: &Id) -> Result<Self> {
        let root = Root::decode(&source.get(kind.root, root)?)?;
        Ok(Self { source, kind, top: root.root, cache: Mutex::new(LruCache::new(CACHED_NODES)) })
    }

    /// Returns the value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Id>> {
        let mut path = Path::new(self);
        path.descend(key)?;
        let Some((leaf, at)) = path.steps.last() else { return Ok(None) };
        Ok(leaf.keys.get(*at).filter(|found| found.as_bytes() == key).map(|_| leaf.values[*at]))
    }

    /// Starts a scan at the first key that is not smaller than `from`. An empty key starts at the beginning.
    pub fn range(&self, from: &[u8]) -> Result<Cursor<'_, 'a, S>> {
        let mut path = Path::new(self);
        path.descend(from)?;
        Ok(Cursor { path, started: false })
    }

    /// Starts a scan of all keys.
    pub fn scan(&self) -> Result<Cursor<'_, 'a, S>> {
        self.range(b"")
    }

    /// Calls `each` with the ids of all nodes, children after their parents: what maintenance and `check` follow.
    pub fn nodes(&self, mut each: impl FnMut(Id) -> Result<()>) -> Result<()> {
        let mut path = Path::new(self);
        each(self.top)?;
        path.enter(self.top, true)?;
        while let Some((node, at)) = path.steps.last_mut() {
            let Some(child) = node.pointers.get(*at).copied() else {
                path.steps.pop();
                if let Some((_, at)) = path.steps.last_mut() {
                    *at += 1;
                }
                continue;
            };
            each(child)?;
            path.enter(child, true)?;
        }
        Ok(())
    }

    /// Returns the node that everything is below.
    pub(super) fn top(&self) -> Id {
        self.top
    }

    /// Returns the order of the keys.
    pub(super) fn order(&self) -> Order {
        self.kind.order
    }

    fn malformed(&self, node: Id, detail: &str) -> Error {
        Error::malformed(&format!("{} {node}", self.kind.node), detail)
    }

    /// Reads a node, checks its shape and the order of its keys.
    fn load(&self, id: Id, keep_leaves: bool) -> Result<Arc<Node>> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = cache.get(&id) {
            return Ok(node.clone());
        }
        drop(cache);
        let node = Arc::new(Node::decode(&self.source.get(self.kind.node, &id)?)?);
        let ascends = |pair: &[RawString]| self.kind.order.compare(&pair[0], &pair[1]).is_lt();
        if !node.keys.windows(2).all(ascends) {
            return Err(self.malformed(id, "its keys do not ascend"));
        }
        if (keep_leaves || !node.is_leaf()) && node.keys.len() <= CACHED_KEYS {
            cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            cache.put(id, node.clone());
        }
        Ok(node)
    }
}

/// The way from the top to a position: in inner nodes the child taken, in the leaf the key.
pub(super) struct Path<'t, 'a, S: ?Sized> {
    tree: &'t Tree<'a, S>,
    pub(super) steps: Vec<(Arc<Node>, usize)>,
}

impl<'t, 'a, S: BlobSource + ?Sized> Path<'t, 'a, S> {
    pub(super) fn new(tree: &'t Tree<'a, S>) -> Self {
        Self { tree, steps: Vec::new() }
    }

    /// Goes to the first key that is not smaller; past the end of a leaf when that is in the next one.
    fn descend(&mut self, key: &[u8]) -> Result<()> {
        let order = self.tree.kind.order;
        let mut id = self.tree.top;
        loop {
            self.enter(id, true)?;
            let Some((node, at)) = self.steps.last_mut() else { return Ok(()) };
            if node.pointers.is_empty() {
                *at = node.keys.partition_point(|other| order.compare(other, key).is_lt());
                return Ok(());
            }
            *at = node.keys.partition_point(|other| order.compare(other, key).is_le());
            id = node.pointers[*at];
        }
    }

    /// Reads a node below the current one and holds it against the separators above it.
    pub(super) fn enter(&mut self, id: Id, keep_leaves: bool) -> Result<()> {
        let tree = self.tree;
        if self.steps.len() == MAX_DEPTH {
            return Err(tree.malformed(id, "too many levels above it"));
        }
        let node = tree.load(id, keep_leaves)?;
        let order = tree.kind.order;
        let low = self.steps.iter().rev().find_map(|(node, at)| node.keys.get(at.checked_sub(1)?));
        let high = self.steps.iter().rev().find_map(|(node, at)| node.keys.get(*at));
        let outside = match (node.keys.first(), node.keys.last()) {
            (Some(first), Some(last)) => {
                low.is_some_and(|low| order.compare(first, low).is_lt())
                    || high.is_some_and(|high| order.compare(last, high).is_ge())
            }
            _ => node.pointers.is_empty() && !self.steps.is_empty(),
        };
        if outside {
            return Err(tree.malformed(id, "its keys do not lie between those of the nodes above"));
        }
        self.steps.push((node, 0));
        Ok(())
    }
}

/// A scan of a tree in the order of its keys.
pub struct Cursor<'t, 'a, S: ?Sized> {
    path: Path<'t, 'a, S>,
    started: bool,
}

impl<S: ?Sized> fmt::Debug for Cursor<'_, '_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cursor({:?}, depth {})", self.path.tree, self.path.steps.len())
    }
}

impl<S: BlobSource + ?Sized> Cursor<'_, '_, S> {
    /// Returns the next key and its value; `None` at the end. After an error the scan is over.
    #[expect(clippy::should_implement_trait, reason = "lends its node, which Iterator cannot express")]
    pub fn next(&mut self) -> Result<Option<(&[u8], Id)>> {
        let result = self.step();
        if result.is_err() {
            self.path.steps.clear();
        }
        result?;
        Ok(self.path.steps.last().map(|(leaf, at)| (leaf.keys[*at].as_bytes(), leaf.values[*at])))
    }

    /// Steps to the next key, through as many levels as it takes.
    fn step(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.started, true)
            && let Some((_, at)) = self.path.steps.last_mut()
        {
            *at += 1;
        }
        while let Some((node, at)) = self.path.steps.last() {
            let (leaf, at) = (node.pointers.is_empty(), *at);
            if leaf && at < node.keys.len() {
                return Ok(());
            }
            if let Some(child) = node.pointers.get(at).copied() {
                self.path.enter(child, false)?;
                continue;
            }
            self.path.steps.pop();
            if let Some((_, at)) = self.path.steps.last_mut() {
                *at += 1;
            }
        }
        Ok(())
    }
}
