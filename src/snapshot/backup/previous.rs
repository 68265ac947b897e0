//! Joining what is found with what the previous snapshot, or an interrupted run, already covered.

use std::sync::Arc;

use crate::base::Timestamp;
use crate::connector::{Change, Importer, Record, SourceInfo};
use crate::format::entry::{Entry, marked_device};
use crate::format::path;
use crate::format::snapshot::Header;
use crate::store::{Error, Journal, Repository, Session};

use super::super::vfs::read::{Child, ParentCursor, Vfs};
use super::header::begun;

/// A record with what is known of it.
#[derive(Debug)]
pub(super) enum Joined {
    /// Content has to be read, if there is any.
    Fresh(Record),
    /// The previous entry holds as it is.
    Same(Record, Entry),
    /// The previous content holds under new metadata.
    SameContent(Record, Entry),
}

/// What a run builds on.
#[derive(Debug)]
pub(super) struct Previous {
    repository: Arc<Repository>,
    header: Option<Header>,
    journal: Option<Journal>,
}

impl Previous {
    /// Finds the latest snapshot of a source, and the journals of runs over it that never committed.
    pub(super) fn find(repository: &Arc<Repository>, source: &SourceInfo) -> Result<Self, Error> {
        let mut latest: Option<Header> = None;
        for id in repository.catalogue().snapshots() {
            // A damaged snapshot is check's business; here it only costs time.
            let Ok(header) = super::super::header(repository, &id) else { continue };
            let newer = latest.as_ref().is_none_or(|latest| header.timestamp > latest.timestamp);
            if newer && is_of(&header, source) {
                latest = Some(header);
            }
        }
        let since = latest.as_ref().map_or(Timestamp::EPOCH, begun);
        let journal = Journal::load(repository, source, since)?;
        Ok(Self { repository: Arc::clone(repository), header: latest, journal })
    }

    /// Returns the number of paths an interrupted run covered.
    pub(super) fn journalled(&self) -> usize {
        self.journal.as_ref().map_or(0, Journal::len)
    }

    /// Returns how many files the previous snapshot holds.
    pub(super) fn file_count(&self) -> Option<u64> {
        Some(self.header.as_ref()?.source()?.summary.total_files())
    }

    /// Forgets what an interrupted run covered: a snapshot holds it now.
    pub(super) fn forget_journal(&self) {
        if let Some(journal) = &self.journal {
            journal.forget();
        }
    }

    /// Opens the view of the previous snapshot. One that does not open is as good as none: everything is read.
    pub(super) fn view(&self) -> Option<Vfs<'_, Repository>> {
        Vfs::open(self.repository.as_ref(), self.header.as_ref()?.source()?).ok()
    }

    /// Starts the join.
    pub(super) fn joiner<'a>(
        &'a self,
        view: Option<&'a Vfs<'a, Repository>>,
        importer: &'a dyn Importer,
        session: &'a dyn Session,
    ) -> Joiner<'a> {
        let begun = self.header.as_ref().map_or(Timestamp::EPOCH, begun);
        let cursor = view.map(ParentCursor::new);
        Joiner { session, cursor, journal: self.journal.as_ref(), importer, begun }
    }
}

fn is_of(header: &Header, source: &SourceInfo) -> bool {
    header.source().is_some_and(|found| {
        found.importer.kind == source.kind.as_str()
            && found.importer.origin == source.origin.as_str()
            && found.importer.directory == source.root
    })
}

/// Looks up the previous entry of every record, in the order they come.
pub(super) struct Joiner<'a> {
    session: &'a dyn Session,
    cursor: Option<ParentCursor<'a, 'a, Repository>>,
    journal: Option<&'a Journal>,
    importer: &'a dyn Importer,
    /// When the previous snapshot was begun.
    begun: Timestamp,
}

impl Joiner<'_> {
    /// Joins one record. A previous snapshot that cannot be read costs time, never the backup.
    pub(super) fn join(&mut self, record: Record) -> Joined {
        if !record.info.as_ref().is_ok_and(|info| info.mode.is_regular()) {
            return Joined::Fresh(record);
        }
        if let Some(journal) = self.journal
            && let Ok(Some(covered)) = journal.find(&record.path, self.session)
            && let Ok(entry) = Entry::decode(&covered.entry)
        {
            match self.compare(&record, &entry, covered.begun) {
                Change::Content => {}
                Change::Same => return Joined::Same(record, entry),
                Change::MetadataOnly => return Joined::SameContent(record, entry),
            }
        }
        if let Some(Child { entry, .. }) = self.find(&record.path) {
            match self.compare(&record, &entry, self.begun) {
                Change::Same => return Joined::Same(record, entry),
                Change::MetadataOnly => return Joined::SameContent(record, entry),
                Change::Content => {}
            }
        }
        let moved = self.importer.elsewhere(&record).and_then(|path| self.find(&path));
        match moved {
            // Its name and folder are the other path's: the entry is made anew.
            Some(Child { entry, .. }) if self.compare(&record, &entry, self.begun) != Change::Content => {
                Joined::SameContent(record, entry)
            }
            _ => Joined::Fresh(record),
        }
    }

    /// Looks up a path; where it is a folder now, under the name that a file beside it has.
    fn find(&mut self, path: &[u8]) -> Option<Child> {
        let cursor = self.cursor.as_mut()?;
        let found = cursor.entry(path).ok().flatten()?;
        if !found.is_dir() {
            return Some(found);
        }
        let renamed = path::join(path::parent(path), path::escape_collision(path::name(path)));
        let mut found = cursor.entry(&renamed).ok().flatten()?;
        // The build renames it again, if that is still called for.
        found.entry.info.name = path::name(path).into();
        Some(found)
    }

    fn compare(&self, record: &Record, entry: &Entry, begun: Timestamp) -> Change {
        match &record.info {
            // The marked device says nothing about the file: take the real one as unchanged.
            Ok(info)
                if entry.info.device != info.device && entry.info.device == marked_device(info.device) =>
            {
                let mut unmarked = entry.clone();
                unmarked.info.device = info.device;
                match self.importer.compare(record, &unmarked, begun) {
                    Change::Same => Change::MetadataOnly,
                    change => change,
                }
            }
            _ => self.importer.compare(record, entry, begun),
        }
    }
}
