//! States that took the place of others (FORMAT.md, "Folding").
//!
//! Such a state is told by its name: 16 random bytes and a MAC of them, so that a reader that has only listed the
//! states begins with it, and never reads those that it names. Its name stands in it as well, so that storage cannot
//! put another state under it. A state that one names counts no more, whether it is still listed or listed again.

use std::collections::{HashMap, HashSet};

use super::Merged;
use super::aggregate::Kept;
use crate::base::Id;
use crate::crypto::random;
use crate::format::state::{Folded, StateEntry};

use super::super::keys::Keys;

/// What the MAC in a name is computed of, before the random half.
const DOMAIN: &[u8] = b"PKFOLD\x01";
/// Bytes of a name that are random; the rest is the beginning of their MAC.
const RANDOM: usize = 16;

/// Draws the name of a state that is to take the place of others.
pub(in super::super) fn fold_id(keys: &Keys) -> Id {
    named(keys, &random::array())
}

/// Returns whether a name is one of those.
pub(in super::super) fn is_fold_id(keys: &Keys, id: &Id) -> bool {
    let random = id.0.first_chunk().expect("a name is longer than its half");
    named(keys, random) == *id
}

fn named(keys: &Keys, random: &[u8; RANDOM]) -> Id {
    let mac = keys.trailers().mac(&[DOMAIN, random].concat());
    let mut id = Id::ZERO;
    id.0[..RANDOM].copy_from_slice(random);
    id.0[RANDOM..].copy_from_slice(&mac.0[..Id::LEN - RANDOM]);
    id
}

/// What is remembered of one state.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The ordinal of the state that took its place.
    fold: u32,
    timestamp: i64,
    since: i64,
    with_snapshot: bool,
}

/// The states whose place others took.
#[derive(Debug, Default)]
pub(super) struct Folds {
    named: HashMap<Id, Place>,
    /// The states that took the place of others.
    folding: HashSet<Id>,
}

impl Folds {
    /// Gathers what states that count say.
    pub(super) fn of(states: &[Merged], kept: &[Kept]) -> Self {
        let mut folds = Self::default();
        for kept in kept {
            match (states.get(kept.state as usize), &kept.entry) {
                (Some(state), StateEntry::Folding(_)) if !state.folded => {
                    folds.folding.insert(state.id);
                }
                (Some(state), StateEntry::Folded(folded)) if !state.folded => {
                    let Folded { id, timestamp, since, with_snapshot } = *folded;
                    let place = Place { fold: kept.state, timestamp, since, with_snapshot };
                    let age =
                        |fold: u32| states.get(fold as usize).map(|state| (state.facts.timestamp, state.id));
                    // Of two that name it the newer counts, in whatever order they were read.
                    let known = folds.named.entry(id).or_insert(place);
                    if age(known.fold) < age(place.fold) {
                        *known = place;
                    }
                }
                _ => {}
            }
        }
        folds
    }

    /// Returns whether another state took the place of this one.
    pub(super) fn contains(&self, state: &Id) -> bool {
        self.named.contains_key(state)
    }

    /// Returns the ordinal of the state that took the place of this one.
    pub(super) fn ordinal_of(&self, state: &Id) -> Option<u32> {
        self.named.get(state).map(|place| place.fold)
    }

    /// Returns the time of a state whose place another took.
    pub(super) fn time_of(&self, state: &Id) -> Option<i64> {
        self.named.get(state).map(|place| place.timestamp)
    }

    /// Returns whether a state whose place another took brought a snapshot.
    pub(super) fn brought_snapshot(&self, state: &Id) -> Option<bool> {
        self.named.get(state).map(|place| place.with_snapshot)
    }

    /// Returns whether a state took the place of others.
    pub(super) fn is_fold(&self, state: &Id) -> bool {
        self.folding.contains(state)
    }

    /// Returns when the place of a state was taken first.
    pub(super) fn since(&self, state: &Id) -> Option<i64> {
        self.named.get(state).map(|place| place.since)
    }

    /// Passes the states whose place one took to `each`.
    pub(super) fn each_of(&self, fold: &Id, states: &[Merged], each: &mut dyn FnMut(Folded)) {
        for (id, place) in &self.named {
            if states.get(place.fold as usize).is_some_and(|state| state.id == *fold) {
                let Place { timestamp, since, with_snapshot, .. } = *place;
                each(Folded { id: *id, timestamp, since, with_snapshot });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::state::StateFacts;
    use super::super::Seen;
    use super::super::aggregate::order;
    use super::*;
    use crate::crypto::mac::HashAlgorithm;
    use crate::format::state::Folding;
    use crate::format::version::Version;

    fn state(id: u8, parent: u8, timestamp: i64) -> Merged {
        let seen = Seen { modified: None, tag: None };
        let [id, parent, trailer] = [id, parent, 0].map(|byte| Id([byte; 32]));
        let facts = StateFacts { version: Version::V1_1_0, parent, timestamp, trailer, strange: false };
        Merged { id, size: 1, seen, facts, folded: false }
    }

    #[test]
    fn of_two_that_took_the_same_place_the_newer_comes_last_in_whatever_order_they_are_read() {
        // Both fold state 9, which is the parent of the older one and of a state that takes something back.
        let (older, newer, child) = (state(1, 9, 10), state(2, 7, 20), state(3, 9, 15));
        for states in [[older, newer, child], [child, newer, older]] {
            let mut kept = Vec::new();
            for (ordinal, state) in (0..).zip(&states).filter(|(_, state)| state.id != child.id) {
                let folded = Folded { id: Id([9; 32]), timestamp: 5, since: 10, with_snapshot: false };
                for entry in [StateEntry::Folding(Folding { id: state.id }), StateEntry::Folded(folded)] {
                    kept.push(Kept { state: ordinal, entry });
                }
            }
            let folds = Folds::of(&states, &kept);
            let ids: Vec<u8> =
                order(&states, &folds).into_iter().map(|ordinal| states[ordinal as usize].id.0[0]).collect();
            assert_eq!(ids, [1, 2, 3]);
            assert_eq!(folds.ordinal_of(&Id([9; 32])).map(|fold| states[fold as usize].id), Some(newer.id));
        }
    }

    #[test]
    fn a_name_is_told_with_the_key_only() {
        let keys = Keys::plaintext(HashAlgorithm::Blake3, &[1; 16]);
        let other = Keys::plaintext(HashAlgorithm::Blake3, &[2; 16]);
        let id = fold_id(&keys);
        assert!(is_fold_id(&keys, &id) && !is_fold_id(&other, &id));
        assert!(!is_fold_id(&keys, &random::id()) && fold_id(&keys) != id);
        for bit in 0..256 {
            let mut changed = id;
            changed.0[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_fold_id(&keys, &changed), "{bit}");
        }
    }
}
