//! Journals: what an interrupted run had covered, so that the next one neither reads nor sends it again.
//!
//! A journal blob (type 200, ignored by upstream) travels in the packfiles of a checkpoint:
//!
//! | Size | Field |
//! |---|---|
//! | 4 | magic `PKJ1` |
//! | 32 | the snapshot id the run would have committed |
//! | 8 | i64, Unix nanoseconds when the run began |
//! | 2 + n | u16 length, importer type |
//! | 2 + n | u16 length, origin |
//! | 4 + n | u32 length, backed-up root |
//! | … | records: u32 length, path; u32 length, entry serialization (blob type 12) |
//!
//! An entry carries everything an importer compares: size, times, and for objects the listed ETag and date.
//!
//! The local cache keeps a second copy ([`super::journal_cache`]). The next run takes the records of both; a blob
//! that is in both is read from the cache.
//!
//! **What a journal says is not believed blindly.** Maintenance spares what a recent checkpoint brought, but not what its
//! run took for unchanged: of that the packfiles may go with the snapshot that needed them, while the journal stays for
//! the sake of its neighbours. So of every record it is looked up whether the object and all its chunks are held, unless
//! nothing ever left the store ([`Session::is_intact`]) and a state names the journal. Objects have to be read for
//! that: all of one journal blob (some thousands of records) at once, which costs a remote store a request or two.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::num::NonZero;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use lru::LruCache;
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};

use crate::base::spill::SpillWriter;
use crate::base::{Id, Timestamp};
use crate::connector::SourceInfo;
use crate::format::blob::BlobType;
use crate::format::entry::Entry;

use super::blob::BlobSource as _;
use super::catalogue::Place;
use super::error::Error;
use super::fetch::Window;
use super::journal_cache::{JournalFile, JournalFiles};
use super::repository::Repository;
use super::session::Session;

const MAGIC: &[u8; 4] = b"PKJ1";
/// A journal blob is closed when it exceeds this.
const BLOB: usize = 1 << 20;
/// Objects that are looked into are fetched in groups of about so many bytes.
const FETCHED: u64 = 16 << 20;

/// Takes a journal blob; its writer may keep a copy.
pub(super) type DrainSink<'a> = &'a mut dyn FnMut(&mut JournalWriter, &[u8]) -> Result<(), Error>;

/// Collects the records of a run between two checkpoints.
#[derive(Debug)]
pub struct JournalWriter {
    header: Vec<u8>,
    open: Vec<u8>,
    full: SpillWriter,
    repository: Arc<Repository>,
    /// The copy in the local cache.
    copy: Option<JournalFile>,
}

impl JournalWriter {
    /// Starts the journal of a run that reads `source` and would commit `snapshot`.
    pub fn new(
        repository: &Arc<Repository>,
        snapshot: Id,
        begun: Timestamp,
        source: &SourceInfo,
    ) -> Result<Self, Error> {
        let mut header = MAGIC.to_vec();
        header.extend_from_slice(snapshot.as_bytes());
        header.extend_from_slice(&begun.unix_nanos().to_le_bytes());
        push16(&mut header, source.kind.as_bytes());
        push16(&mut header, source.origin.as_bytes());
        push32(&mut header, &source.root);
        let full = repository.spills().create()?;
        let copy = repository.journal_folder().map(|folder| JournalFile::new(folder.to_owned(), snapshot));
        Ok(Self { open: header.clone(), header, full, repository: Arc::clone(repository), copy })
    }

    /// Keeps a copy of a blob that goes to the store.
    pub(super) fn keep(&mut self, id: &Id, encoded: &[u8]) {
        if let Some(copy) = &mut self.copy {
            copy.append(id, encoded);
        }
    }

    /// Removes the copy: the run is committed.
    pub(super) fn forget(&self) {
        if let Some(copy) = &self.copy {
            copy.forget();
        }
    }

    /// Adds an entry whose blobs were all put.
    pub(super) fn add(&mut self, path: &[u8], entry: &[u8]) -> Result<(), Error> {
        push32(&mut self.open, path);
        push32(&mut self.open, entry);
        if self.open.len() >= BLOB {
            self.full.push(&[&self.open])?;
            self.open.clone_from(&self.header);
        }
        Ok(())
    }

    /// Passes every blob collected since the last call to `each`.
    pub(super) fn drain(&mut self, each: DrainSink<'_>) -> Result<(), Error> {
        if self.open.len() > self.header.len() {
            self.full.push(&[&self.open])?;
            self.open.clone_from(&self.header);
        }
        let fresh = self.repository.spills().create()?;
        let full = std::mem::replace(&mut self.full, fresh);
        let mut blobs = full.finish()?.forward();
        while let Some(blob) = blobs.next()? {
            each(self, blob)?;
        }
        Ok(())
    }
}

fn push16(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&bytes[..usize::from(length)]);
}

fn push32(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("paths and entries are below 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}

/// A cursor over the bytes of a journal blob; every read is checked.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn bytes16(&mut self) -> Option<&'a [u8]> {
        let length = u16::from_le_bytes(self.array()?);
        self.take(usize::from(length))
    }

    fn bytes32(&mut self) -> Option<&'a [u8]> {
        let length = u32::from_le_bytes(self.array()?);
        self.take(usize::try_from(length).ok()?)
    }
}

/// The decoded front of a journal blob.
struct Front<'a> {
    snapshot: Id,
    begun: Timestamp,
    source: SourceInfo,
    records: Cursor<'a>,
}

impl<'a> Front<'a> {
    /// Returns the next record: at which byte of the blob it stands, its path and its entry.
    fn record(&mut self, blob: &[u8]) -> Option<(u32, &'a [u8], &'a [u8])> {
        let offset = u32::try_from(blob.len() - self.records.0.len()).ok()?;
        Some((offset, self.records.bytes32()?, self.records.bytes32()?))
    }
}

fn parse_front(blob: &[u8]) -> Option<Front<'_>> {
    let mut cursor = Cursor(blob);
    if cursor.take(4)? != MAGIC {
        return None;
    }
    let snapshot = Id(cursor.array()?);
    let begun = Timestamp::from_unix_nanos(i64::from_le_bytes(cursor.array()?));
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let source = SourceInfo {
        kind: text(cursor.bytes16()?)?,
        origin: text(cursor.bytes16()?)?,
        root: cursor.bytes32()?.into(),
    };
    Some(Front { snapshot, begun, source, records: cursor })
}

/// Where a record is: which blob, at which byte.
type Spot = (u32, u32);

/// One journal blob.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Blob {
    begun: Timestamp,
    id: Id,
    /// Whether a state names it.
    listed: bool,
}

/// What an interrupted run completed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Covered {
    /// The serialized entry.
    pub entry: Vec<u8>,
    /// When the run that covered it began, which need not be the newest: what was modified after it may have changed
    /// since.
    pub begun: Timestamp,
}

/// The records of interrupted runs, found by path. Holds 16 bytes a record; blobs are read again as needed.
#[derive(Debug)]
pub struct Journal {
    repository: Arc<Repository>,
    blobs: Vec<Blob>,
    files: JournalFiles,
    places: HashMap<u64, Spot>,
    hasher: RandomState,
    cache: Mutex<LruCache<u32, Arc<Vec<u8>>>>,
    /// Of each blob that was looked into, at which bytes records stand that do not hold any more, ascending.
    broken: Vec<OnceLock<Vec<u32>>>,
}

impl Journal {
    /// Collects the journals of runs over `source` that began after `since` and never committed.
    pub fn load(
        repository: &Arc<Repository>,
        source: &SourceInfo,
        since: Timestamp,
    ) -> Result<Option<Self>, Error> {
        let catalogue = repository.catalogue();
        let files = JournalFiles::open(repository);
        let listed: HashSet<Id> = catalogue.journals().into_iter().collect();
        let unlisted = files.ids().filter(|id| !listed.contains(id));
        let mut found = Vec::new();
        for (id, listed) in listed.iter().map(|id| (*id, true)).chain(unlisted.map(|id| (id, false))) {
            // A journal is a help, not a need: one that cannot be read is passed over.
            let Some(blob) = read(repository, &files, &id) else { continue };
            let Some(front) = parse_front(&blob) else { continue };
            let same = front.source == *source;
            if catalogue.has_snapshot(&front.snapshot) || (same && front.begun <= since) {
                files.remove(&id);
            } else if same {
                found.push(Blob { begun: front.begun, id, listed });
            }
        }
        found.sort_unstable();
        if found.is_empty() {
            return Ok(None);
        }
        let cache = Mutex::new(LruCache::new(NonZero::new(8).expect("not zero")));
        let mut journal = Self {
            repository: Arc::clone(repository),
            broken: found.iter().map(|_| OnceLock::new()).collect(),
            blobs: found,
            files,
            places: HashMap::new(),
            hasher: RandomState::new(),
            cache,
        };
        for index in 0..journal.blobs.len() {
            journal.index(u32::try_from(index).expect("few blobs"))?;
        }
        Ok(Some(journal))
    }

    fn index(&mut self, blob: u32) -> Result<(), Error> {
        let bytes = self.blob(blob)?;
        let Some(mut front) = parse_front(&bytes) else { return Ok(()) };
        while let Some((offset, path, _)) = front.record(&bytes) {
            // Of two records of one path the later run's counts.
            self.places.insert(self.hasher.hash_one(path), (blob, offset));
        }
        Ok(())
    }

    fn blob(&self, index: u32) -> Result<Arc<Vec<u8>>, Error> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(blob) = cache.get(&index) {
            return Ok(Arc::clone(blob));
        }
        let id = self.blobs[index as usize].id;
        let missing = || Error::Missing { kind: BlobType::JOURNAL, id };
        let blob = Arc::new(read(&self.repository, &self.files, &id).ok_or_else(missing)?);
        cache.put(index, Arc::clone(&blob));
        Ok(blob)
    }

    /// Removes the copies in the local cache: a run that took them up is committed.
    pub fn forget(&self) {
        self.blobs.iter().for_each(|blob| self.files.remove(&blob.id));
    }

    /// Returns the number of paths covered.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Returns whether no path is covered.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Returns what an interrupted run completed for a path, if the store still holds everything that it refers to
    /// where `session` may build on it.
    pub fn find(&self, path: &[u8], session: &dyn Session) -> Result<Option<Covered>, Error> {
        let Some(&(blob, offset)) = self.places.get(&self.hasher.hash_one(path)) else { return Ok(None) };
        let bytes = self.blob(blob)?;
        let mut cursor = Cursor(&bytes[offset as usize..]);
        let (Some(found), Some(entry)) = (cursor.bytes32(), cursor.bytes32()) else { return Ok(None) };
        if found != path || !self.holds(blob, offset, &bytes, session)? {
            return Ok(None);
        }
        Ok(Some(Covered { entry: entry.to_vec(), begun: self.blobs[blob as usize].begun }))
    }

    /// Returns whether everything that a record refers to is there. The first question about a blob looks into all its
    /// records.
    fn holds(&self, blob: u32, offset: u32, bytes: &[u8], session: &dyn Session) -> Result<bool, Error> {
        if self.blobs[blob as usize].listed && session.is_intact() {
            return Ok(true);
        }
        let broken = &self.broken[blob as usize];
        let broken = if let Some(broken) = broken.get() {
            broken
        } else {
            let found = Look { repository: &self.repository, session }.blob(bytes)?;
            broken.get_or_init(|| found)
        };
        Ok(broken.binary_search(&offset).is_err())
    }
}

/// A record that is looked into: at which byte it stands, its object, and where that is.
type Suspect = (u32, Id, Option<Place>);

/// Looks into journal blobs, whether what their records refer to is held.
struct Look<'a> {
    repository: &'a Repository,
    session: &'a dyn Session,
}

impl Look<'_> {
    /// Returns at which bytes of a blob records stand of which something is not held, ascending.
    fn blob(&self, bytes: &[u8]) -> Result<Vec<u32>, Error> {
        let catalogue = self.repository.catalogue();
        let (mut broken, mut group, mut fetched, mut last) = (Vec::new(), Vec::new(), 0, None);
        let Some(mut front) = parse_front(bytes) else { return Ok(broken) };
        while let Some((offset, _, entry)) = front.record(bytes) {
            let object = Entry::decode(entry).map_or(Id::ZERO, |entry| entry.object);
            let place = catalogue.find_any(BlobType::OBJECT, &object)?.first().copied();
            fetched += place.map_or(0, |place| Window::added(last.as_ref(), &place));
            last = place.or(last);
            group.push((offset, object, place));
            // Objects of huge files are long, and those of old ones may lie anywhere.
            if fetched >= FETCHED {
                broken.extend(self.group(&group)?);
                (group, fetched) = (Vec::new(), 0);
            }
        }
        broken.extend(self.group(&group)?);
        Ok(broken)
    }

    fn group(&self, group: &[Suspect]) -> Result<Vec<u32>, Error> {
        let remote = self.repository.storage().is_remote();
        let wanted = group.iter().filter_map(|(_, _, place)| *place).filter(|_| remote).collect();
        let window = Window::fetch(self.repository, wanted);
        let broken = |suspect: &Suspect| match self.is_held(&window, suspect) {
            Ok(true) => None,
            Ok(false) => Some(Ok(suspect.0)),
            Err(error) => Some(Err(error)),
        };
        group.par_iter().filter_map(broken).collect()
    }

    fn is_held(&self, window: &Window, (_, id, place): &Suspect) -> Result<bool, Error> {
        if id.is_zero() || !self.session.holds(BlobType::OBJECT, id)? {
            return Ok(false);
        }
        // One that cannot be read is no help: the content is read again.
        let Ok(object) = window.object(self.repository, id, place.as_ref()) else { return Ok(false) };
        self.session.holds_all(&object.chunks)
    }
}

/// Reads a journal blob, from the cache where that has it.
fn read(repository: &Repository, files: &JournalFiles, id: &Id) -> Option<Vec<u8>> {
    files.get(repository, id).or_else(|| repository.get(BlobType::JOURNAL, id).ok())
}
