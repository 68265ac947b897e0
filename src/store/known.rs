//! Sets and maps of blob ids that spill: what a session has stored or is storing, what a copy was given.
//!
//! Why shards: every thread asks for every blob. They divide the ids in order, so that one after the other is sorted
//! and written. Why tables: a set of many millions must not grow in memory, so beyond 65,536 ids it is written as a
//! sorted table and emptied.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use crate::base::spill::SpillDir;
use crate::base::table::{NoDigest, PreadFile, Table, TableWriter};
use crate::base::{At, Id};
use crate::format::blob::BlobType;

use super::catalogue::table_error;
use super::error::Error;

const SHARDS: usize = 32;
/// Ids in memory before they go to a table: about 5 MiB, asked for at once, since tables that grow leave holes behind.
const IN_MEMORY: usize = 1 << 16;
/// Id and type.
const KEY: usize = Id::LEN + 1;
/// Id, type, and the id it maps to.
const MAPPED: usize = KEY + Id::LEN;

type Key = [u8; KEY];

/// A key and what is kept with it; equal when the keys are.
#[derive(Clone, Copy, Debug)]
struct Row<const WIDTH: usize>([u8; WIDTH]);

impl<const WIDTH: usize> Row<WIDTH> {
    fn key(&self) -> &Key {
        self.0.first_chunk().expect("a row is at least as wide as a key")
    }
}

impl<const WIDTH: usize> PartialEq for Row<WIDTH> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<const WIDTH: usize> Eq for Row<WIDTH> {}

impl<const WIDTH: usize> Hash for Row<WIDTH> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl<const WIDTH: usize> Borrow<Key> for Row<WIDTH> {
    fn borrow(&self) -> &Key {
        self.key()
    }
}

type Shard<const WIDTH: usize> = HashSet<Row<WIDTH>, BuildHasherDefault<Leading>>;

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

/// Rows found by (type, id), safe to share, that move to disk beyond what may stay in memory.
#[derive(Debug)]
struct Rows<const WIDTH: usize> {
    shards: Vec<Mutex<Shard<WIDTH>>>,
    count: AtomicUsize,
    tables: RwLock<Vec<Table<PreadFile>>>,
    spills: SpillDir,
    limit: usize,
}

fn key_of(kind: BlobType, id: &Id) -> Key {
    let mut key = [0; KEY];
    key[..Id::LEN].copy_from_slice(id.as_bytes());
    key[Id::LEN] = kind.0;
    key
}

impl<const WIDTH: usize> Rows<WIDTH> {
    fn new(spills: &SpillDir, limit: usize) -> Self {
        // Ids are spread evenly, if not quite.
        let room = limit / SHARDS + limit / SHARDS / 8;
        let shard = || Mutex::new(Shard::with_capacity_and_hasher(room, BuildHasherDefault::default()));
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            count: AtomicUsize::new(0),
            tables: RwLock::new(Vec::new()),
            spills: spills.clone(),
            limit,
        }
    }

    /// Adds a row unless its key is there; returns the row that was there before.
    fn insert(&self, row: Row<WIDTH>) -> Result<Option<Row<WIDTH>>, Error> {
        if self.count.load(Ordering::Relaxed) >= self.limit {
            self.spill()?;
        }
        // The tables stay locked until the row is in its shard: a spill in between would let two threads in.
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        let mut shard = self.shard(row.key());
        if let Some(found) = find(&shard, &tables, row.key())? {
            return Ok(Some(found));
        }
        shard.insert(row);
        self.count.fetch_add(1, Ordering::Relaxed);
        Ok(None)
    }

    fn get(&self, key: &Key) -> Result<Option<Row<WIDTH>>, Error> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        let shard = self.shard(key);
        find(&shard, &tables, key)
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard<WIDTH>> {
        self.shards[usize::from(key[0]) * SHARDS / 256].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves what is in memory to a table; merges tables of like size.
    fn spill(&self) -> Result<(), Error> {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        if self.count.load(Ordering::Relaxed) < self.limit {
            return Ok(());
        }
        let mut shards = self.shards.iter();
        let mut rows: Vec<[u8; WIDTH]> = Vec::new();
        tables.push(self.write(&mut || {
            while rows.is_empty() {
                let Some(shard) = shards.next() else { return Ok(None) };
                rows.extend(shard.lock().unwrap_or_else(PoisonError::into_inner).drain().map(|row| row.0));
                rows.sort_unstable_by(|a, b| b.cmp(a));
            }
            Ok(rows.pop())
        })?);
        self.count.store(0, Ordering::Relaxed);
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
        let copy = |row: Option<&[u8]>| row.and_then(|row| <[u8; WIDTH]>::try_from(row).ok());
        let mut heads = [copy(left.next().map_err(table_error)?), copy(right.next().map_err(table_error)?)];
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

    fn write(
        &self,
        next: &mut dyn FnMut() -> Result<Option<[u8; WIDTH]>, Error>,
    ) -> Result<Table<PreadFile>, Error> {
        let folder = self.spills.folder();
        let file = tempfile::tempfile_in(folder).at("create a temporary file in", folder)?;
        let mut writer = TableWriter::create(file, WIDTH, NoDigest).map_err(table_error)?;
        while let Some(row) = next()? {
            writer.push(&row).map_err(|error| table_error(error).placed(folder.display()))?;
        }
        let (file, _) = writer.finish(&[]).map_err(|error| table_error(error).placed(folder.display()))?;
        let file = PreadFile::new(file).map_err(|source| Error::spool("open", source))?;
        Table::open(file).map_err(table_error)
    }
}

fn find<const WIDTH: usize>(
    shard: &Shard<WIDTH>,
    tables: &[Table<PreadFile>],
    key: &Key,
) -> Result<Option<Row<WIDTH>>, Error> {
    if let Some(row) = shard.get(key) {
        return Ok(Some(*row));
    }
    let (id, kind) = (Id(*key.first_chunk().expect("a key begins with an id")), key[Id::LEN]);
    let mut found = None;
    for table in tables {
        table
            .find(&id, |row| {
                if row[Id::LEN] == kind {
                    found = <[u8; WIDTH]>::try_from(row).ok().map(Row);
                }
                found.is_none()
            })
            .map_err(table_error)?;
        if found.is_some() {
            break;
        }
    }
    Ok(found)
}

/// A set of (type, id), safe to share, that moves to disk beyond what may stay in memory.
#[derive(Debug)]
pub struct KnownSet(Rows<KEY>);

impl KnownSet {
    /// Creates an empty set.
    pub fn new(spills: &SpillDir) -> Self {
        Self(Rows::new(spills, IN_MEMORY))
    }

    /// Adds a blob; returns whether it was not known. Of several threads that add one blob, one is told so.
    pub fn insert(&self, kind: BlobType, id: Id) -> Result<bool, Error> {
        Ok(self.0.insert(Row(key_of(kind, &id)))?.is_none())
    }

    /// Returns whether a blob was added.
    pub fn contains(&self, kind: BlobType, id: &Id) -> Result<bool, Error> {
        Ok(self.0.get(&key_of(kind, id))?.is_some())
    }
}

/// A map from (type, id) to an id, safe to share, that moves to disk beyond what may stay in memory.
#[derive(Debug)]
pub struct IdMap(Rows<MAPPED>);

impl IdMap {
    /// Creates an empty map.
    pub fn new(spills: &SpillDir) -> Self {
        Self(Rows::new(spills, IN_MEMORY / 2))
    }

    /// Adds a pair unless the key is there.
    pub fn insert(&self, kind: BlobType, from: &Id, to: &Id) -> Result<(), Error> {
        let mut row = [0; MAPPED];
        row[..KEY].copy_from_slice(&key_of(kind, from));
        row[KEY..].copy_from_slice(to.as_bytes());
        self.0.insert(Row(row)).map(drop)
    }

    /// Returns what an id maps to.
    pub fn get(&self, kind: BlobType, from: &Id) -> Result<Option<Id>, Error> {
        let row = self.0.get(&key_of(kind, from))?;
        Ok(row.and_then(|row| row.0.last_chunk().map(|id| Id(*id))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_beyond_its_memory() {
        let dir = tempfile::tempdir().unwrap();
        let set = KnownSet(Rows::new(&SpillDir::new(dir.path(), None), 100));
        let id = |n: u32| Id(*blake3::hash(&n.to_le_bytes()).as_bytes());
        for round in 0..2 {
            for n in 0..1000 {
                assert_eq!(set.insert(BlobType::CHUNK, id(n)).unwrap(), round == 0, "{n}");
            }
        }
        assert!(
            !set.contains(BlobType::OBJECT, &id(7)).unwrap()
                && set.contains(BlobType::CHUNK, &id(7)).unwrap()
        );
        assert!(set.insert(BlobType::OBJECT, id(7)).unwrap(), "another type is another blob");
        assert!(set.0.tables.read().unwrap().len() < 6, "tables are merged");
    }

    #[test]
    fn maps_beyond_its_memory() {
        let dir = tempfile::tempdir().unwrap();
        let map = IdMap(Rows::new(&SpillDir::new(dir.path(), None), 100));
        let id = |n: u32| Id(*blake3::hash(&n.to_le_bytes()).as_bytes());
        for n in 0..1000 {
            map.insert(BlobType::CHUNK, &id(n), &id(n + 1)).unwrap();
        }
        for n in 0..1000 {
            assert_eq!(map.get(BlobType::CHUNK, &id(n)).unwrap(), Some(id(n + 1)));
        }
        assert_eq!(map.get(BlobType::OBJECT, &id(1)).unwrap(), None);
    }
}
