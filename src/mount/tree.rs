//! The file system: names, numbers and contents, without a kernel.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use lru::LruCache;

use super::attributes::Attributes;
use super::blobs::Blobs;
use super::content::{Chunks, OpenFile};
use super::listing::{LONGEST_NAME, Listed, Listing, PAGE, Pages};
use super::numbers::{Known, LATEST, Numbering, Place, ROOT};
use super::shelf::{self, Folder, Select, Shelf};
use crate::base::{Id, RawString, Timestamp};
use crate::connector::ErrorKind;
use crate::format::entry::Entry;
use crate::format::object::{ChunkRef, Object};
use crate::format::path::{check_name, join, name, parent};
use crate::snapshot::vfs::read::{Child, Vfs};
use crate::snapshot::{Monitor, Problem, Severity, SnapshotInfo, message_of};
use crate::store::blob::BlobSource as _;
use crate::store::{Error, Repository};

/// What a mount shows.
pub enum Shown {
    /// A folder for each snapshot that is chosen, and `latest`, a link to the last one.
    Snapshots(Select),
    /// What is below a folder of one snapshot, which is an absolute, clean path.
    Folder(Box<SnapshotInfo>, Vec<u8>),
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Snapshots(_) => f.write_str("Snapshots"),
            Self::Folder(info, path) => write!(f, "Folder({}, {:?})", info.id, RawString::from(&path[..])),
        }
    }
}

/// How a mount works.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// Memory for what was read lately, in bytes.
    pub memory: u64,
    /// Who owns the folders that no snapshot records: user and group.
    pub owner: (u32, u32),
    /// Whether other users may use the mount, as far as the recorded modes let them. Otherwise only the one who
    /// mounted may, and reads everything.
    pub allow_other: bool,
}

/// Why a request failed. What the store is to blame for was reported when it happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// There is no such name or number.
    #[error("no such file or folder")]
    Missing,
    /// It is no folder.
    #[error("not a folder")]
    NotFolder,
    /// It is a folder.
    #[error("a folder")]
    IsFolder,
    /// It has no such extended attribute.
    #[error("no such attribute")]
    NoAttribute,
    /// It is longer than the system takes.
    #[error("too long")]
    TooLong,
    /// It is nothing that can be asked of such a file.
    #[error("not possible with such a file")]
    Unsuitable,
    /// The store could not be read.
    #[error("the store could not be read")]
    Store,
}

type Result<T, E = Failure> = std::result::Result<T, E>;

/// Entries that are kept, for each MiB of memory.
const ENTRIES_PER_MIB: u64 = 64;
/// Problems that are told once only; beyond as many, nothing is remembered of what was told.
const TOLD: usize = 4096;
/// Contents that are remembered while they are open, before those closed are looked for.
const CONTENTS: usize = 256;
/// The longest extended attribute that Linux takes, in bytes.
const LONGEST_XATTR: u64 = 64 << 10;
/// The name of the link to the latest snapshot.
const LATEST_NAME: &[u8] = b"latest";

/// A read-only file system of snapshots. Shared between threads.
#[derive(Debug)]
pub struct Tree {
    blobs: Blobs,
    shelf: Option<Shelf>,
    options: MountOptions,
    numbering: Numbering,
    known: Mutex<Known>,
    entries: Mutex<LruCache<u64, Arc<Entry>>>,
    contents: Mutex<HashMap<Id, Weak<Chunks>>>,
    monitor: Arc<dyn Monitor>,
    told: Mutex<HashSet<(RawString, String)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Chunks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chunks({} bytes)", self.size())
    }
}

impl Tree {
    /// Opens a view of snapshots. Fails where the folder to be shown is none. Problems are passed to `monitor` as they
    /// occur, each once; their paths are `SNAPSHOT:PATH`.
    pub fn open(
        repository: &Arc<Repository>,
        shown: Shown,
        options: &MountOptions,
        monitor: Arc<dyn Monitor>,
    ) -> Result<Self, Error> {
        let (shelf, root) = match shown {
            Shown::Snapshots(select) => (Some(Shelf::new(Arc::clone(repository), select)), Place::Top),
            Shown::Folder(info, path) => (None, Place::In(Arc::from(info), path.into())),
        };
        let entries = usize::try_from((options.memory >> 20) * ENTRIES_PER_MIB).unwrap_or(usize::MAX);
        let tree = Self {
            blobs: Blobs::new(Arc::clone(repository), options.memory),
            shelf,
            options: options.clone(),
            numbering: Numbering::new(),
            known: Mutex::new(Known::new(root.clone())),
            entries: Mutex::new(LruCache::new(NonZeroUsize::new(entries).unwrap_or(NonZeroUsize::MIN))),
            contents: Mutex::default(),
            monitor,
            told: Mutex::default(),
        };
        if let Place::In(info, path) = &root {
            let entry = tree.vfs(info)?.entry(path)?;
            let entry = entry.ok_or_else(|| Error::NoPath { path: path.to_vec() })?;
            if !entry.info.mode.is_dir() {
                return Err(Error::Connector(
                    crate::connector::Error::new(ErrorKind::Invalid, "mount", path.lossy())
                        .detail("it is not a folder"),
                ));
            }
        }
        Ok(tree)
    }

    /// Returns how many snapshots there are to be seen.
    pub fn snapshot_count(&self) -> usize {
        self.shelf.as_ref().map_or(1, |_| self.folders().len())
    }

    fn folders(&self) -> Arc<Vec<Folder>> {
        let Some(shelf) = &self.shelf else { return Arc::default() };
        shelf.folders(&|snapshot, error| {
            let path = snapshot.map(|id| id.short()).unwrap_or_default();
            self.report(path.into(), error);
        })
    }

    fn vfs(&self, snapshot: &SnapshotInfo) -> Result<Vfs<'_, Blobs>, Error> {
        let malformed = || Error::malformed(&format!("snapshot {}", snapshot.id), "it has no source");
        Vfs::open(&self.blobs, snapshot.header.source().ok_or_else(malformed)?)
    }

    /// Tells of a problem, once.
    fn report(&self, path: RawString, error: &Error) {
        if matches!(error, Error::Cancelled) {
            return;
        }
        let mut message = message_of(error);
        if matches!(error, Error::Connector(error) if error.kind == ErrorKind::Archived) {
            message.push_str(
                "; cat -retrieve and restore have it brought back from cold storage, and wait for it",
            );
        }
        let mut told = lock(&self.told);
        if told.len() >= TOLD {
            told.clear();
        }
        if told.insert((path.clone(), message.clone())) {
            drop(told);
            self.monitor.problem(&Problem { severity: Severity::Error, path, message, kind: None });
        }
    }

    /// Reports what the store failed to give, and returns what the kernel is told.
    fn fail(&self, snapshot: &SnapshotInfo, path: &[u8], error: &Error) -> Failure {
        let mut full = format!("{}:", snapshot.id.short()).into_bytes();
        full.extend_from_slice(path);
        self.report(full.into(), error);
        Failure::Store
    }

    fn place(&self, number: u64) -> Result<Place> {
        lock(&self.known).get(number).ok_or(Failure::Missing)
    }

    /// Returns the entry of a path, of those used last if it is among them.
    fn entry(&self, snapshot: &Arc<SnapshotInfo>, path: &[u8]) -> Result<Arc<Entry>> {
        let key = self.numbering.of_path(&snapshot.id, path);
        if let Some(entry) = lock(&self.entries).get(&key) {
            return Ok(Arc::clone(entry));
        }
        let found = self.vfs(snapshot).and_then(|vfs| vfs.entry(path));
        let entry = found.map_err(|error| self.fail(snapshot, path, &error))?.ok_or(Failure::Missing)?;
        let entry = Arc::new(entry);
        lock(&self.entries).put(key, Arc::clone(&entry));
        Ok(entry)
    }

    /// Returns whether a path is what the mount shows at one of its own folders.
    fn is_top_folder(&self, path: &[u8]) -> bool {
        self.shelf.is_some() && path == b"/"
    }

    fn attributes_of(
        &self,
        number: Option<u64>,
        snapshot: &Arc<SnapshotInfo>,
        path: &[u8],
    ) -> Result<Attributes> {
        if self.is_top_folder(path) {
            let number = self.numbering.of_path(&snapshot.id, path);
            return Ok(Attributes::of_folder(number, self.options.owner, snapshot.header.timestamp));
        }
        let entry = self.entry(snapshot, path)?;
        let number = number.unwrap_or_else(|| self.numbering.of_entry(&snapshot.id, path, &entry));
        Ok(Attributes::of(number, &entry))
    }

    /// Tells what `stat` says of a number.
    pub fn attributes(&self, number: u64) -> Result<Attributes> {
        match self.place(number)? {
            Place::Top => {
                let folders = self.folders();
                let newest = folders.last().map_or(Timestamp::EPOCH, |last| last.snapshot.header.timestamp);
                Ok(Attributes::of_folder(ROOT, self.options.owner, newest))
            }
            Place::Latest => self.latest().map(|(attributes, _)| attributes),
            Place::In(snapshot, path) => self.attributes_of(Some(number), &snapshot, &path),
        }
    }

    /// Describes the link to the latest snapshot; returns its text, too.
    fn latest(&self) -> Result<(Attributes, String)> {
        let folders = self.folders();
        let last = folders.last().ok_or(Failure::Missing)?;
        let folder = Attributes::of_folder(LATEST, self.options.owner, last.snapshot.header.timestamp);
        let attributes = Attributes {
            kind: super::FileKind::Symlink,
            size: last.name.len() as u64,
            permissions: 0o777,
            links: 1,
            ..folder
        };
        Ok((attributes, last.name.clone()))
    }

    /// Finds a name in a folder; the number counts as held once more.
    pub fn look_up(&self, folder: u64, wanted: &[u8]) -> Result<Attributes> {
        let (snapshot, path) = match self.place(folder)? {
            Place::Top if wanted == LATEST_NAME => return self.latest().map(|(attributes, _)| attributes),
            Place::Top => {
                let folders = self.folders();
                let found = shelf::find(&folders, wanted).ok_or(Failure::Missing)?;
                (Arc::clone(&found.snapshot), RawString::from("/"))
            }
            Place::Latest => return Err(Failure::NotFolder),
            Place::In(snapshot, path) => {
                check_name(wanted).map_err(|_| Failure::Missing)?;
                let path = join(&path, wanted);
                (snapshot, path)
            }
        };
        let attributes = self.attributes_of(None, &snapshot, &path)?;
        self.hold(attributes.number, || Place::In(snapshot, path));
        Ok(attributes)
    }

    fn hold(&self, number: u64, place: impl FnOnce() -> Place) {
        lock(&self.known).hold(number, place);
    }

    /// Counts a number that was listed with its attributes as held once more.
    pub fn hold_listed(&self, listed: &Listed) {
        self.hold(listed.attributes.number, || listed.place.clone());
    }

    /// Lets a number go that was held so many times.
    pub fn forget(&self, number: u64, times: u64) {
        lock(&self.known).forget(number, times);
    }

    /// Returns the text of a symbolic link.
    pub fn link_text(&self, number: u64) -> Result<Vec<u8>> {
        match self.place(number)? {
            Place::Top => Err(Failure::Unsuitable),
            Place::Latest => self.latest().map(|(_, text)| text.into_bytes()),
            Place::In(snapshot, path) => {
                let entry = self.entry(&snapshot, &path)?;
                let link = entry.info.mode.is_symlink().then(|| entry.symlink_target.to_vec());
                link.ok_or(Failure::Unsuitable)
            }
        }
    }

    /// Opens a folder.
    pub fn open_folder(&self, number: u64) -> Result<Listing> {
        let place = self.place(number)?;
        let above = match &place {
            Place::Top => ROOT,
            Place::Latest => return Err(Failure::NotFolder),
            Place::In(_, path) if number == ROOT || self.is_top_folder(path) => ROOT,
            Place::In(snapshot, path) => {
                if self.attributes_of(Some(number), snapshot, path)?.kind != super::FileKind::Folder {
                    return Err(Failure::NotFolder);
                }
                self.number_above(snapshot, parent(path))
            }
        };
        Ok(Listing::new(place, [number, above]))
    }

    /// Returns the number of a folder above another.
    fn number_above(&self, snapshot: &Arc<SnapshotInfo>, path: &[u8]) -> u64 {
        match lock(&self.known).get(ROOT) {
            Some(Place::In(_, root)) if root.as_bytes() == path => ROOT,
            _ => self.numbering.of_path(&snapshot.id, path),
        }
    }

    /// Passes the children of a folder to `each`, from a place on, with the place of the next one, until it breaks.
    /// The folder itself and its parent are not among them.
    pub fn list(
        &self,
        listing: &Listing,
        from: u64,
        each: &mut dyn FnMut(u64, &Listed) -> std::ops::ControlFlow<()>,
    ) -> Result<()> {
        let mut pages = lock(&listing.pages);
        if from < pages.first {
            *pages = Pages::default();
        }
        let mut at = from;
        loop {
            if let Some(listed) = pages.get(at) {
                at += 1;
                if each(at, listed).is_break() {
                    return Ok(());
                }
            } else if pages.is_last() {
                return Ok(());
            } else if pages.broken {
                // What was read before is passed on first; the failure is the answer to the next request.
                return if at == from { Err(Failure::Store) } else { Ok(()) };
            } else if let Err(failure) = self.turn_page(listing, &mut pages) {
                // As above; and the next request tries once more.
                return if at == from { Err(failure) } else { Ok(()) };
            }
        }
    }

    /// Reads the next page. Where that fails, the page at hand and the place of the next one stay.
    fn turn_page(&self, listing: &Listing, pages: &mut Pages) -> Result<()> {
        let first = pages.first + pages.children.len() as u64;
        let Place::In(snapshot, folder) = &listing.place else {
            *pages = Pages { children: self.top_page(), started: true, ..Pages::default() };
            return Ok(());
        };
        let mut page = Pages { first, started: true, ..Pages::default() };
        let failed = |error| self.fail(snapshot, folder, &error);
        let vfs = self.vfs(snapshot).map_err(failed)?;
        let opened = match &pages.next {
            Some(bookmark) => vfs.children_from(folder, bookmark),
            None => vfs.children(folder),
        };
        let mut children = opened.map_err(failed)?;
        let mut failing = false;
        let ended = loop {
            if page.children.len() >= PAGE {
                break false;
            }
            match children.next() {
                None => break true,
                Some(Ok(child)) => {
                    failing = false;
                    page.children.extend(self.listed(snapshot, child));
                }
                Some(Err(error)) => {
                    self.fail(snapshot, folder, &error);
                    failing = true;
                }
            }
        };
        // A list that cannot be read further ends with its error.
        page.broken = ended && failing;
        page.next = (!ended || failing).then(|| children.bookmark());
        for fault in vfs.take_faults() {
            self.fail(snapshot, &fault.path, &fault.error);
        }
        *pages = page;
        Ok(())
    }

    fn listed(&self, snapshot: &Arc<SnapshotInfo>, child: Child) -> Option<Listed> {
        let (path, entry) = (child.path(), Arc::new(child.entry));
        let name = entry.info.name.clone();
        if name.len() > LONGEST_NAME {
            let long = Error::malformed("a name", "longer than the 1024 bytes that a mount can show");
            self.fail(snapshot, &path, &long);
            return None;
        }
        let number = self.numbering.of_entry(&snapshot.id, &path, &entry);
        let attributes = Attributes::of(number, &entry);
        let key = self.numbering.of_path(&snapshot.id, &path);
        lock(&self.entries).put(key, entry);
        Some(Listed { name, attributes, place: Place::In(Arc::clone(snapshot), path) })
    }

    fn top_page(&self) -> Vec<Listed> {
        let folders = self.folders();
        let mut page: Vec<Listed> = folders
            .iter()
            .filter_map(|folder| {
                let attributes = self.attributes_of(None, &folder.snapshot, b"/").ok()?;
                let place = Place::In(Arc::clone(&folder.snapshot), "/".into());
                Some(Listed { name: folder.name.as_str().into(), attributes, place })
            })
            .collect();
        if let Ok((attributes, _)) = self.latest() {
            page.push(Listed { name: LATEST_NAME.into(), attributes, place: Place::Latest });
        }
        page
    }

    /// Opens a regular file.
    pub fn open_file(&self, number: u64) -> Result<OpenFile> {
        let Place::In(snapshot, path) = self.place(number)? else { return Err(Failure::IsFolder) };
        let entry = self.entry(&snapshot, &path)?;
        if !entry.info.mode.is_regular() {
            return Err(if entry.info.mode.is_dir() { Failure::IsFolder } else { Failure::Unsuitable });
        }
        let failed = |error| self.fail(&snapshot, &path, &error);
        let chunks = self.chunks(&entry.object).map_err(failed)?;
        let size = Attributes::of(number, &entry).size;
        if size != chunks.size() {
            let detail = format!("its content has {} bytes, its entry says {size}", chunks.size());
            failed(Error::malformed(&format!("\"{}\"", name(&path).escape_ascii()), &detail));
        }
        let mut full = format!("{}:", snapshot.id.short()).into_bytes();
        full.extend_from_slice(&path);
        Ok(OpenFile::new(full.into(), chunks, size))
    }

    fn chunks(&self, object: &Id) -> Result<Arc<Chunks>, Error> {
        if object.is_zero() {
            return Ok(Arc::new(Chunks::new(Object::new(Id::ZERO))));
        }
        if let Some(open) = lock(&self.contents).get(object).and_then(Weak::upgrade) {
            return Ok(open);
        }
        let bytes = self.blobs.get(crate::format::blob::BlobType::OBJECT, object)?;
        let chunks = Arc::new(Chunks::new(Object::decode(&bytes)?));
        let mut contents = lock(&self.contents);
        if contents.len() >= CONTENTS {
            contents.retain(|_, open| open.strong_count() > 0);
        }
        contents.insert(*object, Arc::downgrade(&chunks));
        Ok(chunks)
    }

    /// Reads a part of a file; less than asked for at its end. Every byte was verified.
    pub fn read(&self, file: &OpenFile, offset: u64, length: u32) -> Result<Vec<u8>> {
        let length = u64::from(length).min(file.size.saturating_sub(offset));
        let mut bytes = Vec::with_capacity(usize::try_from(length).expect("at most 4 GiB"));
        for (chunk, from, to) in file.pieces(offset, length) {
            match self.blobs.chunk(chunk) {
                Ok(content) => bytes.extend_from_slice(&content[from..to]),
                Err(error) => {
                    self.report(file.path.clone(), &error);
                    return Err(Failure::Store);
                }
            }
        }
        // A content shorter than its entry says was reported when it was opened; its end is not made up.
        if bytes.len() as u64 == length { Ok(bytes) } else { Err(Failure::Store) }
    }

    /// Returns what is worth being read before it is asked for, after a request.
    pub fn plan_ahead(&self, file: &OpenFile, offset: u64, length: u32) -> Vec<ChunkRef> {
        file.plan_ahead(offset, u64::from(length), self.blobs.content_limit() / 4)
    }

    /// Reads chunks that will be asked for.
    pub fn read_ahead(&self, chunks: &[ChunkRef]) {
        self.blobs.read_ahead(chunks);
    }

    /// Returns the names of the extended attributes, each ended by a NUL: those recorded, and the metadata of objects
    /// as `user.s3.…`, the names under which a restore to a folder writes them.
    pub fn attribute_names(&self, number: u64) -> Result<Vec<u8>> {
        let Place::In(snapshot, path) = self.place(number)? else { return Ok(Vec::new()) };
        if self.is_top_folder(&path) {
            return Ok(Vec::new());
        }
        let entry = self.entry(&snapshot, &path)?;
        let mut names: Vec<Vec<u8>> = entry.xattrs.iter().map(|name| name.to_vec()).collect();
        names.extend(entry.metadata.iter().map(|item| [b"user.", item.key.as_bytes()].concat()));
        names.sort_unstable();
        names.dedup();
        names.retain(|name| !name.is_empty() && !name.contains(&0));
        Ok(names.into_iter().flat_map(|name| [name, vec![0]].concat()).collect())
    }

    /// Returns the value of an extended attribute.
    pub fn attribute(&self, number: u64, name: &[u8]) -> Result<Vec<u8>> {
        let Place::In(snapshot, path) = self.place(number)? else { return Err(Failure::NoAttribute) };
        if self.is_top_folder(&path) {
            return Err(Failure::NoAttribute);
        }
        let entry = self.entry(&snapshot, &path)?;
        if let Some(value) = name.strip_prefix(b"user.").and_then(|key| entry.metadata(key)) {
            return if value.len() as u64 > LONGEST_XATTR {
                Err(Failure::TooLong)
            } else {
                Ok(value.to_vec())
            };
        }
        if !entry.xattrs.iter().any(|known| known.as_bytes() == name) {
            return Err(Failure::NoAttribute);
        }
        let read = || -> Result<Option<Vec<u8>>, Error> {
            let vfs = self.vfs(&snapshot)?;
            // The name by which the entry is recorded, not that of another link to it.
            let Some(item) = vfs.xattr(&path, name)? else { return Ok(None) };
            let chunks = self.chunks(&item.object)?;
            if chunks.size() > LONGEST_XATTR {
                return Err(Error::malformed("an extended attribute", "longer than 64 KiB"));
            }
            let file = OpenFile::new(path.clone(), Arc::clone(&chunks), chunks.size());
            let mut value = Vec::new();
            for (chunk, from, to) in file.pieces(0, chunks.size()) {
                value.extend_from_slice(&self.blobs.chunk(chunk)?[from..to]);
            }
            Ok(Some(value))
        };
        read().map_err(|error| self.fail(&snapshot, &path, &error))?.ok_or(Failure::NoAttribute)
    }

    /// Returns the bytes and the number of files in what is shown, as far as that is known without reading much.
    pub fn totals(&self) -> (u64, u64) {
        let Some(Place::In(snapshot, path)) = lock(&self.known).get(ROOT) else {
            return (0, self.folders().len() as u64);
        };
        let summary = self.vfs(&snapshot).and_then(|vfs| vfs.summary(&path)).ok().flatten();
        summary.map_or((0, 0), |summary| (summary.total_size(), summary.total_files()))
    }

    /// Returns how many numbers are held: what grows with the files that are known to whoever asks.
    pub fn held(&self) -> usize {
        lock(&self.known).len()
    }

    /// Returns the store that is shown.
    pub fn repository(&self) -> &Arc<Repository> {
        self.blobs.repository()
    }
}
