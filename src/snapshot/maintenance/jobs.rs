//! Blobs to be read, in the order in which they lie.

use crate::base::Id;
use crate::base::sort::{ByteOrder, Sorter};
use crate::format::blob::BlobType;
use crate::store::{Catalogue, Error, Place, Repository, Window};

/// Blobs read together, in bytes.
const TOGETHER: u64 = 8 << 20;

/// A blob and where it is to be read.
pub(in super::super) type Job = (BlobType, Id, Place);

/// Blobs to be read, sorted by packfile and offset.
#[derive(Debug)]
pub(in super::super) struct Jobs<'a> {
    repository: &'a Repository,
    catalogue: &'a Catalogue,
    sorter: Sorter<ByteOrder>,
}

impl<'a> Jobs<'a> {
    /// Starts without a blob; at most about `memory` bytes are held.
    pub(in super::super) fn new(repository: &'a Repository, catalogue: &'a Catalogue, memory: u64) -> Self {
        let memory = usize::try_from(memory).unwrap_or(usize::MAX);
        Self { repository, catalogue, sorter: Sorter::new(ByteOrder, repository.spills(), memory) }
    }

    pub(in super::super) fn push(&mut self, kind: BlobType, id: &Id, place: &Place) -> Result<(), Error> {
        let mut key = [0; 12];
        key[..4].copy_from_slice(&place.pack.swap_bytes().to_le_bytes());
        key[4..].copy_from_slice(&place.offset.swap_bytes().to_le_bytes());
        self.sorter.push_parts(&key, &[&[kind.0], id.as_bytes(), &place.length.to_le_bytes()])?;
        Ok(())
    }

    /// Passes every blob to `each`, with its stored bytes where they were fetched already.
    pub(in super::super) fn run(
        self,
        mut each: impl FnMut(&Job, Option<&[u8]>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut sorted = self.sorter.finish()?;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        loop {
            let job = sorted.next()?.and_then(|(key, value)| parse(self.catalogue, key, value));
            if job.is_none() || bytes >= TOGETHER {
                let window = if self.repository.storage().is_remote() {
                    Window::fetch(self.repository, batch.iter().map(|(.., place): &Job| *place).collect())
                } else {
                    Window::default()
                };
                batch.drain(..).try_for_each(|job| each(&job, window.get(&job.2)))?;
                bytes = 0;
            }
            let Some(job) = job else { return Ok(()) };
            bytes += u64::from(job.2.length);
            batch.push(job);
        }
    }
}

fn parse(catalogue: &Catalogue, key: &[u8], value: &[u8]) -> Option<Job> {
    let pack = u32::from_le_bytes(*key.first_chunk()?).swap_bytes();
    let offset = u64::from_le_bytes(*key.last_chunk()?).swap_bytes();
    let (kind, rest) = value.split_first()?;
    let length = u32::from_le_bytes(*rest.last_chunk()?);
    let packfile = catalogue.pack_id(pack as usize);
    Some((BlobType(*kind), Id(*rest.first_chunk()?), Place { pack, packfile, offset, length }))
}
