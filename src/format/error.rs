//! What can be wrong with bytes.

use std::io;

use super::version::Version;

/// Why bytes could not be decoded. Apart from [`Error::Io`], each of these is a property of the bytes themselves.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are there, but they are not what the format asks for.
    #[error("malformed {what}: {detail}")]
    Malformed {
        /// The record being decoded: "state", "entry".
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The record is of a version that this program does not read.
    #[error("{what} has version {found}, which this program does not read")]
    Version {
        /// The record being decoded.
        what: &'static str,
        /// Its version.
        found: Version,
    },
    /// The bytes end before the record does.
    #[error("truncated {what}: {needed} bytes needed, {available} left")]
    Truncated {
        /// The record being decoded.
        what: &'static str,
        /// How many bytes were to come, at least.
        needed: u64,
        /// How many were left; 0 for streams, which end when they end.
        available: u64,
    },
    /// The stream below failed. Never a statement about the record.
    #[error("cannot read {what}")]
    Io {
        /// The record being decoded.
        what: &'static str,
        /// What the stream reported.
        #[source]
        source: io::Error,
    },
}

/// The result of decoding.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Creates a [`Error::Malformed`].
    pub fn malformed(what: &'static str, detail: impl Into<String>) -> Self {
        Self::Malformed { what, detail: detail.into() }
    }

    /// Creates a [`Error::Truncated`].
    pub(crate) fn truncated(what: &'static str, needed: usize, available: usize) -> Self {
        Self::Truncated { what, needed: needed as u64, available: available as u64 }
    }

    /// Sorts an error of a stream: an early end is the record's fault, anything else the stream's.
    pub(crate) fn from_stream(what: &'static str, needed: u64, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::UnexpectedEof {
            Self::Truncated { what, needed, available: 0 }
        } else {
            Self::Io { what, source }
        }
    }
}
