//! Which snapshots are meant: the query flags, as a pure filter over header fields.

use clap::Args;
use jiff::Zoned;

use super::dates;
use super::error::CommandError;
use crate::base::Timestamp;

/// The query flags of `ls`, `restore`, `check` and `sync`.
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
}

impl QueryArgs {
    /// Returns whether no flag was given.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Understands the flags.
    pub(crate) fn filter(&self, now: &Zoned) -> Result<Filter, CommandError> {
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
}

impl Filter {
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
    pub(crate) fn select<T>(&self, snapshots: Vec<T>, facts: impl Fn(&T) -> Facts<'_>) -> Vec<T> {
        let mut kept: Vec<T> = snapshots.into_iter().filter(|snapshot| self.fits(&facts(snapshot))).collect();
        kept.sort_by_key(|snapshot| facts(snapshot).timestamp);
        if self.latest {
            kept.drain(..kept.len().saturating_sub(1));
        }
        kept
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
        filter.select(snapshots, facts).into_iter().map(|snapshot| snapshot.0).collect()
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
    fn nonsense_is_a_usage_error() {
        let now: Zoned = "1970-01-01T00:16:40Z[UTC]".parse().unwrap();
        let bad = QueryArgs { before: Some("soon".into()), ..QueryArgs::default() };
        assert_eq!(bad.filter(&now).unwrap_err().exit().code(), 64);
        assert_eq!(tags(&["!"]).filter(&now).unwrap_err().exit().code(), 64);
    }
}
