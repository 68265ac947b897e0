//! What an entry holds.

use super::mode::Mode;
use crate::base::{Id, RawString, Timestamp};
use crate::format::path;
use crate::format::summary::Summary;
use crate::format::version::Version;

/// The metadata of one path, as `lstat` reports it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileInfo {
    /// The last path component; `/` for the root.
    pub name: RawString,
    /// Regular files: bytes of content; others: what `lstat` reports.
    pub size: i64,
    /// Type and permission bits.
    pub mode: Mode,
    /// Last modification.
    pub modified: Timestamp,
    /// The device containing the file.
    pub device: u64,
    /// The inode.
    pub inode: u64,
    /// The owner's number.
    pub uid: u64,
    /// The group's number.
    pub gid: u64,
    /// The link count, truncated to 16 bits.
    pub links: u16,
    /// The owner's name, or empty.
    pub user: RawString,
    /// The group's name, or empty.
    pub group: RawString,
    /// Always 0.
    pub flags: u32,
}

/// What the upper half of `dev` says of an entry with custom metadata: `PLAK`.
pub const MARKED_DEVICE: u64 = 0x504c_414b_0000_0000;

/// Returns the `dev` of an entry with custom metadata in a store that upstream may write (FORMAT.md, "The rule for
/// `dev`"): marked, so that upstream never takes such an entry for one of its own; the lower half of the real device
/// stays.
pub const fn marked_device(device: u64) -> u64 {
    MARKED_DEVICE | device & 0xffff_ffff
}

/// One key and value of an entry's `custom_metadata`; the keys we write are listed in FORMAT.md.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CustomMetadata {
    /// The key, such as `s3.key`.
    pub key: RawString,
    /// The raw value.
    pub value: Vec<u8>,
}

/// The metadata of one path in a snapshot.
///
/// Decoding and encoding again gives the same bytes for every canonical serialization. Upstream 1.0.x wrote no
/// content type, entropy and chunk count, and kept a folder's summary here; both need no special care, since empty
/// members are not written.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// The version of the record, 1.0.0.
    pub version: Version,
    /// The absolute path of the parent folder; `/` for the root itself.
    pub parent: RawString,
    /// What `lstat` reported.
    pub info: FileInfo,
    /// The summary of a folder, in snapshots written by 1.0.x; else `None`.
    pub summary: Option<Box<Summary>>,
    /// The raw text of a symbolic link, else empty.
    pub symlink_target: RawString,
    /// The object holding the content of a regular file, else zero.
    pub object: Id,
    /// The content type; empty for folders and in old snapshots.
    pub content_type: RawString,
    /// The entropy of the content in bits per byte.
    pub entropy: f64,
    /// The number of chunks of the content.
    pub chunks: u64,
    /// The names of the extended attributes, in byte order.
    pub xattrs: Vec<RawString>,
    /// Metadata of foreign kinds, S3's for one.
    pub metadata: Vec<CustomMetadata>,
    /// The members that nobody writes, kept when somebody did.
    pub extra: Option<Box<Extra>>,
}

/// The members of an entry that the format defines and that no known program writes.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Extra {
    /// The names of alternate data streams.
    pub alternate_data_streams: Vec<RawString>,
    /// A security descriptor.
    pub security_descriptor: Vec<u8>,
    /// File attributes of another system.
    pub file_attributes: u32,
    /// What analyzers say about the content.
    pub classifications: Vec<Classification>,
    /// Tags.
    pub tags: Vec<RawString>,
}

/// What one analyzer says about a content.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Classification {
    /// The analyzer's name.
    pub analyzer: RawString,
    /// The classes it found; `None` where the bytes say null.
    pub classes: Option<Vec<RawString>>,
    /// The scores it gave; `None` where the bytes say null.
    pub scores: Option<Vec<Score>>,
}

/// One score given by an analyzer.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Score {
    /// What was scored.
    pub key: RawString,
    /// The score.
    pub value: f64,
}

impl FileInfo {
    /// Creates a record with a name and a mode, everything else zero.
    pub fn new(name: impl Into<RawString>, mode: Mode) -> Self {
        Self {
            name: name.into(),
            size: 0,
            mode,
            modified: Timestamp::ZERO,
            device: 0,
            inode: 0,
            uid: 0,
            gid: 0,
            links: 0,
            user: RawString::new(),
            group: RawString::new(),
            flags: 0,
        }
    }
}

impl Entry {
    /// Creates an entry below the folder `parent` (the root's own parent is `/`), everything else empty.
    pub fn new(parent: impl Into<RawString>, info: FileInfo) -> Self {
        Self {
            version: Version::V1_0_0,
            parent: parent.into(),
            info,
            summary: None,
            symlink_target: RawString::new(),
            object: Id::ZERO,
            content_type: RawString::new(),
            entropy: 0.0,
            chunks: 0,
            xattrs: Vec::new(),
            metadata: Vec::new(),
            extra: None,
        }
    }

    /// Returns the absolute path: the parent joined with the name.
    pub fn path(&self) -> RawString {
        if self.is_root() { RawString::from("/") } else { path::join(&self.parent, &self.info.name) }
    }

    /// Returns whether this is the entry of `/`.
    pub fn is_root(&self) -> bool {
        self.info.name == "/" && (self.parent == "/" || self.parent.is_empty())
    }

    /// Returns the custom metadata under a key.
    pub fn metadata(&self, key: impl AsRef<[u8]>) -> Option<&[u8]> {
        let found = self.metadata.iter().find(|item| item.key.as_bytes() == key.as_ref());
        found.map(|item| item.value.as_slice())
    }
}
