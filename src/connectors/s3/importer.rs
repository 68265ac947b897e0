//! A bucket as a source: a listing becomes records, a GET becomes content.
//!
//! **Order and names.** Records come in the listing's order, which is that of raw keys. Folders are not listed by
//! S3 and not reported here, the root and its ancestors excepted: the build of the tree makes them. It also
//! resolves what a stream of keys cannot: the object `a` comes long before the first `a/…`, so whether a folder
//! stands beside it is known only at the end (see `names`).
//!
//! **One version.** A content is read with `If-Match`. If the object is replaced between the listing and the GET,
//! the newer version is read instead, once, and its own ETag recorded; if it is replaced while it is read, the
//! content fails with `Changed`. A connection that breaks is resumed where it broke, on the same version. A large
//! object is read by ranges, several at a time (see `ahead`).

mod aspects;
mod facts;
mod listing;

use std::cell::Cell;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ignore::gitignore::Gitignore;

use super::ahead::{self, Ahead};
use super::client::{Client, Download, Failure, readiness};
use super::metadata;
use super::names::{path_of, version_path};
use super::options::Options;
use crate::base::{RawString, Timestamp};
use crate::connector::{
    Change, Content, ContentInfo, Error, ErrorKind, Importer, Metadata, Order, Readiness, Record, Result,
    RetrievalTier, SourceInfo, Work,
};
use crate::connectors::patterns;
use crate::format::entry::Entry;
use aspects::Subject;
use listing::Versions;

/// How often in a row a content may break off without one byte more.
const MAX_STALLS: u32 = 3;

/// What is read of a bucket, and how.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ImportOptions {
    /// Patterns in gitignore's syntax of what is left out, matched against paths below the prefix.
    pub excludes: Vec<String>,
    /// Files of such patterns.
    pub ignore_files: Vec<PathBuf>,
    /// Whether metadata of unchanged objects is read again.
    pub recheck: bool,
    /// Whether objects in cold storage are retrieved, for [`RETRIEVAL_DAYS`] days in the standard tier.
    pub retrieve: bool,
}

/// How many days a retrieved copy stays readable.
pub const RETRIEVAL_DAYS: u32 = 7;

/// A source of objects.
#[derive(Debug)]
pub struct S3Importer {
    client: Arc<Client>,
    excludes: Option<Gitignore>,
    recheck: bool,
    retrieve: bool,
    /// Memory for what is read ahead.
    memory: ahead::Memory,
}

impl S3Importer {
    /// Makes the connector; no request is sent yet.
    pub fn new(options: Options) -> Result<Self> {
        Self::with(options, &ImportOptions::default())
    }

    /// Makes the connector for a part of the bucket; no request is sent yet. Fails on patterns that are not valid.
    pub fn with(options: Options, import: &ImportOptions) -> Result<Self> {
        let memory = ahead::Memory::new(options.tuning.read_ahead);
        let client = Arc::new(Client::new(options)?);
        let (recheck, retrieve) = (import.recheck, import.retrieve);
        let mut importer = Self { client, excludes: None, recheck, retrieve, memory };
        let root = importer.root();
        let root = crate::base::sys::os_part(&root);
        importer.excludes = patterns::compile(Path::new(&root), &import.ignore_files, &import.excludes)?;
        Ok(importer)
    }

    fn prefix(&self) -> &str {
        &self.client.options().location.prefix
    }

    /// Returns the path of the backed-up root: `/`, or the prefix.
    fn root(&self) -> RawString {
        let prefix = self.prefix();
        match prefix.strip_suffix('/').unwrap_or(prefix) {
            "" if prefix.is_empty() => RawString::from("/"),
            folder => path_of(folder.as_bytes()),
        }
    }

    /// Returns whether the patterns leave a key out: the key's path decides, of an old version too. What was asked
    /// for by name is never left out.
    fn is_excluded(&self, key: &[u8]) -> bool {
        let Some(excludes) = &self.excludes else { return false };
        let path = path_of(key);
        let named = path.as_bytes() == self.root().as_bytes();
        !named && excludes.matched_path_or_any_parents(crate::base::sys::os_part(&path), false).is_ignore()
    }

    /// Lists the objects of a prefix, or their versions; `only` those of exactly this key.
    fn list(&self, prefix: &[u8], only: bool, each: &mut dyn FnMut(Record) -> ControlFlow<()>) -> Result<()> {
        if !self.client.options().versions {
            return Ok(self.client.list(prefix, only.then_some(1), &mut |object| {
                if only && object.key != prefix {
                    return ControlFlow::Break(());
                }
                let flow = each(listing::object(object));
                if only { ControlFlow::Break(()) } else { flow }
            })?);
        }
        let mut versions = Versions::default();
        Ok(self.client.list_versions(prefix, None, &mut |version| {
            if only && version.object.key != prefix {
                return ControlFlow::Break(());
            }
            each(versions.record(version))
        })?)
    }

    /// Returns whether a previous run did not ask for something that is wanted now.
    fn lacks(&self, previous: &Entry) -> bool {
        let options = self.client.options();
        let lost = previous.metadata(metadata::NOT_CAPTURED).unwrap_or_default();
        let lost = |what: &str| lost.split(|&byte| byte == b',').any(|lost| lost == what.as_bytes());
        let lacks = |key, what| previous.metadata(key).is_none() && !lost(what);
        options.acl && lacks(metadata::ACL, "acl")
            || options.retention && lacks(metadata::LEGAL_HOLD, "legal-hold")
    }

    /// Starts reading an object: the version that was listed, where versions are read.
    fn get(&self, record: &Record, range: Option<(u64, u64)>, etag: Option<&str>) -> Answer<Download> {
        match version_of(record) {
            Some(version) if self.client.options().versions => {
                self.client.get_version(&record.locator, version, range, etag)
            }
            _ => self.client.get(&record.locator, range, etag),
        }
    }
}

type Answer<T> = super::client::Result<T>;

fn text<'a>(record: &'a Record, key: &str) -> Option<&'a str> {
    metadata::get(&record.metadata, key).and_then(|value| std::str::from_utf8(value).ok())
}

/// Returns the version that a listing named.
fn version_of(record: &Record) -> Option<&str> {
    text(record, metadata::VERSION_ID)
}

/// An object in a cold class is no fault of anyone's: say what it takes.
fn archived(failure: Box<Failure>, record: &Record) -> Error {
    if !failure.is("InvalidObjectState") {
        return failure.into();
    }
    let class = text(record, metadata::STORAGE_CLASS).unwrap_or("a cold class");
    Error::new(ErrorKind::Archived, "get", failure.target.clone())
        .detail(format!("the object is archived in {class}: -retrieve has it brought back, and waits for it"))
}

impl Importer for S3Importer {
    fn source(&self) -> SourceInfo {
        SourceInfo { kind: "s3".into(), origin: self.client.options().location.origin(), root: self.root() }
    }

    fn scan(&self, emit: &mut dyn FnMut(Record) -> ControlFlow<()>) -> Result<()> {
        if listing::folders(&self.root(), emit).is_break() {
            return Ok(());
        }
        let prefix = self.prefix().as_bytes();
        let (found, broken) = (Cell::new(false), Cell::new(false));
        let mut each = |record: Record| {
            found.set(true);
            if self.is_excluded(&record.locator) {
                return ControlFlow::Continue(());
            }
            let flow = emit(record);
            broken.set(flow.is_break());
            flow
        };
        if prefix.is_empty() || prefix.ends_with(b"/") {
            self.list(prefix, false, &mut each)?;
        } else {
            // The object of exactly this key, then what lies below it: `photos2/` is neither.
            self.list(prefix, true, &mut each)?;
            if !broken.get() {
                self.list(&[prefix, b"/"].concat(), false, &mut each)?;
            }
        }
        if !found.get() && !broken.get() && !prefix.is_empty() {
            let error = Error::new(ErrorKind::NotFound, "list", self.client.target(Some(prefix)));
            return Err(error.detail("there is no object of this key or below it"));
        }
        Ok(())
    }

    fn compare(&self, record: &Record, previous: &Entry, _begun: Timestamp) -> Change {
        let now = |key| metadata::get(&record.metadata, key);
        let then = |key| metadata::get(&previous.metadata, key);
        let content = [metadata::KEY, metadata::SIZE, metadata::ETAG, metadata::LAST_MODIFIED];
        let same_content = content.iter().all(|key| now(key).is_some() && now(key) == then(key));
        // A version is itself whatever else agrees; what a bucket without versions holds is `null`, or unnamed.
        let named = |id: Option<&[u8]>| id.unwrap_or(b"null") != b"null";
        let (id, before) = (now(metadata::VERSION_ID), then(metadata::VERSION_ID));
        let other_version = named(id) && named(before) && id != before;
        if !same_content || other_version {
            Change::Content
        } else if self.recheck
            || self.lacks(previous)
            || record.metadata.iter().any(|item| previous.metadata(&item.key) != Some(&item.value))
            || now(metadata::STORAGE_CLASS) != then(metadata::STORAGE_CLASS)
        {
            Change::MetadataOnly
        } else {
            Change::Same
        }
    }

    fn elsewhere(&self, record: &Record) -> Option<RawString> {
        let version = version_of(record)?;
        let there = version_path(&record.locator, version.as_bytes());
        Some(if there == record.path { path_of(&record.locator) } else { there })
    }

    fn refresh(&self, record: &Record, previous: &Entry) -> Result<Option<ContentInfo>> {
        if !self.recheck && !self.lacks(previous) {
            return Ok(None);
        }
        let version = version_of(record).filter(|_| self.client.options().versions);
        let headers = self.client.head_version(&record.locator, version)?;
        let etag = super::client::etag(&headers);
        if text(record, metadata::ETAG).is_some_and(|listed| !etag.is_empty() && listed != etag) {
            let error = Error::new(ErrorKind::Changed, "head", self.client.target(Some(&record.locator)));
            return Err(error.detail("the object was replaced since it was listed"));
        }
        let subject = Subject { client: &self.client, key: &record.locator, headers: &headers };
        Ok(Some(content_info(subject.metadata()?)))
    }

    fn open(&self, record: &Record) -> Result<Box<dyn Content>> {
        let listed = text(record, metadata::ETAG);
        let size: u64 = text(record, metadata::SIZE).and_then(|size| size.parse().ok()).unwrap_or(0);
        let is_one = listed.is_some_and(|etag| !etag.is_empty());
        let range = (is_one && size >= ahead::LARGE).then(|| (0, self.memory.step()));
        let asked = match (range, listed.filter(|etag| !etag.is_empty())) {
            (None, Some(etag)) if !self.client.options().versions => {
                self.client.get_listed(&record.locator, etag, size)
            }
            _ => self.get(record, range, listed),
        };
        let is_another = |found: &Download| {
            let etag = found.etag();
            !etag.is_empty() && listed.is_some_and(|listed| !listed.is_empty() && *listed != etag)
        };
        let (download, newer) = match asked {
            // Replaced since it was listed: the version there now is as good, if it is read as one.
            Err(failure) if matches!(failure.status, 412 | 416) => (self.get(record, None, None), true),
            // A server that does not know the condition answers with what it has.
            Ok(found) if is_another(&found) => match range {
                Some(_) => (self.get(record, None, None), true),
                None => (Ok(found), true),
            },
            // Nor does it know of ranges, or the object has become shorter than the first of them.
            Err(failure) if range.is_some() && failure.kind == ErrorKind::Protocol => {
                let whole = self.get(record, None, None);
                let newer = whole.as_ref().is_ok_and(is_another);
                (whole, newer)
            }
            result => (result, false),
        };
        let tagged =
            |download| if is_one { self.client.tagged(&record.locator, download) } else { Ok(download) };
        let download = download.and_then(tagged).map_err(|failure| archived(failure, record))?;
        let version = version_of(record).filter(|_| self.client.options().versions).map(str::to_owned);
        let (etag, end) = (download.etag(), download.length);
        let length = if range.is_some() && !newer { size } else { end };
        let key = record.locator.clone();
        let ahead = (end < length).then(|| {
            let version = version.as_deref();
            Ahead::start(&self.client, &key, version, &etag, (end, length), &self.memory)
        });
        Ok(Box::new(ObjectContent {
            client: Arc::clone(&self.client),
            etag,
            length,
            key,
            version,
            download,
            newer,
            at: 0,
            end,
            stalls: 0,
            ahead,
        }))
    }

    fn retrieve(&self, record: &Record) -> Result<Readiness> {
        if !self.retrieve {
            return Ok(Readiness::Archived);
        }
        let version = version_of(record).filter(|_| self.client.options().versions);
        let headers = self.client.head_version(&record.locator, version)?;
        let state = readiness(&headers);
        if state != Readiness::Archived {
            return Ok(state);
        }
        let with_days = !headers.contains_key("x-amz-archive-status");
        let order = Order { tier: RetrievalTier::Standard, days: RETRIEVAL_DAYS };
        Ok(self.client.restore_object(&record.locator, version, order, with_days)?)
    }

    fn work(&self) -> Work {
        Work::Waiting(self.client.options().tuning.workers)
    }

    fn context(&self) -> Vec<(String, String)> {
        facts::of(&self.client)
    }
}

/// Makes what is known of a content from its metadata.
fn content_info(metadata: Vec<Metadata>) -> ContentInfo {
    let content_type =
        metadata::get(&metadata, "s3.content-type").and_then(|value| String::from_utf8(value.to_vec()).ok());
    ContentInfo { metadata, content_type }
}

/// The content of one object in one version.
#[derive(Debug)]
struct ObjectContent {
    client: Arc<Client>,
    key: Vec<u8>,
    /// The version's id, where it is read by that.
    version: Option<String>,
    download: Download,
    etag: String,
    length: u64,
    /// Whether this is a newer version than the listed one.
    newer: bool,
    at: u64,
    /// Where the body at hand ends: at the end, or where the next range begins.
    end: u64,
    stalls: u32,
    /// The ranges behind the body at hand.
    ahead: Option<Ahead>,
}

impl ObjectContent {
    fn changed(&self) -> Error {
        Error::new(ErrorKind::Changed, "get", self.client.target(Some(&self.key)))
            .detail("the object was replaced while it was read")
    }

    /// Goes on where the body broke off.
    fn resume(&mut self, cause: &str) -> Result<()> {
        self.stalls += 1;
        if self.stalls > MAX_STALLS || self.etag.is_empty() {
            let error = Error::new(ErrorKind::Transport, "get", self.client.target(Some(&self.key)));
            return Err(
                error.detail(format!("the body ended after {} of {} bytes: {cause}", self.at, self.length))
            );
        }
        let (range, etag) = (Some((self.at, self.end)), Some(self.etag.as_str()));
        let again = match &self.version {
            Some(version) => self.client.get_version(&self.key, version, range, etag),
            None => self.client.get(&self.key, range, etag),
        };
        match again {
            Ok(download) if download.etag() == self.etag => {
                self.download.body = download.body;
                Ok(())
            }
            Ok(_) => Err(self.changed()),
            Err(failure) if matches!(failure.status, 404 | 412 | 416) => Err(self.changed()),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Goes on with the next range.
    fn next_range(&mut self) -> Result<()> {
        let Some(ahead) = &mut self.ahead else { return Err(self.changed()) };
        // The memory of the range before may be what the next one waits for.
        self.download.body = Box::new(io::empty());
        match ahead.next() {
            Ok(fetched) => {
                self.end += fetched.length();
                self.download.body = Box::new(fetched);
                Ok(())
            }
            Err(failure) if matches!(failure.status, 404 | 412 | 416) => Err(self.changed()),
            Err(failure) => Err(failure.into()),
        }
    }
}

impl Read for ObjectContent {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.at < self.length {
            if self.at == self.end {
                self.next_range().map_err(io::Error::other)?;
            }
            let cause = match self.download.body.read(buffer) {
                Ok(0) => "the connection was closed".to_owned(),
                Ok(n) => {
                    self.at += n as u64;
                    self.stalls = 0;
                    return Ok(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error.to_string(),
            };
            self.resume(&cause).map_err(io::Error::other)?;
        }
        Ok(0)
    }
}

impl Content for ObjectContent {
    fn size_hint(&self) -> Option<u64> {
        Some(self.length)
    }

    fn finish(self: Box<Self>) -> Result<ContentInfo> {
        if self.at != self.length {
            return Err(self.changed());
        }
        let subject = Subject { client: &self.client, key: &self.key, headers: &self.download.headers };
        let mut out = subject.metadata()?;
        if self.newer {
            // The listing's words about the version before no longer hold. Its time is known from a header only, in
            // another spelling, so the next run reads this object once more.
            let modified = self.download.headers.get("last-modified").map(|value| value.as_bytes().to_vec());
            out.push(metadata::item(metadata::SIZE, self.length.to_string()));
            out.push(metadata::item(metadata::ETAG, self.etag.as_str()));
            out.push(metadata::item(metadata::LAST_MODIFIED, modified.unwrap_or_default()));
            metadata::sort(&mut out);
        }
        Ok(content_info(out))
    }
}
