//! Floor 2: what is done with snapshots: backup, restore, check, sync, archives.
pub mod tree;
pub mod vfs;
