//! The children of one folder, from its dirpack or from the tree.

use std::fmt;

use crate::base::{Id, RawString};
use crate::format::blob::BlobType;
use crate::format::dirpack::{Frame, FrameKind, FrameReader};
use crate::format::entry::Entry;
use crate::format::path::{check_child, join};
use crate::snapshot::tree::Cursor;
use crate::store::blob::{BlobSource, Error, Result};

use super::content::{ObjectReader, store_error};

/// One child of a folder.
#[derive(Clone, PartialEq, Debug)]
pub struct Child {
    /// Its entry, whose name and parent are checked.
    pub entry: Entry,
    /// The id of the entry.
    pub id: Id,
}

impl Child {
    /// Returns the absolute path.
    pub fn path(&self) -> RawString {
        self.entry.path()
    }

    /// Returns whether it is a folder.
    pub fn is_dir(&self) -> bool {
        self.entry.info.mode.is_dir()
    }
}

/// Where a listing of a folder stands, to go on there later ([`Vfs::children_from`](super::Vfs::children_from)).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Bookmark {
    /// The name of the last child listed.
    last: Option<RawString>,
    /// Bytes of the folder's dirpack read so far; `None` where the tree was listed.
    dirpack: Option<u64>,
}

impl Bookmark {
    pub(super) fn dirpack(&self) -> Option<u64> {
        self.dirpack
    }

    /// Returns the first key of the tree behind the last child, given the prefix of the folder's children.
    pub(super) fn key(&self, mut prefix: Vec<u8>) -> Vec<u8> {
        if let Some(last) = &self.last {
            prefix.extend_from_slice(last);
            // The smallest key behind that name; no name holds this byte.
            prefix.push(0);
        }
        prefix
    }
}

/// Streams the children of a folder in byte order of their names.
///
/// A child that cannot be used (a wrong MAC, a name that is none, an entry that is missing) is an error, and the
/// iterator goes on behind it. It ends after an error of the dirpack or of the tree itself.
pub struct Children<'t, 'a, S: ?Sized> {
    source: &'a S,
    folder: RawString,
    last_name: Option<RawString>,
    from: From<'t, 'a, S>,
}

enum From<'t, 'a, S: ?Sized> {
    Dirpack(FrameReader<ObjectReader<'a, S>>),
    /// A scan, and the prefix of the folder's children.
    Tree(Cursor<'t, 'a, S>, Vec<u8>),
    Nothing,
}

impl<S: ?Sized> fmt::Debug for Children<'_, '_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = match &self.from {
            From::Dirpack(_) => "dirpack",
            From::Tree(..) => "tree",
            From::Nothing => "nothing",
        };
        write!(f, "Children({:?} from {from})", self.folder)
    }
}

impl<'t, 'a, S: BlobSource + ?Sized> Children<'t, 'a, S> {
    pub(super) fn from_dirpack(source: &'a S, folder: &[u8], object: &Id) -> Result<Self> {
        let reader = FrameReader::new(ObjectReader::open(source, object)?);
        Ok(Self { source, folder: folder.into(), last_name: None, from: From::Dirpack(reader) })
    }

    pub(super) fn from_tree(
        source: &'a S,
        folder: &[u8],
        cursor: Cursor<'t, 'a, S>,
        prefix: Vec<u8>,
    ) -> Self {
        Self { source, folder: folder.into(), last_name: None, from: From::Tree(cursor, prefix) }
    }

    /// Goes on behind a bookmark of the same folder.
    pub(super) fn go_on(mut self, bookmark: &Bookmark) -> Result<Self> {
        self.last_name.clone_from(&bookmark.last);
        let offset = bookmark.dirpack.unwrap_or(0);
        self.with_reader(|reader| reader.skip_to(offset)).unwrap_or(Ok(()))?;
        Ok(self)
    }

    /// Returns where the listing stands.
    pub fn bookmark(&mut self) -> Bookmark {
        let dirpack = self.with_reader(|reader| reader.position());
        Bookmark { last: self.last_name.clone(), dirpack }
    }

    /// Returns the folder's path.
    pub fn folder(&self) -> &RawString {
        &self.folder
    }

    /// Returns how many bytes of content are held.
    pub(super) fn held_bytes(&mut self) -> usize {
        self.with_reader(|reader| reader.held_bytes()).unwrap_or(0)
    }

    /// Lets content go that can be read again.
    pub(super) fn release(&mut self) {
        self.with_reader(ObjectReader::release);
    }

    /// A frame reader holds its stream; between frames it can be taken apart and put together again.
    fn with_reader<T>(&mut self, act: impl FnOnce(&mut ObjectReader<'a, S>) -> T) -> Option<T> {
        match std::mem::replace(&mut self.from, From::Nothing) {
            From::Dirpack(frames) => {
                let mut reader = frames.into_inner();
                let result = act(&mut reader);
                self.from = From::Dirpack(FrameReader::new(reader));
                Some(result)
            }
            other => {
                self.from = other;
                None
            }
        }
    }

    /// Reads the next child; the outer error ends the iteration, the inner one does not.
    fn step(&mut self) -> Result<Option<Result<Child>>> {
        let child = match &mut self.from {
            From::Nothing => return Ok(None),
            From::Dirpack(frames) => match frames.next_frame().map_err(store_error)? {
                Some(frame) => child_of_frame(self.source, &self.folder, &frame),
                None => return Ok(None),
            },
            From::Tree(cursor, prefix) => match next_in_tree(cursor, prefix)? {
                Some((path, id)) => child_of_tree(self.source, &path, id),
                None => return Ok(None),
            },
        };
        Ok(Some(child.and_then(|child| self.check(child))))
    }

    /// Applies the rules for paths and the order of names.
    fn check(&mut self, child: Child) -> Result<Child> {
        check_child(&child.entry, &self.folder)?;
        let name = &child.entry.info.name;
        if self.last_name.as_ref().is_some_and(|last| last >= name) {
            let what = format!("the list of folder \"{}\"", self.folder.escape_ascii());
            let detail = format!("\"{}\" is out of order or there twice", name.escape_ascii());
            return Err(Error::malformed(&what, &detail));
        }
        self.last_name = Some(name.clone());
        Ok(child)
    }
}

impl<S: BlobSource + ?Sized> Iterator for Children<'_, '_, S> {
    type Item = Result<Child>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if !matches!(step, Ok(Some(_))) {
            self.from = From::Nothing;
        }
        match step {
            Ok(child) => child,
            Err(error) => Some(Err(error)),
        }
    }
}

fn child_of_frame<S: BlobSource + ?Sized>(source: &S, folder: &[u8], frame: &Frame<'_>) -> Result<Child> {
    let found = source.mac(frame.entry);
    if found != frame.mac {
        let what = format!("an entry in the dirpack of \"{}\"", folder.escape_ascii());
        return Err(Error::Corrupt { what, expected: frame.mac.to_string(), found: found.to_string() });
    }
    let entry = Entry::decode(frame.entry)?;
    if FrameKind::of(entry.info.mode.is_dir()) != frame.kind {
        let what =
            format!("\"{}\" in the dirpack of \"{}\"", entry.info.name.escape_ascii(), folder.escape_ascii());
        return Err(Error::malformed(&what, "the frame and the entry disagree about its type"));
    }
    Ok(Child { entry, id: frame.mac })
}

/// Returns the next direct child in the tree.
fn next_in_tree<S: BlobSource + ?Sized>(
    cursor: &mut Cursor<'_, '_, S>,
    prefix: &[u8],
) -> Result<Option<(Vec<u8>, Id)>> {
    while let Some((path, id)) = cursor.next()? {
        match path.strip_prefix(prefix) {
            // The root is not a child of itself.
            Some(b"") => {}
            Some(name) if !name.contains(&b'/') => return Ok(Some((path.to_vec(), id))),
            _ => break,
        }
    }
    Ok(None)
}

fn child_of_tree<S: BlobSource + ?Sized>(source: &S, path: &[u8], id: Id) -> Result<Child> {
    let entry = Entry::decode(&source.get(BlobType::VFS_ENTRY, &id)?)?;
    if join(&entry.parent, &entry.info.name).as_bytes() != path {
        let found = format!("it is the entry of \"{}\"", entry.path().escape_ascii());
        return Err(Error::malformed(&format!("entry {id} of \"{}\"", path.escape_ascii()), &found));
    }
    Ok(Child { entry, id })
}
