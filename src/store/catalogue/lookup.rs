//! The catalogue as the rest of the store asks it.

use std::collections::{BTreeMap, HashMap};
use std::time::UNIX_EPOCH;

use super::super::error::Error;
use super::super::quick::Quick;
use super::super::state::StateFacts;
use super::aggregate::{Aggregate, Kept};
use super::tables::{Row, Tier, scan};
use crate::base::Id;
use crate::connector::Listed;
use crate::format::blob::BlobType;
use crate::format::ptar::{PACKFILE_ID, STATE_ID};
use crate::format::state::{Location, PackEntry, StateEntry};
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
    /// An archive's quick index, which stands in for the tables.
    pub(super) quick: Option<Quick>,
}

impl Catalogue {
    /// Makes the catalogue of an archive from its quick index.
    pub(in super::super) fn quick(quick: Quick) -> Self {
        let packs = vec![PACKFILE_ID];
        let ordinals = HashMap::from([(PACKFILE_ID, 0)]);
        let facts =
            StateFacts { version: Version::V1_1_0, parent: Id::ZERO, timestamp: 0, trailer: Id::ZERO };
        let states = vec![Merged { id: STATE_ID, size: 0, seen: Seen::default(), facts }];
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
        let aggregate = Aggregate::new(&states, &ordinals, &kept);
        Self { tiers: Vec::new(), packs, ordinals, states, aggregate, quick: Some(quick) }
    }

    /// Returns every live place of a blob: in packfiles that are known and not coloured.
    pub fn find(&self, kind: BlobType, id: &Id) -> Result<Vec<Place>, Error> {
        let mut places = Vec::new();
        self.each_row(kind, id, &mut |row| {
            if self.aggregate.is_live(row.pack) && !self.aggregate.is_deleted(row) {
                places.push(self.place(row));
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
                places.push(self.place(row));
            }
        })?;
        // Live ones first.
        places.sort_by_key(|place| !self.aggregate.is_live(place.pack));
        Ok(places)
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
            let state = self.states.get(row.state as usize);
            newest = newest.max(state.map(|state| state.facts.timestamp));
        })?;
        Ok(newest)
    }

    /// Returns the ids of journal blobs in live packfiles.
    pub fn journals(&self) -> Vec<Id> {
        self.aggregate.journals()
    }

    /// Returns the ids of the merged states.
    pub fn states(&self) -> impl Iterator<Item = Id> + '_ {
        self.states.iter().map(|state| state.id)
    }

    /// Returns whether all merged states are of version 1.0.0 (and there is one).
    pub fn only_old_states(&self) -> bool {
        !self.states.is_empty()
            && self.states.iter().all(|state| state.facts.version == crate::format::version::Version::V1_0_0)
    }

    /// Returns the id of the newest state merged, the parent of the next; zero when there is none.
    pub fn newest(&self) -> Id {
        let newest = self.states.iter().max_by_key(|state| (state.facts.timestamp, state.id));
        newest.map_or(Id::ZERO, |state| state.id)
    }

    /// Returns a state from which `ancestor` can be reached through parents, the newest such, or `None`.
    pub fn newest_descendant(&self, ancestor: &Id) -> Option<Id> {
        let parents: BTreeMap<Id, Id> = self.states.iter().map(|s| (s.id, s.facts.parent)).collect();
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
        let mut states: Vec<&Merged> = self.states.iter().collect();
        states.sort_by_key(|state| std::cmp::Reverse(state.facts.timestamp));
        states.into_iter().map(|state| state.id).find(|id| descends(*id))
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
    pub(in super::super) fn newest_time(&self) -> i64 {
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
