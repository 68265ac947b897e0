//! Bringing the snapshots of one store into another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::{Cancel, Id, RawString};
use crate::format::blob::BlobType;
use crate::format::snapshot::Header;
use crate::format::state::Delete;
use crate::store::blob::BlobSource;
use crate::store::{
    ArchiveWriter, CheckpointPolicy, Error, KnownSet, Repository, Session, Writer, WriterStats,
};

use super::super::catalogue::SnapshotInfo;
use super::super::monitor::{Counter, Event, Monitor, Problem, Severity, message_of};
use super::copied::Copied;
use super::copy::{copy_as_is, copy_into};
use super::reach::Reach;

/// How a synchronisation is done.
#[derive(Clone, Debug)]
pub struct SyncOptions {
    /// Memory for contents and sorting, in bytes.
    pub memory: u64,
    /// How often a run makes itself resumable.
    pub checkpoints: CheckpointPolicy,
    /// Ends the run early when set.
    pub cancel: Cancel,
}

impl Default for SyncOptions {
    fn default() -> Self {
        Self { memory: 256 << 20, checkpoints: CheckpointPolicy::default(), cancel: Cancel::new() }
    }
}

/// What a synchronisation did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SyncReport {
    /// Snapshots copied.
    pub copied: Vec<Id>,
    /// Snapshots that had been removed there and are live again.
    pub revived: Vec<Id>,
    /// Snapshots that were there already.
    pub present: Vec<Id>,
    /// Snapshots whose signature was cleared.
    pub unsigned: Vec<Id>,
    /// Snapshots that stay behind, since something of them is damaged or missing.
    pub damaged: Vec<Id>,
    /// What was stored.
    pub stats: WriterStats,
    /// How long it took.
    pub duration: Duration,
}

/// Copies snapshots of one store into another, each committed by itself. One that is damaged stays behind, which is
/// reported; the others are copied.
pub fn sync(
    from: &Repository,
    to: &Arc<Repository>,
    snapshots: &[SnapshotInfo],
    options: &SyncOptions,
    monitor: &dyn Monitor,
) -> Result<SyncReport, Error> {
    let begun = Instant::now();
    let mut copied = Copied::new(to.spills());
    let mut report = SyncReport::default();
    monitor.phase("sync");
    let there = to.catalogue();
    let missing = snapshots.iter().filter(|info| !there.has_snapshot(&info.id));
    monitor.expect(Counter::Items, missing.map(SnapshotInfo::item_count).sum());
    for info in snapshots {
        let one = One { from, to, info, options, monitor };
        match one.bring(&mut copied, &mut report) {
            Ok(()) => {}
            Err(error) if error.is_damage() => {
                let message = format!("snapshot {} was not copied: {}", info.id, message_of(&error));
                monitor.problem(&Problem { severity: Severity::Error, path: RawString::new(), message });
                report.damaged.push(info.id);
                // What was copied of it was never committed: the next ones cannot refer to it.
                copied = Copied::new(to.spills());
            }
            Err(error) => return Err(error),
        }
    }
    report.duration = begun.elapsed();
    Ok(report)
}

struct One<'a> {
    from: &'a Repository,
    to: &'a Arc<Repository>,
    info: &'a SnapshotInfo,
    options: &'a SyncOptions,
    monitor: &'a dyn Monitor,
}

impl One<'_> {
    fn bring(&self, copied: &mut Copied, report: &mut SyncReport) -> Result<(), Error> {
        let id = self.info.id;
        let catalogue = self.to.catalogue();
        if catalogue.has_snapshot(&id) {
            let there = super::super::catalogue::header(self.to, &id)?;
            if !same_snapshot(&there, &self.info.header) {
                return Err(Error::Collision { id });
            }
            report.present.push(id);
            return Ok(());
        }
        let removed = catalogue.removed_at(&id).is_some();
        let mut writer = Writer::open(self.to, id, self.options.checkpoints, None)?;
        copied.look(self.to);
        if removed {
            let after = catalogue.colouring_state(&id).and_then(|state| catalogue.newest_descendant(&state));
            writer.take_back(vec![Delete::snapshot_colour(id)], after);
        }
        let stands = removed && self.is_whole_there(&writer)?;
        let unsigned = !stands && self.copy(&mut writer, copied, removed)?;
        add(&mut report.stats, &writer.commit()?);
        // What is reported is confirmed: the state may have lost to one that nobody could see before.
        self.to.refresh_after_commit().map_err(|error| match error {
            crate::store::OpenError::Store(error) => error,
            other => Error::malformed("the store after the commit", &other.to_string()),
        })?;
        copied.look(self.to);
        if !self.to.catalogue().has_snapshot(&id) {
            return Err(Error::NotRevived { id });
        }
        self.monitor.event(&Event::Committed { snapshot: id });
        if removed {
            report.revived.push(id);
        } else {
            report.copied.push(id);
        }
        if unsigned {
            report.unsigned.push(id);
        }
        Ok(())
    }

    /// Copies the snapshot; returns whether it lost its signature.
    fn copy(&self, writer: &mut Writer, so_far: &Copied, removed: bool) -> Result<bool, Error> {
        let id = self.info.id;
        let options = self.options;
        let copied =
            copy_into(self.from, self.info, writer, so_far, options.memory, &options.cancel, self.monitor)?;
        if removed {
            // The header that is still there leads to what is not: it goes.
            let places = self.to.catalogue().find_any(BlobType::SNAPSHOT, &id)?;
            let old = places.iter().map(|place| Delete::location(BlobType::SNAPSHOT, id, place.packfile));
            writer.take_back(old.collect(), None);
        }
        writer.put_header_anew(&copied.header.encode())?;
        Ok(copied.unsigned)
    }

    /// Returns whether everything a removed snapshot refers to is still there.
    fn is_whole_there(&self, writer: &Writer) -> Result<bool, Error> {
        let Ok(header) = super::super::catalogue::header(self.to, &self.info.id) else { return Ok(false) };
        if !same_snapshot(&header, &self.info.header) {
            return Err(Error::Collision { id: self.info.id });
        }
        let seen = KnownSet::new(self.to.spills());
        let catalogue = self.to.catalogue();
        let mut each = |kind, id: Id, _| {
            if !catalogue.has(kind, &id)? {
                return Err(Error::Missing { kind, id });
            }
            writer.rely(kind, &id)
        };
        match (Reach { repository: self.to, seen: &seen, each: &mut each }).snapshot(&header) {
            Ok(()) => Ok(true),
            Err(error) if error.is_damage() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Returns whether two headers describe one snapshot: everything but what a copy makes anew is equal.
pub(super) fn same_snapshot(a: &Header, b: &Header) -> bool {
    let bare = |header: &Header| {
        let mut bare = header.clone();
        bare.identity = crate::format::snapshot::Identity::default();
        for source in bare.sources.iter_mut().flatten() {
            source.root = crate::format::snapshot::Roots::default();
            source.indexes = None;
            source.summary = crate::format::summary::Summary::default();
        }
        bare
    };
    bare(a) == bare(b)
}

fn add(all: &mut WriterStats, one: &WriterStats) {
    all.blob_count += one.blob_count;
    all.plain_bytes += one.plain_bytes;
    all.stored_bytes += one.stored_bytes;
    all.packfile_count += one.packfile_count;
    all.packfile_bytes += one.packfile_bytes;
}

/// Puts the snapshots of stores into an archive in the making.
#[derive(Debug)]
pub struct ArchiveExport<'a> {
    archive: &'a ArchiveWriter,
    options: &'a SyncOptions,
    monitor: &'a dyn Monitor,
    headers: std::collections::HashMap<Id, Header>,
    /// How many items the snapshots of all stores so far hold.
    expected: u64,
    report: SyncReport,
}

impl<'a> ArchiveExport<'a> {
    /// Begins with an empty archive.
    pub fn new(archive: &'a ArchiveWriter, options: &'a SyncOptions, monitor: &'a dyn Monitor) -> Self {
        monitor.phase("archive");
        Self {
            archive,
            options,
            monitor,
            headers: std::collections::HashMap::new(),
            expected: 0,
            report: SyncReport::default(),
        }
    }

    /// Adds snapshots of a store. An id that came from another store already must stand for the same snapshot.
    pub fn add(&mut self, from: &Repository, snapshots: &[SnapshotInfo]) -> Result<(), Error> {
        let so_far = Copied::new(self.archive.spills());
        let seen = KnownSet::new(self.archive.spills());
        let new = snapshots.iter().filter(|info| !self.headers.contains_key(&info.id));
        self.expected += new.map(SnapshotInfo::item_count).sum::<u64>();
        let same_keys = from.mac(b"same key") == crate::store::blob::BlobSink::mac(self.archive, b"same key");
        if !same_keys {
            self.monitor.estimate(Counter::Items, self.expected);
        }
        for info in snapshots {
            if let Some(there) = self.headers.get(&info.id) {
                if !same_snapshot(there, &info.header) {
                    return Err(Error::Collision { id: info.id });
                }
                self.report.present.push(info.id);
                continue;
            }
            let (cancel, memory) = (&self.options.cancel, self.options.memory);
            if same_keys {
                copy_as_is(from, info, self.archive, &seen, cancel, self.monitor)?;
            } else {
                let copied = copy_into(from, info, self.archive, &so_far, memory, cancel, self.monitor)?;
                if copied.unsigned {
                    self.report.unsigned.push(info.id);
                }
                super::super::backup::put_header(self.archive, info.id, &copied.header.encode())?;
            }
            self.headers.insert(info.id, info.header.clone());
            self.report.copied.push(info.id);
        }
        Ok(())
    }

    /// Returns what was copied. The archive is not committed by this, and its snapshots do not exist before
    /// ([`commit_archive`](super::super::commit_archive)).
    pub fn finish(self) -> SyncReport {
        self.report
    }
}
