//! Loading a catalogue: from the cache what is known already, from the store what is new.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::base::Id;
use crate::base::sort::{ByteOrder, Sorter};
use crate::base::spill::SpillDir;
use crate::connector::{ErrorKind, Kind, Storage};
use crate::format::blob::BlobType;
use crate::format::state::StateEntry;

use super::super::encoding::Encoding;
use super::super::error::Error;
use super::super::keys::Keys;
use super::super::state::{read_state, read_trailer};
use super::aggregate::{Aggregate, Kept};
use super::cache::{CacheDir, Cached};
use super::tables::{Row, Tier, anonymous, state_of};
use super::{Catalogue, Merged};

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

/// States that could not be used, with the reason. What they alone named is unknown.
pub(in super::super) type Damaged = Vec<(Id, Error)>;

/// Loads the catalogue of a store.
pub(in super::super) fn load(source: &Source<'_>) -> Result<(Catalogue, Damaged), Error> {
    let mut listed = BTreeMap::new();
    source.storage.list(Kind::State, &mut |state| {
        listed.insert(state.id, state.size);
    })?;
    let cached = source.cache.and_then(|cache| cache.read(source.keys.cache()));
    let mut parts = match cached {
        Some(cached) if is_valid(&cached, &listed, source)? => cached,
        _ => Cached::default(),
    };
    let have: HashSet<Id> = parts.states.iter().map(|state| state.id).collect();
    let missing: Vec<(Id, u64)> = listed.into_iter().filter(|(id, _)| !have.contains(id)).collect();
    let damaged = if missing.is_empty() { Vec::new() } else { merge(source, &mut parts, &missing)? };
    if !missing.is_empty() {
        compact(source, &mut parts)?;
        if let Some(cache) = source.cache {
            // The cache is a help, not a need.
            let _ = cache.write(&parts, source.keys.cache());
        }
    }
    let Cached { states, packs, kept, tiers } = parts;
    let ordinals: HashMap<Id, u32> = (0_u32..).zip(&packs).map(|(ordinal, id)| (*id, ordinal)).collect();
    let aggregate = Aggregate::new(&states, &ordinals, &kept);
    Ok((Catalogue { tiers, packs, ordinals, states, aggregate, quick: None }, damaged))
}

/// A cache is valid while everything it merged is still there, as it was.
///
/// Where reads are cheap, and for archives, whose one state always has the same id, the trailers are compared;
/// elsewhere the length in the listing stands for them, state ids being random.
fn is_valid(cached: &Cached, listed: &BTreeMap<Id, u64>, source: &Source<'_>) -> Result<bool, Error> {
    for state in &cached.states {
        if listed.get(&state.id) != Some(&state.size) {
            return Ok(false);
        }
        if (!source.storage.is_remote() || source.storage.is_archive())
            && read_trailer(source.storage, state.id, state.size)? != state.facts.trailer
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Reads the missing states into one new tier.
fn merge(source: &Source<'_>, parts: &mut Cached, missing: &[(Id, u64)]) -> Result<Damaged, Error> {
    let mut ordinals: HashMap<Id, u32> =
        (0_u32..).zip(&parts.packs).map(|(ordinal, id)| (*id, ordinal)).collect();
    let mut sorter = Sorter::new(ByteOrder, source.spills, SORT_MEMORY);
    let (mut damaged, mut dead) = (Vec::new(), HashSet::new());
    // Ordinals of states that turn out to be damaged are not used again in this load.
    let first = u32::try_from(parts.states.len()).expect("fewer than 2^32 states");
    let mut kept_states = Vec::new();
    for (state, (id, size)) in (first..).zip(missing) {
        let mut kept = Vec::new();
        let result = read_state(source.storage, source.keys, source.encoding, *id, *size, &mut |entry| {
            collect(entry, state, parts, &mut ordinals, &mut kept, &mut sorter)
        });
        match result {
            Ok(facts) => {
                kept_states.push((state, Merged { id: *id, size: *size, facts }, kept));
            }
            Err(Error::Connector(error)) if error.kind == ErrorKind::NotFound => {
                dead.insert(state);
            }
            Err(error) if error.is_damage() || matches!(error, Error::Version { .. }) => {
                dead.insert(state);
                damaged.push((*id, error));
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
