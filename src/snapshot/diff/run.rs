//! The differences between two parts of snapshots, in the order of a walk.

use crate::base::{Cancel, RawString};
use crate::format::entry::Entry;
use crate::store::{Error, Repository};

use super::super::monitor::Monitor;
use super::super::part::{Part, report};
use super::super::vfs::read::{Child, Pair, PairWalk, Vfs};
use super::compare::{Aspect, compare};

/// One path that is not the same in both.
#[derive(Clone, PartialEq, Debug)]
pub struct Difference {
    /// The entry before; `None` for what was added.
    pub old: Option<Entry>,
    /// The entry after; `None` for what was removed.
    pub new: Option<Entry>,
    /// What changed, where both are there.
    pub aspects: Vec<Aspect>,
}

impl Difference {
    /// Returns the path: that of the new entry where there is one.
    pub fn path(&self) -> RawString {
        self.new.as_ref().or(self.old.as_ref()).map(Entry::path).unwrap_or_default()
    }
}

/// Compares two parts of snapshots of one store and hands each difference to `each`. Two files are compared whatever
/// their names are; of two folders, what lies at the same place below them, and the folders themselves. What cannot
/// be read is reported to the monitor, and the rest is compared.
pub fn diff<E: From<Error>>(
    repository: &Repository,
    old: Part<'_>,
    new: Part<'_>,
    cancel: &Cancel,
    monitor: &dyn Monitor,
    each: &mut dyn FnMut(Difference) -> Result<(), E>,
) -> Result<(), E> {
    let (before, first) = old.open(repository)?;
    let (after, second) = new.open(repository)?;
    let (from, to) = (old.source()?, new.source()?);
    let same_place = first.path() == second.path();
    if same_place && from.root == to.root && from.indexes == to.indexes {
        return Ok(());
    }
    let same_attributes = from.root.xattrs == to.root.xattrs;
    let both = Both { repository, before: &before, after: &after, same_attributes };
    if let Some(difference) = both.compare(first.clone(), second.clone(), monitor) {
        each(difference)?;
    }
    // Of a folder and a file nothing more can be said.
    if !first.is_dir() || !second.is_dir() {
        return Ok(());
    }
    let walk = PairWalk::start((&before, &first.path()), (&after, &second.path()), same_attributes);
    let walk = match walk.skipping() {
        Ok(walk) => walk,
        Err(error) if error.source.is_damage() => {
            // Every folder is visited then, and what is damaged is told where it is met.
            PairWalk::start((&before, &first.path()), (&after, &second.path()), same_attributes)
        }
        Err(error) => return Err(error.source.into()),
    };
    for pair in walk {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled.into());
        }
        let difference = match pair {
            Ok(Pair::Left(child)) => {
                Some(Difference { old: Some(child.entry), new: None, aspects: Vec::new() })
            }
            Ok(Pair::Right(child)) => {
                Some(Difference { old: None, new: Some(child.entry), aspects: Vec::new() })
            }
            Ok(Pair::Both(old, new)) => both.compare(old, new, monitor),
            Err(error) => {
                report(monitor, &error.folder, &error);
                None
            }
        };
        if let Some(difference) = difference {
            each(difference)?;
        }
    }
    Ok(())
}

struct Both<'a> {
    repository: &'a Repository,
    before: &'a Vfs<'a, Repository>,
    after: &'a Vfs<'a, Repository>,
    same_attributes: bool,
}

impl Both<'_> {
    fn compare(&self, old: Child, new: Child, monitor: &dyn Monitor) -> Option<Difference> {
        if old.id == new.id && (self.same_attributes || new.entry.xattrs.is_empty()) {
            return None;
        }
        let sides = ((self.before, &old.entry), (self.after, &new.entry));
        match compare(self.repository, sides.0, sides.1, !self.same_attributes) {
            Ok(aspects) if aspects.is_empty() => None,
            Ok(aspects) => Some(Difference { old: Some(old.entry), new: Some(new.entry), aspects }),
            Err(error) => {
                report(monitor, &new.path(), &error);
                None
            }
        }
    }
}
