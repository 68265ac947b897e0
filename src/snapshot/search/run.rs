//! Searching one snapshot.

use crate::base::{Cancel, Id};
use crate::format::blob::BlobType;
use crate::format::entry::Entry;
use crate::format::path::check_entry;
use crate::format::snapshot::INDEX_CONTENT_TYPE;
use crate::store::blob::BlobSource as _;
use crate::store::{Error, Repository};

use super::super::monitor::Monitor;
use super::super::part::{Part, report};
use super::super::tree::{Tree, TreeKind};
use super::super::vfs::read::{Vfs, Visit};
use super::query::{SearchQuery, mime};

/// Finds the entries of a part of a snapshot that fit a query and hands them to `each`, by content type and path
/// where the index of types is used, else in the order of a walk. What cannot be read is reported to the monitor.
pub fn search<E: From<Error>>(
    repository: &Repository,
    part: Part<'_>,
    query: &SearchQuery,
    cancel: &Cancel,
    monitor: &dyn Monitor,
    each: &mut dyn FnMut(Entry) -> Result<(), E>,
) -> Result<(), E> {
    let (vfs, first) = part.open(repository)?;
    let start = first.path();
    if !query.content_types.is_empty()
        && let Some(root) = part.source()?.index(INDEX_CONTENT_TYPE)
    {
        match Tree::open(repository, TreeKind::INDEX, &root) {
            Ok(index) => {
                let indexed = Indexed { repository, vfs: &vfs, query, start: &start };
                return indexed.search(&index, cancel, monitor, each);
            }
            // A damaged index only costs time.
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error.into()),
        }
    }
    for visit in vfs.walk(&start)? {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled.into());
        }
        match visit {
            Ok(Visit::Entry(child)) if query.fits(&child.entry) => each(child.entry)?,
            Ok(_) => {}
            Err(error) => report(monitor, &error.folder, &error),
        }
    }
    Ok(())
}

struct Indexed<'a> {
    repository: &'a Repository,
    vfs: &'a Vfs<'a, Repository>,
    query: &'a SearchQuery,
    start: &'a [u8],
}

impl Indexed<'_> {
    fn search<E: From<Error>>(
        &self,
        index: &Tree<'_, Repository>,
        cancel: &Cancel,
        monitor: &dyn Monitor,
        each: &mut dyn FnMut(Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut cursor = index.scan()?;
        while let Some((key, id)) = cursor.next()? {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled.into());
            }
            let Some((kind, path)) = split(key) else { continue };
            if !self.query.content_types.fit(kind) || !self.is_below(path) || !self.query.fits_path(path) {
                continue;
            }
            match self.entry(path, &id) {
                Ok(Some(entry)) if self.query.fits_but_type(&entry) && self.is_of_type(&entry) => {
                    each(entry)?;
                }
                Ok(_) => {}
                Err(error) => report(monitor, path, &error),
            }
        }
        Ok(())
    }

    /// The index informs; what an entry says of itself counts. (Those of upstream 1.0.x say nothing.)
    fn is_of_type(&self, entry: &Entry) -> bool {
        entry.content_type.is_empty() || self.query.content_types.fit(mime(&entry.content_type))
    }

    fn is_below(&self, path: &[u8]) -> bool {
        let start = if self.start == b"/" { b"" } else { self.start };
        path.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// Reads the entry that the index names, or where that is not there, the one that the view has.
    fn entry(&self, path: &[u8], id: &Id) -> Result<Option<Entry>, Error> {
        let named = || -> Result<Entry, Error> {
            let entry = Entry::decode(&self.repository.get(BlobType::VFS_ENTRY, id)?)?;
            check_entry(&entry)?;
            Ok(entry)
        };
        match named() {
            Ok(entry) if entry.path().as_bytes() == path => Ok(Some(entry)),
            Err(error) if !error.is_damage() => Err(error),
            _ => self.vfs.entry(path),
        }
    }
}

/// Takes a key of the index apart: `/` ‖ type ‖ path, the type having one slash.
fn split(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let key = key.strip_prefix(b"/")?;
    let mut slashes = key.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    key.split_at_checked(slashes.nth(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_index_are_a_type_and_a_path() {
        assert_eq!(split(b"/text/plain/etc/x"), Some((&b"text/plain"[..], &b"/etc/x"[..])));
        assert_eq!(split(b"/text/plain"), None);
        assert_eq!(split(b"text"), None);
    }
}
