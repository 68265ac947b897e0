//! What is to become of each packfile.

use std::collections::{HashMap, HashSet};

use crate::base::{Id, Timestamp};
use crate::store::{Error, PackReader, Repository};

use super::census::{Census, PackUse, Stranger};
use super::run::{Fate, PackFate};

/// What a plan is made by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Older than this counts, in Unix nanoseconds.
    pub(super) cutoff: i64,
    /// Of what no state knows, only what is older than this counts, by the clock of who wrote it.
    pub(super) unknown: i64,
    /// The same by the storage's clock.
    pub(super) unknown_listed: i64,
    /// The most that is copied, in bytes.
    pub(super) max_repack: u64,
}

/// The packfiles that do not simply stay.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) fates: Vec<PackFate>,
    /// Those to be copied, by ordinal, emptiest first.
    pub(super) repack: Vec<usize>,
}

impl Plan {
    /// `archived` are the packfiles in cold storage. They are not brought back to be tidied: they go when nothing in
    /// them is needed.
    pub(super) fn make(
        repository: &Repository,
        census: &Census,
        archived: &HashSet<Id>,
        terms: Terms,
    ) -> Result<Self, Error> {
        let colours: HashMap<Id, i64> = census.catalogue.coloured_packs().collect();
        let mut plan = Self::default();
        for (ordinal, pack) in census.packs.iter().enumerate().filter(|(_, pack)| pack.known) {
            let id = census.catalogue.pack_id(ordinal);
            let fate = match colours.get(&id).copied().filter(|_| pack.coloured) {
                Some(_) if pack.revive => Some(Fate::Revived),
                Some(when) => Some(if when <= terms.cutoff { Fate::Swept } else { Fate::Waiting }),
                None if is_recent(census, ordinal, terms) => (!pack.used).then_some(Fate::Spared),
                None if !pack.used => Some(Fate::Coloured),
                None => {
                    if is_mostly_dead(pack) && !archived.contains(&id) {
                        plan.repack.push(ordinal);
                    }
                    None
                }
            };
            plan.add(id, pack.size.unwrap_or(0), fate);
        }
        plan.strangers(repository, census, &colours, archived, terms)?;
        plan.choose(census, terms.max_repack);
        Ok(plan)
    }

    fn add(&mut self, id: Id, size: u64, fate: Option<Fate>) {
        self.fates.extend(fate.map(|fate| PackFate { id, size, fate }));
    }

    /// Decides about files that no state knows, and about colours of what is neither known nor there.
    fn strangers(
        &mut self,
        repository: &Repository,
        census: &Census,
        colours: &HashMap<Id, i64>,
        archived: &HashSet<Id>,
        terms: Terms,
    ) -> Result<(), Error> {
        let reader = PackReader::new(repository);
        for (&id, &Stranger { size, modified }) in &census.strangers {
            let fate = if census.catalogue.was_deleted(&id) {
                Fate::Leftover
            } else if let Some(when) = colours.get(&id) {
                if *when <= terms.cutoff { Fate::Swept } else { Fate::Waiting }
            } else if modified.is_some_and(|at| Timestamp::from(at).unix_nanos() > terms.unknown_listed) {
                Fate::Young
            } else {
                match reader.footer(id, size) {
                    Ok(footer) if footer.timestamp <= terms.unknown => Fate::Coloured,
                    Ok(_) => Fate::Young,
                    Err(error) if error.is_damage() || archived.contains(&id) => Fate::Unreadable,
                    Err(error) => return Err(error),
                }
            };
            self.add(id, size, Some(fate));
        }
        let is_known = |id: &Id| {
            census.catalogue.pack_ordinal(id).is_some_and(|ordinal| census.packs[ordinal].known)
                || census.strangers.contains_key(id)
        };
        for (id, when) in colours.iter().filter(|(id, when)| **when <= terms.cutoff && !is_known(id)) {
            let _ = when;
            self.add(*id, 0, Some(Fate::Swept));
        }
        Ok(())
    }

    /// Takes the emptiest packfiles until as much as may be copied is reached.
    fn choose(&mut self, census: &Census, max: u64) {
        let part = |ordinal: &usize| {
            let pack = &census.packs[*ordinal];
            pack.used_bytes as f64 / pack.all_bytes as f64
        };
        self.repack.sort_by(|a, b| part(a).total_cmp(&part(b)));
        let mut copied = 0_u64;
        self.repack.retain(|ordinal| {
            let wanted = copied.saturating_add(census.packs[*ordinal].used_bytes);
            let fits = wanted <= max;
            copied = if fits { wanted } else { copied };
            fits
        });
        for ordinal in &self.repack {
            let (id, size) = (census.catalogue.pack_id(*ordinal), census.packs[*ordinal].size.unwrap_or(0));
            self.fates.push(PackFate { id, size, fate: Fate::Repacked });
        }
    }
}

/// Returns whether a checkpoint brought a packfile so recently that its run may come back for it.
fn is_recent(census: &Census, ordinal: usize, terms: Terms) -> bool {
    census.catalogue.checkpointed(ordinal).is_some_and(|when| when > terms.cutoff)
}

/// Returns whether more than half of what a packfile holds is garbage.
fn is_mostly_dead(pack: &PackUse) -> bool {
    pack.size.is_some() && pack.used_bytes < pack.all_bytes - pack.used_bytes.min(pack.all_bytes)
}
