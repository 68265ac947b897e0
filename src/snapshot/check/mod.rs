//! Checking a store or some of its snapshots.
//!
//! A full check reads every packfile once, in order: trailer, index, every blob. Then every snapshot's structure
//! is walked: trees, entries, objects, chunks; what the first pass verified is not read again. Checking one
//! snapshot reads what it reaches. A fast check reads the structure and asks the catalogue for the rest.
//!
//! What is damaged is named once, with the snapshots and paths it hurts; those are found by walking the snapshots
//! again, which costs nothing when there is no damage.

mod damage;
mod packs;
mod run;
mod structure;

pub use damage::{Damage, Hurt};
pub(super) use packs::{Unsound, unsound};
pub use run::{CheckOptions, CheckReport, check};
