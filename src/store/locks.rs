//! Locks: shared ones while snapshots are written, exclusive ones for maintenance (FORMAT.md, "Locks").
//!
//! No lock is needed to read. A lock is stale ten minutes after it was last written, judged by the listing
//! where the listing tells, else by the time inside. One that cannot be decoded blocks exclusive work only and
//! is never deleted: it may belong to a newer program.
//!
//! Two clocks are never held against each other: what the listing says of a lock is compared with what it says of
//! our own, which was just written. So a machine whose clock goes ahead takes nobody's lock for stale, where the
//! storage tells times.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use crate::base::{Cancel, Id, RawString, Timestamp};
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

/// Takes what a wait is for.
pub type LockTold = Arc<dyn Fn(&Error) + Send + Sync>;

/// How long a writer waits for maintenance to end.
#[derive(Clone, Default)]
pub struct LockWait {
    /// The longest that is waited; nothing at all is the default.
    pub limit: Duration,
    /// Ends the wait when set.
    pub cancel: Cancel,
    /// Is told once, when a wait begins, what stands in the way.
    pub told: Option<LockTold>,
}

impl std::fmt::Debug for LockWait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LockWait").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl LockWait {
    /// Tries until no exclusive lock stands in the way; returns what was had.
    ///
    /// # Errors
    /// [`Error::Locked`] when the time is over, [`Error::Cancelled`]; any other at once.
    pub(super) fn run<T>(&self, mut attempt: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut waited = false;
        loop {
            match attempt() {
                Err(error @ Error::Locked { .. }) if begun.elapsed() < self.limit => {
                    if let Some(told) = self.told.as_ref().filter(|_| !waited) {
                        told(&error);
                    }
                }
                done => return done,
            }
            waited = true;
            if !self.cancel.sleep(pause.min(self.limit.saturating_sub(begun.elapsed()))) {
                return Err(Error::Cancelled);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// The first pause between two looks at a lock that stands in the way. Each look puts and deletes a lock of our own.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// How far the clocks of a writer and of the storage may be apart.
const SKEW: Duration = Duration::from_hours(1);
/// After this long a lock is stale by any clock.
const ANCIENT: Duration = Duration::from_hours(24);
/// Among more locks than this, ancient ones are not read.
const MANY: usize = 32;
/// The most a lock may take, stored and decoded; real ones are below 300 bytes.
const LIMIT: usize = 1 << 16;

/// What a held lock shares with the thread that refreshes it.
#[derive(Debug)]
struct Held {
    storage: Arc<dyn Storage>,
    id: Id,
    terms: LockTerms,
    written: Mutex<Written>,
    /// What the storage's clock showed when the lock was taken, where the listing tells.
    taken: Mutex<Option<SystemTime>>,
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
        let taken = Mutex::default();
        let held = Arc::new(Held { storage, id, terms, written, taken, keys, encoding, exclusive });
        held.write(Timestamp::now()).inspect_err(|error| held.take_back(error))?;
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
                    // One that somebody took away is not simply put back: what happened in between has to be
                    // looked at, and so has what a failed look did not show. A failed refresh is seen by `lapsed`.
                    if held.look_for_own().is_err() {
                        held.written().lapsed = true;
                    }
                    let _ = held.write(Timestamp::now());
                }
            })
            .map_err(|source| Error::spool("start a thread for", source))?;
        self.stop = Some(stop);
        self.refresher = Some(refresher);
        Ok(self)
    }

    /// Returns whether the lock went without a refresh for so long that others may have taken it for stale, now or
    /// at any time since it was taken or renewed. Asks our clocks only.
    pub(super) fn lapsed(&self) -> bool {
        self.held.written().has_lapsed(self.held.terms.stale)
    }

    /// Returns what [`lapsed`](Self::lapsed) does, or whether somebody took the lock away: one whose clock goes ahead
    /// takes it for stale though we refresh it in time. Lists the locks.
    pub(super) fn was_lost(&self) -> Result<bool, Error> {
        if !self.lapsed() {
            self.held.look_for_own()?;
        }
        Ok(self.lapsed())
    }

    /// Returns what the storage's clock showed when the lock was taken, where its listings tell times.
    pub(super) fn taken(&self) -> Option<SystemTime> {
        *self.held.taken.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Notes a lapse when the lock is not there any more.
    fn look_for_own(&self) -> Result<(), Error> {
        let mut found = false;
        self.storage.list(Kind::Lock, &mut |lock| found |= lock.id == self.id)?;
        self.written().lapsed |= !found;
        Ok(())
    }

    fn look_for_others(&self) -> Result<(), Error> {
        let mut listed = Vec::new();
        self.storage.list(Kind::Lock, &mut |lock| listed.push(lock))?;
        let own = listed.iter().find(|lock| lock.id == self.id).and_then(|own| own.modified);
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = own;
        let clocks = Clocks { ours: SystemTime::now(), storage: own };
        // Where nothing may be deleted every run leaves its lock behind; reading them all would take longer each time.
        let many = !self.exclusive && listed.len() > MANY;
        let to_read = |other: &Listed| other.id != self.id && !(many && clocks.is_ancient(other));
        for other in listed.into_iter().filter(to_read) {
            let lock = match self.read(&other) {
                Ok(lock) => Some(lock),
                Err(Error::Connector(error)) if error.kind == ErrorKind::NotFound => continue,
                Err(Error::Connector(error)) => return Err(Error::Connector(error)),
                Err(_) => None,
            };
            match &lock {
                Some(lock) if clocks.is_stale(&other, lock, self.terms.stale) => {
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
                    let holder = format!("an unknown program (lock {})", other.id);
                    return Err(Error::Locked { holder, exclusive: false });
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn read(&self, listed: &Listed) -> Result<Lock, Error> {
        let id = listed.id;
        // It is not even fetched: what is not ours to understand is not ours to hold in memory.
        if listed.size > LIMIT as u64 {
            return Err(Error::malformed(&format!("lock {id}"), "longer than any lock"));
        }
        let bytes = self.storage.get(Kind::Lock, id)?;
        open_lock(&self.keys, &self.encoding, id, &bytes)
    }

    /// After a write that failed: deletes the lock if it may be there all the same, the answer being lost.
    fn take_back(&self, error: &Error) {
        if let Error::Connector(error) = error
            && matches!(error.kind, ErrorKind::Transport | ErrorKind::Cancelled)
        {
            let _ = self.storage.delete(Kind::Lock, self.id);
        }
    }

    /// Deletes the lock; where that is not allowed, writes one that has expired.
    fn release(&self) {
        if self.storage.delete(Kind::Lock, self.id).is_err() {
            let _ = self.write(Timestamp::EPOCH);
        }
    }
}

/// What the clocks show: ours, and that of the storage as far as it tells.
#[derive(Clone, Copy, Debug)]
struct Clocks {
    ours: SystemTime,
    /// When our own lock was written, by the listing.
    storage: Option<SystemTime>,
}

impl Clocks {
    /// Returns how long ago a lock was written, as the storage sees it.
    fn listed_age(&self, written: SystemTime) -> Duration {
        self.storage.unwrap_or(self.ours).duration_since(written).unwrap_or_default()
    }

    /// Returns whether a lock was last written so long ago that it is stale whatever it says inside.
    fn is_ancient(&self, listed: &Listed) -> bool {
        listed.modified.is_some_and(|written| self.listed_age(written) >= ANCIENT)
    }

    fn is_stale(&self, listed: &Listed, lock: &Lock, stale: Duration) -> bool {
        // A lock written with this time inside was released by a key that may not delete.
        let Some(inside) = lock.timestamp.to_system().filter(|_| lock.timestamp != Timestamp::EPOCH) else {
            return true;
        };
        let inside_age = self.ours.duration_since(inside).unwrap_or_default();
        let age = match listed.modified {
            // The writer's clock may go before that of the storage, within reason: a time far ahead of the listing's is
            // no time at all, and must not keep a lock alive for ever.
            Some(written) if inside > written + SKEW => self.listed_age(written),
            Some(written) => self.listed_age(written).min(inside_age),
            None => inside_age,
        };
        age >= stale
    }
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    /// Whether a lock is stale that was refreshed `age` ago by clocks that all go right, for one whose own clock is
    /// `ahead`, where the storage tells times.
    fn stale(age: Duration, ahead: Duration) -> bool {
        let now = SystemTime::now();
        let written = now - age;
        let since = written.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let timestamp = Timestamp { secs: i64::try_from(since.as_secs()).unwrap(), ..Timestamp::EPOCH };
        let lock =
            Lock { version: Version::V1_0_0, timestamp, hostname: RawString::default(), exclusive: false };
        let listed = Listed { id: Id::ZERO, size: 100, modified: Some(written), tag: None };
        let clocks = Clocks { ours: now + ahead, storage: Some(now) };
        clocks.is_stale(&listed, &lock, MINUTE * 10)
    }

    fn locked() -> Error {
        Error::Locked { holder: "host".into(), exclusive: true }
    }

    #[test]
    fn a_wait_ends_with_what_is_waited_for_or_by_the_clock_or_by_hand() {
        let told = Arc::new(Mutex::new(0));
        let count = Arc::clone(&told);
        let tell = move |_: &Error| *count.lock().unwrap() += 1;
        let wait = LockWait { limit: MINUTE * 60, told: Some(Arc::new(tell)), ..LockWait::default() };
        let mut left = 2;
        let mut attempt = || {
            left -= 1;
            if left > 0 { Err(locked()) } else { Ok(left) }
        };
        assert_eq!(wait.run(&mut attempt).unwrap(), 0);
        assert_eq!(wait.run(|| Ok(7)).unwrap(), 7);
        assert_eq!(*told.lock().unwrap(), 1);
        // Anything else is no reason to wait.
        assert!(matches!(wait.run::<()>(|| Err(Error::Aborted)), Err(Error::Aborted)));
        let tries = Cell::new(0);
        let never = || -> Result<(), Error> {
            tries.set(tries.get() + 1);
            Err(locked())
        };
        assert!(matches!(LockWait::default().run(never), Err(Error::Locked { .. })));
        assert_eq!(tries.take(), 1);
        wait.cancel.cancel();
        assert!(matches!(wait.run(never), Err(Error::Cancelled)));
        assert_eq!(tries.take(), 1);
        // By the clock: before the wait and after it, unless all the time went by before it began.
        let short = LockWait { limit: Duration::from_millis(60), ..LockWait::default() };
        assert!(matches!(short.run(never), Err(Error::Locked { .. })));
        assert!(matches!(tries.get(), 1 | 2), "{tries:?}");
    }

    #[test]
    fn a_clock_that_goes_ahead_makes_no_lock_stale() {
        assert!(!stale(MINUTE, Duration::ZERO) && stale(MINUTE * 11, Duration::ZERO));
        assert!(!stale(MINUTE, MINUTE * 12));
        assert!(!stale(MINUTE, MINUTE * 60 * 24 * 365));
        assert!(stale(MINUTE * 11, MINUTE * 12));
    }
}
