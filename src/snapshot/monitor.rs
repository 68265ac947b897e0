//! How an operation tells what it does: counts, problems, events. Nothing here prints.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::{Id, RawString};

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Counter {
    /// Things found: files, folders, objects.
    Items,
    /// Regular files and objects done.
    Files,
    /// Folders done.
    Folders,
    /// Files that were taken from the previous snapshot without being read.
    Unchanged,
    /// Bytes of content read, restored or verified.
    Bytes,
    /// Bytes that were new and stored, encoded.
    StoredBytes,
    /// Blobs verified or copied.
    Blobs,
    /// Problems.
    Errors,
}

impl Counter {
    /// All counters, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Items,
        Self::Files,
        Self::Folders,
        Self::Unchanged,
        Self::Bytes,
        Self::StoredBytes,
        Self::Blobs,
        Self::Errors,
    ];
}

/// How bad a problem is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// Something is not as good as it could be; the result is complete.
    Warning,
    /// Something is missing from the result: the run is partial.
    Error,
}

/// One problem with one path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The path in the snapshot; empty where there is none.
    pub path: RawString,
    /// What happened, cause included. Foreign text: escape it before it is shown.
    pub message: String,
    /// What kind of problem it is, for those who count: the cause in a few words, without what to do about it. Nothing
    /// where only the message tells. Foreign text, too.
    pub kind: Option<String>,
}

/// What is told of a problem.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Told {
    pub(super) message: String,
    pub(super) kind: Option<String>,
}

impl Told {
    /// Takes both from an error.
    pub(super) fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        Self { message: message_of(error), kind: kind_of(error) }
    }
}

impl From<String> for Told {
    fn from(message: String) -> Self {
        Self { message, kind: None }
    }
}

impl From<&str> for Told {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

/// Returns what kind of problem an error is: what its first cause said, where that is kept apart from what it was said
/// of, and up to the advice that may follow.
fn kind_of(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut first = error;
    while let Some(cause) = first.source() {
        first = cause;
    }
    let detail = first.downcast_ref::<crate::connector::Error>()?.detail.as_deref()?;
    let end = [": ", "; "].iter().filter_map(|mark| detail.find(mark)).min().unwrap_or(detail.len());
    Some(detail[..end].to_owned())
}

/// Something that a script may want to follow.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A path was done, with its size in bytes.
    Done {
        /// The path in the snapshot.
        path: &'a [u8],
        /// The size of its content.
        size: u64,
    },
    /// A checkpoint was written: an interrupted run goes on from here.
    Checkpoint,
    /// A snapshot was committed.
    Committed {
        /// Its id.
        snapshot: Id,
    },
}

/// Receives what an operation reports, from many threads.
pub trait Monitor: fmt::Debug + Send + Sync {
    /// A new phase began: "scan", "index", "commit". What was expected of the last one is over.
    fn phase(&self, name: &'static str) {
        let _ = name;
    }

    /// How much of something this phase will count in all, as far as known.
    fn expect(&self, counter: Counter, total: u64) {
        let _ = (counter, total);
    }

    /// The same, guessed: what an earlier run counted, or what need not all be done.
    fn estimate(&self, counter: Counter, total: u64) {
        let _ = (counter, total);
    }

    /// Something was done.
    fn count(&self, counter: Counter, amount: u64);

    /// Something went wrong.
    fn problem(&self, problem: &Problem);

    /// Something happened.
    fn event(&self, event: &Event<'_>) {
        let _ = event;
    }
}

/// Counts and collects, for tests and for library users that look at the end.
#[derive(Debug, Default)]
pub struct Tally {
    counts: [AtomicU64; Counter::ALL.len()],
    problems: Mutex<Vec<Problem>>,
}

impl Tally {
    /// Returns a count.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counts[counter as usize].load(Ordering::Relaxed)
    }

    /// Returns the problems so far.
    pub fn problems(&self) -> Vec<Problem> {
        self.problems.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl Monitor for Tally {
    fn count(&self, counter: Counter, amount: u64) {
        self.counts[counter as usize].fetch_add(amount, Ordering::Relaxed);
    }

    fn problem(&self, problem: &Problem) {
        self.count(Counter::Errors, 1);
        self.problems.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(problem.clone());
    }
}

/// Writes an error with its causes into one line: `a: b: c`.
pub fn message_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // A transparent error repeats its cause.
        if !message.ends_with(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        cause = error.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::{Error, ErrorKind};

    #[test]
    fn advice_is_no_kind_of_problem() {
        let error = |detail: &str| Error::new(ErrorKind::Invalid, "restore", "versions: old").detail(detail);
        for detail in
            ["versioning is off: enable it, or leave it out", "versioning is off; enable it: or not"]
        {
            let told = Told::of(&error(detail));
            assert_eq!(told.kind.as_deref(), Some("versioning is off"));
            assert!(told.message.ends_with(detail));
        }
        let outer = crate::store::Error::Elsewhere(error("gone").because(error("the link is down")));
        assert_eq!(Told::of(&outer).kind.as_deref(), Some("the link is down"));
        let io = std::io::Error::other("bad sector");
        assert_eq!(Told::of(&Error::io("read", "/a: b", io)).kind, None);
    }
}
