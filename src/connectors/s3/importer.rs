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

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::ahead::{self, Ahead};
use super::client::{Client, Download, Failure, Listed};
use super::metadata;
use super::names::path_of;
use super::options::Options;
use crate::base::budget::Budget;
use crate::base::{RawString, Timestamp};
use crate::connector::{
    Change, Content, ContentInfo, Error, ErrorKind, Importer, Record, Result, SourceInfo, Work,
};
use crate::format::entry::{Entry, FileInfo, Mode, marked_device};

/// An object's mode, as upstream's S3 source reports it.
const FILE_MODE: Mode = Mode::regular(0o700);
/// A folder's mode, as upstream makes it.
const FOLDER_MODE: Mode = Mode::dir(0o750);
/// How often in a row a content may break off without one byte more.
const MAX_STALLS: u32 = 3;

/// A source of objects.
#[derive(Debug)]
pub struct S3Importer {
    client: Arc<Client>,
    /// Memory for what is read ahead.
    memory: Budget,
}

impl S3Importer {
    /// Makes the connector; no request is sent yet.
    pub fn new(options: Options) -> Result<Self> {
        let memory = Budget::new(options.tuning.read_ahead);
        Ok(Self { client: Arc::new(Client::new(options)?), memory })
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

    /// Reports the root and its ancestors.
    fn emit_folders(&self, emit: &mut dyn FnMut(Record) -> ControlFlow<()>) -> ControlFlow<()> {
        emit(folder(RawString::from("/"), RawString::from("/")))?;
        let root = self.root();
        let ends = root.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain((root.len() > 1).then_some(root.len())) {
            let path = &root[..end];
            let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
            emit(folder(RawString::from(path), RawString::from(name)))?;
        }
        ControlFlow::Continue(())
    }
}

fn folder(path: RawString, name: RawString) -> Record {
    let info = FileInfo { modified: Timestamp::EPOCH, ..FileInfo::new(name, FOLDER_MODE) };
    Record { path, info: Ok(info), symlink_target: None, metadata: Vec::new(), locator: Vec::new() }
}

fn record(object: Listed) -> Record {
    let path = path_of(&object.key);
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let modified =
        object.time().map_or(Timestamp::EPOCH, |time| Timestamp::from(std::time::SystemTime::from(time)));
    let info = FileInfo {
        size: i64::try_from(object.size).unwrap_or(i64::MAX),
        modified,
        // The entry will carry metadata of ours.
        device: marked_device(0),
        ..FileInfo::new(RawString::from(name), FILE_MODE)
    };
    Record {
        info: Ok(info),
        path,
        symlink_target: None,
        metadata: metadata::from_listing(&object),
        locator: object.key,
    }
}

impl Importer for S3Importer {
    fn source(&self) -> SourceInfo {
        SourceInfo { kind: "s3".into(), origin: self.client.options().location.origin(), root: self.root() }
    }

    fn scan(&self, emit: &mut dyn FnMut(Record) -> ControlFlow<()>) -> Result<()> {
        if self.emit_folders(emit).is_break() {
            return Ok(());
        }
        let prefix = self.prefix().as_bytes();
        let mut found = false;
        let mut broken = false;
        let mut each = |object: Listed| {
            found = true;
            let flow = emit(record(object));
            broken = flow.is_break();
            flow
        };
        if prefix.is_empty() || prefix.ends_with(b"/") {
            self.client.list(prefix, None, &mut each)?;
        } else {
            // The object of exactly this key, then what lies below it: `photos2/` is neither.
            let mut exact = None;
            self.client.list(prefix, Some(1), &mut |object| {
                exact = Some(object);
                ControlFlow::Break(())
            })?;
            let flow = match exact.filter(|object| object.key == prefix) {
                Some(object) => each(object),
                None => ControlFlow::Continue(()),
            };
            if flow.is_continue() {
                self.client.list(&[prefix, b"/"].concat(), None, &mut each)?;
            }
        }
        if !found && !broken && !prefix.is_empty() {
            let error = Error::new(ErrorKind::NotFound, "list", self.client.target(Some(prefix)));
            return Err(error.detail("there is no object of this key or below it"));
        }
        Ok(())
    }

    fn compare(&self, record: &Record, previous: &Entry, _begun: Timestamp) -> Change {
        let now = |key| metadata::get(&record.metadata, key);
        let then = |key| metadata::get(&previous.metadata, key);
        let content = [metadata::KEY, metadata::SIZE, metadata::ETAG, metadata::LAST_MODIFIED];
        if !content.iter().all(|key| now(key).is_some() && now(key) == then(key)) {
            Change::Content
        } else if now(metadata::STORAGE_CLASS) == then(metadata::STORAGE_CLASS) {
            Change::Same
        } else {
            Change::MetadataOnly
        }
    }

    fn open(&self, record: &Record) -> Result<Box<dyn Content>> {
        let key = record.locator.clone();
        let listed =
            metadata::get(&record.metadata, metadata::ETAG).and_then(|etag| std::str::from_utf8(etag).ok());
        let size =
            metadata::get(&record.metadata, metadata::SIZE).and_then(|size| std::str::from_utf8(size).ok());
        let size: u64 = size.and_then(|size| size.parse().ok()).unwrap_or(0);
        let is_one = listed.is_some_and(|etag| !etag.is_empty());
        let range = (is_one && size >= ahead::LARGE).then(|| (0, ahead::step(&self.memory)));
        let asked = match (range, listed.filter(|etag| !etag.is_empty())) {
            (None, Some(etag)) => self.client.get_listed(&key, etag, size),
            _ => self.client.get(&key, range, listed),
        };
        let first = match asked {
            // Replaced since it was listed: the version there now is as good, if it is read as one.
            Err(failure) if matches!(failure.status, 412 | 416) => (self.client.get(&key, None, None)?, true),
            result => (result?, false),
        };
        let (download, newer) = first;
        let (etag, end) = (download.etag(), download.length);
        let length = if range.is_some() && !newer { size } else { end };
        let ahead =
            (end < length).then(|| Ahead::start(&self.client, &key, &etag, (end, length), &self.memory));
        let client = Arc::clone(&self.client);
        Ok(Box::new(ObjectContent {
            client,
            etag,
            length,
            key,
            download,
            newer,
            at: 0,
            end,
            stalls: 0,
            ahead,
        }))
    }

    fn work(&self) -> Work {
        Work::Waiting(self.client.options().tuning.workers)
    }

    fn context(&self) -> Vec<(String, String)> {
        let options = self.client.options();
        vec![
            ("s3.bucket".into(), options.location.bucket.clone()),
            ("s3.endpoint".into(), options.location.endpoint.authority()),
            ("s3.region".into(), self.client.region()),
        ]
    }
}

/// The content of one object in one version.
#[derive(Debug)]
struct ObjectContent {
    client: Arc<Client>,
    key: Vec<u8>,
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
        match self.client.get(&self.key, Some((self.at, self.end)), Some(&self.etag)) {
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

    /// Reads the tags if there are any; returns what could not be read.
    fn tags(&self, into: &mut Vec<crate::connector::Metadata>) -> Result<Vec<&'static str>> {
        let header = |name: &str| self.download.headers.get(name).and_then(|value| value.to_str().ok());
        let mut lost = Vec::new();
        if header("x-amz-missing-meta").is_some_and(|count| count != "0") {
            lost.push("metadata");
        }
        if header("x-amz-tagging-count").and_then(|count| count.parse().ok()).unwrap_or(0_u64) > 0 {
            match self.client.tags(&self.key, header("x-amz-version-id")) {
                Ok(tags) => into.push(metadata::item(metadata::TAGS, tags)),
                Err(failure) if is_not_allowed(&failure) => lost.push("tags"),
                Err(failure) => return Err(failure.into()),
            }
        }
        Ok(lost)
    }
}

fn is_not_allowed(failure: &Failure) -> bool {
    matches!(failure.kind, ErrorKind::Denied | ErrorKind::Unsupported)
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
        let mut out = metadata::from_headers(&self.download.headers);
        if self.newer {
            // The listing's words about the version before no longer hold. Its time is known from a header only, in
            // another spelling, so the next run reads this object once more.
            let modified = self.download.headers.get("last-modified").map(|value| value.as_bytes().to_vec());
            out.push(metadata::item(metadata::SIZE, self.length.to_string()));
            out.push(metadata::item(metadata::ETAG, self.etag.as_str()));
            out.push(metadata::item(metadata::LAST_MODIFIED, modified.unwrap_or_default()));
        }
        let lost = self.tags(&mut out)?;
        out.extend(metadata::not_captured(&lost));
        metadata::sort(&mut out);
        let content_type =
            metadata::get(&out, "s3.content-type").and_then(|value| String::from_utf8(value.to_vec()).ok());
        Ok(ContentInfo { metadata: out, content_type })
    }
}
