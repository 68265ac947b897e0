//! How many requests may be in flight: a controller that knows no clock and no thread.
//!
//! **Growing.** Work is measured in rounds of twice as many answers as the limit allows requests, and of a tenth of a
//! second at least. As long as a round under a higher limit did a tenth more work per second than the one before,
//! the limit grows by a half; once it does not, the limit goes back to what did as well, stays there for a while, and
//! then tries again, since networks change. A round that did not use the limit tells nothing.
//!
//! **Shrinking.** A refusal for pressure halves the limit, once per storm; it grows back by one request a round, to
//! three quarters of what was refused, stays there for a while, and then tries again. A limit that was asked for comes
//! back whole: who asks for it knows the server.

use std::time::Duration;

/// What an adaptive limit starts from.
pub(super) const START: usize = 8;
/// One storm of refusals halves the limit once, not once per refused request.
const STORM: Duration = Duration::from_secs(1);
/// A round lasts this long at least.
const ROUND: Duration = Duration::from_millis(100);
/// Rounds between two attempts to grow.
const HOLD: u32 = 16;
/// What a request costs besides its bytes, in bytes.
const REQUEST: u64 = 64 << 10;
/// What a higher limit must bring to be kept.
const GAIN: f64 = 1.1;

/// What the controller is about.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Phase {
    /// The limit grows while work per second does; `before` is what an earlier round under a limit of `from` did.
    Growing { from: usize, before: f64 },
    /// The limit stays for so many rounds.
    Holding(u32),
    /// The limit grows by one a round, up to this.
    Recovering(usize),
}

/// The limit of requests in flight.
#[derive(Debug)]
pub(super) struct Pace {
    limit: usize,
    most: usize,
    adaptive: bool,
    phase: Phase,
    began: Duration,
    answers: usize,
    work: u64,
    saturated: bool,
    halved: Option<Duration>,
}

impl Pace {
    /// A limit that moves only under pressure, and back.
    pub(super) fn fixed(limit: usize) -> Self {
        Self { adaptive: false, phase: Phase::Holding(0), ..Self::new(limit.max(1), limit.max(1)) }
    }

    /// A limit that finds out by itself what is best, up to `most`.
    pub(super) fn adaptive(most: usize) -> Self {
        Self::new(START.min(most.max(1)), most.max(1))
    }

    fn new(limit: usize, most: usize) -> Self {
        Self {
            limit,
            most,
            adaptive: true,
            phase: Phase::Growing { from: limit, before: 0.0 },
            began: Duration::ZERO,
            answers: 0,
            work: 0,
            saturated: false,
            halved: None,
        }
    }

    /// Returns how many requests may be in flight now.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Notes that all the limit allows is in flight.
    pub(super) fn saturated(&mut self) {
        self.saturated = true;
    }

    /// Counts a success that moved so many bytes and ended at `now`, which never goes back.
    pub(super) fn finished(&mut self, now: Duration, bytes: u64) {
        self.answers += 1;
        self.work += bytes + REQUEST;
        let elapsed = now.saturating_sub(self.began);
        if self.answers < 2 * self.limit || elapsed < ROUND {
            return;
        }
        if self.saturated {
            self.turn(self.work as f64 / elapsed.as_secs_f64());
        }
        self.begin(now);
    }

    /// Halves the limit, unless this storm did already.
    pub(super) fn throttled(&mut self, now: Duration) {
        if self.halved.is_some_and(|at| now.saturating_sub(at) < STORM) {
            return;
        }
        let goal = if self.adaptive { (self.limit * 3 / 4).max(1) } else { self.most };
        self.limit = (self.limit / 2).max(1);
        self.phase = Phase::Recovering(goal);
        self.halved = Some(now);
        self.begin(now);
    }

    fn begin(&mut self, now: Duration) {
        (self.began, self.answers, self.work, self.saturated) = (now, 0, 0, false);
    }

    /// Ends a round in which `rate` was done per second.
    fn turn(&mut self, rate: f64) {
        match self.phase {
            Phase::Growing { from, before } if rate < before * GAIN => {
                self.limit = from;
                self.phase = Phase::Holding(HOLD);
            }
            Phase::Growing { .. } => self.grow(rate),
            Phase::Holding(rounds) if rounds > 0 => self.phase = Phase::Holding(rounds - 1),
            Phase::Holding(_) if self.adaptive => self.grow(rate),
            Phase::Holding(_) => {}
            Phase::Recovering(goal) if self.limit < goal => self.limit += 1,
            Phase::Recovering(_) => self.phase = Phase::Holding(if self.adaptive { HOLD } else { 0 }),
        }
    }

    fn grow(&mut self, rate: f64) {
        let from = self.limit;
        self.limit = (from + from.div_ceil(2)).min(self.most);
        self.phase =
            if self.limit == from { Phase::Holding(HOLD) } else { Phase::Growing { from, before: rate } };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that needs `latency` for a request and does no more than `capacity` at a time; a request over
    /// `patience` is refused. Time passes only here.
    struct Server {
        latency: Duration,
        capacity: usize,
        patience: usize,
    }

    impl Server {
        /// Lets a client that always has more to ask for go on for `rounds` times the latency; returns the limits.
        fn serve(&self, pace: &mut Pace, from: Duration, rounds: u32) -> Vec<usize> {
            let mut limits = Vec::new();
            let mut now = from;
            for _ in 0..rounds {
                let sent = pace.limit();
                pace.saturated();
                // What is over the capacity waits: all take longer by as much.
                let stretch = (sent as f64 / self.capacity as f64).max(1.0);
                now += self.latency.mul_f64(stretch);
                for number in 0..sent {
                    if number >= self.patience {
                        pace.throttled(now);
                    } else {
                        pace.finished(now, 0);
                    }
                }
                limits.push(pace.limit());
            }
            limits
        }
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn it_grows_to_what_the_server_bears_and_stays_about_there() {
        for capacity in [4, 10, 24, 40] {
            let server = Server { latency: 20 * MS, capacity, patience: usize::MAX };
            let mut pace = Pace::adaptive(64);
            let limits = server.serve(&mut pace, Duration::ZERO, 4000);
            let late = &limits[1000..];
            let mean = late.iter().sum::<usize>() as f64 / late.len() as f64;
            let (least, most) = (capacity as f64 * 0.6, capacity.max(START) as f64 * 1.7);
            assert!((least..=most).contains(&mean), "{capacity}: {mean}");
        }
        let endless = Server { latency: 20 * MS, capacity: 1000, patience: usize::MAX };
        let mut pace = Pace::adaptive(64);
        let limits = endless.serve(&mut pace, Duration::ZERO, 500);
        assert_eq!((limits.iter().max(), pace.limit()), (Some(&64), 64), "and no further than it may");
    }

    #[test]
    fn a_storm_halves_once_and_the_way_back_is_slow() {
        let mut pace = Pace::fixed(16);
        pace.throttled(MS);
        pace.throttled(2 * MS);
        assert_eq!(pace.limit(), 8);
        pace.throttled(MS + STORM);
        assert_eq!(pace.limit(), 4);
        let calm = Server { latency: 100 * MS, capacity: 1000, patience: usize::MAX };
        let limits = calm.serve(&mut pace, 2 * STORM, 100);
        assert!(limits.windows(2).all(|pair| pair[1] <= pair[0] + 1), "{limits:?}");
        assert_eq!(pace.limit(), 16);
    }

    #[test]
    fn it_settles_below_what_a_server_refuses() {
        let server = Server { latency: 30 * MS, capacity: 1000, patience: 20 };
        let mut pace = Pace::adaptive(64);
        let limits = server.serve(&mut pace, Duration::ZERO, 3000);
        let refused = limits[500..].iter().filter(|limit| **limit > 20).count();
        assert!(refused < 250, "{refused} of 2500 rounds asked for too much");
        assert!(limits[500..].iter().all(|limit| (1..=32).contains(limit)));
    }

    #[test]
    fn what_is_fixed_stays_and_what_is_not_used_does_not_grow() {
        let server = Server { latency: 20 * MS, capacity: 1000, patience: usize::MAX };
        let mut pace = Pace::fixed(5);
        assert!(server.serve(&mut pace, Duration::ZERO, 500).iter().all(|limit| *limit == 5));
        let mut pace = Pace::adaptive(64);
        for second in 0..500 {
            pace.finished(Duration::from_secs(second), 0);
        }
        assert_eq!(pace.limit(), START);
        assert_eq!(Pace::adaptive(3).limit(), 3);
    }
}
