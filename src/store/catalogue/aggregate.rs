//! What the states say of packfiles, colours and deletes, taken together in order (FORMAT.md, "Aggregation").
//!
//! Parents come before children; among states that are ready the oldest comes first; a packfile deleted by any
//! state stays deleted whatever the order.

use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};

use crate::base::Id;
use crate::format::blob::BlobType;
use crate::format::state::{Delete, StateEntry};

use super::Merged;
use super::folds::Folds;
use super::tables::Row;

/// One entry that is kept per state: everything but ordinary locations.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Kept {
    /// The state's ordinal.
    pub(super) state: u32,
    pub(super) entry: StateEntry,
}

/// The result of aggregating.
#[derive(Debug, Default)]
pub(super) struct Aggregate {
    known: Vec<bool>,
    coloured: Vec<bool>,
    /// When each resource was coloured, and by which state.
    colours: HashMap<(u8, Id), (i64, u32)>,
    /// Deleted locations, with the position of the state that deleted them.
    deleted: HashMap<(u8, Id, u32), u32>,
    /// Positions of the states in the order they were applied, by ordinal.
    positions: Vec<u32>,
    snapshots: BTreeSet<Id>,
    journals: BTreeSet<Id>,
    /// When each packfile was introduced, and whether by a state without a snapshot, by ordinal.
    introduced: Vec<Option<(i64, bool)>>,
    /// Whether a state brought a snapshot, by ordinal: those of checkpoints bring none.
    with_snapshot: Vec<bool>,
    /// Whether a state takes something back, by ordinal.
    with_deletes: Vec<bool>,
    /// Packfiles that some state deleted.
    deleted_packs: HashSet<Id>,
}

impl Aggregate {
    /// Applies what was kept of every state, in order.
    pub(super) fn new(states: &[Merged], ordinals: &HashMap<Id, u32>, kept: &[Kept], folds: &Folds) -> Self {
        let order = order(states, folds);
        let mut positions = vec![0; states.len()];
        for (position, ordinal) in (0_u32..).zip(&order) {
            positions[*ordinal as usize] = position;
        }
        for (ordinal, state) in states.iter().enumerate().filter(|(_, state)| state.folded) {
            positions[ordinal] = folds.ordinal_of(&state.id).map_or(0, |fold| positions[fold as usize]);
        }
        let mut by_state: Vec<Vec<&StateEntry>> = vec![Vec::new(); states.len()];
        let mut with_snapshot = vec![false; states.len()];
        for kept in kept {
            by_state[kept.state as usize].push(&kept.entry);
            with_snapshot[kept.state as usize] |=
                matches!(&kept.entry, StateEntry::Location(location) if location.kind == BlobType::SNAPSHOT);
        }
        let mut all = Self {
            known: vec![false; ordinals.len()],
            coloured: vec![false; ordinals.len()],
            positions,
            introduced: vec![None; ordinals.len()],
            with_snapshot,
            with_deletes: vec![false; states.len()],
            ..Self::default()
        };
        let mut gone = HashSet::new();
        let mut special = Vec::new();
        for ordinal in order {
            for entry in &by_state[ordinal as usize] {
                all.apply(ordinal, entry, (ordinals, folds), &mut gone, &mut special);
            }
        }
        for pack in gone {
            all.known[pack as usize] = false;
        }
        all.derive(ordinals, &special);
        all
    }

    fn apply(
        &mut self,
        state: u32,
        entry: &StateEntry,
        (ordinals, folds): (&HashMap<Id, u32>, &Folds),
        gone: &mut HashSet<u32>,
        special: &mut Vec<(BlobType, Id, Row)>,
    ) {
        match entry {
            StateEntry::Location(location) => {
                if let Some(&pack) = ordinals.get(&location.packfile) {
                    let row = Row::new(location, pack, state);
                    special.push((location.kind, location.id, row));
                }
            }
            StateEntry::Coloured(coloured) => {
                self.colours.entry((coloured.kind, coloured.id)).or_insert((coloured.when, state));
            }
            StateEntry::Packfile(pack) => {
                if let Some(&ordinal) = ordinals.get(&pack.packfile) {
                    self.known[ordinal as usize] = true;
                    // A state that took the place of others remembers which of them were checkpoints.
                    let with_snapshot =
                        folds.brought_snapshot(&pack.state).unwrap_or(self.with_snapshot[state as usize]);
                    self.introduced[ordinal as usize].get_or_insert((pack.when, !with_snapshot));
                }
            }
            StateEntry::Delete(delete) => {
                self.with_deletes[state as usize] = true;
                self.delete(state, delete, ordinals, gone);
            }
            StateEntry::Folding(_) | StateEntry::Folded(_) => {}
        }
    }

    fn delete(&mut self, state: u32, delete: &Delete, ordinals: &HashMap<Id, u32>, gone: &mut HashSet<u32>) {
        let pack = ordinals.get(&delete.packfile).copied();
        match (delete.kind, pack) {
            (2, Some(pack)) => {
                let position = self.positions[state as usize];
                let last = self.deleted.entry((delete.resource, delete.id, pack)).or_insert(position);
                *last = position.max(*last);
            }
            (3, _) => {
                self.colours.remove(&(delete.resource, delete.id));
            }
            (4, pack) => {
                gone.extend(pack);
                self.deleted_packs.insert(delete.packfile);
            }
            _ => {}
        }
    }

    /// Derives what is asked often: coloured packfiles, live snapshots, journals.
    fn derive(&mut self, ordinals: &HashMap<Id, u32>, special: &[(BlobType, Id, Row)]) {
        const PACKFILE: u8 = 4;
        for (id, ordinal) in ordinals {
            self.coloured[*ordinal as usize] = self.colours.contains_key(&(PACKFILE, *id));
        }
        for (kind, id, row) in special {
            if !self.is_known(row.pack) || self.is_deleted(row) {
                continue;
            }
            if *kind == BlobType::SNAPSHOT && !self.colours.contains_key(&(kind.0, *id)) {
                self.snapshots.insert(*id);
            } else if *kind == BlobType::JOURNAL && self.is_live(row.pack) {
                self.journals.insert(*id);
            }
        }
    }

    pub(super) fn is_known(&self, pack: u32) -> bool {
        self.known.get(pack as usize).copied().unwrap_or(false)
    }

    pub(super) fn is_live(&self, pack: u32) -> bool {
        self.is_known(pack) && !self.coloured[pack as usize]
    }

    /// Returns whether a location was deleted by a state applied after the one that brought it.
    pub(super) fn is_deleted(&self, row: &Row) -> bool {
        if self.deleted.is_empty() {
            return false;
        }
        let position = self.positions.get(row.state as usize).copied().unwrap_or(0);
        self.deleted.get(&(row.kind.0, row.id, row.pack)).is_some_and(|deleted| *deleted > position)
    }

    /// Returns the blobs of which a location in a packfile that is known was deleted.
    pub(super) fn deleted_blobs(&self) -> impl Iterator<Item = (BlobType, Id)> + '_ {
        let known = self.deleted.keys().filter(|(_, _, pack)| self.is_known(*pack));
        known.map(|(kind, id, _)| (BlobType(*kind), *id))
    }

    pub(super) fn colour(&self, kind: u8, id: &Id) -> Option<i64> {
        self.colours.get(&(kind, *id)).map(|(when, _)| *when)
    }

    pub(super) fn colouring_state(&self, kind: u8, id: &Id) -> Option<u32> {
        self.colours.get(&(kind, *id)).map(|(_, state)| *state)
    }

    /// Returns the coloured packfiles, known or not, with the time of the colour.
    pub(super) fn coloured_packs(&self) -> impl Iterator<Item = (Id, i64)> + '_ {
        const PACKFILE: u8 = 4;
        self.colours
            .iter()
            .filter(|((kind, _), _)| *kind == PACKFILE)
            .map(|((_, id), (when, _))| (*id, *when))
    }

    /// Returns whether any state deleted a packfile or a location.
    pub(super) fn has_deletes(&self) -> bool {
        !self.deleted.is_empty() || !self.deleted_packs.is_empty()
    }

    pub(super) fn was_deleted(&self, pack: &Id) -> bool {
        self.deleted_packs.contains(pack)
    }

    /// Returns when a packfile was introduced by a state that brought no snapshot.
    pub(super) fn checkpointed(&self, pack: u32) -> Option<i64> {
        let (when, checkpoint) = self.introduced.get(pack as usize).copied().flatten()?;
        checkpoint.then_some(when)
    }

    /// Returns when a packfile was introduced.
    pub(super) fn introduced_at(&self, pack: u32) -> Option<i64> {
        self.introduced.get(pack as usize).copied().flatten().map(|(when, _)| when)
    }

    /// Returns whether a state brought a snapshot, and whether it takes something back.
    pub(super) fn nature_of(&self, state: usize) -> (bool, bool) {
        (self.with_snapshot[state], self.with_deletes[state])
    }

    pub(super) fn live_snapshots(&self) -> Vec<Id> {
        self.snapshots.iter().copied().collect()
    }

    pub(super) fn is_live_snapshot(&self, id: &Id) -> bool {
        self.snapshots.contains(id)
    }

    pub(super) fn journals(&self) -> Vec<Id> {
        self.journals.iter().copied().collect()
    }
}

/// Orders the states that count: parents first, the oldest first among those that are ready. States of a cycle come
/// last. A parent whose place another state took stands for that one.
///
/// A state that took the place of others does not come after a newer one that took theirs, too, by way of a parent that
/// both name: a run that was cut short may have left it, and what was brought back or removed since would be undone.
pub(super) fn order(states: &[Merged], folds: &Folds) -> Vec<u32> {
    let counting = || (0_u32..).zip(states).filter(|(_, state)| !state.folded);
    let ordinals: HashMap<Id, u32> = counting().map(|(ordinal, state)| (state.id, ordinal)).collect();
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut ready = BinaryHeap::new();
    let key = |ordinal: u32| {
        let state = &states[ordinal as usize];
        std::cmp::Reverse((state.facts.timestamp, state.id, ordinal))
    };
    for (ordinal, state) in counting() {
        let parent = ordinals.get(&state.facts.parent).copied();
        let parent = parent.or_else(|| {
            let fold = folds.ordinal_of(&state.facts.parent)?;
            let age = |state: &Merged| (state.facts.timestamp, state.id);
            let is_newer = age(state) > age(&states[fold as usize]);
            (is_newer || !folds.is_fold(&state.id)).then_some(fold)
        });
        match parent.filter(|parent| *parent != ordinal) {
            Some(parent) => children.entry(parent).or_default().push(ordinal),
            None => ready.push(key(ordinal)),
        }
    }
    let mut order = Vec::with_capacity(states.len());
    let mut done = vec![false; states.len()];
    while let Some(std::cmp::Reverse((_, _, ordinal))) = ready.pop() {
        order.push(ordinal);
        done[ordinal as usize] = true;
        for child in children.remove(&ordinal).unwrap_or_default() {
            ready.push(key(child));
        }
    }
    order.extend(counting().map(|(ordinal, _)| ordinal).filter(|ordinal| !done[*ordinal as usize]));
    order
}
