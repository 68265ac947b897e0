//! What a header holds.

use crate::base::{Id, RawString, Timestamp};
use crate::format::summary::Summary;
use crate::format::version::Version;

/// The name of the index of content types.
pub const INDEX_CONTENT_TYPE: &str = "content-type";
/// The name of the index of dirpacks.
pub const INDEX_DIRPACK: &str = "dirpack";
/// The name of the index of summaries.
pub const INDEX_SUMMARY: &str = "summary";

/// Who signed a snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Identity {
    /// Any UUID; zero for an unsigned snapshot.
    pub identifier: [u8; 16],
    /// The Ed25519 public key, 32 bytes; empty for an unsigned snapshot.
    pub public_key: Vec<u8>,
}

impl Identity {
    /// Returns whether there is a signature to be looked for.
    pub fn is_signed(&self) -> bool {
        self.identifier != [0; 16]
    }
}

/// A key and its value.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeyValue {
    /// The key, `Hostname` for one.
    pub key: RawString,
    /// The value.
    pub value: RawString,
}

/// A class, and how sure an analyzer is of it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Class {
    /// The name of the class.
    pub name: RawString,
    /// The probability.
    pub probability: f64,
}

/// What one analyzer says about a snapshot.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Classification {
    /// The analyzer's name.
    pub analyzer: RawString,
    /// The classes it found; `None` where the bytes say null.
    pub classes: Option<Vec<Class>>,
}

/// Where the content came from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Importer {
    /// The importer's type: `fs`, `s3`.
    pub kind: RawString,
    /// The host name, or `host/bucket`.
    pub origin: RawString,
    /// The absolute path of the backed-up root.
    pub directory: RawString,
}

/// The roots of the trees of a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Roots {
    /// The file system tree (type 10).
    pub root: Id,
    /// The tree of extended attributes (type 16).
    pub xattrs: Id,
    /// The tree of errors (type 13).
    pub errors: Id,
}

/// One index of a source.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Index {
    /// Its name, [`INDEX_DIRPACK`] for one.
    pub name: RawString,
    /// Its type, `btree`.
    pub kind: RawString,
    /// Its root (type 19).
    pub value: Id,
}

impl Index {
    /// Creates the record of a B+tree.
    pub fn btree(name: &str, value: Id) -> Self {
        Self { name: name.into(), kind: "btree".into(), value }
    }
}

/// One source of a snapshot. There is one in every snapshot written so far.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Source {
    /// Where the content came from.
    pub importer: Importer,
    /// Facts about the source; `None` where the bytes say null.
    pub context: Option<Vec<KeyValue>>,
    /// The roots of its trees.
    pub root: Roots,
    /// Its indexes, all optional for readers; `None` where the bytes say null.
    pub indexes: Option<Vec<Index>>,
    /// The summary of `/`.
    pub summary: Summary,
}

impl Source {
    /// Returns the root of an index.
    pub fn index(&self, name: &str) -> Option<Id> {
        self.indexes.iter().flatten().find(|index| index.name == name).map(|index| index.value)
    }
}

/// The header of a snapshot.
///
/// Signatures cover the bytes, so decoding and encoding again gives the same bytes for what upstream wrote, null
/// arrays and the 15 keys of old headers included. (Verify over the stored bytes nevertheless.)
#[derive(Clone, PartialEq, Debug)]
pub struct Header {
    /// The version of the record, 1.0.0.
    pub version: Version,
    /// The snapshot id, which must equal the blob's.
    pub identifier: Id,
    /// When the backup began.
    pub timestamp: Timestamp,
    /// How long it took, in nanoseconds.
    pub duration: i64,
    /// Who signed it.
    pub identity: Identity,
    /// A name; `default` unless given.
    pub name: RawString,
    /// A label; empty in 1.1.x, `default` in 1.0.x. The three that follow are likewise.
    pub category: RawString,
    /// A label.
    pub environment: RawString,
    /// A label.
    pub perimeter: RawString,
    /// A label.
    pub job: RawString,
    /// Always 1.
    pub replicas: u32,
    /// A label; `None` in headers of 15 keys, which lack it and `data_classes`.
    pub dataset: Option<RawString>,
    /// Labels; `None` where the bytes say null. Written only when there is a `dataset`.
    pub data_classes: Option<Vec<RawString>>,
    /// What analyzers say; `None` where the bytes say null.
    pub classifications: Option<Vec<Classification>>,
    /// Tags; `None` where the bytes say null.
    pub tags: Option<Vec<RawString>>,
    /// Facts about the run; `None` where the bytes say null.
    pub context: Option<Vec<KeyValue>>,
    /// The sources; `None` where the bytes say null.
    pub sources: Option<Vec<Source>>,
}

impl Header {
    /// Creates a header of 17 keys without sources: named `default`, unsigned, everything else empty.
    pub fn new(identifier: Id, timestamp: Timestamp) -> Self {
        Self {
            version: Version::V1_0_0,
            identifier,
            timestamp,
            duration: 0,
            identity: Identity::default(),
            name: "default".into(),
            category: RawString::new(),
            environment: RawString::new(),
            perimeter: RawString::new(),
            job: RawString::new(),
            replicas: 1,
            dataset: Some(RawString::new()),
            data_classes: Some(Vec::new()),
            classifications: Some(Vec::new()),
            tags: Some(Vec::new()),
            context: Some(Vec::new()),
            sources: Some(Vec::new()),
        }
    }

    /// Returns the tags.
    pub fn tags(&self) -> &[RawString] {
        self.tags.as_deref().unwrap_or_default()
    }

    /// Returns the sources.
    pub fn sources(&self) -> &[Source] {
        self.sources.as_deref().unwrap_or_default()
    }

    /// Returns the only source that upstream looks at.
    pub fn source(&self) -> Option<&Source> {
        self.sources().first()
    }

    /// Returns a fact about the run, `Hostname` for one.
    pub fn context(&self, key: &str) -> Option<&RawString> {
        self.context.iter().flatten().find(|item| item.key == key).map(|item| &item.value)
    }
}
