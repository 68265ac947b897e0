//! The MAC of a content that is stored in chunks: computed by the threads that store them, in order.
//!
//! Why not by the thread that reads: reading, cutting and hashing one large content would keep one processor busy
//! and leave the others waiting for it. A MAC can only be computed from front to back, so that a thread that has a
//! chunk in hand adds it if it is next, and leaves it to whoever adds the one before if it is not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::Id;
use crate::base::budget::Permit;
use crate::crypto::MacHasher;

/// The longest memory that is kept for another chunk, in bytes: twice what a chunk has on average.
const LONGEST: usize = 2 << 20;

/// Memory of chunks that were stored, used again: fresh memory has to be cleared by the system first.
#[derive(Debug)]
pub(super) struct Spare {
    kept: Mutex<Vec<Vec<u8>>>,
    most: usize,
}

impl Spare {
    /// Keeps no more than so many bytes.
    pub(super) fn new(bytes: u64) -> Self {
        let most = usize::try_from(bytes / LONGEST as u64).unwrap_or(0);
        Self { kept: Mutex::default(), most }
    }

    fn take(&self) -> Vec<u8> {
        lock(&self.kept).pop().unwrap_or_default()
    }

    fn give(&self, mut bytes: Vec<u8>) {
        bytes.clear();
        let mut kept = lock(&self.kept);
        if bytes.capacity() <= LONGEST && kept.len() < self.most {
            kept.push(bytes);
        }
    }
}

/// The bytes of one chunk, within a budget.
#[derive(Debug)]
struct Bytes {
    content: Vec<u8>,
    spare: Arc<Spare>,
    _memory: Permit,
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.spare.give(std::mem::take(&mut self.content));
    }
}

/// A chunk until it is stored and hashed.
#[derive(Clone, Debug)]
pub(super) struct Held(Arc<Bytes>);

impl Held {
    /// Takes a copy of a chunk.
    pub(super) fn new(chunk: &[u8], spare: &Arc<Spare>, memory: Permit) -> Self {
        let mut content = spare.take();
        content.reserve_exact(chunk.len());
        content.extend_from_slice(chunk);
        Self(Arc::new(Bytes { content, spare: Arc::clone(spare), _memory: memory }))
    }

    /// Returns the chunk.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0.content
    }
}

/// The MAC of a whole content in the making.
#[derive(Debug)]
pub(super) struct Whole(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Taken by the thread that is hashing.
    hasher: Option<MacHasher>,
    /// The number of the chunk that is next.
    next: usize,
    /// Chunks that came before their turn.
    waiting: BTreeMap<usize, Held>,
}

impl Whole {
    pub(super) fn new(hasher: MacHasher) -> Self {
        Self(Mutex::new(State { hasher: Some(hasher), next: 0, waiting: BTreeMap::new() }))
    }

    /// Adds a chunk by its number. Hashes whatever is next, unless another thread is at it, which will do this one,
    /// too.
    pub(super) fn add(&self, number: usize, chunk: &Held) {
        let mut state = lock(&self.0);
        state.waiting.insert(number, chunk.clone());
        let Some(mut hasher) = state.hasher.take() else { return };
        loop {
            let next = state.next;
            let Some(chunk) = state.waiting.remove(&next) else { break };
            state.next += 1;
            drop(state);
            hasher.update(chunk.bytes());
            drop(chunk);
            state = lock(&self.0);
        }
        state.hasher = Some(hasher);
    }

    /// Returns the MAC of all chunks, every one of which was added.
    pub(super) fn finish(self) -> Id {
        let state = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.hasher.expect("whoever takes it puts it back").finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::budget::Budget;
    use crate::crypto::{HashAlgorithm, MacKey};

    #[test]
    fn chunks_in_any_order_make_the_mac_of_the_whole() {
        let key = MacKey::new(HashAlgorithm::Blake3, [3; 32]);
        let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let (budget, spare) = (Budget::new(1 << 20), Arc::new(Spare::new(1 << 22)));
        let chunks: Vec<Held> = content
            .chunks(1234)
            .map(|chunk| Held::new(chunk, &spare, budget.acquire(chunk.len() as u64)))
            .collect();
        assert_eq!(budget.used(), content.len() as u64);
        // Each thread takes every third, from the last to the first.
        let whole = Whole::new(key.hasher());
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let (whole, chunks) = (&whole, &chunks);
                scope.spawn(move || {
                    for (number, chunk) in chunks.iter().enumerate().rev() {
                        if number % 3 == thread {
                            whole.add(number, chunk);
                        }
                    }
                });
            }
        });
        assert_eq!(whole.finish(), key.mac(&content));
        drop(chunks);
        assert_eq!(budget.used(), 0);
        assert_eq!(lock(&spare.kept).len(), 2, "memory is kept, but not all of it");
    }

    #[test]
    fn no_chunk_is_the_mac_of_nothing() {
        let key = MacKey::new(HashAlgorithm::Blake3, [3; 32]);
        assert_eq!(Whole::new(key.hasher()).finish(), key.mac(b""));
    }
}
