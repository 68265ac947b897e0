//! Repairing a store: what can be put right from what is still there.
//!
//! - Packfiles that no state knows are read by their own indexes and named by a new state: that makes up for states
//!   that are lost or damaged. Snapshots found in them are live again, unless they were removed. What nothing needs is
//!   for maintenance to collect again.
//! - Tree values that name an entry which exists nowhere (FORMAT.md, "Dangling tree values") get that entry: its bytes
//!   are in the dirpack of the folder.
//!
//! - Packfiles in which something is damaged are taken out of use: what is whole in them is copied to new ones, and
//!   what is not is forgotten there ([`packs`]).
//!
//! A blob that is damaged or gone cannot be made again from the store; a check names what it hurts. But a backup of the
//! source that still has it stores it again, once its damaged location is forgotten.

mod entries;
mod packs;
mod run;
mod states;

pub use run::{RepairOptions, RepairReport, repair};
