//! The keys in which two trees differ, without reading what they share.

use crate::store::blob::{BlobSource, Result};

use super::read::{Path, Tree};
use crate::base::Id;
use crate::base::sort::KeyOrder;

/// Where one of two scans stands.
enum At {
    /// Before a node that was not read.
    Node(Id),
    /// At a key of a leaf.
    Key,
    /// Behind the last key.
    End,
}

/// Passes every key that only one of two trees has, or that has another value in the other, to `each`, in the order of
/// keys, until that returns `false`. Nodes that both trees reach at the same place are passed over: they are the same.
/// The trees are of one kind.
pub(crate) fn differing<S: BlobSource + ?Sized>(
    left: &Tree<'_, S>,
    right: &Tree<'_, S>,
    each: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<()> {
    let order = left.order();
    let (mut left, mut right) = (Side::start(left), Side::start(right));
    loop {
        match (left.at()?, right.at()?) {
            (At::Node(a), At::Node(b)) if a == b => {
                left.pass();
                right.pass();
            }
            (At::Node(a), At::Node(b)) => {
                left.enter(a)?;
                right.enter(b)?;
            }
            (At::Node(a), _) => left.enter(a)?,
            (_, At::Node(b)) => right.enter(b)?,
            (At::End, At::End) => return Ok(()),
            (At::Key, At::Key) => {
                let ((a, one), (b, other)) = (left.key(), right.key());
                let by = order.compare(a, b);
                let key = if by.is_le() { a } else { b };
                if (by.is_ne() || one != other) && !each(key) {
                    return Ok(());
                }
                if by.is_le() {
                    left.pass();
                }
                if by.is_ge() {
                    right.pass();
                }
            }
            (At::Key, At::End) => {
                if !each(left.key().0) {
                    return Ok(());
                }
                left.pass();
            }
            (At::End, At::Key) => {
                if !each(right.key().0) {
                    return Ok(());
                }
                right.pass();
            }
        }
    }
}

/// One of two scans.
struct Side<'t, 'a, S: ?Sized> {
    path: Path<'t, 'a, S>,
    /// The top, until it is passed or entered.
    top: Option<Id>,
}

impl<'t, 'a, S: BlobSource + ?Sized> Side<'t, 'a, S> {
    fn start(tree: &'t Tree<'a, S>) -> Self {
        Self { path: Path::new(tree), top: Some(tree.top()) }
    }

    /// Leaves nodes that are behind it, and tells what is next.
    fn at(&mut self) -> Result<At> {
        if let Some(top) = self.top {
            return Ok(At::Node(top));
        }
        loop {
            let Some((node, at)) = self.path.steps.last() else { return Ok(At::End) };
            if let Some(child) = node.pointers.get(*at) {
                return Ok(At::Node(*child));
            }
            if node.pointers.is_empty() && *at < node.keys.len() {
                return Ok(At::Key);
            }
            self.path.steps.pop();
            self.pass();
        }
    }

    fn enter(&mut self, id: Id) -> Result<()> {
        self.top = None;
        self.path.enter(id, false)
    }

    /// Goes past what is next.
    fn pass(&mut self) {
        if self.top.take().is_none()
            && let Some((_, at)) = self.path.steps.last_mut()
        {
            *at += 1;
        }
    }

    /// The key and the value it stands at.
    fn key(&self) -> (&[u8], Id) {
        let (leaf, at) = self.path.steps.last().expect("it stands at a key");
        (leaf.keys[*at].as_bytes(), leaf.values[*at])
    }
}
