//! Packfiles in the making: open lanes, rotation, sealing.
//!
//! A blob is appended, encoded, to an open packfile of its lane under that packfile's lock, which is held for a
//! copy and now and then a write. A full packfile goes to the storage threads, which write its padding, index
//! and footer, hash it, put it, and record where its blobs are.
//!
//! Why spool files: a packfile is as large as its CONFIG says, and several are open at a time. They live in
//! unlinked files that the storage made, so that a local store only has to link them.

use std::fs::File;
use std::io::{self, Write};

use crate::base::sys::FileAt as _;
use crate::base::{Id, Pages, Timestamp};
use crate::connector::{Body, Purpose, Storage};
use crate::crypto::random;
use crate::crypto::seal::Item;
use crate::format::blob::BlobType;
use crate::format::packfile::{Footer, IndexRecord, RECORD_LEN};
use crate::format::state::Location;
use crate::format::version::Version;
use crate::format::wrapper::{self, Resource};

use super::blob::Error;
use super::encoding::Encoding;
use super::keys::Keys;

/// Bytes buffered per open packfile before they are written to its spool file.
const BUFFER: usize = 1 << 20;
/// The most blobs in a packfile. Its index is in memory until it is put, 56 bytes a blob, and while it is put once more
/// encoded: a packfile's worth of tiny blobs would take more than any budget.
const MOST_BLOBS: usize = 1 << 15;
/// The length of the index of a packfile that is full, padding at both ends included.
const FULL_INDEX: usize = (MOST_BLOBS + 2) * RECORD_LEN;

/// A packfile that still takes blobs.
#[derive(Debug)]
pub(super) struct OpenPack {
    purpose: Purpose,
    spool: File,
    /// The store's location, where the spool file lies with the store.
    beside: Option<String>,
    /// Bytes of the resource that are in the spool file already.
    written: u64,
    /// Room for [`BUFFER`] bytes.
    buffer: Pages,
    /// Encoded index records.
    index: Pages,
    /// Whether it holds anything but padding.
    in_use: bool,
    created: Timestamp,
    /// Length of the blob area so far.
    area: u64,
}

/// A packfile that is stored: its name and where its blobs are.
#[derive(Debug)]
pub(super) struct StoredPack {
    pub(super) id: Id,
    pub(super) created: Timestamp,
    pub(super) bytes: u64,
    /// Encoded index records.
    index: Pages,
}

impl StoredPack {
    /// Returns where its blobs are, padding included.
    pub(super) fn locations(&self) -> impl Iterator<Item = Location> + '_ {
        self.index.as_chunks::<RECORD_LEN>().0.iter().map(|record| {
            let record = IndexRecord::decode(record).expect("the packfile encoded it itself");
            Location {
                kind: record.kind,
                version: record.version,
                id: record.id,
                packfile: self.id,
                offset: record.offset,
                length: record.length,
                flags: 0,
            }
        })
    }
}

/// How packfiles end, so that lengths tell little and readers that read too far stay inside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Padding {
    /// Upstream's: a blob of random length in front, at least 8 KiB behind.
    Upstream {
        /// `Chunking.MinSize`: the exclusive upper bound of the front padding.
        limit: u32,
    },
    /// At least 8 KiB behind and nothing in front: plaintext stores of ours.
    Tail,
    /// Encrypted native stores: rounded up to 64 KiB; the run's last one to a Padmé size.
    Rounded {
        /// Whether this is the last packfile of its lane in this run.
        last: bool,
    },
}

impl OpenPack {
    pub(super) fn new(storage: &dyn Storage, padding: Padding, purpose: Purpose) -> Result<Self, Error> {
        let mut pack = Self {
            purpose,
            spool: storage.spool()?,
            beside: storage.spools_beside().then(|| storage.location()),
            written: 0,
            buffer: Pages::with_capacity(BUFFER).map_err(no_memory)?,
            index: Pages::new(),
            in_use: false,
            created: Timestamp::now(),
            area: 0,
        };
        pack.write(&wrapper::header(Resource::Packfile, Version::V1_0_0))?;
        if let Padding::Upstream { limit } = padding {
            let length = 1 + random::below(u64::from(limit.max(2)) - 1);
            pack.pad(length)?;
        }
        Ok(pack)
    }

    /// Returns whether nothing more should be added: its blob area is longer than `most` bytes, or its blobs are many.
    pub(super) fn is_full(&self, most: u64) -> bool {
        self.area > most || self.index.len() >= MOST_BLOBS * RECORD_LEN
    }

    /// Returns whether it holds nothing but padding.
    pub(super) fn is_empty(&self) -> bool {
        !self.in_use
    }

    /// Appends an encoded blob.
    pub(super) fn append(&mut self, kind: BlobType, id: Id, encoded: &[u8]) -> Result<(), Error> {
        let length = u32::try_from(encoded.len()).map_err(|_| Error::too_large(kind, id))?;
        let (version, offset) = (Version::V1_0_0, self.area);
        let record = IndexRecord { kind, version, id, offset, length, flags: 0 };
        self.index.reserve(RECORD_LEN, FULL_INDEX).map_err(no_memory)?;
        self.index.extend_from_slice(&record.encode()).map_err(no_memory)?;
        self.in_use |= kind != BlobType::RANDOM;
        self.area += u64::from(length);
        self.write(encoded)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        if bytes.len() < BUFFER {
            return self.buffer.extend_from_slice(bytes).map_err(no_memory);
        }
        self.written += self.spool(bytes)?;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.written += self.spool(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// Writes bytes to the end of the spool file; returns how many.
    fn spool(&self, bytes: &[u8]) -> Result<u64, Error> {
        self.spool.write_all_at(bytes, self.written).map_err(|source| self.unspooled(source))?;
        Ok(bytes.len() as u64)
    }

    fn unspooled(&self, source: io::Error) -> Error {
        Error::unspooled(self.beside.as_deref(), source)
    }

    /// Appends one padding blob of `length` random bytes.
    fn pad(&mut self, length: u64) -> Result<(), Error> {
        let bytes = random::bytes(usize::try_from(length).expect("padding is below 2 GiB"));
        self.append(BlobType::RANDOM, random::id(), &bytes)
    }

    /// Appends padding, index, footer and trailer, and puts the packfile. `end` is memory that whoever finishes many
    /// packfiles lends to each of them.
    pub(super) fn finish(
        mut self,
        storage: &dyn Storage,
        keys: &Keys,
        encoding: &Encoding,
        padding: Padding,
        end: &mut Vec<u8>,
    ) -> Result<StoredPack, Error> {
        self.pad_and_close(keys, encoding, padding, end)?;
        self.write(end)?;
        self.flush()?;
        let (id, trailer) = hash_spool(&self.spool, self.written, keys, self.buffer.fill_up())?;
        self.spool.write_all_at(trailer.as_bytes(), self.written).map_err(|source| self.unspooled(source))?;
        let length = self.written + wrapper::TRAILER_LEN as u64;
        storage.put_packfile(id, self.purpose, Body::Spool { file: &self.spool, length })?;
        Ok(StoredPack { id, created: self.created, index: self.index, bytes: length })
    }

    /// Appends the padding behind the last blob; writes the encoded index, footer and footer length to `end`.
    fn pad_and_close(
        &mut self,
        keys: &Keys,
        encoding: &Encoding,
        padding: Padding,
        end: &mut Vec<u8>,
    ) -> Result<(), Error> {
        /// What upstream's readers may read past a blob (FORMAT.md, "Padding and over-reading").
        const OVER_READ: u64 = 8 << 10;
        /// The compressed length of the index depends a little on the padding's own record, so that the right
        /// length is found by trying. It nearly always is within three tries.
        const TRIES: u32 = 24;
        let (mut length, goal): (u64, fn(u64) -> u64) = match padding {
            Padding::Upstream { limit } => (OVER_READ + random::below(u64::from(limit)), |total| total),
            Padding::Tail => (OVER_READ, |total| total),
            Padding::Rounded { last: true } => (1, padme),
            Padding::Rounded { last: false } => (1, |total| total.next_multiple_of(64 << 10)),
        };
        let around = (wrapper::HEADER_LEN + wrapper::TRAILER_LEN) as u64;
        let id = random::id();
        let mut tries = 0;
        loop {
            self.encode_end_with_padding(id, length, keys, encoding, end)?;
            let total = around + self.area + length + end.len() as u64;
            let missing = goal(total) - total;
            if missing == 0 || tries == TRIES {
                break;
            }
            length += missing;
            tries += 1;
        }
        let bytes = random::bytes(usize::try_from(length).expect("padding is below 2 GiB"));
        self.append(BlobType::RANDOM, id, &bytes)
    }

    /// Encodes what follows the blob area, as it is with a padding blob of `length` bytes behind the last blob.
    fn encode_end_with_padding(
        &mut self,
        id: Id,
        length: u64,
        keys: &Keys,
        encoding: &Encoding,
        end: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let kind = BlobType::RANDOM;
        let short = u32::try_from(length).map_err(|_| Error::too_large(kind, id))?;
        let version = Version::V1_0_0;
        let padding = IndexRecord { kind, version, id, offset: self.area, length: short, flags: 0 };
        let before = self.index.len();
        self.index.extend_from_slice(&padding.encode()).map_err(no_memory)?;
        let count = self.index.len() / RECORD_LEN;
        let footer = Footer {
            timestamp: self.created.unix_nanos(),
            count: u32::try_from(count).map_err(|_| Error::too_large(kind, id))?,
            index_offset: self.area + length,
            index_mac: keys.ids().mac(&self.index),
            flags: 0,
        };
        end.clear();
        let encoded = encode_end(encoding, &self.index, &footer, end);
        self.index.truncate(before);
        encoded
    }
}

fn no_memory(source: io::Error) -> Error {
    Error::Memory { what: "a packfile", source }
}

/// Appends encoded index, encoded footer and the footer's length.
fn encode_end(encoding: &Encoding, index: &[u8], footer: &Footer, out: &mut Vec<u8>) -> Result<(), Error> {
    encoding.encode(Item::index(), index, out)?;
    let before = out.len();
    encoding.encode(Item::footer(), &footer.encode(), out)?;
    let length = u32::try_from(out.len() - before).expect("an encoded footer is small");
    out.extend_from_slice(&length.to_le_bytes());
    Ok(())
}

/// Returns name and trailer of a spooled packfile, read through `buffer`: MAC(payload) and MAC(header ‖ payload).
fn hash_spool(spool: &File, length: u64, keys: &Keys, buffer: &mut [u8]) -> Result<(Id, Id), Error> {
    let mut name = keys.trailers().hasher();
    let mut trailer = keys.trailers().hasher();
    let mut offset = 0;
    while offset < length {
        let want = usize::try_from(length - offset).unwrap_or(usize::MAX).min(buffer.len());
        spool.read_exact_at(&mut buffer[..want], offset).map_err(|source| Error::spool("read", source))?;
        trailer.update(&buffer[..want]);
        let skipped = if offset == 0 { wrapper::HEADER_LEN } else { 0 };
        name.update(&buffer[skipped..want]);
        offset += want as u64;
    }
    Ok((name.finish(), trailer.finish()))
}

/// Rounds up to a Padmé size: at most 12 % more, of which only O(log log n) bits can be told.
pub(super) fn padme(length: u64) -> u64 {
    if length < 2 {
        return length;
    }
    let exponent = length.ilog2();
    let kept = exponent.ilog2() + 1;
    let mask = (1_u64 << exponent.saturating_sub(kept)) - 1;
    (length + mask) & !mask
}

/// A writer that hashes what passes, for resources written as a stream.
#[derive(Debug)]
pub(super) struct Hashing<W> {
    inner: W,
    hasher: crate::crypto::mac::MacHasher,
    length: u64,
}

impl<W: Write> Hashing<W> {
    pub(super) fn new(inner: W, keys: &Keys) -> Self {
        Self { inner, hasher: keys.trailers().hasher(), length: 0 }
    }

    /// Returns the writer, the MAC of what passed, and its length in bytes.
    pub(super) fn finish(self) -> (W, Id, u64) {
        (self.inner, self.hasher.finish(), self.length)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padme_grows_by_at_most_an_eighth() {
        for length in [1, 2, 3, 100, 4096, 70_001, 1 << 20, (1 << 25) + 1, 123_456_789] {
            let padded = padme(length);
            assert!(padded >= length && padded - length <= length / 8 + 1, "{length} -> {padded}");
            assert_eq!(padme(padded), padded);
        }
    }
}
