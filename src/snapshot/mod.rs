//! Floor 2: what is done with snapshots: backup, restore, check, sync, archives.
