//! A budget of bytes in flight: queues block, they do not grow.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A shared allowance of bytes. Whoever holds data acquires a [`Permit`] for it first and waits while the
/// allowance is used up; dropping the permit gives the bytes back.
///
/// Requests are served in the order they came, so a large one is not starved by small ones. A request larger
/// than the whole budget is granted when nothing else is in flight, so that it runs alone instead of never.
///
/// A thread that waits here must not be the one that has to drop a permit: acquire before entering the pool, or
/// use [`Budget::try_acquire`] inside it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    total: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    used: u64,
    peak: u64,
    next_ticket: u64,
    serving: u64,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock, so a poisoned state is still a right one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fits(&self, state: &State, bytes: u64) -> bool {
        state.used == 0 || state.used.saturating_add(bytes) <= self.total
    }
}

impl State {
    fn take(&mut self, bytes: u64) {
        self.used = self.used.saturating_add(bytes);
        self.peak = self.peak.max(self.used);
    }
}

impl Budget {
    /// Creates a budget of `total` bytes.
    pub fn new(total: u64) -> Self {
        Self(Arc::new(Inner { total, state: Mutex::default(), changed: Condvar::new() }))
    }

    /// Returns the size of the budget in bytes.
    pub fn total(&self) -> u64 {
        self.0.total
    }

    /// Returns the bytes in flight.
    pub fn used(&self) -> u64 {
        self.0.lock().used
    }

    /// Returns the most bytes that were ever in flight at once.
    pub fn peak(&self) -> u64 {
        self.0.lock().peak
    }

    /// Waits until `bytes` fit and takes them.
    pub fn acquire(&self, bytes: u64) -> Permit {
        let mut state = self.0.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        while state.serving != ticket || !self.0.fits(&state, bytes) {
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.serving += 1;
        state.take(bytes);
        drop(state);
        self.0.changed.notify_all();
        Permit { budget: self.0.clone(), bytes }
    }

    /// Takes `bytes` if they fit now and nobody waits.
    pub fn try_acquire(&self, bytes: u64) -> Option<Permit> {
        let mut state = self.0.lock();
        if state.serving != state.next_ticket || !self.0.fits(&state, bytes) {
            return None;
        }
        state.take(bytes);
        Some(Permit { budget: self.0.clone(), bytes })
    }
}

/// Bytes taken from a [`Budget`]; dropping it gives them back.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Inner>,
    bytes: u64,
}

impl Permit {
    /// Returns how many bytes are held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives back all but `bytes`; does nothing when no more than that is held.
    pub fn shrink(&mut self, bytes: u64) {
        if let Some(surplus) = self.bytes.checked_sub(bytes) {
            self.bytes = bytes;
            self.release(surplus);
        }
    }

    fn release(&self, bytes: u64) {
        if bytes > 0 {
            let mut state = self.budget.lock();
            state.used = state.used.saturating_sub(bytes);
            drop(state);
            self.budget.changed.notify_all();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn never_more_than_the_total_in_flight() {
        let budget = Budget::new(100);
        let held = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let (budget, held) = (&budget, &held);
                scope.spawn(move || {
                    for i in 0..200 {
                        let bytes = (thread * 31 + i * 7) % 60;
                        let permit = budget.acquire(bytes);
                        assert!(held.fetch_add(bytes, Ordering::SeqCst) + bytes <= 100);
                        held.fetch_sub(bytes, Ordering::SeqCst);
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!(budget.used(), 0);
        assert!(budget.peak() <= 100);
    }

    #[test]
    fn an_over_large_request_is_granted_alone() {
        let budget = Budget::new(10);
        let large = budget.acquire(1000);
        assert!(budget.try_acquire(1).is_none());
        drop(large);
        let mut small = budget.acquire(8);
        assert!(budget.try_acquire(1000).is_none());
        assert!(budget.try_acquire(3).is_none());
        small.shrink(5);
        assert_eq!(budget.try_acquire(3).unwrap().bytes(), 3);
    }

    #[test]
    fn a_waiting_request_is_not_overtaken() {
        let budget = Budget::new(10);
        let first = budget.acquire(6);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| budget.acquire(10).bytes());
            while budget.0.lock().next_ticket != 2 {
                std::thread::yield_now();
            }
            assert!(budget.try_acquire(1).is_none());
            drop(first);
            assert_eq!(waiting.join().unwrap(), 10);
        });
    }
}
