//! The local cache of a catalogue: `<cache>/kloset/<name>/`, 0700.
//!
//! `catalogue` holds the merged states, each with what is kept of it in memory, and names the tables beside it;
//! it ends with a MAC under the cache key, as every table does. New versions are new files renamed into place.
//! Anything unexpected makes the cache count as absent: nothing is lost without it. Journals lie beside it.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::base::{At, Id, PathError, hex, sys};
use crate::crypto::mac::MacKey;
use crate::crypto::random;
use crate::format::state::{Metadata, StateReader, encode_metadata};
use crate::format::version::Version;

use super::super::journal_cache::is_recent_journal;
use super::super::pins::create_private;
use super::super::state::StateFacts;
use super::aggregate::Kept;
use super::tables::Tier;
use super::{Merged, Seen};

const MAGIC: &[u8; 8] = b"PKCAT\0\0\x03";
const FILE: &str = "catalogue";
/// How many stores keep a cache; the least recently used go first.
const STORES: usize = 32;
/// Tables and temporary files that nothing names are removed at this age.
const ORPHAN: Duration = Duration::from_hours(24);

/// What the cache holds, and what loading works on.
#[derive(Debug, Default)]
pub(super) struct Cached {
    pub(super) states: Vec<Merged>,
    pub(super) packs: Vec<Id>,
    pub(super) kept: Vec<Kept>,
    pub(super) tiers: Vec<Tier>,
}

/// The cache folder of one store.
#[derive(Debug)]
pub(in super::super) struct CacheDir {
    folder: PathBuf,
}

impl CacheDir {
    /// Opens or creates the folder of a store below the cache directory; `identity` names key or CONFIG.
    /// Returns `None` when the folder cannot be trusted or used.
    pub(in super::super) fn open(cache: &Path, identity: &[u8], repository: &[u8; 16]) -> Option<Self> {
        let mut hasher = blake3::Hasher::new_derive_key("plakar cache folder");
        hasher.update(identity).update(repository);
        let parent = cache.join("kloset");
        let folder = parent.join(hex(&hasher.finalize().as_bytes()[..16]));
        create_private(&folder).ok()?;
        let metadata = fs::symlink_metadata(&folder).ok()?;
        if !metadata.is_dir() || !sys::is_private(&metadata) {
            return None;
        }
        forget_old_stores(&parent, &folder);
        Some(Self { folder })
    }

    /// Returns where journals are kept.
    pub(in super::super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Creates an empty table file; returns it with its name.
    pub(super) fn create_table(&self) -> Result<(File, String), PathError> {
        let name = format!("t-{}", hex(&random::array::<8>()));
        let path = self.folder.join(&name);
        let file =
            sys::private_file().read(true).write(true).create_new(true).open(&path).at("create", &path)?;
        Ok((file, name))
    }

    /// Reads the cache; `None` when there is none, or none that can be trusted.
    pub(super) fn read(&self, key: &MacKey) -> Option<Cached> {
        let bytes = fs::read(self.folder.join(FILE)).ok()?;
        let (body, mac) = bytes.split_last_chunk::<32>()?;
        if key.mac(body).0 != *mac {
            return None;
        }
        let mut input = Input(body.strip_prefix(MAGIC)?);
        let mut cached = Cached::default();
        for state in 0..input.u32()? {
            let (id, size, trailer) = (input.id()?, input.u64()?, input.id()?);
            let seen = input.seen()?;
            let version = Version(input.u32()?);
            let [folded] = *input.take(1)? else { return None };
            let stream = input.bytes()?;
            let mut reader = StateReader::new(stream, Version::V1_1_0).ok()?;
            let parent = reader.parent();
            for entry in &mut reader {
                cached.kept.push(Kept { state, entry: entry.ok()? });
            }
            let timestamp = reader.metadata()?.timestamp;
            let facts = StateFacts { version, parent, timestamp, trailer, strange: false };
            cached.states.push(Merged { id, size, seen, facts, folded: folded != 0 });
        }
        for _ in 0..input.u32()? {
            cached.packs.push(input.id()?);
        }
        for _ in 0..input.u32()? {
            let name = String::from_utf8(input.bytes()?.to_vec()).ok().filter(|name| is_table_name(name))?;
            let file = File::open(self.folder.join(&name)).ok()?;
            cached.tiers.push(Tier::open(file, name, key).ok()??);
        }
        Some(cached)
    }

    /// Replaces the cache, unless a table lives outside of it; removes tables that nothing names any more.
    pub(super) fn write(&self, cached: &Cached, key: &MacKey) -> Result<(), PathError> {
        let Some(names) = cached.tiers.iter().map(|tier| tier.name.as_deref()).collect::<Option<Vec<_>>>()
        else {
            return Ok(());
        };
        let mut body = MAGIC.to_vec();
        push_count(&mut body, cached.states.len());
        let mut kept = cached.kept.iter().peekable();
        for (ordinal, state) in (0_u32..).zip(&cached.states) {
            let mut stream = state.facts.parent.as_bytes().to_vec();
            while let Some(entry) = kept.next_if(|kept| kept.state == ordinal) {
                entry.entry.encode(&mut stream);
            }
            let timestamp = state.facts.timestamp;
            let metadata = Metadata { version: Version::V1_1_0, timestamp, serial: [0; 16] };
            encode_metadata(&metadata, &mut stream);
            body.extend_from_slice(state.id.as_bytes());
            body.extend_from_slice(&state.size.to_le_bytes());
            body.extend_from_slice(state.facts.trailer.as_bytes());
            push_seen(&mut body, &state.seen);
            body.extend_from_slice(&state.facts.version.0.to_le_bytes());
            body.push(u8::from(state.folded));
            push_count(&mut body, stream.len());
            body.extend_from_slice(&stream);
        }
        push_count(&mut body, cached.packs.len());
        cached.packs.iter().for_each(|id| body.extend_from_slice(id.as_bytes()));
        push_count(&mut body, names.len());
        for name in &names {
            push_count(&mut body, name.len());
            body.extend_from_slice(name.as_bytes());
        }
        let mac = key.mac(&body);
        body.extend_from_slice(mac.as_bytes());
        let mut file = tempfile::NamedTempFile::new_in(&self.folder).at("create a file in", &self.folder)?;
        file.write_all(&body).at("write", file.path())?;
        let path = self.folder.join(FILE);
        file.persist(&path).map_err(|error| error.error).at("rename a file to", &path)?;
        self.sweep(&names);
        Ok(())
    }

    /// Removes files that nothing names and that no running process can still be about to name.
    fn sweep(&self, names: &[&str]) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let age = entry.metadata().and_then(|metadata| metadata.modified()).ok();
            let Some(age) = age.and_then(|time| SystemTime::now().duration_since(time).ok()) else {
                continue;
            };
            let wanted = name == FILE
                || names.iter().any(|wanted| name == **wanted)
                || name.to_str().is_some_and(|name| is_recent_journal(name, age));
            if !wanted && age > ORPHAN {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn is_table_name(name: &str) -> bool {
    name.strip_prefix("t-")
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Removes the caches of the stores that were used longest ago, beyond what may be kept.
fn forget_old_stores(parent: &Path, current: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    let mut stores: Vec<(SystemTime, PathBuf)> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path != current)
        .filter_map(|path| Some((fs::metadata(path.join(FILE)).ok()?.modified().ok()?, path)))
        .collect();
    stores.sort();
    let excess = stores.len().saturating_sub(STORES - 1);
    for (_, path) in &stores[..excess] {
        let _ = fs::remove_dir_all(path);
    }
}

fn push_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

/// Two times a byte that tells whether there is a number, and the number.
fn push_seen(out: &mut Vec<u8>, seen: &Seen) {
    for number in [seen.modified.map(i64::cast_unsigned), seen.tag] {
        out.push(u8::from(number.is_some()));
        out.extend_from_slice(&number.unwrap_or(0).to_le_bytes());
    }
}

/// Checked reads of the cache file.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn id(&mut self) -> Option<Id> {
        Some(Id(self.take(32)?.try_into().ok()?))
    }

    fn seen(&mut self) -> Option<Seen> {
        let mut next = || {
            let [there] = *self.take(1)? else { return None };
            let number = self.u64()?;
            Some((there != 0).then_some(number))
        };
        let (modified, tag) = (next()?, next()?);
        Some(Seen { modified: modified.map(u64::cast_signed), tag })
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(usize::try_from(length).ok()?)
    }
}
