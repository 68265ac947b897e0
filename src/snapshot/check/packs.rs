//! Reading packfiles once, from front to end: trailer, index, footer, every blob.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::base::{Cancel, Id};
use crate::connector::Kind;
use crate::crypto::seal::Item;
use crate::format::blob::BlobType;
use crate::format::packfile::{FOOTER_LENGTH_LEN, Footer, IndexRecord, Tail, decode_index};
use crate::format::version::Version;
use crate::format::wrapper::{HEADER_LEN, Resource, TRAILER_LEN, parse_header};
use crate::store::{Error, KnownSet, METADATA_LIMIT, Repository};

use super::super::monitor::{Counter, Monitor};
use super::damage::{Ledger, damage_only};

/// Blobs are read together up to this many bytes.
const SEGMENT: u64 = 8 << 20;
/// Packfiles read at a time.
const PACKS: usize = 2;
const REMOTE_PACKS: usize = 4;
/// The most an index may decode to.
const INDEX_LIMIT: usize = 1 << 30;

/// Verifies packfiles.
pub(super) struct PackChecker<'a> {
    pub(super) repository: &'a Repository,
    pub(super) verified: &'a KnownSet,
    pub(super) ledger: &'a Ledger,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) cancel: &'a Cancel,
    pub(super) unsound: Mutex<Unsound>,
}

/// Packfiles that are not what they should be.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(in super::super) struct Unsound {
    /// Something in them is damaged.
    pub(in super::super) damaged: BTreeSet<Id>,
    /// They are not there.
    pub(in super::super) missing: BTreeSet<Id>,
}

/// Reads packfiles whole, as a check does, and returns those that are not sound.
pub(in super::super) fn unsound(
    repository: &Repository,
    packs: &[Id],
    monitor: &dyn Monitor,
    cancel: &Cancel,
) -> Result<Unsound, Error> {
    let (verified, ledger) = (KnownSet::new(repository.spills()), Ledger::default());
    let checker = PackChecker {
        repository,
        verified: &verified,
        ledger: &ledger,
        monitor,
        cancel,
        unsound: Mutex::default(),
    };
    checker.these(packs)?;
    Ok(checker.unsound.into_inner().unwrap_or_else(PoisonError::into_inner))
}

impl PackChecker<'_> {
    /// Verifies all packfiles that the states know, but those that are coloured: nothing needs what they hold, or it is
    /// read where it is needed.
    pub(super) fn all(&self) -> Result<u64, Error> {
        let catalogue = self.repository.catalogue();
        let packs: Vec<Id> = catalogue.known_packs().filter(|id| catalogue.is_live_pack(*id)).collect();
        self.these(&packs)
    }

    fn these(&self, packs: &[Id]) -> Result<u64, Error> {
        let mut sizes = std::collections::HashMap::new();
        let archive = self.repository.storage().is_archive();
        self.repository.storage().list(Kind::Packfile, &mut |listed| {
            sizes.insert(listed.id, listed.size);
        })?;
        // Bytes are counted as they lie there, which is what has to be read.
        self.monitor.expect(Counter::Bytes, packs.iter().filter_map(|id| sizes.get(id)).sum());
        let next = AtomicUsize::new(0);
        let failure: Mutex<Option<Error>> = Mutex::new(None);
        let threads = if self.repository.storage().is_remote() { REMOTE_PACKS } else { PACKS };
        std::thread::scope(|scope| {
            for _ in 0..threads.min(packs.len()) {
                scope.spawn(|| {
                    while let Some(id) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        // An archive has one packfile, whatever its state calls it.
                        let size = if archive { sizes.values().next() } else { sizes.get(id) };
                        if let Err(error) = self.one(*id, size.copied()) {
                            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                            next.store(packs.len(), Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(packs.len() as u64),
        }
    }

    fn one(&self, id: Id, size: Option<u64>) -> Result<(), Error> {
        let what = format!("packfile {id}");
        let Some(size) = size else {
            self.ledger.add_message(&what, "it is missing from the store".into());
            self.note(|unsound| unsound.missing.insert(id));
            return Ok(());
        };
        if let Err(error) = damage_only(self.read(id, size, &what))? {
            self.ledger.add(&what, &error);
            self.note(|unsound| unsound.damaged.insert(id));
        }
        Ok(())
    }

    fn note(&self, note: impl FnOnce(&mut Unsound) -> bool) {
        note(&mut self.unsound.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn range(&self, id: Id, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        let length =
            usize::try_from(length).map_err(|_| Error::malformed("a range", "longer than memory"))?;
        let mut bytes = Vec::with_capacity(length.min(64 << 20));
        let storage = self.repository.storage();
        storage.read_range(Kind::Packfile, id, offset, length, &mut |read| bytes.extend_from_slice(read))?;
        Ok(bytes)
    }

    /// Reads a packfile of `size` bytes in order.
    fn read(&self, id: Id, size: u64, what: &str) -> Result<(), Error> {
        let around = (HEADER_LEN + TRAILER_LEN + FOOTER_LENGTH_LEN) as u64;
        let payload_len = size
            .checked_sub((HEADER_LEN + TRAILER_LEN) as u64)
            .filter(|_| size >= around)
            .ok_or_else(|| Error::malformed(what, "shorter than its wrapper"))?;
        let (footer, mut index) = self.index(id, payload_len, what)?;
        index.sort_unstable_by_key(|record| record.offset);
        let header = self.range(id, 0, HEADER_LEN as u64)?;
        let header: [u8; HEADER_LEN] = header.try_into().expect("as long as asked for");
        let version = parse_header(&header, Resource::Packfile)?;
        if version > Version::V1_0_0 {
            let newest = Version::V1_0_0.to_string();
            return Err(Error::Version { what: what.to_owned(), found: version.to_string(), newest });
        }
        let mut hasher = self.repository.keys().trailers().hasher();
        hasher.update(&header);
        let mut rest = index.as_slice();
        let mut at = 0;
        while at < footer.index_offset {
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let (records, end) = segment(&mut rest, at, footer.index_offset);
            let bytes = self.range(id, HEADER_LEN as u64 + at, end - at)?;
            rayon::join(
                || {
                    hasher.update(&bytes);
                },
                || records.par_iter().for_each(|record| self.blob(record, &bytes, at, id)),
            );
            at = end;
        }
        let end = self.range(id, HEADER_LEN as u64 + at, size - HEADER_LEN as u64 - at)?;
        let (end, trailer) = end.split_last_chunk::<TRAILER_LEN>().expect("longer than a trailer");
        hasher.update(end);
        let found = hasher.finish();
        if found.0 != *trailer {
            return Err(Error::corrupt(what, Id(*trailer), found));
        }
        Ok(())
    }

    fn index(&self, id: Id, payload_len: u64, what: &str) -> Result<(Footer, Vec<IndexRecord>), Error> {
        let header = HEADER_LEN as u64;
        let last =
            self.range(id, header + payload_len - FOOTER_LENGTH_LEN as u64, FOOTER_LENGTH_LEN as u64)?;
        let tail = Tail::locate(payload_len, last.try_into().expect("as long as asked for"))?;
        let footer = self.range(id, header + tail.footer_offset, u64::from(tail.footer_length))?;
        let encoding = self.repository.encoding();
        let footer = Footer::decode(&encoding.decode(Item::footer(), &footer, METADATA_LIMIT, what)?)?;
        let length = tail.index_length(&footer)?;
        let index = self.range(id, header + footer.index_offset, length)?;
        let limit = usize::try_from(footer.index_len()).unwrap_or(usize::MAX).min(INDEX_LIMIT);
        let index = encoding.decode(Item::index(), &index, limit, what)?;
        let mac = self.repository.keys().id(&index);
        if mac != footer.index_mac {
            return Err(Error::corrupt(format!("the index of {what}"), footer.index_mac, mac));
        }
        let records = decode_index(&index, &footer)?;
        Ok((footer, records))
    }

    /// Verifies one blob in a segment of the blob area that begins at `start`.
    fn blob(&self, record: &IndexRecord, bytes: &[u8], start: u64, pack: Id) {
        self.monitor.count(Counter::Bytes, u64::from(record.length));
        if record.kind == BlobType::RANDOM {
            return;
        }
        let what = || format!("{} {}", record.kind, record.id);
        let from = usize::try_from(record.offset - start).unwrap_or(usize::MAX);
        let result = bytes
            .get(from..)
            .and_then(|rest| rest.get(..record.length as usize))
            .ok_or_else(|| Error::malformed(&what(), "it lies outside of its packfile"))
            .and_then(|stored| self.repository.decode(record.kind, &record.id, stored, METADATA_LIMIT));
        match result {
            // A blob whose other copy is damaged is whole all the same, so only what is whole is noted.
            Ok(_) => {
                let _ = self.verified.insert(record.kind, record.id);
                self.monitor.count(Counter::Blobs, 1);
            }
            Err(error) => {
                let message = super::super::monitor::message_of(&error);
                self.ledger.add_message(&what(), format!("{message} (in packfile {pack})"));
                self.note(|unsound| unsound.damaged.insert(pack));
            }
        }
    }
}

/// Splits off the records that are read together, from `at` on; returns them and where the segment ends.
fn segment<'a>(rest: &mut &'a [IndexRecord], at: u64, area: u64) -> (&'a [IndexRecord], u64) {
    let mut count = 0;
    let mut end = at;
    while let Some(record) = rest.get(count) {
        let record_end = record.offset.saturating_add(u64::from(record.length)).min(area);
        if count > 0 && record_end.saturating_sub(at) > SEGMENT {
            break;
        }
        end = end.max(record_end);
        count += 1;
    }
    let (taken, left) = rest.split_at(count);
    *rest = left;
    // What no record covers is read as well: it counts for the trailer.
    if left.is_empty() {
        end = area.min(end.max(at) + SEGMENT).max(end);
    }
    (taken, end.max(at + 1).min(area))
}
