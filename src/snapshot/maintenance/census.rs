//! Which packfiles there are, and what each is needed for.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use crate::base::Id;
use crate::connector::{Kind, Listed};
use crate::format::blob::BlobType;
use crate::format::wrapper::HEADER_LEN;
use crate::store::{Catalogue, Error, KnownSet, Place, Repository};

/// One packfile that the states named, by the catalogue's ordinal.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct PackUse {
    /// Length of its file; nothing when there is no file.
    pub(super) size: Option<u64>,
    /// It has an entry in a state.
    pub(super) known: bool,
    /// It is known, and coloured.
    pub(super) coloured: bool,
    /// Bytes of its blobs, padding left aside.
    pub(super) all_bytes: u64,
    /// Bytes of its blobs that snapshots need, and that are nowhere else or kept here.
    pub(super) used_bytes: u64,
    /// Bytes of its blobs that snapshots need, and that lie elsewhere, too.
    pub(super) shared_bytes: u64,
    /// Snapshots need something in it, be it empty.
    pub(super) used: bool,
    /// It holds more than contents.
    pub(super) metadata: bool,
    /// It is coloured, but holds the only copy of something needed.
    pub(super) revive: bool,
}

/// The packfiles of a store, listed and known.
#[derive(Debug)]
pub(super) struct Census {
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) packs: Vec<PackUse>,
    /// Files that no state knows, by their ids.
    pub(super) strangers: BTreeMap<Id, Stranger>,
}

/// A file that no state knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stranger {
    /// Its length in bytes.
    pub(super) size: u64,
    /// When it was written, by the storage's clock, where the listing tells.
    pub(super) modified: Option<SystemTime>,
}

impl Census {
    /// Lists the packfiles and holds them against the catalogue.
    pub(super) fn take(repository: &Repository, catalogue: Arc<Catalogue>) -> Result<Self, Error> {
        let mut packs = vec![PackUse::default(); catalogue.pack_count()];
        for (ordinal, pack) in packs.iter_mut().enumerate() {
            (pack.known, pack.coloured) = catalogue.pack_status(ordinal);
        }
        let mut strangers = BTreeMap::new();
        repository.storage().list(Kind::Packfile, &mut |listed| {
            let known = catalogue.pack_ordinal(&listed.id).map(|ordinal| &mut packs[ordinal]);
            if let Some(pack) = known.filter(|pack| pack.known) {
                pack.size = Some(listed.size);
            } else {
                let Listed { id, size, modified, .. } = listed;
                strangers.insert(id, Stranger { size, modified });
            }
        })?;
        Ok(Self { catalogue, packs, strangers })
    }

    /// Returns whether a place lies in a file that is there and long enough.
    pub(super) fn is_there(&self, place: &Place) -> bool {
        let end = place.offset.saturating_add(u64::from(place.length)).saturating_add(HEADER_LEN as u64);
        self.packs[place.pack as usize].size.is_some_and(|size| end <= size)
    }

    /// Notes that a blob is needed. Which of several live copies counts, [`Self::settle`] says. Where only coloured
    /// ones are left, one packfile is brought back.
    ///
    /// # Errors
    /// [`Error::Missing`] when there is no copy.
    pub(super) fn need(&mut self, kind: BlobType, id: &Id) -> Result<(), Error> {
        let mut places = self.catalogue.find_any(kind, id)?;
        places.retain(|place| self.is_there(place));
        let is_live = |place: &&Place| !self.packs[place.pack as usize].coloured;
        let live: Vec<Place> = places.iter().filter(is_live).copied().collect();
        if live.is_empty() {
            let back = |place: &&Place| self.packs[place.pack as usize].revive;
            let chosen = places.iter().find(back).or(places.first()).copied();
            let chosen = chosen.ok_or(Error::Missing { kind, id: *id })?;
            let pack = &mut self.packs[chosen.pack as usize];
            pack.revive = true;
            pack.used_bytes += u64::from(chosen.length);
        }
        match &live[..] {
            [] => {}
            [only] => self.keep(only),
            copies => {
                for place in copies {
                    self.packs[place.pack as usize].shared_bytes += u64::from(place.length);
                }
            }
        }
        Ok(())
    }

    fn keep(&mut self, place: &Place) {
        let pack = &mut self.packs[place.pack as usize];
        pack.used = true;
        pack.used_bytes += u64::from(place.length);
    }

    /// Of blobs that two writers stored, or that were read from a packfile and written to another, decides for one
    /// copy each; the others are garbage.
    ///
    /// The packfiles stand in one order, and the copy in the highest is kept, so that the lowest lose all of theirs and
    /// go as a whole: highest those that can be read at once, then those that have the most that is nowhere else.
    pub(super) fn settle(&mut self, needed: &KnownSet, archived: &HashSet<Id>) -> Result<(), Error> {
        let rank: Vec<(bool, u64, u64, usize)> = self
            .packs
            .iter()
            .enumerate()
            .map(|(ordinal, pack)| {
                let readable = !archived.contains(&self.catalogue.pack_id(ordinal));
                (readable, pack.used_bytes, pack.shared_bytes, ordinal)
            })
            .collect();
        let catalogue = Arc::clone(&self.catalogue);
        let mut last: Option<(BlobType, Id)> = None;
        let mut copies: Vec<Place> = Vec::new();
        catalogue.scan(&mut |kind, id, place| {
            if last != Some((kind, *id)) {
                self.settle_one(last, &copies, needed, &rank)?;
                copies.clear();
                last = Some((kind, *id));
            }
            if self.packs[place.pack as usize].shared_bytes > 0 {
                copies.push(*place);
            }
            Ok(())
        })?;
        self.settle_one(last, &copies, needed, &rank)
    }

    fn settle_one(
        &mut self,
        blob: Option<(BlobType, Id)>,
        copies: &[Place],
        needed: &KnownSet,
        rank: &[(bool, u64, u64, usize)],
    ) -> Result<(), Error> {
        let Some((kind, id)) = blob else { return Ok(()) };
        let counts = |place: &&Place| !self.packs[place.pack as usize].coloured && self.is_there(place);
        let live: Vec<Place> = copies.iter().filter(counts).copied().collect();
        let best = live.iter().max_by_key(|place| rank[place.pack as usize]);
        if let Some(best) = best.filter(|_| live.len() > 1)
            && needed.contains(kind, &id)?
        {
            self.keep(best);
        }
        Ok(())
    }

    /// Adds up what each packfile holds.
    pub(super) fn count_blobs(&mut self) -> Result<(), Error> {
        let packs = &mut self.packs;
        let contents = [BlobType::CHUNK, BlobType::OBJECT];
        self.catalogue.scan(&mut |kind, _, place| {
            let pack = &mut packs[place.pack as usize];
            pack.all_bytes += u64::from(place.length);
            pack.metadata |= !contents.contains(&kind);
            Ok(())
        })
    }
}
