//! A bucket as a destination: a file becomes an object.
//!
//! **Keys.** What came from a bucket gets its own key back, below the destination's prefix: the last segments of
//! the raw key, as many as the item's path has, so that a part of a snapshot keeps its exact spelling too. What
//! came from elsewhere gets its path. Keys are only ever appended to the prefix; nothing in them is resolved.
//!
//! **What comes along.** System headers, user metadata, tags, storage class and redirect of an object; mode, owner
//! and time of a file as user metadata. A cold class is not written back unless the connector is told to use it.
//! What the server refuses (tags without the permission, a class it does not know) is left out and reported.
//!
//! **What is there already.** The destination is listed once; an object of the right size whose ETag is what an
//! interrupted restore noted, what the source's was, or the MD5 of the content, is not put again ([`equal`]).
//!
//! **Large objects** go up in parts, each read again from the content source when it has to be sent again.

mod aspects;
mod equal;
mod versions;

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use self::versions::Versioning;
use super::client::{
    Client, Condition, Failure, Part, PartSizes, Put, Result as Answer, Rewind, Source, Stored,
};
use super::metadata::{self, Headers};
use super::names::tail_of;
use super::options::Options;
use super::sse::CustomerKey;
use super::standing::{Standing, Survey, receipt_of};
use crate::base::RawString;
use crate::base::spill::SpillDir;
use crate::connector::{
    ContentSource, Error, ErrorKind, Exporter, Item, Outcome, Receipt, Result, VersionsKept, Work,
};
use crate::format::path;

/// The header that carries tags.
const TAGGING: &str = "x-amz-tagging";
/// The longest key, in bytes.
const MAX_KEY: usize = 1024;
/// Contents up to this many bytes are read whole and go out under a checksum.
const SMALL: u64 = 1 << 20;
/// Larger ones are read in pieces of this many bytes.
const PIECE: usize = 512 << 10;
/// Parts of one object in flight.
const PARTS_AT_ONCE: u64 = 4;

/// How a bucket is written to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExportOptions {
    /// Whether an empty folder becomes an object whose key ends in a slash.
    pub folder_markers: bool,
    /// What happens where there is an object of the key already.
    pub existing: ExistingObject,
    /// Whether ACLs, and modes and owners of files, are left out.
    pub skip_permissions: bool,
}

/// What happens where there is an object of an item's key already. Where it may not be replaced, HEAD looks first,
/// and the PUT carries `If-None-Match: *`, which closes the gap between them on servers that know the condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ExistingObject {
    /// It is replaced.
    #[default]
    Replace,
    /// It is kept, and the item counts as skipped.
    Skip,
    /// It is kept, and the item is an error.
    Fail,
}

/// A destination of objects.
#[derive(Debug)]
pub struct S3Exporter {
    client: Client,
    /// Empty, or ending in a slash.
    prefix: Vec<u8>,
    options: ExportOptions,
    /// Folders that have nothing in them so far, where markers are wanted.
    empty: Mutex<HashSet<RawString>>,
    /// Set once tagging was refused and the object went through without.
    tags_refused: AtomicBool,
    /// Set once the condition of a PUT was refused and the object went through without.
    untaken: AtomicBool,
    /// Whether uploads that were left may not be looked for.
    sweep_refused: AtomicBool,
    /// What was known of the destination when the restore began.
    survey: OnceLock<Survey>,
    /// The receipts of objects that were just put, by key.
    receipts: Mutex<HashMap<Vec<u8>, Receipt>>,
    /// Whether old versions are kept.
    versioning: Versioning,
}

impl S3Exporter {
    /// Makes the connector; no request is sent yet.
    pub fn new(options: Options, export: ExportOptions) -> Result<Self> {
        let prefix = options.folder_prefix();
        Ok(Self {
            client: Client::new(options)?,
            prefix,
            options: export,
            empty: Mutex::default(),
            tags_refused: AtomicBool::new(false),
            untaken: AtomicBool::new(false),
            sweep_refused: AtomicBool::new(false),
            survey: OnceLock::new(),
            receipts: Mutex::default(),
            versioning: Versioning::default(),
        })
    }

    /// Applies the policy to what has a key already. Returns an outcome that settles the item.
    fn look(&self, key: &[u8]) -> Result<Option<Outcome>> {
        if self.options.existing == ExistingObject::Replace {
            return Ok(None);
        }
        match self.client.head(key) {
            Ok(_) => self.kept(key).map(Some),
            Err(failure) if failure.status == 404 => Ok(None),
            // Whoever may not list is not told that a key is missing. There the condition alone has to do, which AWS
            // is known to honour.
            Err(failure)
                if failure.kind == ErrorKind::Denied && self.client.options().location.endpoint.is_aws() =>
            {
                Ok(None)
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// Returns what becomes of an item whose key is taken.
    fn kept(&self, key: &[u8]) -> Result<Outcome> {
        match self.options.existing {
            ExistingObject::Skip => Ok(Outcome::Skipped),
            _ => Err(Error::new(ErrorKind::Exists, "put", self.client.target(Some(key)))
                .detail("there is an object of this key already")),
        }
    }

    /// Returns the key of an item, or why it can have none.
    fn key_of(&self, item: &Item<'_>) -> std::result::Result<Vec<u8>, Outcome> {
        let refuse = |why: &str| Err(Outcome::Unsupported(why.into()));
        let path = item.path.as_bytes();
        let raw = item.entry.metadata(metadata::KEY).and_then(|key| tail_of(key, path));
        let name = match raw {
            Some(raw) => raw,
            None if std::str::from_utf8(path).is_err() => return refuse("a key is UTF-8, this name is not"),
            None => path.to_vec(),
        };
        if name.is_empty() {
            return refuse("an object needs a key");
        }
        let key = [self.prefix.as_slice(), &name].concat();
        if key.len() > MAX_KEY {
            return refuse("the key would be longer than 1024 bytes");
        }
        Ok(key)
    }

    /// Notes that a folder is there, and that the one it lies in is not empty.
    fn note(&self, item: &Item<'_>, is_folder: bool) {
        if !self.options.folder_markers || item.path.is_empty() {
            return;
        }
        let mut empty = self.empty.lock().unwrap_or_else(PoisonError::into_inner);
        empty.remove(path::parent(item.path));
        if is_folder {
            empty.insert(item.path.clone());
        }
    }

    /// Puts an object, making the bucket if the server says that there is none; never for versions, which a new bucket
    /// does not keep. Returns whether everything came along: `false` says that the tags did not.
    fn store(&self, key: &[u8], put: &Put, content: &dyn ContentSource) -> Answer<bool> {
        match self.upload(key, put, content) {
            Err(failure) if failure.is_no_bucket() && !self.client.options().versions => {
                self.client.create_bucket()?;
                self.upload(key, put, content)
            }
            result => result,
        }
    }

    /// Takes note of an object that was put.
    fn note_put(&self, key: &[u8], stored: &Stored) -> Answer<()> {
        self.remember(key, &stored.etag);
        self.versioning.put(&self.client, stored)
    }

    /// Keeps the receipt of an object until it is asked for.
    fn remember(&self, key: &[u8], etag: &str) {
        /// Whoever keeps a journal asks for each at once.
        const UNASKED: usize = 4096;
        let mut receipts = self.receipts.lock().unwrap_or_else(PoisonError::into_inner);
        if receipts.len() >= UNASKED {
            receipts.clear();
        }
        receipts.insert(key.to_vec(), receipt_of(etag));
    }

    /// Returns the headers that an item's object should have.
    fn headers_of(&self, item: &Item<'_>) -> Headers {
        if item.entry.metadata(metadata::KEY).is_some() {
            Headers::of_object(&item.entry.metadata)
        } else {
            Headers::of_file(item.entry, !self.options.skip_permissions)
        }
    }

    /// Returns what an item's object should get, as far as it is not known to be refused.
    fn wish_for(&self, item: &Item<'_>) -> Wish {
        let mut headers = self.headers_of(item);
        if !item.xattrs.is_empty() {
            headers.lost.push("extended attributes".into());
        }
        let chosen = self.client.options().storage_class.as_ref();
        let untagged = self.tags_refused.load(Ordering::Relaxed);
        let mut wish = Wish {
            class: chosen.map(|class| class.clone().into_bytes()).or(headers.class),
            // A class that was asked for is not left out in silence.
            class_is_optional: chosen.is_none(),
            tags: headers.tags.filter(|_| !untagged),
            withheld: None,
            encryption: headers.encryption,
            headers: headers.plain,
            lost: headers.lost,
        };
        if self.client.options().customer_key.is_some() {
            wish.encryption.clear();
            wish.lost.retain(|what| what != metadata::CUSTOMER_KEY);
        }
        if untagged && item.entry.metadata(metadata::TAGS).is_some() {
            wish.lost.push("tags".into());
        }
        wish
    }

    fn upload(&self, key: &[u8], put: &Put, content: &dyn ContentSource) -> Answer<bool> {
        let size = content.size();
        let tuning = &self.client.options().tuning;
        let condition = self.condition();
        if size <= SMALL {
            let mut bytes = vec![0; usize::try_from(size).expect("a MiB at most")];
            content.read_at(0, &mut bytes).map_err(|error| self.unreadable(key, error))?;
            let stored = self.put_whole(key, put, Source::Bytes(&bytes), &condition)?;
            self.note_put(key, &stored)?;
        } else if size < tuning.multipart_threshold {
            let whole = ContentRange { content, start: 0, length: size };
            let stored = self.put_whole(key, put, Source::Streamed(&whole), &condition)?;
            self.note_put(key, &stored)?;
        } else {
            let Some(plan) = PartSizes::plan(size, tuning.part_size, self.client.max_parts()) else {
                let target = self.client.target(Some(key));
                return Err(Failure::new(ErrorKind::Full, "upload", &target, "too large for an object here"));
            };
            self.upload_parts(key, put, content, plan, &condition)?;
            return self.tag_again(key, put);
        }
        Ok(true)
    }

    /// Returns what a PUT demands, as far as the server is known to understand it.
    fn condition(&self) -> Condition {
        match self.options.existing {
            ExistingObject::Skip | ExistingObject::Fail if !self.untaken.load(Ordering::Relaxed) => {
                Condition::IfAbsent
            }
            _ => Condition::Always,
        }
    }

    /// Puts an object in one request; without the condition where the server says that it has none such. Then HEAD
    /// alone has to do, which looked just before; not at AWS, where that may have been refused.
    fn put_whole(&self, key: &[u8], put: &Put, source: Source<'_>, condition: &Condition) -> Answer<Stored> {
        let stored = self.client.put(key, put, source, condition);
        let untaken = stored.as_ref().is_err_and(|failure| failure.status == 501);
        if !untaken || *condition == Condition::Always || self.client.options().location.endpoint.is_aws() {
            return stored;
        }
        let stored = self.client.put(key, put, source, &Condition::Always)?;
        self.untaken.store(true, Ordering::Relaxed);
        Ok(stored)
    }

    /// Sets the tags of an object that was uploaded in parts: servers other than AWS's (Ceph, for one) ignore those
    /// that come with the beginning of an upload, and say nothing.
    fn tag_again(&self, key: &[u8], put: &Put) -> Answer<bool> {
        let tags = put.headers.iter().find(|(name, _)| name == TAGGING);
        let Some((_, tags)) = tags.filter(|_| !self.client.options().location.endpoint.is_aws()) else {
            return Ok(true);
        };
        match self.client.set_tags(key, tags) {
            Ok(()) => Ok(true),
            Err(failure) if matches!(failure.kind, ErrorKind::Denied | ErrorKind::Unsupported) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    fn unreadable(&self, key: &[u8], error: Error) -> Box<Failure> {
        let mut failure = Failure::new(error.kind, "put", &self.client.target(Some(key)), "");
        failure.cause = Some(Box::new(error));
        failure
    }

    fn upload_parts(
        &self,
        key: &[u8],
        put: &Put,
        content: &dyn ContentSource,
        plan: PartSizes,
        condition: &Condition,
    ) -> Answer<()> {
        self.sweep(key);
        let upload = self.client.begin_upload(key, put)?;
        let result = self
            .send_parts(key, &upload, content, plan)
            .and_then(|parts| self.client.complete_upload(key, &upload, &parts, plan.total, condition));
        let mut failure = match result {
            Ok(stored) => {
                self.remember(key, &stored.etag);
                return Ok(());
            }
            Err(failure) => failure,
        };
        if let Err(left) = self.client.abort_upload(key, &upload) {
            failure.message = format!("{}; the parts sent so far are left behind: {left}", failure.message);
            if failure.kind == ErrorKind::Cancelled {
                // It has to be said, and a failure of this kind is not.
                failure.kind = left.kind;
            }
        }
        Err(failure)
    }

    /// Gives up what a run that was killed left of an upload of the same object, until that is refused.
    fn sweep(&self, key: &[u8]) {
        let refused = &self.sweep_refused;
        if !refused.load(Ordering::Relaxed) && self.client.sweep_uploads(key).is_err() {
            refused.store(true, Ordering::Relaxed);
        }
    }

    /// Sends all parts, several at a time. The first failure ends it.
    fn send_parts(
        &self,
        key: &[u8],
        upload: &str,
        content: &dyn ContentSource,
        plan: PartSizes,
    ) -> Answer<Vec<Part>> {
        let next = AtomicU64::new(0);
        let stop = AtomicBool::new(false);
        let done = Mutex::new((Vec::new(), None));
        let work = || {
            while !stop.load(Ordering::Relaxed) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= plan.count() {
                    return;
                }
                let (start, length) = plan.range(index);
                let range = ContentRange { content, start, length };
                let result = self.client.upload_part(key, upload, index + 1, Source::Streamed(&range));
                let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                match result {
                    Ok(part) => done.0.push(part),
                    Err(failure) => {
                        stop.store(true, Ordering::Relaxed);
                        done.1.get_or_insert(failure);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..plan.count().min(PARTS_AT_ONCE) {
                scope.spawn(work);
            }
            work();
        });
        let (mut parts, failure) = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        parts.sort_unstable_by_key(|part: &Part| part.number);
        failure.map_or(Ok(parts), Err)
    }
}

impl S3Exporter {
    /// Restores a delete marker: by deleting what is there.
    fn delete_again(&self, item: &Item<'_>) -> Result<Outcome> {
        if !self.client.options().versions {
            return Ok(Outcome::Unsupported("a deletion comes back with versions=all only".into()));
        }
        match self.key_of(item) {
            Ok(key) => {
                self.versioning.before_delete(&self.client, &key)?;
                self.client.delete(&key, false)?;
            }
            Err(outcome) => return Ok(outcome),
        }
        Ok(Outcome::Restored)
    }
}

impl Exporter for S3Exporter {
    fn location(&self) -> String {
        self.client.options().describe()
    }

    /// An object that was put is another one under other options.
    fn identity(&self) -> Option<Vec<u8>> {
        let options = self.client.options();
        let flags =
            [options.acl, options.retention, options.versions, self.options.skip_permissions].map(u8::from);
        let class = options.storage_class.as_deref().unwrap_or_default();
        let customer_key = options.customer_key.iter().flat_map(CustomerKey::headers);
        let customer_key: String = customer_key.map(|(_, value)| value).collect();
        let mut hasher = blake3::Hasher::new();
        for part in [self.location().as_bytes(), &flags, class.as_bytes(), customer_key.as_bytes()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Some(hasher.finalize().as_bytes().to_vec())
    }

    fn folder(&self, item: &Item<'_>) -> Result<Outcome> {
        self.note(item, true);
        Ok(Outcome::Restored)
    }

    fn file(&self, item: &Item<'_>, content: &dyn ContentSource) -> Result<Outcome> {
        self.note(item, false);
        let key = match self.key_of(item) {
            Ok(key) => key,
            Err(outcome) => return Ok(outcome),
        };
        self.keeps_versions()?;
        if let Some(settled) = self.look(&key)? {
            return Ok(settled);
        }
        if self.holds_equal(&key, item, content)? {
            return Ok(Outcome::Equal);
        }
        let mut wish = self.wish_for(item);
        loop {
            match self.store(&key, &wish.put(), content) {
                Ok(true) => break,
                Ok(false) => {
                    wish.withheld = wish.tags.take().map(|tags| (tags, Withheld::Everywhere));
                    break;
                }
                // Somebody else's, or our own, whose answer was lost.
                Err(failure) if failure.status == 412 => {
                    if self.is_ours(&key, item, content)? {
                        break;
                    }
                    return self.kept(&key);
                }
                Err(failure) if wish.relent(&failure) => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        let mut lost = wish.lost;
        if let Some((_, reach)) = wish.withheld {
            lost.push("tags".into());
            if reach == Withheld::Everywhere {
                self.tags_refused.store(true, Ordering::Relaxed);
            }
        }
        lost.extend(aspects::restore(&self.client, &key, item.entry, !self.options.skip_permissions));
        Ok(if lost.is_empty() { Outcome::Restored } else { Outcome::Partly(lost) })
    }

    fn survey(&self, spills: &SpillDir, expected: u64) -> Result<()> {
        if self.client.options().versions {
            // A history is written anew: that its end looks like its middle does not make it shorter.
            return Ok(());
        }
        let _ = self.survey.set(Standing::list(&self.client, &self.prefix, spills, expected)?);
        Ok(())
    }

    fn stands(&self, item: &Item<'_>, receipt: Option<Receipt>) -> Result<bool> {
        let Ok(key) = self.key_of(item) else { return Ok(false) };
        let stands = self.stands_equal(&key, item, receipt)?;
        if stands {
            self.note(item, false);
        }
        Ok(stands)
    }

    fn receipt(&self, item: &Item<'_>) -> Receipt {
        let Ok(key) = self.key_of(item) else { return 0 };
        self.receipts.lock().unwrap_or_else(PoisonError::into_inner).remove(&key).unwrap_or(0)
    }

    fn special(&self, item: &Item<'_>) -> Result<Outcome> {
        if item.entry.metadata(metadata::DELETE_MARKER).is_some() {
            return self.delete_again(item);
        }
        self.note(item, false);
        let mode = item.entry.info.mode;
        let what = if mode.is_symlink() { "symbolic links" } else { "special files" };
        Ok(Outcome::Unsupported(format!("{what} have no place in a bucket")))
    }

    fn finish_folder(&self, item: &Item<'_>) -> Result<Outcome> {
        if !self.empty.lock().unwrap_or_else(PoisonError::into_inner).remove(item.path) {
            return Ok(Outcome::Restored);
        }
        let mut key = match self.key_of(item) {
            Ok(key) => key,
            Err(outcome) => return Ok(outcome),
        };
        key.push(b'/');
        if let Some(settled) = self.look(&key)? {
            return Ok(settled);
        }
        match self.store(&key, &Put::default(), &Vec::new()) {
            Ok(_) => Ok(Outcome::Restored),
            Err(failure) if failure.status == 412 => self.kept(&key),
            Err(failure) => Err(failure.into()),
        }
    }

    fn keeps_versions(&self) -> Result<VersionsKept> {
        if !self.client.options().versions {
            return Ok(VersionsKept::Nothing);
        }
        if self.options.existing != ExistingObject::Replace {
            // The first version would be what is there already for all that come after it.
            let error = Error::new(ErrorKind::Invalid, "restore versions to", self.client.target(None));
            return Err(
                error.detail("objects that are there are to be kept; leave that out, or versions=all")
            );
        }
        self.versioning.kept(&self.client)
    }

    fn work(&self) -> Work {
        Work::Waiting(self.client.options().tuning.workers)
    }
}

/// What an object should get, given up piece by piece where the server refuses it.
struct Wish {
    headers: Vec<(String, Vec<u8>)>,
    class: Option<Vec<u8>>,
    class_is_optional: bool,
    tags: Option<Vec<u8>>,
    /// Tags that the next attempt goes without, and why.
    withheld: Option<(Vec<u8>, Withheld)>,
    /// Encryption by a key of the server's.
    encryption: Vec<(String, Vec<u8>)>,
    /// What is given up for good.
    lost: Vec<String>,
}

/// What a refusal of tags is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Withheld {
    /// These very tags.
    Here,
    /// Whatever is tagged.
    Everywhere,
}

impl Wish {
    fn put(&self) -> Put {
        let mut headers = self.headers.clone();
        headers.extend(self.class.clone().map(|class| ("x-amz-storage-class".into(), class)));
        headers.extend(self.encryption.iter().cloned());
        headers.extend(self.tags.clone().map(|tags| (TAGGING.into(), tags)));
        Put { headers, ..Put::default() }
    }

    /// Gives up what a failure can be blamed on. Returns whether there was anything left of that.
    fn relent(&mut self, failure: &Failure) -> bool {
        if let Some((tags, _)) = self.withheld.take() {
            // It was not for the tags, or not for them alone.
            self.tags = Some(tags);
        } else if let Some(reach) = blame_on_tags(failure)
            && let Some(tags) = self.tags.take()
        {
            self.withheld = Some((tags, reach));
            return true;
        }
        if failure.is("InvalidStorageClass")
            && self.class_is_optional
            && let Some(class) = self.class.take()
        {
            self.lost.push(format!("storage class {}", String::from_utf8_lossy(&class)));
            return true;
        }
        if matches!(failure.status, 400 | 403 | 501) && failure.cause.is_none() && !self.encryption.is_empty()
        {
            self.encryption.clear();
            self.lost.push("server-side encryption".into());
            return true;
        }
        false
    }
}

/// Returns whether tags may be the reason of a failure, and which.
fn blame_on_tags(failure: &Failure) -> Option<Withheld> {
    match failure.kind {
        _ if failure.cause.is_some() => None,
        _ if failure.is("InvalidTag") => Some(Withheld::Here),
        ErrorKind::Denied | ErrorKind::Unsupported => Some(Withheld::Everywhere),
        _ => None,
    }
}

/// A part of a content, read from the content source as often as it takes.
struct ContentRange<'a> {
    content: &'a dyn ContentSource,
    start: u64,
    length: u64,
}

impl Rewind for ContentRange<'_> {
    fn length(&self) -> u64 {
        self.length
    }

    fn open(&self) -> Result<Box<dyn Read + '_>> {
        Ok(Box::new(RangeReader {
            content: self.content,
            next: self.start,
            end: self.start + self.length,
            piece: Vec::new(),
            at: 0,
        }))
    }
}

struct RangeReader<'a> {
    content: &'a dyn ContentSource,
    /// Where the next piece begins.
    next: u64,
    end: u64,
    piece: Vec<u8>,
    /// How much of the piece is given out.
    at: usize,
}

impl Read for RangeReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            let length = usize::try_from(self.end - self.next).map_or(PIECE, |left| left.min(PIECE));
            self.piece.resize(length, 0);
            self.at = 0;
            self.content.read_at(self.next, &mut self.piece).map_err(io::Error::other)?;
            self.next += length as u64;
        }
        let n = buffer.len().min(self.piece.len() - self.at);
        buffer[..n].copy_from_slice(&self.piece[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}
