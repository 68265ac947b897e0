//! Inode numbers: which file the kernel means.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::base::{Id, RawString};
use crate::crypto::{HashAlgorithm, MacKey, random};
use crate::format::entry::Entry;
use crate::snapshot::SnapshotInfo;

/// The number of the mount's root.
pub(super) const ROOT: u64 = 1;
/// The number of the link to the latest snapshot.
pub(super) const LATEST: u64 = 2;
/// Numbers below are the mount's own.
const RESERVED: u64 = 16;

/// What a number stands for.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// The folder of all snapshots.
    Top,
    /// The link to the latest one.
    Latest,
    /// A path in a snapshot.
    In(Arc<SnapshotInfo>, RawString),
}

/// Makes numbers out of what a file is, so that it has the same one as long as the mount stands, remembered or not.
///
/// A number is 63 bits of a MAC under a key of this mount: among a million files two share one with a probability of
/// 1 in 18 million, and nobody can make a snapshot in which they do.
pub(super) struct Numbering(MacKey);

impl fmt::Debug for Numbering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Numbering")
    }
}

impl Numbering {
    pub(super) fn new() -> Self {
        Self(MacKey::new(HashAlgorithm::Blake3, random::array()))
    }

    /// Returns the number of a path.
    pub(super) fn of_path(&self, snapshot: &Id, path: &[u8]) -> u64 {
        number(&self.0.mac_parts(&[b"path", snapshot.as_bytes(), path]))
    }

    /// Returns the number of an entry: one for all names of a file that has several.
    pub(super) fn of_entry(&self, snapshot: &Id, path: &[u8], entry: &Entry) -> u64 {
        let info = &entry.info;
        if info.links < 2 || !info.mode.is_regular() {
            return self.of_path(snapshot, path);
        }
        let (device, inode) = (info.device.to_le_bytes(), info.inode.to_le_bytes());
        let parts = [b"link".as_slice(), snapshot.as_bytes(), &device, &inode, entry.object.as_bytes()];
        number(&self.0.mac_parts(&parts))
    }
}

fn number(mac: &Id) -> u64 {
    let first = mac.as_bytes().first_chunk().expect("a MAC is longer");
    // Programs that keep numbers as signed ones are spared the upper half.
    (u64::from_le_bytes(*first) >> 1).max(RESERVED)
}

/// The numbers that the kernel holds.
#[derive(Debug)]
pub(super) struct Known {
    root: Place,
    held: HashMap<u64, (Place, u64)>,
}

impl Known {
    pub(super) fn new(root: Place) -> Self {
        Self { root, held: HashMap::new() }
    }

    /// Returns what a number stands for.
    pub(super) fn get(&self, number: u64) -> Option<Place> {
        match number {
            ROOT => Some(self.root.clone()),
            LATEST => Some(Place::Latest),
            _ => self.held.get(&number).map(|(place, _)| place.clone()),
        }
    }

    /// Notes that the kernel was told a number once more.
    pub(super) fn hold(&mut self, number: u64, place: impl FnOnce() -> Place) {
        if number >= RESERVED {
            self.held.entry(number).or_insert_with(|| (place(), 0)).1 += 1;
        }
    }

    /// Notes that the kernel let a number go so many times.
    pub(super) fn forget(&mut self, number: u64, times: u64) {
        if let Some((_, held)) = self.held.get_mut(&number) {
            *held = held.saturating_sub(times);
            if *held == 0 {
                self.held.remove(&number);
                if self.held.len() * 4 < self.held.capacity() {
                    self.held.shrink_to(self.held.len() * 2);
                }
            }
        }
    }

    /// Returns how many numbers are held.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::{FileInfo, Mode};

    #[test]
    fn a_file_has_one_number_and_links_share_it() {
        let (numbering, one, two) = (Numbering::new(), Id([1; 32]), Id([2; 32]));
        let mut info = FileInfo::new("x", Mode::regular(0o644));
        (info.device, info.inode, info.links) = (1, 2, 1);
        let of = |snapshot, path: &str, info: &FileInfo| {
            numbering.of_entry(snapshot, path.as_bytes(), &Entry::new("/", info.clone()))
        };
        assert_eq!(of(&one, "/x", &info), of(&one, "/x", &info));
        assert_eq!(of(&one, "/x", &info), numbering.of_path(&one, b"/x"));
        assert_ne!(of(&one, "/x", &info), of(&one, "/y", &info));
        assert_ne!(of(&one, "/x", &info), of(&two, "/x", &info));
        info.links = 2;
        assert_eq!(of(&one, "/x", &info), of(&one, "/y", &info));
        assert_ne!(of(&one, "/x", &info), of(&two, "/x", &info));
        let mut other = Entry::new("/", info.clone());
        other.object = Id([9; 32]);
        assert_ne!(of(&one, "/x", &info), numbering.of_entry(&one, b"/x", &other));
        info.mode = Mode::dir(0o755);
        assert_ne!(of(&one, "/x", &info), of(&one, "/y", &info), "folders have no second name");
    }

    #[test]
    fn numbers_are_held_as_long_as_the_kernel_does() {
        let mut known = Known::new(Place::Top);
        known.hold(100, || Place::Latest);
        known.hold(100, || Place::Top);
        assert!(matches!(known.get(100), Some(Place::Latest)), "the first place stays");
        known.forget(100, 1);
        assert!(known.get(100).is_some());
        known.forget(100, 1);
        assert!(known.get(100).is_none() && known.len() == 0);
        known.forget(100, 1);
        known.hold(ROOT, || unreachable!("the root is always held"));
        known.forget(ROOT, 5);
        assert!(matches!(known.get(ROOT), Some(Place::Top)));
        for number in 100..200 {
            known.hold(number, || Place::Top);
        }
        for number in 100..200 {
            known.forget(number, u64::MAX);
        }
        assert_eq!(known.len(), 0);
    }
}
