//! Writing and reading state resources, as streams.

use std::io::{self, BufReader, Read, Write};

use crate::base::Id;
use crate::connector::{Body, Kind, Storage};
use crate::crypto::seal::Item;
use crate::format::state::{Metadata, StateEntry, StateReader, encode_metadata};
use crate::format::version::Version;
use crate::format::wrapper::{self, Resource};

use super::blob::Error;
use super::encoding::Encoding;
use super::keys::Keys;
use super::packer::Hashing;

/// What identifies a state besides its entries.
#[derive(Clone, Debug)]
pub(super) struct StateHead {
    pub(super) id: Id,
    /// 1.0.0 for stores that only hold such states, else 1.1.0.
    pub(super) version: Version,
    /// The newest state merged by the writer, or zero. Not recorded in version 1.0.0.
    pub(super) parent: Id,
    /// Unix nanoseconds: when the delta was started.
    pub(super) timestamp: i64,
    pub(super) serial: [u8; 16],
}

impl StateHead {
    /// Writes the decoded stream: header, the entries that `entries` writes, metadata.
    pub(super) fn write_plain(
        &self,
        out: &mut dyn Write,
        entries: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.version > Version::V1_0_0 {
            out.write_all(self.parent.as_bytes())?;
        }
        entries(out)?;
        let mut end = Vec::new();
        let metadata = Metadata { version: self.version, timestamp: self.timestamp, serial: self.serial };
        encode_metadata(&metadata, &mut end);
        out.write_all(&end)
    }

    /// Writes the whole resource, wrapper and trailer included, with `tail` behind what is encoded; returns its length
    /// in bytes.
    pub(super) fn write_resource<W: Write>(
        &self,
        out: W,
        keys: &Keys,
        encoding: &Encoding,
        tail: &[u8],
        entries: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<(W, u64)> {
        let mut hashing = Hashing::new(out, keys);
        hashing.write_all(&wrapper::header(Resource::State, self.version))?;
        let mut hashing = encoding.write_stream(Item::state(self.id), hashing, |plain| {
            // One large buffer, so that the first unit of the frame is never a short one.
            let mut plain = io::BufWriter::with_capacity(1 << 16, plain);
            self.write_plain(&mut plain, entries)?;
            plain.flush()
        })?;
        hashing.write_all(tail)?;
        let (mut out, trailer, length) = hashing.finish();
        out.write_all(trailer.as_bytes())?;
        Ok((out, length + wrapper::TRAILER_LEN as u64))
    }
}

/// Puts one state: this is what makes what it names visible.
pub(super) fn put_state(
    storage: &dyn Storage,
    keys: &Keys,
    encoding: &Encoding,
    head: &StateHead,
    entries: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Error> {
    let spool = storage.spool()?;
    let (_, length) = head
        .write_resource(io::BufWriter::with_capacity(1 << 18, &spool), keys, encoding, &[], entries)
        .and_then(|(mut out, length)| out.flush().map(|()| (out, length)))
        .map_err(|source| {
            let beside = storage.spools_beside().then(|| storage.location());
            Error::unspooled(beside.as_deref(), source)
        })?;
    storage.put(Kind::State, head.id, Body::Spool { file: &spool, length })?;
    Ok(())
}

/// What a state says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct StateFacts {
    pub(super) version: Version,
    pub(super) parent: Id,
    pub(super) timestamp: i64,
    pub(super) trailer: Id,
    /// Whether entries of unknown kinds were skipped. Not remembered by the cache.
    pub(super) strange: bool,
}

/// Reads a state of `size` bytes as a stream and passes its entries to `each`.
///
/// The trailer is known to be right only when this returns `Ok`: entries seen before an error must be dropped.
pub(super) fn read_state(
    storage: &dyn Storage,
    keys: &Keys,
    encoding: &Encoding,
    id: Id,
    size: u64,
    each: &mut dyn FnMut(StateEntry) -> Result<(), Error>,
) -> Result<StateFacts, Error> {
    let what = format!("state {id}");
    let overhead = (wrapper::HEADER_LEN + wrapper::TRAILER_LEN) as u64;
    let Some(payload) = size.checked_sub(overhead) else {
        return Err(Error::malformed(&what, "shorter than its wrapper"));
    };
    let tail = super::quick::length(storage, id, size)?;
    let mut resource = Checked {
        pieces: Pieces { storage, id, offset: 0, end: size, buffer: Vec::new(), taken: 0 },
        hasher: keys.trailers().hasher(),
    };
    let mut header = [0; wrapper::HEADER_LEN];
    resource.read_exact(&mut header).map_err(|error| unwrap_io(&what, error))?;
    let version = wrapper::parse_header(&header, Resource::State)?;
    if version > Version::V1_1_0 {
        return Err(Error::Version { what, found: version.to_string(), newest: Version::V1_1_0.to_string() });
    }
    let mut limited = (&mut resource).take(payload - tail);
    let facts = {
        let plain = encoding.read_stream(Item::state(id), &mut limited);
        let mut reader = StateReader::new(BufReader::with_capacity(1 << 16, plain), version)
            .map_err(|error| from_format(&what, error))?;
        let parent = reader.parent();
        for entry in &mut reader {
            each(entry.map_err(|error| from_format(&what, error))?)?;
        }
        let metadata = reader.metadata().expect("the stream ended with its metadata");
        (parent, metadata.timestamp, reader.is_strange())
    };
    // What the decoder left over (padding behind the metadata) still counts for the trailer.
    io::copy(&mut limited, &mut io::sink()).map_err(|error| unwrap_io(&what, error))?;
    io::copy(&mut (&mut resource).take(tail), &mut io::sink()).map_err(|error| unwrap_io(&what, error))?;
    let mut trailer = [0; 32];
    resource.pieces.read_exact(&mut trailer).map_err(|error| unwrap_io(&what, error))?;
    let found = resource.hasher.finish();
    if found.0 != trailer {
        return Err(Error::Corrupt { what, expected: Id(trailer).to_string(), found: found.to_string() });
    }
    Ok(StateFacts { version, parent: facts.0, timestamp: facts.1, trailer: found, strange: facts.2 })
}

/// Reads the trailer of a state of `size` bytes.
pub(super) fn read_trailer(storage: &dyn Storage, id: Id, size: u64) -> Result<Id, Error> {
    let length = wrapper::TRAILER_LEN;
    let Some(offset) = size.checked_sub(length as u64) else {
        return Err(Error::malformed(&format!("state {id}"), "shorter than its trailer"));
    };
    let mut trailer = Id::ZERO;
    storage.read_range(Kind::State, id, offset, length, &mut |bytes| trailer.0.copy_from_slice(bytes))?;
    Ok(trailer)
}

/// A resource read in pieces through ranges.
struct Pieces<'a> {
    storage: &'a dyn Storage,
    id: Id,
    offset: u64,
    end: u64,
    buffer: Vec<u8>,
    taken: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        /// Large enough to make a remote request worth its latency.
        const PIECE: u64 = 4 << 20;
        if self.taken == self.buffer.len() {
            let length = PIECE.min(self.end - self.offset);
            if length == 0 {
                return Ok(0);
            }
            let (buffer, length) = (&mut self.buffer, usize::try_from(length).expect("at most 4 MiB"));
            buffer.clear();
            self.storage
                .read_range(Kind::State, self.id, self.offset, length, &mut |bytes| {
                    buffer.extend_from_slice(bytes);
                })
                .map_err(io::Error::other)?;
            self.offset += length as u64;
            self.taken = 0;
        }
        let length = out.len().min(self.buffer.len() - self.taken);
        out[..length].copy_from_slice(&self.buffer[self.taken..self.taken + length]);
        self.taken += length;
        Ok(length)
    }
}

/// Hashes what is read.
struct Checked<'a> {
    pieces: Pieces<'a>,
    hasher: crate::crypto::mac::MacHasher,
}

impl Read for Checked<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = self.pieces.read(out)?;
        self.hasher.update(&out[..length]);
        Ok(length)
    }
}

/// Tells a failed read of the storage from bytes that make no sense: the first must never be called damage.
fn unwrap_io(what: &str, error: io::Error) -> Error {
    match error.downcast::<crate::connector::Error>() {
        Ok(connector) => Error::Connector(connector),
        Err(error) => Error::malformed(what, &error.to_string()),
    }
}

fn from_format(what: &str, error: crate::format::Error) -> Error {
    match error {
        crate::format::Error::Io { source, .. } => unwrap_io(what, source),
        other => Error::malformed(what, &other.to_string()),
    }
}
