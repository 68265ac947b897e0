//! Where a single-file archive is written.

use std::fmt;
use std::io::{self, Write};

use super::{Error, ErrorKind, Result};

/// A forward-only destination of one archive: a file, a pipe, an object.
///
/// What was written becomes visible as a whole with [`commit`](Self::commit), or not at all: a sink that is
/// dropped without it leaves nothing behind, where the destination allows that (a pipe does not).
///
/// After a write that failed, every further one fails and so does the commit: see [`WriteFault`].
pub trait ArchiveSink: Write + fmt::Debug + Send {
    /// Makes everything written durable and visible under the archive's name.
    fn commit(self: Box<Self>) -> Result<()>;
}

/// Whether a write failed. Nobody knows how much of that one arrived, so that nothing may follow it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WriteFault {
    happened: bool,
}

impl WriteFault {
    /// Passes on what became of a write, and remembers a failure. One that was only interrupted may be tried again.
    pub fn note<T>(&mut self, written: io::Result<T>) -> io::Result<T> {
        self.happened |= written.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted);
        written
    }

    /// Fails when a write of `target` failed before.
    pub fn check(self, target: impl fmt::Display) -> Result<()> {
        if !self.happened {
            return Ok(());
        }
        let error = Error::new(ErrorKind::Io, "write", target.to_string());
        Err(error.detail("an earlier write failed, so that the archive is not whole"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_final_and_an_interruption_is_none() {
        let mut fault = WriteFault::default();
        fault.note(Ok(1)).unwrap();
        fault.note::<()>(Err(io::ErrorKind::Interrupted.into())).unwrap_err();
        fault.check("x").unwrap();
        fault.note::<()>(Err(io::ErrorKind::StorageFull.into())).unwrap_err();
        fault.note(Ok(1)).unwrap();
        let error = fault.check("x.ptar").unwrap_err().to_string();
        assert!(error.contains("x.ptar") && error.contains("earlier write failed"), "{error}");
    }
}
