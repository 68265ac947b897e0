//! Rules and what they decide.

use std::collections::{HashMap, HashSet};
use std::fmt;

use jiff::Zoned;

use super::period::{Bucket, Period};
use crate::base::Timestamp;

/// What keeps snapshots by one kind of period: a window, a cap, or both.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Rule {
    /// The period.
    pub period: Period,
    /// How many periods back the rule reaches; `None` has no end.
    pub window: Option<u32>,
    /// How many snapshots of each period it keeps; `None` keeps all.
    pub cap: Option<u32>,
}

/// A set of rules.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Retention {
    rules: Vec<Rule>,
    since: Option<Timestamp>,
}

/// A snapshot, as far as retention looks at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Item<'a> {
    /// When it was made.
    pub timestamp: Timestamp,
    /// Its group; each group is decided by itself.
    pub group: &'a [u8],
}

/// Why a snapshot is kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// A rule keeps it.
    Rule {
        /// The rule.
        rule: Rule,
        /// The period it lies in.
        bucket: Bucket,
        /// Its place among the snapshots of that period, the newest being 1.
        rank: u32,
    },
    /// No rule does, but it is the newest of its group.
    Newest,
}

/// What is to become of a snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Decision {
    /// Why it is kept; empty when it is not.
    pub reasons: Vec<Reason>,
}

impl Decision {
    /// Returns whether the snapshot is kept.
    pub fn keeps(&self) -> bool {
        !self.reasons.is_empty()
    }
}

impl Retention {
    /// Creates a retention from a window and a cap per period; what has neither is no rule.
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        let rules = rules.into_iter().filter(|rule| rule.window.is_some() || rule.cap.is_some());
        Self { rules: rules.collect(), since: None }
    }

    /// Lets the rules keep only what was made at `since` or later.
    #[must_use]
    pub fn since(mut self, since: Option<Timestamp>) -> Self {
        self.since = since;
        self
    }

    /// Returns whether there is no rule, so that nothing can be decided.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Returns the rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Decides for every item, in their order. Of items of one time the later in the list counts as newer. Periods
    /// are those of the time zone of `now`.
    pub fn decide(&self, items: &[Item<'_>], now: &Zoned) -> Vec<Decision> {
        let mut decisions = vec![Decision::default(); items.len()];
        let mut newest_first: Vec<usize> = (0..items.len()).collect();
        newest_first.sort_by_key(|&at| std::cmp::Reverse((items[at].timestamp, at)));
        for rule in &self.rules {
            self.apply(*rule, items, &newest_first, now, &mut decisions);
        }
        let mut seen = HashSet::new();
        for at in newest_first {
            if seen.insert(items[at].group) && !decisions[at].keeps() {
                decisions[at].reasons.push(Reason::Newest);
            }
        }
        decisions
    }

    fn apply(
        &self,
        rule: Rule,
        items: &[Item<'_>],
        newest_first: &[usize],
        now: &Zoned,
        decisions: &mut [Decision],
    ) {
        let start = rule.window.and_then(|count| rule.period.back(count, now));
        let start = start.max(self.since);
        let mut taken: HashMap<(&[u8], Bucket), u32> = HashMap::new();
        for &at in newest_first {
            let item = &items[at];
            if start.is_some_and(|start| item.timestamp < start) {
                break;
            }
            let Some(bucket) = rule.period.bucket(item.timestamp, now.time_zone()) else { continue };
            let rank = taken.entry((item.group, bucket)).or_default();
            if rule.cap.is_none_or(|cap| *rank < cap) {
                *rank += 1;
                decisions[at].reasons.push(Reason::Rule { rule, bucket, rank: *rank });
            }
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = self.period.noun();
        match (self.window, self.cap) {
            (Some(window), Some(cap)) => write!(f, "-{noun}s {window} -per-{noun} {cap}"),
            (Some(window), None) => write!(f, "-{noun}s {window}"),
            (None, Some(cap)) => write!(f, "-per-{noun} {cap}"),
            (None, None) => f.write_str("no rule"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { rule, bucket, rank } if rule.cap.is_some() => {
                write!(f, "{rule}: number {rank} of {bucket}")
            }
            Self::Rule { rule, .. } => write!(f, "{rule}"),
            Self::Newest => f.write_str("the newest of its group"),
        }
    }
}
