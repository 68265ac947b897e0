//! The end of an archive in the making.

use crate::store::{ArchiveWriter, Error, WriterStats};

use super::monitor::{Event, Monitor};

/// Commits an archive, then tells of every snapshot in it, in the order in which they were put: none of them exists
/// before.
pub fn commit_archive(archive: ArchiveWriter, monitor: &dyn Monitor) -> Result<WriterStats, Error> {
    monitor.phase("commit");
    let snapshots = archive.snapshots();
    let stats = archive.commit()?;
    for snapshot in snapshots {
        monitor.event(&Event::Committed { snapshot });
    }
    Ok(stats)
}
