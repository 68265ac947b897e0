//! Floor 2: what is done with snapshots: backup, restore, check, sync, archives.

mod backup;
mod catalogue;
mod check;
mod maintenance;
mod monitor;
mod repair;
mod restore;
pub mod retention;
mod sync;
pub mod tree;
pub mod vfs;

pub use backup::{BackupOptions, BackupReport, HeaderOptions, backup, backup_into};
pub use catalogue::{SnapshotInfo, find, header, list};
pub use check::{CheckOptions, CheckReport, Damage, Hurt, check};
pub use maintenance::{Fate, MaintenanceOptions, MaintenanceReport, PackFate, maintain};
pub use monitor::{Counter, Event, Monitor, Problem, Severity, Tally, message_of};
pub use repair::{RepairOptions, RepairReport, repair};
pub use restore::{ObjectContent, RestoreOptions, RestoreReport, restore};
pub use sync::{ArchiveExport, CopyReport, SyncOptions, SyncReport, copy_into, sync};
