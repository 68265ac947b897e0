//! Points in time as the format stores them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in time: Unix seconds and nanoseconds, no time zone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Timestamp {
    /// Unix seconds, negative before 1970.
    pub secs: i64,
    /// Nanoseconds after `secs`, below 10^9.
    pub nanos: u32,
}

impl Timestamp {
    /// Unix second 0.
    pub const EPOCH: Self = Self { secs: 0, nanos: 0 };
    /// Midnight, 1 January of year 1: what upstream's "no time" is on disk.
    pub const ZERO: Self = Self { secs: -62_135_596_800, nanos: 0 };

    /// Creates a time from whole seconds.
    pub const fn from_secs(secs: i64) -> Self {
        Self { secs, nanos: 0 }
    }

    /// Reads the system clock.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// Returns Unix nanoseconds, saturating at the range of an `i64` (years 1677 to 2262).
    pub fn unix_nanos(self) -> i64 {
        self.secs.saturating_mul(1_000_000_000).saturating_add(i64::from(self.nanos))
    }

    /// Creates a time from Unix nanoseconds.
    pub fn from_unix_nanos(nanos: i64) -> Self {
        let fraction = u32::try_from(nanos.rem_euclid(1_000_000_000)).expect("below 10^9");
        Self { secs: nanos.div_euclid(1_000_000_000), nanos: fraction }
    }

    /// Returns the time as the standard library's type; `None` where that cannot express it.
    pub fn to_system(self) -> Option<SystemTime> {
        let base = if self.secs >= 0 {
            UNIX_EPOCH.checked_add(Duration::from_secs(self.secs.unsigned_abs()))
        } else {
            UNIX_EPOCH.checked_sub(Duration::from_secs(self.secs.unsigned_abs()))
        };
        base?.checked_add(Duration::from_nanos(u64::from(self.nanos)))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => {
                Self { secs: i64::try_from(after.as_secs()).unwrap_or(i64::MAX), nanos: after.subsec_nanos() }
            }
            Err(before) => {
                let before = before.duration();
                let secs = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
                match before.subsec_nanos() {
                    0 => Self { secs: -secs, nanos: 0 },
                    nanos => Self { secs: -secs - 1, nanos: 1_000_000_000 - nanos },
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_and_system_times_round_trip() {
        for nanos in [0, 1, -1, 1_700_000_000_000_000_005, -1_500_000_000] {
            let time = Timestamp::from_unix_nanos(nanos);
            assert_eq!(time.unix_nanos(), nanos);
            assert_eq!(Timestamp::from(time.to_system().unwrap()), time);
        }
    }
}
