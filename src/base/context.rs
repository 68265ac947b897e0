//! Context for I/O errors, in one word: `fs::read(path).at("read", path)?`.

use std::io;
use std::path::{Path, PathBuf};

/// An I/O error with the operation that failed and the path it failed on.
#[derive(Debug, thiserror::Error)]
#[error("cannot {op} {}", path.display())]
pub struct PathError {
    /// What was tried, as a verb: "read", "create", "rename".
    pub op: &'static str,
    /// What it was tried on.
    pub path: PathBuf,
    /// What the system answered.
    #[source]
    pub source: io::Error,
}

/// Adds the operation and the path to an I/O result.
pub trait At<T> {
    /// Wraps the error, if any, in a [`PathError`].
    fn at(self, op: &'static str, path: impl AsRef<Path>) -> Result<T, PathError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, op: &'static str, path: impl AsRef<Path>) -> Result<T, PathError> {
        self.map_err(|source| PathError { op, path: path.as_ref().to_owned(), source: source.into() })
    }
}
