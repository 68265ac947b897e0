//! A maintenance run.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::{Cancel, Id, Timestamp};
use crate::format::blob::BlobType;
use crate::format::state::Delete;
use crate::store::blob::Lane;
use crate::store::{Changes, Error, Exclusive, KnownSet, PackCopy, Repository, look};

use super::super::monitor::{Counter, Monitor};
use super::super::retrieval::archived;
use super::census::Census;
use super::jobs::Jobs;
use super::mark::Marker;
use super::plan::{Plan, Terms};
use super::safety::Safety;
use super::states::States;

/// How maintenance is done.
#[derive(Clone, Debug)]
pub struct MaintenanceOptions {
    /// Whether anything is changed; otherwise the report says what would be.
    pub apply: bool,
    /// How long a packfile stays coloured before it is deleted. One that no state knows is not coloured before it is as
    /// old, and never before it is a day old.
    pub grace: Duration,
    /// The most bytes that are copied out of packfiles that hold mostly garbage; 0 copies nothing.
    pub max_repack: u64,
    /// States are folded into one where there are more than this; `None` never folds.
    pub fold_above: Option<usize>,
    /// Writes states of version 1.1.0 into a store that holds only older ones.
    pub upgrade: bool,
    /// When the run takes place; `None` asks the clock.
    pub now: Option<Timestamp>,
    /// Memory for sorting, in bytes.
    pub memory: u64,
    /// Ends the run early when set.
    pub cancel: Cancel,
}

/// States are folded where there are more than this: a request each for a client without a cache.
pub const FOLD_ABOVE: usize = 64;

/// What no state knows is spared for this long, however short the grace period is: it may be of a run that is under way
/// and whose lock was lost. A run names what it stored within minutes, by its checkpoints.
const UNKNOWN: Duration = Duration::from_hours(24);

impl Default for MaintenanceOptions {
    fn default() -> Self {
        Self {
            apply: false,
            grace: Duration::from_hours(7 * 24),
            max_repack: 1 << 30,
            fold_above: Some(FOLD_ABOVE),
            upgrade: false,
            now: None,
            memory: 256 << 20,
            cancel: Cancel::new(),
        }
    }
}

/// What becomes of a packfile.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fate {
    /// Nothing needs it: it is coloured, and deleted after the grace period.
    Coloured,
    /// It is mostly garbage: what is needed is copied, then it is coloured.
    Repacked,
    /// It was coloured a grace period ago: it is deleted.
    Swept,
    /// An earlier run forgot it, but its file was not deleted: it is now.
    Leftover,
    /// It was coloured, and is needed again.
    Revived,
    /// It is coloured, and its grace period is not over.
    Waiting,
    /// No snapshot needs it, but a recent checkpoint brought it.
    Spared,
    /// No state knows it, but it is not older than the grace period, or than a day: somebody may be about to name it.
    Young,
    /// No state knows it, and it cannot be read: it is left alone.
    Unreadable,
    /// It was to be deleted, but the storage holds on to it.
    Held,
    /// Something needed in it was read, and is damaged: it is left alone.
    Damaged,
    /// It was to go, but holds something needed of which no other copy could be read: it is left alone.
    Kept,
}

/// A packfile that does not simply stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PackFate {
    /// Its id.
    pub id: Id,
    /// The length of its file in bytes; 0 when there is none.
    pub size: u64,
    /// What becomes of it.
    pub fate: Fate,
}

/// What maintenance did, or would do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MaintenanceReport {
    /// Live snapshots, all of them followed.
    pub snapshot_count: u64,
    /// Packfiles that states know.
    pub packfile_count: u64,
    /// Bytes of all packfiles.
    pub packfile_bytes: u64,
    /// Bytes of blobs that snapshots need.
    pub needed_bytes: u64,
    /// Packfiles that do not simply stay.
    pub fates: Vec<PackFate>,
    /// Bytes of packfiles deleted, or to be deleted.
    pub freed_bytes: u64,
    /// Bytes copied into new packfiles, or to be copied.
    pub copied_bytes: u64,
    /// New packfiles.
    pub new_packfile_count: u64,
    /// States that count: those that a client without a cache reads.
    pub state_count: u64,
    /// States folded into one, or to be folded.
    pub folded_count: u64,
    /// States folded by earlier runs that were deleted, or are to be, a grace period having passed.
    pub deleted_states: u64,
    /// Folded states that are kept until their grace period is over.
    pub waiting_states: u64,
    /// Folded states that were to be deleted, but the storage holds on to them.
    pub held_states: u64,
    /// States are not folded, because there are some with entries of kinds that this program does not know.
    pub strange_states: bool,
    /// Whether the store holds only states of version 1.0.0, so that applying needs an upgrade.
    pub needs_upgrade: bool,
    /// How long it took.
    pub duration: Duration,
}

impl MaintenanceReport {
    /// Returns how many packfiles have a fate, and their bytes.
    pub fn of(&self, fate: Fate) -> (u64, u64) {
        let with = self.fates.iter().filter(|pack| pack.fate == fate);
        with.fold((0, 0), |(count, bytes), pack| (count + 1, bytes + pack.size))
    }
}

/// Finds what no snapshot needs, and with `apply` makes room.
///
/// # Errors
/// Nothing is changed when a snapshot lacks a blob, when states are damaged or gone ([`Error::Incomplete`]), when a
/// snapshot has an index of an unknown name, or when somebody else holds a lock.
pub fn maintain(
    repository: &Arc<Repository>,
    options: &MaintenanceOptions,
    monitor: &dyn Monitor,
) -> Result<MaintenanceReport, Error> {
    let begun = Instant::now();
    let mut exclusive =
        if options.apply { Some(Exclusive::acquire(repository, true, options.upgrade)?) } else { None };
    let catalogue = match &exclusive {
        Some(exclusive) => exclusive.catalogue(),
        None => look(repository)?,
    };
    let now = options.now.unwrap_or_else(Timestamp::now).unix_nanos();
    let listed = exclusive.as_ref().filter(|_| options.now.is_none()).and_then(Exclusive::taken);
    // As a state's own time: a clock that is behind must not make what is marked now look old.
    let stamp = now.max(catalogue.newest_time());
    let terms = terms(options, now, listed.map_or(now, |time| Timestamp::from(time).unix_nanos()));
    let mut report =
        MaintenanceReport { needs_upgrade: catalogue.only_old_states(), ..MaintenanceReport::default() };
    monitor.phase("packfiles");
    let mut census = Census::take(repository, catalogue)?;
    let needed = KnownSet::new(repository.spills());
    monitor.phase("snapshots");
    report.snapshot_count = Marker::new(repository, &mut census, &needed, monitor, &options.cancel).all()?;
    monitor.phase("plan");
    let archived = archived(repository)?;
    census.settle(&needed, &archived)?;
    census.count_blobs()?;
    let plan = Plan::make(repository, &census, &archived, terms)?;
    describe(&mut report, &census, plan.fates);
    if let Some(exclusive) = exclusive.as_mut() {
        let run = Applying {
            repository,
            census: &census,
            needed: &needed,
            archived: &archived,
            options,
            monitor,
            stamp,
        };
        run.apply(exclusive, &plan.repack, &mut report)?;
    } else {
        report.copied_bytes = plan.repack.iter().map(|pack| census.packs[*pack].used_bytes).sum();
    }
    States { repository, options, monitor, stamp, cutoff: terms.cutoff }
        .tidy(exclusive.as_mut(), &mut report)?;
    report.freed_bytes = report.of(Fate::Swept).1 + report.of(Fate::Leftover).1;
    report.duration = begun.elapsed();
    Ok(report)
}

/// Returns what the plan is made by; `now` is the time by our clock, `listed` by that of the storage.
fn terms(options: &MaintenanceOptions, now: i64, listed: i64) -> Terms {
    let nanos = |length: Duration| i64::try_from(length.as_nanos()).unwrap_or(i64::MAX);
    let unknown = nanos(options.grace.max(UNKNOWN));
    Terms {
        cutoff: now.saturating_sub(nanos(options.grace)),
        unknown: now.saturating_sub(unknown),
        unknown_listed: listed.saturating_sub(unknown),
        max_repack: options.max_repack,
    }
}

fn describe(report: &mut MaintenanceReport, census: &Census, fates: Vec<PackFate>) {
    let known = || census.packs.iter().filter(|pack| pack.known);
    report.packfile_count = known().count() as u64;
    let listed = known().filter_map(|pack| pack.size);
    report.packfile_bytes = listed.chain(census.strangers.values().map(|stranger| stranger.size)).sum();
    report.needed_bytes = known().map(|pack| pack.used_bytes).sum();
    report.fates = fates;
}

/// What applying a plan needs.
struct Applying<'a> {
    repository: &'a Repository,
    census: &'a Census,
    needed: &'a KnownSet,
    archived: &'a HashSet<Id>,
    options: &'a MaintenanceOptions,
    monitor: &'a dyn Monitor,
    /// When what is marked was marked, Unix nanoseconds.
    stamp: i64,
}

impl Applying<'_> {
    fn apply(
        &self,
        exclusive: &mut Exclusive,
        repack: &[usize],
        report: &mut MaintenanceReport,
    ) -> Result<(), Error> {
        let mut changes = Changes::new(self.repository.spills())?;
        self.secure(repack, &mut changes, report)?;
        for pack in &report.fates {
            match pack.fate {
                Fate::Revived => changes.delete(Delete::packfile_colour(pack.id)),
                Fate::Coloured | Fate::Repacked => changes.colour_packfile(pack.id, self.stamp),
                Fate::Swept => {
                    changes.delete(Delete::packfile(pack.id));
                    changes.delete(Delete::packfile_colour(pack.id));
                }
                _ => {}
            }
        }
        if self.options.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        self.monitor.phase("commit");
        exclusive.commit(changes)?;
        // Only now, that no state promises them any more.
        self.monitor.phase("delete");
        for pack in &mut report.fates {
            if !matches!(pack.fate, Fate::Swept | Fate::Leftover) {
                continue;
            }
            if self.options.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            if !exclusive.delete_packfile(pack.id)? {
                pack.fate = Fate::Held;
            }
        }
        Ok(())
    }

    /// Sees to it that what is needed in packfiles that are to go is whole elsewhere: it is read where it stays, or
    /// copied. A packfile of which that cannot be said stays.
    fn secure(
        &self,
        repack: &[usize],
        changes: &mut Changes,
        report: &mut MaintenanceReport,
    ) -> Result<(), Error> {
        let going = report.fates.iter().filter(|pack| matches!(pack.fate, Fate::Coloured | Fate::Repacked));
        let going: HashSet<usize> =
            going.filter_map(|pack| self.census.catalogue.pack_ordinal(&pack.id)).collect();
        if going.is_empty() {
            return Ok(());
        }
        let mut safety = Safety {
            repository: self.repository,
            census: self.census,
            needed: self.needed,
            monitor: self.monitor,
            cancel: &self.options.cancel,
            archived: self.archived,
            going,
            safe: KnownSet::new(self.repository.spills()),
            unread: BTreeMap::new(),
        };
        self.monitor.phase("verify");
        safety.verify(self.options.memory / 8)?;
        if !repack.is_empty() {
            self.monitor.phase("copy");
            self.copy(repack, &mut safety, changes, report)?;
        }
        let losers = safety.losers()?;
        for pack in &mut report.fates {
            let ordinal = self.census.catalogue.pack_ordinal(&pack.id);
            if ordinal.is_some_and(|ordinal| losers.contains(&ordinal)) {
                pack.fate = Fate::Kept;
            }
        }
        for (ordinal, _) in safety.unread.into_iter().filter(|(_, damaged)| *damaged) {
            let id = self.census.catalogue.pack_id(ordinal);
            match report.fates.iter_mut().find(|pack| pack.id == id) {
                Some(pack) if pack.fate == Fate::Kept => pack.fate = Fate::Damaged,
                Some(_) => {}
                None => {
                    let size = self.census.packs[ordinal].size.unwrap_or(0);
                    report.fates.push(PackFate { id, size, fate: Fate::Damaged });
                }
            }
        }
        Ok(())
    }

    /// Copies what is needed out of some packfiles, unless it is whole in one that stays.
    fn copy(
        &self,
        repack: &[usize],
        safety: &mut Safety<'_>,
        changes: &mut Changes,
        report: &mut MaintenanceReport,
    ) -> Result<(), Error> {
        let mut jobs = Jobs::new(self.repository, &self.census.catalogue, self.options.memory / 8);
        safety.unsafe_in(&repack.iter().copied().collect(), &mut jobs)?;
        let mut copy = PackCopy::new(self.repository);
        jobs.run(|(kind, id, place), ahead| {
            if self.options.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            // Of two copies the second need not be there, unless the first was damaged.
            if safety.safe.contains(*kind, id)? {
                return Ok(());
            }
            let metadata = *kind != BlobType::CHUNK || self.census.packs[place.pack as usize].metadata;
            let lane = if metadata { Lane::Metadata } else { Lane::Data };
            match copy.copy(*kind, *id, place, ahead, lane, changes) {
                Ok(()) => {
                    safety.safe.insert(*kind, *id)?;
                    report.copied_bytes += u64::from(place.length);
                    self.monitor.count(Counter::Bytes, u64::from(place.length));
                }
                Err(error) if error.is_damage() => safety.note(place, &error),
                Err(error) => return Err(error),
            }
            Ok(())
        })?;
        let (packs, bytes) = copy.finish(changes)?;
        self.monitor.count(Counter::StoredBytes, bytes);
        report.new_packfile_count = packs;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_goes_ahead_does_not_age_what_no_state_knows() {
        const HOUR: i64 = 3600 * 1_000_000_000;
        let options = MaintenanceOptions { grace: Duration::ZERO, ..MaintenanceOptions::default() };
        let terms = terms(&options, 100 * HOUR, 30 * HOUR);
        assert_eq!((terms.cutoff, terms.unknown, terms.unknown_listed), (100 * HOUR, 76 * HOUR, 6 * HOUR));
        let week = super::terms(&MaintenanceOptions::default(), 200 * HOUR, 200 * HOUR);
        assert_eq!((week.cutoff, week.unknown, week.unknown_listed), (32 * HOUR, 32 * HOUR, 32 * HOUR));
    }
}
