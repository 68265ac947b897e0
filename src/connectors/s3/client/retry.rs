//! When to try again, and after how long a pause.

use std::time::Duration;

use super::super::options::Tuning;
use super::failure::{Again, Failure};

/// Attempts at a name that does not resolve.
const BRIEF_ATTEMPTS: u32 = 3;

/// The attempts at one request so far.
#[derive(Debug)]
pub(super) struct Retry<'a> {
    tuning: &'a Tuning,
    failures: u32,
}

impl<'a> Retry<'a> {
    pub(super) fn new(tuning: &'a Tuning) -> Self {
        Self { tuning, failures: 0 }
    }

    /// Returns the number of failures so far.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Counts a failure and returns the pause before the next attempt; `None` when there is to be none.
    ///
    /// The pause is random between nothing and a bound that doubles ("full jitter"), so that clients that failed
    /// together do not come back together.
    pub(super) fn next(&mut self, failure: &Failure) -> Option<Duration> {
        self.failures += 1;
        let (base, attempts) = match failure.again {
            Again::Never => return None,
            Again::Soon => (self.tuning.base_delay, self.tuning.attempts),
            Again::Briefly => (self.tuning.base_delay, self.tuning.attempts.min(BRIEF_ATTEMPTS)),
            Again::Throttled => (self.tuning.throttle_delay, self.tuning.attempts),
        };
        if self.failures >= attempts {
            return None;
        }
        let bound = base.saturating_mul(1 << (self.failures - 1).min(16)).min(self.tuning.max_delay);
        let pause = bound.mul_f64(random());
        // A server that asks for a pause gets it, within reason.
        Some(failure.retry_after.map_or(pause, |asked| asked.min(self.tuning.max_delay * 3).max(pause)))
    }
}

/// Returns a random number from 0 to 1; one half where the system has no randomness to give.
fn random() -> f64 {
    getrandom::u32().map_or(0.5, |n| f64::from(n) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(again: Again) -> Box<Failure> {
        let mut failure = Failure::transport("get", "t", "m");
        failure.again = again;
        failure
    }

    #[test]
    fn pauses_grow_stay_bounded_and_end() {
        let tuning = Tuning::default();
        let mut retry = Retry::new(&tuning);
        for n in 0..tuning.attempts - 1 {
            let pause = retry.next(&failure(Again::Soon)).unwrap();
            assert!(pause <= tuning.base_delay * 2_u32.pow(n) && pause <= tuning.max_delay);
        }
        assert_eq!(retry.next(&failure(Again::Soon)), None);
        assert_eq!(Retry::new(&tuning).next(&failure(Again::Never)), None);
    }

    #[test]
    fn the_defaults_are_patient_and_no_two_pauses_alike() {
        let tuning = Tuning::default();
        assert!((8..=10).contains(&tuning.attempts));
        assert!((20..=30).contains(&tuning.max_delay.as_secs()));
        assert_eq!((tuning.base_delay.as_millis(), tuning.throttle_delay.as_millis()), (50, 1000));
        let pause = |again| Retry::new(&tuning).next(&failure(again)).unwrap();
        let pauses: Vec<Duration> = (0..200).map(|_| pause(Again::Throttled)).collect();
        assert!(pauses.iter().all(|pause| *pause <= tuning.throttle_delay));
        // Anything between nothing and the bound: that all of so many fell into one half is not chance.
        let half = tuning.throttle_delay / 2;
        assert!(pauses.iter().any(|pause| *pause < half) && pauses.iter().any(|pause| *pause > half));
        assert!(pauses.iter().any(|pause| *pause > tuning.base_delay));
    }

    #[test]
    fn the_server_may_ask_for_more_but_not_for_ever() {
        let tuning = Tuning::default();
        let mut asked = failure(Again::Throttled);
        asked.retry_after = Some(Duration::from_secs(5));
        assert!(Retry::new(&tuning).next(&asked).unwrap() >= Duration::from_secs(5));
        asked.retry_after = Some(Duration::from_secs(100_000));
        assert!(Retry::new(&tuning).next(&asked).unwrap() <= tuning.max_delay * 3);
    }
}
