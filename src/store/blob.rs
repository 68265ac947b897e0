//! What everything above the store is written against: a place that takes blobs and a place that gives them.

use std::fmt;

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::base::Id;
use crate::codec::chunker::Chunker;
use crate::crypto::{MacHasher, MacKey};
use crate::format::blob::BlobType;

pub use super::error::Error;

/// Where a blob is kept. The lane follows purpose, not type: the same type may go different ways.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Lane {
    /// Content of files.
    Data,
    /// Chunks of dirpacks, entries, objects, items.
    Metadata,
    /// Tree nodes, roots and headers: what a reader needs first, so it comes last in an archive.
    Tree,
}

/// The result of reading or storing blobs.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Takes blobs and stores those it does not have yet.
pub trait BlobSink: Sync {
    /// Returns the key that names blobs.
    fn mac_key(&self) -> &MacKey;

    /// Returns the cutter of contents, as the configuration asks for it.
    fn chunker(&self) -> &Chunker;

    /// Stores a blob under an id that is known already, or that is not a MAC. Returns whether it is new.
    fn put_as(&self, kind: BlobType, id: Id, plain: &[u8], lane: Lane) -> Result<bool>;

    /// Returns the id of some bytes.
    fn mac(&self, plain: &[u8]) -> Id {
        self.mac_key().mac(plain)
    }

    /// Starts the MAC of bytes that come in pieces.
    fn hasher(&self) -> MacHasher {
        self.mac_key().hasher()
    }

    /// Stores a blob unless it is known; returns its id.
    fn put(&self, kind: BlobType, plain: &[u8], lane: Lane) -> Result<Id> {
        let id = self.mac(plain);
        self.put_as(kind, id, plain, lane)?;
        Ok(id)
    }
}

/// Gives blobs.
pub trait BlobSource: Sync {
    /// Returns the key that names blobs.
    fn mac_key(&self) -> &MacKey;

    /// Reads a blob, decoded and, where its id is a MAC, verified against it.
    fn get(&self, kind: BlobType, id: &Id) -> Result<Vec<u8>>;

    /// Returns whether the catalogue lists the blob; nothing is read.
    fn has(&self, kind: BlobType, id: &Id) -> Result<bool>;

    /// Returns the id of some bytes.
    fn mac(&self, plain: &[u8]) -> Id {
        self.mac_key().mac(plain)
    }
}

/// Bytes that are collected before they are stored together.
const BATCH: usize = 1 << 20;

/// Collects small blobs and stores them by the pool's threads, in no particular order.
pub struct Batch<'a, S: ?Sized> {
    sink: &'a S,
    bytes: Vec<u8>,
    items: Vec<Item>,
}

struct Item {
    kind: BlobType,
    id: Id,
    lane: Lane,
    start: usize,
    end: usize,
}

impl<S: ?Sized> fmt::Debug for Batch<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} blobs, {} bytes)", self.items.len(), self.bytes.len())
    }
}

impl<'a, S: BlobSink + ?Sized> Batch<'a, S> {
    /// Creates an empty batch.
    pub fn new(sink: &'a S) -> Self {
        Self { sink, bytes: Vec::new(), items: Vec::new() }
    }

    /// Returns the sink.
    pub fn sink(&self) -> &'a S {
        self.sink
    }

    /// Computes the id of a blob and takes it along; stores the batch when it is full.
    pub fn put(&mut self, kind: BlobType, plain: &[u8], lane: Lane) -> Result<Id> {
        let id = self.sink.mac(plain);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(plain);
        self.items.push(Item { kind, id, lane, start, end: self.bytes.len() });
        if self.bytes.len() >= BATCH {
            self.flush()?;
        }
        Ok(id)
    }

    /// Stores what was collected. Must be called at the end.
    pub fn flush(&mut self) -> Result<()> {
        let (sink, bytes) = (self.sink, &self.bytes);
        self.items.par_iter().try_for_each(|item| {
            sink.put_as(item.kind, item.id, &bytes[item.start..item.end], item.lane).map(drop)
        })?;
        self.items.clear();
        self.bytes.clear();
        Ok(())
    }
}

/// A store in memory, for tests of everything that is written against the traits.
#[cfg(test)]
pub(crate) mod memory {
    use super::{BlobSink, BlobSource, BlobType, Error, Id, Lane, MacKey, Result};
    use crate::codec::chunker::{Chunker, ChunkerAlgorithm, ChunkerParams};
    use crate::crypto::HashAlgorithm;
    use std::collections::HashMap;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    type Blobs = HashMap<(BlobType, Id), (Vec<u8>, Lane)>;

    #[derive(Debug)]
    pub(crate) struct MemoryStore {
        key: MacKey,
        chunker: Chunker,
        pub(crate) blobs: Mutex<Blobs>,
        pub(crate) reads: AtomicUsize,
    }

    impl MemoryStore {
        pub(crate) fn with_key(key: MacKey, chunker: Chunker) -> Self {
            Self { key, chunker, blobs: Mutex::default(), reads: AtomicUsize::new(0) }
        }
    }

    /// A store of chunks of about 1 KiB, so that dirpacks of ten entries have several.
    pub(crate) fn store() -> MemoryStore {
        let algorithm = ChunkerAlgorithm::FastCdcV1;
        let params = ChunkerParams { algorithm, min: 256, normal: 1024, max: 4096 };
        MemoryStore::with_key(MacKey::new(HashAlgorithm::Blake3, [7; 32]), Chunker::new(params).unwrap())
    }

    impl BlobSink for MemoryStore {
        fn mac_key(&self) -> &MacKey {
            &self.key
        }
        fn chunker(&self) -> &Chunker {
            &self.chunker
        }
        fn put_as(&self, kind: BlobType, id: Id, plain: &[u8], lane: Lane) -> Result<bool> {
            Ok(self.blobs.lock().unwrap().insert((kind, id), (plain.to_vec(), lane)).is_none())
        }
    }

    impl BlobSource for MemoryStore {
        fn mac_key(&self) -> &MacKey {
            &self.key
        }
        fn get(&self, kind: BlobType, id: &Id) -> Result<Vec<u8>> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let blobs = self.blobs.lock().unwrap();
            blobs.get(&(kind, *id)).map(|blob| blob.0.clone()).ok_or(Error::Missing { kind, id: *id })
        }
        fn has(&self, kind: BlobType, id: &Id) -> Result<bool> {
            Ok(self.blobs.lock().unwrap().contains_key(&(kind, *id)))
        }
    }
}
