//! Storing the entries that trees name and that exist nowhere.

use crate::base::Id;
use crate::format::blob::BlobType;
use crate::format::dirpack::FrameReader;
use crate::format::snapshot::Source;
use crate::store::blob::BlobSource;
use crate::store::{Changes, Error, KnownSet, PackCopy, Repository};

use super::super::catalogue;
use super::super::maintenance::stream_error;
use super::super::monitor::{Counter, Monitor, Problem, Severity, message_of};
use super::super::tree::{Tree, TreeKind};
use super::super::vfs::read::ObjectReader;
use super::run::RepairOptions;

/// Finds dangling tree values, and their entries.
pub(super) struct Entries<'a> {
    repository: &'a Repository,
    copy: Option<PackCopy<'a>>,
    changes: &'a mut Changes,
    /// Entries that were stored, or would be; dirpacks that were read.
    restored: KnownSet,
    options: &'a RepairOptions,
    monitor: &'a dyn Monitor,
    count: u64,
    lost: u64,
}

impl<'a> Entries<'a> {
    pub(super) fn new(
        repository: &'a Repository,
        copy: Option<PackCopy<'a>>,
        changes: &'a mut Changes,
        options: &'a RepairOptions,
        monitor: &'a dyn Monitor,
    ) -> Self {
        let restored = KnownSet::new(repository.spills());
        Self { repository, copy, changes, restored, options, monitor, count: 0, lost: 0 }
    }

    /// Looks at every live snapshot. One that cannot be read is a problem told, not the end of the repair.
    pub(super) fn all(&mut self) -> Result<(), Error> {
        for id in self.repository.catalogue().snapshots() {
            let looked = catalogue::header(self.repository, &id)
                .and_then(|header| header.sources().iter().try_for_each(|source| self.source(source)));
            match looked {
                Err(error) if error.is_damage() => self.monitor.problem(&Problem {
                    severity: Severity::Error,
                    path: crate::base::RawString::default(),
                    message: format!("snapshot {} cannot be followed: {}", id.short(), message_of(&error)),
                    kind: None,
                }),
                other => other?,
            }
        }
        Ok(())
    }

    /// Puts what is open; returns how many entries were stored, and how many are lost.
    pub(super) fn finish(self) -> Result<(u64, u64), Error> {
        if let Some(copy) = self.copy {
            copy.finish(self.changes)?;
        }
        Ok((self.count, self.lost))
    }

    fn source(&mut self, source: &Source) -> Result<(), Error> {
        let mut dangling = 0;
        self.each_value(TreeKind::VFS, &source.root.root, &mut |this, id| {
            dangling += u64::from(!this.is_there(&id)?);
            Ok(())
        })?;
        if dangling == 0 {
            return Ok(());
        }
        for index in source.indexes.iter().flatten().filter(|index| index.name.as_bytes() == b"dirpack") {
            self.each_value(TreeKind::INDEX, &index.value, &mut |this, id| this.dirpack(&id))?;
        }
        let mut lost = 0;
        self.each_value(TreeKind::VFS, &source.root.root, &mut |this, id| {
            lost += u64::from(!this.is_there(&id)?);
            Ok(())
        })?;
        self.lost += lost;
        Ok(())
    }

    fn is_there(&self, id: &Id) -> Result<bool, Error> {
        let kind = BlobType::VFS_ENTRY;
        Ok(self.restored.contains(kind, id)? || self.repository.has(kind, id)?)
    }

    fn each_value(
        &mut self,
        kind: TreeKind,
        root: &Id,
        each: &mut dyn FnMut(&mut Self, Id) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let tree = Tree::open(self.repository, kind, root)?;
        let mut cursor = tree.scan()?;
        while let Some((_, id)) = cursor.next()? {
            if self.options.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            each(self, id)?;
        }
        Ok(())
    }

    /// Stores the entries of a dirpack that are not there.
    fn dirpack(&mut self, id: &Id) -> Result<(), Error> {
        if !self.restored.insert(BlobType::OBJECT, *id)? {
            return Ok(());
        }
        let mut frames = FrameReader::new(ObjectReader::open(self.repository, id)?);
        while let Some(frame) = frames.next_frame().map_err(stream_error)? {
            // The id is computed: a frame's own word for it proves nothing.
            let entry = self.repository.mac(frame.entry);
            if self.is_there(&entry)? {
                continue;
            }
            if let Some(copy) = self.copy.as_mut() {
                copy.add(BlobType::VFS_ENTRY, entry, frame.entry, self.changes)?;
            }
            self.restored.insert(BlobType::VFS_ENTRY, entry)?;
            self.count += 1;
            self.monitor.count(Counter::Blobs, 1);
        }
        Ok(())
    }
}
