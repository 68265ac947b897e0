//! What a store's writer and an archive's writer have in common.

use crate::base::Id;
use crate::base::spill::SpillDir;
use crate::format::blob::BlobType;
use crate::format::object::ChunkRef;

use super::blob::{BlobSink, Lane};
use super::encoding::Encoding;
use super::error::Error;

/// What a session stored.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct WriterStats {
    /// Blobs that were new.
    pub blob_count: u64,
    /// Their bytes before encoding.
    pub plain_bytes: u64,
    /// Their bytes after encoding.
    pub stored_bytes: u64,
    /// Packfiles put.
    pub packfile_count: u64,
    /// Bytes of packfiles put, padding and indexes included.
    pub packfile_bytes: u64,
}

/// Appends an encoded blob to its argument and returns the length before encoding. Called for new blobs only.
pub type Encode<'a> = dyn FnMut(&mut Vec<u8>) -> Result<usize, Error> + 'a;

/// A session that adds blobs to a store or an archive.
pub trait Session: BlobSink + std::fmt::Debug {
    /// Stores a blob under an id computed by the caller unless it is known; `encode` makes its encoded bytes.
    /// Returns whether it was new.
    fn put_encoded(&self, kind: BlobType, id: Id, lane: Lane, encode: &mut Encode<'_>)
    -> Result<bool, Error>;

    /// Records that everything an entry refers to was put, so that an interrupted run can be taken up again.
    fn covered(&self, path: &[u8], entry: &[u8]) -> Result<(), Error> {
        let _ = (path, entry);
        Ok(())
    }

    /// Notes that no more contents come: what holds them need not wait for what is still to be put.
    fn end_contents(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Returns whether this session has put a blob that was new, or is about to.
    fn has_put(&self, kind: BlobType, id: &Id) -> Result<bool, Error>;

    /// Returns whether the target held a blob, in a packfile that is really there, before this session.
    fn holds(&self, kind: BlobType, id: &Id) -> Result<bool, Error> {
        let _ = (kind, id);
        Ok(false)
    }

    /// Returns whether the target holds all these chunks, as [`holds`](Self::holds) has it.
    fn holds_all(&self, chunks: &[ChunkRef]) -> Result<bool, Error> {
        for chunk in chunks {
            if !self.holds(BlobType::CHUNK, &chunk.id)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Notes that what will be committed needs a blob, and what that refers to, which the target held before.
    fn rely(&self, kind: BlobType, id: &Id) -> Result<(), Error> {
        let _ = (kind, id);
        Ok(())
    }

    /// Returns whether states, packfiles or single blobs are missing, so that what an earlier snapshot refers to need not be
    /// there.
    fn lost_packfiles(&self) -> bool {
        false
    }

    /// Returns whether everything that any state ever named is there and counts: nothing was coloured, deleted or lost,
    /// so that what was in the target once still is.
    fn is_intact(&self) -> bool {
        false
    }

    /// Returns the encoding of the target.
    fn encoding(&self) -> &Encoding;

    /// Returns where temporary files go.
    fn spills(&self) -> &SpillDir;

    /// Returns whether only we can read the target.
    fn is_ours_alone(&self) -> bool;

    /// Returns what was stored so far.
    fn stats(&self) -> WriterStats;
}
