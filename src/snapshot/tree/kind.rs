//! Which trees there are and how their keys are ordered.

use std::cmp::Ordering;

use crate::base::sort::{KeyOrder, leading};
use crate::format::blob::BlobType;
use crate::format::path::{compare_path_order, depth};

/// The order of a tree's keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// By the number of slashes, then by bytes.
    Path,
    /// By bytes.
    Bytes,
}

/// Paths of more slashes than this are told apart by the full comparison only.
const DEPTH_CAP: usize = 0xffff;

impl KeyOrder for Order {
    fn compare(&self, a: &[u8], b: &[u8]) -> Ordering {
        match self {
            Self::Path => compare_path_order(a, b),
            Self::Bytes => a.cmp(b),
        }
    }

    fn prefix(&self, key: &[u8]) -> u64 {
        match self {
            Self::Path => match depth(key) {
                depth if depth < DEPTH_CAP => (depth as u64) << 48 | leading(key, 6),
                _ => (DEPTH_CAP as u64) << 48,
            },
            Self::Bytes => leading(key, 8),
        }
    }

    fn compare_rest(&self, a: &[u8], b: &[u8]) -> Ordering {
        // Below the cap equal prefixes mean equal depths.
        if *self == Self::Bytes || (a.len() < DEPTH_CAP && b.len() < DEPTH_CAP) {
            a.cmp(b)
        } else {
            compare_path_order(a, b)
        }
    }
}

/// A kind of tree: its blob types and the order of its keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TreeKind {
    /// The type of the root blob.
    pub root: BlobType,
    /// The type of the node blobs.
    pub node: BlobType,
    /// The order of the keys.
    pub order: Order,
}

impl TreeKind {
    /// Paths to entries.
    pub const VFS: Self = Self { root: BlobType::VFS_ROOT, node: BlobType::VFS_NODE, order: Order::Path };
    /// Paths to error items.
    pub const ERRORS: Self =
        Self { root: BlobType::ERROR_ROOT, node: BlobType::ERROR_NODE, order: Order::Bytes };
    /// Path, name and separator to items of extended attributes. Upstream writes it in path order and then
    /// looks it up in byte order; only the former is right.
    pub const XATTRS: Self =
        Self { root: BlobType::XATTR_ROOT, node: BlobType::XATTR_NODE, order: Order::Path };
    /// The indexes: content types, dirpacks, summaries.
    pub const INDEX: Self =
        Self { root: BlobType::TREE_ROOT, node: BlobType::TREE_NODE, order: Order::Bytes };
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn prefixes_agree_with_the_order(
            a in prop::collection::vec(prop_oneof![Just(b'/'), any::<u8>()], 0..12),
            b in prop::collection::vec(prop_oneof![Just(b'/'), any::<u8>()], 0..12),
        ) {
            for order in [Order::Path, Order::Bytes] {
                let by_prefix = order.prefix(&a).cmp(&order.prefix(&b));
                let by_both = by_prefix.then_with(|| order.compare_rest(&a, &b));
                prop_assert_eq!(by_both, order.compare(&a, &b));
            }
        }
    }

    #[test]
    fn very_deep_paths() {
        let (a, b) = (b"/a".repeat(DEPTH_CAP), b"/".repeat(DEPTH_CAP + 1));
        assert_eq!(Order::Path.prefix(&a), Order::Path.prefix(&b));
        assert_eq!(Order::Path.compare_rest(&a, &b), Ordering::Less);
    }
}
