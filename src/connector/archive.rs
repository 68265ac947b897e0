//! Where a single-file archive is written.

use std::fmt;
use std::io::Write;

use super::Result;

/// A forward-only destination of one archive: a file, a pipe, an object.
///
/// What was written becomes visible as a whole with [`commit`](Self::commit), or not at all: a sink that is
/// dropped without it leaves nothing behind, where the destination allows that (a pipe does not).
pub trait ArchiveSink: Write + fmt::Debug + Send {
    /// Makes everything written durable and visible under the archive's name.
    fn commit(self: Box<Self>) -> Result<()>;
}
