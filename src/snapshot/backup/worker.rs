//! One worker: takes records, stores their contents, hands entries to the view.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crossbeam_channel::Receiver;

use crate::base::{Cancel, Id, RawString};
use crate::codec::content_type;
use crate::connector::{self, Content, ContentInfo, ErrorKind, Importer, Readiness, Record, Xattr};
use crate::format::blob::BlobType;
use crate::format::entry::{CustomMetadata, Entry, FileInfo, marked_device};
use crate::format::object::Object;
use crate::format::path;
use crate::format::xattr::XattrItem;
use crate::store::blob::{BlobSource, Lane};
use crate::store::{Error, Repository, Session};

use super::super::monitor::{Counter, Event, Monitor, Problem, Severity, Told};
use super::super::vfs::build::{Facts, VfsBuilder};
use super::content::{Budgets, ContentError, ContentWriter, StoredContent, put_object, put_value};
use super::deferred::Deferred;
use super::previous::Joined;

/// How often a content is read that is replaced while it is.
const READS: u32 = 3;

/// What all workers share.
#[derive(Debug)]
pub(super) struct Shared<'a> {
    pub(super) session: &'a dyn Session,
    /// The store that previous contents are in; `None` when there is no previous snapshot.
    pub(super) repository: Option<&'a Repository>,
    pub(super) importer: &'a dyn Importer,
    pub(super) builder: &'a VfsBuilder,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) cancel: &'a Cancel,
    /// Whether a worker failed, so that the others have nothing to wait for.
    pub(super) stop: &'a AtomicBool,
    pub(super) budgets: Budgets,
    pub(super) entropy: bool,
    pub(super) xattrs: bool,
    /// Whether entries are stored as they are made. Where a source is waited for there is time for it; else this is done
    /// at the end, for many at a time.
    pub(super) entries_at_once: bool,
    /// What could not be read, by kind, once it was told.
    pub(super) told_missing: Mutex<HashSet<Vec<u8>>>,
    /// What waits for cold storage.
    pub(super) deferred: Deferred,
}

impl Shared<'_> {
    /// Reports what went wrong at a path, and keeps it in the snapshot.
    pub(super) fn problem(
        &self,
        path: &[u8],
        severity: Severity,
        told: impl Into<Told>,
    ) -> Result<(), Error> {
        let Told { message, kind } = told.into();
        self.builder.add_error(path, &message)?;
        self.monitor.problem(&Problem { severity, path: path.into(), message, kind });
        Ok(())
    }
}

/// Works until the records end. An error is the store's and ends the run.
pub(super) fn work(shared: &Shared<'_>, records: &Receiver<Vec<Joined>>) -> Result<(), Error> {
    let content = ContentWriter::new(shared.session, shared.budgets.clone(), shared.entropy);
    let mut worker = Worker { shared, content, bytes: Vec::new() };
    for batch in records {
        for joined in batch {
            if shared.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            worker.record(joined)?;
        }
    }
    worker.read_deferred()
}

struct Worker<'a> {
    shared: &'a Shared<'a>,
    content: ContentWriter<'a>,
    bytes: Vec<u8>,
}

impl Worker<'_> {
    fn record(&mut self, joined: Joined) -> Result<(), Error> {
        let shared = self.shared;
        let (record, reuse) = match joined {
            Joined::Fresh(record) => (record, None),
            Joined::Same(record, entry) => (record, Some((entry, true))),
            Joined::SameContent(record, entry) => (record, Some((entry, false))),
        };
        let info = match &record.info {
            Ok(info) => info.clone(),
            Err(error) => return shared.problem(&record.path, Severity::Error, Told::of(error)),
        };
        let regular = info.mode.is_regular();
        let reuse = match reuse {
            Some((entry, _)) if regular && !self.is_whole(&entry)? => None,
            reuse => reuse,
        };
        if let Some((entry, _)) = reuse.as_ref().filter(|_| regular) {
            shared.session.rely(BlobType::OBJECT, &entry.object)?;
        }
        let is_new = !matches!(reuse, Some((_, true)));
        let entry = match reuse {
            Some((previous, same)) => match self.refresh(&record, &previous)? {
                Refreshed::Changed => self.read(&record, info)?,
                refreshed => {
                    self.count_unchanged(regular);
                    Some(match refreshed {
                        Refreshed::Metadata(told) => with_refreshed_metadata(&record, info, &previous, told),
                        _ if same => previous,
                        _ => with_new_metadata(&record, info, &previous),
                    })
                }
            },
            None if regular => self.read(&record, info)?,
            None => Some(plain_entry(&record, info)),
        };
        let Some(mut entry) = entry else { return Ok(()) };
        self.xattrs(&record, &mut entry)?;
        self.finish(&record.path, entry, is_new)
    }

    /// Has the source read metadata again where that was asked for. What fails is reported, and the metadata of
    /// the previous run kept.
    fn refresh(&self, record: &Record, previous: &Entry) -> Result<Refreshed, Error> {
        match self.shared.importer.refresh(record, previous) {
            Ok(None) => Ok(Refreshed::Nothing),
            Ok(Some(told)) => {
                self.tell_missing(record, &told);
                Ok(Refreshed::Metadata(told))
            }
            Err(error) if error.kind == ErrorKind::Changed => Ok(Refreshed::Changed),
            Err(error) => {
                self.shared.problem(&record.path, Severity::Warning, Told::of(&error))?;
                Ok(Refreshed::Nothing)
            }
        }
    }

    fn count_unchanged(&self, regular: bool) {
        if regular {
            self.shared.monitor.count(Counter::Unchanged, 1);
        }
    }

    /// Returns whether everything a previous entry's content needs is still there. Its chunks are looked at only when
    /// the store has lost states, packfiles, or blobs that a repair gave up: a state never names blobs of packfiles that
    /// were not durable.
    fn is_whole(&self, entry: &Entry) -> Result<bool, Error> {
        let Some(repository) = self.shared.repository else { return Ok(false) };
        if entry.object.is_zero() || !self.shared.session.holds(BlobType::OBJECT, &entry.object)? {
            return Ok(false);
        }
        if !self.shared.session.lost_packfiles() {
            return Ok(true);
        }
        let Ok(bytes) = repository.get(BlobType::OBJECT, &entry.object) else { return Ok(false) };
        let Ok(object) = Object::decode(&bytes) else { return Ok(false) };
        self.shared.session.holds_all(&object.chunks)
    }

    /// Reads and stores a content; `None` when the source failed, which is reported.
    fn read(&mut self, record: &Record, info: FileInfo) -> Result<Option<Entry>, Error> {
        let shared = self.shared;
        let mut left = READS;
        let (opened, stored) = loop {
            left -= 1;
            match self.read_once(record, &info)? {
                Ok(read) => break read,
                // Replaced while it was read: the version there now is read from its start.
                Err(error) if error.kind == ErrorKind::Changed && left > 0 => {}
                Err(error) if error.kind == ErrorKind::Archived => match shared.importer.retrieve(record) {
                    Ok(readiness) if readiness.is_readable() && left > 0 => {}
                    Ok(Readiness::Ongoing) => return self.defer(record, info).map(|()| None),
                    retrieved => {
                        let error = retrieved.err().unwrap_or(error);
                        shared.problem(&record.path, Severity::Error, Told::of(&error))?;
                        return Ok(None);
                    }
                },
                Err(error) if shared.importer.is_all_or_nothing() => return Err(Error::Elsewhere(error)),
                Err(error) => {
                    shared.problem(&record.path, Severity::Error, Told::of(&error))?;
                    return Ok(None);
                }
            }
        };
        let told = self.told(record, opened)?;
        let content_type = match told.content_type {
            Some(told) => told,
            None => content_type(path::name(&record.path), &stored.head),
        };
        let mut entry = plain_entry(record, info);
        entry.info.size = i64::try_from(stored.size).unwrap_or(i64::MAX);
        entry.object = put_object(shared.session, &stored, content_type.as_bytes())?;
        entry.content_type = content_type.into();
        entry.entropy = stored.entropy;
        entry.chunks = stored.chunks.len() as u64;
        merge(&mut entry.metadata, told.metadata);
        Ok(Some(entry))
    }

    /// Puts off what is on its way from cold storage.
    fn defer(&self, record: &Record, info: FileInfo) -> Result<(), Error> {
        let waiting = Record {
            path: record.path.clone(),
            info: Ok(info),
            symlink_target: None,
            metadata: record.metadata.clone(),
            locator: record.locator.clone(),
        };
        match self.shared.deferred.push(waiting) {
            Ok(()) => Ok(()),
            Err(record) => {
                let message =
                    "its retrieval was asked for, with so many others that the next run has to read it";
                self.shared.problem(&record.path, Severity::Error, message)
            }
        }
    }

    /// Reads what was put off, as it becomes readable.
    fn read_deferred(&mut self) -> Result<(), Error> {
        let shared = self.shared;
        let is_over = || shared.cancel.is_cancelled() || shared.stop.load(Ordering::Relaxed);
        while let Some(record) = shared.deferred.next(is_over) {
            shared.monitor.phase("retrieval");
            match shared.importer.retrieve(&record) {
                Ok(readiness) if readiness.is_readable() => self.record(Joined::Fresh(record))?,
                Ok(_) => {
                    let info = record.info.as_ref().ok().cloned();
                    if let Some(info) = info {
                        self.defer(&record, info)?;
                    }
                }
                Err(error) => shared.problem(&record.path, Severity::Error, Told::of(&error))?,
            }
        }
        if shared.cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Reads a content from its start to its end. The memory is set aside first: whoever waits for it must not hold
    /// an answer of the source meanwhile.
    #[expect(clippy::type_complexity, reason = "two kinds of failure: the store's, and that of one path")]
    fn read_once(
        &mut self,
        record: &Record,
        info: &FileInfo,
    ) -> Result<Result<(Box<dyn Content>, StoredContent), connector::Error>, Error> {
        let shared = self.shared;
        let memory = self.content.reserve(u64::try_from(info.size).ok());
        let mut opened = match shared.importer.open(record) {
            Ok(opened) => opened,
            Err(_) if shared.cancel.is_cancelled() => return Err(Error::Cancelled),
            Err(error) => return Ok(Err(error)),
        };
        let hint = opened.size_hint();
        let counted = |bytes| shared.monitor.count(Counter::Bytes, bytes);
        let mut reader = Reader(opened.as_mut(), shared.cancel);
        match self.content.store(memory, &mut reader, hint, &counted) {
            Ok(stored) => Ok(Ok((opened, stored))),
            Err(ContentError::Store(error)) => Err(error),
            Err(ContentError::Source(_)) if shared.cancel.is_cancelled() => Err(Error::Cancelled),
            Err(ContentError::Source(error)) => Ok(Err(ContentError::describe(error, &record.path))),
        }
    }

    /// Ends the reading of a content. One that changed meanwhile is kept as it was read, and reported.
    fn told(&self, record: &Record, opened: Box<dyn Content>) -> Result<ContentInfo, Error> {
        match opened.finish() {
            Ok(info) => {
                self.tell_missing(record, &info);
                Ok(info)
            }
            Err(error) => {
                let severity = match error.kind {
                    ErrorKind::Changed => Severity::Warning,
                    _ => Severity::Error,
                };
                self.shared.problem(&record.path, severity, Told::of(&error))?;
                Ok(ContentInfo::default())
            }
        }
    }

    /// Reports what the source has and could not be read: recorded with each entry, and told once for each kind.
    fn tell_missing(&self, record: &Record, info: &ContentInfo) {
        let Some(missing) = info.metadata.iter().find(|item| item.key == "s3.not-captured") else { return };
        let mut told = self.shared.told_missing.lock().unwrap_or_else(PoisonError::into_inner);
        if told.insert(missing.value.clone()) {
            let missing = String::from_utf8_lossy(&missing.value);
            let message = format!("kept without {missing}, which could not be read; so perhaps are others");
            let path = record.path.clone();
            self.shared.monitor.problem(&Problem { severity: Severity::Warning, path, message, kind: None });
        }
    }

    /// Stores the extended attributes of an entry and notes their names in it.
    fn xattrs(&self, record: &Record, entry: &mut Entry) -> Result<(), Error> {
        let shared = self.shared;
        if !shared.xattrs {
            entry.xattrs.clear();
            return Ok(());
        }
        let xattrs = match shared.importer.xattrs(record) {
            Ok(xattrs) => xattrs,
            Err(error) => {
                shared.problem(&record.path, Severity::Warning, Told::of(&error))?;
                Vec::new()
            }
        };
        let mut names: Vec<RawString> = Vec::with_capacity(xattrs.len());
        for Xattr { name, value } in xattrs {
            let object = put_value(shared.session, &value)?;
            let item = XattrItem::new(record.path.clone(), name.clone(), value.len() as u64, object);
            shared.builder.add_xattr(&item)?;
            names.push(name);
        }
        entry.xattrs = names;
        Ok(())
    }

    fn finish(&mut self, path: &[u8], mut entry: Entry, is_new: bool) -> Result<(), Error> {
        let shared = self.shared;
        if !entry.metadata.is_empty() && !shared.session.is_ours_alone() {
            entry.info.device = marked_device(entry.info.device);
        }
        // Summaries inside folder entries were 1.0.x's way; ours stand in an index.
        entry.summary = None;
        self.bytes.clear();
        entry.encode_into(&mut self.bytes);
        if is_new && shared.entries_at_once {
            shared.session.put(BlobType::VFS_ENTRY, &self.bytes, Lane::Metadata)?;
        }
        shared.builder.add(path, &self.bytes, &Facts::of(&entry))?;
        if entry.info.mode.is_regular() {
            shared.session.covered(path, &self.bytes)?;
            shared.monitor.count(Counter::Files, 1);
        } else if entry.info.mode.is_dir() {
            shared.monitor.count(Counter::Folders, 1);
        }
        let size = u64::try_from(entry.info.size).unwrap_or(0);
        shared.monitor.event(&Event::Done { path, size });
        Ok(())
    }
}

/// Makes an entry without content.
fn plain_entry(record: &Record, info: FileInfo) -> Entry {
    let mut entry = Entry::new(RawString::from(path::parent(&record.path)), info);
    if let Some(target) = &record.symlink_target {
        entry.symlink_target = target.clone();
    }
    if !entry.info.mode.is_dir() && !entry.info.mode.is_regular() {
        entry.content_type = "application/x-not-regular-file".into();
    }
    entry.metadata.clone_from(&record.metadata);
    entry.metadata.sort_by(|a, b| a.key.cmp(&b.key));
    entry
}

/// What reading metadata again brought.
enum Refreshed {
    /// It was not asked for, or failed.
    Nothing,
    /// All metadata but the listing's.
    Metadata(ContentInfo),
    /// The content is another one.
    Changed,
}

/// Puts metadata that was read again over the content of a previous entry.
fn with_refreshed_metadata(record: &Record, info: FileInfo, previous: &Entry, told: ContentInfo) -> Entry {
    let mut entry = with_new_metadata(record, info, previous);
    entry.metadata = told.metadata;
    merge(&mut entry.metadata, record.metadata.clone());
    if let Some(content_type) = told.content_type {
        entry.content_type = content_type.into();
    }
    entry
}

/// Puts new metadata over the content of a previous entry.
fn with_new_metadata(record: &Record, info: FileInfo, previous: &Entry) -> Entry {
    let size = previous.info.size;
    let mut entry = plain_entry(record, info);
    if entry.info.mode.is_regular() {
        entry.info.size = size;
        entry.object = previous.object;
        entry.content_type = previous.content_type.clone();
        entry.entropy = previous.entropy;
        entry.chunks = previous.chunks;
        // What only a GET tells is kept; what the listing tells is new.
        let listed = std::mem::replace(&mut entry.metadata, previous.metadata.clone());
        merge(&mut entry.metadata, listed);
    }
    entry
}

/// Adds metadata that counts more than what is there already; keys stay unique and in byte order.
fn merge(metadata: &mut Vec<CustomMetadata>, newer: Vec<CustomMetadata>) {
    metadata.retain(|old| newer.iter().all(|new| new.key != old.key));
    metadata.extend(newer);
    metadata.sort_by(|a, b| a.key.cmp(&b.key));
}

/// Ends the reading of a content when the run is cancelled.
struct Reader<'a>(&'a mut dyn Content, &'a Cancel);

impl std::io::Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.1.is_cancelled() {
            return Err(std::io::Error::other(Error::Cancelled));
        }
        self.0.read(buffer)
    }
}

/// Stores a header.
pub(in super::super) fn put_header(session: &dyn Session, id: Id, bytes: &[u8]) -> Result<(), Error> {
    session.put_as(BlobType::SNAPSHOT, id, bytes, Lane::Tree).map(drop)
}
