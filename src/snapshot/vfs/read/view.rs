//! The view: looking up paths, listing folders, what belongs to an entry.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::{Id, RawString};
use crate::format::blob::BlobType;
use crate::format::entry::{Entry, FileInfo, Mode};
use crate::format::error_item::ErrorItem;
use crate::format::object::Object;
use crate::format::path::{check_entry, is_clean, name, parent};
use crate::format::snapshot::{INDEX_DIRPACK, INDEX_SUMMARY, Source};
use crate::format::summary::Summary;
use crate::format::xattr::{XattrItem, XattrKind, tree_key};
use crate::snapshot::tree::{Tree, TreeKind};
use crate::store::blob::{BlobSource, Error, Result};

use super::children::{Bookmark, Child, Children};
use super::content::ObjectReader;
use super::items::Items;
use super::walk::Walk;

/// Faults that are remembered; a snapshot that dangles at all dangles everywhere.
const FAULTS: usize = 1000;

/// Damage that was worked around: an index says something that is not so, and the data was found elsewhere.
#[derive(Debug)]
pub struct Fault {
    /// The path that was looked up.
    pub path: RawString,
    /// What was wrong on the direct way.
    pub error: Error,
}

/// The file system view of one source of a snapshot. May be shared between threads.
pub struct Vfs<'a, S: ?Sized> {
    source: &'a S,
    tree: Tree<'a, S>,
    xattrs: Id,
    errors: Id,
    dirpacks: Option<Tree<'a, S>>,
    summaries: Option<Tree<'a, S>>,
    faults: Mutex<Vec<Fault>>,
}

impl<S: ?Sized> fmt::Debug for Vfs<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vfs({:?})", self.tree)
    }
}

impl<'a, S: BlobSource + ?Sized> Vfs<'a, S> {
    /// Opens the view that a header's source describes. A damaged index is left out and noted as a fault.
    pub fn open(source: &'a S, described: &Source) -> Result<Self> {
        let mut faults = Vec::new();
        let mut open_index = |name: &str| {
            let root = described.index(name)?;
            match Tree::open(source, TreeKind::INDEX, &root) {
                Ok(tree) => Some(Ok(tree)),
                Err(error) if error.is_damage() => {
                    faults.push(Fault { path: "/".into(), error });
                    None
                }
                Err(error) => Some(Err(error)),
            }
        };
        let dirpacks = open_index(INDEX_DIRPACK).transpose()?;
        let summaries = open_index(INDEX_SUMMARY).transpose()?;
        let tree = Tree::open(source, TreeKind::VFS, &described.root.root)?;
        let (xattrs, errors) = (described.root.xattrs, described.root.errors);
        Ok(Self { source, tree, xattrs, errors, dirpacks, summaries, faults: Mutex::new(faults) })
    }

    /// Returns where the blobs come from.
    pub fn source(&self) -> &'a S {
        self.source
    }

    /// Returns the tree of paths.
    pub fn tree(&self) -> &Tree<'a, S> {
        &self.tree
    }

    /// Returns the index of dirpacks, if there is one.
    pub fn dirpacks(&self) -> Option<&Tree<'a, S>> {
        self.dirpacks.as_ref()
    }

    /// Returns and forgets the damage that was worked around so far, at most 1000 cases.
    pub fn take_faults(&self) -> Vec<Fault> {
        std::mem::take(&mut *self.lock_faults())
    }

    fn lock_faults(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, path: &[u8], error: Error) {
        let mut faults = self.lock_faults();
        if faults.len() < FAULTS {
            faults.push(Fault { path: path.into(), error });
        }
    }

    /// Looks up an absolute, clean path; `None` when there is no such entry.
    pub fn entry(&self, path: &[u8]) -> Result<Option<Entry>> {
        Ok(self.child(path)?.map(|child| child.entry))
    }

    /// Looks up an absolute, clean path; returns the entry with its id.
    pub fn child(&self, path: &[u8]) -> Result<Option<Child>> {
        if !is_clean(path) {
            return Ok(None);
        }
        let id = match self.tree.get(path) {
            Ok(Some(id)) => id,
            Ok(None) => return Ok(None),
            Err(error) if error.is_damage() => return self.child_in_parent(path, error),
            Err(error) => return Err(error),
        };
        match self.stored_entry(path, id) {
            Ok(entry) => Ok(Some(Child { entry, id })),
            Err(error) if error.is_damage() => self.child_in_parent(path, error),
            Err(error) => Err(error),
        }
    }

    fn stored_entry(&self, path: &[u8], id: Id) -> Result<Entry> {
        let entry = Entry::decode(&self.source.get(BlobType::VFS_ENTRY, &id)?)?;
        check_entry(&entry)?;
        if entry.path().as_bytes() == path {
            return Ok(entry);
        }
        let what = format!("entry {id} of \"{}\"", path.escape_ascii());
        Err(Error::malformed(&what, &format!("it is the entry of \"{}\"", entry.path().escape_ascii())))
    }

    /// Finds an entry in its parent's dirpack after the direct way failed with `error`.
    fn child_in_parent(&self, path: &[u8], error: Error) -> Result<Option<Child>> {
        if path == b"/" {
            // No dirpack holds the root. A folder without metadata serves every purpose but its own metadata.
            self.note(path, error);
            let entry = Entry::new("/", FileInfo::new("/", Mode::dir(0o755)));
            return Ok(Some(Child { entry, id: Id::ZERO }));
        }
        let Some(object) = self.dirpacks.as_ref().and_then(|index| index.get(parent(path)).transpose())
        else {
            return Err(error);
        };
        for child in Children::from_dirpack(self.source, parent(path), &object?)? {
            match child {
                Ok(child) if child.entry.info.name.as_bytes() == name(path) => {
                    self.note(path, error);
                    return Ok(Some(child));
                }
                Err(other) if !other.is_damage() => return Err(other),
                _ => {}
            }
        }
        Err(error)
    }

    /// Streams the children of a folder. A path that is no folder of the snapshot has none.
    pub fn children(&self, folder: &[u8]) -> Result<Children<'_, 'a, S>> {
        match self.children_in_dirpack(folder) {
            Ok(Some(children)) => return Ok(children),
            Ok(None) => {}
            Err(error) if error.is_damage() => self.note(folder, error),
            Err(error) => return Err(error),
        }
        let mut prefix = folder.to_vec();
        if folder != b"/" {
            prefix.push(b'/');
        }
        let cursor = self.tree.range(&prefix)?;
        Ok(Children::from_tree(self.source, folder, cursor, prefix))
    }

    /// Streams the children of a folder that stand behind a bookmark.
    pub fn children_from(&self, folder: &[u8], bookmark: &Bookmark) -> Result<Children<'_, 'a, S>> {
        if bookmark.dirpack().is_some()
            && let Some(children) = self.children_in_dirpack(folder)?
        {
            return children.go_on(bookmark);
        }
        let mut prefix = folder.to_vec();
        if folder != b"/" {
            prefix.push(b'/');
        }
        let cursor = self.tree.range(&bookmark.key(prefix.clone()))?;
        Children::from_tree(self.source, folder, cursor, prefix).go_on(bookmark)
    }

    fn children_in_dirpack(&self, folder: &[u8]) -> Result<Option<Children<'_, 'a, S>>> {
        let Some(index) = &self.dirpacks else { return Ok(None) };
        match index.get(folder)? {
            Some(object) => Children::from_dirpack(self.source, folder, &object).map(Some),
            None => Ok(None),
        }
    }

    /// Returns the object of a folder's dirpack; `None` without an index, or where there is no such folder.
    pub fn dirpack(&self, folder: &[u8]) -> Result<Option<Id>> {
        self.dirpacks.as_ref().map_or(Ok(None), |index| index.get(folder))
    }

    /// Walks depth first from a path, which comes first.
    pub fn walk(&self, start: &[u8]) -> Result<Walk<'_, 'a, S>> {
        Walk::start(self, start)
    }

    /// Reads an object.
    pub fn object(&self, id: &Id) -> Result<Object> {
        Ok(Object::decode(&self.source.get(BlobType::OBJECT, id)?)?)
    }

    /// Opens a content for reading in one go: the value of an attribute, a dirpack.
    pub fn open_object(&self, id: &Id) -> Result<ObjectReader<'a, S>> {
        ObjectReader::open(self.source, id)
    }

    /// Looks up an extended attribute of a path.
    pub fn xattr(&self, path: &[u8], name: &[u8]) -> Result<Option<XattrItem>> {
        let tree = Tree::open(self.source, TreeKind::XATTRS, &self.xattrs)?;
        self.xattr_in(&tree, path, name)
    }

    /// Looks up all extended attributes that an entry names. One that is not found is an error in its place.
    pub fn xattrs(&self, entry: &Entry) -> Result<Vec<Result<XattrItem>>> {
        if entry.xattrs.is_empty() {
            return Ok(Vec::new());
        }
        let path = entry.path();
        let tree = Tree::open(self.source, TreeKind::XATTRS, &self.xattrs)?;
        let look_up = |name: &RawString| match self.xattr_in(&tree, &path, name) {
            Ok(Some(item)) => Ok(item),
            Ok(None) => {
                let what = format!("attribute {} of {}", name.escape_ascii(), path.escape_ascii());
                Err(Error::malformed(&what, "the entry names it, but the snapshot does not hold it"))
            }
            Err(error) => Err(error),
        };
        Ok(entry.xattrs.iter().map(look_up).collect())
    }

    fn xattr_in(&self, tree: &Tree<'a, S>, path: &[u8], name: &[u8]) -> Result<Option<XattrItem>> {
        let mut id = None;
        for kind in [XattrKind::EXTENDED, XattrKind::CUSTOM, XattrKind::STREAM] {
            id = tree.get(&tree_key(path, name, kind))?;
            if id.is_some() {
                break;
            }
        }
        // Some release candidates of 1.1.0 used the bare path, so one attribute of each file survived.
        let bare = id.is_none();
        let Some(id) = id.map_or_else(|| tree.get(path), |id| Ok(Some(id)))? else { return Ok(None) };
        let item = XattrItem::decode(&self.source.get(BlobType::XATTR_ENTRY, &id)?)?;
        if item.path.as_bytes() == path && item.name.as_bytes() == name {
            return Ok(Some(item));
        }
        if bare {
            return Ok(None);
        }
        let what = format!("attribute {id} of \"{}\"", path.escape_ascii());
        Err(Error::malformed(&what, &format!("it is one of \"{}\"", item.path.escape_ascii())))
    }

    /// Streams all extended attributes of the snapshot.
    pub fn all_xattrs(&self) -> Result<Items<'a, S, XattrItem>> {
        Items::open(self.source, TreeKind::XATTRS, &self.xattrs)
    }

    /// Streams all error items of the snapshot, by path.
    pub fn errors(&self) -> Result<Items<'a, S, ErrorItem>> {
        Items::open(self.source, TreeKind::ERRORS, &self.errors)
    }

    /// Returns the summary of a folder: from the index, or from the entry in snapshots of 1.0.x.
    pub fn summary(&self, folder: &[u8]) -> Result<Option<Summary>> {
        if let Some(index) = &self.summaries
            && let Some(id) = index.get(folder)?
        {
            return Ok(Some(Summary::decode(&self.source.get(BlobType::SUMMARY, &id)?)?));
        }
        Ok(self.entry(folder)?.and_then(|entry| entry.summary).map(|summary| *summary))
    }
}
