//! The ascending pass: entries, dirpacks, the direct half of summaries, content types.

use std::ops::Range;

use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};

use crate::base::Id;
use crate::base::sort::{Reversed, Sorter};
use crate::base::spill::{Spill, SpillWriter};
use crate::format::blob::BlobType;
use crate::format::entry::{Entry, FileInfo};
use crate::format::path::{name, parent};
use crate::format::summary::Summary;
use crate::snapshot::tree::TreeKind;
use crate::store::blob::{BlobSink, Lane, Result};

use super::builder::{BuildOptions, Descending};
use super::dirpack::DirpackWriter;
use super::folders::FolderSorter;
use super::group::{Group, Groups};
use super::record::{Facts, decode, encode_facts};

/// Entries that are named and stored together, and their bytes at most.
const BATCH_ENTRIES: usize = 1024;
const BATCH_BYTES: usize = 1 << 20;

/// The pass over all entries in path order.
pub(super) struct EntryPass<'a, S: ?Sized> {
    sink: &'a S,
    missing_folder: FileInfo,
    folders: &'a mut FolderSorter,
    content_types: Descending,
    /// `id ‖ path` of every entry.
    paths: SpillWriter,
    dirpack: DirpackWriter<'a, S>,
    /// The folder whose children stream by, and what was counted of it.
    folder: Option<Vec<u8>>,
    summary: Summary,
    scratch: Entry,
    key: Vec<u8>,
    batch: Pending,
}

/// Entries that wait for their ids.
#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    items: Vec<(Range<usize>, Range<usize>)>,
}

impl<'a, S: BlobSink + ?Sized> EntryPass<'a, S> {
    pub(super) fn new(sink: &'a S, options: &BuildOptions, folders: &'a mut FolderSorter) -> Result<Self> {
        let order = Reversed(TreeKind::INDEX.order);
        Ok(Self {
            sink,
            missing_folder: options.missing_folder.clone(),
            folders,
            content_types: Sorter::new(order, &options.spills, options.memory / 4),
            paths: options.spills.create()?,
            dirpack: DirpackWriter::new(sink),
            folder: None,
            summary: Summary::default(),
            scratch: Facts::scratch(),
            key: Vec::new(),
            batch: Pending::default(),
        })
    }

    /// Reads all groups; what came twice is reported to `errors`.
    pub(super) fn run(&mut self, groups: &mut Groups, errors: &mut Descending) -> Result<()> {
        let mut group = Group::default();
        while groups.next(&mut group)? {
            if group.conflict {
                errors.push(&group.path, b"found more than once; only one of them was kept")?;
            }
            if decode(&group.record).is_none() {
                self.synthesize(&mut group);
            }
            let batch = &mut self.batch;
            let start = batch.bytes.len();
            batch.bytes.extend_from_slice(&group.path);
            let middle = batch.bytes.len();
            batch.bytes.extend_from_slice(&group.record);
            batch.items.push((start..middle, middle..batch.bytes.len()));
            if batch.items.len() == BATCH_ENTRIES || batch.bytes.len() >= BATCH_BYTES {
                self.store_batch()?;
            }
        }
        self.store_batch()?;
        self.close_folder()?;
        self.dirpack.flush()
    }

    /// Returns the sorted content types and the spill of paths.
    pub(super) fn finish(self) -> Result<(Descending, Spill)> {
        Ok((self.content_types, self.paths.finish()?))
    }

    /// Makes up the entry of a folder that nobody reported.
    fn synthesize(&self, group: &mut Group) {
        let info = FileInfo { name: name(&group.path).into(), ..self.missing_folder.clone() };
        let entry = Entry::new(parent(&group.path), info);
        let (head, content_type) = encode_facts(&Facts::of(&entry));
        group.record.clear();
        group.record.extend_from_slice(&head);
        group.record.extend_from_slice(content_type);
        group.record.extend_from_slice(&entry.encode());
    }

    /// Names and stores the waiting entries with all threads, then goes through them in order.
    fn store_batch(&mut self) -> Result<()> {
        let Pending { bytes, items } = std::mem::take(&mut self.batch);
        let sink = self.sink;
        let put = |item: &(Range<usize>, Range<usize>)| {
            let entry = decode(&bytes[item.1.clone()]).map_or(&[][..], |(_, entry)| entry);
            sink.put(BlobType::VFS_ENTRY, entry, Lane::Metadata)
        };
        let ids: Vec<Id> = items.par_iter().with_min_len(16).map(put).collect::<Result<_>>()?;
        for ((path, record), id) in items.iter().zip(ids) {
            let Some((facts, entry)) = decode(&bytes[record.clone()]) else { continue };
            self.take(&bytes[path.clone()], &facts, entry, id)?;
        }
        self.batch = Pending { bytes, items };
        self.batch.bytes.clear();
        self.batch.items.clear();
        Ok(())
    }

    /// Takes the next entry in path order.
    fn take(&mut self, path: &[u8], facts: &Facts<'_>, entry: &[u8], id: Id) -> Result<()> {
        self.paths.push(&[id.as_bytes(), path])?;
        let folder = facts.mode.is_dir();
        let mime = facts.mime();
        if folder {
            self.folders.add_folder(path)?;
        } else if !mime.is_empty() {
            self.key.clear();
            self.key.push(b'/');
            self.key.extend_from_slice(mime);
            self.key.extend_from_slice(path);
            self.content_types.push(&self.key, id.as_bytes())?;
        }
        if path == b"/" {
            return Ok(());
        }
        let parent = parent(path);
        if self.folder.as_deref() != Some(parent) {
            self.close_folder()?;
            self.folder = Some(parent.to_vec());
        }
        self.dirpack.push(folder, entry, id)?;
        facts.fill(&mut self.scratch);
        self.summary.add_child_entry(&self.scratch);
        Ok(())
    }

    fn close_folder(&mut self) -> Result<()> {
        let Some(folder) = self.folder.take() else { return Ok(()) };
        let object = self.dirpack.finish()?;
        let summary = std::mem::take(&mut self.summary);
        Ok(self.folders.add_children(&folder, object, &summary)?)
    }
}
