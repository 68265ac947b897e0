//! Journals in the local cache: a second copy beside that in the store, which costs no request to read.
//!
//! `j-<run>` holds the journal blobs of one run as they went to the store, sealed where the store is: `id (32) ‖
//! u32 length ‖ encoded blob`, again and again. A blob counts when it decodes to what its id says; the rest of a file
//! behind the first that does not is as good as absent. A file is removed when its run commits, or when it is old.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::base::Id;
use crate::base::sys::{self, FileAt as _};
use crate::format::blob::BlobType;

use super::repository::Repository;

/// Runs that were never taken up again are forgotten after this time.
const OLD: Duration = Duration::from_hours(14 * 24);
/// The longest file: beyond it the copy in the store has to do.
const LONGEST: u64 = 512 << 20;
/// Id and length.
const HEAD: usize = Id::LEN + 4;
/// The most a journal blob takes; they are closed when they exceed 1 MiB.
const LIMIT: usize = 64 << 20;

/// Returns whether a file of the cache folder is a journal that may still be of use.
pub(super) fn is_recent_journal(name: &str, age: Duration) -> bool {
    name.starts_with("j-") && age <= OLD
}

/// The journal file of one run.
#[derive(Debug)]
pub(super) struct JournalFile {
    path: PathBuf,
    length: u64,
}

impl JournalFile {
    pub(super) fn new(folder: PathBuf, run: Id) -> Self {
        Self { path: folder.join(format!("j-{}", &run.to_hex()[..32])), length: 0 }
    }

    /// Appends a blob. What fails costs the copy, nothing else.
    pub(super) fn append(&mut self, id: &Id, encoded: &[u8]) {
        let Ok(length) = u32::try_from(encoded.len()) else { return };
        self.length += encoded.len() as u64;
        if self.length > LONGEST {
            return;
        }
        let record = [id.as_bytes().as_slice(), &length.to_le_bytes(), encoded].concat();
        let file = sys::private_file().append(true).create(true).open(&self.path);
        let _ = file.and_then(|mut file| file.write_all(&record));
    }

    /// Removes the file: the run is committed.
    pub(super) fn forget(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Where a cached blob is.
#[derive(Clone, Copy, Debug)]
struct Spot {
    file: usize,
    offset: u64,
    length: u32,
}

/// The journal files there are, and the blobs in them.
#[derive(Debug, Default)]
pub(super) struct JournalFiles {
    files: Vec<(PathBuf, File)>,
    spots: HashMap<Id, Spot>,
}

impl JournalFiles {
    /// Looks what there is; a folder that cannot be read holds nothing.
    pub(super) fn open(repository: &Repository) -> Self {
        let mut all = Self::default();
        let Some(folder) = repository.journal_folder() else { return all };
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let age = entry.metadata().and_then(|metadata| metadata.modified()).ok();
            let age = age.and_then(|time| SystemTime::now().duration_since(time).ok()).unwrap_or_default();
            if entry.file_name().to_str().is_some_and(|name| is_recent_journal(name, age))
                && let Ok(file) = File::open(entry.path())
            {
                all.index(entry.path(), file);
            }
        }
        all
    }

    fn index(&mut self, path: PathBuf, file: File) {
        let Ok(end) = file.metadata().map(|metadata| metadata.len()) else { return };
        let (number, mut offset) = (self.files.len(), 0);
        let mut head = [0; HEAD];
        while offset + HEAD as u64 <= end && file.read_exact_at(&mut head, offset).is_ok() {
            let (id, length) = head.split_first_chunk().expect("a head begins with an id");
            let length = u32::from_le_bytes(*length.first_chunk().expect("and ends with a length"));
            offset += HEAD as u64;
            if u64::from(length) > end - offset {
                break;
            }
            self.spots.insert(Id(*id), Spot { file: number, offset, length });
            offset += u64::from(length);
        }
        self.files.push((path, file));
    }

    /// Returns the ids of the blobs.
    pub(super) fn ids(&self) -> impl Iterator<Item = Id> + '_ {
        self.spots.keys().copied()
    }

    /// Reads a blob; nothing where it is not there, or not what its id says.
    pub(super) fn get(&self, repository: &Repository, id: &Id) -> Option<Vec<u8>> {
        let spot = self.spots.get(id)?;
        let mut stored = vec![0; spot.length as usize];
        self.files[spot.file].1.read_exact_at(&mut stored, spot.offset).ok()?;
        repository.decode(BlobType::JOURNAL, id, &stored, LIMIT).ok()
    }

    /// Removes the file that holds a blob: its run needs no journal any more.
    pub(super) fn remove(&self, id: &Id) {
        if let Some(spot) = self.spots.get(id) {
            let _ = fs::remove_file(&self.files[spot.file].0);
        }
    }
}
