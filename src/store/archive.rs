//! Writing a `.ptar` archive as one forward stream.
//!
//! Content goes to the sink as it comes; metadata and tree nodes wait in temporary files and are appended behind
//! it, then index, footer, state and trailer, so that the end of the file holds what a reader needs first. Index
//! records are sorted outside of memory.
//!
//! A blob that fails ends the archive: it is marked as known by then, and nobody knows how much of it, or of what
//! waited with it, was written. Nothing is taken after that, and the archive is not committed.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::sort::{ByteOrder, Sorted, Sorter};
use crate::base::spill::SpillDir;
use crate::base::{Id, Timestamp};
use crate::codec::chunker::Chunker;
use crate::connector::ArchiveSink;
use crate::crypto::mac::MacKey;
use crate::crypto::random;
use crate::crypto::seal::Item;
use crate::format::blob::BlobType;
use crate::format::packfile::{FOOTER_LEN, Footer, IndexRecord, RECORD_LEN};
use crate::format::ptar::{self, Layout};
use crate::format::state::{Location, PackEntry, StateEntry};
use crate::format::version::Version;
use crate::format::wrapper::{self, Resource};

use super::blob::{BlobSink, Lane};
use super::create::{CreateError, CreateOptions, Profile, make_config, make_same_key_config};
use super::encoding::Encoding;
use super::error::Error;
use super::known::KnownSet;
use super::packer::{Hashing, padme};
use super::quick::{self, Collected, Run, Spooled};
use super::repository::Repository;
use super::session::{Encode, Session, WriterStats};
use super::unlock::{Unlocked, unlock_with_master};

/// Memory for sorting index records, in bytes.
const SORT_MEMORY: usize = 16 << 20;
/// Bytes collected before they are written.
const BUFFER: usize = 1 << 20;

/// What an archive is made like.
#[derive(Clone, Copy, Debug)]
pub enum ArchiveKind<'a> {
    /// A new one, with keys of its own.
    New(&'a CreateOptions),
    /// One that keeps the keys of a store: who opens the one opens the other, past and future.
    SameKey(&'a Repository),
}

/// A session that writes an archive.
pub struct ArchiveWriter {
    unlocked: Unlocked,
    profile: Profile,
    spills: SpillDir,
    known: KnownSet,
    content: Mutex<Content>,
    later: [Mutex<Later>; 2],
    index: Mutex<Sorter<ByteOrder>>,
    snapshots: Mutex<Vec<Id>>,
    config_length: u64,
    /// Set by the first failure.
    failed: AtomicBool,
    blobs: AtomicU64,
    plain: AtomicU64,
    stored: AtomicU64,
}

impl std::fmt::Debug for ArchiveWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArchiveWriter").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// The packfile being streamed.
struct Content {
    sink: Hashing<Box<dyn ArchiveSink>>,
    buffer: Vec<u8>,
    /// Length of the blob area so far.
    area: u64,
    run: Run,
}

/// Blobs that wait for their place behind the content.
struct Later {
    file: File,
    buffer: Vec<u8>,
    length: u64,
    run: Run,
}

/// The regions of the blob area, in order. A blob that encodes to nothing (ZSTD has no frame for empty content)
/// stands at the end, where it cannot be taken for an overlap with what begins at the same place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Region {
    Content = 0,
    Metadata = 1,
    Tree = 2,
    End = 3,
}

/// Where each region begins in the blob area.
type Bases = [u64; 4];

impl From<Lane> for Region {
    fn from(lane: Lane) -> Self {
        match lane {
            Lane::Data => Self::Content,
            Lane::Metadata => Self::Metadata,
            Lane::Tree => Self::Tree,
        }
    }
}

impl ArchiveWriter {
    /// Begins an archive: derives its keys and writes container head, CONFIG and packfile header.
    pub fn create(
        kind: ArchiveKind<'_>,
        mut sink: Box<dyn ArchiveSink>,
        spill_dir: &std::path::Path,
    ) -> Result<Self, ArchiveError> {
        let (config, master, profile) = match kind {
            ArchiveKind::New(options) => {
                let options = CreateOptions { packfile_size: Some(u64::MAX), ..options.clone() };
                let (config, master) = make_config(&options)?;
                (config, master, options.profile)
            }
            ArchiveKind::SameKey(store) => {
                let master = store.master().cloned();
                let config = make_same_key_config(store.config(), master.as_ref())?;
                (config, master, store.profile())
            }
        };
        let unlocked = unlock_with_master(&config, master)?;
        unlocked.chunker.as_ref().map_err(|error| Error::ReadOnly(error.to_string()))?;
        let cipher = unlocked.config.encryption.is_some().then(crate::crypto::spill::RunCipher::shared);
        let spills = SpillDir::new(spill_dir, cipher);
        sink.write_all(&ptar::head()).and_then(|()| sink.write_all(&config)).map_err(Error::sink)?;
        let mut sink = Hashing::new(sink, &unlocked.keys);
        sink.write_all(&wrapper::header(Resource::Packfile, Version::V1_0_0)).map_err(Error::sink)?;
        let later = || -> Result<_, Error> {
            let file = tempfile::tempfile_in(spill_dir)
                .map_err(|source| Error::spool("create", source).placed(spill_dir.display()))?;
            Ok(Mutex::new(Later { file, buffer: Vec::new(), length: 0, run: Run::default() }))
        };
        Ok(Self {
            profile,
            known: KnownSet::new(&spills),
            content: Mutex::new(Content {
                sink,
                buffer: Vec::with_capacity(BUFFER),
                area: 0,
                run: Run::default(),
            }),
            snapshots: Mutex::default(),
            later: [later()?, later()?],
            index: Mutex::new(Sorter::new(ByteOrder, &spills, SORT_MEMORY)),
            spills,
            config_length: config.len() as u64,
            unlocked,
            failed: AtomicBool::new(false),
            blobs: AtomicU64::new(0),
            plain: AtomicU64::new(0),
            stored: AtomicU64::new(0),
        })
    }

    /// Returns the profile the archive follows.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Appends an encoded blob to its region; returns its offset there.
    fn append(&self, region: Region, kind: BlobType, id: &Id, encoded: &[u8]) -> Result<u64, Error> {
        let length = u32::try_from(encoded.len()).map_err(|_| Error::too_large(kind, *id))?;
        let append = |later: &Mutex<Later>| {
            let mut later = lock(later);
            later.run.push(kind, id, length);
            later.append(encoded)
        };
        match region {
            Region::Metadata => append(&self.later[0]),
            Region::Tree => append(&self.later[1]),
            Region::Content | Region::End => {
                let mut content = lock(&self.content);
                content.run.push(kind, id, length);
                let offset = content.append(encoded)?;
                Ok(if region == Region::End { 0 } else { offset })
            }
        }
    }

    /// Returns the snapshots whose headers were put, in that order. They exist once the archive is committed.
    pub fn snapshots(&self) -> Vec<Id> {
        lock(&self.snapshots).clone()
    }

    /// Fails when something of the archive is lost. Whoever lost it was told why.
    fn check(&self) -> Result<(), Error> {
        if self.failed.load(Ordering::Acquire) { Err(Error::Aborted) } else { Ok(()) }
    }

    /// Encodes a blob and appends it under a record, unless it is known.
    fn store(&self, kind: BlobType, id: Id, lane: Lane, encode: &mut Encode<'_>) -> Result<bool, Error> {
        if !self.known.insert(kind, id)? {
            return Ok(false);
        }
        let mut encoded = Vec::new();
        let plain = encode(&mut encoded)?;
        let length = u32::try_from(encoded.len()).map_err(|_| Error::too_large(kind, id))?;
        let region = if encoded.is_empty() { Region::End } else { Region::from(lane) };
        let offset = self.append(region, kind, &id, &encoded)?;
        if kind == BlobType::SNAPSHOT {
            lock(&self.snapshots).push(id);
        }
        let record = IndexRecord { kind, version: Version::V1_0_0, id, offset, length, flags: 0 };
        push_record(&mut lock(&self.index), region, &record)?;
        self.blobs.fetch_add(1, Ordering::Relaxed);
        self.plain.fetch_add(plain as u64, Ordering::Relaxed);
        self.stored.fetch_add(encoded.len() as u64, Ordering::Relaxed);
        Ok(true)
    }

    /// Writes everything that follows the content and hands the complete archive over. Fails when a blob could not be
    /// stored, whatever became of that failure.
    pub fn commit(self) -> Result<WriterStats, Error> {
        self.check()?;
        let stats = self.stats();
        let mut content = self.content.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut later = self.later.map(|later| later.into_inner().unwrap_or_else(PoisonError::into_inner));
        later.iter_mut().try_for_each(Later::flush)?;
        let snapshots = self.snapshots.into_inner().unwrap_or_else(PoisonError::into_inner);
        let wanted = self.profile == Profile::Native && quick::is_possible(&self.unlocked.encoding);
        let collected = wanted.then(|| collect(&self.unlocked, content.area, &later, &snapshots));
        let mut runs = vec![std::mem::take(&mut content.run)];
        let mut bases: Bases = [0; 4];
        for (mut later, region) in later.into_iter().zip([Region::Metadata, Region::Tree]) {
            bases[region as usize] = content.area;
            runs.push(std::mem::take(&mut later.run));
            content.take(later)?;
        }
        let mut index = self.index.into_inner().unwrap_or_else(PoisonError::into_inner);
        if self.profile == Profile::Native && self.unlocked.config.encryption.is_some() {
            pad(&mut content, &mut index)?;
        }
        content.flush()?;
        bases[Region::End as usize] = content.area;
        let mut sorted = index.finish()?;
        let Content { mut sink, area, .. } = content;
        let tail = match collected.filter(|collected| !collected.is_empty()) {
            Some(collected) => quick::encode(&self.unlocked, collected, &runs, area)?,
            None => Vec::new(),
        };
        write_index(&mut sink, &mut sorted, &bases, area, &self.unlocked)?;
        let (mut sink, trailer, length) = sink.finish();
        sink.write_all(trailer.as_bytes()).map_err(Error::sink)?;
        let packfile_length = length + wrapper::TRAILER_LEN as u64;
        let (mut sink, state_length) =
            write_state(sink, &mut sorted, &bases, &self.unlocked, self.profile, &tail)?;
        let layout = Layout::new(self.config_length, packfile_length, state_length);
        sink.write_all(&layout.encode_trailer()).map_err(Error::sink)?;
        sink.commit().map_err(Error::Elsewhere)?;
        Ok(WriterStats { packfile_count: 1, packfile_bytes: packfile_length, ..stats })
    }
}

/// Collects what the quick index copies from what waits behind `content` bytes of content.
fn collect(unlocked: &Unlocked, content: u64, later: &[Later; 2], snapshots: &[Id]) -> Collected {
    let mut spooled = Spooled::new(unlocked);
    let mut base = content;
    for later in later {
        spooled.add(&later.file, &later.run, base);
        base += later.length;
    }
    spooled.collect(snapshots)
}

impl Content {
    fn append(&mut self, encoded: &[u8]) -> Result<u64, Error> {
        let offset = self.area;
        self.area += encoded.len() as u64;
        self.buffer.extend_from_slice(encoded);
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(offset)
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.sink.write_all(&self.buffer).map_err(Error::sink)?;
        self.buffer.clear();
        Ok(())
    }

    /// Appends what waited in a temporary file.
    fn take(&mut self, mut later: Later) -> Result<(), Error> {
        later.flush()?;
        self.flush()?;
        later.file.seek(SeekFrom::Start(0)).map_err(|source| Error::spool("read", source))?;
        let mut buffer = vec![0; BUFFER];
        let mut left = later.length;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER);
            later.file.read_exact(&mut buffer[..want]).map_err(|source| Error::spool("read", source))?;
            self.sink.write_all(&buffer[..want]).map_err(Error::sink)?;
            left -= want as u64;
        }
        self.area += later.length;
        Ok(())
    }
}

impl Later {
    fn append(&mut self, encoded: &[u8]) -> Result<u64, Error> {
        let offset = self.length;
        self.length += encoded.len() as u64;
        self.buffer.extend_from_slice(encoded);
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(offset)
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.file.write_all(&self.buffer).map_err(|source| Error::spool("write", source))?;
        self.buffer.clear();
        Ok(())
    }
}

/// Rounds the packfile up to about a Padmé size with one blob of random bytes.
fn pad(content: &mut Content, index: &mut Sorter<ByteOrder>) -> Result<(), Error> {
    let total = content.area + (index.records() + 1) * RECORD_LEN as u64;
    let mut left = (padme(total) - total).clamp(1, u64::from(u32::MAX));
    let record = IndexRecord {
        kind: BlobType::RANDOM,
        version: Version::V1_0_0,
        id: random::id(),
        offset: content.area,
        length: u32::try_from(left).expect("clamped"),
        flags: 0,
    };
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER);
        content.append(&random::bytes(piece))?;
        left -= piece as u64;
    }
    push_record(index, Region::Content, &record)
}

/// Adds a record to the index under the key it is sorted by: the text `<decimal type>:<hexadecimal id>`.
fn push_record(index: &mut Sorter<ByteOrder>, region: Region, record: &IndexRecord) -> Result<(), Error> {
    let key = format!("{}:{}", record.kind.0, record.id);
    Ok(index.push_parts(key.as_bytes(), &[&[region as u8], &record.encode()])?)
}

/// Passes the records in order, with offsets in the whole blob area.
fn each_record(
    sorted: &mut Sorted<ByteOrder>,
    bases: &Bases,
    each: &mut dyn FnMut(IndexRecord) -> io::Result<()>,
) -> io::Result<()> {
    sorted.rewind().map_err(io::Error::other)?;
    while let Some((_, value)) = sorted.next().map_err(io::Error::other)? {
        let (region, record) = value.split_first().ok_or(io::ErrorKind::InvalidData)?;
        let record = record.first_chunk().ok_or(io::ErrorKind::InvalidData)?;
        let mut record = IndexRecord::decode(record).map_err(io::Error::other)?;
        record.offset += bases.get(usize::from(*region)).ok_or(io::ErrorKind::InvalidData)?;
        each(record)?;
    }
    Ok(())
}

/// Writes index, footer and the footer's length. The footer of an archive has no time.
fn write_index(
    sink: &mut Hashing<Box<dyn ArchiveSink>>,
    sorted: &mut Sorted<ByteOrder>,
    bases: &Bases,
    area: u64,
    unlocked: &Unlocked,
) -> Result<(), Error> {
    let count = u32::try_from(sorted.records())
        .map_err(|_| Error::malformed("the archive", "more than 2^32 blobs do not fit one packfile"))?;
    let mut mac = unlocked.keys.ids().hasher();
    unlocked
        .encoding
        .write_stream(Item::index(), &mut *sink, |out| {
            let mut out = io::BufWriter::with_capacity(1 << 16, out);
            each_record(sorted, bases, &mut |record| {
                let bytes = record.encode();
                mac.update(&bytes);
                out.write_all(&bytes)
            })?;
            out.flush()
        })
        .map_err(Error::sink)?;
    let footer = Footer { timestamp: 0, count, index_offset: area, index_mac: mac.finish(), flags: 0 };
    let mut end = Vec::with_capacity(2 * FOOTER_LEN);
    unlocked.encoding.encode(Item::footer(), &footer.encode(), &mut end)?;
    let length = u32::try_from(end.len()).expect("an encoded footer is small");
    end.extend_from_slice(&length.to_le_bytes());
    sink.write_all(&end).map_err(Error::sink)
}

/// Writes the one state. It names the packfile by a random id, as upstream does; readers ignore it.
fn write_state(
    sink: Box<dyn ArchiveSink>,
    sorted: &mut Sorted<ByteOrder>,
    bases: &Bases,
    unlocked: &Unlocked,
    profile: Profile,
    tail: &[u8],
) -> Result<(Box<dyn ArchiveSink>, u64), Error> {
    let version = match profile {
        Profile::Native => Version::V1_1_0,
        Profile::Plakar => Version::V1_0_0,
    };
    let now = Timestamp::now().unix_nanos();
    let packfile = random::id();
    let head = super::state::StateHead {
        id: ptar::STATE_ID,
        version,
        parent: Id::ZERO,
        timestamp: now,
        serial: unlocked.config.repository_id,
    };
    let mut bytes = Vec::new();
    head.write_resource(sink, &unlocked.keys, &unlocked.encoding, tail, &mut |out| {
        each_record(sorted, bases, &mut |record| {
            bytes.clear();
            StateEntry::Location(Location {
                kind: record.kind,
                version: record.version,
                id: record.id,
                packfile,
                offset: record.offset,
                length: record.length,
                flags: 0,
            })
            .encode(&mut bytes);
            out.write_all(&bytes)
        })?;
        bytes.clear();
        StateEntry::Packfile(PackEntry { packfile, state: random::id(), when: now }).encode(&mut bytes);
        out.write_all(&bytes)
    })
    .map_err(Error::sink)
}

impl BlobSink for ArchiveWriter {
    fn mac_key(&self) -> &MacKey {
        self.unlocked.keys.ids()
    }

    fn chunker(&self) -> &Chunker {
        self.unlocked.chunker.as_ref().expect("checked when the archive was begun")
    }

    fn put_as(&self, kind: BlobType, id: Id, plain: &[u8], lane: Lane) -> Result<bool, Error> {
        self.put_encoded(kind, id, lane, &mut |out| {
            self.unlocked.encoding.encode(Item::blob(kind.0, id), plain, out)?;
            Ok(plain.len())
        })
    }
}

impl Session for ArchiveWriter {
    fn put_encoded(
        &self,
        kind: BlobType,
        id: Id,
        lane: Lane,
        encode: &mut Encode<'_>,
    ) -> Result<bool, Error> {
        self.check()?;
        self.store(kind, id, lane, encode).inspect_err(|_| self.failed.store(true, Ordering::Release))
    }

    fn has_put(&self, kind: BlobType, id: &Id) -> Result<bool, Error> {
        self.known.contains(kind, id)
    }

    fn encoding(&self) -> &Encoding {
        &self.unlocked.encoding
    }

    fn spills(&self) -> &SpillDir {
        &self.spills
    }

    fn is_ours_alone(&self) -> bool {
        self.profile == Profile::Native && self.unlocked.config.encryption.is_some()
    }

    fn stats(&self) -> WriterStats {
        WriterStats {
            blob_count: self.blobs.load(Ordering::Relaxed),
            plain_bytes: self.plain.load(Ordering::Relaxed),
            stored_bytes: self.stored.load(Ordering::Relaxed),
            packfile_count: 0,
            packfile_bytes: 0,
        }
    }
}

/// Why an archive cannot be begun.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// Its CONFIG cannot be made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// Its own CONFIG is not understood: a mistake of ours.
    #[error(transparent)]
    Unlock(#[from] super::unlock::UnlockError),
    /// It cannot be written.
    #[error(transparent)]
    Store(#[from] Error),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
