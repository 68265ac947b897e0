//! Copying blobs into new packfiles, as they are stored.

use crate::base::Id;
use crate::connector::Purpose;
use crate::crypto::random;
use crate::crypto::seal::Item;
use crate::format::blob::BlobType;

use super::super::blob::Lane;
use super::super::catalogue::Place;
use super::super::error::Error;
use super::super::packer::{OpenPack, Padding, StoredPack};
use super::super::repository::{METADATA_LIMIT, Repository};
use super::changes::Changes;

/// Takes blobs of a store and writes them to new packfiles of that store.
#[derive(Debug)]
pub struct PackCopy<'a> {
    repository: &'a Repository,
    data: Vec<Option<OpenPack>>,
    metadata: Option<OpenPack>,
    /// New packfiles, and what they hold in all, in bytes.
    packs: u64,
    bytes: u64,
}

impl<'a> PackCopy<'a> {
    /// Starts without a packfile.
    pub fn new(repository: &'a Repository) -> Self {
        // As a session has them: in encrypted stores neighbours in a packfile tell little.
        let lanes = if repository.is_encrypted() { 2 } else { 1 };
        let data = (0..lanes).map(|_| None).collect();
        Self { repository, data, metadata: None, packs: 0, bytes: 0 }
    }

    /// Copies one blob from a place: its stored bytes, once they are verified, taken from `ahead` where they were
    /// fetched already. Full packfiles are put and noted in `changes`.
    ///
    /// # Errors
    /// Damage when the blob at that place is not what its id says; nothing is copied then.
    pub fn copy(
        &mut self,
        kind: BlobType,
        id: Id,
        place: &Place,
        ahead: Option<&[u8]>,
        lane: Lane,
        changes: &mut Changes,
    ) -> Result<(), Error> {
        let repository = self.repository;
        let whole = |stored: &[u8]| repository.decode(kind, &id, stored, METADATA_LIMIT).map(drop);
        let stored = if let Some(stored) = ahead.filter(|stored| whole(stored).is_ok()) {
            stored.to_vec()
        } else {
            let mut stored = Vec::with_capacity(place.length as usize);
            repository.with_stored(place, &mut |bytes| stored.extend_from_slice(bytes))?;
            whole(&stored)?;
            stored
        };
        self.append(kind, id, &stored, lane, changes)
    }

    /// Adds a blob that was not stored before.
    pub fn add(&mut self, kind: BlobType, id: Id, plain: &[u8], changes: &mut Changes) -> Result<(), Error> {
        let mut stored = Vec::new();
        self.repository.encoding().encode(Item::blob(kind.0, id), plain, &mut stored)?;
        self.append(kind, id, &stored, Lane::Metadata, changes)
    }

    fn append(
        &mut self,
        kind: BlobType,
        id: Id,
        stored: &[u8],
        lane: Lane,
        changes: &mut Changes,
    ) -> Result<(), Error> {
        let (slot, purpose) = match lane {
            Lane::Data => {
                let lane = random::below(self.data.len() as u64);
                (&mut self.data[usize::try_from(lane).expect("a small number")], Purpose::Content)
            }
            Lane::Metadata | Lane::Tree => (&mut self.metadata, Purpose::Metadata),
        };
        let mut pack = match slot.take() {
            Some(pack) => pack,
            None => OpenPack::new(self.repository.storage().as_ref(), self.repository.padding(), purpose)?,
        };
        pack.append(kind, id, stored)?;
        if !pack.is_full(self.repository.config().packfile.max) {
            *slot = Some(pack);
            return Ok(());
        }
        self.put(pack, false, changes)
    }

    /// Puts what is open; returns the number of packfiles put and their bytes.
    pub fn finish(mut self, changes: &mut Changes) -> Result<(u64, u64), Error> {
        let open: Vec<OpenPack> = self.data.drain(..).chain([self.metadata.take()]).flatten().collect();
        for pack in open {
            self.put(pack, true, changes)?;
        }
        Ok((self.packs, self.bytes))
    }

    fn put(&mut self, pack: OpenPack, last: bool, changes: &mut Changes) -> Result<(), Error> {
        let padding = match self.repository.padding() {
            Padding::Rounded { .. } => Padding::Rounded { last },
            other => other,
        };
        let (keys, encoding) = (self.repository.keys(), self.repository.encoding());
        let storage = self.repository.storage().as_ref();
        let stored: StoredPack = pack.finish(storage, keys, encoding, padding, &mut Vec::new())?;
        stored.locations().try_for_each(|location| changes.add_location(location))?;
        changes.add_packfile(stored.id, stored.created.unix_nanos());
        self.packs += 1;
        self.bytes += stored.bytes;
        Ok(())
    }
}
