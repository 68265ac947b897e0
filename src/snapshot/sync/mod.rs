//! Copying snapshots between stores, and into archives.
//!
//! Under another key every id changes: contents are opened, verified and named anew, their compressed bytes reused
//! where both sides compress alike; all metadata is made anew from decoded entries. A snapshot keeps its id and
//! everything its header says, but a signature, which covers the old bytes, is cleared and that is reported. With
//! the same key blobs are copied as they are, verified on the way.

mod copied;
mod copy;
mod reach;
mod rewrite;
mod run;

pub use copied::Copied;
pub use copy::{CopyReport, copy_into};
pub use run::{ArchiveExport, SyncOptions, SyncReport, sync};
