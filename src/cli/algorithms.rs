//! Names of algorithms and profiles as people type them.

use std::str::FromStr;

use crate::codec::Compression;
use crate::crypto::HashAlgorithm;
use crate::store::Profile;

/// What `-compression` names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CompressionChoice {
    /// Nothing is compressed.
    None,
    /// Zstandard at a level; `None` leaves the level to the program.
    Zstd(Option<i32>),
    /// LZ4.
    Lz4,
    /// Gzip.
    Gzip,
}

impl FromStr for CompressionChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let (name, level) =
            lower.split_once(':').map_or((lower.as_str(), None), |(name, level)| (name, Some(level)));
        match (name, level) {
            ("none", None) => Ok(Self::None),
            ("lz4", None) => Ok(Self::Lz4),
            ("gzip", None) => Ok(Self::Gzip),
            ("zstd", None) => Ok(Self::Zstd(None)),
            ("zstd", Some(level)) => match level.parse() {
                Ok(level @ 1..=19) => Ok(Self::Zstd(Some(level))),
                _ => Err(format!("'{level}' is not a level of zstd: 1 to 19")),
            },
            _ => Err(format!("'{text}' is not known: zstd, zstd:LEVEL, lz4, gzip or none")),
        }
    }
}

impl From<CompressionChoice> for Compression {
    fn from(choice: CompressionChoice) -> Self {
        match choice {
            CompressionChoice::None => Self::None,
            CompressionChoice::Zstd(level) => Self::zstd(i64::from(level.unwrap_or(1))),
            CompressionChoice::Lz4 => Self::Lz4,
            CompressionChoice::Gzip => Self::Gzip,
        }
    }
}

/// What `-hashing` names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HashingChoice {
    /// BLAKE3.
    Blake3,
    /// SHA-256.
    Sha256,
}

impl FromStr for HashingChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_uppercase().as_str() {
            "BLAKE3" => Ok(Self::Blake3),
            "SHA256" | "SHA-256" => Ok(Self::Sha256),
            _ => Err(format!("'{text}' is not known: BLAKE3 or SHA256")),
        }
    }
}

impl From<HashingChoice> for HashAlgorithm {
    fn from(choice: HashingChoice) -> Self {
        match choice {
            HashingChoice::Blake3 => Self::Blake3,
            HashingChoice::Sha256 => Self::Sha256,
        }
    }
}

/// What `-profile` names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ProfileChoice {
    /// The native profile.
    Native,
    /// Upstream's.
    Plakar,
}

impl FromStr for ProfileChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "native" => Ok(Self::Native),
            "plakar" => Ok(Self::Plakar),
            _ => Err(format!("'{text}' is not known: native or plakar")),
        }
    }
}

impl From<ProfileChoice> for Profile {
    fn from(choice: ProfileChoice) -> Self {
        match choice {
            ProfileChoice::Native => Self::Native,
            ProfileChoice::Plakar => Self::Plakar,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case_and_others_are_refused() {
        assert_eq!("zstd:7".parse(), Ok(CompressionChoice::Zstd(Some(7))));
        assert_eq!("ZSTD".parse(), Ok(CompressionChoice::Zstd(None)));
        assert_eq!("lz4".parse(), Ok(CompressionChoice::Lz4));
        assert_eq!("GZIP".parse(), Ok(CompressionChoice::Gzip));
        assert_eq!("none".parse(), Ok(CompressionChoice::None));
        for text in ["", "zstd:0", "zstd:20", "zstd:x", "lz4:3", "brotli"] {
            assert!(text.parse::<CompressionChoice>().is_err(), "{text}");
        }
        assert_eq!("sha-256".parse(), Ok(HashingChoice::Sha256));
        assert_eq!("blake3".parse(), Ok(HashingChoice::Blake3));
        assert!("md5".parse::<HashingChoice>().is_err());
        assert_eq!("Plakar".parse(), Ok(ProfileChoice::Plakar));
        assert_eq!("native".parse(), Ok(ProfileChoice::Native));
        assert!("x".parse::<ProfileChoice>().is_err());
    }
}
