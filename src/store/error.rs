//! The error of the store floor.

use std::fmt;
use std::io;

use crate::base::{Id, PathError};
use crate::connector;
use crate::format::{self, blob::BlobType};

/// A failed operation on a store. Damage is never the same variant as a failed transport.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A blob that something refers to has no live location.
    #[error("{kind} {id} is missing from the store")]
    Missing {
        /// The type of the blob.
        kind: BlobType,
        /// Its id.
        id: Id,
    },
    /// Bytes are not what they should be: what their MAC says, for one.
    #[error("{what} is damaged: expected {expected}, found {found}")]
    Corrupt {
        /// What was read.
        what: String,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Bytes cannot be opened, decompressed or understood.
    #[error("{what} is damaged: {detail}")]
    Malformed {
        /// What was read.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Something was written by a newer program.
    #[error("{what} has version {found}, this program reads up to {newest}")]
    Version {
        /// What was read.
        what: String,
        /// Its version.
        found: String,
        /// The newest version understood.
        newest: String,
    },
    /// Another program holds a lock that stands in the way.
    #[error("the store is locked by {holder}{}", if *exclusive { " for maintenance" } else { "" })]
    Locked {
        /// The host that holds the lock.
        holder: String,
        /// Whether the lock is exclusive.
        exclusive: bool,
    },
    /// The store cannot be written in the way asked for.
    #[error("the store cannot be written: {0}")]
    ReadOnly(String),
    /// A plaintext store that was never seen before, while a passphrase is at hand.
    #[error(
        "nothing is written to {location}: it is not encrypted, although a passphrase is at hand, and was never seen before"
    )]
    Unvouched {
        /// The store.
        location: String,
    },
    /// What was asked for needs states of version 1.1.0 in a store that holds only older ones.
    #[error(
        "the store holds only states of version 1.0.0, which upstream 1.0.x reads; this needs newer ones"
    )]
    OldStates,
    /// The state of the store moved under a writer whose lock had lapsed.
    #[error("maintenance removed data that this run needs while its lock had lapsed; nothing was committed")]
    Overtaken,
    /// The store may hold more than can be seen, so that nothing in it can be called garbage.
    #[error("the store cannot be seen as a whole: {0}; nothing was changed")]
    Incomplete(String),
    /// The store changed under an exclusive lock.
    #[error("another program wrote to the store meanwhile; nothing was deleted")]
    Interfered,
    /// A snapshot id exists already with another header.
    #[error("snapshot {id} exists already with another header")]
    Collision {
        /// The id that stands for two snapshots.
        id: Id,
    },
    /// A snapshot that had been removed was brought back, but the store does not show it.
    #[error("snapshot {id} was brought back, but another state keeps it removed")]
    NotRevived {
        /// The snapshot.
        id: Id,
    },
    /// No snapshot has this id or prefix.
    #[error("no snapshot matches {0}")]
    NoSnapshot(String),
    /// Several snapshots have this prefix.
    #[error("several snapshots match {0}")]
    Ambiguous(String),
    /// The latest snapshot was asked for, but what may be a later one cannot be read.
    #[error("the latest snapshot cannot be told: {what} cannot be read, and may be later than snapshot {}", readable.short())]
    LatestUnreadable {
        /// What cannot be read: a snapshot, or a state, which may name one.
        what: String,
        /// The latest that can be.
        readable: Id,
    },
    /// A path is not in the snapshot.
    #[error("no such path in the snapshot: {}", path.escape_ascii())]
    NoPath {
        /// The path.
        path: Vec<u8>,
    },
    /// The run was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// An earlier failure of the same run made this one pointless.
    #[error("stopped because an earlier operation failed")]
    Aborted,
    /// The storage of a store failed.
    #[error(transparent)]
    Connector(#[from] connector::Error),
    /// A source, a destination, or what an archive is written to failed: whatever is missing or makes no sense there,
    /// it is no damage of the store.
    #[error(transparent)]
    Elsewhere(connector::Error),
    /// A local file failed.
    #[error(transparent)]
    Io(#[from] PathError),
    /// A temporary file failed.
    #[error("cannot {op} a temporary file{}{place}", if place.is_empty() { "" } else { " in " })]
    Spool {
        /// What was tried.
        op: &'static str,
        /// Where, as far as that is known: a folder, a store.
        place: String,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// The system refused memory.
    #[error("there is no memory for {what}")]
    Memory {
        /// What the memory was for.
        what: &'static str,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// Bytes do not decode.
    #[error(transparent)]
    Format(#[from] format::Error),
}

impl Error {
    /// Creates a [`Error::Corrupt`].
    pub fn corrupt(what: impl fmt::Display, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self::Corrupt { what: what.to_string(), expected: expected.to_string(), found: found.to_string() }
    }

    /// Creates a [`Error::Malformed`] from what a decoder said.
    pub(crate) fn undecodable(what: &str, source: impl fmt::Display) -> Self {
        Self::Malformed { what: what.to_owned(), detail: source.to_string() }
    }

    /// Creates a [`Error::Malformed`].
    pub(crate) fn malformed(what: &str, detail: &str) -> Self {
        Self::Malformed { what: what.to_owned(), detail: detail.to_owned() }
    }

    /// Creates a [`Error::Spool`].
    pub(crate) fn spool(op: &'static str, source: io::Error) -> Self {
        Self::Spool { op, place: String::new(), source }
    }

    /// Creates the error of a spool file that could not be written. One that lies with the store fails as the store
    /// does; `beside` is the store's location then.
    pub(crate) fn unspooled(beside: Option<&str>, source: io::Error) -> Self {
        let Some(store) = beside else {
            return Self::spool("write", source).placed("the folder for temporary files");
        };
        let full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let error = connector::Error::io("write to", format!("the store {store}"), source);
        Self::Connector(if full { error.detail("its disk is full") } else { error })
    }

    /// Says where it was that a temporary file failed, unless that was said.
    pub(crate) fn placed(self, at: impl fmt::Display) -> Self {
        match self {
            Self::Spool { op, place, source } if place.is_empty() => {
                Self::Spool { op, place: at.to_string(), source }
            }
            other => other,
        }
    }

    /// Creates an error of what an archive is written to.
    pub(crate) fn sink(source: io::Error) -> Self {
        match source.downcast::<connector::Error>() {
            Ok(connector) => Self::Elsewhere(connector),
            Err(source) => Self::Elsewhere(connector::Error::io("write", "the archive", source)),
        }
    }

    /// Says that a blob is larger than the format can express.
    pub(crate) fn too_large(kind: BlobType, id: Id) -> Self {
        Self::Malformed { what: format!("{kind} {id}"), detail: "an encoded blob must be below 4 GiB".into() }
    }

    /// Returns whether this is damage of what is stored, rather than a failure to reach or to write it.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Missing { .. }
            | Self::Corrupt { .. }
            | Self::Malformed { .. }
            | Self::LatestUnreadable { .. } => true,
            Self::Format(error) => !matches!(error, format::Error::Io { .. }),
            // A packfile that is gone, or shorter than the states say.
            Self::Connector(error) => {
                matches!(error.kind, connector::ErrorKind::Protocol | connector::ErrorKind::NotFound)
            }
            _ => false,
        }
    }
}
