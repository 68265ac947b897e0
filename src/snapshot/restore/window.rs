//! Windows of files from a remote store: sorted by place, fetched together.

use crate::base::sort::{ByteOrder, Sorted};
use crate::format::blob::BlobType;
use crate::format::entry::Entry;
use crate::format::object::Object;
use crate::store::{Error, Place, Repository, Window};

use super::job::Job;

/// Jobs with what was fetched for them.
#[derive(Debug)]
pub(in super::super) struct Batch {
    pub(in super::super) jobs: Vec<Job>,
    pub(in super::super) window: Window,
}

/// The most jobs in a window: bounds what the jobs themselves take.
const JOBS: usize = 4096;

/// The length of a sort key.
const KEY: usize = 12;

/// Returns the key that sorts a file by the place of its object, which lies near its first chunk in time.
pub(in super::super) fn sort_key(repository: &Repository, entry: &Entry) -> Result<[u8; KEY], Error> {
    let places = repository.catalogue().find_any(BlobType::OBJECT, &entry.object)?;
    let place = places.first().map_or((u32::MAX, 0), |place| (place.pack, place.offset));
    let mut key = [0; KEY];
    // Most significant byte first, so that the keys sort as numbers.
    key[..4].copy_from_slice(&place.0.swap_bytes().to_le_bytes());
    key[4..].copy_from_slice(&place.1.swap_bytes().to_le_bytes());
    Ok(key)
}

/// Returns that key for the first name of a file with several links: it carries the number of the group.
pub(super) fn first_key(repository: &Repository, entry: &Entry, group: u64) -> Result<Vec<u8>, Error> {
    Ok([&sort_key(repository, entry)?[..], &group.to_le_bytes()].concat())
}

/// Encodes a job for the sorter.
pub(in super::super) fn encode(path: &[u8], entry: &Entry) -> Vec<u8> {
    let mut bytes = u32::try_from(path.len()).expect("a path is below 4 GiB").to_le_bytes().to_vec();
    bytes.extend_from_slice(path);
    entry.encode_into(&mut bytes);
    bytes
}

/// Decodes a job from the sorter.
pub(in super::super) fn decode(bytes: &[u8]) -> Result<Job, Error> {
    let broken = || Error::malformed("a temporary file", "a record that was not written so");
    let (length, rest) = bytes.split_first_chunk().ok_or_else(broken)?;
    let length = u32::from_le_bytes(*length) as usize;
    let (path, entry) = rest.split_at_checked(length).ok_or_else(broken)?;
    Ok(Job { path: path.into(), entry: Entry::decode(entry)?, object: None, group: None })
}

/// Takes the next jobs whose chunks fit `memory` bytes, and fetches for them. `None` at the end.
pub(in super::super) fn next(
    repository: &Repository,
    sorted: &mut Sorted<ByteOrder>,
    memory: u64,
) -> Result<Option<Batch>, Error> {
    let (mut jobs, mut bytes) = (Vec::new(), 0_u64);
    while jobs.len() < JOBS && bytes < memory {
        let Some((key, record)) = sorted.next()? else { break };
        let mut job = decode(record)?;
        job.group = key.get(KEY..).and_then(|rest| rest.try_into().ok()).map(u64::from_le_bytes);
        bytes = bytes.saturating_add(u64::try_from(job.entry.info.size).unwrap_or(0));
        jobs.push(job);
    }
    if jobs.is_empty() {
        return Ok(None);
    }
    let catalogue = repository.catalogue();
    let mut objects = Vec::new();
    for job in &jobs {
        objects.extend(catalogue.find_any(BlobType::OBJECT, &job.entry.object)?.into_iter().take(1));
    }
    let fetched = Window::fetch(repository, objects);
    let mut places: Vec<Place> = Vec::new();
    let mut planned = 0_u64;
    for job in &mut jobs {
        let id = job.entry.object;
        let place = catalogue.find_any(BlobType::OBJECT, &id)?.first().copied();
        let stored = place.as_ref().and_then(|place| fetched.get(place));
        let limit = crate::store::METADATA_LIMIT;
        let plain = stored.and_then(|stored| repository.decode(BlobType::OBJECT, &id, stored, limit).ok());
        job.object = plain.and_then(|plain| Object::decode(&plain).ok());
        for chunk in job.object.iter().flat_map(|object| &object.chunks) {
            let Some(place) = catalogue.find_any(BlobType::CHUNK, &chunk.id)?.first().copied() else {
                continue;
            };
            planned += u64::from(place.length);
            // What does not fit the window is read when it is needed.
            if planned > memory {
                break;
            }
            places.push(place);
        }
    }
    Ok(Some(Batch { jobs, window: Window::fetch(repository, places) }))
}
