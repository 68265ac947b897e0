//! A check from the packfiles to the report.

use std::time::{Duration, Instant};

use crate::base::{Cancel, Id};
use crate::store::{Error, KnownSet, Repository, Warning};

use super::super::catalogue::{Signatures, SnapshotInfo, list_with};
use super::super::monitor::{Counter, Monitor, Problem, Severity, message_of};
use super::damage::{Damage, Ledger};
use super::packs::PackChecker;
use super::structure::StructureChecker;

/// How a check is done.
#[derive(Clone, Debug, Default)]
pub struct CheckOptions {
    /// Whether contents are left alone: structure only.
    pub fast: bool,
    /// What becomes of the signatures of all snapshots; those of a selection were dealt with when it was made.
    pub signatures: Signatures,
    /// Ends the run early when set.
    pub cancel: Cancel,
}

/// What a check found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CheckReport {
    /// Snapshots checked.
    pub snapshot_count: u64,
    /// Packfiles verified as a whole.
    pub packfile_count: u64,
    /// Everything that is damaged or missing; empty when all is well.
    pub damage: Vec<Damage>,
    /// How long it took.
    pub duration: Duration,
}

/// Checks the whole store (`selection` is `None`), or the given snapshots below the given paths.
///
/// An error returned is a failure to check; damage is in the report.
pub fn check(
    repository: &Repository,
    selection: Option<&[Selected]>,
    options: &CheckOptions,
    monitor: &dyn Monitor,
) -> Result<CheckReport, Error> {
    let begun = Instant::now();
    repository.read_states()?;
    let ledger = Ledger::default();
    let spills = repository.spills();
    let (verified, visited) = (KnownSet::new(spills), KnownSet::new(spills));
    let mut packfile_count = 0;
    let everything;
    let selection = if let Some(selection) = selection {
        selection
    } else {
        note_warnings(repository, &ledger, monitor);
        if !options.fast {
            monitor.phase("packfiles");
            let (verified, ledger, cancel) = (&verified, &ledger, &options.cancel);
            let unsound = std::sync::Mutex::default();
            let packs = PackChecker { repository, verified, ledger, monitor, cancel, unsound };
            packfile_count = packs.all()?;
        }
        everything = all_snapshots(repository, options.signatures, &ledger)?;
        &everything[..]
    };
    monitor.phase("snapshots");
    let whole = selection.iter().filter(|(_, path)| path.is_none());
    if selection.iter().all(|(_, path)| path.is_none()) {
        monitor.expect(Counter::Items, whole.map(|(info, _)| info.item_count()).sum());
    }
    let checker = StructureChecker {
        repository,
        verified: &verified,
        visited: &visited,
        ledger: &ledger,
        monitor,
        cancel: &options.cancel,
        fast: options.fast,
    };
    for (info, path) in selection {
        checker.snapshot(info, path.as_deref())?;
    }
    if ledger.has_objects() {
        monitor.phase("damage");
        for (info, path) in selection {
            checker.attribute(info, path.as_deref())?;
        }
    }
    Ok(CheckReport {
        snapshot_count: selection.len() as u64,
        packfile_count,
        damage: ledger.into_damage(),
        duration: begun.elapsed(),
    })
}

type Selected = (SnapshotInfo, Option<Vec<u8>>);

/// Lists the snapshots; headers that cannot be read are damage.
fn all_snapshots(
    repository: &Repository,
    signatures: Signatures,
    ledger: &Ledger,
) -> Result<Vec<Selected>, Error> {
    let (found, failed) = list_with(repository, signatures);
    for (id, error) in failed {
        if !error.is_damage() {
            return Err(error);
        }
        let name = ledger.add(&format!("snapshot {id}"), &error);
        ledger.hurts(&name, id, b"/");
    }
    Ok(found.into_iter().map(|info| (info, None)).collect())
}

/// Turns what was noticed when the store was opened into damage.
fn note_warnings(repository: &Repository, ledger: &Ledger, monitor: &dyn Monitor) {
    for warning in repository.take_warnings() {
        match warning {
            Warning::DamagedState { id, error, snapshots } => {
                let name = ledger.add_message(&format!("state {id}"), message_of(&error));
                for snapshot in snapshots {
                    ledger.hurts(&name, snapshot, b"/");
                }
            }
            // It says nothing of the store.
            Warning::Unpinned(error) => monitor.problem(&Problem {
                severity: Severity::Warning,
                path: crate::base::RawString::default(),
                message: format!(
                    "the store as it is now cannot be remembered: {}; -datadir names another folder for that",
                    message_of(&error)
                ),
                kind: None,
            }),
            Warning::MissingStates(ids) => {
                for id in ids {
                    let id: Id = id;
                    let message = "it was there before and is gone; -accept-missing takes that as given";
                    ledger.add_message(&format!("state {id}"), message.into());
                }
            } // That is this machine's trouble, not the store's.
        }
    }
}
