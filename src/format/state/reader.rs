//! Reading a state as a stream.

use std::io::{self, Read};

use super::entry::{LOCATION_LEN, METADATA, METADATA_LEN, Metadata, StateEntry, WHAT};
use crate::base::Id;
use crate::format::error::{Error, Result};
use crate::format::version::Version;

/// The longest entry of an unknown kind that is skipped, in bytes.
pub const MAX_UNKNOWN_LEN: u32 = 16 << 20;

/// Iterates over the entries of a decoded state stream, in its order, in constant memory.
///
/// The iterator ends at the metadata, which [`StateReader::metadata`] then returns; a stream that ends before is
/// an error. What follows the metadata is left unread. After an error the iterator ends.
#[derive(Debug)]
pub struct StateReader<R> {
    inner: R,
    parent: Id,
    metadata: Option<Metadata>,
    failed: bool,
    strange: bool,
}

impl<R: Read> StateReader<R> {
    /// Creates a reader over a decoded stream, `version` being that of the resource's wrapper. Reads the header.
    /// The stream is read in small pieces, so it should be buffered.
    pub fn new(inner: R, version: Version) -> Result<Self> {
        if !version.readable_by(Version::V1_1_0) {
            return Err(Error::Version { what: WHAT, found: version });
        }
        let mut reader = Self { inner, parent: Id::ZERO, metadata: None, failed: false, strange: false };
        if version >= Version::V1_1_0 {
            let mut parent = [0; Id::LEN];
            reader.fill(&mut parent)?;
            reader.parent = Id(parent);
        }
        Ok(reader)
    }

    /// Returns the parent's id; zero for a state without one.
    pub fn parent(&self) -> Id {
        self.parent
    }

    /// Returns the metadata, once the iterator has reached it.
    pub fn metadata(&self) -> Option<&Metadata> {
        self.metadata.as_ref()
    }

    /// Returns whether entries of kinds that are not known were skipped.
    pub fn is_strange(&self) -> bool {
        self.strange
    }

    /// Returns the stream, positioned behind what was read.
    pub fn into_inner(self) -> R {
        self.inner
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<()> {
        let needed = buffer.len() as u64;
        self.inner.read_exact(buffer).map_err(|source| Error::from_stream(WHAT, needed, source))
    }

    fn skip(&mut self, kind: u8, len: u32) -> Result<()> {
        if len > MAX_UNKNOWN_LEN {
            return Err(Error::malformed(WHAT, format!("an entry of kind {kind} of {len} bytes")));
        }
        let skipped = io::copy(&mut (&mut self.inner).take(u64::from(len)), &mut io::sink());
        match skipped {
            Ok(skipped) if skipped == u64::from(len) => Ok(()),
            Ok(_) => Err(Error::from_stream(WHAT, u64::from(len), io::ErrorKind::UnexpectedEof.into())),
            Err(source) => Err(Error::Io { what: WHAT, source }),
        }
    }

    fn entry(&mut self) -> Result<Option<StateEntry>> {
        loop {
            let mut kind = [0];
            self.fill(&mut kind)?;
            let [kind] = kind;
            if kind == METADATA {
                let mut body = [0; METADATA_LEN];
                self.fill(&mut body)?;
                self.metadata = Some(Metadata::decode(&body));
                return Ok(None);
            }
            let mut len = [0; 4];
            self.fill(&mut len)?;
            let len = u32::from_le_bytes(len);
            let Some(wanted) = StateEntry::body_len(kind) else {
                self.strange = true;
                self.skip(kind, len)?;
                continue;
            };
            if usize::try_from(len) != Ok(wanted) {
                let detail = format!("an entry of kind {kind} of {len} bytes, not {wanted}");
                return Err(Error::malformed(WHAT, detail));
            }
            let mut buffer = [0; LOCATION_LEN];
            let body = &mut buffer[..wanted];
            self.fill(body)?;
            return StateEntry::decode(kind, body).map(Some);
        }
    }
}

impl<R: Read> Iterator for StateReader<R> {
    type Item = Result<StateEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.metadata.is_some() {
            return None;
        }
        let entry = self.entry();
        self.failed = entry.is_err();
        entry.transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        Coloured, Delete, Folded, Folding, Location, PackEntry, encode_header, encode_metadata,
    };
    use super::*;
    use crate::format::blob::BlobType;

    fn entries() -> Vec<StateEntry> {
        vec![
            StateEntry::Delete(Delete::packfile(Id([1; 32]))),
            StateEntry::Delete(Delete::packfile_colour(Id([2; 32]))),
            StateEntry::Delete(Delete::location(BlobType::CHUNK, Id([3; 32]), Id([4; 32]))),
            StateEntry::Location(Location {
                kind: BlobType::CHUNK,
                version: Version::V1_0_0,
                id: Id([3; 32]),
                packfile: Id([4; 32]),
                offset: u64::MAX,
                length: 7,
                flags: 0,
            }),
            StateEntry::Coloured(Coloured::snapshot(Id([5; 32]), -1)),
            StateEntry::Packfile(PackEntry { packfile: Id([4; 32]), state: Id([6; 32]), when: 9 }),
            StateEntry::Folding(Folding { id: Id([7; 32]) }),
            StateEntry::Folded(Folded { id: Id([8; 32]), timestamp: 10, since: -2, with_snapshot: true }),
        ]
    }

    const METADATA: Metadata = Metadata { version: Version::V1_1_0, timestamp: 77, serial: [8; 16] };

    fn stream(version: Version, unknown: &[u8]) -> Vec<u8> {
        let mut out = encode_header(version, Id([9; 32]));
        out.extend_from_slice(unknown);
        for entry in entries() {
            entry.encode(&mut out);
        }
        encode_metadata(&METADATA, &mut out);
        out
    }

    #[test]
    fn states_round_trip_in_both_versions() {
        for (version, parent) in [(Version::V1_0_0, Id::ZERO), (Version::V1_1_0, Id([9; 32]))] {
            // Kind 5 (configuration) and kinds of the future are skipped.
            let bytes = stream(version, b"\x05\x02\0\0\0ab\xf0\0\0\0\0");
            let mut reader = StateReader::new(&bytes[..], version).unwrap();
            assert_eq!(reader.parent(), parent);
            let read: Vec<_> = reader.by_ref().collect::<Result<_>>().unwrap();
            assert_eq!(read, entries());
            assert_eq!(reader.metadata(), Some(&METADATA));
            assert!(reader.is_strange());
            assert!(reader.into_inner().is_empty());
        }
    }

    #[test]
    fn every_cut_is_an_error() {
        let bytes = stream(Version::V1_1_0, b"\xf0\x03\0\0\0abc");
        for len in 0..bytes.len() {
            let ends_well = StateReader::new(&bytes[..len], Version::V1_1_0)
                .is_ok_and(|mut reader| reader.all(|entry| entry.is_ok()));
            assert!(!ends_well, "{len}");
        }
    }

    #[test]
    fn wrong_lengths_kinds_and_versions_are_refused() {
        for bytes in [
            &b"\x02\x54\0\0\0"[..],
            b"\xf0\xff\xff\xff\xff",
            b"\x06\x42\0\0\0\x05",
            b"\xc8\x29\0\0\0",
            b"\xc9\x29\0\0\0",
        ] {
            let mut long = bytes.to_vec();
            long.resize(200, 0);
            let mut reader = StateReader::new(&long[..], Version::V1_0_0).unwrap();
            assert!(matches!(reader.next(), Some(Err(Error::Malformed { .. }))));
            assert!(reader.next().is_none());
        }
        assert!(matches!(StateReader::new(io::empty(), Version(0x0001_0101)), Err(Error::Version { .. })));
    }

    #[test]
    fn a_fault_of_the_stream_is_not_called_damage() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("cable"))
            }
        }
        assert!(matches!(StateReader::new(Broken, Version::V1_1_0), Err(Error::Io { .. })));
    }
}
