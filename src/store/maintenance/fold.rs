//! Folding: one state takes the place of many (FORMAT.md, "Folding").
//!
//! A client that has no cache reads every state, and there is one more for each backup and each removal. The states
//! that follow one another are folded into their sum; what is large already stays as it is, so that a state is
//! rewritten only when what came after it has grown to half its size. What was folded stays listed for a grace period.
//!
//! **Nothing may depend on what was folded away.** The sum is what the states add up to, and takes back all that any
//! of them took back: whoever has merged some of them before, or merges them again, arrives at the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Write};

use crate::base::sort::{ByteOrder, Sorted, Sorter};
use crate::base::{Cancel, Id, Timestamp};
use crate::connector::{ErrorKind, Kind};
use crate::format::state::{Coloured, Delete, Folded, Folding, Location, PackEntry, StateEntry};
use crate::format::version::Version;

use super::super::catalogue::{Applied, Catalogue, Merged, fold_id};
use super::super::error::Error;
use super::super::repository::Repository;
use super::super::state::{StateHead, put_state, read_state};
use super::exclusive::{Exclusive, opened};

/// Which states one is to take the place of.
#[derive(Clone, Debug)]
pub struct FoldPlan {
    /// In the order in which they apply.
    states: Vec<Applied>,
    /// The state that stays before them, if any.
    after: Option<Id>,
}

impl FoldPlan {
    /// Plans to fold where more than `above` states count, or where a state that takes something back names one as its
    /// parent that was folded, and whose order would be lost with it.
    pub fn make(catalogue: &Catalogue, above: usize) -> Option<Self> {
        let mut order = catalogue.ordered_states();
        let strays = order.iter().any(|Applied { state, with_deletes, .. }| {
            let into = catalogue.folded_into(&state.facts.parent);
            *with_deletes && into.is_some_and(|(fold, _)| fold != state.id)
        });
        if order.len() < 2 || (order.len() <= above && !strays) {
            return None;
        }
        // What stays must be a line, for what is folded comes after all of it by naming one parent.
        let follows = |at: &usize| order[*at].state.facts.parent == order[*at - 1].state.id;
        let mut stays = 1 + (1..order.len()).take_while(follows).count();
        stays = stays.min(above / 2).min(order.len() - 2);
        let mut folded: u64 = order[stays..].iter().map(|applied| applied.state.size).sum();
        while let Some(last) = stays.checked_sub(1).map(|at| order[at].state.size) {
            if last / 2 >= folded {
                break;
            }
            folded += last;
            stays -= 1;
        }
        let states = order.split_off(stays);
        Some(Self { states, after: order.last().map(|applied| applied.state.id) })
    }

    /// Returns how many states are folded, and how many bytes they take.
    pub fn extent(&self) -> (u64, u64) {
        (self.states.len() as u64, self.states.iter().map(|applied| applied.state.size).sum())
    }
}

/// A state that is listed, and whose place another took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FoldedState {
    /// The state.
    pub id: Id,
    /// Its length in bytes.
    pub size: u64,
    /// The state that took its place.
    pub into: Id,
    /// When its place was taken first, in Unix nanoseconds.
    pub since: i64,
}

/// Returns the states that are still listed although another took their place, the oldest first: whatever part of them
/// is deleted in that order, the rest comes to the same for a reader that knows nothing of folding.
pub fn folded_states(repository: &Repository, catalogue: &Catalogue) -> Result<Vec<FoldedState>, Error> {
    let mut found = Vec::new();
    repository.storage().list(Kind::State, &mut |listed| {
        if let Some((into, since)) = catalogue.folded_into(&listed.id) {
            found.push(FoldedState { id: listed.id, size: listed.size, into, since });
        }
    })?;
    found.sort_by_key(|state| (catalogue.folded_time(&state.id), state.id));
    Ok(found)
}

impl Exclusive {
    /// Folds states: puts the one that takes their place, and reads it back. `false`, and nothing is put, where one of
    /// them holds entries of kinds that this program does not know.
    pub fn fold(
        &mut self,
        plan: &FoldPlan,
        when: i64,
        memory: usize,
        cancel: &Cancel,
    ) -> Result<bool, Error> {
        let repository = std::sync::Arc::clone(self.repository());
        let catalogue = repository.catalogue();
        let mut sum = Sum::new(&repository, memory);
        for applied in &plan.states {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            if !sum.add(&repository, &catalogue, applied, when)? {
                return Ok(false);
            }
        }
        let id = fold_id(repository.keys());
        let head = StateHead {
            id,
            version: Version::V1_1_0,
            parent: plan.after.unwrap_or_else(|| catalogue.newest()),
            timestamp: Timestamp::now().unix_nanos().max(catalogue.newest_time().saturating_add(1)),
            serial: [0; 16],
        };
        let mut whole = sum.finish(Folding { id })?;
        let mut written = None;
        self.check()?;
        let (storage, keys, encoding) =
            (repository.storage().as_ref(), repository.keys(), repository.encoding());
        put_state(storage, keys, encoding, &head, &mut |out| {
            written = Some(whole.write(out)?);
            Ok(())
        })?;
        self.note_state(id);
        let read = read_back(&repository, id, written);
        if self.has_lapsed() {
            // Others may rely on it by now, or may have folded the same: it stays, and nothing follows.
            return Err(Error::Interfered);
        }
        if let Err(error) = read {
            // What was folded still stands; one that nobody can use must not be taken for damage by the next reader.
            // One that could not be fetched may be whole, and in use.
            if error.is_damage() {
                let _ = storage.delete(Kind::State, id);
            }
            return Err(error);
        }
        repository.refresh_after_commit().map_err(opened)?;
        Ok(true)
    }

    /// Verifies a state that took the place of others, whole: before they are deleted.
    pub fn verify_fold(&self, id: Id) -> Result<(), Error> {
        read_back(self.repository(), id, None)
    }

    /// Deletes a state whose place another took; `false` when the storage holds on to it.
    pub fn delete_folded(&self, state: &FoldedState) -> Result<bool, Error> {
        if self.has_lapsed() || !self.catalogue().is_folded(&state.id) {
            return Err(Error::Interfered);
        }
        match self.repository().storage().delete(Kind::State, state.id) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind, ErrorKind::NotFound) => Ok(true),
            Err(error) if matches!(error.kind, ErrorKind::Denied | ErrorKind::ReadOnly) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// What was written: the digest of all entries, and how many there are.
type Written = (blake3::Hash, u64);

/// Reads a state as it is stored, its trailer verified, and compares its entries with what was written.
fn read_back(repository: &Repository, id: Id, written: Option<Written>) -> Result<(), Error> {
    let (storage, keys, encoding) = (repository.storage().as_ref(), repository.keys(), repository.encoding());
    let size = storage.size(Kind::State, id)?;
    let (mut hasher, mut count, mut bytes) = (blake3::Hasher::new(), 0, Vec::new());
    read_state(storage, keys, encoding, id, size, &mut |entry| {
        bytes.clear();
        entry.encode(&mut bytes);
        hasher.update(&bytes);
        count += 1;
        Ok(())
    })?;
    match written {
        Some((digest, entries)) if (digest, entries) != (hasher.finalize(), count) => {
            Err(Error::corrupt(format!("state {id}, just written"), digest, hasher.finalize()))
        }
        _ => Ok(()),
    }
}

/// What some states add up to.
struct Sum {
    folded: BTreeMap<Id, Folded>,
    /// Locations, by what they are keyed by and the order in which they came.
    locations: Sorter<ByteOrder>,
    /// Locations that were taken back, with the number of entries before the last time.
    lost: HashMap<(u8, Id, Id), u64>,
    /// Colours, and those taken away, set again or not.
    colours: BTreeMap<(u8, Id), i64>,
    uncoloured: BTreeSet<(u8, Id)>,
    packs: BTreeMap<Id, PackEntry>,
    gone: BTreeSet<Id>,
    entries: u64,
}

/// Bytes of a location's key that say what it is of: type, blob, packfile.
const KEY: usize = 1 + 2 * Id::LEN;

impl Sum {
    fn new(repository: &Repository, memory: usize) -> Self {
        Self {
            folded: BTreeMap::new(),
            locations: Sorter::new(ByteOrder, repository.spills(), memory),
            lost: HashMap::new(),
            colours: BTreeMap::new(),
            uncoloured: BTreeSet::new(),
            packs: BTreeMap::new(),
            gone: BTreeSet::new(),
            entries: 0,
        }
    }

    /// Adds the next state; `false` if it holds more than is understood.
    fn add(
        &mut self,
        repository: &Repository,
        catalogue: &Catalogue,
        applied: &Applied,
        since: i64,
    ) -> Result<bool, Error> {
        let Merged { id, size, facts, .. } = applied.state;
        let (storage, keys, encoding) =
            (repository.storage().as_ref(), repository.keys(), repository.encoding());
        let read = read_state(storage, keys, encoding, id, size, &mut |entry| self.entry(entry))?;
        if read.trailer != facts.trailer {
            return Err(Error::Interfered);
        }
        let with_snapshot = applied.with_snapshot;
        self.folded.insert(id, Folded { id, timestamp: facts.timestamp, since, with_snapshot });
        catalogue.each_folded(&id, &mut |folded| {
            self.folded.insert(folded.id, folded);
        });
        Ok(!read.strange)
    }

    fn entry(&mut self, entry: StateEntry) -> Result<(), Error> {
        self.entries += 1;
        match entry {
            StateEntry::Location(location) => {
                let mut key = [0; KEY + 8];
                key[0] = location.kind.0;
                key[1..=Id::LEN].copy_from_slice(location.id.as_bytes());
                key[1 + Id::LEN..KEY].copy_from_slice(location.packfile.as_bytes());
                // Most significant byte first: that is how keys sort.
                key[KEY..].copy_from_slice(&self.entries.swap_bytes().to_le_bytes());
                let mut bytes = Vec::with_capacity(96);
                entry.encode(&mut bytes);
                self.locations.push(&key, &bytes)?;
            }
            StateEntry::Coloured(Coloured { kind, id, when }) => {
                self.colours.entry((kind, id)).or_insert(when);
            }
            StateEntry::Packfile(pack) => {
                self.packs.entry(pack.packfile).or_insert(pack);
            }
            StateEntry::Delete(delete) if delete.is_packfile() => {
                self.gone.insert(delete.packfile);
            }
            StateEntry::Delete(delete) if delete.is_colour() => {
                let key = (delete.resource, delete.id);
                self.colours.remove(&key);
                self.uncoloured.insert(key);
            }
            StateEntry::Delete(delete) => {
                self.lost.insert((delete.resource, delete.id, delete.packfile), self.entries);
            }
            StateEntry::Folding(_) | StateEntry::Folded(_) => {}
        }
        Ok(())
    }

    fn finish(self, folding: Folding) -> Result<Whole, Error> {
        let Self { folded, locations, lost, colours, uncoloured, packs, gone, .. } = self;
        let locations = locations.finish()?;
        Ok(Whole { folding, folded, locations, lost, colours, uncoloured, packs, gone })
    }
}

/// A sum that is complete.
struct Whole {
    folding: Folding,
    folded: BTreeMap<Id, Folded>,
    locations: Sorted<ByteOrder>,
    lost: HashMap<(u8, Id, Id), u64>,
    colours: BTreeMap<(u8, Id), i64>,
    uncoloured: BTreeSet<(u8, Id)>,
    packs: BTreeMap<Id, PackEntry>,
    gone: BTreeSet<Id>,
}

impl Whole {
    /// Writes the entries: what was folded, what is taken back, then what there is.
    fn write(&mut self, out: &mut dyn Write) -> io::Result<Written> {
        let mut out = Counted { out, hasher: blake3::Hasher::new(), count: 0, bytes: Vec::new() };
        out.entry(StateEntry::Folding(self.folding))?;
        for folded in self.folded.values() {
            out.entry(StateEntry::Folded(*folded))?;
        }
        let mut lost: Vec<_> = self.lost.keys().copied().collect();
        lost.sort_unstable();
        for (resource, id, packfile) in lost {
            let kind = crate::format::blob::BlobType(resource);
            out.entry(StateEntry::Delete(Delete::location(kind, id, packfile)))?;
        }
        for (resource, id) in &self.uncoloured {
            out.entry(StateEntry::Delete(Delete::colour(*resource, *id)))?;
        }
        for packfile in &self.gone {
            out.entry(StateEntry::Delete(Delete::packfile(*packfile)))?;
        }
        self.write_locations(&mut out)?;
        for ((kind, id), when) in &self.colours {
            out.entry(StateEntry::Coloured(Coloured { kind: *kind, id: *id, when: *when }))?;
        }
        for pack in self.packs.values().filter(|pack| !self.gone.contains(&pack.packfile)) {
            out.entry(StateEntry::Packfile(*pack))?;
        }
        Ok((out.hasher.finalize(), out.count))
    }

    /// Of each blob and packfile the first location after it was taken back last.
    fn write_locations(&mut self, out: &mut Counted<'_>) -> io::Result<()> {
        let mut last = None;
        while let Some((key, value)) = self.locations.next().map_err(io::Error::other)? {
            let Some(StateEntry::Location(location)) = decode(value) else { continue };
            let Location { kind, id, packfile, .. } = location;
            let order = key.last_chunk().copied().map_or(0, |bytes| u64::from_le_bytes(bytes).swap_bytes());
            let lost = self.lost.get(&(kind.0, id, packfile)).is_some_and(|lost| order < *lost);
            if lost || self.gone.contains(&packfile) || last == Some((kind, id, packfile)) {
                continue;
            }
            last = Some((kind, id, packfile));
            out.entry(StateEntry::Location(location))?;
        }
        Ok(())
    }
}

/// Reads an entry that was encoded here.
fn decode(bytes: &[u8]) -> Option<StateEntry> {
    use crate::format::state::StateReader;
    // Version 1.0.0 has no header, so that entries are all there is.
    StateReader::new(bytes, Version::V1_0_0).ok()?.next()?.ok()
}

/// Writes entries, and remembers them by their digest.
struct Counted<'a> {
    out: &'a mut dyn Write,
    hasher: blake3::Hasher,
    count: u64,
    bytes: Vec<u8>,
}

impl Counted<'_> {
    fn entry(&mut self, entry: StateEntry) -> io::Result<()> {
        self.bytes.clear();
        entry.encode(&mut self.bytes);
        self.hasher.update(&self.bytes);
        self.count += 1;
        self.out.write_all(&self.bytes)
    }
}
