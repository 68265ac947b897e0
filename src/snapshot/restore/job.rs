//! One thing to restore, and what becomes of it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::{Cancel, RawString};
use crate::connector::{self, ErrorKind, Exporter, Item, Outcome, Xattr};
use crate::format::blob::BlobType;
use crate::format::entry::Entry;
use crate::format::object::Object;
use crate::store::blob::BlobSource;
use crate::store::{Error, Repository, Window};

use super::super::monitor::{Counter, Event, Monitor, Problem, Severity, Told};
use super::super::vfs::read::Vfs;
use super::content::ObjectContent;
use super::journal::Journal;

/// One file, link or special thing.
#[derive(Debug)]
pub(in super::super) struct Job {
    /// Below the destination's root.
    pub(in super::super) path: RawString,
    pub(in super::super) entry: Entry,
    /// Its object where a window has read it already.
    pub(in super::super) object: Option<Object>,
    /// The number of its group, if it is the first name of a file with several links.
    pub(in super::super) group: Option<u64>,
}

/// Counts of a restore.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) files: AtomicU64,
    pub(super) folders: AtomicU64,
    pub(super) others: AtomicU64,
    pub(super) equal: AtomicU64,
    pub(super) skipped: AtomicU64,
    pub(super) partly: AtomicU64,
    pub(super) unsupported: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) bytes: AtomicU64,
}

/// What everything that restores shares.
pub(super) struct Shared<'a> {
    pub(super) repository: &'a Repository,
    pub(super) vfs: &'a Vfs<'a, Repository>,
    pub(super) exporter: &'a dyn Exporter,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) cancel: &'a Cancel,
    pub(super) counts: Counts,
    /// What an interrupted run did, and what this one does.
    pub(super) journal: Option<Journal>,
}

impl Shared<'_> {
    pub(super) fn check_cancelled(&self) -> Result<(), Error> {
        if self.cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Reads the extended attributes of an entry; those that cannot be read are reported and left out.
    pub(super) fn xattrs(&self, entry: &Entry) -> Vec<Xattr> {
        if entry.xattrs.is_empty() {
            return Vec::new();
        }
        let items = match self.vfs.xattrs(entry) {
            Ok(items) => items,
            Err(error) => {
                self.problem(&entry.path(), Severity::Error, Told::of(&error));
                return Vec::new();
            }
        };
        let read = |item: crate::format::xattr::XattrItem| -> Result<Xattr, Error> {
            let content = ObjectContent::open(self.repository, &item.object)?;
            let size = usize::try_from(connector::ContentSource::size(&content)).unwrap_or(usize::MAX);
            /// Linux allows 64 KiB; other systems somewhat more.
            const LONGEST: usize = 64 << 20;
            if size > LONGEST {
                return Err(Error::malformed("an extended attribute", "longer than 64 MiB"));
            }
            let mut value = vec![0; size];
            connector::ContentSource::read_at(&content, 0, &mut value)?;
            Ok(Xattr { name: item.name, value })
        };
        let mut xattrs = Vec::with_capacity(items.len());
        for item in items {
            match item.and_then(read) {
                Ok(xattr) => xattrs.push(xattr),
                Err(error) => self.problem(&entry.path(), Severity::Error, Told::of(&error)),
            }
        }
        xattrs
    }

    pub(super) fn problem(&self, path: &[u8], severity: Severity, told: impl Into<Told>) {
        if severity == Severity::Error {
            self.counts.errors.fetch_add(1, Ordering::Relaxed);
        }
        let Told { message, kind } = told.into();
        self.monitor.problem(&Problem { severity, path: path.into(), message, kind });
    }

    /// Returns whether a regular file stands at the destination already, which is counted.
    pub(super) fn stands(&self, path: &RawString, entry: &Entry) -> bool {
        let receipt = self.journal.as_ref().and_then(|journal| journal.receipt(path, entry));
        let item = Item { path, entry, xattrs: &[] };
        // What cannot be told is restored.
        let stands = self.exporter.stands(&item, receipt).unwrap_or(false);
        if stands {
            self.note(entry, &self.counts.files, Ok(Outcome::Equal));
        }
        stands
    }

    /// Notes in the journal that an item was put in place.
    pub(super) fn journal(&self, item: &Item<'_>) {
        let receipt = self.exporter.receipt(item);
        if let Some(journal) = &self.journal {
            journal.add(item.path, item.entry, receipt);
        }
    }

    /// Restores one thing that is no folder. Returns whether it stands at the destination now, by this run's doing or
    /// an interrupted one's: what was left out, on request or for an error, does not.
    pub(super) fn restore(&self, job: &Job, window: Option<&Window>) -> Result<bool, Error> {
        self.check_cancelled()?;
        // Of what is fetched in windows this was asked before.
        if window.is_none() && job.entry.info.mode.is_regular() && self.stands(&job.path, &job.entry) {
            return Ok(true);
        }
        let xattrs = self.xattrs(&job.entry);
        let item = Item { path: &job.path, entry: &job.entry, xattrs: &xattrs };
        if !job.entry.info.mode.is_regular() {
            let outcome = self.exporter.special(&item);
            return Ok(self.note(&job.entry, &self.counts.others, outcome));
        }
        match self.content(job, window) {
            Ok(content) => self.file(&item, &content),
            Err(error) => {
                self.problem(&job.entry.path(), Severity::Error, Told::of(&error));
                Ok(false)
            }
        }
    }

    /// Restores a regular file. Returns whether it stands.
    fn file(&self, item: &Item<'_>, content: &ObjectContent<'_>) -> Result<bool, Error> {
        let size = connector::ContentSource::size(content);
        let outcome = self.exporter.file(item, content);
        if matches!(outcome, Ok(Outcome::Restored)) {
            self.journal(item);
        }
        // What was broken off is no news; what it left behind is.
        if outcome.as_ref().is_err_and(|error| error.kind == ErrorKind::Cancelled) {
            self.check_cancelled()?;
        }
        if matches!(outcome, Ok(Outcome::Restored | Outcome::Partly(_))) {
            self.counts.bytes.fetch_add(size, Ordering::Relaxed);
            self.monitor.count(Counter::Bytes, size);
            self.monitor.count(Counter::Files, 1);
            if u64::try_from(item.entry.info.size).ok() != Some(size) {
                let message =
                    format!("the entry says {} bytes, the content has {size}", item.entry.info.size);
                self.problem(&item.entry.path(), Severity::Warning, message);
            }
        }
        Ok(self.note(item.entry, &self.counts.files, outcome))
    }

    fn content<'a>(&'a self, job: &Job, window: Option<&'a Window>) -> Result<ObjectContent<'a>, Error> {
        let object = match &job.object {
            Some(object) => object.clone(),
            None => Object::decode(&self.repository.get(BlobType::OBJECT, &job.entry.object)?)?,
        };
        Ok(ObjectContent::new(self.repository, object, window))
    }

    /// Counts an outcome and reports what is not as it should be. Returns whether the item stands at the destination.
    pub(super) fn note(&self, entry: &Entry, done: &AtomicU64, outcome: connector::Result<Outcome>) -> bool {
        let stands = matches!(outcome, Ok(Outcome::Restored | Outcome::Equal | Outcome::Partly(_)));
        let counts = &self.counts;
        let add = |counter: &AtomicU64| {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        match outcome {
            Ok(Outcome::Restored) => {
                add(done);
                let size = u64::try_from(entry.info.size).unwrap_or(0);
                self.monitor.event(&Event::Done { path: &entry.path(), size });
            }
            Ok(Outcome::Equal) => add(&counts.equal),
            Ok(Outcome::Skipped) => add(&counts.skipped),
            Ok(Outcome::Partly(missing)) => {
                add(done);
                add(&counts.partly);
                let message = format!("restored without {}", missing.join(", "));
                self.problem(&entry.path(), Severity::Warning, message);
            }
            Ok(Outcome::Unsupported(what)) => {
                add(&counts.unsupported);
                self.problem(&entry.path(), Severity::Error, format!("not restored: {what}"));
            }
            Err(error) => self.problem(&entry.path(), Severity::Error, Told::of(&error)),
        }
        stands
    }
}
