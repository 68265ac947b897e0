//! Comparing a file with what the previous snapshot says of it.

use crate::base::Timestamp;
use crate::connector::{Change, Record};
use crate::format::entry::{Entry, FileInfo};

/// How far a file's time may lag behind the clock: file systems use the time of the last timer interrupt.
const TICK_NANOS: i64 = 20_000_000;
/// How far it may lag where times are whole seconds (FAT: two of them).
const COARSE_NANOS: i64 = 2_000_000_000;

/// Says what became of a file since the previous snapshot, as far as its metadata tells.
pub(super) fn compare(record: &Record, previous: &Entry, begun: Timestamp) -> Change {
    let Ok(info) = &record.info else { return Change::Content };
    if info.mode.is_regular()
        && (!has_same_content(info, previous, begun)
            || ctime(&record.locator).is_some_and(|changed| is_recent(changed, begun)))
    {
        return Change::Content;
    }
    let target = record.symlink_target.as_deref().unwrap_or_default();
    let same = *info == previous.info
        && target == previous.symlink_target.as_bytes()
        && record.metadata == previous.metadata;
    if same { Change::Same } else { Change::MetadataOnly }
}

/// Makes the locator of a file: when the system last changed anything of it, its ctime. No program can put that back,
/// so what was written since the previous run has a later one, whatever its modification time says.
#[cfg(unix)]
pub(super) fn locator(changed: Timestamp) -> Vec<u8> {
    changed.unix_nanos().to_le_bytes().to_vec()
}

fn ctime(locator: &[u8]) -> Option<Timestamp> {
    Some(Timestamp::from_unix_nanos(i64::from_le_bytes(locator.try_into().ok()?)))
}

/// Returns whether a regular file's content is, by all that `lstat` tells, what the previous snapshot holds.
fn has_same_content(info: &FileInfo, previous: &Entry, begun: Timestamp) -> bool {
    let was = &previous.info;
    was.mode.is_regular()
        && !previous.object.is_zero()
        && (info.size, info.modified, info.inode, info.device)
            == (was.size, was.modified, was.inode, was.device)
        && !is_recent(info.modified, begun)
}

/// Returns whether a time is so late that what it belongs to may have changed after a run that began at `begun`
/// read it.
fn is_recent(time: Timestamp, begun: Timestamp) -> bool {
    let lag = if time.nanos == 0 { COARSE_NANOS } else { TICK_NANOS };
    time.unix_nanos().saturating_add(lag) >= begun.unix_nanos()
}
