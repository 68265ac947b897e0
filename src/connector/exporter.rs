//! Where the content of a snapshot is restored to.

use std::fmt;

use super::{Error, ErrorKind, Result, Work, Xattr};
use crate::base::RawString;
use crate::base::spill::SpillDir;
use crate::format::entry::Entry;

/// One thing to restore.
#[derive(Debug)]
pub struct Item<'a> {
    /// The path below the destination's root: `a/b`, no leading slash, empty for the root itself. Clean (no empty,
    /// `.` or `..` segment, no NUL), but otherwise whatever the snapshot says.
    pub path: &'a RawString,
    /// Its entry, custom metadata included.
    pub entry: &'a Entry,
    /// Its extended attributes.
    pub xattrs: &'a [Xattr],
}

/// What became of an item.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It stands at the destination now.
    Restored,
    /// It stood there already, equal as far as that can be known.
    Equal,
    /// It was left out on request (an existing target).
    Skipped,
    /// It was restored, but not all of it: each string says what is missing ("owner", "tags").
    Partly(Vec<String>),
    /// The destination cannot hold such a thing; the string says why.
    Unsupported(String),
}

/// What a restore notes of an item that it put in place, for the one that goes on after an interruption. What it
/// means is its exporter's business.
pub type Receipt = u64;

/// The verified content of one file, at random access: what a retry reads again is regenerated, not kept.
pub trait ContentSource: fmt::Debug + Sync {
    /// Returns the length in bytes.
    fn size(&self) -> u64;

    /// Fills `buffer` from `offset` on. Every byte delivered was verified against its MAC. Fails when `offset` plus
    /// the buffer's length is past the end, or when the content is damaged or unreachable.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()>;

    /// Returns good places to cut the content: ascending offsets, the first being 0, none at or past the end.
    fn boundaries(&self) -> Vec<u64>;
}

/// Content that is in memory.
impl ContentSource for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let from = usize::try_from(offset).ok();
        let bytes = from.and_then(|from| self.get(from..from.checked_add(buffer.len())?));
        let past = || Error::new(ErrorKind::Invalid, "read", "bytes in memory").detail("past their end");
        buffer.copy_from_slice(bytes.ok_or_else(past)?);
        Ok(())
    }

    fn boundaries(&self) -> Vec<u64> {
        if self.is_empty() { Vec::new() } else { vec![0] }
    }
}

/// Whether a destination keeps what is restored over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum VersionsKept {
    /// Only the last version is kept.
    Nothing,
    /// Every version is kept.
    All,
    /// Every version should be kept, which cannot be asked; the reason for people.
    Untold(String),
}

/// A destination of a restore. Calls come from several threads, a folder's before those of what it holds.
pub trait Exporter: fmt::Debug + Send + Sync {
    /// Returns the location for people and errors, without secrets.
    fn location(&self) -> String;

    /// Returns what this very destination is known by, for the journal of a restore: two destinations never have it in
    /// common, however they are spelled and whatever stood under the name before. `None` where that cannot be told: an
    /// interrupted restore is then done anew.
    fn identity(&self) -> Option<Vec<u8>> {
        Some(self.location().into_bytes())
    }

    /// Creates a folder, or takes an existing one.
    fn folder(&self, item: &Item<'_>) -> Result<Outcome>;

    /// Restores a regular file: complete under its name, or not at all.
    fn file(&self, item: &Item<'_>, content: &dyn ContentSource) -> Result<Outcome>;

    /// Restores a regular file as a hard link to one already restored at `first` (a path like the item's).
    fn hard_link(&self, item: &Item<'_>, first: &RawString) -> Result<Outcome> {
        let _ = (item, first);
        Ok(Outcome::Unsupported("hard links".into()))
    }

    /// Restores anything else: symbolic links, pipes, sockets, devices.
    fn special(&self, item: &Item<'_>) -> Result<Outcome>;

    /// Sets what a folder's content would disturb (times, modes). Called once per folder, children first.
    fn finish_folder(&self, item: &Item<'_>) -> Result<Outcome>;

    /// Ends the restore.
    fn finish(&self) -> Result<()> {
        Ok(())
    }

    /// Looks at what stands at the destination, once, before anything is restored, where that helps to spare work.
    /// About `expected` files will be restored.
    fn survey(&self, spills: &SpillDir, expected: u64) -> Result<()> {
        let _ = (spills, expected);
        Ok(())
    }

    /// Returns whether a regular file stands there already, as far as that can be told without its content; its
    /// extended attributes are not at hand. `receipt` is that of an interrupted restore which put it there. The root
    /// is asked for, too, if it has a receipt.
    fn stands(&self, item: &Item<'_>, receipt: Option<Receipt>) -> Result<bool> {
        let _ = (item, receipt);
        Ok(false)
    }

    /// Returns the receipt of a file, or of the root, that was just restored.
    fn receipt(&self, item: &Item<'_>) -> Receipt {
        let _ = item;
        0
    }

    /// Returns whether hard links can be made here.
    fn links(&self) -> bool {
        false
    }

    /// Returns whether versions of one file can be restored one over the other, deletions (special files with the
    /// metadata `s3.delete-marker`) between them, and all of them are kept. Fails where they should be and are known
    /// not to be; nothing is changed.
    fn keeps_versions(&self) -> Result<VersionsKept> {
        Ok(VersionsKept::Nothing)
    }

    /// Says where writing spends its time.
    fn work(&self) -> Work;
}
