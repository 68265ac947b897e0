//! Immutable tables on disk: sorted rows of one fixed width, found by their leading 32 bytes.
//!
//! Serves the local catalogue cache and deduplication sets that do not fit memory. Rows are sorted as bytes;
//! since the leading 32 bytes are MACs, and so evenly spread, interpolation finds a row among millions in two or
//! three reads of 4 KiB. Where they are not evenly spread every other step halves the range, so that nobody can
//! choose names that make look-ups slow.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic `KLTABLE1` |
//! | 8 | 4 | row width W in bytes, u32 LE |
//! | 12 | 4 | length M of the caller's data, u32 LE |
//! | 16 | 8 | row count N, u64 LE |
//! | 24 | 8 | zero |
//! | 32 | 32 | digest over rows ‖ caller's data ‖ bytes 0 to 31, by the caller's [`TableDigest`] |
//! | 64 | N·W | rows, ascending |
//! | 64 + N·W | M | the caller's data |

use std::cmp::Ordering;
use std::fs::File;
use std::io;
use std::ops::Range;

use super::sys::FileAt as _;
use super::{Id, RangeFile};

const MAGIC: &[u8; 8] = b"KLTABLE1";
const WIDTH_AT: usize = MAGIC.len();
const DATA_LENGTH_AT: usize = WIDTH_AT + 4;
const COUNT_AT: usize = DATA_LENGTH_AT + 4;
const RESERVED_AT: usize = COUNT_AT + 8;
const DIGEST_AT: usize = RESERVED_AT + 8;
const HEADER: usize = DIGEST_AT + 32;

/// Bytes read around a guess.
const WINDOW: usize = 4096;
/// Bytes read or written at once in order.
const BUFFER: usize = 64 * 1024;
/// The widest row: anything above is a mistake or an attack.
const MAX_WIDTH: usize = 1024;
/// The most data a caller may keep beside the rows.
const MAX_DATA: usize = 64 << 20;

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is not a table, or not a whole one.
    #[error("not a valid table: {0}")]
    Invalid(&'static str),
    /// Rows were not given in ascending order, or a row has the wrong width.
    #[error("table row {row} is out of order or has the wrong width")]
    Row {
        /// The number of the row, from 0.
        row: u64,
    },
    /// The system failed.
    #[error("cannot {op} a table")]
    Io {
        /// What was tried.
        op: &'static str,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
}

fn io_error(op: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Io { op, source }
}

/// A file read at offsets, through `pread` or a map.
pub trait RangeRead: Send + Sync {
    /// Returns the length in bytes.
    fn len(&self) -> u64;

    /// Returns whether there is no byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills the buffer with the bytes at `offset`; an error when there are fewer.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// An open file, read by `pread`, with its length at the time it was opened.
#[derive(Debug)]
pub struct PreadFile {
    file: File,
    len: u64,
}

impl PreadFile {
    /// Takes an open file.
    pub fn new(file: File) -> io::Result<Self> {
        Ok(Self { len: file.metadata()?.len(), file })
    }
}

impl RangeRead for PreadFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

impl RangeRead for RangeFile {
    fn len(&self) -> u64 {
        Self::len(self)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.with_range(offset, buffer.len(), &mut |bytes| buffer.copy_from_slice(bytes))
    }
}

impl RangeRead for Vec<u8> {
    fn len(&self) -> u64 {
        Vec::len(self) as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buffer.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

/// Digests a table as a whole: the caller's MAC. Sees the rows, then the caller's data, then the first 32 bytes.
pub trait TableDigest {
    /// Takes the next bytes.
    fn update(&mut self, bytes: &[u8]);
    /// Returns the digest.
    fn finish(&mut self) -> [u8; 32];
}

/// No digest: for tables that live and die with one process.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDigest;

impl TableDigest for NoDigest {
    fn update(&mut self, _: &[u8]) {}
    fn finish(&mut self) -> [u8; 32] {
        [0; 32]
    }
}

/// Writes a table from rows in ascending order.
#[derive(Debug)]
pub struct TableWriter<D> {
    file: File,
    digest: D,
    width: usize,
    rows: u64,
    written: u64,
    last: Vec<u8>,
    buffer: Vec<u8>,
}

impl<D: TableDigest> TableWriter<D> {
    /// Starts a table of rows of `width` bytes (32 to 1024) in an empty file open for reading and writing.
    pub fn create(file: File, width: usize, digest: D) -> Result<Self, Error> {
        if !(Id::LEN..=MAX_WIDTH).contains(&width) {
            return Err(Error::Invalid("row width out of bounds"));
        }
        let buffer = Vec::with_capacity(BUFFER + MAX_WIDTH);
        Ok(Self { file, digest, width, rows: 0, written: HEADER as u64, last: Vec::new(), buffer })
    }

    /// Appends a row. Fails when it is smaller than the one before; equal rows are the caller's business.
    pub fn push(&mut self, row: &[u8]) -> Result<(), Error> {
        if row.len() != self.width || row < &self.last[..] {
            return Err(Error::Row { row: self.rows });
        }
        self.last.clear();
        self.last.extend_from_slice(row);
        self.buffer.extend_from_slice(row);
        self.rows += 1;
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    /// Writes the caller's data (at most 64 MiB) and the header; returns the file and the number of rows. The
    /// file is not synchronised and not renamed: that is the caller's part.
    pub fn finish(mut self, data: &[u8]) -> Result<(File, u64), Error> {
        self.flush()?;
        let length = u32::try_from(data.len()).ok().filter(|_| data.len() <= MAX_DATA);
        let length = length.ok_or(Error::Invalid("too much data beside the rows"))?;
        self.file.write_all_at(data, self.written).map_err(io_error("write"))?;
        self.digest.update(data);
        let mut header = [0; HEADER];
        header[..WIDTH_AT].copy_from_slice(MAGIC);
        let width = u32::try_from(self.width).expect("at most MAX_WIDTH");
        header[WIDTH_AT..DATA_LENGTH_AT].copy_from_slice(&width.to_le_bytes());
        header[DATA_LENGTH_AT..COUNT_AT].copy_from_slice(&length.to_le_bytes());
        header[COUNT_AT..RESERVED_AT].copy_from_slice(&self.rows.to_le_bytes());
        self.digest.update(&header[..DIGEST_AT]);
        header[DIGEST_AT..].copy_from_slice(&self.digest.finish());
        self.file.write_all_at(&header, 0).map_err(io_error("write"))?;
        Ok((self.file, self.rows))
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.digest.update(&self.buffer);
        self.file.write_all_at(&self.buffer, self.written).map_err(io_error("write"))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// A finished table.
#[derive(Debug)]
pub struct Table<R> {
    file: R,
    header: [u8; HEADER],
    width: usize,
    rows: u64,
    data: usize,
}

impl<R: RangeRead> Table<R> {
    /// Opens a table and checks its geometry against the file's length. Its content is checked by
    /// [`Table::verify`] only.
    pub fn open(file: R) -> Result<Self, Error> {
        if file.len() < HEADER as u64 {
            return Err(Error::Invalid("shorter than a header"));
        }
        let mut header = [0; HEADER];
        file.read_at(0, &mut header).map_err(io_error("read"))?;
        let u32_at = |at: usize| {
            u32::from_le_bytes(*header[at..].first_chunk().expect("the header is longer")) as usize
        };
        let (width, data) = (u32_at(WIDTH_AT), u32_at(DATA_LENGTH_AT));
        let rows = u64::from_le_bytes(*header[COUNT_AT..].first_chunk().expect("the header is longer"));
        if header[..WIDTH_AT] != *MAGIC || header[RESERVED_AT..DIGEST_AT] != [0; 8] {
            return Err(Error::Invalid("another kind of file"));
        }
        if !(Id::LEN..=MAX_WIDTH).contains(&width) || data > MAX_DATA {
            return Err(Error::Invalid("row width or data length out of bounds"));
        }
        let end = rows
            .checked_mul(width as u64)
            .and_then(|bytes| bytes.checked_add(HEADER as u64))
            .and_then(|bytes| bytes.checked_add(data as u64));
        if end != Some(file.len()) {
            return Err(Error::Invalid("its length does not match its header"));
        }
        Ok(Self { file, header, width, rows, data })
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns the width of a row in bytes.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Reads the caller's data.
    pub fn data(&self) -> Result<Vec<u8>, Error> {
        let mut data = vec![0; self.data];
        self.file.read_at(self.offset(self.rows), &mut data).map_err(io_error("read"))?;
        Ok(data)
    }

    /// Reads the whole table and returns whether it is what the digest was made over, in ascending order.
    pub fn verify(&self, mut digest: impl TableDigest) -> Result<bool, Error> {
        let mut scan = self.scan(0);
        let mut last = Vec::new();
        while let Some(row) = scan.next()? {
            if row < &last[..] {
                return Ok(false);
            }
            digest.update(row);
            last.clear();
            last.extend_from_slice(row);
        }
        digest.update(&self.data()?);
        digest.update(&self.header[..DIGEST_AT]);
        Ok(digest.finish() == self.header[DIGEST_AT..])
    }

    /// Reads the rows from number `first` on.
    pub fn scan(&self, first: u64) -> Scan<'_, R> {
        Scan { table: self, next: first, buffer: Vec::new(), position: 0 }
    }

    /// Returns whether there is a row with this id.
    pub fn contains(&self, id: &Id) -> Result<bool, Error> {
        let mut found = false;
        self.find(id, |_| {
            found = true;
            false
        })?;
        Ok(found)
    }

    /// Returns the first row with this id.
    pub fn get(&self, id: &Id) -> Result<Option<Vec<u8>>, Error> {
        let mut found = None;
        self.find(id, |row| {
            found = Some(row.to_vec());
            false
        })?;
        Ok(found)
    }

    /// Calls `each` with the rows of this id, in order, until it returns `false`.
    pub fn find(&self, id: &Id, mut each: impl FnMut(&[u8]) -> bool) -> Result<(), Error> {
        let mut window = Window { bytes: [0; WINDOW], rows: 0..0 };
        let first = self.lower_bound(id, &mut window)?;
        let mut row = first;
        while window.rows.contains(&row) {
            let bytes = window.row(row, self.width);
            if bytes[..Id::LEN] != id.0 || !each(bytes) {
                return Ok(());
            }
            row += 1;
        }
        let mut scan = self.scan(row);
        while let Some(bytes) = scan.next()? {
            if bytes[..Id::LEN] != id.0 || !each(bytes) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Returns the number of the first row whose id is not smaller; `window` holds what was read last.
    fn lower_bound(&self, id: &Id, window: &mut Window) -> Result<u64, Error> {
        let target = leading(&id.0);
        // Every row below `low` is smaller, every row from `high` on is not; the bounds are their leading bytes.
        let (mut low, mut high) = (0, self.rows);
        let (mut low_key, mut high_key) = (0, u64::MAX);
        let mut steps = 0u32;
        let per_window = (WINDOW / self.width) as u64;
        while low < high {
            let span = high - low;
            let guess = if (steps < 4 || steps.is_multiple_of(2)) && high_key > low_key {
                let part = u128::from(target.clamp(low_key, high_key) - low_key) * u128::from(span)
                    / (u128::from(high_key - low_key) + 1);
                low + u64::try_from(part).expect("less than the span")
            } else {
                low + span / 2
            };
            let start =
                guess.saturating_sub(per_window / 2).clamp(low, high.saturating_sub(per_window).max(low));
            self.read_window(start..high.min(start + per_window), window)?;
            let compare = |row: u64| window.row(row, self.width)[..Id::LEN].cmp(&id.0);
            let (first, last) = (window.rows.start, window.rows.end - 1);
            if compare(first) != Ordering::Less {
                (high, high_key) = (first, leading(window.row(first, self.width)));
            } else if compare(last) == Ordering::Less {
                (low, low_key) = (last + 1, leading(window.row(last, self.width)));
            } else {
                let (mut below, mut at_least) = (first, last);
                while at_least - below > 1 {
                    let middle = below.midpoint(at_least);
                    if compare(middle) == Ordering::Less { below = middle } else { at_least = middle }
                }
                return Ok(at_least);
            }
            steps += 1;
        }
        Ok(low)
    }

    fn read_window(&self, rows: Range<u64>, window: &mut Window) -> Result<(), Error> {
        let length = usize::try_from(rows.end - rows.start).expect("at most a window") * self.width;
        let offset = self.offset(rows.start);
        self.file.read_at(offset, &mut window.bytes[..length]).map_err(io_error("read"))?;
        window.rows = rows;
        Ok(())
    }

    fn offset(&self, row: u64) -> u64 {
        HEADER as u64 + row * self.width as u64
    }
}

struct Window {
    bytes: [u8; WINDOW],
    rows: Range<u64>,
}

impl Window {
    fn row(&self, row: u64, width: usize) -> &[u8] {
        let at = usize::try_from(row - self.rows.start).expect("within the window") * width;
        &self.bytes[at..at + width]
    }
}

fn leading(row: &[u8]) -> u64 {
    row.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Reads rows in order.
#[derive(Debug)]
pub struct Scan<'a, R> {
    table: &'a Table<R>,
    next: u64,
    buffer: Vec<u8>,
    position: usize,
}

impl<R: RangeRead> Scan<'_, R> {
    /// Returns the next row; `None` at the end.
    #[expect(clippy::should_implement_trait, reason = "lends its buffer, which Iterator cannot express")]
    pub fn next(&mut self) -> Result<Option<&[u8]>, Error> {
        let width = self.table.width;
        if self.position == self.buffer.len() {
            let left = self.table.rows.saturating_sub(self.next);
            let rows = usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER / width);
            if rows == 0 {
                return Ok(None);
            }
            self.buffer.resize(rows * width, 0);
            let offset = self.table.offset(self.next);
            self.table.file.read_at(offset, &mut self.buffer).map_err(io_error("read"))?;
            (self.next, self.position) = (self.next + rows as u64, 0);
        }
        self.position += width;
        Ok(Some(&self.buffer[self.position - width..self.position]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    struct Sum(u64);
    impl TableDigest for Sum {
        fn update(&mut self, bytes: &[u8]) {
            self.0 =
                bytes.iter().fold(self.0, |sum, byte| sum.wrapping_mul(131).wrapping_add(u64::from(*byte)));
        }
        fn finish(&mut self) -> [u8; 32] {
            let mut out = [0; 32];
            out[..8].copy_from_slice(&self.0.to_le_bytes());
            out
        }
    }

    fn write(rows: &[Vec<u8>], width: usize, data: &[u8]) -> Vec<u8> {
        let mut writer = TableWriter::create(tempfile::tempfile().unwrap(), width, Sum(0)).unwrap();
        for row in rows {
            writer.push(row).unwrap();
        }
        let (file, count) = writer.finish(data).unwrap();
        assert_eq!(count, rows.len() as u64);
        let table = Table::open(PreadFile::new(file).unwrap()).unwrap();
        assert!(table.verify(Sum(0)).unwrap());
        let mut bytes = vec![0; usize::try_from(table.file.len()).unwrap()];
        table.file.read_at(0, &mut bytes).unwrap();
        let mapped = RangeFile::open(table.file.file, bytes.len() as u64, true).unwrap();
        assert!(Table::open(mapped).unwrap().verify(Sum(0)).unwrap());
        bytes
    }

    fn row(seed: u64, spread: bool, tail: u8, width: usize) -> Vec<u8> {
        let mut row = vec![0; width];
        let lead = if spread { seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) } else { seed };
        row[..8].copy_from_slice(&lead.swap_bytes().to_le_bytes());
        row[31] = tail & 1;
        *row.last_mut().unwrap() |= tail;
        row
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn finds_exactly_what_was_written(
            seeds in prop::collection::vec((0u64..400, 0u8..4), 0..600),
            width in 32usize..80, spread: bool, data in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut rows: Vec<Vec<u8>> = seeds.iter().map(|(s, t)| row(*s, spread, *t, width)).collect();
            rows.sort();
            let table = Table::open(write(&rows, width, &data)).unwrap();
            prop_assert_eq!(table.data().unwrap(), data);
            for seed in 0..401 {
                let mut id = Id::ZERO;
                id.0.copy_from_slice(&row(seed, spread, 0, width)[..32]);
                let want: Vec<_> = rows.iter().filter(|r| r[..32] == id.0).cloned().collect();
                let mut got = Vec::new();
                table.find(&id, |r| { got.push(r.to_vec()); true }).unwrap();
                prop_assert_eq!(table.get(&id).unwrap(), want.first().cloned());
                prop_assert_eq!(got, want);
            }
            let mut scan = table.scan(0);
            for row in &rows {
                prop_assert_eq!(scan.next().unwrap(), Some(&row[..]));
            }
            prop_assert_eq!(scan.next().unwrap(), None);
        }
    }

    struct Counting(Vec<u8>, AtomicU32);
    impl RangeRead for Counting {
        fn len(&self) -> u64 {
            RangeRead::len(&self.0)
        }
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
            self.1.fetch_add(1, Relaxed);
            self.0.read_at(offset, buffer)
        }
    }

    fn reads_per_lookup(rows: &[Vec<u8>]) -> f64 {
        let bytes = write(rows, rows[0].len(), b"");
        let table = Table::open(Counting(bytes, AtomicU32::new(0))).unwrap();
        let before = table.file.1.load(Relaxed);
        for row in rows.iter().step_by(97) {
            assert!(table.contains(&Id(*row.first_chunk().unwrap())).unwrap());
        }
        f64::from(table.file.1.load(Relaxed) - before) / rows.len().div_ceil(97) as f64
    }

    #[test]
    fn few_reads_for_even_keys_and_not_many_for_chosen_ones() {
        let mut even: Vec<_> = (0..200_000).map(|i| row(i, true, 0, 48)).collect();
        even.sort();
        assert!(reads_per_lookup(&even) < 3.5);
        // Keys that double: interpolation alone would look at one end forever.
        let mut chosen: Vec<_> = (0..200_000u64)
            .map(|i| {
                let mut r = row(1 << (i % 64), false, 0, 48);
                r[8..16].copy_from_slice(&i.swap_bytes().to_le_bytes());
                r
            })
            .collect();
        chosen.sort();
        assert!(reads_per_lookup(&chosen) < 30.0);
    }

    #[test]
    fn damage_is_noticed() {
        let rows: Vec<_> = (0..100u64).map(|i| row(i, false, 0, 40)).collect();
        let good = write(&rows, 40, b"state ids");
        assert!(Table::open(good[..good.len() - 1].to_vec()).is_err());
        assert!(Table::open(good[..63].to_vec()).is_err());
        for at in [0, 8, 12, 16, 24] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(Table::open(bad).is_err(), "byte {at}");
        }
        for at in [32, 64, 64 + 40 * 50 + 39, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(!Table::open(bad).unwrap().verify(Sum(0)).unwrap(), "byte {at}");
        }
        let mut huge = good;
        huge[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(Table::open(huge).is_err());
    }

    #[test]
    fn rows_out_of_order_are_refused() {
        let mut writer = TableWriter::create(tempfile::tempfile().unwrap(), 32, NoDigest).unwrap();
        writer.push(&[2; 32]).unwrap();
        writer.push(&[2; 32]).unwrap();
        assert!(matches!(writer.push(&[1; 32]), Err(Error::Row { row: 2 })));
        assert!(matches!(writer.push(&[3; 31]), Err(Error::Row { row: 2 })));
    }
}
