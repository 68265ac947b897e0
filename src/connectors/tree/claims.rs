//! Which names a restore gave out: where a server does not tell all names of a snapshot apart, the second one must not
//! take the place of the first.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// For how long a folder that was looked at is taken for one.
pub(super) const TRUST: Duration = Duration::from_secs(1);
/// How many folders are remembered as looked at.
const REMEMBERED: usize = 4096;
/// Marks a name that several paths claimed.
const CONTESTED: u64 = 1;

/// What a restore did, by hashes of paths, so that little is held for each. Nobody who writes a snapshot knows the key
/// of the hashes.
#[derive(Debug, Default)]
pub(super) struct Claims {
    key: RandomState,
    held: Mutex<Held>,
    turn: Mutex<()>,
}

#[derive(Debug, Default)]
struct Held {
    /// By the hash of the path without regard to case: the hash of the path, its lowest bit set where several paths
    /// claimed the name.
    names: HashMap<u64, u64>,
    /// Folders that were not there before.
    made: HashSet<u64>,
    /// Folders that could not be had: nothing may be put below these names.
    refused: HashSet<u64>,
    /// Folders that were looked at, and when.
    looked_at: HashMap<u64, Instant>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Claims {
    fn hash(&self, path: &[u8]) -> u64 {
        self.key.hash_one(path)
    }

    /// Notes a path. Returns whether another one came before that some servers take for the same.
    pub(super) fn claim(&self, path: &[u8]) -> bool {
        let (folded, own) = (self.hash(&fold(path)), self.hash(path) & !CONTESTED);
        let mut held = lock(&self.held);
        let known = held.names.entry(folded).or_insert(own);
        if *known == own {
            return false;
        }
        *known |= CONTESTED;
        true
    }

    /// Returns the turn of a path that several names stand for: while it is held no other is put in place.
    pub(super) fn turn(&self, path: &[u8]) -> Option<MutexGuard<'_, ()>> {
        let folded = self.hash(&fold(path));
        let contested = lock(&self.held).names.get(&folded).is_some_and(|known| known & CONTESTED != 0);
        contested.then(|| lock(&self.turn))
    }

    /// Notes a folder that was made.
    pub(super) fn made(&self, path: &[u8]) {
        let key = self.hash(path);
        lock(&self.held).made.insert(key);
    }

    /// Returns whether a folder was made by this restore, and forgets it.
    pub(super) fn take_made(&self, path: &[u8]) -> bool {
        let key = self.hash(path);
        lock(&self.held).made.remove(&key)
    }

    /// Notes a folder that could not be had.
    pub(super) fn refuse(&self, path: &[u8]) {
        let key = self.hash(path);
        lock(&self.held).refused.insert(key);
    }

    /// Returns whether a folder could not be had.
    pub(super) fn is_refused(&self, path: &[u8]) -> bool {
        let key = self.hash(path);
        lock(&self.held).refused.contains(&key)
    }

    /// Notes that a folder was seen to be one.
    pub(super) fn trust(&self, path: &[u8]) {
        let key = self.hash(path);
        let mut held = lock(&self.held);
        if held.looked_at.len() >= REMEMBERED {
            held.looked_at.clear();
        }
        held.looked_at.insert(key, Instant::now());
    }

    /// Returns whether a folder was seen to be one a moment ago.
    pub(super) fn is_trusted(&self, path: &[u8]) -> bool {
        let key = self.hash(path);
        lock(&self.held).looked_at.get(&key).is_some_and(|at| at.elapsed() < TRUST)
    }
}

/// Returns a path as a file system that disregards case sees it, near enough.
fn fold(path: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(path) {
        Ok(text) => text.to_lowercase().into_bytes(),
        Err(_) => path.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_in_case_are_contested() {
        let claims = Claims::default();
        assert!(!claims.claim(b"/r/a") && !claims.claim(b"/r/b") && !claims.claim(b"/r/a"));
        assert!(claims.turn(b"/r/a").is_none());
        assert!(claims.claim(b"/r/A"));
        assert!(
            claims.turn(b"/r/a").is_some()
                && claims.turn(b"/r/A").is_some()
                && claims.turn(b"/r/b").is_none()
        );
        assert!(claims.claim("/r/É/x".as_bytes()) == claims.claim(b"/r/\xc9/x"));
        assert!(claims.claim("/r/é/x".as_bytes()));
    }
}
