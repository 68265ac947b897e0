//! A part of a snapshot: what most commands work on.

use crate::format::snapshot::Source;
use crate::store::{Error, Repository};

use super::catalogue::SnapshotInfo;
use super::monitor::{Monitor, Problem, Severity, Told};
use super::vfs::read::{Child, Vfs};

/// A snapshot, or a part of one.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The snapshot.
    pub snapshot: &'a SnapshotInfo,
    /// The absolute, clean path of a folder or file; the backed-up root when `None`.
    pub path: Option<&'a [u8]>,
}

impl Part<'_> {
    /// Returns the source that the snapshot has.
    pub(super) fn source(&self) -> Result<&Source, Error> {
        let malformed = || Error::malformed(&format!("snapshot {}", self.snapshot.id), "it has no source");
        self.snapshot.header.source().ok_or_else(malformed)
    }

    /// Opens the view, and finds the entry that the part begins with.
    pub(super) fn open<'r>(&self, repository: &'r Repository) -> Result<(Vfs<'r, Repository>, Child), Error> {
        let source = self.source()?;
        let vfs = Vfs::open(repository, source)?;
        let path = self.path.unwrap_or(&source.importer.directory);
        let child = vfs.child(path)?.ok_or_else(|| Error::NoPath { path: path.to_vec() })?;
        Ok((vfs, child))
    }
}

/// Reports what went wrong at a path.
pub(super) fn report(monitor: &dyn Monitor, path: &[u8], error: &(dyn std::error::Error + 'static)) {
    let Told { message, kind } = Told::of(error);
    monitor.problem(&Problem { severity: Severity::Error, path: path.into(), message, kind });
}
