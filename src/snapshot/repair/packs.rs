//! Taking damaged packfiles out of use.
//!
//! What is whole in one is copied to new packfiles, unless it is whole in another that stays; a location that does not
//! verify is deleted, so that the next backup stores that blob again; the packfile is coloured, and maintenance deletes
//! it after its grace period. All of that is one state.
//!
//! **What is never given up.** A snapshot's header cannot be made again, and without its location the snapshot would be
//! gone from the list: its location stays whatever it is like, and the packfile with it. In a plaintext store nothing
//! says whether the bytes of a header or a signature are right, so that a copy in a new packfile would pass for whole:
//! they are copied only where the damage was found elsewhere in the packfile. One with something that can neither be
//! copied nor given up is not coloured, and nothing is copied out of it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::base::{Id, RawString};
use crate::connector::{ErrorKind, Kind};
use crate::format::blob::BlobType;
use crate::format::state::Delete;
use crate::store::blob::Lane;
use crate::store::{Catalogue, Changes, Error, METADATA_LIMIT, PackCopy, PackReader, Place, Repository};

use super::super::check::{Unsound, unsound};
use super::super::maintenance::{Job, Jobs};
use super::super::monitor::{Counter, Monitor, Problem, Severity, message_of};
use super::super::retrieval::archived;
use super::run::{RepairOptions, RepairReport};

/// Memory for sorting locations, in bytes.
const MEMORY: u64 = 32 << 20;

/// What reading the packfiles found.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    /// Those that were looked at.
    seen: HashSet<Id>,
    archived: HashSet<Id>,
    unsound: Unsound,
}

impl Suspects {
    /// Reads all live packfiles that were not read yet, as a check does; those in cold storage are left alone.
    pub(super) fn look(
        &mut self,
        repository: &Repository,
        options: &RepairOptions,
        monitor: &dyn Monitor,
    ) -> Result<(), Error> {
        self.archived.extend(archived(repository)?);
        let catalogue = repository.catalogue();
        let live = catalogue.known_packs().filter(|id| catalogue.is_live_pack(*id));
        let new: Vec<Id> = live.filter(|id| !self.archived.contains(id) && !self.seen.contains(id)).collect();
        let Unsound { damaged, missing } = unsound(repository, &new, monitor, &options.cancel)?;
        self.seen.extend(new);
        self.unsound.damaged.extend(damaged);
        self.unsound.missing.extend(missing);
        Ok(())
    }
}

/// Takes packfiles in which something is damaged out of use.
pub(super) struct Renewal<'a> {
    repository: &'a Repository,
    catalogue: &'a Catalogue,
    /// Damaged packfiles by ordinal.
    damaged: BTreeMap<usize, Facts>,
    /// Packfiles that were not read, or are gone.
    unsure: HashSet<Id>,
    options: &'a RepairOptions,
    monitor: &'a dyn Monitor,
}

/// What is found of a damaged packfile.
#[derive(Debug, Default)]
struct Facts {
    size: u64,
    /// It holds trees, entries or objects: what is copied out of it belongs together.
    metadata: bool,
    /// Something in it can neither be copied nor given up.
    stuck: bool,
    /// It holds something that nothing proves to be right, though it can be read.
    unproven: bool,
    /// Locations that do not verify.
    bad: BTreeSet<(u8, Id)>,
}

impl<'a> Renewal<'a> {
    pub(super) fn new(
        repository: &'a Repository,
        catalogue: &'a Catalogue,
        suspects: &Suspects,
        options: &'a RepairOptions,
        monitor: &'a dyn Monitor,
    ) -> Result<Self, Error> {
        let mut damaged = BTreeMap::new();
        let mut missing: BTreeSet<Id> = suspects.unsound.missing.clone();
        missing.extend(&suspects.unsound.damaged);
        repository.storage().list(Kind::Packfile, &mut |listed| {
            missing.remove(&listed.id);
            if suspects.unsound.damaged.contains(&listed.id)
                && let Some(ordinal) = catalogue.pack_ordinal(&listed.id)
            {
                damaged.insert(ordinal, Facts { size: listed.size, ..Facts::default() });
            }
        })?;
        let unsure = suspects.archived.iter().copied().chain(missing).collect();
        Ok(Self { repository, catalogue, damaged, unsure, options, monitor })
    }

    /// Does it, or with nothing to copy to finds out what would be done.
    pub(super) fn run(
        mut self,
        copy: Option<PackCopy<'_>>,
        changes: &mut Changes,
        report: &mut RepairReport,
    ) -> Result<(), Error> {
        if self.damaged.is_empty() {
            return Ok(());
        }
        self.judge(report)?;
        self.copy(copy, changes, report)?;
        for (ordinal, facts) in &self.damaged {
            let id = self.catalogue.pack_id(*ordinal);
            for (kind, blob) in &facts.bad {
                changes.delete(Delete::location(BlobType(*kind), *blob, id));
            }
            report.bad_location_count += facts.bad.len() as u64;
            report.damaged_packs.push(id);
            report.damaged_pack_bytes += facts.size;
            if facts.stuck {
                report.stuck_packs.push(id);
            } else {
                changes.colour_packfile(id, crate::base::Timestamp::now().unix_nanos());
            }
        }
        Ok(())
    }

    fn jobs(&self, wanted: impl Fn(&Facts) -> bool) -> Result<Jobs<'a>, Error> {
        let mut jobs = Jobs::new(self.repository, self.catalogue, MEMORY);
        self.catalogue.scan(&mut |kind, id, place| match self
            .damaged
            .get(&(place.pack as usize))
            .filter(|facts| wanted(facts))
        {
            Some(_) => jobs.push(kind, id, place),
            None => Ok(()),
        })?;
        Ok(jobs)
    }

    /// Reads every location in the damaged packfiles.
    fn judge(&mut self, report: &mut RepairReport) -> Result<(), Error> {
        let jobs = self.jobs(|_| true)?;
        jobs.run(|(kind, id, place), _| {
            if self.options.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let told = kind.is_named_by_mac() || self.repository.is_encrypted();
            let verdict = self.read(*kind, id, place)?;
            let elsewhere = verdict.is_some() && self.is_elsewhere(*kind, id)?;
            let facts = self.damaged.get_mut(&(place.pack as usize)).expect("only those are asked for");
            facts.metadata |= *kind != BlobType::CHUNK;
            match verdict {
                None => facts.unproven |= !told,
                Some(error) => {
                    if *kind == BlobType::SNAPSHOT {
                        facts.stuck |= !elsewhere;
                    } else {
                        facts.bad.insert((kind.0, *id));
                    }
                    if !elsewhere {
                        report.lost_blobs.push((*kind, *id));
                        let message =
                            format!("{kind} {id} in packfile {}: {}", place.packfile, message_of(&error));
                        let (severity, path) = (Severity::Warning, RawString::default());
                        self.monitor.problem(&Problem { severity, path, message, kind: None });
                    }
                }
            }
            Ok(())
        })?;
        // Where it is known what is damaged, the rest is taken for what it was.
        for (ordinal, facts) in
            self.damaged.iter_mut().filter(|(_, facts)| facts.unproven && facts.bad.is_empty())
        {
            let id = self.catalogue.pack_id(*ordinal);
            match PackReader::new(self.repository).index(id, facts.size) {
                Ok(_) => facts.stuck = true,
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Returns what is wrong with a location, if anything is.
    fn read(&self, kind: BlobType, id: &Id, place: &Place) -> Result<Option<Error>, Error> {
        match self.repository.read_at(kind, id, place, METADATA_LIMIT) {
            Ok(_) => Ok(None),
            // Listed a moment ago: that it is gone now says nothing of what it holds.
            Err(Error::Connector(error)) if error.kind == ErrorKind::NotFound => Err(error.into()),
            Err(error) if error.is_damage() => Ok(Some(error)),
            Err(error) => Err(error),
        }
    }

    /// Returns whether a blob has a place in a live packfile that was read whole and found to be sound.
    fn is_elsewhere(&self, kind: BlobType, id: &Id) -> Result<bool, Error> {
        let sound = |place: &Place| {
            !self.damaged.contains_key(&(place.pack as usize)) && !self.unsure.contains(&place.packfile)
        };
        Ok(self.catalogue.find(kind, id)?.iter().any(sound))
    }

    /// Copies what is whole in the damaged packfiles and nowhere else.
    fn copy(
        &self,
        mut copy: Option<PackCopy<'_>>,
        changes: &mut Changes,
        report: &mut RepairReport,
    ) -> Result<(), Error> {
        let mut copied: HashSet<(u8, Id)> = HashSet::new();
        self.jobs(|facts| !facts.stuck)?.run(|(kind, id, place): &Job, ahead| {
            if self.options.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let facts = &self.damaged[&(place.pack as usize)];
            let key = (kind.0, *id);
            if facts.bad.contains(&key) || copied.contains(&key) || self.is_elsewhere(*kind, id)? {
                return Ok(());
            }
            let lane = if facts.metadata { Lane::Metadata } else { Lane::Data };
            if let Some(copy) = copy.as_mut() {
                copy.copy(*kind, *id, place, ahead, lane, changes)?;
            }
            copied.insert(key);
            report.moved_count += 1;
            report.moved_bytes += u64::from(place.length);
            self.monitor.count(Counter::Blobs, 1);
            Ok(())
        })?;
        copy.map_or(Ok(()), |copy| copy.finish(changes).map(drop))
    }
}

/// Notes what else is known: packfiles that are gone or could not be read, blobs that were given up before.
///
/// # Errors
/// That of the local catalogue.
pub(super) fn note_rest(
    repository: &Repository,
    suspects: &Suspects,
    report: &mut RepairReport,
) -> Result<(), Error> {
    let catalogue = repository.catalogue();
    let mut given_up = BTreeSet::new();
    for (kind, id) in catalogue.deleted_blobs() {
        // Headers that were replaced, and journals, are no loss.
        let matters = kind != BlobType::SNAPSHOT && kind != BlobType::JOURNAL;
        if matters && !catalogue.has(kind, &id)? {
            given_up.insert((kind.0, id));
        }
    }
    report.given_up_count = given_up.len() as u64;
    report.missing_packs = suspects.unsound.missing.iter().copied().collect();
    let live = |id: &&Id| catalogue.is_live_pack(**id);
    report.archived_count = suspects.archived.iter().filter(live).count() as u64;
    report.read_packs = true;
    Ok(())
}
