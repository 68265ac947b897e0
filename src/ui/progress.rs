//! The progress of a long operation, as it is shown while it lasts.
//!
//! A terminal gets one line on standard error that is drawn anew ten times a second, in the width that the terminal has
//! at that moment, and that is gone when the operation ends. Whatever else is said takes its place and it comes back
//! below. Nothing is drawn while the program is in the background of its terminal (`plakar … &`, Ctrl-Z and `bg`): the
//! terminal is somebody else's then. A pipe, a file and a dumb terminal get nothing; `-json` gets an event a second.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::json::Message;
use super::meter::{Meter, Snapshot, Total, line};
use super::output::Output;
use super::terminal;
use crate::snapshot::{Counter, Event, Monitor, Problem, Severity};

/// The width of a terminal that does not say, in columns.
const FALLBACK_WIDTH: usize = 80;
/// How often the line is drawn.
const TICK: Duration = Duration::from_millis(100);
/// How often a pipe gets a JSON event.
const JSON_TICK: Duration = Duration::from_secs(1);

/// What a long operation counts. Threads add without waiting for one another.
#[derive(Debug, Default)]
struct Counters {
    counts: [AtomicU64; Counter::ALL.len()],
    phase: Mutex<Phase>,
    /// How many errors there were of each kind.
    kinds: Mutex<BTreeMap<String, u64>>,
}

/// What is being done, and how much of it there is.
#[derive(Debug, Default)]
struct Phase {
    name: &'static str,
    /// The counters when it began.
    base: [u64; Counter::ALL.len()],
    /// All there is, and whether that is a guess.
    totals: [Option<(u64, bool)>; Counter::ALL.len()],
}

/// Kinds of errors that are told apart; the rest are "other".
const MOST_KINDS: usize = 8;

impl Counters {
    fn get(&self, counter: Counter) -> u64 {
        self.counts[counter as usize].load(Ordering::Relaxed)
    }

    fn phase(&self) -> std::sync::MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, name: &'static str) {
        let base = Counter::ALL.map(|counter| self.get(counter));
        *self.phase() = Phase { name, base, totals: Default::default() };
    }

    fn note_error(&self, kind: &str) {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = if kinds.len() < MOST_KINDS || kinds.contains_key(kind) { kind } else { "other" };
        *kinds.entry(kind.to_owned()).or_default() += 1;
    }

    fn snapshot(&self, elapsed: Duration) -> Snapshot {
        let phase = self.phase();
        let total = |counter: Counter| {
            let (all, guessed) = phase.totals[counter as usize].filter(|(all, _)| *all > 0)?;
            let done = self.get(counter).saturating_sub(phase.base[counter as usize]);
            Some(Total { done, all, guessed })
        };
        Snapshot {
            phase: phase.name.to_owned(),
            files: self.get(Counter::Files),
            objects: self.get(Counter::Blobs),
            bytes: self.get(Counter::Bytes),
            bytes_total: total(Counter::Bytes),
            items_total: total(Counter::Files).or_else(|| total(Counter::Items)),
            errors: self.get(Counter::Errors),
            elapsed,
            rate: None,
            remaining: None,
        }
    }
}

/// Returns what kind of error a message tells of: its last cause, without numbers of the system.
fn kind_of(message: &str) -> &str {
    let last = message.rsplit(": ").next().unwrap_or(message);
    last.split(" (os error").next().unwrap_or(last)
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

    /// Returns how many errors there were of each kind (the last cause that their messages tell), most frequent first.
    pub fn error_kinds(&self) -> Vec<(String, u64)> {
        let kinds = self.counters.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kinds: Vec<_> = kinds.iter().map(|(kind, count)| (kind.clone(), *count)).collect();
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        kinds
    }
}

impl Monitor for Progress {
    fn phase(&self, name: &'static str) {
        self.counters.begin(name);
    }

    fn expect(&self, counter: Counter, total: u64) {
        self.counters.phase().totals[counter as usize] = Some((total, false));
    }

    fn estimate(&self, counter: Counter, total: u64) {
        self.counters.phase().totals[counter as usize] = Some((total, true));
    }

    fn count(&self, counter: Counter, amount: u64) {
        self.counters.counts[counter as usize].fetch_add(amount, Ordering::Relaxed);
    }

    fn problem(&self, problem: &Problem) {
        if problem.severity == Severity::Error {
            self.count(Counter::Errors, 1);
            let kind = problem.kind.as_deref().unwrap_or_else(|| kind_of(&problem.message));
            self.counters.note_error(kind);
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
    let mut meter = Meter::default();
    let mut stopped = stop.0.lock().unwrap_or_else(PoisonError::into_inner);
    while !*stopped {
        stopped = stop.1.wait_timeout(stopped, tick).unwrap_or_else(PoisonError::into_inner).0;
        if *stopped {
            break;
        }
        let mut state = counters.snapshot(start.elapsed());
        meter.measure(&mut state);
        if output.is_json() {
            let _ = output.json(&state.message());
        } else if terminal::is_in_foreground() {
            // The width is asked for each time: a terminal may be resized.
            output.transient(&line(&state, terminal::width().unwrap_or(FALLBACK_WIDTH)));
        }
    }
    if terminal::is_in_foreground() {
        output.transient("");
    }
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::Kept;
    use super::super::output::{Loudness, Output};
    use super::*;

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

    #[test]
    fn errors_are_counted_by_kind() {
        assert_eq!(kind_of("cannot read /a: b: Permission denied (os error 13)"), "Permission denied");
        let progress = Progress::start(
            &Output::to(std::io::sink(), std::io::sink(), Loudness::Silent, false, false),
            false,
        );
        for number in 0..20_u32 {
            let message = if number < 5 { "cannot read: gone".into() } else { format!("kind {number}") };
            let path = "/a".into();
            progress.problem(&Problem { severity: Severity::Error, path, message, kind: None });
        }
        for advice in ["x: enable it", "y: or leave it out"] {
            let (path, message, kind) = ("/a".into(), advice.into(), Some("gone".into()));
            progress.problem(&Problem { severity: Severity::Error, path, message, kind });
        }
        let kinds = progress.error_kinds();
        assert_eq!(kinds[0], ("other".to_owned(), 8));
        assert_eq!(kinds[1], ("gone".to_owned(), 7));
        assert_eq!(kinds.iter().map(|(_, count)| count).sum::<u64>(), 22);
    }

    #[test]
    fn totals_belong_to_their_phase() {
        let counters = Counters::default();
        counters.begin("a");
        counters.phase().totals[Counter::Bytes as usize] = Some((100, false));
        counters.counts[Counter::Bytes as usize].store(50, Ordering::Relaxed);
        let state = counters.snapshot(Duration::ZERO);
        assert_eq!(state.bytes_total, Some(Total { done: 50, all: 100, guessed: false }));
        counters.begin("b");
        assert_eq!(counters.snapshot(Duration::ZERO).bytes_total, None);
        counters.phase().totals[Counter::Files as usize] = Some((7, true));
        counters.counts[Counter::Files as usize].store(3, Ordering::Relaxed);
        let state = counters.snapshot(Duration::ZERO);
        assert_eq!((state.bytes, state.items_total), (50, Some(Total { done: 3, all: 7, guessed: true })));
    }

    fn problem(severity: Severity) -> Problem {
        Problem { severity, path: "/a\x1b".into(), message: "gone".into(), kind: None }
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
