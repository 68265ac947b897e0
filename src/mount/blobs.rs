//! Blobs that were read lately, each read once however many ask for it at a time.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::base::Id;
use crate::crypto::MacKey;
use crate::format::blob::BlobType;
use crate::format::object::ChunkRef;
use crate::snapshot::read_chunk;
use crate::store::blob::{BlobSource, Result};
use crate::store::{Error, Repository, Window};

type Key = (BlobType, Id);

/// What an entry of a cache takes besides its bytes, about.
const OVERHEAD: u64 = 128;
/// How long lies between two looks at what the store holds, when something is missing.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Blobs within a number of bytes.
struct Cache {
    limit: u64,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    kept: LruCache<Key, Arc<Vec<u8>>>,
    bytes: u64,
    /// What some thread is reading.
    loading: HashSet<Key>,
}

impl Cache {
    fn new(limit: u64) -> Self {
        let state = State { kept: LruCache::unbounded(), bytes: 0, loading: HashSet::new() };
        Self { limit, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a blob that is kept, or that another thread reads meanwhile; else reads it.
    fn get(&self, key: Key, load: impl FnOnce() -> Result<Vec<u8>>) -> Result<Arc<Vec<u8>>> {
        let mut state = self.lock();
        loop {
            if let Some(bytes) = state.kept.get(&key) {
                return Ok(Arc::clone(bytes));
            }
            if state.loading.insert(key) {
                break;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        let claim = Claim { cache: self, key };
        let bytes = Arc::new(load()?);
        claim.fulfil(&bytes);
        Ok(bytes)
    }

    /// Takes it upon the caller to read a blob; nothing where it is kept or being read.
    fn claim(&self, key: Key) -> Option<Claim<'_>> {
        let mut state = self.lock();
        if state.kept.contains(&key) || !state.loading.insert(key) {
            return None;
        }
        Some(Claim { cache: self, key })
    }
}

/// The right to read a blob; others wait for it until this is dropped.
struct Claim<'a> {
    cache: &'a Cache,
    key: Key,
}

impl Claim<'_> {
    fn fulfil(self, bytes: &Arc<Vec<u8>>) {
        let mut state = self.cache.lock();
        state.bytes += bytes.len() as u64 + OVERHEAD;
        if let Some(old) = state.kept.put(self.key, Arc::clone(bytes)) {
            state.bytes -= old.len() as u64 + OVERHEAD;
        }
        while state.bytes > self.cache.limit {
            let Some((_, old)) = state.kept.pop_lru() else { break };
            state.bytes -= old.len() as u64 + OVERHEAD;
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.cache.lock().loading.remove(&self.key);
        self.cache.changed.notify_all();
    }
}

/// The blobs of a store, those read lately in memory. Contents do not crowd out what folders need.
pub(super) struct Blobs {
    repository: Arc<Repository>,
    metadata: Cache,
    contents: Cache,
    /// When the store was last asked what it holds.
    looked: Mutex<Instant>,
}

impl fmt::Debug for Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blobs({:?})", self.repository)
    }
}

impl Blobs {
    /// Keeps at most three quarters of `memory` bytes.
    pub(super) fn new(repository: Arc<Repository>, memory: u64) -> Self {
        let (metadata, contents) = (Cache::new(memory / 4), Cache::new(memory / 2));
        Self { repository, metadata, contents, looked: Mutex::new(Instant::now()) }
    }

    pub(super) fn repository(&self) -> &Arc<Repository> {
        &self.repository
    }

    /// Returns how many bytes of contents are kept at most.
    pub(super) fn content_limit(&self) -> u64 {
        self.contents.limit
    }

    /// Returns a chunk, verified, and as long as its object says. Fails with [`Error::Malformed`] where it is not:
    /// another object, which was read before, may tell the truth about the same chunk.
    pub(super) fn chunk(&self, chunk: &ChunkRef) -> Result<Arc<Vec<u8>>> {
        let bytes = self.contents.get((BlobType::CHUNK, chunk.id), || {
            self.fresh(|| read_chunk(&self.repository, None, &chunk.id, chunk.length))
        })?;
        if bytes.len() as u64 != u64::from(chunk.length) {
            let detail = format!("it has {} bytes, its object says {}", bytes.len(), chunk.length);
            return Err(Error::malformed(&format!("chunk {}", chunk.id), &detail));
        }
        Ok(bytes)
    }

    /// Reads chunks that will be asked for. What fails is left for whoever asks.
    pub(super) fn read_ahead(&self, chunks: &[ChunkRef]) {
        let claims: Vec<(Claim<'_>, &ChunkRef)> = chunks
            .iter()
            .filter_map(|chunk| Some((self.contents.claim((BlobType::CHUNK, chunk.id))?, chunk)))
            .collect();
        let mut places = Vec::new();
        if self.repository.storage().is_remote() {
            let catalogue = self.repository.catalogue();
            for (_, chunk) in &claims {
                places.extend(
                    catalogue.find_any(BlobType::CHUNK, &chunk.id).unwrap_or_default().into_iter().take(1),
                );
            }
        }
        let window = Window::fetch(&self.repository, places);
        for (claim, chunk) in claims {
            if let Ok(bytes) = read_chunk(&self.repository, Some(&window), &chunk.id, chunk.length) {
                claim.fulfil(&Arc::new(bytes));
            }
        }
    }

    /// Reads something; where the store does not hold it as it was seen last, it is looked at again: maintenance moves
    /// blobs while a mount stands.
    fn fresh<T>(&self, read: impl Fn() -> Result<T>) -> Result<T> {
        let missing = |error: &Error| match error {
            Error::Missing { .. } => true,
            Error::Connector(error) => error.kind == crate::connector::ErrorKind::NotFound,
            _ => false,
        };
        match read() {
            Err(error) if missing(&error) && self.look_again() => read(),
            result => result,
        }
    }

    fn look_again(&self) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.elapsed() < LOOK_AGAIN || self.repository.storage().is_archive() {
            return false;
        }
        *looked = Instant::now();
        self.repository.reload().is_ok()
    }
}

impl BlobSource for Blobs {
    fn mac_key(&self) -> &MacKey {
        self.repository.mac_key()
    }

    fn get(&self, kind: BlobType, id: &Id) -> Result<Vec<u8>> {
        let read = || self.fresh(|| self.repository.get(kind, id));
        Ok(self.metadata.get((kind, *id), read)?.as_ref().clone())
    }

    fn has(&self, kind: BlobType, id: &Id) -> Result<bool> {
        self.repository.has(kind, id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn key(n: u8) -> Key {
        (BlobType::CHUNK, Id([n; 32]))
    }

    #[test]
    fn a_cache_keeps_what_was_used_last_within_its_limit() {
        let cache = Cache::new(3 * (100 + OVERHEAD));
        let read = |n: u8| cache.get(key(n), || Ok(vec![n; 100])).unwrap();
        for n in [1, 2, 3, 1, 4] {
            assert_eq!(read(n)[0], n);
        }
        let state = cache.lock();
        assert!(state.bytes <= cache.limit && state.loading.is_empty());
        assert!(state.kept.contains(&key(1)) && !state.kept.contains(&key(2)));
    }

    #[test]
    fn what_several_ask_for_is_read_once() {
        let (cache, reads) = (Cache::new(1 << 20), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    cache.get(key(1), || {
                        reads.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(Duration::from_millis(30));
                        Ok(vec![7; 10])
                    })
                });
            }
        });
        assert_eq!(reads.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_failed_read_is_tried_again_by_the_next() {
        let cache = Cache::new(1 << 20);
        assert!(cache.get(key(1), || Err(Error::Aborted)).is_err());
        assert!(cache.claim(key(1)).is_some(), "a claim that was dropped is free again");
        let claim = cache.claim(key(1)).unwrap();
        assert!(cache.claim(key(1)).is_none(), "one reader is enough");
        drop(claim);
        assert!(cache.get(key(1), || Ok(vec![1])).is_ok());
        assert!(cache.claim(key(1)).is_none());
    }
}
