//! Which packfiles must be retrieved.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::{Cancel, Id};
use crate::crypto::MacKey;
use crate::format::blob::BlobType;
use crate::format::entry::Entry;
use crate::format::object::Object;
use crate::format::path::VERSIONS_FOLDER;
use crate::format::snapshot::Source;
use crate::store::blob::BlobSource;
use crate::store::{Error, METADATA_LIMIT, Repository, Window};

use super::super::catalogue::SnapshotInfo;
use super::super::vfs::read::{Vfs, Visit};
use super::cold::ColdPacks;

/// Objects whose chunks are looked up together: bounds what is fetched at once.
const BATCH: usize = 512;

/// What is to be read.
#[derive(Clone, PartialEq, Debug)]
pub struct Target {
    /// The snapshot.
    pub info: SnapshotInfo,
    /// The part of it, absolute and clean; all of it when `None`.
    pub path: Option<Vec<u8>>,
    /// Whether old versions of objects are read, too.
    pub old_versions: bool,
}

/// One packfile that cannot be read yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Planned {
    /// Its id.
    pub id: Id,
    /// Its length in bytes.
    pub size: u64,
    /// Whether its retrieval is under way.
    pub is_ongoing: bool,
    pub(super) ordinal: usize,
}

/// The packfiles that must be retrieved for something.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Plan {
    /// Those that cannot be read yet.
    pub packfiles: Vec<Planned>,
    /// How many more were archived and can be read by now.
    pub ready_count: u64,
}

impl Plan {
    /// Returns whether nothing has to be waited for.
    pub fn is_empty(&self) -> bool {
        self.packfiles.is_empty()
    }

    /// Returns how many packfiles cannot be read yet.
    pub fn count(&self) -> u64 {
        self.packfiles.len() as u64
    }

    /// Returns their length in bytes.
    pub fn bytes(&self) -> u64 {
        self.packfiles.iter().map(|pack| pack.size).sum()
    }

    /// Returns how many of them have yet to be asked for.
    pub fn unrequested_count(&self) -> u64 {
        self.packfiles.iter().filter(|pack| !pack.is_ongoing).count() as u64
    }
}

/// Plans retrievals from one store.
#[derive(Debug)]
pub struct Planner<'a> {
    pub(super) cold: ColdPacks<'a>,
}

impl<'a> Planner<'a> {
    /// Lists the packfiles of a store; `None` where none of them is archived, so that nothing need be planned.
    pub fn open(repository: &'a Repository) -> Result<Option<Self>, Error> {
        Ok(ColdPacks::find(repository)?.map(|cold| Self { cold }))
    }

    /// Plans what must be there before a snapshot can be looked at: every packfile that, by what the states say of its
    /// blobs, holds metadata of which there is no other copy. Nothing in stores written here, unless a lifecycle rule
    /// moved more than what carries the tag of contents.
    pub fn metadata(&self, cancel: &Cancel) -> Result<Plan, Error> {
        let mut needed = vec![false; self.cold.len()];
        let mut result = Ok(());
        self.cold.catalogue.each_blob(&mut |kind, id| {
            let content = matches!(kind, BlobType::CHUNK | BlobType::RANDOM | BlobType::JOURNAL);
            if content || result.is_err() {
                return;
            }
            match self.cold.in_the_way(kind, id, &|pack| needed[pack]) {
                Ok(Some(pack)) => needed[pack] = true,
                Ok(None) => {}
                Err(error) => result = Err(error),
            }
        })?;
        result?;
        self.plan(&needed, cancel)
    }

    /// Plans what must be there before the contents of some snapshots can be read, and whatever of their metadata is
    /// still in the way: where there is such, the plan may be incomplete, and is made again once that is there.
    pub fn contents(&self, targets: &[Target], cancel: &Cancel) -> Result<Plan, Error> {
        let reader = Reader { cold: &self.cold, needed: Mutex::new(vec![false; self.cold.len()]), cancel };
        for target in targets {
            for source in target.info.header.sources() {
                reader.source(source, target)?;
            }
        }
        let needed = reader.needed.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.plan(&needed, cancel)
    }

    /// Plans every packfile of the store.
    pub fn everything(&self, cancel: &Cancel) -> Result<Plan, Error> {
        let mut needed = vec![false; self.cold.len()];
        for id in self.cold.catalogue.known_packs() {
            if let Some(ordinal) = self.cold.catalogue.pack_ordinal(&id) {
                needed[ordinal] = self.cold.size(ordinal) > 0;
            }
        }
        self.plan(&needed, cancel)
    }

    /// Asks which of the needed packfiles can be read by now.
    fn plan(&self, needed: &[bool], cancel: &Cancel) -> Result<Plan, Error> {
        let ordinals: Vec<usize> = (0..needed.len()).filter(|ordinal| needed[*ordinal]).collect();
        self.cold.each(&ordinals, cancel, &|ordinal| self.cold.look(ordinal).map(drop))?;
        let mut plan = Plan::default();
        for ordinal in ordinals {
            if self.cold.is_readable(ordinal)? {
                plan.ready_count += 1;
                continue;
            }
            plan.packfiles.push(Planned {
                id: self.cold.id(ordinal),
                size: self.cold.size(ordinal),
                is_ongoing: self.cold.is_ongoing(ordinal),
                ordinal,
            });
        }
        Ok(plan)
    }
}

/// Reads what can be read, and notes the packfiles of what cannot.
struct Reader<'a> {
    cold: &'a ColdPacks<'a>,
    needed: Mutex<Vec<bool>>,
    cancel: &'a Cancel,
}

impl Reader<'_> {
    fn needed(&self) -> MutexGuard<'_, Vec<bool>> {
        self.needed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a blob cannot be read yet; its packfile is noted then.
    fn is_blocked(&self, kind: BlobType, id: &Id) -> Result<bool, Error> {
        loop {
            let Some(pack) = self.in_the_way(kind, id)? else { return Ok(false) };
            // It may have been retrieved earlier; then another look finds another copy, or none in the way.
            if !self.cold.is_readable(pack)? {
                self.needed()[pack] = true;
                return Ok(true);
            }
        }
    }

    fn in_the_way(&self, kind: BlobType, id: &Id) -> Result<Option<usize>, Error> {
        let needed = self.needed();
        self.cold.in_the_way(kind, id, &|pack| needed[pack])
    }

    fn source(&self, source: &Source, target: &Target) -> Result<(), Error> {
        let vfs = match Vfs::open(self, source) {
            Ok(vfs) => vfs,
            // Damage is told by who reads, not by who plans.
            Err(error) if error.is_damage() => return Ok(()),
            Err(error) => return Err(error),
        };
        let old = [b"/", VERSIONS_FOLDER.as_bytes()].concat();
        let start = target.path.as_deref().unwrap_or(b"/");
        self.below(&vfs, start, (!target.old_versions && !start.starts_with(&old)).then_some(&old))?;
        if target.old_versions && start != b"/" && source.importer.kind == "s3" {
            self.below(&vfs, &old, None)?;
        }
        Ok(())
    }

    fn below(&self, vfs: &Vfs<'_, Self>, start: &[u8], skipped: Option<&Vec<u8>>) -> Result<(), Error> {
        let mut walk = match vfs.walk(start) {
            Ok(walk) => walk,
            Err(error) if error.is_damage() || matches!(error, Error::NoPath { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut batch = Vec::new();
        while let Some(visit) = walk.next() {
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            match visit {
                Ok(Visit::Entry(child)) => {
                    if child.is_dir() && skipped.is_some_and(|skipped| child.path().as_bytes() == skipped) {
                        walk.skip_folder();
                        continue;
                    }
                    self.xattrs(vfs, &child.entry)?;
                    if !child.is_dir() && !child.entry.object.is_zero() {
                        batch.push(child.entry.object);
                    }
                }
                Ok(Visit::Left(_)) => {}
                Err(error) if error.source.is_damage() => {}
                Err(error) => return Err(error.source),
            }
            if batch.len() == BATCH {
                self.objects(&mut batch)?;
            }
        }
        self.objects(&mut batch)
    }

    /// Notes the packfiles of attributes, whose values may be in a packfile of contents that has the same bytes.
    fn xattrs(&self, vfs: &Vfs<'_, Self>, entry: &Entry) -> Result<(), Error> {
        if entry.xattrs.is_empty() {
            return Ok(());
        }
        let items = match vfs.xattrs(entry) {
            Ok(items) => items,
            Err(error) => return damage_only(error),
        };
        for item in items {
            match item.and_then(|item| vfs.object(&item.object)) {
                Ok(object) => self.chunks(&object)?,
                Err(error) => damage_only(error)?,
            }
        }
        Ok(())
    }

    /// Reads objects, neighbours together, and notes the packfiles of their chunks.
    fn objects(&self, batch: &mut Vec<Id>) -> Result<(), Error> {
        batch.sort_unstable();
        batch.dedup();
        let mut places = Vec::new();
        let mut readable = Vec::new();
        for id in batch.drain(..) {
            if !self.is_blocked(BlobType::OBJECT, &id)? {
                readable.push(id);
                places.extend(self.cold.catalogue.find_any(BlobType::OBJECT, &id)?.first().copied());
            }
        }
        let repository = self.cold.repository;
        let window = Window::fetch(repository, places);
        for id in readable {
            let place = self.cold.catalogue.find_any(BlobType::OBJECT, &id)?.first().copied();
            let stored = place.as_ref().and_then(|place| window.get(place));
            let fetched = stored
                .and_then(|stored| repository.decode(BlobType::OBJECT, &id, stored, METADATA_LIMIT).ok());
            let plain = fetched.map_or_else(|| repository.get(BlobType::OBJECT, &id), Ok);
            match plain.and_then(|plain| Ok(Object::decode(&plain)?)) {
                Ok(object) => self.chunks(&object)?,
                Err(error) => damage_only(error)?,
            }
        }
        Ok(())
    }

    fn chunks(&self, object: &Object) -> Result<(), Error> {
        for chunk in &object.chunks {
            // Whether they were retrieved is asked once for each packfile, at the end.
            if let Some(pack) = self.in_the_way(BlobType::CHUNK, &chunk.id)? {
                self.needed()[pack] = true;
            }
        }
        Ok(())
    }
}

impl BlobSource for Reader<'_> {
    fn mac_key(&self) -> &MacKey {
        self.cold.repository.mac_key()
    }

    fn get(&self, kind: BlobType, id: &Id) -> Result<Vec<u8>, Error> {
        if self.is_blocked(kind, id)? {
            return Err(Error::Missing { kind, id: *id });
        }
        self.cold.repository.get(kind, id)
    }

    fn has(&self, kind: BlobType, id: &Id) -> Result<bool, Error> {
        self.cold.repository.has(kind, id)
    }
}

/// Passes over damage, which is told by who reads.
fn damage_only(error: Error) -> Result<(), Error> {
    if error.is_damage() { Ok(()) } else { Err(error) }
}
