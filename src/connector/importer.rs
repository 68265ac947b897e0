//! Where the content of a snapshot comes from.

use std::fmt;
use std::io::Read;
use std::ops::ControlFlow;

use super::{Error, Readiness, Result};
use crate::base::{RawString, Timestamp};
pub use crate::format::entry::CustomMetadata as Metadata;
use crate::format::entry::{Entry, FileInfo};

/// What a source is called in a snapshot's header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceInfo {
    /// The importer's type: `fs`, `s3`.
    pub kind: String,
    /// The host name, `host/bucket`, or `host:NAME` of a stream.
    pub origin: String,
    /// The absolute path of the backed-up root in the snapshot's tree: `/srv/data`, `/` for a bucket.
    pub root: RawString,
}

/// Returns the name that a stream has in its source's origin (`host:NAME`): the path of its file in the tree without
/// the slash at its start. Different paths have different names, whatever bytes they hold.
pub fn stream_name(path: &[u8]) -> String {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    match std::str::from_utf8(path) {
        Ok(text) if !text.contains('\\') => text.to_owned(),
        _ => path.escape_ascii().to_string(),
    }
}

/// One extended attribute.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Xattr {
    /// The attribute's full name, `user.colour`.
    pub name: RawString,
    /// Its value.
    pub value: Vec<u8>,
}

/// One thing found by a scan.
#[derive(Debug)]
pub struct Record {
    /// The absolute path in the snapshot's tree (names already escaped; never `.`/`..`/empty segments or NUL).
    pub path: RawString,
    /// Its metadata, or why it could not be read.
    pub info: Result<FileInfo>,
    /// The raw text of a symbolic link.
    pub symlink_target: Option<RawString>,
    /// Metadata known from the listing; what `open` learns is added to it.
    pub metadata: Vec<Metadata>,
    /// What the importer needs to find the content again (a raw key); empty when the path says it all.
    pub locator: Vec<u8>,
}

/// How a record compares with the entry of the same path in the previous snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Nothing changed: the previous entry is used as it is, nothing is read.
    Same,
    /// Only metadata changed: the previous content is used under the new metadata, content is not read.
    MetadataOnly,
    /// Content has to be read.
    Content,
}

/// What is known of a content once it was opened (a GET's headers) or read to its end.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ContentInfo {
    /// Metadata that came with the content.
    pub metadata: Vec<Metadata>,
    /// The content type told by the source.
    pub content_type: Option<String>,
}

/// An opened content: bytes to read, then `finish`.
pub trait Content: Read + Send {
    /// Returns the length in bytes where it is known beforehand.
    fn size_hint(&self) -> Option<u64>;

    /// Ends the reading: returns the metadata, or an error of kind `Changed` when what was read is not one
    /// version of the source. Called only after the end was reached.
    fn finish(self: Box<Self>) -> Result<ContentInfo>;
}

/// Where reading a content spends its time; decides which threads do it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Local: reading is copying, so the computing threads do it.
    Local,
    /// Remote: reading is waiting, so this many threads of their own do it.
    Waiting(usize),
}

/// A source of records and their contents.
pub trait Importer: fmt::Debug + Send + Sync {
    /// Names the source.
    fn source(&self) -> SourceInfo;

    /// Calls `emit` for every record below the root and for the root and its ancestors, folder by folder, until
    /// it breaks. A record's parent folder need not be reported. What fails for one path is a record whose
    /// `info` is an error; an error returned here ends the scan and makes the run fail.
    fn scan(&self, emit: &mut dyn FnMut(Record) -> ControlFlow<()>) -> Result<()>;

    /// Compares a record with the entry of the same path in a previous run that began at `begun`: where times are
    /// all there is to go by, what was modified about then or later may have changed unseen.
    fn compare(&self, record: &Record, previous: &Entry, begun: Timestamp) -> Change;

    /// Returns another path under which the previous snapshot may hold a record's content, where it does not stand
    /// at the record's own path: content that did not change may have moved.
    fn elsewhere(&self, record: &Record) -> Option<RawString> {
        let _ = record;
        None
    }

    /// Reads metadata again that came with the content, of a file whose content did not change; it takes the place
    /// of all that the previous run knew besides the listing. `None` keeps that. Fails with `Changed` where the
    /// content has to be read after all.
    fn refresh(&self, record: &Record, previous: &Entry) -> Result<Option<ContentInfo>> {
        let _ = (record, previous);
        Ok(None)
    }

    /// Opens the content of a regular file.
    fn open(&self, record: &Record) -> Result<Box<dyn Content>>;

    /// Has a content brought back from cold storage, where `open` failed with `Archived`; asked again, tells how far
    /// that is. `Archived` says that nothing was asked for.
    fn retrieve(&self, record: &Record) -> Result<Readiness> {
        let _ = record;
        Ok(Readiness::Archived)
    }

    /// Reads the extended attributes of a record, sorted by name; an error is reported beside the entry.
    fn xattrs(&self, record: &Record) -> Result<Vec<Xattr>, Error> {
        let _ = record;
        Ok(Vec::new())
    }

    /// Says where reading spends its time.
    fn work(&self) -> Work;

    /// Returns whether a content that cannot be read makes the run fail. Of most sources the other files are worth
    /// having; a stream that broke off is not.
    fn is_all_or_nothing(&self) -> bool {
        false
    }

    /// Returns facts about the source as a whole (bucket, region, owner), for the header's source context.
    fn context(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}
