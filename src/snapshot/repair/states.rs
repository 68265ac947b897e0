//! Naming packfiles that no state knows.

use crate::base::Id;
use crate::connector::Kind;
use crate::format::blob::BlobType;
use crate::format::state::{Delete, Location};
use crate::store::{Changes, Error, PackReader, Repository};

use super::super::monitor::{Counter, Monitor, message_of};
use super::run::{RepairOptions, RepairReport};

/// Reads the packfiles that no state knows and notes what they hold.
pub(super) fn adopt(
    repository: &Repository,
    changes: &mut Changes,
    report: &mut RepairReport,
    options: &RepairOptions,
    monitor: &dyn Monitor,
) -> Result<(), Error> {
    let catalogue = repository.catalogue();
    let mut unknown: Vec<(Id, u64)> = Vec::new();
    repository.storage().list(Kind::Packfile, &mut |listed| {
        let known = catalogue.pack_ordinal(&listed.id).is_some_and(|at| catalogue.pack_status(at).0);
        // What was deleted on purpose never comes back.
        if !known && !catalogue.was_deleted(&listed.id) {
            unknown.push((listed.id, listed.size));
        }
    })?;
    unknown.sort_unstable();
    let coloured: std::collections::HashSet<Id> = catalogue.coloured_packs().map(|(id, _)| id).collect();
    let reader = PackReader::new(repository);
    for (id, size) in unknown {
        if options.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let index = match reader.index(id, size) {
            Ok(index) => index,
            Err(error) if error.is_damage() => {
                report.unreadable.push((id, message_of(&error)));
                continue;
            }
            Err(error) => return Err(error),
        };
        monitor.count(Counter::Items, 1);
        changes.add_packfile(id, index.created);
        if coloured.contains(&id) {
            changes.delete(Delete::packfile_colour(id));
        }
        for record in &index.records {
            changes.add_location(Location {
                kind: record.kind,
                version: record.version,
                id: record.id,
                packfile: id,
                offset: record.offset,
                length: record.length,
                flags: 0,
            })?;
            let back = record.kind == BlobType::SNAPSHOT
                && !catalogue.has_snapshot(&record.id)
                && catalogue.removed_at(&record.id).is_none();
            if back && !report.snapshots.contains(&record.id) {
                report.snapshots.push(record.id);
            }
        }
        report.adopted_count += 1;
        report.adopted_bytes += size;
    }
    Ok(())
}
