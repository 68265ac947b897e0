//! How large the parts of an upload are whose whole length nobody knows.

/// The least size in bytes of a part that is not the last, everywhere.
const LEAST: u64 = 5 << 20;
/// The greatest size in bytes of a part, everywhere.
const MOST: u64 = 5 << 30;
/// The first part where nothing is known of the length.
const FIRST: u64 = 64 << 20;
/// The first part where the length is known to be small.
const FIRST_HINTED: u64 = 16 << 20;
const MIB: u64 = 1 << 20;

/// The sizes of the parts of a growing upload, in bytes; ends where no more parts are allowed.
///
/// Where an upload may have 1000 parts they grow by 5 % each, from 64 MiB to 5 GiB, which is enough for more than
/// 4.6 TB; where it may have 10,000 they grow by 0.05 %. A hint of the whole length makes the first part as large as
/// all would have to be, and the growth stays, because a hint may be wrong.
#[derive(Clone, Debug)]
pub(super) struct Growing {
    next: u64,
    left: u64,
    /// A part is larger than the one before by one part in this many.
    growth: u64,
}

impl Growing {
    /// Plans for at most `parts` parts.
    pub(super) fn new(parts: u64, hint: Option<u64>) -> Self {
        let first = match hint {
            // Some room: a hint is an estimate, and an archive has more in it than its files.
            Some(hint) => (hint / parts.max(1)).saturating_mul(5) / 4,
            None => FIRST,
        };
        let least = if hint.is_some() { FIRST_HINTED } else { LEAST };
        let growth = if parts > 1000 { 2000 } else { 20 };
        Self { next: first.next_multiple_of(MIB).clamp(least, MOST), left: parts, growth }
    }
}

impl Iterator for Growing {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        let size = self.next;
        self.next = (size + size / self.growth).min(MOST);
        Some(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an upload has to reach, in bytes.
    const REACH: u64 = 4_600_000_000_000;

    #[test]
    fn a_thousand_parts_reach_as_far_as_they_must() {
        for parts in [1000, 10_000] {
            for hint in [None, Some(0), Some(1), Some(10 << 30), Some(1 << 40), Some(5 << 40), Some(u64::MAX)]
            {
                let sizes: Vec<u64> = Growing::new(parts, hint).collect();
                assert_eq!(sizes.len() as u64, parts);
                assert!(sizes.iter().all(|size| (LEAST..=MOST).contains(size)), "{parts} {hint:?}");
                assert!(sizes.is_sorted());
                let sum: u64 = sizes.iter().sum();
                assert!(sum >= REACH, "{parts} {hint:?} {sum}");
            }
        }
    }

    #[test]
    fn the_first_part_follows_the_hint() {
        let first = |hint| Growing::new(1000, hint).next().unwrap();
        assert_eq!(first(None), 64 << 20);
        assert_eq!(first(Some(10 << 30)), 16 << 20);
        assert_eq!(first(Some(1 << 40)), 1311 << 20);
        assert_eq!(first(Some(u64::MAX)), MOST);
        assert_eq!(Growing::new(1000, None).nth(1), Some((64 << 20) + (64 << 20) / 20));
    }
}
