//! How many requests are in flight: halved when the server says it is too much, grown back slowly.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One storm of refusals halves the limit once, not once per refused request.
const STORM: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct State {
    limit: usize,
    used: usize,
    successes: usize,
    halved: Option<Instant>,
}

/// A counter of requests in flight with a limit that moves.
#[derive(Debug)]
pub(super) struct Gate {
    state: Mutex<State>,
    wake: Condvar,
    most: usize,
}

/// The right to have one request in flight. Held until the head of the answer is there, not while its body is
/// read: a thread that reads one body and asks for something else must not wait for itself.
#[derive(Debug)]
pub(super) struct Permit<'a>(&'a Gate);

impl Gate {
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1);
        let state = State { limit: most, used: 0, successes: 0, halved: None };
        Self { state: Mutex::new(state), wake: Condvar::new(), most }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a request may start.
    pub(super) fn enter(&self) -> Permit<'_> {
        let mut state = self.lock();
        while state.used >= state.limit {
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.used += 1;
        Permit(self)
    }

    /// Counts an answer that was not a refusal: one full round of them allows one request more.
    pub(super) fn succeeded(&self) {
        let mut state = self.lock();
        state.successes += 1;
        if state.limit < self.most && state.successes >= state.limit {
            state.limit += 1;
            state.successes = 0;
            self.wake.notify_one();
        }
    }

    /// Halves the limit.
    pub(super) fn throttled(&self) {
        let mut state = self.lock();
        state.successes = 0;
        if state.halved.is_none_or(|at| at.elapsed() >= STORM) {
            state.limit = (state.limit / 2).max(1);
            state.halved = Some(Instant::now());
        }
    }

    #[cfg(test)]
    fn limit(&self) -> usize {
        self.lock().limit
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.lock().used -= 1;
        self.0.wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_halves_once_and_successes_grow_it_back() {
        let gate = Gate::new(8);
        gate.throttled();
        gate.throttled();
        assert_eq!(gate.limit(), 4);
        for _ in 0..4 {
            gate.succeeded();
        }
        assert_eq!(gate.limit(), 5);
        for _ in 0..100 {
            gate.succeeded();
        }
        assert_eq!(gate.limit(), 8);
    }

    #[test]
    fn the_limit_is_kept() {
        let gate = Gate::new(2);
        let (a, _b) = (gate.enter(), gate.enter());
        std::thread::scope(|scope| {
            let third = scope.spawn(|| drop(gate.enter()));
            assert_eq!(gate.lock().used, 2);
            drop(a);
            third.join().unwrap();
        });
        assert_eq!(gate.lock().used, 1);
    }
}
