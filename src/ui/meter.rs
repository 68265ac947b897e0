//! How far, how fast and how long yet: what the counters of a long operation mean at one moment, and the line that says
//! so.
//!
//! The rate is a recent one: what was done in a second weighs half as much four seconds later. So is the time left,
//! which follows from the same speed of whatever total is known: bytes, else files, else items. A total that is a guess
//! (what the last snapshot held, say) is marked with `~`, and so is what follows from it.

use std::time::Duration;

use unicode_width::UnicodeWidthStr as _;

use super::json::Message;
use super::units;
use crate::base::Printable;

/// After how many seconds what was measured weighs half.
const HALF_LIFE: f64 = 4.0;
/// No speed is believed earlier, in seconds.
const FIRST: f64 = 1.0;

/// How much there is to do in a phase.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Total {
    /// What was done of it.
    pub done: u64,
    /// All of it.
    pub all: u64,
    /// Whether `all` is a guess.
    pub guessed: bool,
}

/// The counters at one moment.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Snapshot {
    /// What is being done.
    pub phase: String,
    /// Files, folders and other entries done.
    pub files: u64,
    /// Objects or blobs done.
    pub objects: u64,
    /// Bytes done.
    pub bytes: u64,
    /// Bytes to do in this phase, where that is known.
    pub bytes_total: Option<Total>,
    /// Files or items to do in this phase, where that is known.
    pub items_total: Option<Total>,
    /// Failures.
    pub errors: u64,
    /// Time since the start.
    pub elapsed: Duration,
    /// Bytes a second, lately.
    pub rate: Option<f64>,
    /// The time that the rest of the phase will take at the recent speed.
    pub remaining: Option<Duration>,
}

impl Snapshot {
    /// Returns the total that says best how far it is.
    fn total(&self) -> Option<Total> {
        self.bytes_total.or(self.items_total).filter(|total| total.all > 0)
    }

    pub(super) fn message(&self) -> Message<'_> {
        Message::Progress {
            phase: &self.phase,
            files: self.files,
            objects: self.objects,
            bytes: self.bytes,
            total_bytes: self.bytes_total.map(|total| total.all),
            total_items: self.items_total.map(|total| total.all),
            estimated: self.total().map(|total| total.guessed),
            errors: self.errors,
            elapsed: millis(self.elapsed.as_secs_f64()),
            rate: self.rate.map(f64::round),
            remaining: self.remaining.map(|left| millis(left.as_secs_f64())),
        }
    }
}

fn millis(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

/// A speed that forgets: amounts and the time they took, both fading alike.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct Speed {
    amount: f64,
    seconds: f64,
}

impl Speed {
    fn add(&mut self, amount: u64, seconds: f64) {
        let fade = 0.5_f64.powf(seconds / HALF_LIFE);
        self.amount = self.amount * fade + amount as f64;
        self.seconds = self.seconds * fade + seconds;
    }

    fn per_second(self) -> Option<f64> {
        (self.seconds > 0.0).then(|| self.amount / self.seconds)
    }
}

/// Measures from one moment to the next.
#[derive(Debug, Default)]
pub struct Meter {
    phase: String,
    bytes: u64,
    done: Option<u64>,
    at: Duration,
    /// When the phase began.
    begun: Duration,
    byte_speed: Speed,
    work_speed: Speed,
}

impl Meter {
    /// Adds what can be known only from how things went: rate and remaining time.
    pub fn measure(&mut self, state: &mut Snapshot) {
        let seconds = state.elapsed.saturating_sub(self.at).as_secs_f64();
        self.byte_speed.add(state.bytes.saturating_sub(self.bytes), seconds);
        (self.bytes, self.at) = (state.bytes, state.elapsed);
        if self.phase != state.phase {
            state.phase.clone_into(&mut self.phase);
            (self.begun, self.work_speed, self.done) = (state.elapsed, Speed::default(), None);
        }
        state.rate = self.byte_speed.per_second().filter(|_| state.bytes > 0);
        let Some(total) = state.total() else { return };
        if let Some(before) = self.done.replace(total.done) {
            self.work_speed.add(total.done.saturating_sub(before), seconds);
        }
        let left = total.all.saturating_sub(total.done);
        let old = state.elapsed.saturating_sub(self.begun).as_secs_f64() >= FIRST;
        // What exceeds its guess is near its end, and nobody knows how near.
        let known = old && !(total.guessed && left == 0);
        let speed = self.work_speed.per_second().filter(|&speed| known && speed > 0.0);
        state.remaining = speed.and_then(|speed| Duration::try_from_secs_f64(left as f64 / speed).ok());
    }
}

/// Formats a progress line for a terminal `width` columns wide: whole fields only, the most important first.
pub fn line(state: &Snapshot, width: usize) -> String {
    let mark = |guessed: bool| if guessed { "~" } else { "" };
    let mut fields = Vec::new();
    if let Some(total) = state.total()
        && let Some(percent) = units::percent(total.done.min(total.all), total.all)
    {
        fields.push((0, format!("{}{percent}", mark(total.guessed))));
    }
    fields.push(match state.bytes_total {
        Some(total) => {
            let (done, all) = (units::bytes(total.done), units::bytes(total.all));
            (2, format!("{done} of {}{all}", mark(total.guessed)))
        }
        None => (2, units::bytes(state.bytes)),
    });
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates, which is what is wanted")]
    if let Some(rate) = state.rate {
        fields.push((3, format!("{}/s", units::bytes(rate as u64))));
    }
    if state.files > 0 {
        fields.push((5, units::counted(state.files, "file")));
    }
    if state.objects > 0 {
        fields.push((6, units::counted(state.objects, "object")));
    }
    if let Some(left) = state.remaining {
        let guessed = state.total().is_some_and(|total| total.guessed);
        let left = left.saturating_add(Duration::from_millis(500)).max(Duration::from_secs(1));
        fields.push((4, format!("{}{} left", mark(guessed), units::rough(left))));
    }
    if state.errors > 0 {
        fields.push((1, units::counted(state.errors, "error")));
    }
    fit(&Printable::message(&state.phase).to_string(), fields, width)
}

/// Drops the least important fields (highest numbers) until the line fits in one column less than the terminal, which
/// keeps it from wrapping.
fn fit(phase: &str, mut fields: Vec<(u8, String)>, width: usize) -> String {
    loop {
        let texts: Vec<&str> = fields.iter().map(|(_, text)| text.as_str()).collect();
        let line = match (phase.is_empty(), texts.is_empty()) {
            (true, _) => texts.join(", "),
            (false, true) => phase.to_owned(),
            (false, false) => format!("{phase}: {}", texts.join(", ")),
        };
        if line.width() < width {
            return line;
        }
        let Some(least) = (0..fields.len()).max_by_key(|&i| fields[i].0) else { return String::new() };
        fields.remove(least);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> Snapshot {
        Snapshot {
            phase: "restore".into(),
            files: 41_500,
            objects: 12,
            bytes: 512 << 20,
            bytes_total: Some(Total { done: 512 << 20, all: 1 << 30, guessed: false }),
            items_total: None,
            errors: 2,
            elapsed: Duration::from_secs(4),
            rate: Some(134_217_728.0),
            remaining: Some(Duration::from_millis(4100)),
        }
    }

    #[test]
    fn a_wide_terminal_gets_everything() {
        assert_eq!(
            line(&state(), 200),
            "restore: 50.0 %, 512 MiB of 1.00 GiB, 128 MiB/s, 41,500 files, 12 objects, 4s left, 2 errors"
        );
        let start = Snapshot { phase: "listing".into(), ..Snapshot::default() };
        assert_eq!(line(&start, 80), "listing: 0 B");
    }

    #[test]
    fn guesses_are_marked() {
        let items_total = Some(Total { done: 300, all: 400, guessed: true });
        let remaining = Some(Duration::from_secs(200));
        let state = Snapshot { bytes_total: None, items_total, remaining, errors: 0, ..state() };
        assert_eq!(
            line(&state, 80),
            "restore: ~75.0 %, 512 MiB, 128 MiB/s, 41,500 files, 12 objects, ~3m20s left"
        );
    }

    #[test]
    fn a_narrow_terminal_gets_what_fits() {
        for width in 0..120 {
            let line = line(&state(), width);
            assert!(line.width() < width.max(1), "{width}: {line}");
        }
        assert_eq!(line(&state(), 80), "restore: 50.0 %, 512 MiB of 1.00 GiB, 128 MiB/s, 4s left, 2 errors");
        assert_eq!(line(&state(), 40), "restore: 50.0 %, 2 errors");
        assert_eq!(line(&state(), 20), "restore: 50.0 %");
        assert_eq!(line(&state(), 10), "restore");
        assert_eq!(line(&state(), 3), "");
    }

    #[test]
    fn a_phase_cannot_move_the_cursor() {
        let state = Snapshot { phase: "\x1b[2J".into(), ..Snapshot::default() };
        assert!(!line(&state, 80).contains('\x1b'));
    }

    fn at(seconds: f64, bytes: u64, all: u64) -> Snapshot {
        Snapshot {
            phase: "x".into(),
            bytes,
            bytes_total: Some(Total { done: bytes, all, guessed: false }),
            elapsed: Duration::from_secs_f64(seconds),
            ..Snapshot::default()
        }
    }

    #[test]
    fn the_rate_is_a_recent_one() {
        let mut meter = Meter::default();
        // 100 seconds of 1000 B/s, then 20 of 10 B/s: the mean would be 835 B/s.
        let mut bytes = 0;
        let mut last = at(0.0, 0, 200_000);
        for tenth in 1..=1200_u32 {
            bytes += if tenth <= 1000 { 100 } else { 1 };
            last = at(f64::from(tenth) / 10.0, bytes, 200_000);
            meter.measure(&mut last);
        }
        let rate = last.rate.unwrap();
        assert!((10.0..60.0).contains(&rate), "{rate}");
        let left = last.remaining.unwrap().as_secs_f64();
        assert!((left * rate - (200_000 - bytes) as f64).abs() < 1.0, "{left}");
    }

    #[test]
    fn a_new_phase_has_a_speed_of_its_own() {
        let mut meter = Meter::default();
        for second in 1..=10_u32 {
            meter.measure(&mut at(f64::from(second), u64::from(second) * 1000, 100_000));
        }
        let mut next = Snapshot { phase: "y".into(), ..at(10.5, 10_000, 100_000) };
        meter.measure(&mut next);
        assert_eq!(next.remaining, None, "too early to say");
        let mut stuck = Snapshot { phase: "y".into(), ..at(12.0, 10_000, 100_000) };
        meter.measure(&mut stuck);
        assert_eq!(stuck.remaining, None, "nothing moves");
    }
}
