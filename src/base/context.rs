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

/// Takes the path out of what the crate `tempfile` says, which spells it as a debugger would. [`PathError`] adds it
/// again.
pub fn bare(error: io::Error) -> io::Error {
    if error.get_ref().is_some() { error.kind().into() } else { error }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_temporary_file_lacks_is_said_without_quotes() {
        let folder = Path::new("/nowhere/at/all");
        let error = tempfile::NamedTempFile::new_in(folder).map_err(bare).at("create a file in", folder);
        let error = error.expect_err("there is no such folder");
        assert_eq!(error.to_string(), "cannot create a file in /nowhere/at/all");
        assert_eq!(error.source.to_string(), "entity not found");
    }
}
