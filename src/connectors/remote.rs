//! An archive behind a network, read by ranges: what is common to whatever serves them.
//!
//! The first request fetches the end of the file, whose last bytes tell where everything is; the second the
//! beginning with CONFIG. Every other range is widened to multiples of 64 KiB, so that a server learns less of where
//! blobs begin and neighbours come along; small ones are kept for a while, because a reader of metadata comes back.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::archive::{Archive, ArchiveBytes};
use super::container::{self, HEAD, MAX_CONFIG, TRAILER};
use crate::connector::{Error, ErrorKind, Result};

/// How much of the end is fetched at once and kept, in bytes.
pub(super) const TAIL: u64 = 64 << 10;
/// Ranges are widened to multiples of this many bytes.
const ALIGNMENT: u64 = 64 << 10;
/// Ranges of at most this many bytes are kept.
const KEPT_LENGTH: usize = 256 << 10;
/// How many are kept.
const KEPT: usize = 16;

/// A file on the far side, one version of it.
pub trait Ranges: fmt::Debug + Send + Sync {
    /// Returns the location for people and errors, without secrets.
    fn target(&self) -> String;

    /// Reads exactly `length` bytes, not none, from `offset` on. Fails with `Changed` when the file is another by now.
    fn fetch(&self, offset: u64, length: usize) -> Result<Vec<u8>>;
}

/// The end of a file, and with that its length.
#[derive(Debug)]
pub(super) struct Tail {
    /// Where it begins in the file.
    pub(super) offset: u64,
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
}

impl Tail {
    /// Returns the length of the whole file in bytes.
    pub(super) fn total(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }

    fn get(&self, offset: u64, length: usize) -> Option<&[u8]> {
        part_of(self.offset, &self.bytes, offset, length)
    }
}

/// Returns a range that lies within bytes that begin at `start`.
fn part_of(start: u64, bytes: &[u8], offset: u64, length: usize) -> Option<&[u8]> {
    let from = usize::try_from(offset.checked_sub(start)?).ok()?;
    bytes.get(from..from.checked_add(length)?)
}

/// A range that was fetched, with where it begins.
type Fetched = (u64, Arc<Vec<u8>>);

/// A `.ptar` behind a network, opened as a store that holds one packfile and one state.
pub type RemoteArchive<R> = Archive<RemoteFile<R>>;

/// The file of such an archive: its end, and what was read of it lately, are kept.
#[derive(Debug)]
pub struct RemoteFile<R> {
    ranges: R,
    tail: Tail,
    /// What was fetched last, the newest at the end.
    kept: Mutex<VecDeque<Fetched>>,
}

impl<R: Ranges> RemoteArchive<R> {
    /// Reads the layout of a file whose end is known, with one more request where that is not all of it.
    pub(super) fn open_ranges(ranges: R, tail: Tail, modified: Option<SystemTime>) -> Result<Self> {
        let total = tail.total();
        let target = ranges.target();
        if total < HEAD + TRAILER {
            return Err(container::no_archive(&tail.bytes, &target));
        }
        let trailer = &tail.bytes[tail.bytes.len() - 48..];
        // The beginning and CONFIG in one request, if the table makes sense; if not, the beginning tells why.
        let length = usize::try_from((HEAD + config_length(trailer)).min(total)).expect("at most 33 KiB");
        let begin = match tail.get(0, length) {
            Some(bytes) => bytes.to_vec(),
            None => ranges.fetch(0, length)?,
        };
        let layout = container::parse(&begin, trailer, total, &target)?;
        let config = begin[12..].to_vec();
        Ok(Self::new(RemoteFile { ranges, tail, kept: Mutex::default() }, layout, config, modified))
    }
}

impl<R: Ranges> RemoteFile<R> {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Fetched>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the range that holds another, if it was kept.
    fn kept(&self, at: u64, length: usize) -> Option<Fetched> {
        let mut kept = self.lock();
        let found = kept.iter().position(|(start, bytes)| part_of(*start, bytes, at, length).is_some())?;
        let range = kept.remove(found)?;
        kept.push_back(range.clone());
        Some(range)
    }

    /// Fetches a range, widened.
    fn fetch(&self, at: u64, length: usize) -> Result<Fetched> {
        let start = at / ALIGNMENT * ALIGNMENT;
        let end = (at + length as u64).next_multiple_of(ALIGNMENT).min(self.tail.total());
        let length = usize::try_from(end - start)
            .map_err(|_| Error::new(ErrorKind::Full, "read", self.ranges.target()))?;
        let range = (start, Arc::new(self.ranges.fetch(start, length)?));
        if length <= KEPT_LENGTH {
            let mut kept = self.lock();
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back(range.clone());
        }
        Ok(range)
    }
}

/// Returns the length of CONFIG that a table of sections tells, before it was checked; 0 if it cannot be.
fn config_length(trailer: &[u8]) -> u64 {
    let length = trailer.get(8..).and_then(|rest| rest.first_chunk()).map(|bytes| u64::from_le_bytes(*bytes));
    length.filter(|length| *length <= MAX_CONFIG).unwrap_or(0)
}

impl<R: Ranges> ArchiveBytes for RemoteFile<R> {
    fn target(&self) -> String {
        self.ranges.target()
    }

    fn read(&self, at: u64, length: usize, consume: &mut dyn FnMut(&[u8])) -> Result<()> {
        if let Some(bytes) = self.tail.get(at, length) {
            consume(bytes);
            return Ok(());
        }
        let (start, bytes) = match self.kept(at, length) {
            Some(range) => range,
            None => self.fetch(at, length)?,
        };
        let short = || Error::new(ErrorKind::Protocol, "read", self.ranges.target());
        consume(part_of(start, &bytes, at, length).ok_or_else(short)?);
        Ok(())
    }

    fn read_all(&self, at: u64, length: usize) -> Result<Vec<u8>> {
        match self.tail.get(at, length) {
            Some(bytes) => Ok(bytes.to_vec()),
            None => self.ranges.fetch(at, length),
        }
    }

    fn is_remote(&self) -> bool {
        true
    }
}
