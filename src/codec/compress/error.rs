//! What can be wrong with compressed data.

use std::io;

/// Decompression failed, or a configuration asks for an algorithm that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// The data does not follow its format.
    #[error("malformed {algorithm} data: {what}")]
    Malformed {
        /// The algorithm's name.
        algorithm: &'static str,
        /// What is wrong.
        what: &'static str,
    },
    /// The data ends within a frame.
    #[error("truncated {algorithm} data")]
    Truncated {
        /// The algorithm's name.
        algorithm: &'static str,
    },
    /// The content is not what was compressed.
    #[error("{algorithm} checksum mismatch")]
    Checksum {
        /// The algorithm's name.
        algorithm: &'static str,
    },
    /// Something follows the frame.
    #[error("data after the end of the {algorithm} frame")]
    Trailing {
        /// The algorithm's name.
        algorithm: &'static str,
    },
    /// The content is larger than it may be.
    #[error("decompressed data exceeds {limit} bytes")]
    TooLong {
        /// The bound that the caller gave.
        limit: usize,
    },
    /// An algorithm that is not supported.
    #[error("unsupported compression method: {}", name.escape_debug())]
    Unsupported {
        /// Its name.
        name: String,
    },
}

impl CompressionError {
    /// Finds the cause in an error of a [`FrameReader`](super::FrameReader); `None` when it is a fault of the
    /// transport below.
    pub fn in_io(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<CompressionError> for io::Error {
    fn from(error: CompressionError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}
