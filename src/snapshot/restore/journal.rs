//! What a restore has put in place so far, so that an interrupted one goes on where it was.
//!
//! One file per store, snapshot, start, time as of which, and destination (not its name, but that very folder or
//! bucket, with the options that make another object of the same item), in the local cache (`restores/`, 0700): a
//! header of 8 bytes of magic and the 32 bytes that name all of these, then records of 40 bytes: a MAC of the item's
//! path and object under the store's cache key, and the exporter's receipt (u64, little-endian). It is appended to in
//! small batches, synchronised every few seconds, locked while it is in use, and removed when a restore ends without
//! an error. What is cut short or makes no sense is left out; without the file everything is restored again.
//!
//! **What it is trusted for.** Only for items that still look right at the destination: the exporter is given the
//! receipt and says whether what stands there is what was put. A folder compares size, time and mode, and only
//! within one boot of the machine, since what is written is not synchronised file by file. A bucket compares the ETag
//! of its listing, or of the object where the listing is too long; where nobody may look, the journal alone has to do.

use std::fs::{self, File};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::base::lookup::{Lookup, LookupBuilder};
use crate::base::{Id, sys};
use crate::connector::{Exporter, Receipt, Work};
use crate::format::entry::Entry;
use crate::store::Repository;

use super::super::catalogue::SnapshotInfo;
use super::versions::Versions;

const MAGIC: &[u8; 8] = b"PKRES\0\0\x01";
/// The name of what is restored, and the receipt.
const RECORD: usize = Id::LEN + 8;
/// Records written at once.
const BATCH: usize = 32;
/// How often the file is synchronised.
const SYNC: Duration = Duration::from_secs(5);
/// Restores that were never taken up again are forgotten after this time.
const OLD: Duration = Duration::from_hours(14 * 24);

/// The journal of one restore.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    identity: Id,
    key: crate::crypto::MacKey,
    earlier: Option<Lookup>,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    batch: Vec<u8>,
    synced: Instant,
}

impl Journal {
    /// Opens or creates the journal of a restore below the cache folder. `None` when there can be none: the folder
    /// cannot be used, the destination cannot be told from others, or another process is at the same restore.
    pub(super) fn open(
        cache: &Path,
        repository: &Repository,
        snapshot: &SnapshotInfo,
        (start, versions): (&[u8], Versions),
        exporter: &dyn Exporter,
    ) -> Option<Self> {
        let folder = cache.join("restores");
        sys::private_folder().recursive(true).create(&folder).ok()?;
        let metadata = fs::symlink_metadata(&folder).ok()?;
        if !metadata.is_dir() || !sys::is_private(&metadata) {
            return None;
        }
        sweep(&folder);
        let key = repository.keys().local().clone();
        let identity = identity(&key, repository, snapshot, (start, versions), exporter)?;
        let path = folder.join(&identity.to_hex()[..32]);
        let file =
            sys::private_file().read(true).write(true).create(true).truncate(false).open(&path).ok()?;
        file.try_lock().ok()?;
        let (earlier, file) = load(file, &identity, repository)?;
        let open = Open { file, batch: Vec::new(), synced: Instant::now() };
        Some(Self { path, identity, key, earlier, open: Mutex::new(open) })
    }

    /// Returns the receipt of an item that an interrupted run put in place.
    pub(super) fn receipt(&self, path: &[u8], entry: &Entry) -> Option<Receipt> {
        let value = self.earlier.as_ref()?.get(&self.name(path, entry)).ok()??;
        value.as_slice().try_into().ok().map(Receipt::from_le_bytes)
    }

    /// Notes that an item was put in place. What fails costs the next run some work, nothing else.
    pub(super) fn add(&self, path: &[u8], entry: &Entry, receipt: Receipt) {
        let name = self.name(path, entry);
        let mut open = self.lock();
        open.batch.extend_from_slice(name.as_bytes());
        open.batch.extend_from_slice(&receipt.to_le_bytes());
        if open.batch.len() < BATCH * RECORD {
            return;
        }
        open.flush();
        if open.synced.elapsed() < SYNC {
            return;
        }
        open.synced = Instant::now();
        if let Ok(file) = open.file.try_clone() {
            drop(open);
            let _ = file.sync_data();
        }
    }

    /// Ends the journal: one of a restore that is complete is removed.
    pub(super) fn finish(&self, complete: bool) {
        if complete {
            let _ = fs::remove_file(&self.path);
        } else {
            self.lock().flush();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self, path: &[u8], entry: &Entry) -> Id {
        let mut hasher = self.key.hasher();
        hasher.update(self.identity.as_bytes());
        hasher.update(entry.object.as_bytes());
        hasher.update(path);
        hasher.finish()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.lock().flush();
    }
}

impl Open {
    fn flush(&mut self) {
        let _ = self.file.write_all(&self.batch);
        self.batch.clear();
    }
}

/// Names a restore: everything that makes it another one. `None` where the destination has no identity.
fn identity(
    key: &crate::crypto::MacKey,
    repository: &Repository,
    snapshot: &SnapshotInfo,
    (start, versions): (&[u8], Versions),
    exporter: &dyn Exporter,
) -> Option<Id> {
    let boot = match exporter.work() {
        Work::Local => fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default(),
        Work::Waiting(_) => String::new(),
    };
    let destination = exporter.identity()?;
    let mut hasher = key.hasher();
    let point = match versions {
        Versions::Latest => b"latest".to_vec(),
        Versions::All => b"all".to_vec(),
        Versions::AsOf(time) => {
            [time.secs.to_le_bytes().as_slice(), time.nanos.to_le_bytes().as_slice()].concat()
        }
    };
    let parts: [&[u8]; 7] = [
        b"restore",
        &repository.config().repository_id,
        snapshot.id.as_bytes(),
        boot.as_bytes(),
        start,
        &point,
        &destination,
    ];
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    Some(hasher.finish())
}

/// Reads what an earlier run left; leaves the file at the end of its last whole record.
fn load(mut file: File, identity: &Id, repository: &Repository) -> Option<(Option<Lookup>, File)> {
    let header = [MAGIC.as_slice(), identity.as_bytes()].concat();
    let mut found = vec![0; header.len()];
    let length = file.metadata().ok()?.len();
    if length < header.len() as u64 || file.read_exact(&mut found).is_err() || found != header {
        file.set_len(0).ok()?;
        file.seek(SeekFrom::Start(0)).ok()?;
        file.write_all(&header).ok()?;
        return Some((None, file));
    }
    let count = (length - header.len() as u64) / RECORD as u64;
    let mut builder = LookupBuilder::new(repository.spills(), RECORD - Id::LEN);
    let mut reader = BufReader::with_capacity(1 << 16, &file);
    let mut record = [0; RECORD];
    for _ in 0..count {
        reader.read_exact(&mut record).ok()?;
        let (name, receipt) = record.split_first_chunk().expect("a record begins with a name");
        builder.push(&Id(*name), receipt).ok()?;
    }
    let end = header.len() as u64 + count * RECORD as u64;
    file.set_len(end).ok()?;
    file.seek(SeekFrom::Start(end)).ok()?;
    let earlier = if builder.is_empty() { None } else { Some(builder.finish().ok()?) };
    Some((earlier, file))
}

/// Removes journals that nobody came back for.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        let age = modified.and_then(|time| SystemTime::now().duration_since(time).ok());
        if age.is_some_and(|age| age > OLD) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
