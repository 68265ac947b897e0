//! The door that requests go through: no more at a time than the pace allows.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::pace::Pace;
use crate::base::Cancel;

/// How often a thread that waits looks whether everything is to end.
const LOOK: Duration = Duration::from_millis(50);
/// Whoever waited this long goes through all the same. Requests end or stall out sooner; should every place be held
/// by threads that wait for something else, the run is slow instead of stuck.
const PATIENCE: Duration = Duration::from_mins(2);

#[derive(Debug)]
struct State {
    used: usize,
    pace: Pace,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    born: Instant,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A counter of requests in flight with a limit that moves.
#[derive(Clone, Debug)]
pub(super) struct Gate(Arc<Shared>);

/// The right to have one request in flight, until the last byte of its answer was read.
///
/// A thread that holds one must not wait for another: what needs several requests at once makes them on threads of
/// their own, and memory is set aside before a request is made, not while its answer waits.
#[derive(Debug)]
pub(super) struct Permit {
    shared: Arc<Shared>,
    /// Bytes that went either way, counted once the request succeeded.
    moved: Option<u64>,
}

impl Gate {
    pub(super) fn new(pace: Pace) -> Self {
        let state = Mutex::new(State { used: 0, pace });
        Self(Arc::new(Shared { state, wake: Condvar::new(), born: Instant::now() }))
    }

    /// Waits until a request may start; `None` when everything is to end.
    pub(super) fn enter(&self, cancel: &Cancel) -> Option<Permit> {
        let begun = Instant::now();
        let mut state = self.0.lock();
        while state.used >= state.pace.limit() && begun.elapsed() < PATIENCE {
            if cancel.is_cancelled() {
                return None;
            }
            state.pace.saturated();
            state = self.0.wake.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.used += 1;
        Some(Permit { shared: Arc::clone(&self.0), moved: None })
    }

    /// Notes that the server asked for less.
    pub(super) fn throttled(&self) {
        self.0.lock().pace.throttled(self.0.born.elapsed());
    }

    #[cfg(test)]
    fn limit(&self) -> usize {
        self.0.lock().pace.limit()
    }
}

impl Permit {
    /// Notes a success that moved so many bytes, or so many more.
    pub(super) fn moved(&mut self, bytes: u64) {
        self.moved = Some(self.moved.unwrap_or(0) + bytes);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.used -= 1;
        if let Some(bytes) = self.moved {
            let before = state.pace.limit();
            state.pace.finished(self.shared.born.elapsed(), bytes);
            if state.pace.limit() > before {
                self.shared.wake.notify_all();
            }
        }
        drop(state);
        self.shared.wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_kept() {
        let (gate, cancel) = (Gate::new(Pace::fixed(2)), Cancel::new());
        let (a, _b) = (gate.enter(&cancel), gate.enter(&cancel));
        std::thread::scope(|scope| {
            let third = scope.spawn(|| drop(gate.enter(&cancel)));
            assert_eq!(gate.0.lock().used, 2);
            drop(a);
            third.join().unwrap();
        });
        assert_eq!(gate.0.lock().used, 1);
        gate.throttled();
        assert_eq!(gate.limit(), 1);
    }

    #[test]
    fn waiting_ends_when_everything_does() {
        let (gate, cancel) = (Gate::new(Pace::fixed(1)), Cancel::new());
        let _held = gate.enter(&cancel);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| gate.enter(&cancel).is_none());
            cancel.cancel();
            assert!(waiting.join().unwrap());
        });
    }
}
