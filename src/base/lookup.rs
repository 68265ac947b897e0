//! A look-up table made in passing: pairs of an id and a value of fixed width, collected in any order, sorted on
//! disk, found by interpolation. Memory is bounded by what the sorter may take.

use std::io;

use super::sort::{ByteOrder, Sorter};
use super::spill::SpillDir;
use super::table::{NoDigest, PreadFile, Table, TableWriter};
use super::{Id, PathError};

/// Memory for sorting, in bytes.
const MEMORY: usize = 8 << 20;

/// A table in the making.
#[derive(Debug)]
pub struct LookupBuilder {
    sorter: Sorter<ByteOrder>,
    spills: SpillDir,
    width: usize,
    count: u64,
}

impl LookupBuilder {
    /// Starts a table of values of `width` bytes.
    pub fn new(spills: &SpillDir, width: usize) -> Self {
        Self { sorter: Sorter::new(ByteOrder, spills, MEMORY), spills: spills.clone(), width, count: 0 }
    }

    /// Adds a pair. Of several with one id the last one counts.
    ///
    /// # Panics
    /// When the value has another width.
    pub fn push(&mut self, id: &Id, value: &[u8]) -> Result<(), PathError> {
        assert_eq!(value.len(), self.width, "all values are equally wide");
        let mut key = id.as_bytes().to_vec();
        // Most significant byte first, so that the keys sort as numbers.
        key.extend_from_slice(&self.count.swap_bytes().to_le_bytes());
        self.count += 1;
        self.sorter.push(&key, value)
    }

    /// Returns how many pairs were added.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Returns whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Makes the table.
    pub fn finish(self) -> io::Result<Lookup> {
        let file = tempfile::tempfile_in(self.spills.folder())?;
        let mut writer =
            TableWriter::create(file, Id::LEN + self.width, NoDigest).map_err(io::Error::other)?;
        let mut sorted = self.sorter.finish().map_err(io::Error::other)?;
        let mut row: Vec<u8> = Vec::new();
        while let Some((key, value)) = sorted.next().map_err(io::Error::other)? {
            let id = &key[..Id::LEN];
            if !row.is_empty() && row[..Id::LEN] != *id {
                writer.push(&row).map_err(io::Error::other)?;
            }
            row.clear();
            row.extend_from_slice(id);
            row.extend_from_slice(value);
        }
        if !row.is_empty() {
            writer.push(&row).map_err(io::Error::other)?;
        }
        let (file, _) = writer.finish(&[]).map_err(io::Error::other)?;
        Ok(Lookup(Table::open(PreadFile::new(file)?).map_err(io::Error::other)?))
    }
}

/// A finished table.
#[derive(Debug)]
pub struct Lookup(Table<PreadFile>);

impl Lookup {
    /// Returns the value of an id.
    pub fn get(&self, id: &Id) -> io::Result<Option<Vec<u8>>> {
        let row = self.0.get(id).map_err(io::Error::other)?;
        Ok(row.map(|mut row| row.split_off(Id::LEN)))
    }

    /// Returns the number of ids.
    pub fn len(&self) -> u64 {
        self.0.rows()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_last_of_what_was_added() {
        let dir = tempfile::tempdir().unwrap();
        let mut builder = LookupBuilder::new(&SpillDir::new(dir.path(), None), 4);
        let id = |n: u32| Id(*blake3::hash(&n.to_le_bytes()).as_bytes());
        for n in 0..2000 {
            builder.push(&id(n % 1500), &n.to_le_bytes()).unwrap();
        }
        let lookup = builder.finish().unwrap();
        assert_eq!(lookup.len(), 1500);
        for n in 0..1500 {
            let last: u32 = if n < 500 { n + 1500 } else { n };
            assert_eq!(lookup.get(&id(n)).unwrap().unwrap(), last.to_le_bytes());
        }
        assert_eq!(lookup.get(&id(5000)).unwrap(), None);
        assert!(LookupBuilder::new(&SpillDir::new(dir.path(), None), 4).finish().unwrap().is_empty());
    }
}
