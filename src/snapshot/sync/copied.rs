//! What was copied of a store so far, and what of that may be taken for granted.
//!
//! Snapshots are committed one by one, each under a lock of its own: between two of them somebody may remove the one
//! before, and maintenance may delete what it brought. So a blob that an earlier session copied is asked for before
//! anything refers to it again.
//!
//! Why that is not enough for objects: maintenance decides on packfiles, and an object may outlive its chunks in one
//! that something else needs. Looking after every chunk would mean reading every object again, so it is done only once
//! some packfile was lost since the first snapshot.

use std::sync::Arc;

use crate::base::Id;
use crate::base::spill::SpillDir;
use crate::format::blob::BlobType;
use crate::format::object::ChunkRef;
use crate::store::{Catalogue, Error, IdMap, Repository, Session};

/// What became of the chunks and objects of one store in another, or in an archive.
#[derive(Debug)]
pub struct Copied {
    /// Old ids to new ones.
    ids: IdMap,
    /// The target as it was at the last look.
    seen: Option<Arc<Catalogue>>,
    /// Whether no packfile of the target was lost between two looks.
    is_whole: bool,
}

/// What is known of an object that was copied before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// It is there with its chunks: its new id.
    Whole(Id),
    /// It is there, its chunks need not be: its new id.
    Bare(Id),
    /// It was not copied, or is gone.
    Gone,
}

impl Copied {
    /// Begins with nothing.
    pub fn new(spills: &SpillDir) -> Self {
        Self { ids: IdMap::new(spills), seen: None, is_whole: true }
    }

    /// Looks at the target: when a session has begun, and when it was committed.
    pub(super) fn look(&mut self, to: &Repository) {
        let now = to.catalogue();
        let Some(before) = self.seen.replace(Arc::clone(&now)) else { return };
        if self.is_whole && !Arc::ptr_eq(&before, &now) {
            let packs = (0..before.pack_count()).map(|ordinal| before.pack_id(ordinal));
            self.is_whole =
                packs.filter(|pack| before.is_live_pack(*pack)).all(|pack| now.is_live_pack(pack));
        }
    }

    /// Says whether a blob was copied and is there: returns its new id, on which the session then relies.
    pub(super) fn find(&self, to: &dyn Session, kind: BlobType, id: &Id) -> Result<Option<Id>, Error> {
        let Some(new) = self.ids.get(kind, id)? else { return Ok(None) };
        if to.has_put(kind, &new)? {
            return Ok(Some(new));
        }
        if !to.holds(kind, &new)? {
            return Ok(None);
        }
        to.rely(kind, &new)?;
        Ok(Some(new))
    }

    /// Says what there is of an object, on which the session then relies.
    pub(super) fn find_object(&self, to: &dyn Session, id: &Id) -> Result<Standing, Error> {
        let Some(new) = self.find(to, BlobType::OBJECT, id)? else { return Ok(Standing::Gone) };
        let nothing_lost = self.is_whole && !to.lost_packfiles();
        let sure = nothing_lost || to.has_put(BlobType::OBJECT, &new)?;
        Ok(if sure { Standing::Whole(new) } else { Standing::Bare(new) })
    }

    /// Says whether all of these chunks were copied and are there.
    pub(super) fn has_all(&self, to: &dyn Session, chunks: &[ChunkRef]) -> Result<bool, Error> {
        for chunk in chunks {
            if self.find(to, BlobType::CHUNK, &chunk.id)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Notes what a blob became.
    pub(super) fn insert(&self, kind: BlobType, id: &Id, new: &Id) -> Result<(), Error> {
        self.ids.insert(kind, id, new)
    }
}
