//! Reading states whole, whatever was known of them before.
//!
//! A catalogue that comes from the cache says what states said when they were merged. That they still say it is known
//! only when all of each is read and compared with its trailer: a check, and whatever deletes something, does that.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::base::Id;
use crate::connector::{ErrorKind, Kind};

use super::super::error::Error;
use super::super::state::read_state;
use super::{Catalogue, Source};

/// The most states read at once.
const THREADS: usize = 4;

/// What reading the states of a catalogue came to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in super::super) enum Verdict {
    /// Every one is whole.
    Whole,
    /// One is not there any more: another may have taken its place.
    Changed,
    /// One is damaged.
    Damaged,
}

/// Reads every state of a catalogue that was not read whole when that was loaded.
///
/// # Errors
/// A state that cannot be reached; damage is none.
pub(in super::super) fn verify(source: &Source<'_>, catalogue: &Catalogue) -> Result<Verdict, Error> {
    let mut listed = HashMap::new();
    source.storage.list(Kind::State, &mut |state| {
        listed.insert(state.id, state.size);
    })?;
    let mut work = Vec::new();
    for id in catalogue.states().filter(|id| !catalogue.fresh.contains(id)) {
        match listed.get(&id) {
            Some(size) => work.push((id, *size)),
            None => return Ok(Verdict::Changed),
        }
    }
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Ok(Verdict::Whole));
    std::thread::scope(|scope| {
        for _ in 0..source.storage.parallelism().min(THREADS).min(work.len()) {
            scope.spawn(|| {
                while let Some((id, size)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let one = read_whole(source, *id, *size);
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    match (&mut *found, one) {
                        (Ok(worst), Ok(verdict)) => *worst = verdict.max(*worst),
                        (failed @ Ok(_), Err(error)) => *failed = Err(error),
                        (Err(_), _) => {}
                    }
                    if !matches!(*found, Ok(Verdict::Whole)) {
                        next.store(work.len(), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Reads one state; what does not verify is read once more.
fn read_whole(source: &Source<'_>, id: Id, size: u64) -> Result<Verdict, Error> {
    let Source { storage, keys, encoding, .. } = *source;
    let read = || read_state(storage, keys, encoding, id, size, &mut |_| Ok(())).map(drop);
    match read().or_else(|error| if error.is_damage() { read() } else { Err(error) }) {
        Ok(()) => Ok(Verdict::Whole),
        Err(Error::Connector(error)) if error.kind == ErrorKind::NotFound => Ok(Verdict::Changed),
        Err(error) if error.is_damage() => Ok(Verdict::Damaged),
        Err(error) => Err(error),
    }
}
