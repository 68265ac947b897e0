//! Locks: shared ones while snapshots are written, exclusive ones for maintenance (FORMAT.md, "Locks").
//!
//! No lock is needed to read. A lock is stale ten minutes after it was last written, judged by the listing
//! where the listing tells, else by the time inside. One that cannot be decoded blocks exclusive work only and
//! is never deleted: it may belong to a newer program.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use crate::base::{Id, RawString, Timestamp};
use crate::connector::{Body, ErrorKind, Kind, Listed, Storage};
use crate::crypto::seal::Item;
use crate::format::lock::Lock;
use crate::format::version::Version;
use crate::format::wrapper::{self, Resource};

use super::blob::Error;
use super::encoding::Encoding;
use super::keys::Keys;

/// How long locks live. What other programs go by is fixed by the format; a repository may be told otherwise, which
/// is how tests let a lock lapse.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LockTerms {
    /// After this long without a refresh a lock no longer counts.
    pub stale: Duration,
    /// How often a held lock is written again.
    pub refresh: Duration,
}

impl Default for LockTerms {
    fn default() -> Self {
        Self { stale: Duration::from_mins(10), refresh: Duration::from_mins(5) }
    }
}

/// How far the clocks of a writer and of the storage may be apart.
const SKEW: Duration = Duration::from_hours(1);
/// After this long a lock is stale by any clock.
const ANCIENT: Duration = Duration::from_hours(24);
/// Among more locks than this, ancient ones are not read.
const MANY: usize = 32;
/// The most a lock may take when decoded; real ones are below 300 bytes.
const LIMIT: usize = 1 << 16;

/// What a held lock shares with the thread that refreshes it.
#[derive(Debug)]
struct Held {
    storage: Arc<dyn Storage>,
    id: Id,
    terms: LockTerms,
    written: Mutex<Written>,
    keys: Arc<Keys>,
    encoding: Arc<Encoding>,
    exclusive: bool,
}

/// When a lock was last written. By two clocks: one of them stands still while a machine sleeps, the other may be set.
#[derive(Clone, Copy, Debug)]
struct Written {
    at: Instant,
    time: SystemTime,
    /// Whether it once went unwritten for so long that others may have taken it for stale. A later refresh does not
    /// make up for that: what happened in between has to be looked at.
    lapsed: bool,
}

impl Written {
    fn now() -> Self {
        Self { at: Instant::now(), time: SystemTime::now(), lapsed: false }
    }

    fn has_lapsed(&self, stale: Duration) -> bool {
        let by_time = SystemTime::now().duration_since(self.time).unwrap_or_default();
        self.lapsed || self.at.elapsed().max(by_time) >= stale
    }
}

/// A lock that is held, refreshed every five minutes, and released when dropped.
#[derive(Debug)]
pub struct LockGuard {
    held: Arc<Held>,
    stop: Option<Sender<()>>,
    refresher: Option<JoinHandle<()>>,
}

impl LockGuard {
    /// Takes a lock: puts it, then looks for others, as every writer of the format does.
    ///
    /// # Errors
    /// [`Error::Locked`] when a live lock stands in the way; ours is released then.
    pub(super) fn acquire(
        storage: Arc<dyn Storage>,
        keys: Arc<Keys>,
        encoding: Arc<Encoding>,
        id: Id,
        exclusive: bool,
        terms: LockTerms,
    ) -> Result<Self, Error> {
        let written = Mutex::new(Written::now());
        let held = Arc::new(Held { storage, id, terms, written, keys, encoding, exclusive });
        held.write(Timestamp::now())?;
        let guard = Self { held, stop: None, refresher: None };
        guard.held.look_for_others()?;
        guard.start()
    }

    fn start(mut self) -> Result<Self, Error> {
        let (stop, stopped) = bounded::<()>(0);
        let held = Arc::clone(&self.held);
        let refresher = std::thread::Builder::new()
            .name("lock".into())
            .spawn(move || {
                while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(held.terms.refresh) {
                    // A failed refresh is seen by `lapsed`: the writer then looks again before it commits.
                    let _ = held.write(Timestamp::now());
                }
            })
            .map_err(|source| Error::spool("start a thread for", source))?;
        self.stop = Some(stop);
        self.refresher = Some(refresher);
        Ok(self)
    }

    /// Returns whether the lock went without a refresh for so long that others may have taken it for stale, now or
    /// at any time since it was taken or renewed.
    pub(super) fn lapsed(&self) -> bool {
        self.held.written().has_lapsed(self.held.terms.stale)
    }

    /// Takes a lapsed lock again: what happens from now on waits for its holder, what happened before has to be
    /// looked at.
    ///
    /// # Errors
    /// [`Error::Locked`] when a live lock stands in the way by now.
    pub(super) fn renew(&self) -> Result<(), Error> {
        self.held.write(Timestamp::now())?;
        self.held.written().lapsed = false;
        self.held.look_for_others()
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(refresher) = self.refresher.take() {
            let _ = refresher.join();
        }
        self.held.release();
    }
}

impl Held {
    fn write(&self, timestamp: Timestamp) -> Result<(), Error> {
        let before = Written::now();
        let lock =
            Lock { version: Version::V1_0_0, timestamp, hostname: hostname(), exclusive: self.exclusive };
        let bytes = seal_lock(&self.keys, &self.encoding, self.id, &lock)?;
        self.storage.put(Kind::Lock, self.id, Body::Bytes(&bytes))?;
        let mut written = self.written();
        let lapsed = written.has_lapsed(self.terms.stale);
        *written = Written { lapsed, ..before };
        Ok(())
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_for_others(&self) -> Result<(), Error> {
        let mut listed = Vec::new();
        self.storage.list(Kind::Lock, &mut |lock| listed.push(lock))?;
        // Where nothing may be deleted every run leaves its lock behind; reading them all would take longer each time.
        let many = !self.exclusive && listed.len() > MANY;
        for other in listed.into_iter().filter(|other| other.id != self.id && !(many && is_ancient(other))) {
            let lock = match self.read(other.id) {
                Ok(lock) => Some(lock),
                Err(Error::Connector(error)) if error.kind == ErrorKind::NotFound => continue,
                Err(Error::Connector(error)) => return Err(Error::Connector(error)),
                Err(_) => None,
            };
            match &lock {
                Some(lock) if is_stale(&other, lock, self.terms.stale) => {
                    // Deleting is tidiness, not correctness: a key that may not delete leaves it.
                    let _ = self.storage.delete(Kind::Lock, other.id);
                }
                Some(lock) if lock.exclusive || self.exclusive => {
                    return Err(Error::Locked {
                        holder: lock.hostname.lossy().into_owned(),
                        exclusive: lock.exclusive,
                    });
                }
                None if self.exclusive => {
                    return Err(Error::Locked { holder: "an unknown program".into(), exclusive: false });
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn read(&self, id: Id) -> Result<Lock, Error> {
        let bytes = self.storage.get(Kind::Lock, id)?;
        open_lock(&self.keys, &self.encoding, id, &bytes)
    }

    /// Deletes the lock; where that is not allowed, writes one that has expired.
    fn release(&self) {
        if self.storage.delete(Kind::Lock, self.id).is_err() {
            let _ = self.write(Timestamp::EPOCH);
        }
    }
}

/// Returns whether a lock was last written so long ago that it is stale whatever it says inside.
fn is_ancient(listed: &Listed) -> bool {
    listed
        .modified
        .is_some_and(|written| SystemTime::now().duration_since(written).is_ok_and(|age| age >= ANCIENT))
}

fn is_stale(listed: &Listed, lock: &Lock, stale: Duration) -> bool {
    let inside = lock.timestamp.to_system();
    // The writer's clock may go before that of the storage, within reason: a time far ahead of the listing's is no
    // time at all, and must not keep a lock alive for ever.
    let sane = |inside: &SystemTime| listed.modified.is_none_or(|listed| *inside <= listed + SKEW);
    // A lock written with an old time inside was released by a key that may not delete.
    let written = match (listed.modified, inside) {
        (Some(listed), Some(inside)) if lock.timestamp != Timestamp::EPOCH => {
            Some(if sane(&inside) { listed.max(inside) } else { listed })
        }
        (_, inside) => inside,
    };
    written.is_none_or(|written| SystemTime::now().duration_since(written).is_ok_and(|age| age >= stale))
}

/// Encodes a lock resource.
fn seal_lock(keys: &Keys, encoding: &Encoding, id: Id, lock: &Lock) -> Result<Vec<u8>, Error> {
    let mut bytes = wrapper::header(Resource::Lock, Version::V1_0_0).to_vec();
    encoding.encode(Item::lock(id), &lock.encode(), &mut bytes)?;
    let trailer = keys.trailers().mac(&bytes);
    bytes.extend_from_slice(trailer.as_bytes());
    Ok(bytes)
}

/// Decodes a lock resource, trailer verified.
fn open_lock(keys: &Keys, encoding: &Encoding, id: Id, bytes: &[u8]) -> Result<Lock, Error> {
    let what = format!("lock {id}");
    let parts = wrapper::split(bytes, Resource::Lock)?;
    let found = keys.trailers().mac(parts.signed);
    if found != parts.trailer {
        return Err(Error::Corrupt { what, expected: parts.trailer.to_string(), found: found.to_string() });
    }
    let plain = encoding.decode(Item::lock(id), parts.payload, LIMIT, &what)?;
    Ok(Lock::decode(&plain)?)
}

fn hostname() -> RawString {
    RawString::from(crate::base::sys::host_name())
}
