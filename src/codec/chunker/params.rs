//! Which chunker, with which sizes.

use std::fmt;

/// The largest sizes accepted, in bytes (FORMAT.md, native profile, chunking).
const MAX_MIN: u32 = 1 << 20;
const MAX_NORMAL: u32 = 4 << 20;
const MAX_MAX: u32 = 16 << 20;
/// The smallest sizes accepted: below, the masks would have too few bits to mean anything.
const MIN_MIN: u32 = 64;
const MIN_NORMAL: u32 = 256;
const MIN_MAX: u32 = 1024;

/// A chunking algorithm that a configuration can name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ChunkerAlgorithm {
    /// `fastcdc-v1.0.0`.
    FastCdcV1,
    /// `fastcdc`.
    FastCdcLegacy,
    /// `fastcdc2020`.
    FastCdc2020,
    /// `fastcdc2020-keyed`.
    FastCdc2020Keyed,
}

impl ChunkerAlgorithm {
    /// Finds the algorithm of a configuration's `Chunking.Algorithm`, in any case as upstream does.
    pub fn from_name(name: &str) -> Result<Self, ChunkerError> {
        match name.to_ascii_lowercase().as_str() {
            "fastcdc-v1.0.0" => Ok(Self::FastCdcV1),
            "fastcdc" => Ok(Self::FastCdcLegacy),
            "fastcdc2020" => Ok(Self::FastCdc2020),
            "fastcdc2020-keyed" => Ok(Self::FastCdc2020Keyed),
            _ => Err(ChunkerError::Unsupported { name: name.to_owned() }),
        }
    }

    /// Returns the name that a new configuration uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FastCdcV1 => "fastcdc-v1.0.0",
            Self::FastCdcLegacy => "FASTCDC",
            Self::FastCdc2020 => "fastcdc2020",
            Self::FastCdc2020Keyed => "fastcdc2020-keyed",
        }
    }
}

impl fmt::Display for ChunkerAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A chunker cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkerError {
    /// An algorithm that is not supported for writing.
    #[error("unsupported chunking algorithm: {}", name.escape_debug())]
    Unsupported {
        /// Its name.
        name: String,
    },
    /// A size is out of bounds.
    #[error("chunking parameter {parameter} = {found} is out of bounds: {bound}")]
    OutOfBounds {
        /// The parameter, as configurations name it.
        parameter: &'static str,
        /// Its value.
        found: u32,
        /// What would be accepted.
        bound: &'static str,
    },
    /// The keyed algorithm needs a table, and no other does.
    #[error("chunking algorithm {algorithm} {} a secret table", if *wanted { "needs" } else { "does not take" })]
    Table {
        /// The algorithm.
        algorithm: ChunkerAlgorithm,
        /// Whether it needs a table.
        wanted: bool,
    },
}

/// A chunking algorithm and its sizes in bytes, as a configuration gives them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkerParams {
    /// The algorithm.
    pub algorithm: ChunkerAlgorithm,
    /// No chunk but the last of a content is smaller.
    pub min: u32,
    /// The size that most chunks are near.
    pub normal: u32,
    /// No chunk is larger.
    pub max: u32,
}

impl ChunkerParams {
    /// Upstream's defaults since 1.1.0.
    pub const UPSTREAM: Self =
        Self { algorithm: ChunkerAlgorithm::FastCdcV1, min: 512 << 10, normal: 1 << 20, max: 8 << 20 };
    /// The defaults of new plaintext stores in the native profile.
    pub const NATIVE: Self = Self { algorithm: ChunkerAlgorithm::FastCdc2020, ..Self::UPSTREAM };
    /// The defaults of new encrypted stores in the native profile.
    pub const NATIVE_KEYED: Self = Self { algorithm: ChunkerAlgorithm::FastCdc2020Keyed, ..Self::UPSTREAM };

    /// Checks the sizes: min ≤ normal ≤ max, each within its bounds, and even where the algorithm goes by pairs.
    pub fn check(&self) -> Result<(), ChunkerError> {
        let pairs =
            matches!(self.algorithm, ChunkerAlgorithm::FastCdc2020 | ChunkerAlgorithm::FastCdc2020Keyed);
        let sizes = [
            ("MinSize", self.min, MIN_MIN..=MAX_MIN, "64 to 1048576 bytes"),
            ("NormalSize", self.normal, MIN_NORMAL..=MAX_NORMAL, "256 to 4194304 bytes"),
            ("MaxSize", self.max, MIN_MAX..=MAX_MAX, "1024 to 16777216 bytes"),
        ];
        let fails = |parameter, found, bound| Err(ChunkerError::OutOfBounds { parameter, found, bound });
        for (parameter, found, range, bound) in sizes {
            if !range.contains(&found) {
                return fails(parameter, found, bound);
            }
            if pairs && found % 2 == 1 {
                return fails(parameter, found, "an even number of bytes");
            }
        }
        if self.normal < self.min {
            return fails("NormalSize", self.normal, "at least MinSize");
        }
        if self.max < self.normal {
            return fails("MaxSize", self.max, "at least NormalSize");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["fastcdc-v1.0.0", "FASTCDC", "fastcdc2020", "fastcdc2020-keyed"] {
            assert_eq!(ChunkerAlgorithm::from_name(name).unwrap().name(), name);
        }
        assert_eq!(ChunkerAlgorithm::from_name("fastcdc").unwrap(), ChunkerAlgorithm::FastCdcLegacy);
        assert_eq!(ChunkerAlgorithm::from_name("FastCDC-V1.0.0").unwrap(), ChunkerAlgorithm::FastCdcV1);
        for name in ["kfastcdc", "ultracdc", "", "fastcdc-v2"] {
            let error = ChunkerAlgorithm::from_name(name).unwrap_err();
            assert_eq!(error, ChunkerError::Unsupported { name: name.to_owned() });
        }
    }

    #[test]
    fn hostile_sizes_are_refused_by_name() {
        let good = ChunkerParams::NATIVE;
        let cases = [
            (ChunkerParams { min: 0, ..good }, "MinSize"),
            (ChunkerParams { min: (1 << 20) + 2, ..good }, "MinSize"),
            (ChunkerParams { min: 65535, ..good }, "MinSize"),
            (ChunkerParams { normal: 0, ..good }, "NormalSize"),
            (ChunkerParams { normal: 8 << 20, ..good }, "NormalSize"),
            (ChunkerParams { normal: 256 << 10, ..good }, "NormalSize"),
            (ChunkerParams { normal: (1 << 20) + 1, ..good }, "NormalSize"),
            (ChunkerParams { max: u32::MAX, ..good }, "MaxSize"),
            (ChunkerParams { max: 1 << 19, ..good }, "MaxSize"),
            (ChunkerParams { max: 0, ..good }, "MaxSize"),
            (ChunkerParams { max: (8 << 20) - 1, ..good }, "MaxSize"),
        ];
        for (params, name) in cases {
            match params.check().unwrap_err() {
                ChunkerError::OutOfBounds { parameter, .. } => assert_eq!(parameter, name, "{params:?}"),
                other => panic!("{other}"),
            }
        }
        for good in [ChunkerParams::NATIVE, ChunkerParams::NATIVE_KEYED, ChunkerParams::UPSTREAM] {
            good.check().unwrap();
        }
        ChunkerParams { min: 65535, ..ChunkerParams::UPSTREAM }.check().unwrap();
    }
}
