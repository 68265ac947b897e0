//! Loading a catalogue: from the cache what is known already, from the store what is new.
//!
//! **When a cache is valid.** Every state it merged must be listed, and be what it was. Its trailer says so for
//! certain: it is a MAC over the whole state. Locally, and in an archive, whose one state always has the same id, it
//! is read and compared at each opening. From a remote store that would cost a request per state and opening, so
//! there the trailer is compared once, when the state is merged, and from then on the listing stands for it, which
//! costs nothing more: size and tag (an object's ETag), or size and modification time where there are no tags. A
//! state of which either differs has its trailer read again; only when that differs, too, the cache is rebuilt. What
//! is gained by lying in a listing is that a state is taken for what it was before: a cache is sealed by a MAC of its
//! own and holds what authentic states said, and a state is never replaced by another of the same name.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::base::Id;
use crate::base::sort::{ByteOrder, Sorter};
use crate::base::spill::SpillDir;
use crate::connector::{ErrorKind, Kind, Listed, Storage};
use crate::format::blob::BlobType;
use crate::format::state::StateEntry;

use super::super::encoding::Encoding;
use super::super::error::Error;
use super::super::keys::Keys;
use super::super::state::{read_state, read_trailer};
use super::aggregate::{Aggregate, Kept};
use super::cache::{CacheDir, Cached};
use super::tables::{Row, Tier, anonymous, state_of};
use super::{Catalogue, Merged, Seen};

/// Memory for sorting new locations, in bytes.
const SORT_MEMORY: usize = 32 << 20;

/// What a catalogue is loaded from.
pub(in super::super) struct Source<'a> {
    pub(in super::super) storage: &'a dyn Storage,
    pub(in super::super) keys: &'a Keys,
    pub(in super::super) encoding: &'a Encoding,
    pub(in super::super) spills: &'a SpillDir,
    pub(in super::super) cache: Option<&'a CacheDir>,
}

/// A state that could not be used. What it alone named is unknown.
#[derive(Debug)]
pub(in super::super) struct Damaged {
    pub(in super::super) id: Id,
    pub(in super::super) error: Error,
    /// When it was written, by the listing, in Unix nanoseconds.
    pub(in super::super) modified: Option<i64>,
}

/// Requests for trailers under way at once.
const THREADS: usize = 8;

/// Loads the catalogue of a store.
pub(in super::super) fn load(source: &Source<'_>) -> Result<(Catalogue, Vec<Damaged>), Error> {
    let mut listed = BTreeMap::new();
    source.storage.list(Kind::State, &mut |state| {
        listed.insert(state.id, state);
    })?;
    let cached = source.cache.and_then(|cache| cache.read(source.keys.cache()));
    let (mut parts, mut changed) =
        match cached.map(|cached| revalidate(cached, &listed, source)).transpose()? {
            Some(Some(valid)) => valid,
            _ => (Cached::default(), false),
        };
    let have: HashSet<Id> = parts.states.iter().map(|state| state.id).collect();
    let missing: Vec<Listed> = listed.into_values().filter(|state| !have.contains(&state.id)).collect();
    let damaged = if missing.is_empty() { Vec::new() } else { merge(source, &mut parts, &missing)? };
    if !missing.is_empty() {
        compact(source, &mut parts)?;
        changed = true;
    }
    if let Some(cache) = source.cache.filter(|_| changed) {
        // The cache is a help, not a need.
        let _ = cache.write(&parts, source.keys.cache());
    }
    let Cached { states, packs, kept, tiers } = parts;
    let ordinals: HashMap<Id, u32> = (0_u32..).zip(&packs).map(|(ordinal, id)| (*id, ordinal)).collect();
    let aggregate = Aggregate::new(&states, &ordinals, &kept);
    Ok((Catalogue { tiers, packs, ordinals, states, aggregate, quick: None }, damaged))
}

/// Returns the cache if it is valid, and whether what is known of its states has to be written again.
fn revalidate(
    mut cached: Cached,
    listed: &BTreeMap<Id, Listed>,
    source: &Source<'_>,
) -> Result<Option<(Cached, bool)>, Error> {
    let remote = source.storage.is_remote() && !source.storage.is_archive();
    let mut doubtful = Vec::new();
    for (ordinal, state) in cached.states.iter_mut().enumerate() {
        let Some(now) = listed.get(&state.id).filter(|now| now.size == state.size) else { return Ok(None) };
        let seen = Seen::of(now);
        if !(remote && state.seen.same(&seen)) {
            doubtful.push(ordinal);
        }
        state.seen = seen;
    }
    let states: Vec<&Merged> = doubtful.iter().map(|ordinal| &cached.states[*ordinal]).collect();
    if !compare_trailers(source.storage, &states, if remote { THREADS } else { 1 })? {
        return Ok(None);
    }
    Ok(Some((cached, remote && !doubtful.is_empty())))
}

/// Returns whether the trailers of states are what they were.
fn compare_trailers(storage: &dyn Storage, states: &[&Merged], threads: usize) -> Result<bool, Error> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<bool, Error> {
        while let Some(state) = states.get(next.fetch_add(1, Ordering::Relaxed)) {
            if read_trailer(storage, state.id, state.size)? != state.facts.trailer {
                return Ok(false);
            }
        }
        Ok(true)
    };
    if threads.min(states.len()) <= 1 {
        return work();
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.min(states.len())).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or(Err(Error::Aborted)))
            .try_fold(true, |all, equal| Ok(all & equal?))
    })
}

/// Reads the missing states into one new tier.
fn merge(source: &Source<'_>, parts: &mut Cached, missing: &[Listed]) -> Result<Vec<Damaged>, Error> {
    let mut ordinals: HashMap<Id, u32> =
        (0_u32..).zip(&parts.packs).map(|(ordinal, id)| (*id, ordinal)).collect();
    let mut sorter = Sorter::new(ByteOrder, source.spills, SORT_MEMORY);
    let (mut damaged, mut dead) = (Vec::new(), HashSet::new());
    // Ordinals of states that turn out to be damaged are not used again in this load.
    let first = u32::try_from(parts.states.len()).expect("fewer than 2^32 states");
    let mut kept_states = Vec::new();
    for (state, listed) in (first..).zip(missing) {
        let (id, size, seen) = (listed.id, listed.size, Seen::of(listed));
        let mut kept = Vec::new();
        let result = read_state(source.storage, source.keys, source.encoding, id, size, &mut |entry| {
            collect(entry, state, parts, &mut ordinals, &mut kept, &mut sorter)
        });
        match result {
            Ok(facts) => {
                kept_states.push((state, Merged { id, size, seen, facts }, kept));
            }
            Err(Error::Connector(error)) if error.kind == ErrorKind::NotFound => {
                dead.insert(state);
            }
            Err(error) if error.is_damage() || matches!(error, Error::Version { .. }) => {
                dead.insert(state);
                damaged.push(Damaged { id, error, modified: seen.modified });
            }
            Err(error) => return Err(error),
        }
    }
    // Close the gaps that damaged states left.
    let base = u32::try_from(parts.states.len()).expect("fewer than 2^32 states");
    let renumbered: HashMap<u32, u32> =
        kept_states.iter().zip(base..).map(|((old, ..), new)| (*old, new)).collect();
    for (old, merged, kept) in kept_states {
        parts.states.push(merged);
        let state = renumbered[&old];
        parts.kept.extend(kept.into_iter().map(|entry| Kept { state, entry }));
    }
    let mut sorted = sorter.finish()?;
    let (file, name) = table_file(source)?;
    let tier = Tier::write(file, name, source.keys.cache(), &mut |push| {
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
    })?;
    parts.tiers.push(tier);
    Ok(damaged)
}

/// Renumbers the state of a row. Rows of one blob and packfile keep their order, the numbers being monotonous.
fn with_state(row: &[u8], state: u32) -> Vec<u8> {
    let mut row = row.to_vec();
    super::tables::set_state(&mut row, state);
    row
}

/// Sorts one entry of a state into what is kept in memory and what goes to the tables.
fn collect(
    entry: StateEntry,
    state: u32,
    parts: &mut Cached,
    ordinals: &mut HashMap<Id, u32>,
    kept: &mut Vec<StateEntry>,
    sorter: &mut Sorter<ByteOrder>,
) -> Result<(), Error> {
    let packs = &mut parts.packs;
    let mut ordinal = |id: Id| {
        *ordinals.entry(id).or_insert_with(|| {
            packs.push(id);
            u32::try_from(packs.len() - 1).expect("fewer than 2^32 packfiles")
        })
    };
    match &entry {
        StateEntry::Location(location) => {
            // Padding is never looked up.
            if location.kind == BlobType::RANDOM {
                return Ok(());
            }
            let pack = ordinal(location.packfile);
            sorter.push(&Row::new(location, pack, state).encode(), &[])?;
            if location.kind == BlobType::SNAPSHOT || location.kind == BlobType::JOURNAL {
                kept.push(entry);
            }
        }
        StateEntry::Packfile(pack) => {
            ordinal(pack.packfile);
            kept.push(entry);
        }
        _ => kept.push(entry),
    }
    Ok(())
}

/// Merges tiers of like size, so that a look-up asks few and an addition rewrites little.
fn compact(source: &Source<'_>, parts: &mut Cached) -> Result<(), Error> {
    while let [.., a, b] = parts.tiers.as_slice() {
        if b.rows().saturating_mul(2) < a.rows() {
            break;
        }
        let (file, name) = table_file(source)?;
        let merged = Tier::merge(a, b, file, name, source.keys.cache())?;
        parts.tiers.truncate(parts.tiers.len() - 2);
        parts.tiers.push(merged);
    }
    Ok(())
}

fn table_file(source: &Source<'_>) -> Result<(std::fs::File, Option<String>), Error> {
    if let Some(cache) = source.cache
        && let Ok((file, name)) = cache.create_table()
    {
        return Ok((file, Some(name)));
    }
    Ok((anonymous(source.spills.folder())?, None))
}
