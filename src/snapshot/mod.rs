//! Floor 2: what is done with snapshots: backup, restore, check, sync, archives.

mod archive;
mod backup;
mod catalogue;
mod check;
mod diff;
mod digest;
mod duplicate;
mod export;
mod maintenance;
mod monitor;
mod part;
mod repair;
mod restore;
pub mod retention;
pub mod retrieval;
mod search;
mod sync;
pub mod tree;
pub mod vfs;

pub use archive::commit_archive;
pub use backup::{BackupOptions, BackupReport, HeaderOptions, backup, backup_into};
pub use catalogue::{Signatures, SnapshotInfo, assert_latest, find, find_with, header, list, list_with};
pub use check::{CheckOptions, CheckReport, Damage, Hurt, check};
pub use diff::{Aspect, Difference, TextDiff, diff, text_diff, unified};
pub use digest::{digest, digests};
pub use duplicate::{DuplicateOptions, duplicate};
pub use export::{ExportError, ExportFormat, ExportOptions, ExportReport, export};
pub use maintenance::{FOLD_ABOVE, Fate, MaintenanceOptions, MaintenanceReport, PackFate, maintain};
pub use monitor::{Counter, Event, Monitor, Problem, Severity, Tally, message_of};
pub use part::Part;
pub use repair::{RepairOptions, RepairReport, repair};
pub(crate) use restore::read_chunk;
pub use restore::{ObjectContent, RestoreOptions, RestoreReport, Versions, restore};
pub use search::{EntryKind, MetadataPattern, PatternError, Patterns, SearchQuery, search};
pub use sync::{ArchiveExport, Copied, CopyReport, SyncOptions, SyncReport, copy_into, sync};
