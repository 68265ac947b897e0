//! Merging states that a cache lacks into it.
//!
//! **States that took the place of others** are read first; what they name is not read at all. Where everything that
//! one names was merged before, it brings nothing new: it is read for what is kept in memory, which replaces what was
//! kept of the others, while their rows stay in the tables and count as its own. So folding costs a client that knew
//! the states one download and no table.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::base::Id;
use crate::base::sort::{ByteOrder, Sorted, Sorter};
use crate::connector::{ErrorKind, Listed};
use crate::format::blob::BlobType;
use crate::format::state::StateEntry;

use super::super::error::Error;
use super::super::state::{StateFacts, read_state};
use super::aggregate::Kept;
use super::cache::Cached;
use super::folds::is_fold_id;
use super::load::{Damaged, Source, table_file};
use super::tables::{Row, Tier, set_state, state_of};
use super::{Merged, Seen};

/// The most memory for sorting new locations, in bytes.
const SORT_MEMORY: u64 = 32 << 20;

/// Returns the memory for sorting in a run that may take so much: what it sorted for its view is free again by then.
fn sort_memory(memory: Option<u64>) -> usize {
    let bytes = memory.map_or(SORT_MEMORY, |memory| (memory / 4).min(SORT_MEMORY));
    usize::try_from(bytes).expect("32 MiB at most")
}

/// What merging came to.
#[derive(Debug, Default)]
pub(super) struct Merging {
    pub(super) parts: Cached,
    pub(super) damaged: Vec<Damaged>,
    /// A state that was listed could not be found.
    pub(super) vanished: bool,
    /// States were merged.
    pub(super) grown: bool,
    /// Those that were read whole for it, and verified.
    pub(super) fresh: HashSet<Id>,
}

/// Reads the states that are listed and not merged yet, rows into one new tier. `None` where what was cached is in the
/// way: what a folding state forgets of what was merged before could not be told from what it keeps.
pub(super) fn merge(
    source: &Source<'_>,
    parts: Cached,
    listed: &BTreeMap<Id, Listed>,
) -> Result<Option<Merging>, Error> {
    let have: HashSet<Id> = parts.states.iter().map(|state| state.id).collect();
    let mut named: HashSet<Id> = HashSet::new();
    for kept in &parts.kept {
        if let StateEntry::Folded(folded) = &kept.entry {
            named.insert(folded.id);
        }
    }
    let missing = listed.values().filter(|state| !have.contains(&state.id) && !named.contains(&state.id));
    let (mut folding, rest): (Vec<&Listed>, Vec<&Listed>) =
        missing.partition(|state| is_fold_id(source.keys, &state.id));
    let mut work = Work {
        source,
        first: u32::try_from(parts.states.len()).expect("fewer than 2^32 states"),
        ordinals: (0_u32..).zip(&parts.packs).map(|(ordinal, id)| (*id, ordinal)).collect(),
        sorter: Sorter::new(ByteOrder, source.spills, sort_memory(source.memory)),
        known: have.union(&named).copied().collect(),
        have,
        named,
        dead: HashSet::new(),
        read: Vec::new(),
        next: 0,
        done: Merging { parts, ..Merging::default() },
    };
    work.next = work.first;
    // The newest first: it names the older ones.
    folding.sort_by_key(|state| std::cmp::Reverse(state.modified));
    for state in folding {
        if !work.named.contains(&state.id) && !work.fold(state)? {
            return Ok(None);
        }
    }
    for state in rest {
        if !work.named.contains(&state.id) {
            work.plain(state)?;
        }
    }
    work.finish().map(Some)
}

/// States being merged.
struct Work<'a> {
    source: &'a Source<'a>,
    /// The ordinal of the first that is new.
    first: u32,
    ordinals: HashMap<Id, u32>,
    sorter: Sorter<ByteOrder>,
    /// States whose rows are in tables that were cached, be it under another's name.
    known: HashSet<Id>,
    /// Those of them that were merged by themselves.
    have: HashSet<Id>,
    /// States whose place others took.
    named: HashSet<Id>,
    /// Ordinals of states that turned out to be damaged; they are not used again in this load.
    dead: HashSet<u32>,
    read: Vec<(u32, Merged, Vec<StateEntry>)>,
    next: u32,
    done: Merging,
}

impl Work<'_> {
    fn ordinal(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    /// Reads a state; `None` when it cannot be used.
    fn read(
        &mut self,
        listed: &Listed,
        each: &mut dyn FnMut(&mut Self, StateEntry) -> Result<(), Error>,
    ) -> Result<Option<StateFacts>, Error> {
        let Source { storage, keys, encoding, .. } = *self.source;
        let result =
            read_state(storage, keys, encoding, listed.id, listed.size, &mut |entry| each(self, entry));
        match result {
            Ok(facts) => Ok(Some(facts)),
            Err(Error::Connector(error)) if error.kind == ErrorKind::NotFound => {
                self.done.vanished = true;
                Ok(None)
            }
            Err(error) if error.is_damage() || matches!(error, Error::Version { .. }) => {
                let modified = Seen::of(listed).modified;
                self.done.damaged.push(Damaged { id: listed.id, error, modified });
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn plain(&mut self, listed: &Listed) -> Result<(), Error> {
        let (state, id) = (self.ordinal(), listed.id);
        let mut kept = Vec::new();
        let facts = self.read(listed, &mut |work, entry| {
            if matches!(entry, StateEntry::Folding(_) | StateEntry::Folded(_)) {
                return Err(misplaced(id));
            }
            work.collect(entry, state, true, &mut kept)
        })?;
        self.add(state, listed, facts, kept);
        Ok(())
    }

    /// Reads a state that took the place of others; `false` where what was cached is in the way.
    fn fold(&mut self, listed: &Listed) -> Result<bool, Error> {
        let (state, id) = (self.ordinal(), listed.id);
        let (mut kept, mut names) = (Vec::new(), Vec::new());
        let (mut known, mut headed, mut forgets) = (true, false, false);
        let facts = self.read(listed, &mut |work, entry| {
            match &entry {
                StateEntry::Folding(folding) if folding.id == id && !headed => headed = true,
                // What it names comes first, so that it is known what its rows are worth.
                StateEntry::Folded(folded) if headed && kept.len() == names.len() + 1 => {
                    // One that folded itself has nothing that those that it named had not, and they are named here,
                    // too.
                    known &= work.known.contains(&folded.id) || is_fold_id(work.source.keys, &folded.id);
                    names.push(folded.id);
                }
                StateEntry::Folding(_) | StateEntry::Folded(_) => return Err(misplaced(id)),
                _ if !headed => return Err(misplaced(id)),
                StateEntry::Delete(delete) => forgets |= delete.is_location(),
                _ => {}
            }
            work.collect(entry, state, !known, &mut kept)
        })?;
        let facts = match facts {
            Some(_) if !headed => {
                let modified = Seen::of(listed).modified;
                self.done.damaged.push(Damaged { id, error: misplaced(id), modified });
                None
            }
            facts => facts,
        };
        if facts.is_some() {
            // Rows of the states that it names, and forgets, would count as its own.
            if forgets && names.iter().any(|name| self.have.contains(name)) {
                return Ok(false);
            }
            self.supersede(&names);
        }
        self.add(state, listed, facts, kept);
        Ok(true)
    }

    /// Takes states out of what counts. Rows that were cached stay; those of states that were just read are dropped.
    fn supersede(&mut self, names: &[Id]) {
        self.named.extend(names);
        let named = &self.named;
        let parts = &mut self.done.parts;
        let mut gone = HashSet::new();
        for (ordinal, state) in (0_u32..).zip(&mut parts.states) {
            if !state.folded && named.contains(&state.id) {
                state.folded = true;
                gone.insert(ordinal);
            }
        }
        parts.kept.retain(|kept| !gone.contains(&kept.state));
        let dead = &mut self.dead;
        self.read.retain(|(ordinal, state, _)| !named.contains(&state.id) || !dead.insert(*ordinal));
    }

    fn add(&mut self, state: u32, listed: &Listed, facts: Option<StateFacts>, kept: Vec<StateEntry>) {
        let (id, size, seen) = (listed.id, listed.size, Seen::of(listed));
        match facts {
            Some(facts) => self.read.push((state, Merged { id, size, seen, facts, folded: false }, kept)),
            None => drop(self.dead.insert(state)),
        }
    }

    /// Sorts one entry of a state into what is kept in memory and what goes to the tables, if `with_rows`.
    fn collect(
        &mut self,
        entry: StateEntry,
        state: u32,
        with_rows: bool,
        kept: &mut Vec<StateEntry>,
    ) -> Result<(), Error> {
        match &entry {
            StateEntry::Location(location) => {
                // Padding is never looked up.
                if location.kind == BlobType::RANDOM {
                    return Ok(());
                }
                let pack = self.pack(location.packfile);
                if with_rows {
                    self.sorter.push(&Row::new(location, pack, state).encode(), &[])?;
                }
                if location.kind == BlobType::SNAPSHOT || location.kind == BlobType::JOURNAL {
                    kept.push(entry);
                }
            }
            StateEntry::Packfile(pack) => {
                self.pack(pack.packfile);
                kept.push(entry);
            }
            _ => kept.push(entry),
        }
        Ok(())
    }

    fn pack(&mut self, id: Id) -> u32 {
        let packs = &mut self.done.parts.packs;
        *self.ordinals.entry(id).or_insert_with(|| {
            packs.push(id);
            u32::try_from(packs.len() - 1).expect("fewer than 2^32 packfiles")
        })
    }

    /// Closes the gaps that damaged states left, and writes the rows.
    fn finish(self) -> Result<Merging, Error> {
        let Self { source, first, sorter, dead, read, next, mut done, .. } = self;
        done.grown = next > first;
        if !done.grown {
            return Ok(done);
        }
        let renumbered: HashMap<u32, u32> =
            read.iter().zip(first..).map(|((old, ..), new)| (*old, new)).collect();
        let parts = &mut done.parts;
        for (old, merged, kept) in read {
            done.fresh.insert(merged.id);
            parts.states.push(merged);
            let state = renumbered[&old];
            parts.kept.extend(kept.into_iter().map(|entry| Kept { state, entry }));
        }
        if sorter.records() > 0 {
            parts.tiers.push(write_tier(source, &mut sorter.finish()?, &dead, &renumbered)?);
        }
        Ok(done)
    }
}

fn write_tier(
    source: &Source<'_>,
    sorted: &mut Sorted<ByteOrder>,
    dead: &HashSet<u32>,
    renumbered: &HashMap<u32, u32>,
) -> Result<Tier, Error> {
    let (file, name) = table_file(source)?;
    Tier::write(file, name, source.keys.cache(), &mut |push| {
        while let Some((row, _)) = sorted.next()? {
            let state = state_of(row);
            if dead.contains(&state) {
                continue;
            }
            match renumbered.get(&state) {
                Some(new) if *new != state => push(&with_state(row, *new))?,
                _ => push(row)?,
            }
        }
        Ok(())
    })
}

/// Renumbers the state of a row. Rows of one blob and packfile keep their order, the numbers being monotonous.
fn with_state(row: &[u8], state: u32) -> Vec<u8> {
    let mut row = row.to_vec();
    set_state(&mut row, state);
    row
}

fn misplaced(id: Id) -> Error {
    Error::malformed(&format!("state {id}"), "what it says of folding is not what its name says")
}
