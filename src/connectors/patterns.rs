//! Patterns of what is left out of a source, in gitignore's syntax.

use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::connector::{Error, ErrorKind, Result};

/// Compiles patterns, relative to `root` wherever their files lie. Those of files come first; later patterns win,
/// `!` takes back. `None` where there are none. Fails on a file that cannot be read and on a pattern that is not
/// valid.
pub(super) fn compile(root: &Path, files: &[PathBuf], patterns: &[String]) -> Result<Option<Gitignore>> {
    if patterns.is_empty() && files.is_empty() {
        return Ok(None);
    }
    let invalid = |target: &str, error: ignore::Error| {
        let kind = match error.io_error() {
            Some(io) if io.kind() == std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Invalid,
        };
        Error::new(kind, "use", target).because(error)
    };
    let mut builder = GitignoreBuilder::new(root);
    for file in files {
        if let Some(error) = builder.add(file) {
            return Err(invalid(&file.display().to_string(), error));
        }
    }
    for pattern in patterns {
        builder.add_line(None, pattern).map_err(|error| invalid(&format!("the pattern {pattern}"), error))?;
    }
    builder.build().map(Some).map_err(|error| invalid("the patterns", error))
}
