//! Digests of files, as other programs compute them over the same bytes.

use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use sha2::Digest as _;

use crate::base::{Cancel, Id};
use crate::crypto::HashAlgorithm;
use crate::format::blob::BlobType;
use crate::format::entry::Entry;
use crate::format::object::Object;
use crate::store::blob::BlobSource as _;
use crate::store::{Error, Repository};

use super::monitor::{Counter, Monitor};
use super::part::{Part, report};
use super::restore::read_chunk;
use super::vfs::read::Visit;

/// Files whose digests are computed side by side.
const BATCH: usize = 64;

enum Hasher {
    Blake3(Box<blake3::Hasher>),
    Sha256(Box<sha2::Sha256>),
}

impl Hasher {
    fn new(algorithm: HashAlgorithm) -> Self {
        match algorithm {
            HashAlgorithm::Blake3 => Self::Blake3(Box::default()),
            HashAlgorithm::Sha256 => Self::Sha256(Box::default()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Blake3(hasher) => drop(hasher.update(bytes)),
            Self::Sha256(hasher) => hasher.update(bytes),
        }
    }

    fn finish(self) -> Id {
        match self {
            Self::Blake3(hasher) => Id(*hasher.finalize().as_bytes()),
            Self::Sha256(hasher) => Id(hasher.finalize().into()),
        }
    }
}

/// Computes the digest of a file's content, which is read chunk by chunk and verified.
pub fn digest(
    repository: &Repository,
    file: &Entry,
    algorithm: HashAlgorithm,
    cancel: &Cancel,
    monitor: &dyn Monitor,
) -> Result<Id, Error> {
    let mut hasher = Hasher::new(algorithm);
    if !file.object.is_zero() {
        let object = Object::decode(&repository.get(BlobType::OBJECT, &file.object)?)?;
        for chunk in &object.chunks {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            hasher.update(&read_chunk(repository, None, &chunk.id, chunk.length)?);
            monitor.count(Counter::Bytes, u64::from(chunk.length));
        }
    }
    monitor.count(Counter::Files, 1);
    Ok(hasher.finish())
}

/// Computes the digests of all files of a part of a snapshot and hands them to `each` in the order of a walk. What
/// cannot be read is reported to the monitor and left out.
pub fn digests<E: From<Error>>(
    repository: &Repository,
    part: Part<'_>,
    algorithm: HashAlgorithm,
    cancel: &Cancel,
    monitor: &dyn Monitor,
    each: &mut dyn FnMut(&Entry, Id) -> Result<(), E>,
) -> Result<(), E> {
    monitor.phase("digest");
    if part.path.is_none() {
        let sizes = part.snapshot.header.source().map(|source| source.summary.total_size());
        monitor.expect(Counter::Bytes, sizes.unwrap_or(0));
    }
    let (vfs, first) = part.open(repository)?;
    let mut batch = Vec::with_capacity(BATCH);
    let mut done = |batch: &mut Vec<Entry>| -> Result<(), E> {
        let files = std::mem::take(batch);
        let found: Vec<(Entry, Result<Id, Error>)> = files
            .into_par_iter()
            .map(|file| {
                let id = digest(repository, &file, algorithm, cancel, monitor);
                (file, id)
            })
            .collect();
        for (file, id) in found {
            match id {
                Ok(id) => each(&file, id)?,
                Err(Error::Cancelled) => return Err(Error::Cancelled.into()),
                Err(error) => report(monitor, &file.path(), &error),
            }
        }
        Ok(())
    };
    for visit in vfs.walk(&first.path())? {
        match visit {
            Ok(Visit::Entry(child)) if child.entry.info.mode.is_regular() => batch.push(child.entry),
            Ok(_) => {}
            Err(error) => report(monitor, &error.folder, &error),
        }
        if batch.len() == BATCH {
            done(&mut batch)?;
        }
    }
    done(&mut batch)
}
