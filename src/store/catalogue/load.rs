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
//!
//! None of that says that a state can still be read: what is to be relied on by others is verified as a whole
//! ([`verify`](super::verify)).

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::base::Id;
use crate::base::spill::SpillDir;
use crate::base::sys::memory_file;
use crate::connector::{Kind, Listed, Storage};

use super::super::encoding::Encoding;
use super::super::error::Error;
use super::super::keys::Keys;
use super::super::state::read_trailer;
use super::aggregate::Aggregate;
use super::cache::{CacheDir, Cached};
use super::folds::Folds;
use super::merge::{Merging, merge};
use super::tables::{Tier, anonymous};
use super::{Catalogue, Merged, Seen};

/// What a catalogue is loaded from.
pub(in super::super) struct Source<'a> {
    pub(in super::super) storage: &'a dyn Storage,
    pub(in super::super) keys: &'a Keys,
    pub(in super::super) encoding: &'a Encoding,
    pub(in super::super) spills: &'a SpillDir,
    pub(in super::super) cache: Option<&'a CacheDir>,
    /// Whether what the cache holds is not to be believed: every state is read, and the cache replaced.
    pub(in super::super) afresh: bool,
    /// Where new tables go.
    pub(in super::super) tables: Tables,
    /// The memory that the run may take, in bytes.
    pub(in super::super) memory: Option<u64>,
}

/// Where new tables of a catalogue go: to the next where one cannot be written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(in super::super) enum Tables {
    /// To the cache, if there is one, else to the folder of temporary files.
    #[default]
    Cache,
    /// To the folder of temporary files.
    Folder,
    /// To memory: reading must not depend on a disk that has room.
    Memory,
}

/// Tries places for tables one after the other, for as long as it is writing them that fails.
fn in_some_place<T>(mut load: impl FnMut(Tables) -> Result<T, Error>) -> Result<T, Error> {
    let is_local = |error: &Error| matches!(error, Error::Spool { .. } | Error::Io(_));
    match load(Tables::Cache) {
        Err(error) if is_local(&error) => {}
        done => return done,
    }
    match load(Tables::Folder) {
        Err(error) if is_local(&error) => match load(Tables::Memory) {
            // What is wrong is the folder.
            Err(worse) if is_local(&worse) => Err(error),
            done => done,
        },
        done => done,
    }
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

/// How often the states are listed again because one that was listed is gone.
const LISTINGS: usize = 4;

/// Loads the catalogue of a store.
pub(in super::super) fn load(source: &Source<'_>) -> Result<(Catalogue, Vec<Damaged>), Error> {
    let loaded = in_some_place(|tables| load_to(&Source { tables, ..*source }));
    loaded.map_err(|error| error.placed(source.spills.folder().display()))
}

fn load_to(source: &Source<'_>) -> Result<(Catalogue, Vec<Damaged>), Error> {
    let mut listings = 1;
    loop {
        let (loaded, complete) = load_listed(source)?;
        // A state that goes after it was listed was folded: the next listing has the state that took its place.
        if complete || listings == LISTINGS {
            return Ok(loaded);
        }
        listings += 1;
    }
}

/// Loads what one listing shows; returns whether all of it could be found.
fn load_listed(source: &Source<'_>) -> Result<((Catalogue, Vec<Damaged>), bool), Error> {
    let mut listed = BTreeMap::new();
    source.storage.list(Kind::State, &mut |state| {
        listed.insert(state.id, state);
    })?;
    let believed = source.cache.filter(|_| !source.afresh);
    let cached = believed.and_then(|cache| cache.read(source.keys.cache()));
    let valid = cached.map(|cached| revalidate(cached, &listed, source)).transpose()?.flatten();
    let (parts, mut changed) = valid.unwrap_or_default();
    let mut merged = merge(source, parts, &listed)?;
    if merged.is_none() {
        merged = merge(source, Cached::default(), &listed)?;
    }
    let Some(Merging { mut parts, damaged, vanished, grown, fresh }) = merged else {
        unreachable!("only what was cached can be in the way");
    };
    if grown {
        compact(source, &mut parts)?;
        changed = true;
    }
    if let Some(cache) = source.cache.filter(|_| changed || source.afresh) {
        // The cache is a help, not a need.
        let _ = cache.write(&parts, source.keys.cache());
    }
    let Cached { states, packs, kept, tiers } = parts;
    let ordinals: HashMap<Id, u32> = (0_u32..).zip(&packs).map(|(ordinal, id)| (*id, ordinal)).collect();
    let folds = Folds::of(&states, &kept);
    let aggregate = Aggregate::new(&states, &ordinals, &kept, &folds);
    let catalogue = Catalogue { tiers, packs, ordinals, states, aggregate, folds, fresh, quick: None };
    Ok(((catalogue, damaged), !vanished))
}

/// Returns the cache if it is valid, and whether what is known of its states has to be written again.
fn revalidate(
    mut cached: Cached,
    listed: &BTreeMap<Id, Listed>,
    source: &Source<'_>,
) -> Result<Option<(Cached, bool)>, Error> {
    let remote = source.storage.is_remote() && !source.storage.is_archive();
    let mut doubtful = Vec::new();
    for (ordinal, state) in cached.states.iter_mut().enumerate().filter(|(_, state)| !state.folded) {
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
        // A system that gives fewer threads, or none, is asked for more by this one.
        let spawn = |_| std::thread::Builder::new().spawn_scoped(scope, work).ok();
        let threads: Vec<_> = (1..threads.min(states.len())).filter_map(spawn).collect();
        let own = work();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or(Err(Error::Aborted)))
            .fold(own, |all, equal| Ok(all? & equal?))
    })
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

pub(super) fn table_file(source: &Source<'_>) -> Result<(std::fs::File, Option<String>), Error> {
    match (source.tables, source.cache) {
        (Tables::Cache, Some(cache)) => {
            if let Ok((file, name)) = cache.create_table() {
                return Ok((file, Some(name)));
            }
        }
        (Tables::Memory, _) => {
            let file = memory_file().map_err(|source| Error::spool("create", source))?;
            return Ok((file, None));
        }
        _ => {}
    }
    Ok((anonymous(source.spills.folder())?, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(error: fn() -> Error, places: usize) -> (Result<Tables, Error>, Vec<Tables>) {
        let mut tried = Vec::new();
        let result = in_some_place(|tables| {
            tried.push(tables);
            if tried.len() <= places { Err(error()) } else { Ok(tables) }
        });
        (result, tried)
    }

    #[test]
    fn tables_go_where_they_can_be_written() {
        let full = || Error::spool("write", std::io::ErrorKind::StorageFull.into());
        for (places, found) in [(0, Tables::Cache), (1, Tables::Folder), (2, Tables::Memory)] {
            assert_eq!(failing(full, places).0.unwrap(), found);
        }
        let (result, tried) = failing(full, 3);
        assert!(result.is_err() && tried == [Tables::Cache, Tables::Folder, Tables::Memory]);
        // What the store answers is no reason to try again.
        let (result, tried) = failing(|| Error::Cancelled, 1);
        assert!(result.is_err() && tried == [Tables::Cache]);
    }
}
