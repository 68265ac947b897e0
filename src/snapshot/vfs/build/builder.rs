//! Collecting entries, attributes and errors; ordering the passes at the end.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use crate::base::sort::{Reversed, Sorter};
use crate::base::spill::SpillDir;
use crate::base::{Id, PathError};
use crate::format::blob::BlobType;
use crate::format::entry::{Entry, FileInfo};
use crate::format::error::Error as FormatError;
use crate::format::error_item::ErrorItem;
use crate::format::path::{is_clean, parent};
use crate::format::snapshot::{INDEX_CONTENT_TYPE, INDEX_DIRPACK, INDEX_SUMMARY, Index, Roots};
use crate::format::summary::Summary;
use crate::format::xattr::XattrItem;
use crate::snapshot::tree::{Order, TreeBuilder, TreeKind, TreeShape};
use crate::store::blob::{Batch, BlobSink, Lane, Result};

use super::folders::FolderSorter;
use super::group::Groups;
use super::pass::EntryPass;
use super::record::{Facts, IMPLIED, encode_facts};

/// A sorter of keys for a tree that is written from its end.
pub(super) type Descending = Sorter<Reversed<Order>>;

/// Folders that are remembered as known, so that a file's ancestors are not reported again.
const KNOWN_FOLDERS: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// How to build.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// How the trees are cut: chained for stores that upstream also reads.
    pub shape: TreeShape,
    /// Where sorted runs go.
    pub spills: SpillDir,
    /// The memory for sorting, bytes. The largest chunk of the store's chunker, twice, comes on top.
    pub memory: usize,
    /// What a folder looks like that nobody reported; the name is replaced.
    pub missing_folder: FileInfo,
}

/// What a snapshot's header says about its view, and some counts.
#[derive(Clone, PartialEq, Debug)]
pub struct Built {
    /// The roots of the trees.
    pub roots: Roots,
    /// The indexes, in the order of the header.
    pub indexes: Vec<Index>,
    /// The summary of `/`.
    pub summary: Summary,
    /// The number of entries, synthesized folders included.
    pub entries: u64,
    /// How many of them are files renamed because a folder has their path.
    pub renamed: u64,
    /// The number of error items.
    pub error_items: u64,
}

/// Takes everything that was found and builds the file system view. May be shared between threads.
#[derive(Debug)]
pub struct VfsBuilder {
    options: BuildOptions,
    entries: Mutex<Entries>,
    xattrs: Mutex<Descending>,
    errors: Mutex<Descending>,
}

#[derive(Debug)]
struct Entries {
    sorter: Sorter<Order>,
    known: LruCache<Box<[u8]>, ()>,
    last_folder: Vec<u8>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A sorter takes a record as a whole or not at all, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl VfsBuilder {
    /// Starts a view.
    pub fn new(options: BuildOptions) -> Self {
        let (spills, memory) = (&options.spills, options.memory);
        let sorter = Sorter::new(Order::Path, spills, memory / 2);
        let known = LruCache::new(KNOWN_FOLDERS);
        let entries = Mutex::new(Entries { sorter, known, last_folder: Vec::new() });
        let xattrs = Mutex::new(Sorter::new(Reversed(TreeKind::XATTRS.order), spills, memory / 8));
        let errors = Mutex::new(Sorter::new(Reversed(TreeKind::ERRORS.order), spills, memory / 16));
        Self { options, entries, xattrs, errors }
    }

    /// Takes an entry: its absolute path, its serialization and the facts about it. Fails on a path that is not
    /// clean. When one path comes twice the last one counts and the path gets an error item.
    pub fn add(&self, path: &[u8], entry: &[u8], facts: &Facts<'_>) -> Result<()> {
        check_path(path)?;
        let (head, content_type) = encode_facts(facts);
        let mut entries = lock(&self.entries);
        entries.add_ancestors(path)?;
        entries.sorter.push_parts(path, &[&head, content_type, entry])?;
        Ok(())
    }

    /// Takes a decoded entry.
    pub fn add_entry(&self, entry: &Entry) -> Result<()> {
        self.add(&entry.path(), &entry.encode(), &Facts::of(entry))
    }

    /// Takes an extended attribute, whose value is stored already.
    pub fn add_xattr(&self, item: &XattrItem) -> Result<()> {
        Ok(lock(&self.xattrs).push(&item.key(), &item.encode())?)
    }

    /// Takes what went wrong at a path. Several messages for one path are joined.
    pub fn add_error(&self, path: &[u8], message: &str) -> Result<()> {
        check_path(path)?;
        lock(&self.entries).add_ancestors(path)?;
        Ok(lock(&self.errors).push(path, message.as_bytes())?)
    }

    /// Sorts, stores all blobs of the view and returns what the header needs.
    pub fn finish(self, sink: &(impl BlobSink + ?Sized)) -> Result<Built> {
        let Self { options, entries, xattrs, errors } = self;
        let Entries { mut sorter, .. } = entries.into_inner().unwrap_or_else(PoisonError::into_inner);
        sorter.push(b"/", IMPLIED)?;
        let mut errors = errors.into_inner().unwrap_or_else(PoisonError::into_inner);
        let xattrs = xattrs.into_inner().unwrap_or_else(PoisonError::into_inner);

        let mut folders = FolderSorter::new(&options.spills, options.memory / 16);
        let mut pass = EntryPass::new(sink, &options, &mut folders)?;
        let mut groups = Groups::new(sorter.finish()?, &options.spills)?;
        let renamed = groups.renamed();
        pass.run(&mut groups, &mut errors)?;
        drop(groups);
        let (content_types, paths) = pass.finish()?;

        let shape = options.shape;
        let entries = paths.records();
        let root = {
            let mut tree = TreeBuilder::new(sink, TreeKind::VFS, shape);
            let mut paths = paths.backward();
            while let Some(record) = paths.next()? {
                let (id, path) = record.split_first_chunk::<32>().unwrap_or((&[0; 32], b""));
                tree.push(path, Id(*id))?;
            }
            tree.finish()?
        };
        drop(paths);
        let content_type = build_index(sink, shape, content_types)?;
        let (errors, error_items) = build_errors(sink, shape, errors, &mut folders)?;
        let (summary, dirpacks, summaries) = folders.finish(sink, &options)?;
        let dirpack = build_index(sink, shape, dirpacks)?;
        let summary_index = build_index(sink, shape, summaries)?;
        let xattrs = build_xattrs(sink, shape, xattrs)?;
        let indexes = vec![
            Index::btree(INDEX_CONTENT_TYPE, content_type),
            Index::btree(INDEX_DIRPACK, dirpack),
            Index::btree(INDEX_SUMMARY, summary_index),
        ];
        let roots = Roots { root, xattrs, errors };
        Ok(Built { roots, indexes, summary, entries, renamed, error_items })
    }
}

impl Entries {
    /// Reports the folders above a path, so that those nobody else reports can be synthesized. The ones seen
    /// lately are skipped; a folder reported twice does no harm.
    fn add_ancestors(&mut self, path: &[u8]) -> Result<(), PathError> {
        let mut folder = parent(path);
        if folder == self.last_folder {
            return Ok(());
        }
        self.last_folder.clear();
        self.last_folder.extend_from_slice(folder);
        while self.known.get(folder).is_none() {
            self.sorter.push(folder, IMPLIED)?;
            self.known.put(folder.into(), ());
            folder = parent(folder);
        }
        Ok(())
    }
}

fn check_path(path: &[u8]) -> Result<()> {
    if is_clean(path) {
        return Ok(());
    }
    let detail = format!("not an absolute and clean path: \"{}\"", path.escape_ascii());
    Err(FormatError::malformed("path", detail).into())
}

/// Writes an index tree from keys with ids.
fn build_index(sink: &(impl BlobSink + ?Sized), shape: TreeShape, sorter: Descending) -> Result<Id> {
    let mut tree = TreeBuilder::new(sink, TreeKind::INDEX, shape);
    let mut sorted = sorter.finish()?;
    while let Some((key, value)) = sorted.next()? {
        tree.push(key, Id(value.first_chunk().copied().unwrap_or_default()))?;
    }
    tree.finish()
}

/// Stores the error items, one a path, and counts them for their folders.
fn build_errors(
    sink: &(impl BlobSink + ?Sized),
    shape: TreeShape,
    sorter: Descending,
    folders: &mut FolderSorter,
) -> Result<(Id, u64)> {
    let mut tree = TreeBuilder::new(sink, TreeKind::ERRORS, shape);
    let mut batch = Batch::new(sink);
    let mut sorted = sorter.finish()?;
    let (mut path, mut messages) = (Vec::new(), Vec::<Vec<u8>>::new());
    loop {
        let more = sorted.advance()?;
        let (next, message) = sorted.record();
        if (!more || next != path) && !messages.is_empty() {
            let item = ErrorItem::new(path[..].into(), messages.join(&b"; "[..]));
            tree.push(&path, batch.put(BlobType::ERROR_ENTRY, &item.encode(), Lane::Metadata)?)?;
            folders.add_error(parent(&path))?;
            messages.clear();
        }
        if !more {
            break;
        }
        path.clear();
        path.extend_from_slice(next);
        if !messages.iter().any(|known| known == message) && messages.len() < MESSAGES {
            messages.push(message.to_vec());
        }
    }
    batch.flush()?;
    let count = tree.keys();
    Ok((tree.finish()?, count))
}

/// Messages of one path that are joined; the rest says nothing new.
const MESSAGES: usize = 8;

/// Stores the attributes; when one comes twice the last one counts.
fn build_xattrs(sink: &(impl BlobSink + ?Sized), shape: TreeShape, sorter: Descending) -> Result<Id> {
    let mut tree = TreeBuilder::new(sink, TreeKind::XATTRS, shape);
    let mut batch = Batch::new(sink);
    let mut sorted = sorter.finish()?;
    let mut pending: Option<(Vec<u8>, Vec<u8>)> = None;
    loop {
        let more = sorted.advance()?;
        let (key, item) = sorted.record();
        if let Some((last, bytes)) = &pending
            && (!more || last != key)
        {
            tree.push(last, batch.put(BlobType::XATTR_ENTRY, bytes, Lane::Metadata)?)?;
        }
        if !more {
            break;
        }
        pending = Some((key.to_vec(), item.to_vec()));
    }
    batch.flush()?;
    tree.finish()
}
