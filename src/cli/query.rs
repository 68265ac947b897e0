//! Which snapshots are meant: the query flags, as a pure filter over header fields.

use clap::Args;
use jiff::Zoned;

use super::dates;
use super::error::CommandError;
use super::retention::RetentionArgs;
use crate::base::Timestamp;
use crate::snapshot::retention::{GroupBy, Item, Reason, Retention};

/// The query flags of `ls`, `restore`, `check`, `sync`, `rm` and `prune`.
#[derive(Args, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct QueryArgs {
    /// Only snapshots older than DATE: a date, RFC 3339, or an age such as 30d
    #[arg(long, value_name = "DATE", help_heading = "Query flags")]
    pub(crate) before: Option<String>,
    /// Only snapshots made since DATE, which is included
    #[arg(long, value_name = "DATE", help_heading = "Query flags")]
    pub(crate) since: Option<String>,
    /// Only the latest of the snapshots that the other flags leave
    #[arg(long, help_heading = "Query flags")]
    pub(crate) latest: bool,
    /// Only snapshots of this name
    #[arg(long, value_name = "NAME", help_heading = "Query flags")]
    pub(crate) name: Option<String>,
    /// Only snapshots of this category
    #[arg(long, value_name = "CATEGORY", help_heading = "Query flags")]
    pub(crate) category: Option<String>,
    /// Only snapshots of this environment
    #[arg(long, value_name = "ENVIRONMENT", help_heading = "Query flags")]
    pub(crate) environment: Option<String>,
    /// Only snapshots of this perimeter
    #[arg(long, value_name = "PERIMETER", help_heading = "Query flags")]
    pub(crate) perimeter: Option<String>,
    /// Only snapshots of this job
    #[arg(long, value_name = "JOB", help_heading = "Query flags")]
    pub(crate) job: Option<String>,
    /// Only snapshots that have all these tags and none of those after a '!': a,!b
    #[arg(long, value_name = "TAGS", help_heading = "Query flags")]
    pub(crate) tag: Vec<String>,
    /// Only snapshots of this backed-up folder or anything below it
    #[arg(long, value_name = "PATH", help_heading = "Query flags")]
    pub(crate) root: Vec<String>,
    #[command(flatten)]
    pub(crate) retention: RetentionArgs,
}

impl QueryArgs {
    /// Returns whether no flag was given.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Understands the flags.
    pub(crate) fn filter(&self, now: &Zoned) -> Result<Filter, CommandError> {
        self.retention.check()?;
        let point = |flag: &str, text: &Option<String>| {
            let read = |text: &String| {
                dates::point(text, now).map_err(|why| CommandError::usage(format!("-{flag}: {why}")))
            };
            text.as_ref().map(read).transpose()
        };
        let mut filter = Filter {
            before: point("before", &self.before)?,
            since: point("since", &self.since)?,
            latest: self.latest,
            name: self.name.clone(),
            category: self.category.clone(),
            environment: self.environment.clone(),
            perimeter: self.perimeter.clone(),
            job: self.job.clone(),
            with: Vec::new(),
            without: Vec::new(),
            roots: self.root.iter().map(|root| root.as_bytes().to_vec()).collect(),
            retention: self.retention.retention(),
            group_by: self.retention.group_by(),
            now: Some(now.clone()),
        };
        for tag in split_tags(&self.tag) {
            match tag.strip_prefix('!') {
                Some("") => return Err(CommandError::usage("-tag: '!' must be followed by a tag")),
                Some(tag) => filter.without.push(tag.to_owned()),
                None => filter.with.push(tag.to_owned()),
            }
        }
        Ok(filter)
    }

    /// Fills in from `base` what is not given here.
    #[must_use]
    pub(crate) fn over(self, base: Self) -> Self {
        Self {
            before: self.before.or(base.before),
            since: self.since.or(base.since),
            latest: self.latest || base.latest,
            name: self.name.or(base.name),
            category: self.category.or(base.category),
            environment: self.environment.or(base.environment),
            perimeter: self.perimeter.or(base.perimeter),
            job: self.job.or(base.job),
            tag: if self.tag.is_empty() { base.tag } else { self.tag },
            root: if self.root.is_empty() { base.root } else { self.root },
            retention: self.retention.over(base.retention),
        }
    }
}

/// Splits tags at commas; empty ones are dropped.
pub(crate) fn split_tags(texts: &[String]) -> impl Iterator<Item = &str> {
    texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|tag| !tag.is_empty())
}

/// The header fields that a filter looks at.
#[derive(Clone, Debug)]
pub(crate) struct Facts<'a> {
    /// When the backup began.
    pub(crate) timestamp: Timestamp,
    /// The snapshot's name.
    pub(crate) name: &'a [u8],
    /// Its category.
    pub(crate) category: &'a [u8],
    /// Its environment.
    pub(crate) environment: &'a [u8],
    /// Its perimeter.
    pub(crate) perimeter: &'a [u8],
    /// Its job.
    pub(crate) job: &'a [u8],
    /// Its tags.
    pub(crate) tags: Vec<&'a [u8]>,
    /// The backed-up root of each source.
    pub(crate) roots: Vec<&'a [u8]>,
}

/// An understood query.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Filter {
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    latest: bool,
    name: Option<String>,
    category: Option<String>,
    environment: Option<String>,
    perimeter: Option<String>,
    job: Option<String>,
    with: Vec<String>,
    without: Vec<String>,
    roots: Vec<Vec<u8>>,
    retention: Retention,
    group_by: GroupBy,
    /// When the windows end.
    now: Option<Zoned>,
}

impl Filter {
    /// Returns where `-since` begins.
    pub(crate) fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// Returns whether a snapshot fits, `-latest` left aside.
    pub(crate) fn fits(&self, facts: &Facts<'_>) -> bool {
        let is = |wanted: &Option<String>, value: &[u8]| {
            wanted.as_ref().is_none_or(|wanted| wanted.as_bytes() == value)
        };
        self.before.is_none_or(|before| facts.timestamp < before)
            && self.since.is_none_or(|since| facts.timestamp >= since)
            && is(&self.name, facts.name)
            && is(&self.category, facts.category)
            && is(&self.environment, facts.environment)
            && is(&self.perimeter, facts.perimeter)
            && is(&self.job, facts.job)
            && self.with.iter().all(|tag| facts.tags.contains(&tag.as_bytes()))
            && !self.without.iter().any(|tag| facts.tags.contains(&tag.as_bytes()))
            && (self.roots.is_empty()
                || self.roots.iter().any(|wanted| facts.roots.iter().any(|root| is_below(root, wanted))))
    }

    /// Keeps the snapshots that fit, oldest first; with `-latest`, the last of them.
    /// Windows and caps are applied group by group, and `key` names the groups.
    pub(crate) fn select<T>(
        &self,
        snapshots: Vec<T>,
        facts: impl Fn(&T) -> Facts<'_>,
        key: impl Fn(&GroupBy, &T) -> Vec<u8>,
    ) -> Vec<T> {
        let mut kept: Vec<T> = snapshots.into_iter().filter(|snapshot| self.fits(&facts(snapshot))).collect();
        kept.sort_by_key(|snapshot| facts(snapshot).timestamp);
        kept = self.within_rules(kept, &facts, key);
        if self.latest {
            kept.drain(..kept.len().saturating_sub(1));
        }
        kept
    }

    /// Keeps the snapshots that a window or a cap keeps; all where there is none.
    fn within_rules<T>(
        &self,
        snapshots: Vec<T>,
        facts: impl Fn(&T) -> Facts<'_>,
        key: impl Fn(&GroupBy, &T) -> Vec<u8>,
    ) -> Vec<T> {
        let Some(now) = self.now.as_ref().filter(|_| !self.retention.is_empty()) else { return snapshots };
        let groups: Vec<Vec<u8>> = snapshots.iter().map(|one| key(&self.group_by, one)).collect();
        let items: Vec<Item<'_>> = snapshots
            .iter()
            .zip(&groups)
            .map(|(snapshot, group)| Item { timestamp: facts(snapshot).timestamp, group })
            .collect();
        let decisions = self.retention.decide(&items, now);
        let by_rule = decisions.iter().map(|one| one.reasons.iter().any(|reason| *reason != Reason::Newest));
        snapshots.into_iter().zip(by_rule).filter(|(_, kept)| *kept).map(|(snapshot, _)| snapshot).collect()
    }
}

/// Returns whether a path is a folder or lies below it.
fn is_below(path: &[u8], folder: &[u8]) -> bool {
    let folder = folder.strip_suffix(b"/").unwrap_or(folder);
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Snapshot(i64, &'static str, &'static [&'static str], &'static str);

    fn facts(snapshot: &Snapshot) -> Facts<'_> {
        Facts {
            timestamp: Timestamp::from_secs(snapshot.0),
            name: snapshot.1.as_bytes(),
            category: b"",
            environment: b"prod",
            perimeter: b"",
            job: b"nightly",
            tags: snapshot.2.iter().map(|tag| tag.as_bytes()).collect(),
            roots: vec![snapshot.3.as_bytes()],
        }
    }

    fn chosen(args: &QueryArgs) -> Vec<i64> {
        let now: Zoned = "1970-01-01T00:16:40Z[UTC]".parse().unwrap();
        let snapshots = vec![
            Snapshot(300, "a", &["x", "y"], "/srv/data"),
            Snapshot(100, "a", &["x"], "/srv"),
            Snapshot(200, "b", &[], "/srv2"),
        ];
        let filter = args.filter(&now).unwrap();
        filter.select(snapshots, facts, |_, _| Vec::new()).into_iter().map(|snapshot| snapshot.0).collect()
    }

    fn tags(tags: &[&str]) -> QueryArgs {
        QueryArgs { tag: tags.iter().map(|tag| (*tag).to_owned()).collect(), ..QueryArgs::default() }
    }

    #[test]
    fn flags_narrow_together() {
        assert_eq!(chosen(&QueryArgs::default()), [100, 200, 300]);
        assert_eq!(chosen(&tags(&["x"])), [100, 300]);
        assert_eq!(chosen(&tags(&["x,!y"])), [100]);
        assert_eq!(chosen(&tags(&["x", "y"])), [300]);
        assert_eq!(chosen(&tags(&["!x"])), [200]);
        let latest = QueryArgs { latest: true, ..QueryArgs::default() };
        assert_eq!(chosen(&latest), [300]);
        assert_eq!(chosen(&QueryArgs { name: Some("b".into()), ..latest.clone() }), [200]);
        assert_eq!(chosen(&QueryArgs { name: Some("c".into()), ..latest }), [0; 0]);
        assert_eq!(chosen(&QueryArgs { job: Some("weekly".into()), ..QueryArgs::default() }), [0; 0]);
    }

    #[test]
    fn before_is_open_and_since_is_closed() {
        let at = |seconds: i64| Some(format!("{}", jiff::Timestamp::from_second(seconds).unwrap()));
        assert_eq!(chosen(&QueryArgs { before: at(200), ..QueryArgs::default() }), [100]);
        assert_eq!(chosen(&QueryArgs { since: at(200), ..QueryArgs::default() }), [200, 300]);
        assert_eq!(chosen(&QueryArgs { since: Some("13m20s".into()), ..QueryArgs::default() }), [200, 300]);
    }

    #[test]
    fn a_root_is_a_folder_not_a_prefix() {
        let root = |root: &str| QueryArgs { root: vec![root.into()], ..QueryArgs::default() };
        assert_eq!(chosen(&root("/srv")), [100, 300]);
        assert_eq!(chosen(&root("/srv/")), [100, 300]);
        assert_eq!(chosen(&root("/")), [100, 200, 300]);
    }

    #[test]
    fn windows_and_caps_narrow_too() {
        let retention = |words: &[&str]| {
            use clap::{Args as _, FromArgMatches as _};
            let command = QueryArgs::augment_args(clap::Command::new("x").no_binary_name(true));
            QueryArgs::from_arg_matches(&command.try_get_matches_from(words).unwrap()).unwrap()
        };
        // 1000 s are now; snapshots were made at 100, 200 and 300 s.
        assert_eq!(chosen(&retention(&["--minutes=12"])), [300]);
        assert_eq!(chosen(&retention(&["--per-hour=2"])), [200, 300]);
        assert_eq!(chosen(&retention(&["--per-hour=2", "--tag=x"])), [100, 300]);
        assert_eq!(chosen(&retention(&["--minutes=1"])), [0; 0]);
    }

    #[test]
    fn nonsense_is_a_usage_error() {
        let now: Zoned = "1970-01-01T00:16:40Z[UTC]".parse().unwrap();
        let bad = QueryArgs { before: Some("soon".into()), ..QueryArgs::default() };
        assert_eq!(bad.filter(&now).unwrap_err().exit().code(), 64);
        assert_eq!(tags(&["!"]).filter(&now).unwrap_err().exit().code(), 64);
    }
}
