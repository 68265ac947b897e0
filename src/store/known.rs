//! The blobs a session has stored or is storing: a set that spills.
//!
//! Why shards: every thread asks for every blob. Why tables: a set of many millions must not grow in memory, so
//! beyond a quarter of a million ids it is written as a sorted table and emptied.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use crate::base::spill::SpillDir;
use crate::base::table::{NoDigest, PreadFile, Table, TableWriter};
use crate::base::{At, Id};
use crate::format::blob::BlobType;

use super::catalogue::table_error;
use super::error::Error;

const SHARDS: usize = 32;
/// Ids in memory before they go to a table: about 12 MiB.
const IN_MEMORY: usize = 1 << 18;
/// Id and type.
const ROW: usize = Id::LEN + 1;

type Key = [u8; ROW];
type Shard = HashSet<Key, BuildHasherDefault<Leading>>;

/// Hashes a key that is a MAC already: takes bytes out of its middle.
#[derive(Default)]
struct Leading(u64);

impl Hasher for Leading {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(chunk) = bytes.get(8..).and_then(|rest| rest.first_chunk()) {
            self.0 ^= u64::from_le_bytes(*chunk);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A set of (type, id), safe to share.
#[derive(Debug)]
pub(super) struct KnownSet {
    shards: Vec<Mutex<Shard>>,
    count: AtomicUsize,
    tables: RwLock<Vec<Table<PreadFile>>>,
    spills: SpillDir,
    limit: usize,
}

impl KnownSet {
    pub(super) fn new(spills: &SpillDir) -> Self {
        Self::with_limit(spills, IN_MEMORY)
    }

    fn with_limit(spills: &SpillDir, limit: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            count: AtomicUsize::new(0),
            tables: RwLock::new(Vec::new()),
            spills: spills.clone(),
            limit,
        }
    }

    /// Adds a blob; returns whether it was not known. Of several threads that add one blob, one is told so.
    pub(super) fn insert(&self, kind: BlobType, id: Id) -> Result<bool, Error> {
        let mut key = [0; ROW];
        key[..Id::LEN].copy_from_slice(id.as_bytes());
        key[Id::LEN] = kind.0;
        if self.count.load(Ordering::Relaxed) >= self.limit {
            self.spill()?;
        }
        // The tables stay locked until the key is in its shard: a spill in between would let two threads in.
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        let mut shard = self.shards[usize::from(id.0[0]) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        if shard.contains(&key) {
            return Ok(false);
        }
        for table in tables.iter() {
            let mut found = false;
            table
                .find(&id, |row| {
                    found = row[Id::LEN] == kind.0;
                    !found
                })
                .map_err(table_error)?;
            if found {
                return Ok(false);
            }
        }
        shard.insert(key);
        self.count.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }

    /// Moves what is in memory to a table; merges tables of like size.
    fn spill(&self) -> Result<(), Error> {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        if self.count.load(Ordering::Relaxed) < self.limit {
            return Ok(());
        }
        let mut keys: Vec<Key> = Vec::with_capacity(self.count.load(Ordering::Relaxed));
        for shard in &self.shards {
            keys.extend(shard.lock().unwrap_or_else(PoisonError::into_inner).drain());
        }
        self.count.store(0, Ordering::Relaxed);
        keys.sort_unstable();
        let mut keys = keys.into_iter();
        tables.push(self.write(&mut || Ok(keys.next()))?);
        while let [.., a, b] = tables.as_slice() {
            if b.rows().saturating_mul(2) < a.rows() {
                break;
            }
            let merged = self.merge(a, b)?;
            let left = tables.len() - 2;
            tables.truncate(left);
            tables.push(merged);
        }
        Ok(())
    }

    fn merge(&self, a: &Table<PreadFile>, b: &Table<PreadFile>) -> Result<Table<PreadFile>, Error> {
        let (mut left, mut right) = (a.scan(0), b.scan(0));
        let copy = |row: Option<&[u8]>| row.and_then(|row| Key::try_from(row).ok());
        let mut heads = [
            copy(left.next().map_err(table_error)?),
            copy(right.next().map_err(table_error)?),
        ];
        self.write(&mut || {
            let from_left = match heads {
                [None, None] => return Ok(None),
                [Some(a), Some(b)] => a <= b,
                [a, _] => a.is_some(),
            };
            Ok(if from_left {
                std::mem::replace(&mut heads[0], copy(left.next().map_err(table_error)?))
            } else {
                std::mem::replace(&mut heads[1], copy(right.next().map_err(table_error)?))
            })
        })
    }

    fn write(&self, next: &mut dyn FnMut() -> Result<Option<Key>, Error>) -> Result<Table<PreadFile>, Error> {
        let folder = self.spills.folder();
        let file = tempfile::tempfile_in(folder).at("create a temporary file in", folder)?;
        let mut writer = TableWriter::create(file, ROW, NoDigest).map_err(table_error)?;
        while let Some(key) = next()? {
            writer.push(&key).map_err(table_error)?;
        }
        let (file, _) = writer.finish(&[]).map_err(table_error)?;
        let file = PreadFile::new(file).map_err(|source| Error::spool("open", source))?;
        Table::open(file).map_err(table_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_beyond_its_memory() {
        let dir = tempfile::tempdir().unwrap();
        let set = KnownSet::with_limit(&SpillDir::new(dir.path(), None), 100);
        let id = |n: u32| Id(*blake3::hash(&n.to_le_bytes()).as_bytes());
        for round in 0..2 {
            for n in 0..1000 {
                assert_eq!(set.insert(BlobType::CHUNK, id(n)).unwrap(), round == 0, "{n}");
            }
        }
        assert!(set.insert(BlobType::OBJECT, id(7)).unwrap(), "another type is another blob");
        assert!(set.tables.read().unwrap().len() < 6, "tables are merged");
    }
}
