//! What a session needs of what the store held before it: blobs it did not store because they were there.
//!
//! While the session holds its lock, maintenance leaves these alone. Should the lock lapse (the machine slept, the
//! network was gone), maintenance may have run and coloured their packfiles; then every one of them is looked for
//! again, and what has no live place any more is sent anew before the commit.
//!
//! Why a list on disk and not a set: it is read once in a blue moon, and written by every run. It grows by 33 bytes
//! a blob, sorted and without repetitions per 64 Ki blobs, and costs 2 MiB of memory.

use std::sync::{Arc, Mutex, PoisonError};

use crate::base::Id;
use crate::base::spill::{SpillDir, SpillWriter};
use crate::format::blob::BlobType;

use super::blob::BlobSource as _;
use super::error::Error;
use super::fetch::Window;
use super::repository::Repository;

/// Id and type.
const KEY: usize = Id::LEN + 1;
/// Keys in memory.
const IN_MEMORY: usize = 1 << 16;
/// Objects looked into at once.
const BATCH: usize = 1024;

type Key = [u8; KEY];

/// The list in the making.
#[derive(Debug)]
pub(super) struct Relied {
    spills: SpillDir,
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    open: Vec<Key>,
    full: Option<SpillWriter>,
}

/// Takes a lost blob: its type, id and content.
pub(super) type Resend<'a> = &'a mut dyn FnMut(BlobType, Id, &[u8]) -> Result<(), Error>;

/// Where lost blobs are looked for.
pub(super) struct Search<'a> {
    pub(super) repository: &'a Arc<Repository>,
    /// Tells whether a blob has a live place.
    pub(super) is_held: &'a dyn Fn(BlobType, &Id) -> Result<bool, Error>,
}

impl Relied {
    pub(super) fn new(spills: &SpillDir) -> Self {
        Self { spills: spills.clone(), list: Mutex::default() }
    }

    /// Adds a blob; an object stands for its chunks, too.
    pub(super) fn add(&self, kind: BlobType, id: &Id) -> Result<(), Error> {
        let mut key = [0; KEY];
        key[..Id::LEN].copy_from_slice(id.as_bytes());
        key[Id::LEN] = kind.0;
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.open.push(key);
        if list.open.len() < IN_MEMORY { Ok(()) } else { list.flush(&self.spills) }
    }

    /// Passes every blob that has no live place any more, chunks of objects included, to `resend`.
    ///
    /// # Errors
    /// [`Error::Overtaken`] when a lost blob cannot be read any more.
    pub(super) fn each_lost(&self, search: &Search<'_>, resend: Resend<'_>) -> Result<(), Error> {
        let full = {
            let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
            list.flush(&self.spills)?;
            list.full.take()
        };
        let Some(full) = full else { return Ok(()) };
        // Kept for another lapse: a record that is read is written again.
        let mut again = self.spills.create()?;
        let mut objects = Vec::with_capacity(BATCH);
        let mut records = full.finish()?.forward();
        while let Some(record) = records.next()? {
            again.push(&[record])?;
            for key in record.as_chunks::<KEY>().0 {
                let (id, kind) =
                    (Id(*key.first_chunk().expect("a key begins with an id")), BlobType(key[Id::LEN]));
                if kind == BlobType::OBJECT {
                    objects.push(id);
                    if objects.len() == BATCH {
                        search.objects(&objects, resend)?;
                        objects.clear();
                    }
                } else {
                    search.blob(kind, id, resend)?;
                }
            }
        }
        search.objects(&objects, resend)?;
        self.list.lock().unwrap_or_else(PoisonError::into_inner).full = Some(again);
        Ok(())
    }
}

impl List {
    fn flush(&mut self, spills: &SpillDir) -> Result<(), Error> {
        if self.open.is_empty() {
            return Ok(());
        }
        self.open.sort_unstable();
        self.open.dedup();
        let full = match &mut self.full {
            Some(full) => full,
            none => none.insert(spills.create()?),
        };
        full.push(&[self.open.as_flattened()])?;
        self.open.clear();
        Ok(())
    }
}

impl Search<'_> {
    fn blob(&self, kind: BlobType, id: Id, resend: Resend<'_>) -> Result<(), Error> {
        if (self.is_held)(kind, &id)? {
            return Ok(());
        }
        // The catalogue was loaded anew: it still knows coloured packfiles, and their content is there to be read.
        match self.repository.get(kind, &id) {
            Ok(plain) => resend(kind, id, &plain),
            Err(error) if error.is_damage() => Err(Error::Overtaken),
            Err(error) => Err(error),
        }
    }

    fn objects(&self, ids: &[Id], resend: Resend<'_>) -> Result<(), Error> {
        let catalogue = self.repository.catalogue();
        let mut places = Vec::with_capacity(ids.len());
        for id in ids {
            places.push(catalogue.find_any(BlobType::OBJECT, id)?.first().copied());
        }
        let remote = self.repository.storage().is_remote();
        let wanted = places.iter().flatten().copied().filter(|_| remote).collect();
        let fetched = Window::fetch(self.repository, wanted);
        for (id, place) in ids.iter().zip(&places) {
            self.blob(BlobType::OBJECT, *id, resend)?;
            for chunk in fetched.object(self.repository, id, place.as_ref())?.chunks {
                self.blob(BlobType::CHUNK, chunk.id, resend)?;
            }
        }
        Ok(())
    }
}
