//! Floor 2: what is done with snapshots: backup, restore, check, sync, archives.

mod backup;
mod catalogue;
mod check;
mod monitor;
mod restore;
mod sync;
pub mod tree;
pub mod vfs;

pub use backup::{BackupOptions, BackupReport, HeaderOptions, backup, backup_into};
pub use catalogue::{SnapshotInfo, assert_latest, find, header, list};
pub use check::{CheckOptions, CheckReport, Damage, Hurt, check};
pub use monitor::{Counter, Event, Monitor, Problem, Severity, Tally, message_of};
pub use restore::{ObjectContent, RestoreOptions, RestoreReport, Versions, restore};
pub use sync::{ArchiveExport, CopyReport, SyncOptions, SyncReport, copy_into, sync};
