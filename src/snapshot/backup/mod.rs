//! Making a snapshot.
//!
//! ```text
//! importer -> records -> join with the previous snapshot -> workers: read, cut, name, known?, encode, append
//!  (scan)                (unchanged: nothing is read)                  -> entries -> view -> header -> commit
//! ```
//!
//! The scan, the join and the workers run side by side, bounded queues between them. A content that fits one chunk
//! is done by the worker that read it; larger ones the worker cuts, while the pool encodes the chunks and hashes the
//! whole (see `whole`), so that one large file keeps all cores busy. What fails for one path becomes an error item of
//! the snapshot and the run goes on; what fails for the store ends it.

mod content;
mod deferred;
mod header;
mod previous;
mod run;
mod whole;
mod worker;

pub use header::HeaderOptions;
pub(super) use header::{begun, note_begun, source_of};
pub(super) use run::missing_folder;
pub use run::{BackupOptions, BackupReport, backup, backup_into};
pub(super) use worker::put_header;
