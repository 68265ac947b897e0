//! One type for all algorithms.

use std::fmt;

use super::error::CompressionError;
use super::{gzip, lz4, zstd};

/// What a configuration's `Compression` member asks for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Compression {
    /// No compression: everything is stored as it is.
    None,
    /// LZ4 frames; upstream's default. The configured level has no effect, there as here.
    Lz4,
    /// RFC 1952, level 6.
    Gzip,
    /// Zstandard.
    Zstd {
        /// The library's level; [`Compression::zstd`] brings it within bounds.
        level: i32,
    },
}

impl Compression {
    /// Zstandard levels that are accepted. The negative ones are faster than 1 by leaving out entropy coding; those
    /// above 19 would want windows that upstream does not read, and hundreds of megabytes per thread.
    pub const ZSTD_LEVELS: std::ops::RangeInclusive<i32> = -50..=19;

    /// Zstandard at the level nearest to `level` within [`ZSTD_LEVELS`](Self::ZSTD_LEVELS).
    pub fn zstd(level: i64) -> Self {
        let (least, most) = (i64::from(*Self::ZSTD_LEVELS.start()), i64::from(*Self::ZSTD_LEVELS.end()));
        Self::Zstd { level: i32::try_from(level.clamp(least, most)).expect("clamped") }
    }

    /// Finds the algorithm of a configuration's `Compression.Algorithm`; only `ZSTD` looks at the level.
    pub fn from_name(name: &str, level: i64) -> Result<Self, CompressionError> {
        match name {
            "LZ4" => Ok(Self::Lz4),
            "GZIP" => Ok(Self::Gzip),
            "ZSTD" => Ok(Self::zstd(level)),
            _ => Err(CompressionError::Unsupported { name: name.to_owned() }),
        }
    }

    /// Returns the name that a configuration uses; `None` stands for the absent member.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Lz4 => Some("LZ4"),
            Self::Gzip => Some("GZIP"),
            Self::Zstd { .. } => Some("ZSTD"),
        }
    }

    /// Appends `data` as one frame to `out`. Working memory is kept per thread, so that small blobs cost little.
    ///
    /// Empty data is a frame for LZ4 and GZIP, and nothing at all for ZSTD, as upstream has it.
    pub fn compress(self, data: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::None => out.extend_from_slice(data),
            Self::Lz4 => lz4::compress(data, out),
            Self::Gzip => gzip::compress(data, out),
            Self::Zstd { level } => zstd::compress(level, data, out),
        }
    }

    /// Appends the content of one frame to `out`, at most `limit` bytes of it. On error `out` is as it was.
    ///
    /// The frame must fill `data` exactly. Allocates no more than about twice `limit`, whatever `data` announces.
    pub fn decompress(self, data: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CompressionError> {
        let before = out.len();
        let result = match self {
            Self::None if data.len() > limit => Err(CompressionError::TooLong { limit }),
            Self::None => {
                out.extend_from_slice(data);
                Ok(())
            }
            Self::Lz4 => lz4::decompress(data, limit, out),
            Self::Gzip => gzip::decompress(data, limit, out),
            Self::Zstd { .. } => zstd::decompress(data, limit, out),
        };
        if result.is_err() {
            out.truncate(before);
        }
        result
    }

    /// Returns whether `data` is one frame just as this program or upstream writes it, with nothing around it, so
    /// that it may be copied into another store of the same compression without being decoded and encoded anew.
    ///
    /// Looks at structure only: that the content is right is for [`decompress`](Self::decompress) to say.
    pub fn is_single_canonical_frame(self, data: &[u8]) -> bool {
        match self {
            Self::None => true,
            Self::Lz4 => lz4::is_canonical(data),
            Self::Gzip => gzip::is_canonical(data),
            Self::Zstd { .. } => zstd::is_canonical(data),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zstd { level } => write!(f, "ZSTD level {level}"),
            other => f.write_str(other.name().unwrap_or("none")),
        }
    }
}
