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

/// Takes the path out of what the crate `tempfile` says, which spells it as a debugger would: [`PathError`] adds it
/// again. The crate keeps its error's type to itself, so it is known by its words.
fn bare(error: io::Error) -> io::Error {
    let Some(words) = error.get_ref().map(ToString::to_string) else { return error };
    let Some((cause, _)) = words.split_once(" at path \"") else { return error };
    let code = cause.rsplit_once("(os error ").and_then(|(_, code)| code.strip_suffix(')')?.parse().ok());
    code.map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

/// Adds the operation and the path to an I/O result.
pub trait At<T> {
    /// Wraps the error, if any, in a [`PathError`].
    fn at(self, op: &'static str, path: impl AsRef<Path>) -> Result<T, PathError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, op: &'static str, path: impl AsRef<Path>) -> Result<T, PathError> {
        self.map_err(|source| PathError { op, path: path.as_ref().to_owned(), source: bare(source.into()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_temporary_file_lacks_is_said_without_quotes() {
        let folder = Path::new("/nowhere/at/all");
        let error = tempfile::NamedTempFile::new_in(folder).at("create a file in", folder);
        let error = error.expect_err("there is no such folder");
        assert_eq!(error.to_string(), "cannot create a file in /nowhere/at/all");
        assert_eq!(error.source.to_string(), "No such file or directory (os error 2)");
        assert_eq!(error.source.raw_os_error(), Some(2));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_stops_a_write_to_one_is_said_without_quotes() {
        use std::io::Write as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("full");
        std::os::unix::fs::symlink("/dev/full", &path).expect("a link");
        let open = |path: &Path| std::fs::File::options().write(true).open(path);
        let mut file = tempfile::Builder::new().make_in(folder.path(), |_| open(&path)).expect("a device");
        let error = file.write_all(b"more").at("write", "/etc/x").expect_err("there is no room");
        assert_eq!(error.source.to_string(), "No space left on device (os error 28)");
        let told = io::Error::other("words of its own");
        assert_eq!(
            Err::<(), _>(told).at("write", "x").expect_err("an error").source.to_string(),
            "words of its own"
        );
    }
}
