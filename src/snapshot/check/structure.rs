//! Walking the structure of snapshots: trees, entries, objects, chunks.
//!
//! What a remote store has to be asked for is fetched for many blobs at a time ([`Window`]): neighbours in a packfile
//! take one request, not one each.

use crossbeam_channel::{Receiver, Sender, bounded};
use rayon::prelude::*;

use crate::base::{Cancel, Id};
use crate::format::blob::BlobType;
use crate::format::object::{ChunkRef, Object};
use crate::format::snapshot::Source;
use crate::store::blob::BlobSource;
use crate::store::{Error, KnownSet, Repository, Window};

use super::super::catalogue::SnapshotInfo;
use super::super::monitor::{Counter, Monitor};
use super::super::restore::read_chunk;
use super::super::tree::{Tree, TreeKind};
use super::super::vfs::read::{Vfs, Visit};
use super::damage::{Ledger, damage_only};

/// Verifies structures.
pub(super) struct StructureChecker<'a> {
    pub(super) repository: &'a Repository,
    /// Blobs known to be whole.
    pub(super) verified: &'a KnownSet,
    /// Objects that were looked at.
    pub(super) visited: &'a KnownSet,
    pub(super) ledger: &'a Ledger,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) cancel: &'a Cancel,
    pub(super) fast: bool,
}

/// Objects go to the workers in batches; of a remote store in larger ones, since each takes some requests.
const BATCH: usize = 64;
const REMOTE_BATCH: usize = 1024;
/// Bytes that a worker fetches at a time.
const WINDOW: u64 = 16 << 20;
const QUEUE: usize = 16;
/// Chunks of one object decoded side by side.
const AHEAD: usize = 8;

impl StructureChecker<'_> {
    /// Checks a snapshot, or what lies below a path of it.
    pub(super) fn snapshot(&self, info: &SnapshotInfo, path: Option<&[u8]>) -> Result<(), Error> {
        for source in info.header.sources() {
            let vfs = match damage_only(Vfs::open(self.repository, source))? {
                Ok(vfs) => vfs,
                Err(error) => {
                    self.hurt(info.id, b"/", &format!("the tree of snapshot {}", info.id), &error);
                    continue;
                }
            };
            let (objects, jobs) = bounded::<Vec<Id>>(QUEUE);
            std::thread::scope(|scope| {
                let workers: Vec<_> = (0..rayon::current_num_threads())
                    .map(|_| {
                        let jobs = jobs.clone();
                        scope.spawn(move || self.work(&jobs))
                    })
                    .collect();
                drop(jobs);
                let walked = self.walk(info, source, &vfs, path, objects);
                let mut result = Ok(());
                for worker in workers {
                    result = result.and(worker.join().unwrap_or(Err(Error::Aborted)));
                }
                result.and(walked)
            })?;
            for fault in vfs.take_faults() {
                let what =
                    format!("the index entry of {} in snapshot {}", fault.path.escape_ascii(), info.id);
                self.hurt(info.id, &fault.path, &what, &fault.error);
            }
        }
        Ok(())
    }

    fn hurt(&self, snapshot: Id, path: &[u8], what: &str, error: &Error) {
        let name = match error {
            Error::Missing { kind, id } => self.ledger.add(&format!("{kind} {id}"), error),
            _ => self.ledger.add(what, error),
        };
        self.ledger.hurts(&name, snapshot, path);
    }

    fn walk(
        &self,
        info: &SnapshotInfo,
        source: &Source,
        vfs: &Vfs<'_, Repository>,
        path: Option<&[u8]>,
        objects: Sender<Vec<Id>>,
    ) -> Result<(), Error> {
        let mut batch = Batch { sender: objects, ids: Vec::new(), most: self.batch() };
        let visits = match damage_only(vfs.walk(path.unwrap_or(b"/")))? {
            Ok(visits) => visits,
            Err(error @ Error::NoPath { .. }) if path.is_some() => return Err(error),
            Err(error) => {
                self.hurt(info.id, b"/", &format!("the root of snapshot {}", info.id), &error);
                return Ok(());
            }
        };
        for visit in visits {
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            match visit {
                Ok(Visit::Entry(child)) => {
                    self.monitor.count(Counter::Items, 1);
                    if !child.entry.object.is_zero() {
                        self.object(child.entry.object, &mut batch)?;
                    } else if child.entry.info.mode.is_regular() {
                        let what = format!("the entry of {}", child.path().escape_ascii());
                        let error = Error::malformed(&what, "a regular file without an object");
                        self.hurt(info.id, &child.path(), &what, &error);
                    }
                }
                Ok(Visit::Left(_)) => {}
                Err(error) => match damage_only::<()>(Err(error.source))? {
                    Ok(()) => {}
                    Err(cause) => {
                        let folder = error.folder.escape_ascii();
                        self.hurt(info.id, &error.folder, &format!("the folder {folder}"), &cause);
                    }
                },
            }
        }
        if path.is_none() {
            self.trees(info, source, vfs, &mut batch)?;
        }
        batch.flush();
        Ok(())
    }

    fn object(&self, id: Id, batch: &mut Batch) -> Result<(), Error> {
        if self.visited.insert(BlobType::OBJECT, id)? {
            batch.push(id);
        }
        Ok(())
    }

    /// Checks every node of every tree, and the values that no walk reaches.
    fn trees(
        &self,
        info: &SnapshotInfo,
        source: &Source,
        vfs: &Vfs<'_, Repository>,
        batch: &mut Batch,
    ) -> Result<(), Error> {
        let tree = |what: &str, result: Result<(), Error>| -> Result<(), Error> {
            if let Err(error) = damage_only(result)? {
                self.hurt(info.id, b"/", &format!("the {what} tree of snapshot {}", info.id), &error);
            }
            Ok(())
        };
        tree("file system", self.scan(TreeKind::VFS, &source.root.root, Some(BlobType::VFS_ENTRY)))?;
        for index in source.indexes.iter().flatten() {
            let values = match index.name.as_bytes() {
                b"summary" => Some(BlobType::SUMMARY),
                b"dirpack" => Some(BlobType::OBJECT),
                _ => None,
            };
            tree(&index.name.lossy(), self.scan(TreeKind::INDEX, &index.value, values))?;
        }
        tree("attribute", self.xattrs(info, vfs, batch))?;
        tree("error", vfs.errors().and_then(|mut items| items.try_for_each(|item| item.map(drop))))
    }

    /// Scans a tree; values are blobs of type `values`, to be verified.
    fn scan(&self, kind: TreeKind, root: &Id, values: Option<BlobType>) -> Result<(), Error> {
        let tree = Tree::open(self.repository, kind, root)?;
        let mut cursor = tree.scan()?;
        let mut ids = Vec::new();
        loop {
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let next = cursor.next();
            if let Ok(Some((_, id))) = &next {
                ids.push(*id);
                if ids.len() < self.batch() {
                    continue;
                }
            }
            if let Some(kind) = values {
                self.blobs(kind, &ids)?;
            }
            ids.clear();
            if next?.is_none() {
                return Ok(());
            }
        }
    }

    fn xattrs(&self, info: &SnapshotInfo, vfs: &Vfs<'_, Repository>, batch: &mut Batch) -> Result<(), Error> {
        for item in vfs.all_xattrs()? {
            match damage_only(item)? {
                Ok(item) => self.object(item.object, batch)?,
                Err(error) => {
                    let what = format!("an attribute in snapshot {}", info.id);
                    self.hurt(info.id, b"/", &what, &error);
                }
            }
        }
        Ok(())
    }

    fn is_remote(&self) -> bool {
        self.repository.storage().is_remote()
    }

    /// Returns how many blobs are dealt with together.
    fn batch(&self) -> usize {
        if self.is_remote() { REMOTE_BATCH } else { BATCH }
    }

    /// Fetches blobs of a remote store together, as far as they fit. What is not fetched is read alone.
    fn fetch(&self, kind: BlobType, ids: impl Iterator<Item = Id>) -> Result<Window, Error> {
        if !self.is_remote() {
            return Ok(Window::default());
        }
        let catalogue = self.repository.catalogue();
        let mut places = Vec::new();
        for id in ids {
            places.extend(catalogue.find_any(kind, &id)?.first().copied());
        }
        Ok(Window::fetch_most(self.repository, places, WINDOW))
    }

    /// Reads metadata, out of the window where it is there, and verifies it.
    fn get(&self, kind: BlobType, id: &Id, window: &Window) -> Result<Vec<u8>, Error> {
        if window.is_empty() {
            return self.repository.get(kind, id);
        }
        let places = self.repository.catalogue().find_any(kind, id)?;
        window.metadata(self.repository, kind, id, places.first())
    }

    /// Verifies metadata unless that was done.
    fn blobs(&self, kind: BlobType, ids: &[Id]) -> Result<(), Error> {
        if self.fast {
            return ids.iter().try_for_each(|id| self.is_there(kind, id));
        }
        let mut unread = Vec::new();
        for id in ids {
            if self.verified.insert(kind, *id)? {
                unread.push(*id);
            }
        }
        let window = self.fetch(kind, unread.iter().copied())?;
        for id in &unread {
            self.get(kind, id, &window)?;
            self.monitor.count(Counter::Blobs, 1);
        }
        Ok(())
    }

    fn is_there(&self, kind: BlobType, id: &Id) -> Result<(), Error> {
        if self.repository.has(kind, id)? { Ok(()) } else { Err(Error::Missing { kind, id: *id }) }
    }

    fn work(&self, jobs: &Receiver<Vec<Id>>) -> Result<(), Error> {
        for batch in jobs {
            let window = self.fetch(BlobType::OBJECT, batch.iter().copied())?;
            let (mut objects, mut bytes) = (Vec::new(), 0_u64);
            for id in batch {
                let read = self.get(BlobType::OBJECT, &id, &window);
                let decoded = read.and_then(|bytes| Ok(Object::decode(&bytes)?));
                match damage_only(decoded)? {
                    Ok(object) => {
                        let unread = self.unread(&object)?.iter();
                        bytes += unread.map(|chunk| u64::from(chunk.length)).sum::<u64>();
                        objects.push((id, object));
                    }
                    Err(error) => self.damaged(id, &error),
                }
                if bytes > WINDOW {
                    self.contents(&std::mem::take(&mut objects))?;
                    bytes = 0;
                }
            }
            self.contents(&objects)?;
        }
        Ok(())
    }

    fn damaged(&self, object: Id, error: &Error) {
        let name = match error {
            Error::Missing { kind, id } => self.ledger.add(&format!("{kind} {id}"), error),
            Error::Corrupt { what, .. } | Error::Malformed { what, .. } => self.ledger.add(what, error),
            _ => self.ledger.add(&format!("object {object}"), error),
        };
        self.ledger.hurts_object(object, &name);
    }

    /// Returns the chunks of an object that are to be fetched: of a remote store, those that are still to be read.
    fn unread<'o>(&self, object: &'o Object) -> Result<&'o [ChunkRef], Error> {
        Ok(match object.chunks.as_slice() {
            _ if self.fast || !self.is_remote() => &[],
            // The MAC of a content of one chunk is the chunk's id.
            [only]
                if object.content_mac == only.id && self.verified.contains(BlobType::CHUNK, &only.id)? =>
            {
                &[]
            }
            chunks => chunks,
        })
    }

    /// Verifies the contents of objects.
    fn contents(&self, objects: &[(Id, Object)]) -> Result<(), Error> {
        let mut unread = Vec::new();
        for (_, object) in objects {
            unread.extend(self.unread(object)?.iter().map(|chunk| chunk.id));
        }
        let window = self.fetch(BlobType::CHUNK, unread.into_iter())?;
        for (id, object) in objects {
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            if let Err(error) = damage_only(self.content(id, object, &window))? {
                self.damaged(*id, &error);
            }
        }
        Ok(())
    }

    /// Verifies the chunks of an object; a content of several chunks as a whole as well.
    fn content(&self, id: &Id, object: &Object, window: &Window) -> Result<(), Error> {
        match object.chunks.as_slice() {
            chunks if self.fast => {
                chunks.iter().try_for_each(|chunk| self.is_there(BlobType::CHUNK, &chunk.id))
            }
            [only] if object.content_mac == only.id => {
                if self.verified.insert(BlobType::CHUNK, only.id)? {
                    read_chunk(self.repository, Some(window), &only.id, only.length)?;
                    self.monitor.count(Counter::Blobs, 1);
                }
                Ok(())
            }
            chunks => {
                let mut whole = self.repository.keys().ids().hasher();
                for group in chunks.chunks(AHEAD) {
                    let contents: Vec<_> = group
                        .par_iter()
                        .map(|chunk| read_chunk(self.repository, Some(window), &chunk.id, chunk.length))
                        .collect::<Result<_, _>>()?;
                    for (chunk, content) in group.iter().zip(contents) {
                        whole.update(&content);
                        if self.verified.insert(BlobType::CHUNK, chunk.id)? {
                            self.monitor.count(Counter::Blobs, 1);
                            self.monitor.count(Counter::Bytes, content.len() as u64);
                        }
                    }
                }
                let found = whole.finish();
                if found == object.content_mac {
                    return Ok(());
                }
                Err(Error::corrupt(format!("the content of object {id}"), object.content_mac, found))
            }
        }
    }

    /// Walks a snapshot again to say which of its paths use what is damaged.
    pub(super) fn attribute(&self, info: &SnapshotInfo, path: Option<&[u8]>) -> Result<(), Error> {
        for source in info.header.sources() {
            let Ok(vfs) = Vfs::open(self.repository, source) else { continue };
            let Ok(visits) = vfs.walk(path.unwrap_or(b"/")) else { continue };
            for visit in visits {
                if self.cancel.is_cancelled() {
                    return Err(Error::Cancelled);
                }
                if let Ok(Visit::Entry(child)) = visit {
                    self.ledger.uses(&child.entry.object, info.id, &child.path());
                }
            }
            for item in vfs.all_xattrs().into_iter().flatten().flatten() {
                self.ledger.uses(&item.object, info.id, &item.path);
            }
        }
        Ok(())
    }
}

struct Batch {
    sender: Sender<Vec<Id>>,
    ids: Vec<Id>,
    /// How many are sent at a time.
    most: usize,
}

impl Batch {
    fn push(&mut self, id: Id) {
        self.ids.push(id);
        if self.ids.len() == self.most {
            self.flush();
        }
    }

    /// Workers that are gone tell why themselves.
    fn flush(&mut self) {
        let _ = self.sender.send(std::mem::take(&mut self.ids));
    }
}
