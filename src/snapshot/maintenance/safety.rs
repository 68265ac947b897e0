//! What must hold before a packfile may go: everything needed in it was read elsewhere.
//!
//! A copy that a state promises may be damaged. So a packfile that holds something needed is coloured only when a copy
//! that stays was read and decoded in the same run: one in a packfile that stays ([`Safety::verify`]), or the one that
//! was read to be written to a new packfile. [`Safety::losers`] holds every packfile that is to go against that.

use std::collections::{BTreeMap, HashSet};

use crate::base::{Cancel, Id, RawString};
use crate::format::blob::BlobType;
use crate::store::{Error, KnownSet, METADATA_LIMIT, Place, Repository};

use super::super::monitor::{Counter, Monitor, Problem, Severity, message_of};
use super::census::Census;
use super::jobs::{Job, Jobs};

/// Which needed blobs are safe, though packfiles go.
pub(super) struct Safety<'a> {
    pub(super) repository: &'a Repository,
    pub(super) census: &'a Census,
    pub(super) needed: &'a KnownSet,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) cancel: &'a Cancel,
    /// Packfiles in cold storage, which are not read.
    pub(super) archived: &'a HashSet<Id>,
    /// Packfiles that are to be coloured, by ordinal.
    pub(super) going: HashSet<usize>,
    /// Blobs of which a copy that stays was read and decoded.
    pub(super) safe: KnownSet,
    /// Packfiles in which something could not be read, by ordinal, and whether that is damage.
    pub(super) unread: BTreeMap<usize, bool>,
}

impl Safety<'_> {
    /// Returns whether a place is a copy that may be lost: it is live, and in a packfile that is to go.
    fn goes(&self, place: &Place) -> bool {
        self.is_live(place) && self.going.contains(&(place.pack as usize))
    }

    /// Returns whether a place is a copy that is there after this run, and can be read now.
    fn stays(&self, place: &Place) -> bool {
        self.is_live(place)
            && !self.going.contains(&(place.pack as usize))
            && !self.archived.contains(&place.packfile)
    }

    fn is_live(&self, place: &Place) -> bool {
        let pack = &self.census.packs[place.pack as usize];
        pack.known && !pack.coloured && self.census.is_there(place)
    }

    /// Passes every needed blob that a packfile which is to go holds to `each`, with all its copies.
    fn each_at_risk(
        &self,
        mut each: impl FnMut(BlobType, &Id, &[Place]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut last: Option<(BlobType, Id)> = None;
        let mut copies: Vec<Place> = Vec::new();
        let mut settle = |blob: Option<(BlobType, Id)>, copies: &[Place]| match blob {
            Some((kind, id))
                if copies.iter().any(|place| self.goes(place)) && self.needed.contains(kind, &id)? =>
            {
                each(kind, &id, copies)
            }
            _ => Ok(()),
        };
        self.census.catalogue.scan(&mut |kind, id, place| {
            if last != Some((kind, *id)) {
                settle(last, &copies)?;
                copies.clear();
                last = Some((kind, *id));
            }
            copies.push(*place);
            Ok(())
        })?;
        settle(last, &copies)
    }

    /// Reads and decodes a copy that stays of everything needed in the packfiles that are to go.
    ///
    /// # Errors
    /// None because of a copy that is damaged or cannot be read: it does not count.
    pub(super) fn verify(&mut self, memory: u64) -> Result<(), Error> {
        let mut jobs = Jobs::new(self.repository, &self.census.catalogue, memory);
        self.each_at_risk(|kind, id, copies| {
            let weight = |place: &&Place| {
                let pack = &self.census.packs[place.pack as usize];
                (pack.used_bytes, pack.shared_bytes, place.pack)
            };
            match copies.iter().filter(|place| self.stays(place)).max_by_key(weight) {
                Some(best) => jobs.push(kind, id, best),
                None => Ok(()),
            }
        })?;
        jobs.run(|job, ahead| self.verify_one(job, ahead))
    }

    fn verify_one(&mut self, (kind, id, place): &Job, ahead: Option<&[u8]>) -> Result<(), Error> {
        if self.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let whole = |stored: &[u8]| self.repository.decode(*kind, id, stored, METADATA_LIMIT).map(drop);
        let mut found = ahead.is_some_and(|stored| whole(stored).is_ok());
        let mut others = Vec::new();
        if !found {
            others = self.census.catalogue.find(*kind, id)?;
            others.retain(|other| other.pack != place.pack && self.stays(other));
        }
        for copy in std::iter::once(place).chain(&others) {
            if found {
                break;
            }
            let mut stored = Vec::new();
            let read = self.repository.with_stored(copy, &mut |bytes| stored.extend_from_slice(bytes));
            match read.and_then(|()| whole(&stored)) {
                Ok(()) => found = true,
                Err(error) => self.note(copy, &error),
            }
        }
        if found {
            self.safe.insert(*kind, *id)?;
            self.monitor.count(Counter::Bytes, u64::from(place.length));
        }
        Ok(())
    }

    /// Notes that a copy could not be read; people are told once for each packfile.
    pub(super) fn note(&mut self, place: &Place, error: &Error) {
        let before = self.unread.get(&(place.pack as usize)).copied();
        if before.is_none() {
            self.monitor.problem(&Problem {
                severity: Severity::Warning,
                path: RawString::default(),
                message: format!("packfile {}: {}", place.packfile.short(), message_of(error)),
                kind: None,
            });
        }
        self.unread.insert(place.pack as usize, before == Some(true) || error.is_damage());
    }

    /// Returns the packfiles that would lose something needed of which no copy that stays was read: they must not go.
    pub(super) fn losers(&self) -> Result<HashSet<usize>, Error> {
        let mut losers = HashSet::new();
        self.each_at_risk(|kind, id, copies| {
            if !self.safe.contains(kind, id)? {
                losers
                    .extend(copies.iter().filter(|place| self.goes(place)).map(|place| place.pack as usize));
            }
            Ok(())
        })?;
        Ok(losers)
    }

    /// Passes what is needed in some of the packfiles that are to go, and is not safe yet, to `jobs`.
    pub(super) fn unsafe_in(&self, chosen: &HashSet<usize>, jobs: &mut Jobs<'_>) -> Result<(), Error> {
        self.each_at_risk(|kind, id, copies| {
            if self.safe.contains(kind, id)? {
                return Ok(());
            }
            let readable = |place: &&Place| chosen.contains(&(place.pack as usize)) && self.goes(place);
            copies.iter().filter(readable).try_for_each(|place| jobs.push(kind, id, place))
        })
    }
}
