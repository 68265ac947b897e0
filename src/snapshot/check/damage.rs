//! What is damaged and whom it hurts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use crate::base::{Id, RawString};
use crate::store::Error;

/// Paths that are remembered for one damage; the rest is counted.
const PATHS: usize = 1000;

/// A path of a snapshot that a damage hurts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Hurt {
    /// The snapshot.
    pub snapshot: Id,
    /// The path; `/` where the snapshot as a whole is hurt.
    pub path: RawString,
}

/// One thing that is damaged or missing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// What: "chunk 0123…", "packfile 4567…".
    pub what: String,
    /// What is wrong with it.
    pub message: String,
    /// The first thousand paths it hurts.
    pub hurts: Vec<Hurt>,
    /// How many paths it hurts in all.
    pub hurt_count: u64,
}

/// Collects damage from many threads.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    found: Mutex<BTreeMap<String, Damage>>,
    /// Objects that are not whole, with the names of the damages.
    objects: Mutex<HashMap<Id, HashSet<String>>>,
}

impl Ledger {
    /// Records a damage; returns its name.
    pub(super) fn add(&self, what: &str, error: &(dyn std::error::Error + 'static)) -> String {
        self.add_message(what, super::super::monitor::message_of(error))
    }

    pub(super) fn add_message(&self, what: &str, message: String) -> String {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.entry(what.to_owned()).or_insert_with(|| Damage {
            what: what.to_owned(),
            message,
            hurts: Vec::new(),
            hurt_count: 0,
        });
        what.to_owned()
    }

    /// Records that an object is not whole because of a damage.
    pub(super) fn hurts_object(&self, object: Id, name: &str) {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects.entry(object).or_default().insert(name.to_owned());
    }

    /// Records that a damage hurts a path.
    pub(super) fn hurts(&self, name: &str, snapshot: Id, path: &[u8]) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(damage) = found.get_mut(name) else { return };
        let hurt = Hurt { snapshot, path: path.into() };
        if damage.hurts.contains(&hurt) {
            return;
        }
        damage.hurt_count += 1;
        if damage.hurts.len() < PATHS {
            damage.hurts.push(hurt);
        }
    }

    /// Returns whether some object is not whole.
    pub(super) fn has_objects(&self) -> bool {
        !self.objects.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Records that a path uses an object, if that is not whole.
    pub(super) fn uses(&self, object: &Id, snapshot: Id, path: &[u8]) {
        let names = {
            let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
            objects.get(object).cloned().unwrap_or_default()
        };
        for name in names {
            self.hurts(&name, snapshot, path);
        }
    }

    pub(super) fn into_damage(self) -> Vec<Damage> {
        self.found.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
    }
}

/// Tells damage from a failure to reach the store, which is no statement about it.
pub(super) fn damage_only<T>(result: Result<T, Error>) -> Result<Result<T, Error>, Error> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) if error.is_damage() || matches!(error, Error::NoPath { .. }) => Ok(Err(error)),
        Err(error) => Err(error),
    }
}
