//! The catalogue as the rest of the store asks it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::UNIX_EPOCH;

use super::super::error::Error;
use super::super::quick::Quick;
use super::super::state::StateFacts;
use super::aggregate::{Aggregate, Kept, order};
use super::folds::Folds;
use super::tables::{Row, Tier, scan};
use crate::base::Id;
use crate::connector::Listed;
use crate::format::blob::BlobType;
use crate::format::ptar::{PACKFILE_ID, STATE_ID};
use crate::format::state::{Folded, Location, PackEntry, StateEntry};
use crate::format::version::Version;

/// Where one copy of a blob is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The packfile's ordinal in this catalogue.
    pub pack: u32,
    /// The packfile's id.
    pub packfile: Id,
    /// Offset in the blob area, in bytes.
    pub offset: u64,
    /// Encoded length in bytes.
    pub length: u32,
}

/// A state that was merged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) struct Merged {
    pub(in super::super) id: Id,
    pub(in super::super) size: u64,
    pub(in super::super) seen: Seen,
    pub(in super::super) facts: StateFacts,
    /// Another state took its place: it counts no more, listed or not. The rows that it brought count as that one's.
    pub(in super::super) folded: bool,
}

/// A state that counts, with what it does.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Applied {
    pub(in super::super) state: Merged,
    /// It brought a snapshot.
    pub(in super::super) with_snapshot: bool,
    /// It takes something back.
    pub(in super::super) with_deletes: bool,
}

/// What a listing said of a state when its trailer was last compared.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(in super::super) struct Seen {
    /// Unix nanoseconds.
    pub(in super::super) modified: Option<i64>,
    pub(in super::super) tag: Option<u64>,
}

impl Seen {
    pub(super) fn of(listed: &Listed) -> Self {
        let modified = listed.modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Self { modified: modified.and_then(|since| i64::try_from(since.as_nanos()).ok()), tag: listed.tag }
    }

    /// Returns whether two listings show one content. A tag says more than a time: a store that was copied keeps
    /// its tags, and what is put anew within one tick of the clock gets another.
    pub(super) fn same(&self, other: &Self) -> bool {
        match (self.tag, other.tag) {
            (Some(a), Some(b)) => a == b,
            (None, None) => self.modified.is_some() && self.modified == other.modified,
            _ => false,
        }
    }
}

/// The aggregated catalogue of one store, immutable once loaded.
#[derive(Debug)]
pub struct Catalogue {
    pub(super) tiers: Vec<Tier>,
    /// Packfile ids by ordinal.
    pub(super) packs: Vec<Id>,
    pub(super) ordinals: HashMap<Id, u32>,
    pub(super) states: Vec<Merged>,
    pub(super) aggregate: Aggregate,
    pub(super) folds: Folds,
    /// States that were read whole, and verified, when this was loaded.
    pub(super) fresh: HashSet<Id>,
    /// An archive's quick index, which stands in for the tables.
    pub(super) quick: Option<Quick>,
}

impl Catalogue {
    /// Makes the catalogue of an archive from its quick index.
    pub(in super::super) fn quick(quick: Quick) -> Self {
        let packs = vec![PACKFILE_ID];
        let ordinals = HashMap::from([(PACKFILE_ID, 0)]);
        let facts = StateFacts {
            version: Version::V1_1_0,
            parent: Id::ZERO,
            timestamp: 0,
            trailer: Id::ZERO,
            strange: false,
        };
        let states = vec![Merged { id: STATE_ID, size: 0, seen: Seen::default(), facts, folded: false }];
        let entries = quick.snapshots().map(|id| {
            StateEntry::Location(Location {
                kind: BlobType::SNAPSHOT,
                version: Version::V1_0_0,
                id,
                packfile: PACKFILE_ID,
                offset: 0,
                length: 0,
                flags: 0,
            })
        });
        let pack = StateEntry::Packfile(PackEntry { packfile: PACKFILE_ID, state: STATE_ID, when: 0 });
        let kept: Vec<Kept> =
            std::iter::once(pack).chain(entries).map(|entry| Kept { state: 0, entry }).collect();
        let folds = Folds::default();
        let aggregate = Aggregate::new(&states, &ordinals, &kept, &folds);
        let fresh = HashSet::new();
        Self { tiers: Vec::new(), packs, ordinals, states, aggregate, folds, fresh, quick: Some(quick) }
    }

    /// Returns every live place of a blob: in packfiles that are known and not coloured.
    pub fn find(&self, kind: BlobType, id: &Id) -> Result<Vec<Place>, Error> {
        let mut places = Vec::new();
        self.each_row(kind, id, &mut |row| {
            if self.aggregate.is_live(row.pack) && !self.aggregate.is_deleted(row) {
                self.add_place(row, &mut places);
            }
        })?;
        Ok(places)
    }

    /// Returns whether a blob has a live place.
    pub fn has(&self, kind: BlobType, id: &Id) -> Result<bool, Error> {
        Ok(!self.find(kind, id)?.is_empty())
    }

    /// Returns every place in packfiles that are known, coloured or not: what a reader may still try.
    pub fn find_any(&self, kind: BlobType, id: &Id) -> Result<Vec<Place>, Error> {
        let mut places = Vec::new();
        self.each_row(kind, id, &mut |row| {
            if self.aggregate.is_known(row.pack) && !self.aggregate.is_deleted(row) {
                self.add_place(row, &mut places);
            }
        })?;
        // Live ones first.
        places.sort_by_key(|place| !self.aggregate.is_live(place.pack));
        Ok(places)
    }

    /// Adds a place, unless there is one in that packfile: two states may name it.
    fn add_place(&self, row: &Row, places: &mut Vec<Place>) {
        if !places.iter().any(|place| place.pack == row.pack) {
            places.push(self.place(row));
        }
    }

    fn place(&self, row: &Row) -> Place {
        let packfile = self.packs[row.pack as usize];
        Place { pack: row.pack, packfile, offset: row.offset, length: row.length }
    }

    fn each_row(&self, kind: BlobType, id: &Id, each: &mut dyn FnMut(&Row)) -> Result<(), Error> {
        if let Some(quick) = &self.quick {
            return quick.find(kind, id, &mut |offset, length| {
                each(&Row { id: *id, kind, pack: 0, state: 0, offset, length });
            });
        }
        for tier in &self.tiers {
            tier.find(kind, id, &mut |row| {
                if (row.pack as usize) < self.packs.len() {
                    each(row);
                }
            })?;
        }
        Ok(())
    }

    /// Returns the bytes of a blob where the catalogue itself holds a copy; nothing else is read.
    pub(in super::super) fn copy(&self, kind: BlobType, id: &Id) -> Result<Option<Vec<u8>>, Error> {
        self.quick.as_ref().map_or(Ok(None), |quick| quick.copy(kind, id))
    }

    /// Returns the blobs of which a location in a packfile that is known was deleted: they may have others.
    pub(crate) fn deleted_blobs(&self) -> impl Iterator<Item = (BlobType, Id)> + '_ {
        self.aggregate.deleted_blobs()
    }

    /// Returns whether any state deleted a packfile or a location.
    pub(in super::super) fn has_deletes(&self) -> bool {
        self.aggregate.has_deletes()
    }

    /// Returns the live snapshots that only some states name, each with one of those.
    pub(in super::super) fn named_only_by(&self, states: &HashSet<Id>) -> Result<Vec<(Id, Id)>, Error> {
        let mut found = Vec::new();
        if self.quick.is_some() {
            return Ok(found);
        }
        for snapshot in self.snapshots() {
            let (mut inside, mut outside) = (None, false);
            self.each_row(BlobType::SNAPSHOT, &snapshot, &mut |row| {
                let Some(state) = self.states.get(row.state as usize) else { return };
                let into = self.folds.ordinal_of(&state.id).filter(|_| state.folded);
                let id = into.map_or(state.id, |fold| self.states[fold as usize].id);
                if states.contains(&id) {
                    inside = Some(id);
                } else {
                    outside = true;
                }
            })?;
            found.extend(inside.filter(|_| !outside).map(|state| (state, snapshot)));
        }
        Ok(found)
    }

    /// Returns whether this stands for a state that was not read.
    pub(in super::super) fn is_quick(&self) -> bool {
        self.quick.is_some()
    }

    /// Passes the type and id of every location to `each`: blobs with several come as often, deleted ones, too.
    pub fn each_blob(&self, each: &mut dyn FnMut(BlobType, &Id)) -> Result<(), Error> {
        if let Some(quick) = &self.quick {
            return quick.read_state()?.each_blob(each);
        }
        self.tiers.iter().try_for_each(|tier| tier.each(&mut |row| each(row.kind, &row.id)))
    }

    /// Returns the ids of the live snapshots, in byte order.
    pub fn snapshots(&self) -> Vec<Id> {
        self.aggregate.live_snapshots()
    }

    /// Returns whether a snapshot is live.
    pub fn has_snapshot(&self, id: &Id) -> bool {
        self.aggregate.is_live_snapshot(id)
    }

    /// Returns when a snapshot was coloured (removed), in Unix nanoseconds.
    pub fn removed_at(&self, snapshot: &Id) -> Option<i64> {
        self.aggregate.colour(BlobType::SNAPSHOT.0, snapshot)
    }

    /// Returns when a snapshot was committed, in Unix nanoseconds: the time of the newest state that names it.
    pub fn committed_at(&self, snapshot: &Id) -> Result<Option<i64>, Error> {
        let mut newest = None;
        self.each_row(BlobType::SNAPSHOT, snapshot, &mut |row| {
            let Some(state) = self.states.get(row.state as usize) else { return };
            // A state that took the place of others is younger than what it names.
            let when = if self.folds.is_fold(&state.id) {
                self.folds.time_of(snapshot).or_else(|| self.aggregate.introduced_at(row.pack))
            } else {
                None
            };
            newest = newest.max(Some(when.unwrap_or(state.facts.timestamp)));
        })?;
        Ok(newest)
    }

    /// Returns the ids of journal blobs in live packfiles.
    pub fn journals(&self) -> Vec<Id> {
        self.aggregate.journals()
    }

    /// Returns the ids of the merged states, those left out whose place another took.
    pub fn states(&self) -> impl Iterator<Item = Id> + '_ {
        self.counting().map(|state| state.id)
    }

    /// The states that count.
    fn counting(&self) -> impl Iterator<Item = &Merged> {
        self.states.iter().filter(|state| !state.folded)
    }

    /// Returns the states that count, in the order in which they apply.
    pub(in super::super) fn ordered_states(&self) -> Vec<Applied> {
        let applied = |ordinal: u32| {
            let (with_snapshot, with_deletes) = self.aggregate.nature_of(ordinal as usize);
            Applied { state: self.states[ordinal as usize], with_snapshot, with_deletes }
        };
        order(&self.states, &self.folds).into_iter().map(applied).collect()
    }

    /// Returns whether another state took the place of one, so that it may be gone and does not count where it is not.
    pub fn is_folded(&self, state: &Id) -> bool {
        self.folds.contains(state)
    }

    /// Returns which state took the place of another, and when that was taken first, in Unix nanoseconds.
    pub(in super::super) fn folded_into(&self, state: &Id) -> Option<(Id, i64)> {
        let fold = self.states.get(self.folds.ordinal_of(state)? as usize)?.id;
        Some((fold, self.folds.since(state)?))
    }

    /// Returns the time of a state whose place another took, in Unix nanoseconds.
    pub(in super::super) fn folded_time(&self, state: &Id) -> Option<i64> {
        self.folds.time_of(state)
    }

    /// Passes what is remembered of the states whose place one took to `each`.
    pub(in super::super) fn each_folded(&self, fold: &Id, each: &mut dyn FnMut(Folded)) {
        self.folds.each_of(fold, &self.states, each);
    }

    /// Returns whether all merged states are of version 1.0.0 (and there is one).
    pub fn only_old_states(&self) -> bool {
        self.counting().next().is_some()
            && self.counting().all(|state| state.facts.version == crate::format::version::Version::V1_0_0)
    }

    /// Returns the id of the newest state merged, the parent of the next; zero when there is none.
    pub fn newest(&self) -> Id {
        let newest = self.counting().max_by_key(|state| (state.facts.timestamp, state.id));
        newest.map_or(Id::ZERO, |state| state.id)
    }

    /// Returns a state from which `ancestor` can be reached through parents, the newest such, or `None`.
    pub fn newest_descendant(&self, ancestor: &Id) -> Option<Id> {
        let parents: BTreeMap<Id, Id> = self.counting().map(|s| (s.id, self.parent_of(s))).collect();
        let descends = |mut id: Id| {
            // As many steps as there are states: a cycle ends the walk.
            for _ in 0..=parents.len() {
                if id == *ancestor {
                    return true;
                }
                match parents.get(&id) {
                    Some(parent) => id = *parent,
                    None => return false,
                }
            }
            false
        };
        let mut states: Vec<&Merged> = self.counting().collect();
        states.sort_by_key(|state| std::cmp::Reverse(state.facts.timestamp));
        states.into_iter().map(|state| state.id).find(|id| descends(*id))
    }

    /// The parent of a state, or the state that took that one's place.
    fn parent_of(&self, state: &Merged) -> Id {
        let parent = state.facts.parent;
        let into = self.folds.ordinal_of(&parent).map(|ordinal| self.states[ordinal as usize].id);
        into.filter(|into| *into != state.id).unwrap_or(parent)
    }

    /// Returns the state that coloured a snapshot.
    pub fn colouring_state(&self, snapshot: &Id) -> Option<Id> {
        let state = self.aggregate.colouring_state(BlobType::SNAPSHOT.0, snapshot)?;
        self.states.get(state as usize).map(|state| state.id)
    }

    /// Returns the number of packfiles the states ever named.
    pub fn pack_count(&self) -> usize {
        self.packs.len()
    }

    /// Returns the id of the packfile with an ordinal below [`Self::pack_count`].
    pub fn pack_id(&self, ordinal: usize) -> Id {
        self.packs[ordinal]
    }

    /// Returns the ordinal of a packfile.
    pub fn pack_ordinal(&self, id: &Id) -> Option<usize> {
        self.ordinals.get(id).map(|ordinal| *ordinal as usize)
    }

    /// Returns whether a packfile is known and not coloured.
    pub fn is_live_pack(&self, id: Id) -> bool {
        self.ordinals.get(&id).is_some_and(|ordinal| self.aggregate.is_live(*ordinal))
    }

    /// Returns the packfiles that are known to the states, coloured or not.
    pub fn known_packs(&self) -> impl Iterator<Item = Id> + '_ {
        let known = |(ordinal, id): (usize, &Id)| {
            let ordinal = u32::try_from(ordinal).ok()?;
            self.aggregate.is_known(ordinal).then_some(*id)
        };
        self.packs.iter().enumerate().filter_map(known)
    }

    /// Returns whether the packfile with an ordinal is known, and whether it is coloured.
    pub(crate) fn pack_status(&self, ordinal: usize) -> (bool, bool) {
        let known = u32::try_from(ordinal).is_ok_and(|ordinal| self.aggregate.is_known(ordinal));
        let live = u32::try_from(ordinal).is_ok_and(|ordinal| self.aggregate.is_live(ordinal));
        (known, known && !live)
    }

    /// Returns the coloured packfiles, known or not, with the time of the colour in Unix nanoseconds.
    pub(crate) fn coloured_packs(&self) -> impl Iterator<Item = (Id, i64)> + '_ {
        self.aggregate.coloured_packs()
    }

    /// Returns whether some state deleted a packfile: it never comes back.
    pub(crate) fn was_deleted(&self, pack: &Id) -> bool {
        self.aggregate.was_deleted(pack)
    }

    /// Returns when a packfile was introduced, in Unix nanoseconds, if that was by a state without a snapshot: by a
    /// checkpoint, above all.
    pub(crate) fn checkpointed(&self, ordinal: usize) -> Option<i64> {
        self.aggregate.checkpointed(u32::try_from(ordinal).ok()?)
    }

    /// Returns the time of the newest state, in Unix nanoseconds.
    pub(crate) fn newest_time(&self) -> i64 {
        self.states.iter().map(|state| state.facts.timestamp).max().unwrap_or(i64::MIN)
    }

    /// Passes every location in a known packfile to `each`, in the order of the blobs' ids; of a blob's locations in
    /// one packfile the first only.
    pub(crate) fn scan(
        &self,
        each: &mut dyn FnMut(BlobType, &Id, &Place) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if let Some(quick) = &self.quick {
            return quick.read_state()?.scan(each);
        }
        let mut last = None;
        scan(&self.tiers, &mut |row| {
            let key = (row.id, row.kind, row.pack);
            let inside = (row.pack as usize) < self.packs.len() && self.aggregate.is_known(row.pack);
            if inside && last != Some(key) && !self.aggregate.is_deleted(row) {
                last = Some(key);
                each(row.kind, &row.id, &self.place(row))?;
            }
            Ok(())
        })
    }

    /// Returns the number of location rows, for progress and tests.
    pub fn row_count(&self) -> u64 {
        self.tiers.iter().map(Tier::rows).sum()
    }
}
