//! Files with several links.
//!
//! They are known by device and inode, and by their object, which a backup of a changing tree may see change between
//! two names. The first name of each group is restored with all other files; once these are done, a second pass makes
//! the others links to it, several groups at once.
//!
//! **Why two passes.** A link needs its file, and a file comes out of a window that is sorted by place, or from any of
//! the threads: whoever waited for it on the spot would wait for most of the restore. What has to be remembered between
//! the passes is one bit for each group: whether the first name is there. Where it failed or was left out, there is no
//! file to link to, or one that is not ours: then the next name that can be restored is the file.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::RawString;
use crate::base::sort::{ByteOrder, Sorted};
use crate::connector::Item;
use crate::format::entry::Entry;
use crate::store::{Error, Window};

use super::super::monitor::Counter;
use super::job::{Job, Shared};
use super::queue::Feed;
use super::window;

/// Device, inode and object: what makes a group.
const GROUP: usize = 8 + 8 + 32;

/// Returns the key that sorts a file with several links: its group, then its path.
pub(super) fn sort_key(path: &[u8], entry: &Entry) -> Vec<u8> {
    let mut key = entry.info.device.to_le_bytes().to_vec();
    key.extend_from_slice(&entry.info.inode.to_le_bytes());
    key.extend_from_slice(entry.object.as_bytes());
    key.extend_from_slice(path);
    key
}

/// Which groups, by number, have a file to link to.
#[derive(Debug, Default)]
pub(super) struct Groups(Vec<AtomicU64>);

impl Groups {
    /// Makes room for so many groups; the number of all names will do.
    pub(super) fn new(count: u64) -> Self {
        let words = usize::try_from(count.div_ceil(64)).unwrap_or(usize::MAX);
        Self(std::iter::repeat_with(AtomicU64::default).take(words).collect())
    }

    fn word(&self, group: u64) -> Option<&AtomicU64> {
        self.0.get(usize::try_from(group / 64).ok()?)
    }

    /// Notes that the first name of a group is in place.
    pub(super) fn settle(&self, group: u64) {
        if let Some(word) = self.word(group) {
            word.fetch_or(1 << (group % 64), Ordering::Relaxed);
        }
    }

    fn is_settled(&self, group: u64) -> bool {
        self.word(group).is_some_and(|word| word.load(Ordering::Relaxed) >> (group % 64) & 1 == 1)
    }

    /// Restores one thing that is no folder, and notes it if it is the first of a group.
    pub(super) fn restore(
        &self,
        shared: &Shared<'_>,
        job: &Job,
        window: Option<&Window>,
    ) -> Result<(), Error> {
        let stands = shared.restore(job, window)?;
        if let Some(group) = job.group.filter(|_| stands) {
            self.settle(group);
        }
        Ok(())
    }
}

/// Passes on the first name of each group.
pub(super) fn firsts(
    shared: &Shared<'_>,
    sorted: &mut Sorted<ByteOrder>,
    each: &mut dyn FnMut(Job) -> Result<(), Error>,
) -> Result<(), Error> {
    members(shared, sorted, &mut |group, first, mut job| {
        if first {
            job.group = Some(group);
            each(job)?;
        }
        Ok(())
    })
}

/// Goes through all names: the number of the group, whether it is the group's first, and the name.
fn members(
    shared: &Shared<'_>,
    sorted: &mut Sorted<ByteOrder>,
    each: &mut dyn FnMut(u64, bool, Job) -> Result<(), Error>,
) -> Result<(), Error> {
    sorted.rewind()?;
    let mut last: Option<(u64, Vec<u8>)> = None;
    while let Some((key, record)) = sorted.next()? {
        shared.check_cancelled()?;
        let job = window::decode(record)?;
        let name = &key[..GROUP.min(key.len())];
        let known = last.as_ref().filter(|(_, of)| of == name).map(|(group, _)| *group);
        let group = match (known, &last) {
            (Some(group), _) => group,
            (None, Some((group, _))) => group + 1,
            (None, None) => 0,
        };
        if known.is_none() {
            last = Some((group, name.to_vec()));
        }
        each(group, known.is_none(), job)?;
    }
    Ok(())
}

/// One name of a group but its first, and the path of the file that it becomes a link to, if there is one yet.
pub(super) type Member = (Arc<Mutex<Option<RawString>>>, Job);

/// Passes on all names but the first ones.
pub(super) fn others(
    shared: &Shared<'_>,
    sorted: &mut Sorted<ByteOrder>,
    groups: &Groups,
    mut feed: Feed<Member>,
) -> Result<(), Error> {
    let mut file = Arc::default();
    members(shared, sorted, &mut |group, first, job| {
        if first {
            file = Arc::new(Mutex::new(groups.is_settled(group).then_some(job.path)));
            return Ok(());
        }
        feed.push((Arc::clone(&file), job))
    })?;
    feed.finish()
}

/// Makes a name a link to its group's file; where there is none yet, restores it as that file.
pub(super) fn link(shared: &Shared<'_>, (file, job): &Member) -> Result<(), Error> {
    shared.check_cancelled()?;
    let mut held = file.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(first) = held.clone() else {
        // Held all the while, so that the others of this group do not become files as well.
        if shared.restore(job, None)? {
            *held = Some(job.path.clone());
        }
        return Ok(());
    };
    drop(held);
    // Attributes are the file's, which has them.
    let item = Item { path: &job.path, entry: &job.entry, xattrs: &[] };
    let outcome = shared.exporter.hard_link(&item, &first);
    shared.monitor.count(Counter::Files, 1);
    shared.note(&job.entry, &shared.counts.files, outcome);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_settled_on_its_own() {
        let groups = Groups::new(130);
        for group in [0, 63, 64, 129] {
            groups.settle(group);
        }
        let settled: Vec<u64> = (0..192).filter(|group| groups.is_settled(*group)).collect();
        assert_eq!(settled, [0, 63, 64, 129]);
        // What was never announced is no group.
        groups.settle(u64::MAX);
        assert!(!groups.is_settled(u64::MAX));
        assert!(!Groups::default().is_settled(0));
    }
}
