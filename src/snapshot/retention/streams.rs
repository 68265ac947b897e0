//! Sources that are streams: a location does not tell one from another, so what it was called, or holds, has to.
//!
//! All that comes by standard input has the host for its origin and `/` for its root: a database's dump and another's
//! would be one source, and thinning it would remove the only snapshot of one of them. So a stream's name counts:
//! - of `stdin`, the file's path, which stands in the origin (`host:db/dump.sql`); in snapshots without it, those of
//!   upstream among them, the path is looked up in the tree;
//! - of a `tar` stream (`host:-`), the folder that all its members lie in, and otherwise the names at the top.
//!
//! What cannot be read is a source of its own: nothing is removed on a guess.

use crate::base::{Id, Timestamp};
use crate::connector::stream_name;
use crate::format::entry::Entry;
use crate::format::snapshot::{Importer, Source};
use crate::snapshot::vfs::read::{Child, Vfs};
use crate::store::blob::{BlobSource, Error};

/// The most names at the top of an archive that are compared.
const MOST_NAMES: usize = 10_000;
/// The most folders that are gone down to find a fork.
const MOST_FOLDERS: usize = 1000;

/// What a header tells of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stream<'a> {
    /// One file, by its name.
    Named(&'a [u8]),
    /// Something whose name only the tree tells.
    Nameless,
}

/// Returns the host of an importer, and the stream where it is one.
pub(super) fn split(importer: &Importer) -> (&[u8], Option<Stream<'_>>) {
    let origin = importer.origin.as_bytes();
    match importer.kind.as_bytes() {
        b"stdin" => match origin.iter().position(|byte| *byte == b':') {
            Some(at) => (&origin[..at], Some(Stream::Named(&origin[at + 1..]))),
            None => (origin, Some(Stream::Nameless)),
        },
        b"tar" if origin.ends_with(b":-") => (origin, Some(Stream::Nameless)),
        _ => (origin, None),
    }
}

/// Returns what a stream is known by that has no name of its own: a text for each way of being so, without NUL at
/// its start where it is a path.
pub(super) fn known_by<S: BlobSource + ?Sized>(repository: &S, id: &Id, source: &Source) -> Vec<u8> {
    fork(repository, source).unwrap_or_else(|_| [b"\0unreadable ", id.as_bytes().as_slice()].concat())
}

/// Goes down as long as a folder holds one thing alone, and returns its name; of a folder that nobody packed itself,
/// and of the top, with the names in it.
fn fork<S: BlobSource + ?Sized>(repository: &S, source: &Source) -> Result<Vec<u8>, Error> {
    let vfs = Vfs::open(repository, source)?;
    let mut folder = b"/".to_vec();
    for _ in 0..MOST_FOLDERS {
        let mut names = Vec::new();
        let mut only: Option<Child> = None;
        for child in vfs.children(&folder)?.take(MOST_NAMES) {
            let child = child?;
            names.push(child.entry.info.name.to_vec());
            only = Some(child);
        }
        let only = only.filter(|_| names.len() == 1);
        let Some(child) = only else { return Ok(with_names(&folder, names)) };
        folder = child.path().to_vec();
        if !child.is_dir() || !is_made_up(&child.entry) {
            break;
        }
    }
    Ok(stream_name(&folder).into_bytes())
}

/// Returns whether a folder stands in the tree only because something lies in it.
fn is_made_up(folder: &Entry) -> bool {
    folder.info.links == 0 && matches!(folder.info.modified, Timestamp::EPOCH | Timestamp::ZERO)
}

fn with_names(folder: &[u8], mut names: Vec<Vec<u8>>) -> Vec<u8> {
    names.sort_unstable();
    let mut key = b"\0names ".to_vec();
    for name in std::iter::once(folder).chain(names.iter().map(Vec::as_slice)) {
        key.extend_from_slice(name);
        key.push(0);
    }
    key
}
