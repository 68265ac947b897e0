//! Work under the exclusive lock.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::base::{Id, Timestamp};
use crate::connector::{ErrorKind, Kind};
use crate::crypto::random;
use crate::format::version::Version;

use super::super::catalogue::Catalogue;
use super::super::error::Error;
use super::super::locks::LockGuard;
use super::super::repository::{OpenError, Repository};
use super::super::state::{StateHead, put_state};
use super::changes::Changes;

/// An exclusive hold on a store: no snapshot is written while it lasts.
#[derive(Debug)]
pub struct Exclusive {
    repository: Arc<Repository>,
    lock: LockGuard,
    /// The states that were there when the lock was had, and our own.
    states: BTreeSet<Id>,
    damaged: Vec<(Id, bool)>,
    upgrade: bool,
}

impl Exclusive {
    /// Takes the exclusive lock and loads the catalogue anew, every state read whole. Locks of writers that died are
    /// swept on the way.
    ///
    /// # Errors
    /// [`Error::Locked`] while somebody else holds a lock. [`Error::Incomplete`] when `whole` is wanted and states
    /// are damaged or gone: what only they name would look like garbage; [`Error::OldStates`] where deletes need newer
    /// states than the store holds, unless `upgrade`.
    pub fn acquire(repository: &Arc<Repository>, whole: bool, upgrade: bool) -> Result<Self, Error> {
        repository.check_writable()?;
        let lock = repository.lock(random::id(), true)?;
        let damaged = repository.reload_telling(true)?;
        if whole {
            must_be_whole(repository, &damaged)?;
        }
        let catalogue = repository.catalogue();
        if whole && catalogue.only_old_states() && !upgrade {
            return Err(Error::OldStates);
        }
        let states = catalogue.states().chain(damaged.iter().map(|(id, _)| *id)).collect();
        Ok(Self { repository: Arc::clone(repository), lock, states, damaged, upgrade })
    }

    /// Returns the states that cannot be used, each with whether it is damaged (not just newer than this program).
    pub fn damaged_states(&self) -> &[(Id, bool)] {
        &self.damaged
    }

    /// Returns the catalogue as it is.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.repository.catalogue()
    }

    pub(super) fn repository(&self) -> &Arc<Repository> {
        &self.repository
    }

    /// Returns what the storage's clock showed when the lock was taken, where its listings tell times.
    pub fn taken(&self) -> Option<std::time::SystemTime> {
        self.lock.taken()
    }

    /// Returns whether the lock may have been taken for stale.
    pub(super) fn has_lapsed(&self) -> bool {
        self.lock.lapsed()
    }

    /// Takes a state for one of its own.
    pub(super) fn note_state(&mut self, id: Id) {
        self.states.insert(id);
    }

    /// Fails when the lock may have been taken for stale or is gone, or when a state came that this hold does not know.
    pub fn check(&self) -> Result<(), Error> {
        if self.lock.was_lost()? {
            return Err(Error::Interfered);
        }
        let (mut strange, catalogue) = (false, self.repository.catalogue());
        self.repository.storage().list(Kind::State, &mut |state| {
            strange |= !self.states.contains(&state.id) && !catalogue.is_folded(&state.id);
        })?;
        if strange { Err(Error::Interfered) } else { Ok(()) }
    }

    /// Loads the catalogue anew, and fails unless it is whole: with all states that were there when the lock was had,
    /// and our own. What is folded is only as whole as what was loaded.
    ///
    /// # Errors
    /// [`Error::Incomplete`] where states are damaged or gone, [`Error::Interfered`] where others came.
    pub fn reload(&self) -> Result<Arc<Catalogue>, Error> {
        must_be_whole(&self.repository, &self.repository.reload_telling(false)?)?;
        self.check()?;
        let catalogue = self.repository.catalogue();
        let counting: BTreeSet<Id> = catalogue.states().collect();
        match self.states.iter().find(|id| !counting.contains(id) && !catalogue.is_folded(id)) {
            Some(id) => Err(Error::Incomplete(format!("state {} is gone", id.short()))),
            None => Ok(catalogue),
        }
    }

    /// Puts a state of changes behind all others, and loads it. Nothing is put for no changes.
    pub fn commit(&mut self, changes: Changes) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        self.check()?;
        let repository = &self.repository;
        let catalogue = repository.catalogue();
        let old = repository.state_version() == Version::V1_0_0 && !self.upgrade;
        if old && !changes.deletes.is_empty() {
            return Err(Error::OldStates);
        }
        let id = random::id();
        let head = StateHead {
            id,
            version: if old { Version::V1_0_0 } else { Version::V1_1_0 },
            parent: catalogue.newest(),
            // Behind every state there is, so that what it takes back is taken back.
            timestamp: Timestamp::now().unix_nanos().max(catalogue.newest_time().saturating_add(1)),
            serial: if old { repository.config().repository_id } else { [0; 16] },
        };
        let mut entries = changes.entries(id)?;
        let (keys, encoding) = (repository.keys(), repository.encoding());
        put_state(repository.storage().as_ref(), keys, encoding, &head, &mut entries)?;
        self.states.insert(id);
        repository.refresh_after_commit().map_err(opened)
    }

    /// Deletes states that are damaged, once what they named is named by others, and takes the states that are left as
    /// given. A state that the storage holds on to is left out of the count returned.
    pub fn drop_damaged_states(&mut self) -> Result<u64, Error> {
        self.check()?;
        let mut dropped = 0;
        for (id, _) in self.damaged.iter().filter(|(_, damaged)| *damaged) {
            match self.repository.storage().delete(Kind::State, *id) {
                Ok(()) => dropped += 1,
                Err(error) if matches!(error.kind, ErrorKind::Denied | ErrorKind::ReadOnly) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.repository.accept_states().map_err(opened)?;
        Ok(dropped)
    }

    /// Deletes the file of a packfile; `false` when the storage holds on to it.
    pub fn delete_packfile(&self, id: Id) -> Result<bool, Error> {
        if self.lock.lapsed() {
            return Err(Error::Interfered);
        }
        match self.repository.storage().delete(Kind::Packfile, id) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind, ErrorKind::NotFound) => Ok(true),
            Err(error) if matches!(error.kind, ErrorKind::Denied | ErrorKind::ReadOnly) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

pub(super) fn opened(error: OpenError) -> Error {
    match error {
        OpenError::Store(error) => error,
        other => Error::malformed("the store after the change", &other.to_string()),
    }
}

/// Loads the catalogue anew, every state read whole, without any lock, for a plan. Fails as [`Exclusive::acquire`] does
/// where states are damaged or gone.
pub fn look(repository: &Repository) -> Result<Arc<Catalogue>, Error> {
    let damaged = repository.reload_telling(true)?;
    must_be_whole(repository, &damaged)?;
    Ok(repository.catalogue())
}

/// Loads the catalogue anew as [`look`] does, whatever its states are like. Returns those that cannot be used, each
/// with whether it is damaged.
pub fn look_at_any(repository: &Repository) -> Result<Vec<(Id, bool)>, Error> {
    repository.reload_telling(true)
}

/// Fails unless every state ever seen is there and readable.
fn must_be_whole(repository: &Repository, damaged: &[(Id, bool)]) -> Result<(), Error> {
    if let Some((id, _)) = damaged.first() {
        let more = damaged.len() - 1;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        return Err(Error::Incomplete(format!("state {}{more} cannot be used", id.short())));
    }
    if repository.misses_states() {
        return Err(Error::Incomplete("states seen before are gone".into()));
    }
    Ok(())
}
