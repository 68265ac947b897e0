//! Maintenance: making room for what no snapshot needs any more, without ever losing what one does.
//!
//! 1. Every live snapshot is followed to its last blob ([`mark`]); one that is missing ends the run.
//! 2. A packfile that nothing needs is coloured: from then on nobody deduplicates against it. One that holds mostly
//!    garbage is copied: what is needed goes to a new packfile, and the old one is coloured ([`plan`]). A packfile may
//!    lose something needed only when another copy, which stays, was read and decoded in this run ([`safety`]).
//! 3. A colour older than the grace period is acted on: one state says that the packfile is gone, and only then its
//!    file is deleted ([`run`]). A coloured packfile that is needed again loses its colour.
//! 4. Where there are many states, they are folded into one, and those that were folded a grace period ago are deleted
//!    ([`states`]).
//!
//! What a checkpoint younger than the grace period brought is spared: the run that comes back for it finds it.
//! Memory does not grow with the number of blobs: sets spill to sorted tables, and packfiles are counted by ordinal.

mod census;
mod jobs;
mod mark;
mod plan;
mod run;
mod safety;
mod states;

pub(super) use jobs::{Job, Jobs};
pub(super) use mark::stream_error;
pub use run::{FOLD_ABOVE, Fate, MaintenanceOptions, MaintenanceReport, PackFate, maintain};
