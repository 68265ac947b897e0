//! A repair run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::{Cancel, Id};
use crate::format::blob::BlobType;
use crate::store::{Changes, Error, Exclusive, PackCopy, Repository, look_at_any};

use super::super::monitor::Monitor;
use super::entries::Entries;
use super::packs::{Renewal, Suspects, note_rest};
use super::states::adopt;

/// How a repair is done.
#[derive(Clone, Debug, Default)]
pub struct RepairOptions {
    /// Whether anything is changed; otherwise the report says what would be.
    pub apply: bool,
    /// Whether packfiles are left alone: states and trees only.
    pub fast: bool,
    /// Writes states of version 1.1.0 into a store that holds only older ones.
    pub upgrade: bool,
    /// Ends the run early when set.
    pub cancel: Cancel,
}

/// What a repair did, or would do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RepairReport {
    /// Packfiles that no state knew, and that one names now.
    pub adopted_count: u64,
    /// Their bytes.
    pub adopted_bytes: u64,
    /// Snapshots that are live again.
    pub snapshots: Vec<Id>,
    /// Packfiles that no state knows and that cannot be read, with the reason.
    pub unreadable: Vec<(Id, String)>,
    /// States that are damaged.
    pub damaged_states: Vec<Id>,
    /// Damaged states that were deleted, now that others name what they named.
    pub dropped_states: u64,
    /// Entries that trees name and that were stored again. Those of snapshots that are not live yet are not foreseen.
    pub entry_count: u64,
    /// Entries that trees name and that no dirpack holds either.
    pub lost_entry_count: u64,
    /// Whether packfiles were read.
    pub read_packs: bool,
    /// Packfiles that are in cold storage, and were not read.
    pub archived_count: u64,
    /// Packfiles that states name and that are not there.
    pub missing_packs: Vec<Id>,
    /// Packfiles in which something is damaged.
    pub damaged_packs: Vec<Id>,
    /// Their bytes.
    pub damaged_pack_bytes: u64,
    /// Those of them that stay in use, because they hold something that can neither be copied nor given up.
    pub stuck_packs: Vec<Id>,
    /// Blobs that were copied out of damaged packfiles.
    pub moved_count: u64,
    /// Their bytes, as they are stored.
    pub moved_bytes: u64,
    /// Locations that did not verify, and were forgotten.
    pub bad_location_count: u64,
    /// Blobs of which no copy is left that verifies.
    pub lost_blobs: Vec<(BlobType, Id)>,
    /// Blobs that earlier repairs gave up, and that no backup has stored again.
    pub given_up_count: u64,
    /// How long it took.
    pub duration: Duration,
}

/// Puts right what can be put right, with `apply`.
pub fn repair(
    repository: &Arc<Repository>,
    options: &RepairOptions,
    monitor: &dyn Monitor,
) -> Result<RepairReport, Error> {
    let begun = Instant::now();
    let mut report = RepairReport::default();
    let mut suspects = Suspects::default();
    if !options.fast {
        // Before the lock is taken: reading everything takes its time.
        monitor.phase("packfiles");
        repository.read_states()?;
        suspects.look(repository, options, monitor)?;
    }
    let (mut exclusive, damaged) = if options.apply {
        let exclusive = Exclusive::acquire(repository, false, options.upgrade)?;
        let damaged = exclusive.damaged_states().to_vec();
        (Some(exclusive), damaged)
    } else {
        (None, look_at_any(repository)?)
    };
    report.damaged_states = damaged.iter().filter(|(_, damaged)| *damaged).map(|(id, _)| *id).collect();
    monitor.phase("packfiles");
    let mut changes = Changes::new(repository.spills())?;
    adopt(repository, &mut changes, &mut report, options, monitor)?;
    if let Some(exclusive) = exclusive.as_mut() {
        exclusive.commit(changes)?;
        report.dropped_states = exclusive.drop_damaged_states()?;
    }
    if !options.fast {
        renew(repository, exclusive.as_mut(), suspects, &mut report, options, monitor)?;
    }
    monitor.phase("snapshots");
    let mut changes = Changes::new(repository.spills())?;
    let copy = options.apply.then(|| PackCopy::new(repository));
    let mut entries = Entries::new(repository, copy, &mut changes, options, monitor);
    entries.all()?;
    (report.entry_count, report.lost_entry_count) = entries.finish()?;
    if let Some(exclusive) = exclusive.as_mut() {
        exclusive.commit(changes)?;
    }
    // What was lost with a packfile may have come back from a dirpack.
    let catalogue = repository.catalogue();
    let mut lost = std::mem::take(&mut report.lost_blobs);
    for (kind, id) in lost.drain(..) {
        if !options.apply || kind == BlobType::SNAPSHOT || !catalogue.has(kind, &id)? {
            report.lost_blobs.push((kind, id));
        }
    }
    report.duration = begun.elapsed();
    Ok(report)
}

/// Takes damaged packfiles out of use: those that were found, and what came to light since.
fn renew(
    repository: &Arc<Repository>,
    exclusive: Option<&mut Exclusive>,
    mut suspects: Suspects,
    report: &mut RepairReport,
    options: &RepairOptions,
    monitor: &dyn Monitor,
) -> Result<(), Error> {
    monitor.phase("packfiles");
    suspects.look(repository, options, monitor)?;
    note_rest(repository, &suspects, report)?;
    let catalogue = repository.catalogue();
    let mut changes = Changes::new(repository.spills())?;
    let copy = options.apply.then(|| PackCopy::new(repository));
    Renewal::new(repository, &catalogue, &suspects, options, monitor)?.run(copy, &mut changes, report)?;
    exclusive.map_or(Ok(()), |exclusive| exclusive.commit(changes))
}
