//! The wish to stop, passed from a signal handler to whoever loops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Whoever sleeps looks this often whether to stop.
const LOOK: Duration = Duration::from_millis(50);

/// A shared flag that asks long operations to end at the next safe point. Clones share the flag; once set it stays.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Creates a flag that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everybody who holds a clone to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns whether to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Sleeps, but not on when asked to stop; returns whether to go on.
    pub fn sleep(&self, pause: Duration) -> bool {
        let begun = Instant::now();
        while !self.is_cancelled() {
            match pause.saturating_sub(begun.elapsed()) {
                Duration::ZERO => return true,
                left => std::thread::sleep(left.min(LOOK)),
            }
        }
        false
    }

    /// Returns the flag itself, for a signal handler that may do no more than set it.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_the_flag() {
        let cancel = Cancel::new();
        let other = cancel.clone();
        assert!(!other.is_cancelled());
        cancel.cancel();
        assert!(other.is_cancelled());
        assert!(other.flag().load(Ordering::Relaxed));
    }

    #[test]
    fn sleep_ends_when_it_is_over_or_nobody_wants_it() {
        let cancel = Cancel::new();
        let begun = Instant::now();
        assert!(cancel.sleep(LOOK * 2) && begun.elapsed() >= LOOK * 2);
        assert!(cancel.sleep(Duration::ZERO));
        let other = cancel.clone();
        std::thread::scope(|scope| {
            scope.spawn(|| other.cancel());
            assert!(!cancel.sleep(Duration::MAX));
        });
        assert!(!cancel.sleep(Duration::ZERO));
    }
}
