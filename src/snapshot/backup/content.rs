//! From a stream of bytes to an object: cutting, naming, storing.

use std::collections::TryReserveError;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::Id;
use crate::base::budget::{Budget, Permit};
use crate::codec::entropy;
use crate::connector;
use crate::format::blob::BlobType;
use crate::format::object::{ChunkRef, Object};
use crate::store::blob::Lane;
use crate::store::{Error, Session};

use super::whole::{Held, Spare, Whole};

/// Why a content could not be stored: the source's fault, which costs one file, or the store's, which ends the run.
#[derive(Debug)]
pub(super) enum ContentError {
    Source(io::Error),
    Store(Error),
}

impl From<Error> for ContentError {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<io::Error> for ContentError {
    fn from(error: io::Error) -> Self {
        Self::Source(error)
    }
}

impl ContentError {
    /// Returns the error of the importer where the stream carries one.
    pub(super) fn describe(error: io::Error, path: &[u8]) -> connector::Error {
        match error.downcast::<connector::Error>() {
            Ok(error) => error,
            Err(error) => connector::Error::io("read", path.escape_ascii().to_string(), error),
        }
    }
}

/// What was stored of one content.
#[derive(Debug)]
pub(in super::super) struct StoredContent {
    pub(in super::super) size: u64,
    pub(in super::super) mac: Id,
    pub(in super::super) chunks: Vec<ChunkRef>,
    /// Mean of the chunks' entropies, weighted by their lengths.
    pub(in super::super) entropy: f64,
    /// The first bytes, for the content type.
    pub(in super::super) head: Vec<u8>,
}

/// Bytes looked at for the content type.
const HEAD: usize = 512;

/// The budgets that contents draw on: buffers to read into, and chunks on their way through the pool. Two, so that
/// readers that hold buffers never keep a chunk from being granted.
#[derive(Clone, Debug)]
pub(super) struct Budgets {
    pub(super) buffers: Budget,
    pub(super) chunks: Budget,
    /// Memory of chunks that were stored, for those to come.
    spare: Arc<Spare>,
    /// What a worker keeps of its buffer between two contents, in bytes.
    kept: usize,
}

impl Budgets {
    /// Divides the memory of a run with so many workers.
    pub(super) fn new(memory: u64, workers: usize) -> Self {
        let kept = usize::try_from(memory / 8).unwrap_or(KEPT) / workers.max(1);
        Self {
            buffers: Budget::new(memory / 4),
            chunks: Budget::new(memory / 8),
            spare: Arc::new(Spare::new(memory / 32)),
            kept: kept.min(KEPT),
        }
    }
}

/// Stores contents read by one worker; keeps its buffer between them.
pub(super) struct ContentWriter<'a> {
    session: &'a dyn Session,
    budgets: Budgets,
    /// Whether entropies are computed. Upstream records them for every chunk; nothing here reads them.
    entropy: bool,
    buffer: Vec<u8>,
}

/// The most a worker keeps of its buffer between two contents, in bytes.
const KEPT: usize = 2 << 20;
/// Up to this many bytes a worker stores a content alone: handing chunks to the pool would copy them.
const ALONE: usize = KEPT - 1;
/// Bytes read at first of a content that does not say how long it is.
const UNANNOUNCED: usize = 64 << 10;

impl<'a> ContentWriter<'a> {
    pub(super) fn new(session: &'a dyn Session, budgets: Budgets, entropy: bool) -> Self {
        Self { session, budgets, entropy, buffer: Vec::new() }
    }

    /// Returns how much is read at first of a content that announces so many bytes: one byte more tells the end from
    /// a file that grew. Buffers are no larger than that, since clearing one of twice the longest chunk costs more
    /// than reading most files; and what announces nothing, as every empty file does, is short more often than not.
    fn limit(&self, announced: Option<u64>) -> usize {
        let announced = announced.and_then(|size| usize::try_from(size).ok()?.checked_add(1));
        announced.unwrap_or(UNANNOUNCED).min(2 * self.session.chunker().max_size())
    }

    /// Sets memory aside for a content that is about to be opened; waits for it.
    pub(super) fn reserve(&self, announced: Option<u64>) -> Permit {
        self.budgets.buffers.acquire(self.limit(announced) as u64)
    }

    /// Reads a content to its end and stores its chunks.
    pub(super) fn store(
        &mut self,
        mut permit: Permit,
        reader: &mut dyn Read,
        size_hint: Option<u64>,
        counted: &dyn Fn(u64),
    ) -> Result<StoredContent, ContentError> {
        let chunker = self.session.chunker();
        let (min, max) = (chunker.params().min as usize, chunker.max_size());
        let limit = self.limit(size_hint);
        if permit.bytes() < limit as u64 {
            // More than was announced: a rare case, in which the opened content waits.
            drop(permit);
            permit = self.budgets.buffers.acquire(limit as u64);
        }
        permit.shrink(limit as u64);
        let mut filled = self.fill(reader, 0, limit, counted)?;
        let mut ended = filled < limit;
        if !ended && limit < 2 * max {
            drop(permit);
            permit = self.budgets.buffers.acquire(2 * max as u64);
            filled = self.fill(reader, filled, 2 * max, counted)?;
            ended = filled < 2 * max;
        }
        let stored = if ended && filled <= ALONE.max(min) {
            self.store_buffered(filled)?
        } else {
            self.store_large(reader, filled, ended, counted)?
        };
        if self.buffer.len() > self.budgets.kept {
            self.buffer = Vec::new();
        }
        drop(permit);
        Ok(stored)
    }

    /// Reads into the buffer from `filled` on until it holds `limit` bytes or the end is reached; returns how many
    /// it holds.
    fn fill(
        &mut self,
        reader: &mut dyn Read,
        mut filled: usize,
        limit: usize,
        counted: &dyn Fn(u64),
    ) -> Result<usize, ContentError> {
        if let Some(more) = limit.checked_sub(self.buffer.len()) {
            // What is refused is no fault of the source.
            let refused =
                |source: TryReserveError| Error::Memory { what: "a content", source: source.into() };
            self.buffer.try_reserve(more).map_err(refused)?;
            self.buffer.resize(limit, 0);
        }
        while filled < limit {
            match reader.read(&mut self.buffer[filled..limit]) {
                Ok(0) => break,
                Ok(read) => {
                    filled += read;
                    counted(read as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(filled)
    }

    /// Stores a content that is in the buffer as a whole, without the help of other threads. The content MAC of one
    /// chunk is the chunk's id.
    fn store_buffered(&self, filled: usize) -> Result<StoredContent, ContentError> {
        let bytes = &self.buffer[..filled];
        let (mut chunks, mut start) = (Vec::new(), 0);
        while start < filled || chunks.is_empty() {
            let length = self.session.chunker().cut(&bytes[start..]);
            chunks.push(put_chunk(self.session, &bytes[start..start + length], self.entropy)?);
            start += length;
        }
        let mac = match chunks.as_slice() {
            [only] => only.id,
            _ => self.session.mac(bytes),
        };
        let (size, head) = (filled as u64, bytes[..filled.min(HEAD)].to_vec());
        Ok(StoredContent { size, mac, entropy: weighted_entropy(&chunks, size), chunks, head })
    }

    /// Stores a content of any length, `filled` bytes of which are in the buffer, all of it if it `ended`: this
    /// thread reads and cuts, the pool does the chunks and, in their order, the hash of the whole.
    fn store_large(
        &mut self,
        reader: &mut dyn Read,
        mut filled: usize,
        mut ended: bool,
        counted: &dyn Fn(u64),
    ) -> Result<StoredContent, ContentError> {
        let max = self.session.chunker().max_size();
        let (session, entropy, budgets) = (self.session, self.entropy, self.budgets.clone());
        let results: Mutex<Vec<Option<ChunkRef>>> = Mutex::default();
        let failure: Mutex<Option<Error>> = Mutex::default();
        let head = self.buffer[..filled.min(HEAD)].to_vec();
        let whole = Whole::new(session.hasher());
        let (mut size, mut count, mut start) = (0_u64, 0_usize, 0);
        let read = rayon::in_place_scope(|scope| -> Result<(), ContentError> {
            loop {
                let rest = &self.buffer[start..filled];
                let length = session.chunker().cut(rest);
                // A chunk that ends where the buffer does may go on behind it, unless it is a longest one.
                if length == rest.len() && length < max && !ended {
                    self.buffer.copy_within(start..filled, 0);
                    (filled, start) = (filled - start, 0);
                    filled = self.fill(reader, filled, 2 * max, counted)?;
                    ended = filled < 2 * max;
                    continue;
                }
                if rest.is_empty() && count > 0 {
                    return Ok(());
                }
                let permit = budgets.chunks.acquire(length as u64);
                if lock(&failure).is_some() {
                    return Ok(());
                }
                let is_all = ended && count == 0 && length == rest.len();
                let (chunk, index) = (Held::new(&rest[..length], &budgets.spare, permit), count);
                let (results, failure, whole) = (&results, &failure, &whole);
                scope.spawn(move |_| {
                    if !is_all {
                        whole.add(index, &chunk);
                    }
                    match put_chunk(session, chunk.bytes(), entropy) {
                        Ok(stored) => set(&mut lock(results), index, stored),
                        Err(error) => drop(lock(failure).get_or_insert(error)),
                    }
                });
                size += length as u64;
                start += length;
                count += 1;
            }
        });
        // The store's failure ends the run. The source's, which costs one file, must not hide it.
        if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error.into());
        }
        read?;
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        let chunks: Vec<ChunkRef> = results.into_iter().flatten().collect();
        let entropy = weighted_entropy(&chunks, size);
        let mac = match chunks.as_slice() {
            [only] => only.id,
            _ => whole.finish(),
        };
        Ok(StoredContent { size, mac, chunks, entropy, head })
    }
}

fn set(results: &mut Vec<Option<ChunkRef>>, index: usize, stored: ChunkRef) {
    if results.len() <= index {
        results.resize(index + 1, None);
    }
    results[index] = Some(stored);
}

/// Stores one chunk.
fn put_chunk(session: &dyn Session, bytes: &[u8], with_entropy: bool) -> Result<ChunkRef, Error> {
    let id = session.put(BlobType::CHUNK, bytes, Lane::Data)?;
    let entropy = if with_entropy { entropy(bytes) } else { 0.0 };
    Ok(ChunkRef::new(id, u32::try_from(bytes.len()).expect("a chunk is at most 16 MiB"), entropy))
}

fn weighted_entropy(chunks: &[ChunkRef], size: u64) -> f64 {
    match chunks {
        [only] => only.entropy,
        _ if size == 0 => 0.0,
        _ => chunks.iter().map(|chunk| chunk.entropy * f64::from(chunk.length)).sum::<f64>() / size as f64,
    }
}

/// Makes the object of a stored content and stores it.
pub(in super::super) fn put_object(
    session: &dyn Session,
    content: &StoredContent,
    content_type: &[u8],
) -> Result<Id, Error> {
    let mut object = Object::new(content.mac);
    object.chunks.clone_from(&content.chunks);
    object.content_type = content_type.into();
    object.entropy = content.entropy;
    session.put(BlobType::OBJECT, &object.encode(), Lane::Metadata)
}

/// Stores a value of a few bytes (an extended attribute) as an object of its own.
pub(in super::super) fn put_value(session: &dyn Session, value: &[u8]) -> Result<Id, Error> {
    let (mut chunks, mut start) = (Vec::new(), 0);
    while start < value.len() || chunks.is_empty() {
        let length = session.chunker().cut(&value[start..]);
        let bytes = &value[start..start + length];
        let id = session.put(BlobType::CHUNK, bytes, Lane::Metadata)?;
        let length32 = u32::try_from(length).expect("a chunk is at most 16 MiB");
        chunks.push(ChunkRef::new(id, length32, entropy(bytes)));
        start += length;
    }
    let size = value.len() as u64;
    let entropy = weighted_entropy(&chunks, size);
    let mac = session.mac(value);
    let content = StoredContent { size, mac, chunks, entropy, head: Vec::new() };
    put_object(session, &content, b"application/octet-stream")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
