//! Versions of resources, blobs and records.

use std::fmt;

/// A version `major.minor.patch`, packed as `major << 16 | minor << 8 | patch`.
///
/// The packed numbers compare as the versions do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Version(pub u32);

impl Version {
    /// 0, which the nodes and roots of trees carry.
    pub const NONE: Self = Self(0);
    /// 1.0.0: the version of everything but states.
    pub const V1_0_0: Self = Self(0x0001_0000);
    /// 1.1.0: states with a parent and delete entries.
    pub const V1_1_0: Self = Self(0x0001_0100);

    /// Returns whether a reader that implements `implemented` reads this version: it must not be newer.
    pub fn readable_by(self, implemented: Self) -> bool {
        self <= implemented
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0 >> 16, self.0 >> 8 & 0xff, self.0 & 0xff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_and_print() {
        assert_eq!(Version::V1_1_0.to_string(), "1.1.0");
        assert!(Version::V1_0_0.readable_by(Version::V1_1_0));
        assert!(!Version(0x0001_0101).readable_by(Version::V1_1_0));
        assert!(!Version(0x0002_0000).readable_by(Version::V1_1_0));
    }
}
