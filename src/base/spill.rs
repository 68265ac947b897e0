//! Temporary files without a name: what does not fit memory waits here.
//!
//! A spill is written once from front to back, as length-prefixed records, and then read in either direction.
//! The file is unlinked from the start (`O_TMPFILE` where the system has it), so a killed run leaves nothing
//! behind, and for encrypted stores every block is sealed under a key of this run only, so that a disk search
//! finds no names either.
//!
//! Where the folder takes no file, or is full, a little goes to memory ([`IN_MEMORY`]): a full disk must not keep
//! anybody from reading.
//!
//! Layout: blocks of [`BLOCK`] bytes (the last one shorter), each followed by what the cipher adds. Inside the
//! stream of blocks a record is `u32 length ‖ bytes ‖ u32 length`, so that it can be found from both ends.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::sys::FileAt as _;
use super::sys::memory_file;
use super::{At, PathError};

/// Bytes of plaintext in a block.
pub const BLOCK: usize = 64 * 1024;

/// The most that all spills of one folder keep in memory, in bytes, where the folder cannot take them.
pub const IN_MEMORY: u64 = 64 << 20;

/// Bits of a block's index that number blocks within one file; the bits above number the file.
const BLOCK_INDEX_BITS: u32 = 32;

/// Seals the blocks of spills. Implemented by the crypto floor with an AEAD under a key that lives as long as
/// the run.
pub trait SpillCipher: fmt::Debug + Send + Sync {
    /// Returns how many bytes longer a sealed block is.
    fn overhead(&self) -> usize;

    /// Seals a block in place. `index` is never used twice under one [`SpillDir`], so a nonce may be made of it.
    fn seal_block(&self, index: u64, block: &mut Vec<u8>);

    /// Opens a sealed block in place; `false` when it is not what was sealed under this index.
    fn open_block(&self, index: u64, block: &mut Vec<u8>) -> bool;
}

/// The folder that takes a run's spills, and the cipher that seals them.
#[derive(Clone, Debug)]
pub struct SpillDir(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    cipher: Option<Arc<dyn SpillCipher>>,
    files: AtomicU64,
    /// Bytes that were written to memory instead.
    in_memory: AtomicU64,
}

impl SpillDir {
    /// Names the folder (which must exist) and the cipher, `None` for plaintext stores.
    pub fn new(folder: impl Into<PathBuf>, cipher: Option<Arc<dyn SpillCipher>>) -> Self {
        Self(Arc::new(Shared {
            folder: folder.into(),
            cipher,
            files: AtomicU64::new(0),
            in_memory: AtomicU64::new(0),
        }))
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// Creates an empty spill. Fails when the folder cannot be written.
    pub fn create(&self) -> Result<SpillWriter, PathError> {
        let (file, in_memory) = match tempfile::tempfile_in(&self.0.folder) {
            Ok(file) => (file, false),
            Err(error) => match memory_file() {
                Ok(file) => (file, true),
                Err(_) => return Err(error).at("create a temporary file in", &self.0.folder),
            },
        };
        let number = self.0.files.fetch_add(1, Ordering::Relaxed);
        let spill = Spill { file: Arc::new(file), dir: self.clone(), number, len: 0, records: 0 };
        Ok(SpillWriter { spill, block: Vec::new(), blocks: 0, in_memory })
    }

    fn overhead(&self) -> usize {
        self.0.cipher.as_ref().map_or(0, |cipher| cipher.overhead())
    }

    fn damaged(&self) -> PathError {
        let source =
            io::Error::new(io::ErrorKind::InvalidData, "a temporary file changed while it was in use");
        PathError { op: "read a temporary file in", path: self.0.folder.clone(), source }
    }
}

fn block_index(file: u64, block: u64) -> u64 {
    file << BLOCK_INDEX_BITS | block
}

/// A spill that is being written.
#[derive(Debug)]
pub struct SpillWriter {
    spill: Spill,
    block: Vec<u8>,
    blocks: u64,
    in_memory: bool,
}

impl SpillWriter {
    /// Appends one record made of the given parts. Fails when the disk does, or above 4 GiB.
    pub fn push(&mut self, parts: &[&[u8]]) -> Result<(), PathError> {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        let length = u32::try_from(length)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a record of more than 4 GiB"))
            .at("write a temporary file in", &self.spill.dir.0.folder)?
            .to_le_bytes();
        self.append(&length)?;
        for part in parts {
            self.append(part)?;
        }
        self.append(&length)?;
        self.spill.records += 1;
        Ok(())
    }

    /// Returns how many bytes were written, lengths included.
    pub fn len(&self) -> u64 {
        self.spill.len
    }

    /// Returns whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.spill.len == 0
    }

    /// Writes what is buffered and makes the spill readable.
    pub fn finish(mut self) -> Result<Spill, PathError> {
        if !self.block.is_empty() {
            self.flush()?;
        }
        Ok(self.spill)
    }

    fn append(&mut self, mut bytes: &[u8]) -> Result<(), PathError> {
        self.spill.len += bytes.len() as u64;
        if self.block.capacity() == 0 {
            self.block.reserve_exact(BLOCK + self.spill.dir.overhead());
        }
        while self.block.len() + bytes.len() >= BLOCK {
            let (now, later) = bytes.split_at(BLOCK - self.block.len());
            self.block.extend_from_slice(now);
            self.flush()?;
            bytes = later;
        }
        self.block.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), PathError> {
        let dir = &self.spill.dir.0;
        if let Some(cipher) = &dir.cipher {
            cipher.seal_block(block_index(self.spill.number, self.blocks), &mut self.block);
        }
        let written = self.write_block();
        written.at("write a temporary file in", &self.spill.dir.0.folder)?;
        self.blocks += 1;
        self.block.clear();
        Ok(())
    }
}

impl SpillWriter {
    /// Writes the block that is full, to memory where the folder takes no more.
    fn write_block(&mut self) -> io::Result<()> {
        if !self.in_memory {
            let Err(error) = (&*self.spill.file).write_all(&self.block) else { return Ok(()) };
            let before = self.blocks * (BLOCK + self.spill.dir.overhead()) as u64;
            let moved = take_memory(&self.spill.dir, before).and_then(|()| moved(&self.spill.file, before));
            let Ok(file) = moved else { return Err(error) };
            self.spill.file = Arc::new(file);
            self.in_memory = true;
        }
        take_memory(&self.spill.dir, self.block.len() as u64)?;
        (&*self.spill.file).write_all(&self.block)
    }
}

/// Counts bytes that go to memory; fails when there would be too many.
fn take_memory(dir: &SpillDir, bytes: u64) -> io::Result<()> {
    let before = dir.0.in_memory.fetch_add(bytes, Ordering::Relaxed);
    if before.saturating_add(bytes) <= IN_MEMORY { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
}

/// Copies what was written to a file in memory, which stands at its end.
fn moved(from: &File, length: u64) -> io::Result<File> {
    let mut file = memory_file()?;
    let mut buffer = vec![0; BLOCK];
    let mut at = 0;
    while at < length {
        let want = usize::try_from(length - at).unwrap_or(usize::MAX).min(buffer.len());
        from.read_exact_at(&mut buffer[..want], at)?;
        file.write_all(&buffer[..want])?;
        at += want as u64;
    }
    Ok(file)
}

/// A finished spill; its disk space is freed when it and its readers are dropped.
#[derive(Debug, Clone)]
pub struct Spill {
    file: Arc<File>,
    dir: SpillDir,
    number: u64,
    len: u64,
    records: u64,
}

impl Spill {
    /// Returns the number of records.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Returns the number of bytes, lengths included.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Reads the records in the order they were written.
    pub fn forward(&self) -> SpillReader {
        SpillReader { blocks: Blocks::new(self.clone()), position: 0, record: Current::default() }
    }

    /// Reads the records from the last one to the first.
    pub fn backward(&self) -> SpillBackReader {
        SpillBackReader { blocks: Blocks::new(self.clone()), position: self.len, record: Current::default() }
    }
}

/// One decoded block of a spill, the one that was needed last.
#[derive(Debug)]
struct Blocks {
    spill: Spill,
    loaded: Option<u64>,
    block: Vec<u8>,
}

impl Blocks {
    fn new(spill: Spill) -> Self {
        Self { spill, loaded: None, block: Vec::new() }
    }

    fn load(&mut self, number: u64) -> Result<(), PathError> {
        if self.loaded == Some(number) {
            return Ok(());
        }
        self.loaded = None;
        let dir = &self.spill.dir;
        let start = number * BLOCK as u64;
        let plain = usize::try_from(self.spill.len.saturating_sub(start)).unwrap_or(BLOCK).min(BLOCK);
        self.block.resize(plain + dir.overhead(), 0);
        let at = number * (BLOCK + dir.overhead()) as u64;
        self.spill.file.read_exact_at(&mut self.block, at).at("read a temporary file in", dir.folder())?;
        if let Some(cipher) = &dir.0.cipher
            && !(cipher.open_block(block_index(self.spill.number, number), &mut self.block)
                && self.block.len() == plain)
        {
            return Err(dir.damaged());
        }
        self.loaded = Some(number);
        Ok(())
    }

    /// Reads the `length` bytes at `start`: a slice of the loaded block where they lie in one, else a copy in
    /// `spare`. With `backward` the lowest block is the one that stays loaded.
    fn read(
        &mut self,
        start: u64,
        length: usize,
        backward: bool,
        into: &mut Current,
    ) -> Result<(), PathError> {
        const SIZE: u64 = BLOCK as u64;
        let end = start + length as u64;
        if end > self.spill.len {
            return Err(self.spill.dir.damaged());
        }
        let (first, last) = (start / SIZE, end.saturating_sub(1).max(start) / SIZE);
        if first == last {
            if length > 0 {
                self.load(first)?;
            }
            let from = usize::try_from(start % SIZE).expect("below the block size");
            *into = Current { from, length, copied: false, copy: std::mem::take(&mut into.copy) };
            return Ok(());
        }
        into.copy.resize(length, 0);
        (into.copied, into.length) = (true, length);
        let blocks = last - first + 1;
        for step in 0..blocks {
            let number = if backward { last - step } else { first + step };
            self.load(number)?;
            let block_start = number * SIZE;
            let (from, to) = (start.max(block_start), end.min(block_start + SIZE));
            let within = |at: u64, base: u64| usize::try_from(at - base).expect("below the record's length");
            into.copy[within(from, start)..within(to, start)]
                .copy_from_slice(&self.block[within(from, block_start)..within(to, block_start)]);
        }
        Ok(())
    }

    fn read_length(&mut self, start: u64, backward: bool, spare: &mut Current) -> Result<u32, PathError> {
        self.read(start, 4, backward, spare)?;
        let bytes = spare.get(&self.block).first_chunk::<4>().expect("four bytes were read");
        Ok(u32::from_le_bytes(*bytes))
    }
}

/// Where the current record lies: in the loaded block, or copied together from several.
#[derive(Debug, Default)]
struct Current {
    from: usize,
    length: usize,
    copied: bool,
    copy: Vec<u8>,
}

impl Current {
    fn get<'a>(&'a self, block: &'a [u8]) -> &'a [u8] {
        if self.copied {
            &self.copy[..self.length]
        } else if self.length == 0 {
            &[]
        } else {
            &block[self.from..self.from + self.length]
        }
    }
}

/// Reads a spill from front to back.
#[derive(Debug)]
pub struct SpillReader {
    blocks: Blocks,
    position: u64,
    record: Current,
}

impl SpillReader {
    /// Steps to the next record, which [`Self::record`] then returns; `false` at the end.
    pub fn advance(&mut self) -> Result<bool, PathError> {
        if self.position >= self.blocks.spill.len {
            return Ok(false);
        }
        let length = self.blocks.read_length(self.position, false, &mut self.record)?;
        self.blocks.read(self.position + 4, length as usize, false, &mut self.record)?;
        self.position += u64::from(length) + 8;
        Ok(true)
    }

    /// Returns the record that [`Self::advance`] stepped to.
    pub fn record(&self) -> &[u8] {
        self.record.get(&self.blocks.block)
    }

    /// Steps to the next record and returns it; `None` at the end.
    #[expect(clippy::should_implement_trait, reason = "lends its buffer, which Iterator cannot express")]
    pub fn next(&mut self) -> Result<Option<&[u8]>, PathError> {
        Ok(if self.advance()? { Some(self.record()) } else { None })
    }
}

/// Reads a spill from back to front.
#[derive(Debug)]
pub struct SpillBackReader {
    blocks: Blocks,
    position: u64,
    record: Current,
}

impl SpillBackReader {
    /// Steps to the record before and returns it; `None` after the first record.
    #[expect(clippy::should_implement_trait, reason = "lends its buffer, which Iterator cannot express")]
    pub fn next(&mut self) -> Result<Option<&[u8]>, PathError> {
        if self.position == 0 {
            return Ok(None);
        }
        let after = self.position.checked_sub(4).ok_or_else(|| self.blocks.spill.dir.damaged())?;
        let length = self.blocks.read_length(after, true, &mut self.record)?;
        let start =
            after.checked_sub(u64::from(length) + 4).ok_or_else(|| self.blocks.spill.dir.damaged())?;
        self.blocks.read(start + 4, length as usize, true, &mut self.record)?;
        self.position = start;
        Ok(Some(self.record.get(&self.blocks.block)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;

    /// A cipher that is none: a keystream of the index, and a checksum, so that mix-ups show.
    #[derive(Debug)]
    pub(crate) struct Scramble;

    impl SpillCipher for Scramble {
        fn overhead(&self) -> usize {
            8
        }
        fn seal_block(&self, index: u64, block: &mut Vec<u8>) {
            let sum =
                block.iter().fold(index, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
            for byte in block.iter_mut() {
                *byte ^= 0x5a ^ index.to_le_bytes()[0];
            }
            block.extend_from_slice(&sum.to_le_bytes());
        }
        fn open_block(&self, index: u64, block: &mut Vec<u8>) -> bool {
            let sum = *block.last_chunk::<8>().unwrap();
            block.truncate(block.len() - 8);
            for byte in block.iter_mut() {
                *byte ^= 0x5a ^ index.to_le_bytes()[0];
            }
            let want = block.iter().fold(index, |s, b| s.wrapping_mul(31).wrapping_add(u64::from(*b)));
            want.to_le_bytes() == sum
        }
    }

    pub(crate) fn spill_dir(sealed: bool) -> (tempfile::TempDir, SpillDir) {
        let folder = tempfile::tempdir().unwrap();
        let cipher = sealed.then(|| Arc::new(Scramble) as Arc<dyn SpillCipher>);
        let dir = SpillDir::new(folder.path(), cipher);
        (folder, dir)
    }

    fn check(dir: &SpillDir, records: &[Vec<u8>]) {
        let mut writer = dir.create().unwrap();
        for record in records {
            let (a, b) = record.split_at(record.len() / 2);
            writer.push(&[a, b]).unwrap();
        }
        let spill = writer.finish().unwrap();
        assert_eq!(spill.records(), records.len() as u64);
        let (mut forward, mut backward) = (spill.forward(), spill.backward());
        for record in records {
            assert_eq!(forward.next().unwrap(), Some(&record[..]));
        }
        for record in records.iter().rev() {
            assert_eq!(backward.next().unwrap(), Some(&record[..]));
        }
        assert_eq!(forward.next().unwrap(), None);
        assert_eq!(backward.next().unwrap(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn records_come_back_from_both_ends(
            lengths in prop::collection::vec(prop_oneof![4 => 0usize..200, 1 => 60_000usize..200_000], 0..20),
            sealed: bool,
        ) {
            let records: Vec<Vec<u8>> = lengths.iter().enumerate()
                .map(|(i, n)| (0..*n).map(|j| (i * 7 + j).to_le_bytes()[0]).collect()).collect();
            let (_folder, dir) = spill_dir(sealed);
            check(&dir, &records);
        }
    }

    #[test]
    fn block_edges() {
        let (_folder, dir) = spill_dir(true);
        for n in [BLOCK - 8, BLOCK - 4, BLOCK, BLOCK + 4, 2 * BLOCK - 16] {
            check(&dir, &[vec![1; n - 8], vec![2; 3], vec![], vec![3; n]]);
        }
    }

    #[test]
    fn a_spill_has_no_name_and_no_plaintext() {
        let (folder, dir) = spill_dir(true);
        let mut writer = dir.create().unwrap();
        writer.push(&[b"a very recognisable marker"]).unwrap();
        let spill = writer.finish().unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let mut raw = Vec::new();
        use std::io::Seek;
        (&*spill.file).rewind().unwrap();
        (&*spill.file).read_to_end(&mut raw).unwrap();
        assert!(!raw.windows(8).any(|w| w == b"recognis"));
        spill.file.write_at(&[raw[9] ^ 1], 9).unwrap();
        assert_eq!(spill.forward().next().unwrap_err().source.kind(), io::ErrorKind::InvalidData);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_folder_that_takes_nothing_leaves_a_little_memory() {
        let gone = SpillDir::new("/nonexistent", None);
        let mut writer = gone.create().unwrap();
        let record = vec![7; 100_000];
        for _ in 0..50 {
            writer.push(&[&record]).unwrap();
        }
        // A file that cannot be written any more, with something in it already.
        let dir = tempfile::tempdir().unwrap();
        let mut full = SpillDir::new(dir.path(), None).create().unwrap();
        for _ in 0..10 {
            full.push(&[&record]).unwrap();
        }
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&*full.spill.file));
        full.spill.file = Arc::new(File::open(path).unwrap());
        for _ in 0..40 {
            full.push(&[&record]).unwrap();
        }
        assert!(full.in_memory);
        for writer in [writer, full] {
            let spill = writer.finish().unwrap();
            let mut records = spill.forward();
            for _ in 0..50 {
                assert_eq!(records.next().unwrap().unwrap(), record);
            }
            assert!(records.next().unwrap().is_none());
        }
        // But only a little.
        let mut writer = gone.create().unwrap();
        let failed = (0..1000).find_map(|_| writer.push(&[&record]).err()).unwrap();
        assert!(failed.to_string().contains("/nonexistent"), "{failed}");
    }
}
