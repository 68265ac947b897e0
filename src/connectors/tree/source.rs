//! A tree as a source: from its root's ancestors down, and how one run compares with the one before.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ignore::gitignore::Gitignore;

use super::found::Found;
use super::names;
use super::walk::Walk;
use crate::base::Timestamp;
use crate::connector::{Change, Error, ErrorKind, Record, Result};
use crate::connectors::patterns;
use crate::format::entry::Entry;

/// How far the clocks of a server and of this machine may be apart, whole seconds in listings included, in
/// nanoseconds: what was modified within that of a run's begin is read again by the next.
pub(in crate::connectors) const CLOCKS: i64 = 60_000_000_000;

/// What can be asked about folders.
pub(in crate::connectors) trait Folders: Sync {
    /// Lists a folder. `.` and `..` are left out; other names are passed on as they come.
    fn list(&self, path: &[u8]) -> Result<Vec<Found>>;

    /// Looks at one path. A link is followed where it is on the way to what was asked for: nothing lies below it
    /// otherwise.
    fn look(&self, path: &[u8]) -> Result<Found>;
}

/// What is read of a server.
#[derive(Debug)]
pub(in crate::connectors) struct Source {
    /// The folder that was asked for, or that holds the file that was.
    root: Vec<u8>,
    /// The one file that was asked for.
    only: Option<Vec<u8>>,
    excludes: Option<Gitignore>,
}

impl Source {
    /// Looks at what is to be read: a folder, or one file. Patterns are relative to the root.
    pub(in crate::connectors) fn open(
        folders: &dyn Folders,
        path: Vec<u8>,
        ignore_files: &[PathBuf],
        excludes: &[String],
    ) -> Result<Self> {
        let info = folders.look(&path)?.info?;
        let (root, only) = if info.mode.is_dir() {
            (path, None)
        } else {
            let (folder, name) = names::parent(&path);
            (folder.to_vec(), Some(name.to_vec()))
        };
        let base = crate::base::sys::os_part(&root);
        let excludes = patterns::compile(Path::new(&base), ignore_files, excludes)?;
        Ok(Self { root, only, excludes })
    }

    /// Returns the root of the snapshot.
    pub(in crate::connectors) fn root(&self) -> &[u8] {
        &self.root
    }

    /// Reports the root's ancestors as far as they can be looked at, the root, and everything below it. Up to `ahead`
    /// folders are listed at a time.
    pub(in crate::connectors) fn scan(
        &self,
        folders: &dyn Folders,
        ahead: usize,
        emit: &mut dyn FnMut(Record) -> ControlFlow<()>,
    ) -> Result<()> {
        for path in ancestors(&self.root) {
            let found = match folders.look(path) {
                Ok(found) => found,
                // Who may read a folder need not be able to look at those above.
                Err(error) if path != self.root && !is_fatal(&error) => continue,
                Err(error) if error.kind == ErrorKind::Unsupported => continue,
                Err(error) => return Err(error),
            };
            if emit(found.record(path.to_vec())).is_break() {
                return Ok(());
            }
        }
        if let Some(name) = &self.only {
            let path = names::join(&self.root, name);
            // Whether there is more to come is no question any more.
            let _: ControlFlow<()> = emit(folders.look(&path)?.record(path));
            return Ok(());
        }
        Walk { excludes: self.excludes.as_ref(), emit }.run(folders, &self.root, ahead)
    }

    /// Compares by size and time: there is nothing else to go by. What was modified within `lag` nanoseconds before
    /// the previous run, or later, may have changed after it was read.
    pub(in crate::connectors) fn compare(
        record: &Record,
        previous: &Entry,
        begun: Timestamp,
        lag: i64,
    ) -> Change {
        let Ok(info) = &record.info else { return Change::Content };
        let was = &previous.info;
        if info.mode.is_regular() {
            let same = was.mode.is_regular()
                && !previous.object.is_zero()
                && (info.size, info.modified) == (was.size, was.modified)
                && info.modified != Timestamp::ZERO
                && info.modified.unix_nanos().saturating_add(lag) < begun.unix_nanos();
            if !same {
                return Change::Content;
            }
        }
        let target = record.symlink_target.as_deref().unwrap_or_default();
        let same = *info == *was && target == previous.symlink_target.as_bytes();
        if same { Change::Same } else { Change::MetadataOnly }
    }
}

fn is_fatal(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::Cancelled | ErrorKind::Transport)
}

/// Returns `/`, every folder on the way, and the path itself.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let inner = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at]);
    let last = (path != b"/").then_some(path);
    std::iter::once(&b"/"[..]).chain(inner).chain(last)
}
