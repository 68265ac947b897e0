//! Contents that lie in cold storage: asked for when they are met, read once they are there.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::connector::Record;

/// The most records that wait; a record with its metadata takes about a KiB. What comes beyond it was asked for and is
/// read by the next run.
const MOST: usize = 1 << 15;
/// How long a wait goes on without a look at whether everything is to end.
const NAP: Duration = Duration::from_millis(50);

/// Records whose contents are on their way, in the order in which they are looked at again.
#[derive(Debug)]
pub(super) struct Deferred {
    waiting: Mutex<VecDeque<(Instant, Record)>>,
    /// How long lies between two looks at one of them.
    pause: Duration,
}

impl Deferred {
    pub(super) fn new(pause: Duration) -> Self {
        Self { waiting: Mutex::default(), pause }
    }

    /// Takes a record to be looked at after a pause; gives it back where too many wait.
    pub(super) fn push(&self, record: Record) -> Result<(), Box<Record>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= MOST {
            return Err(Box::new(record));
        }
        waiting.push_back((Instant::now() + self.pause, record));
        Ok(())
    }

    /// Returns the next record once it is due; nothing when none waits, or `is_over` says that everything is to end.
    pub(super) fn next(&self, is_over: impl Fn() -> bool) -> Option<Record> {
        while !is_over() {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let left = waiting.front()?.0.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return waiting.pop_front().map(|(_, record)| record);
            }
            drop(waiting);
            std::thread::sleep(left.min(NAP));
        }
        None
    }
}
