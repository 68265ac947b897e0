//! The progress line: what is being done, how much of it, how fast, how long yet.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use unicode_width::UnicodeWidthStr as _;

use super::json::Message;
use super::output::Output;
use super::units;
use crate::base::{Printable, sys};
use crate::snapshot::{Counter, Event, Monitor, Problem, Severity};

/// How often the line is drawn.
const TICK: Duration = Duration::from_millis(100);
/// How often a pipe gets a JSON event.
const JSON_TICK: Duration = Duration::from_secs(1);

/// What a long operation counts. Threads add without waiting for one another.
#[derive(Debug, Default)]
struct Counters {
    counts: [AtomicU64; Counter::ALL.len()],
    /// Bytes of content to come, 0 while unknown.
    expected_bytes: AtomicU64,
    phase: Mutex<&'static str>,
}

impl Counters {
    fn get(&self, counter: Counter) -> u64 {
        self.counts[counter as usize].load(Ordering::Relaxed)
    }

    fn snapshot(&self, elapsed: Duration) -> Snapshot {
        Snapshot {
            phase: self.phase.lock().unwrap_or_else(PoisonError::into_inner).to_string(),
            files: self.get(Counter::Files),
            objects: self.get(Counter::Blobs),
            bytes: self.get(Counter::Bytes),
            total_bytes: Some(self.expected_bytes.load(Ordering::Relaxed)).filter(|&total| total > 0),
            errors: self.get(Counter::Errors),
            elapsed,
        }
    }
}

/// The counters at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    /// What is being done.
    pub phase: String,
    /// Files, folders and other entries done.
    pub files: u64,
    /// Objects or blobs done.
    pub objects: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Bytes to read, where that is known.
    pub total_bytes: Option<u64>,
    /// Failures.
    pub errors: u64,
    /// Time since the start.
    pub elapsed: Duration,
}

impl Snapshot {
    fn message(&self) -> Message<'_> {
        Message::Progress {
            phase: &self.phase,
            files: self.files,
            objects: self.objects,
            bytes: self.bytes,
            total_bytes: self.total_bytes,
            errors: self.errors,
            elapsed: self.elapsed.as_secs_f64(),
        }
    }

    /// Returns the time that the rest will take at the mean rate so far.
    pub fn remaining(&self) -> Option<Duration> {
        let total = self.total_bytes?;
        let left = total.checked_sub(self.bytes)?;
        if self.bytes == 0 || self.elapsed < Duration::from_secs(1) {
            return None;
        }
        Duration::try_from_secs_f64(self.elapsed.as_secs_f64() * left as f64 / self.bytes as f64).ok()
    }
}

/// Formats a progress line for a terminal `width` columns wide: whole fields only, the most important first.
pub fn line(state: &Snapshot, width: usize) -> String {
    let mut fields = Vec::new();
    if state.errors > 0 {
        fields.push((1, units::counted(state.errors, "error")));
    }
    let done = match state.total_bytes {
        Some(total) => format!("{} of {}", units::bytes(state.bytes), units::bytes(total)),
        None => units::bytes(state.bytes),
    };
    fields.push((2, done));
    if let Some(percent) = state.total_bytes.and_then(|total| units::percent(state.bytes.min(total), total)) {
        fields.push((0, percent));
    }
    fields.push((4, units::counted(state.files, "file")));
    if state.objects > 0 {
        fields.push((6, units::counted(state.objects, "object")));
    }
    if let Some(rate) = units::rate(state.bytes, state.elapsed).filter(|_| state.bytes > 0) {
        fields.push((3, rate));
    }
    if let Some(left) = state.remaining() {
        fields.push((5, format!("{} left", units::duration(left))));
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

/// Shows what a long operation does: a line on a terminal, events with `-json`, nothing elsewhere; problems always,
/// as they come. Dropping it removes the line.
#[derive(Debug)]
pub struct Progress {
    counters: Arc<Counters>,
    output: Output,
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts showing. `enabled` is false with `-no-progress` or `-stdio`: then only problems show.
    pub fn start(output: &Output, enabled: bool) -> Self {
        let counters = Arc::new(Counters::default());
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let start = Instant::now();
        let tick = match (output.is_json(), output.has_transient()) {
            (true, _) => JSON_TICK,
            (false, true) => TICK,
            (false, false) => Duration::ZERO,
        };
        let thread = (enabled && tick > Duration::ZERO).then(|| {
            let (output, counters, stop) = (output.clone(), Arc::clone(&counters), Arc::clone(&stop));
            std::thread::spawn(move || tell(&output, &counters, &stop, start, tick))
        });
        Self { counters, output: output.clone(), stop, thread }
    }

    /// Returns a count.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters.get(counter)
    }
}

impl Monitor for Progress {
    fn phase(&self, name: &'static str) {
        *self.counters.phase.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }

    fn expect(&self, counter: Counter, total: u64) {
        if counter == Counter::Bytes {
            self.counters.expected_bytes.store(total, Ordering::Relaxed);
        }
    }

    fn count(&self, counter: Counter, amount: u64) {
        self.counters.counts[counter as usize].fetch_add(amount, Ordering::Relaxed);
    }

    fn problem(&self, problem: &Problem) {
        if problem.severity == Severity::Error {
            self.count(Counter::Errors, 1);
        }
        self.output.problem(problem);
    }

    fn event(&self, event: &Event<'_>) {
        if self.output.is_json() {
            let _ = match event {
                Event::Checkpoint => self.output.json(&Message::Checkpoint),
                Event::Committed { snapshot } => {
                    self.output.json(&Message::Committed { snapshot: &snapshot.to_hex() })
                }
                // One line for each of a million files would drown the rest.
                _ => Ok(()),
            };
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn tell(output: &Output, counters: &Counters, stop: &(Mutex<bool>, Condvar), start: Instant, tick: Duration) {
    let mut stopped = stop.0.lock().unwrap_or_else(PoisonError::into_inner);
    while !*stopped {
        stopped = stop.1.wait_timeout(stopped, tick).unwrap_or_else(PoisonError::into_inner).0;
        if *stopped {
            break;
        }
        let state = counters.snapshot(start.elapsed());
        if output.is_json() {
            let _ = output.json(&state.message());
        } else {
            output.transient(&line(&state, terminal_width()));
        }
    }
    output.transient("");
}

/// Returns the terminal's width in columns, 80 where it does not say.
pub(crate) fn terminal_width() -> usize {
    sys::terminal_width().unwrap_or(80)
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::Kept;
    use super::super::output::{Loudness, Output};
    use super::*;

    fn state() -> Snapshot {
        Snapshot {
            phase: "backup".into(),
            files: 41_500,
            objects: 12,
            bytes: 512 << 20,
            total_bytes: Some(1 << 30),
            errors: 2,
            elapsed: Duration::from_secs(4),
        }
    }

    #[test]
    fn a_wide_terminal_gets_everything() {
        assert_eq!(
            line(&state(), 200),
            "backup: 2 errors, 512 MiB of 1.00 GiB, 50.0 %, 41,500 files, 12 objects, 128 MiB/s, 4.0 s left"
        );
        let start = Snapshot { phase: "listing".into(), ..Snapshot::default() };
        assert_eq!(line(&start, 80), "listing: 0 B, 0 files");
    }

    #[test]
    fn a_narrow_terminal_gets_what_fits() {
        for width in 0..120 {
            let line = line(&state(), width);
            assert!(line.width() < width.max(1), "{width}: {line}");
        }
        assert_eq!(line(&state(), 40), "backup: 2 errors, 50.0 %");
        assert_eq!(line(&state(), 10), "backup");
        assert_eq!(line(&state(), 3), "");
    }

    #[test]
    fn a_phase_cannot_move_the_cursor() {
        let state = Snapshot { phase: "\x1b[2J".into(), ..Snapshot::default() };
        assert!(!line(&state, 80).contains('\x1b'));
    }

    #[test]
    fn a_terminal_is_left_clean_and_a_pipe_gets_nothing() {
        let (out, err) = (Kept::default(), Kept::default());
        let output = Output::to(out.clone(), err.clone(), Loudness::Normal, false, true);
        let progress = Progress::start(&output, true);
        progress.phase("reading");
        while !err.text().contains("reading") {
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(progress);
        assert!(err.text().ends_with("\r\x1b[K"), "{:?}", err.text());

        let err = Kept::default();
        let output = Output::to(out.clone(), err.clone(), Loudness::Normal, false, false);
        drop(Progress::start(&output, true));
        assert_eq!((out.text(), err.text()), (String::new(), String::new()));
    }

    fn problem(severity: Severity) -> Problem {
        Problem { severity, path: "/a\x1b".into(), message: "gone".into() }
    }

    #[test]
    fn problems_are_told_and_errors_are_counted() {
        let (out, err) = (Kept::default(), Kept::default());
        let output = Output::to(out.clone(), err.clone(), Loudness::Quiet, false, false);
        let progress = Progress::start(&output, false);
        progress.problem(&problem(Severity::Warning));
        progress.problem(&problem(Severity::Error));
        assert_eq!(progress.get(Counter::Errors), 1);
        assert_eq!(err.text(), "warning: /a\\x1b: gone\nerror: /a\\x1b: gone\n");

        let output = Output::to(out.clone(), Kept::default(), Loudness::Normal, true, false);
        let progress = Progress::start(&output, false);
        progress.problem(&problem(Severity::Error));
        progress.event(&Event::Committed { snapshot: crate::base::Id([1; 32]) });
        let lines: Vec<serde_json::Value> =
            out.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            (lines[0]["type"].as_str(), lines[0]["severity"].as_str()),
            (Some("problem"), Some("error"))
        );
        assert_eq!(lines[0]["path"], "/a\\x1b");
        assert_eq!(lines[1]["type"], "committed");
    }
}
