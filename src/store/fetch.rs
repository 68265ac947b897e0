//! Reading many blobs of a remote store at once: ranges of packfiles, neighbours merged, fetched side by side.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::base::Id;
use crate::connector::Kind;
use crate::format::blob::BlobType;
use crate::format::object::Object;
use crate::format::wrapper::HEADER_LEN;

use super::blob::BlobSource as _;
use super::catalogue::Place;
use super::error::Error;
use super::repository::{METADATA_LIMIT, Repository};

/// Two ranges with at most this between them become one: a request costs more than these bytes.
const GAP: u64 = 128 << 10;
/// The longest request.
const LONGEST: u64 = 8 << 20;
/// In encrypted stores ranges are widened to multiples of this, so that blob boundaries do not show.
const ALIGNMENT: u64 = 64 << 10;
/// The most requests under way at once.
const THREADS: usize = 16;

/// A range of a packfile's blob area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Range {
    packfile: Id,
    start: u64,
    end: u64,
}

/// Lengths of packfiles that were asked for.
#[derive(Debug, Default)]
struct Sizes(Mutex<HashMap<Id, u64>>);

impl Sizes {
    /// Returns the length of a packfile in bytes, if it can be known.
    fn of(&self, repository: &Repository, packfile: Id) -> Option<u64> {
        let known = || self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(size) = known().get(&packfile) {
            return Some(*size);
        }
        let size = repository.storage().size(Kind::Packfile, packfile).ok()?;
        known().insert(packfile, size);
        Some(size)
    }
}

/// Encoded blobs that were fetched together.
#[derive(Debug, Default)]
pub struct Window {
    ranges: HashMap<Id, Vec<(u64, Vec<u8>)>>,
}

impl Window {
    /// Fetches everything that the places need. A range that fails is left out: whoever asks for one of its blobs
    /// reads that alone and learns why.
    pub fn fetch(repository: &Repository, places: Vec<Place>) -> Self {
        let plan = plan(places);
        // Ranges are widened no further than their packfile's end, which is asked for once each.
        let sizes = repository.is_encrypted().then(Sizes::default);
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Self::default()));
        let threads = repository.storage().parallelism().clamp(1, THREADS);
        std::thread::scope(|scope| {
            for _ in 0..threads.min(plan.len()) {
                scope.spawn(|| {
                    while let Some(range) = plan.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Ok((start, bytes)) = read(repository, range, sizes.as_ref()) {
                            let mut done = done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                            done.ranges.entry(range.packfile).or_default().push((start, bytes));
                        }
                    }
                });
            }
        });
        let mut window = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        window.ranges.values_mut().for_each(|ranges| ranges.sort_unstable_by_key(|(start, _)| *start));
        window
    }

    /// Fetches what fits so many bytes, gaps that are read along included, in the order of the store.
    pub fn fetch_most(repository: &Repository, mut places: Vec<Place>, most: u64) -> Self {
        places.sort_unstable_by_key(|place| (place.pack, place.offset));
        let (mut bytes, mut last) = (0_u64, None);
        let fitting = places.iter().take_while(|place| {
            bytes = bytes.saturating_add(Self::added(last, place));
            last = Some(*place);
            bytes <= most
        });
        let fitting = fitting.copied().collect();
        Self::fetch(repository, fitting)
    }

    /// Returns the encoded bytes at a place, if they were fetched.
    pub fn get(&self, place: &Place) -> Option<&[u8]> {
        let ranges = self.ranges.get(&place.packfile)?;
        let after = ranges.partition_point(|(start, _)| *start <= place.offset);
        let (start, bytes) = ranges.get(after.checked_sub(1)?)?;
        let from = usize::try_from(place.offset - start).ok()?;
        bytes.get(from..from.checked_add(place.length as usize)?)
    }

    /// Returns about how many bytes a place adds to a window after another one: beside it no more than lies between
    /// them, elsewhere a range of its own.
    pub(super) fn added(last: Option<&Place>, place: &Place) -> u64 {
        let length = u64::from(place.length);
        let distance = last
            .filter(|last| last.packfile == place.packfile)
            .map(|last| last.offset.abs_diff(place.offset))
            .filter(|distance| *distance <= GAP);
        distance.map_or(length + 2 * ALIGNMENT, |distance| distance.max(length))
    }

    /// Reads metadata by what was fetched at its place, else alone, and verifies it.
    pub fn metadata(
        &self,
        repository: &Repository,
        kind: BlobType,
        id: &Id,
        place: Option<&Place>,
    ) -> Result<Vec<u8>, Error> {
        let stored = place.and_then(|place| self.get(place));
        match stored.and_then(|stored| repository.decode(kind, id, stored, METADATA_LIMIT).ok()) {
            Some(plain) => Ok(plain),
            None => repository.get(kind, id),
        }
    }

    /// Reads an object in the same way.
    pub(super) fn object(
        &self,
        repository: &Repository,
        id: &Id,
        place: Option<&Place>,
    ) -> Result<Object, Error> {
        Ok(Object::decode(&self.metadata(repository, BlobType::OBJECT, id, place)?)?)
    }

    /// Returns the number of bytes held.
    pub fn len(&self) -> usize {
        self.ranges.values().flatten().map(|(_, bytes)| bytes.len()).sum()
    }

    /// Returns whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

/// Merges places into ranges.
fn plan(mut places: Vec<Place>) -> Vec<Range> {
    places.sort_unstable_by_key(|place| (place.pack, place.offset));
    let mut ranges: Vec<Range> = Vec::new();
    for place in places {
        let (start, end) = (place.offset, place.offset.saturating_add(u64::from(place.length)));
        match ranges.last_mut() {
            Some(last)
                if last.packfile == place.packfile
                    && start <= last.end.saturating_add(GAP)
                    && end.saturating_sub(last.start) <= LONGEST =>
            {
                last.end = last.end.max(end);
            }
            _ => ranges.push(Range { packfile: place.packfile, start, end }),
        }
    }
    ranges
}

/// Reads a range; returns the offset in the blob area of what was read.
fn read(repository: &Repository, range: &Range, sizes: Option<&Sizes>) -> Result<(u64, Vec<u8>), Error> {
    let header = HEADER_LEN as u64;
    let (mut start, mut end) = (range.start.saturating_add(header), range.end.saturating_add(header));
    if let Some(sizes) = sizes {
        start = (start / ALIGNMENT * ALIGNMENT).max(header);
        let size = sizes.of(repository, range.packfile).unwrap_or(end);
        end = end.next_multiple_of(ALIGNMENT).min(size).max(end);
    }
    let length =
        usize::try_from(end - start).map_err(|_| Error::malformed("a range", "longer than memory"))?;
    let mut bytes = Vec::new();
    repository.storage().read_range(Kind::Packfile, range.packfile, start, length, &mut |read| {
        bytes.extend_from_slice(read);
    })?;
    Ok((start - header, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_elsewhere_adds_a_range() {
        let place =
            |pack: u8, offset| Place { pack: u32::from(pack), packfile: Id([pack; 32]), offset, length: 100 };
        let last = place(1, 1000);
        assert_eq!(Window::added(Some(&last), &place(1, 1100)), 100);
        assert_eq!(Window::added(Some(&last), &place(1, 500)), 500);
        for far in [place(1, 1001 + GAP), place(2, 1100)] {
            assert_eq!(Window::added(Some(&last), &far), 100 + 2 * ALIGNMENT);
        }
        assert_eq!(Window::added(None, &last), 100 + 2 * ALIGNMENT);
    }

    #[test]
    fn neighbours_are_merged_up_to_a_limit() {
        let place = |pack: u32, offset, length| Place {
            pack,
            packfile: Id([u8::try_from(pack).unwrap(); 32]),
            offset,
            length,
        };
        let far = GAP + 200;
        let ranges = plan(vec![place(1, far, 10), place(0, 0, 100), place(0, 150, 50), place(1, 0, 100)]);
        let short: Vec<_> =
            ranges.iter().map(|range| (range.packfile.0[0], range.start, range.end)).collect();
        assert_eq!(short, [(0, 0, 200), (1, 0, 100), (1, far, far + 10)]);
        let length = u32::try_from(LONGEST / 2).unwrap();
        let long = plan((0..4).map(|n| place(0, n * LONGEST / 2, length)).collect());
        assert_eq!(long.len(), 2, "no request is longer than the longest");
    }
}
