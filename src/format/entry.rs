//! Entries of the file system view (blob type 12), their `FileInfo` and mode bits.

use crate::base::{Id, RawString, Timestamp};

/// A Go file mode (FORMAT.md, "Mode bits").
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Mode(pub u32);

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

/// One key and value of an entry's `custom_metadata`; the keys we write are listed in FORMAT.md.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CustomMetadata {
    /// The key, such as `s3.key`.
    pub key: RawString,
    /// The raw value.
    pub value: Vec<u8>,
}

/// The metadata of one path in a snapshot.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// The absolute path of the parent folder; `/` for the root itself.
    pub parent: RawString,
    /// What `lstat` reported.
    pub info: FileInfo,
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
}
