//! Reading an archive through its quick index.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::Id;
use crate::base::spill::SpillDir;
use crate::connector::{Kind, Storage};
use crate::crypto::seal::Item;
use crate::format::blob::BlobType;
use crate::format::ptar::STATE_ID;
use crate::format::quick::{
    Copy, FOOTER_LEN, FRAME_LEN, Footer, MAX_DECODED, Part, QuickPlace, Root, decode_places, fingerprint,
    max_places_len,
};
use crate::format::wrapper::{HEADER_LEN, TRAILER_LEN};

use super::super::catalogue::{Catalogue, Source, Tables, load};
use super::super::encoding::Encoding;
use super::super::error::Error;
use super::super::keys::Keys;
use super::write::{footer_mac, mac};

/// The longest root that is read, encoded, in bytes.
const MAX_ROOT: u32 = 16 << 20;
/// Local archives with more places than this are opened through tables on disk, which stay between runs.
const LOCAL_PLACES: u64 = 1 << 20;

/// Copies of blobs, by type and id.
type Copies = HashMap<(BlobType, Id), Vec<u8>>;

/// What a quick index is read from, and the state behind it.
#[derive(Clone, Debug)]
pub(in super::super) struct Origin {
    pub(in super::super) storage: Arc<dyn Storage>,
    pub(in super::super) keys: Arc<Keys>,
    pub(in super::super) encoding: Arc<Encoding>,
    pub(in super::super) spills: SpillDir,
}

impl Origin {
    /// Returns what states are read from, without a cache.
    pub(in super::super) fn source(&self) -> Source<'_> {
        Source {
            storage: self.storage.as_ref(),
            keys: &self.keys,
            encoding: &self.encoding,
            spills: &self.spills,
            cache: None,
            afresh: false,
            tables: Tables::Cache,
            memory: None,
        }
    }
}

/// An archive's quick index.
#[derive(Debug)]
pub(in super::super) struct Quick {
    origin: Origin,
    root: Root,
    footer: Footer,
    /// Where the encoded places begin in the state resource; the copies follow them.
    at: u64,
    headers: Copies,
    /// What is read when the first blob is looked for.
    rest: Mutex<Option<Arc<Rest>>>,
}

/// The larger part of a quick index, or what stands in for it.
#[derive(Debug)]
enum Rest {
    Index {
        copies: Copies,
        /// By fingerprint.
        places: Vec<QuickPlace>,
    },
    /// The index is damaged, or there are too many places: all of the state.
    State(Box<Catalogue>),
}

/// Returns the footer of a state resource of `size` bytes, if it has a quick index.
fn footer(storage: &dyn Storage, id: Id, size: u64) -> Result<Option<Footer>, Error> {
    let around = (HEADER_LEN + TRAILER_LEN) as u64;
    let Some(at) = size.checked_sub((FOOTER_LEN + TRAILER_LEN) as u64) else { return Ok(None) };
    let mut bytes = [0; FOOTER_LEN];
    storage.read_range(Kind::State, id, at, FOOTER_LEN, &mut |read| bytes.copy_from_slice(read))?;
    Ok(Footer::decode(&bytes).filter(|footer| footer.total() <= size.saturating_sub(around)))
}

/// Returns how many bytes of the payload of a state resource of `size` bytes are its quick index.
pub(in super::super) fn length(storage: &dyn Storage, id: Id, size: u64) -> Result<u64, Error> {
    if !storage.is_archive() {
        return Ok(0);
    }
    Ok(footer(storage, id, size)?.map_or(0, |footer| footer.total()))
}

impl Quick {
    /// Opens the quick index of an archive; `None` when it has none, or none that is worth using.
    ///
    /// An error says that the archive could not be read; damage is no error here.
    pub(in super::super) fn open(origin: Origin) -> Result<Option<Self>, Error> {
        let storage = origin.storage.as_ref();
        if !storage.is_archive() {
            return Ok(None);
        }
        let size = storage.size(Kind::State, STATE_ID)?;
        let Some(footer) = footer(storage, STATE_ID, size)?.filter(|footer| footer.root <= MAX_ROOT) else {
            return Ok(None);
        };
        let end = size - (FOOTER_LEN + TRAILER_LEN) as u64;
        let mut encoded = Vec::new();
        let length = footer.root as usize;
        storage.read_range(Kind::State, STATE_ID, end - u64::from(footer.root), length, &mut |read| {
            encoded.extend_from_slice(read);
        })?;
        let at = end + FOOTER_LEN as u64 - footer.total() + FRAME_LEN as u64;
        let Some(mut root) = decode_root(&origin, &footer, &encoded) else { return Ok(None) };
        if root.place_count > LOCAL_PLACES && !storage.is_remote() {
            return Ok(None);
        }
        let headers = by_id(std::mem::take(&mut root.copies));
        Ok(Some(Self { origin, root, footer, at, headers, rest: Mutex::default() }))
    }

    /// Returns the ids of the snapshots.
    pub(in super::super) fn snapshots(&self) -> impl Iterator<Item = Id> + '_ {
        self.root.snapshots.iter().map(|snapshot| snapshot.id)
    }

    /// Returns a copy of a blob, verified, if there is one.
    pub(in super::super) fn copy(&self, kind: BlobType, id: &Id) -> Result<Option<Vec<u8>>, Error> {
        let verified = |plain: &Vec<u8>| {
            let right = !kind.is_named_by_mac() || self.origin.keys.id(plain) == *id;
            right.then(|| plain.clone())
        };
        if let Some(plain) = self.headers.get(&(kind, *id)) {
            return Ok(verified(plain));
        }
        if kind == BlobType::SNAPSHOT {
            return Ok(None);
        }
        match &*self.rest()? {
            Rest::Index { copies, .. } => Ok(copies.get(&(kind, *id)).and_then(verified)),
            Rest::State(_) => Ok(None),
        }
    }

    /// Passes every place where a blob may be to `each`: offset and encoded length. Nearly always there is one, and
    /// it is the right one.
    pub(in super::super) fn find(
        &self,
        kind: BlobType,
        id: &Id,
        each: &mut dyn FnMut(u64, u32),
    ) -> Result<(), Error> {
        if kind == BlobType::SNAPSHOT {
            let found = self.root.snapshots.iter().filter(|snapshot| snapshot.id == *id);
            found.for_each(|snapshot| each(snapshot.offset, snapshot.length));
            return Ok(());
        }
        match &*self.rest()? {
            Rest::Index { places, .. } => {
                let wanted = fingerprint(kind, id);
                let from = places.partition_point(|place| place.fingerprint < wanted);
                let same = places[from..].iter().take_while(|place| place.fingerprint == wanted);
                same.for_each(|place| each(place.offset, place.length));
            }
            Rest::State(catalogue) => {
                catalogue.find_any(kind, id)?.iter().for_each(|place| each(place.offset, place.length));
            }
        }
        Ok(())
    }

    /// Reads places and copies, in one request, when that was not done yet.
    fn rest(&self) -> Result<Arc<Rest>, Error> {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rest) = &*rest {
            return Ok(Arc::clone(rest));
        }
        let read = match self.read_rest()? {
            Some(read) => read,
            None => Rest::State(Box::new(self.read_state()?)),
        };
        Ok(Arc::clone(rest.insert(Arc::new(read))))
    }

    /// Returns `None` when there are no places, or what is there does not verify.
    fn read_rest(&self) -> Result<Option<Rest>, Error> {
        let Origin { storage, keys, encoding, .. } = &self.origin;
        if self.root.place_count == 0 {
            return Ok(None);
        }
        let (first, second) = (self.footer.places as usize, self.footer.copies as usize);
        // What does not compress grows a little, and sealing adds to it.
        let most = |plain: usize| plain + plain / 8 + (64 << 10);
        if first > most(max_places_len(self.root.place_count)) || second > most(MAX_DECODED) {
            return Ok(None);
        }
        let mut encoded = Vec::new();
        storage.read_range(Kind::State, STATE_ID, self.at, first + second, &mut |read| {
            encoded.extend_from_slice(read);
        })?;
        let Some((places, copies)) = encoded.split_at_checked(first) else { return Ok(None) };
        if mac(keys, Part::Places, places) != self.root.places_mac
            || mac(keys, Part::Copies, copies) != self.root.copies_mac
        {
            return Ok(None);
        }
        let decode = |part: Part, stored: &[u8], limit| {
            encoding.decode(Item::quick(part.number(), STATE_ID), stored, limit, "the quick index").ok()
        };
        let count = self.root.place_count;
        let places = decode(Part::Places, places, max_places_len(count))
            .and_then(|plain| decode_places(&plain, count, self.root.area).ok());
        let copies =
            decode(Part::Copies, copies, MAX_DECODED).and_then(|plain| Copy::decode_all(&plain).ok());
        let (Some(mut places), Some(copies)) = (places, copies) else { return Ok(None) };
        places.sort_unstable();
        Ok(Some(Rest::Index { copies: by_id(copies), places }))
    }

    /// Reads the whole state behind the index.
    pub(in super::super) fn read_state(&self) -> Result<Catalogue, Error> {
        let (catalogue, mut damaged) = load(&self.origin.source())?;
        damaged.pop().map_or(Ok(catalogue), |damaged| Err(damaged.error))
    }
}

fn by_id(copies: Vec<Copy>) -> Copies {
    copies.into_iter().map(|copy| ((copy.kind, copy.id), copy.plain)).collect()
}

/// Verifies and decodes a root.
fn decode_root(origin: &Origin, footer: &Footer, encoded: &[u8]) -> Option<Root> {
    if footer_mac(&origin.keys, footer, encoded) != footer.mac {
        return None;
    }
    let item = Item::quick(Part::Root.number(), STATE_ID);
    let plain = origin.encoding.decode(item, encoded, MAX_DECODED, "the quick index").ok()?;
    let root = Root::decode(&plain).ok()?;
    // Without any snapshot there is nothing quick about it.
    (!root.snapshots.is_empty()).then_some(root)
}
