//! A repair run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::{Cancel, Id};
use crate::store::{Changes, Error, Exclusive, PackCopy, Repository, look_at_any};

use super::super::monitor::Monitor;
use super::entries::Entries;
use super::states::adopt;

/// How a repair is done.
#[derive(Clone, Debug, Default)]
pub struct RepairOptions {
    /// Whether anything is changed; otherwise the report says what would be.
    pub apply: bool,
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
    let (mut exclusive, damaged) = if options.apply {
        let exclusive = Exclusive::acquire(repository, false, false)?;
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
    monitor.phase("snapshots");
    let mut changes = Changes::new(repository.spills())?;
    let copy = options.apply.then(|| PackCopy::new(repository));
    let mut entries = Entries::new(repository, copy, &mut changes, options, monitor);
    entries.all()?;
    (report.entry_count, report.lost_entry_count) = entries.finish()?;
    if let Some(exclusive) = exclusive.as_mut() {
        exclusive.commit(changes)?;
    }
    report.duration = begun.elapsed();
    Ok(report)
}
