//! Restoring a snapshot, or a part of one, to a destination.
//!
//! The walk creates folders as it meets them and hands everything else to workers. A local store is read in the
//! order of the walk, through maps. From a remote one, files are sorted by where they lie, and windows of them,
//! bounded by memory, are fetched as merged ranges. Of files with several links the first name is restored so, too; the
//! others are linked to it afterwards. Folders are finished last, children first, since what is put into a folder
//! changes its times.

mod content;
mod job;
mod journal;
mod links;
mod queue;
mod run;
mod versions;
pub(super) mod window;

pub use content::ObjectContent;
pub(crate) use content::read_chunk;
pub(super) use job::Job;
pub use run::{RestoreOptions, RestoreReport, restore};
pub(super) use run::{join, side_by_side};
pub use versions::Versions;
