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
use crate::base::{Id, Timestamp};
use crate::connector::{Body, Purpose, Storage};
use crate::crypto::random;
use crate::crypto::seal::Item;
use crate::format::blob::BlobType;
use crate::format::packfile::{Footer, IndexRecord, RECORD_LEN};
use crate::format::version::Version;
use crate::format::wrapper::{self, Resource};

use super::blob::Error;
use super::encoding::Encoding;
use super::keys::Keys;

/// Bytes buffered per open packfile before they are written to its spool file.
const BUFFER: usize = 1 << 20;

/// A packfile that still takes blobs.
#[derive(Debug)]
pub(super) struct OpenPack {
    purpose: Purpose,
    spool: File,
    /// Bytes of the resource that are in the spool file already.
    written: u64,
    buffer: Vec<u8>,
    index: Vec<IndexRecord>,
    created: Timestamp,
    /// Length of the blob area so far.
    area: u64,
}

/// A packfile that is stored: its name and where its blobs are.
#[derive(Debug)]
pub(super) struct StoredPack {
    pub(super) id: Id,
    pub(super) created: Timestamp,
    pub(super) index: Vec<IndexRecord>,
    pub(super) bytes: u64,
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
            written: 0,
            buffer: Vec::with_capacity(BUFFER + BUFFER / 4),
            index: Vec::new(),
            created: Timestamp::now(),
            area: 0,
        };
        pack.buffer.extend_from_slice(&wrapper::header(Resource::Packfile, Version::V1_0_0));
        if let Padding::Upstream { limit } = padding {
            let length = 1 + random::below(u64::from(limit.max(2)) - 1);
            pack.pad(length)?;
        }
        Ok(pack)
    }

    /// Returns the length of the blob area in bytes.
    pub(super) fn area(&self) -> u64 {
        self.area
    }

    /// Returns how many blobs it holds, padding included.
    pub(super) fn blob_count(&self) -> usize {
        self.index.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.index.iter().all(|record| record.kind == BlobType::RANDOM)
    }

    /// Appends an encoded blob.
    pub(super) fn append(&mut self, kind: BlobType, id: Id, encoded: &[u8]) -> Result<(), Error> {
        let length = u32::try_from(encoded.len()).map_err(|_| Error::too_large(kind, id))?;
        self.index.push(IndexRecord {
            kind,
            version: Version::V1_0_0,
            id,
            offset: self.area,
            length,
            flags: 0,
        });
        self.area += u64::from(length);
        self.write(encoded)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.spool
            .write_all_at(&self.buffer, self.written)
            .map_err(|source| Error::spool("write", source).placed("the folder where packfiles are made"))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Appends one padding blob of `length` random bytes.
    fn pad(&mut self, length: u64) -> Result<(), Error> {
        let bytes = random::bytes(usize::try_from(length).expect("padding is below 2 GiB"));
        self.append(BlobType::RANDOM, random::id(), &bytes)
    }

    /// Appends padding, index, footer and trailer, and puts the packfile.
    pub(super) fn finish(
        mut self,
        storage: &dyn Storage,
        keys: &Keys,
        encoding: &Encoding,
        padding: Padding,
    ) -> Result<StoredPack, Error> {
        let end = self.pad_and_close(keys, encoding, padding)?;
        self.write(&end)?;
        self.flush()?;
        let (id, trailer) = hash_spool(&self.spool, self.written, keys)?;
        self.spool
            .write_all_at(trailer.as_bytes(), self.written)
            .map_err(|source| Error::spool("write", source).placed("the folder where packfiles are made"))?;
        let length = self.written + wrapper::TRAILER_LEN as u64;
        storage.put_packfile(id, self.purpose, Body::Spool { file: &self.spool, length })?;
        Ok(StoredPack { id, created: self.created, index: self.index, bytes: length })
    }

    /// Appends the padding behind the last blob; returns the encoded index, footer and footer length.
    fn pad_and_close(
        &mut self,
        keys: &Keys,
        encoding: &Encoding,
        padding: Padding,
    ) -> Result<Vec<u8>, Error> {
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
        let mut end = Vec::new();
        for _ in 0..TRIES {
            end.clear();
            self.encode_end_with_padding(id, length, keys, encoding, &mut end)?;
            let total = around + self.area + length + end.len() as u64;
            let missing = goal(total) - total;
            if missing == 0 {
                break;
            }
            length += missing;
        }
        end.clear();
        self.encode_end_with_padding(id, length, keys, encoding, &mut end)?;
        let bytes = random::bytes(usize::try_from(length).expect("padding is below 2 GiB"));
        self.append(BlobType::RANDOM, id, &bytes)?;
        Ok(end)
    }

    /// Encodes what follows the blob area, as it is with a padding blob of `length` bytes behind the last blob.
    fn encode_end_with_padding(
        &self,
        id: Id,
        length: u64,
        keys: &Keys,
        encoding: &Encoding,
        end: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let mut index = encode_index(&self.index);
        let kind = BlobType::RANDOM;
        let short = u32::try_from(length).map_err(|_| Error::too_large(kind, id))?;
        let version = Version::V1_0_0;
        let padding = IndexRecord { kind, version, id, offset: self.area, length: short, flags: 0 };
        index.extend_from_slice(&padding.encode());
        let footer = Footer {
            timestamp: self.created.unix_nanos(),
            count: u32::try_from(self.index.len() + 1).map_err(|_| Error::too_large(kind, id))?,
            index_offset: self.area + length,
            index_mac: keys.ids().mac(&index),
            flags: 0,
        };
        encode_end(encoding, &index, &footer, end)
    }
}

/// Encodes index records back to back.
pub(super) fn encode_index(index: &[IndexRecord]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(index.len() * RECORD_LEN);
    for record in index {
        bytes.extend_from_slice(&record.encode());
    }
    bytes
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

/// Returns name and trailer of a spooled packfile: MAC(payload) and MAC(header ‖ payload).
fn hash_spool(spool: &File, length: u64, keys: &Keys) -> Result<(Id, Id), Error> {
    let mut name = keys.trailers().hasher();
    let mut trailer = keys.trailers().hasher();
    let mut buffer = vec![0; BUFFER];
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
