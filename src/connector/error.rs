//! The error of every connector.

use std::error::Error as StdError;
use std::io;

use crate::base::PathError;

/// The result of a connector's operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it was: chosen where the failure is understood, read where it is handled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The thing addressed does not exist.
    NotFound,
    /// Credentials or permissions do not allow it.
    Denied,
    /// It exists already and must not be replaced.
    Exists,
    /// The backend cannot be written.
    ReadOnly,
    /// The backend has no such operation.
    Unsupported,
    /// It lies in cold storage, and has to be retrieved before it can be read.
    Archived,
    /// No space, or a size limit was hit.
    Full,
    /// The far side could not be reached, or the connection failed; trying again may help.
    Transport,
    /// The far side answered something that makes no sense.
    Protocol,
    /// A location, option or name is not valid.
    Invalid,
    /// The source changed while it was read.
    Changed,
    /// The operation was cancelled.
    Cancelled,
    /// Any other failure of the system.
    Io,
}

/// A failed operation: what was tried, on what, why. Never holds a secret or a signed URL.
#[derive(Debug, thiserror::Error)]
#[error("cannot {op} {target}{}", detail.as_ref().map(|d| format!(": {d}")).unwrap_or_default())]
pub struct Error {
    /// The kind, for those who handle it.
    pub kind: ErrorKind,
    /// What was tried, as a verb: "read", "list", "put".
    pub op: &'static str,
    /// The path, key or URL it was tried on, secrets and signatures removed.
    pub target: String,
    /// What the backend said, and what to do about it where that is known.
    pub detail: Option<String>,
    /// The cause below.
    #[source]
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Creates an error without a cause.
    pub fn new(kind: ErrorKind, op: &'static str, target: impl Into<String>) -> Self {
        Self { kind, op, target: target.into(), detail: None, source: None }
    }

    /// Adds what the backend said.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Creates an error from a system error.
    pub fn io(op: &'static str, target: impl Into<String>, source: io::Error) -> Self {
        Self::new(kind_of(&source), op, target).because(source)
    }
}

fn kind_of(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        io::ErrorKind::AlreadyExists => ErrorKind::Exists,
        io::ErrorKind::ReadOnlyFilesystem => ErrorKind::ReadOnly,
        io::ErrorKind::StorageFull | io::ErrorKind::FileTooLarge | io::ErrorKind::QuotaExceeded => {
            ErrorKind::Full
        }
        io::ErrorKind::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::Io,
    }
}

impl From<PathError> for Error {
    fn from(error: PathError) -> Self {
        Self::io(error.op, error.path.display().to_string(), error.source)
    }
}
