//! The types of blobs.

use std::fmt;

/// The type of a blob, as packfile indexes and states record it.
///
/// Any number may occur: types that a reader does not know are ignored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct BlobType(pub u8);

impl BlobType {
    /// A snapshot header, under its random snapshot id.
    pub const SNAPSHOT: Self = Self(5);
    /// The signature of a snapshot, under the snapshot's id.
    pub const SIGNATURE: Self = Self(6);
    /// The chunk list of a content.
    pub const OBJECT: Self = Self(7);
    /// Raw bytes of a content.
    pub const CHUNK: Self = Self(9);
    /// The root of the file system tree.
    pub const VFS_ROOT: Self = Self(10);
    /// A node of the file system tree.
    pub const VFS_NODE: Self = Self(11);
    /// The metadata of one path.
    pub const VFS_ENTRY: Self = Self(12);
    /// The root of the error tree.
    pub const ERROR_ROOT: Self = Self(13);
    /// A node of the error tree.
    pub const ERROR_NODE: Self = Self(14);
    /// What went wrong at one path.
    pub const ERROR_ENTRY: Self = Self(15);
    /// The root of the tree of extended attributes.
    pub const XATTR_ROOT: Self = Self(16);
    /// A node of the tree of extended attributes.
    pub const XATTR_NODE: Self = Self(17);
    /// One extended attribute.
    pub const XATTR_ENTRY: Self = Self(18);
    /// The root of an index tree.
    pub const TREE_ROOT: Self = Self(19);
    /// A node of an index tree.
    pub const TREE_NODE: Self = Self(20);
    /// The summary of one folder.
    pub const SUMMARY: Self = Self(21);
    /// A checkpoint journal; this program's own, ignored by upstream.
    pub const JOURNAL: Self = Self(200);
    /// Reserved by this program.
    pub const SUMMIT: Self = Self(201);
    /// Padding: random bytes under a random id, never encoded.
    pub const RANDOM: Self = Self(255);

    /// Returns whether the id of such a blob is the MAC of its decoded bytes.
    pub fn is_named_by_mac(self) -> bool {
        !matches!(self, Self::SNAPSHOT | Self::SIGNATURE | Self::RANDOM)
    }

    /// Returns the node type that belongs to a root type.
    pub fn node_of_root(self) -> Option<Self> {
        match self {
            Self::VFS_ROOT | Self::ERROR_ROOT | Self::XATTR_ROOT | Self::TREE_ROOT => Some(Self(self.0 + 1)),
            _ => None,
        }
    }

    fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::SNAPSHOT => "snapshot",
            Self::SIGNATURE => "signature",
            Self::OBJECT => "object",
            Self::CHUNK => "chunk",
            Self::VFS_ROOT => "vfs-btree",
            Self::VFS_NODE => "vfs-node",
            Self::VFS_ENTRY => "vfs-entry",
            Self::ERROR_ROOT => "error-btree",
            Self::ERROR_NODE => "error-node",
            Self::ERROR_ENTRY => "error-entry",
            Self::XATTR_ROOT => "xattr-btree",
            Self::XATTR_NODE => "xattr-node",
            Self::XATTR_ENTRY => "xattr-entry",
            Self::TREE_ROOT => "btree-root",
            Self::TREE_NODE => "btree-node",
            Self::SUMMARY => "vfs-summary",
            Self::JOURNAL => "journal",
            Self::SUMMIT => "summit",
            Self::RANDOM => "random",
            _ => return None,
        })
    }
}

impl fmt::Display for BlobType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => f.pad(&format!("type-{}", self.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_pairs() {
        assert_eq!(BlobType::VFS_ROOT.node_of_root(), Some(BlobType::VFS_NODE));
        assert_eq!(BlobType::TREE_ROOT.node_of_root(), Some(BlobType::TREE_NODE));
        assert_eq!(BlobType::CHUNK.node_of_root(), None);
        assert_eq!(BlobType(8).to_string(), "type-8");
        assert_eq!(format!("{:>8}", BlobType::CHUNK), "   chunk");
        assert!(BlobType::JOURNAL.is_named_by_mac() && !BlobType::SIGNATURE.is_named_by_mac());
    }
}
