//! What is known of the packfiles in cold storage.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::{Cancel, Id};
use crate::connector::{Readiness, Retrieval};
use crate::format::blob::BlobType;
use crate::store::{Catalogue, Error, Repository};

/// Requests about packfiles that wait for answers at once.
const THREADS: usize = 16;

/// Not asked yet.
const UNKNOWN: u8 = 0;
const READABLE: u8 = 1;
const ONGOING: u8 = 2;
const ARCHIVED: u8 = 3;

/// Returns the packfiles that the listing says are archived, whether a state knows them or not.
pub(in super::super) fn archived(repository: &Repository) -> Result<HashSet<Id>, Error> {
    let mut found = HashSet::new();
    if let Some(retrieval) = repository.storage().retrieval() {
        let expected = repository.catalogue().pack_count();
        retrieval.list_archived(expected, &mut |listed| {
            found.insert(listed.id);
        })?;
    }
    Ok(found)
}

/// The packfiles of a store by ordinal: how long the archived ones are, and what was learnt of them.
#[derive(Debug)]
pub(super) struct ColdPacks<'a> {
    pub(super) repository: &'a Repository,
    pub(super) catalogue: Arc<Catalogue>,
    /// The length in bytes of packfiles that the listing says are archived; 0 of all others.
    sizes: Vec<u64>,
    states: Vec<AtomicU8>,
}

impl<'a> ColdPacks<'a> {
    /// Lists the packfiles; `None` where no packfile of the store is archived.
    pub(super) fn find(repository: &'a Repository) -> Result<Option<Self>, Error> {
        let Some(retrieval) = repository.storage().retrieval() else { return Ok(None) };
        let catalogue = repository.catalogue();
        let mut sizes = Vec::new();
        retrieval.list_archived(catalogue.pack_count(), &mut |listed| {
            if let Some(ordinal) = catalogue.pack_ordinal(&listed.id) {
                sizes.resize(catalogue.pack_count(), 0);
                sizes[ordinal] = listed.size.max(1);
            }
        })?;
        if sizes.is_empty() {
            return Ok(None);
        }
        let states = sizes.iter().map(|_| AtomicU8::new(UNKNOWN)).collect();
        Ok(Some(Self { repository, catalogue, sizes, states }))
    }

    /// Returns how packfiles are asked for.
    pub(super) fn retrieval(&self) -> &'a dyn Retrieval {
        self.repository.storage().retrieval().expect("asked when the packfiles were listed")
    }

    /// Returns the number of packfiles.
    pub(super) fn len(&self) -> usize {
        self.sizes.len()
    }

    pub(super) fn id(&self, ordinal: usize) -> Id {
        self.catalogue.pack_id(ordinal)
    }

    pub(super) fn size(&self, ordinal: usize) -> u64 {
        self.sizes[ordinal]
    }

    /// Returns whether the listing says that a packfile is archived.
    fn is_listed(&self, ordinal: usize) -> bool {
        self.sizes.get(ordinal).is_some_and(|size| *size > 0)
    }

    /// Returns the packfile that must be retrieved before a blob can be read: `None` where some copy can be read
    /// already. One of those that `planned` prefers is taken, else the first.
    pub(super) fn in_the_way(
        &self,
        kind: BlobType,
        id: &Id,
        planned: &dyn Fn(usize) -> bool,
    ) -> Result<Option<usize>, Error> {
        let mut first = None;
        for place in self.catalogue.find_any(kind, id)? {
            let pack = place.pack as usize;
            if !self.is_listed(pack) || self.states[pack].load(Ordering::Relaxed) == READABLE {
                return Ok(None);
            }
            if first.is_none() || planned(pack) {
                first = Some(pack);
            }
        }
        Ok(first)
    }

    /// Asks whether a packfile can be read, unless that is known.
    pub(super) fn is_readable(&self, ordinal: usize) -> Result<bool, Error> {
        if self.states[ordinal].load(Ordering::Relaxed) == UNKNOWN {
            self.look(ordinal)?;
        }
        Ok(self.states[ordinal].load(Ordering::Relaxed) == READABLE)
    }

    /// Returns whether the retrieval of a packfile was under way when it was last looked at.
    pub(super) fn is_ongoing(&self, ordinal: usize) -> bool {
        self.states[ordinal].load(Ordering::Relaxed) == ONGOING
    }

    /// Asks whether a packfile can be read now.
    pub(super) fn look(&self, ordinal: usize) -> Result<Readiness, Error> {
        let readiness = self.retrieval().readiness(self.id(ordinal))?;
        self.learn(ordinal, readiness);
        Ok(readiness)
    }

    pub(super) fn learn(&self, ordinal: usize, readiness: Readiness) {
        let state = match readiness {
            Readiness::Ready | Readiness::Retrieved { .. } => READABLE,
            Readiness::Ongoing => ONGOING,
            Readiness::Archived => ARCHIVED,
        };
        self.states[ordinal].store(state, Ordering::Relaxed);
    }

    /// Does something with each of some packfiles, several at a time; the first error ends it.
    pub(super) fn each(
        &self,
        ordinals: &[usize],
        cancel: &Cancel,
        run: &(dyn Fn(usize) -> Result<(), Error> + Sync),
    ) -> Result<(), Error> {
        let threads = self.repository.storage().parallelism().clamp(1, THREADS);
        let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
        std::thread::scope(|scope| {
            for _ in 0..threads.min(ordinals.len()) {
                scope.spawn(|| {
                    while let Some(ordinal) = ordinals.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let done = if cancel.is_cancelled() { Err(Error::Cancelled) } else { run(*ordinal) };
                        if let Err(error) = done {
                            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                            next.store(ordinals.len(), Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}
