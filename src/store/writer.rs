//! A session that adds blobs to a store: deduplication, lanes, checkpoints, commit.
//!
//! The order of a commit is what makes it safe: every packfile is durable, then the state that names them is put,
//! and only with it anything becomes visible. A checkpoint is the same without a snapshot.
//!
//! Why a gate: a blob is marked known before it is appended, so that two threads never store it twice. Every
//! `put` holds the gate for reading from the mark to the append; a checkpoint takes it for writing, so what was
//! known before the checkpoint is in a packfile that the checkpoint covers.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::base::spill::{SpillDir, SpillWriter};
use crate::base::{Id, Timestamp};
use crate::codec::chunker::Chunker;
use crate::connector::{Purpose, Storage};
use crate::crypto::mac::MacKey;
use crate::crypto::random;
use crate::crypto::seal::Item;
use crate::format::blob::BlobType;
use crate::format::state::{Delete, PackEntry, StateEntry};
use crate::format::version::Version;

use super::blob::{BlobSink, Lane};
use super::catalogue::Catalogue;
use super::encoding::Encoding;
use super::error::Error;
use super::journal::JournalWriter;
use super::known::KnownSet;
use super::locks::LockGuard;
use super::packer::{OpenPack, Padding, StoredPack};
use super::relied::{Relied, Search};
use super::remove::remove_snapshots;
use super::repository::Repository;
use super::session::{Encode, Session, WriterStats};
use super::state::{StateHead, put_state};

/// How often a run makes itself resumable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckpointPolicy {
    /// After this many bytes were stored.
    pub bytes: u64,
    /// After this much time.
    pub interval: Duration,
}

impl Default for CheckpointPolicy {
    fn default() -> Self {
        Self { bytes: 1 << 30, interval: Duration::from_mins(2) }
    }
}

#[derive(Default, Debug)]
struct Counters {
    blobs: AtomicU64,
    plain: AtomicU64,
    stored: AtomicU64,
    packs: AtomicU64,
    pack_bytes: AtomicU64,
}

/// State entries of packfiles that are durable but not yet named by a state.
#[derive(Debug)]
struct Pending {
    locations: SpillWriter,
    packs: Vec<(Id, i64)>,
}

/// One lane: an open packfile, or none yet.
type LaneSlot = Mutex<Option<OpenPack>>;

struct Closing {
    ticket: u64,
    pack: OpenPack,
    padding: Padding,
}

/// Which packfiles are on their way: a checkpoint waits for those handed over before it, not for later ones.
#[derive(Default)]
struct Tickets {
    next: u64,
    open: BTreeSet<u64>,
}

/// What the session shares with its storage threads.
struct Shared {
    repository: Arc<Repository>,
    padding: Padding,
    pending: Mutex<Pending>,
    failure: Mutex<Option<Error>>,
    failed: AtomicBool,
    counters: Counters,
    /// Tickets of the packfiles handed to the storage threads and not yet durable.
    in_flight: Mutex<Tickets>,
    landed: std::sync::Condvar,
    /// Every packfile that this session stored: looked for again when the lock lapsed.
    stored: Mutex<Vec<Id>>,
}

/// A session that adds to a store.
pub struct Writer {
    shared: Arc<Shared>,
    base: Arc<Catalogue>,
    /// Whether a packfile of the catalogue may be deduplicated against, by its ordinal.
    usable: Vec<bool>,
    /// Whether a state cannot be used or is gone, some packfile that should be live is not listed, or what one held was
    /// given up.
    lost: bool,
    /// Whether nothing was ever coloured, deleted or lost.
    intact: bool,
    known: KnownSet,
    /// What was there before and is needed: looked at again when the lock lapsed.
    relied: Relied,
    gate: RwLock<()>,
    data: Vec<LaneSlot>,
    metadata: LaneSlot,
    closing: Option<Sender<Closing>>,
    threads: Vec<JoinHandle<()>>,
    lock: LockGuard,
    /// Whether the lock lapsed before a checkpoint: what is relied on is still to be looked at.
    owed: AtomicBool,
    snapshot: Id,
    deletes: Vec<Delete>,
    checkpoint: Mutex<CheckpointState>,
    policy: CheckpointPolicy,
    journal: Mutex<Option<JournalWriter>>,
    /// Stored bytes at the last checkpoint.
    covered: AtomicU64,
}

struct CheckpointState {
    parent: Id,
    last: Instant,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("snapshot", &self.snapshot).finish_non_exhaustive()
    }
}

/// How often a lock may lapse again while a run looks after what happened during the lapse before.
const LAPSES: u32 = 5;
/// Bytes of state entries that are recorded at once.
const RECORDED: usize = 32 << 10;
/// The most storage threads: more connections than these carry no more from one machine.
const MOST_STORAGE_THREADS: usize = 16;
/// The most that may be spooled for packfiles on their way, in bytes of disk.
const SPOOLED_BYTES: u64 = 512 << 20;

/// Returns the number of storage threads of a session: as many as the storage serves at once with profit, while what
/// they hold in spool files stays within bounds; two at least, so that one puts while another writes its packfile's
/// end.
fn storage_threads(parallelism: usize, packfile: u64) -> usize {
    let spools = usize::try_from(SPOOLED_BYTES / packfile.max(1)).unwrap_or(MOST_STORAGE_THREADS);
    parallelism.min(spools).clamp(2, MOST_STORAGE_THREADS)
}

impl Writer {
    /// Opens a session that will commit `snapshot`: takes the shared lock, lists the packfiles.
    pub fn open(
        repository: &Arc<Repository>,
        snapshot: Id,
        policy: CheckpointPolicy,
        journal: Option<JournalWriter>,
    ) -> Result<Self, Error> {
        let storage = repository.storage();
        repository.check_writable()?;
        let lock = repository.lock_to_write(snapshot)?;
        let base = repository.catalogue();
        let usable = usable_packs(storage.as_ref(), &base)?;
        let padding = repository.padding();
        let shared = Arc::new(Shared {
            repository: Arc::clone(repository),
            padding,
            pending: Mutex::new(Pending { locations: repository.spills().create()?, packs: Vec::new() }),
            failure: Mutex::new(None),
            failed: AtomicBool::new(false),
            counters: Counters::default(),
            in_flight: Mutex::default(),
            landed: std::sync::Condvar::new(),
            stored: Mutex::default(),
        });
        let count = storage_threads(storage.parallelism(), repository.config().packfile.max);
        let (closing, packs) = bounded::<Closing>(0);
        let threads =
            (0..count).map(|_| Shared::start(&shared, packs.clone())).collect::<Result<Vec<_>, Error>>()?;
        let lanes = if repository.is_encrypted() { 2 } else { 1 };
        Ok(Self {
            shared,
            lost: !repository.has_all_states() || has_losses(&usable, &base)?,
            intact: usable.iter().all(|usable| *usable) && !base.has_deletes() && repository.has_all_states(),
            usable,
            known: KnownSet::new(repository.spills()),
            relied: Relied::new(repository.spills()),
            gate: RwLock::new(()),
            data: (0..lanes).map(|_| Mutex::new(None)).collect(),
            metadata: Mutex::new(None),
            closing: Some(closing),
            threads,
            lock,
            owed: AtomicBool::new(false),
            snapshot,
            deletes: Vec::new(),
            checkpoint: Mutex::new(CheckpointState { parent: base.newest(), last: Instant::now() }),
            base,
            policy,
            journal: Mutex::new(journal),
            covered: AtomicU64::new(0),
        })
    }

    /// Returns the repository that is written.
    pub fn repository(&self) -> &Arc<Repository> {
        &self.shared.repository
    }

    /// Returns the id of the snapshot this session will commit.
    pub fn snapshot(&self) -> Id {
        self.snapshot
    }

    /// Marks a blob as known; returns whether it has to be stored.
    fn claim(&self, kind: BlobType, id: Id) -> Result<bool, Error> {
        if self.holds(kind, &id)? {
            self.relied.add(kind, &id)?;
            return Ok(false);
        }
        self.known.insert(kind, id)
    }

    fn append(&self, kind: BlobType, id: Id, lane: Lane, encoded: &[u8], plain: usize) -> Result<(), Error> {
        let (slot, purpose) = match lane {
            Lane::Data => (self.data_lane(), Purpose::Content),
            Lane::Metadata | Lane::Tree => (&self.metadata, Purpose::Metadata),
        };
        self.append_to(slot, purpose, kind, id, encoded).inspect_err(|_| self.shared.poison())?;
        let counters = &self.shared.counters;
        counters.blobs.fetch_add(1, Ordering::Relaxed);
        counters.plain.fetch_add(plain as u64, Ordering::Relaxed);
        counters.stored.fetch_add(encoded.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Appends under the lane's lock, and hands the packfile over if that filled it: whoever wants the lane meanwhile
    /// waits, so that no more packfiles are open than there are lanes.
    fn append_to(
        &self,
        slot: &LaneSlot,
        purpose: Purpose,
        kind: BlobType,
        id: Id,
        encoded: &[u8],
    ) -> Result<(), Error> {
        let mut open = lock(slot);
        let mut pack = match open.take() {
            Some(pack) => pack,
            None => OpenPack::new(self.repository().storage().as_ref(), self.shared.padding, purpose)?,
        };
        pack.append(kind, id, encoded)?;
        if pack.is_full(self.repository().config().packfile.max) {
            return self.close(pack, false);
        }
        *open = Some(pack);
        Ok(())
    }

    /// Picks a data lane: at random in encrypted stores, so that neighbours in a packfile tell little.
    fn data_lane(&self) -> &LaneSlot {
        match self.data.len() {
            1 => &self.data[0],
            count => &self.data[usize::try_from(random::below(count as u64)).expect("a small number")],
        }
    }

    /// Hands a packfile to the storage threads; waits while they are all busy.
    fn close(&self, pack: OpenPack, last: bool) -> Result<(), Error> {
        if pack.is_empty() {
            return Ok(());
        }
        let padding = match self.shared.padding {
            Padding::Rounded { .. } => Padding::Rounded { last },
            other => other,
        };
        let ticket = {
            let mut tickets = lock(&self.shared.in_flight);
            let ticket = tickets.next;
            tickets.next += 1;
            tickets.open.insert(ticket);
            ticket
        };
        let closing = self.closing.as_ref().expect("open until finished");
        closing.send(Closing { ticket, pack, padding }).map_err(|_| Error::Aborted)
    }

    /// Detaches what every lane has open.
    fn detach(&self) -> Vec<OpenPack> {
        self.data.iter().chain([&self.metadata]).filter_map(|slot| lock(slot).take()).collect()
    }

    /// Makes a checkpoint when enough was stored or enough time passed, unless another thread is at it.
    fn checkpoint_when_due(&self) -> Result<(), Error> {
        let stored = self.shared.counters.stored.load(Ordering::Relaxed);
        let bytes = stored - self.covered.load(Ordering::Relaxed).min(stored);
        // The clock is looked at now and then only.
        if bytes < self.policy.bytes && !self.shared.counters.blobs.load(Ordering::Relaxed).is_multiple_of(64)
        {
            return Ok(());
        }
        let Ok(mut state) = self.checkpoint.try_lock() else { return Ok(()) };
        if bytes < self.policy.bytes && (bytes == 0 || state.last.elapsed() < self.policy.interval) {
            return Ok(());
        }
        // Poisoned before the next thread gets its turn: to that one the lock, taken again by now, looks sound.
        self.make_checkpoint(&mut state).inspect_err(|_| self.shared.poison())
    }

    /// Puts what was stored so far under a state of its own, with the journal of what it covers.
    fn make_checkpoint(&self, state: &mut CheckpointState) -> Result<(), Error> {
        let packs = {
            let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
            self.covered.store(self.shared.counters.stored.load(Ordering::Relaxed), Ordering::Relaxed);
            self.put_journal()?;
            self.detach()
        };
        for pack in packs {
            self.close(pack, false)?;
        }
        self.shared.wait_for_packs()?;
        self.look_at_own()?;
        let id = random::id();
        self.put_state(id, &mut state.parent, &[])?;
        state.last = Instant::now();
        Ok(())
    }

    /// Stores the journal's records since the last checkpoint as blobs that upstream ignores.
    fn put_journal(&self) -> Result<(), Error> {
        let mut guard = lock(&self.journal);
        let Some(journal) = guard.as_mut() else { return Ok(()) };
        journal.drain(&mut |journal, plain| {
            let id = self.mac(plain);
            let mut encoded = Vec::new();
            self.repository().encoding().encode(Item::blob(BlobType::JOURNAL.0, id), plain, &mut encoded)?;
            journal.keep(&id, &encoded);
            self.append(BlobType::JOURNAL, id, Lane::Metadata, &encoded, plain.len())
        })
    }

    /// Puts a state with all pending entries; its id becomes the parent of the next one.
    fn put_state(&self, id: Id, parent: &mut Id, deletes: &[Delete]) -> Result<(), Error> {
        let repository = self.repository();
        let fresh = repository.spills().create()?;
        let pending = std::mem::replace(
            &mut *lock(&self.shared.pending),
            Pending { locations: fresh, packs: Vec::new() },
        );
        if pending.packs.is_empty() && deletes.is_empty() {
            return Ok(());
        }
        let version = repository.state_version();
        if version < Version::V1_1_0 && !deletes.is_empty() {
            return Err(Error::OldStates);
        }
        let head = StateHead {
            id,
            version,
            parent: *parent,
            timestamp: Timestamp::now().unix_nanos(),
            serial: if version > Version::V1_0_0 { [0; 16] } else { repository.config().repository_id },
        };
        let locations = pending.locations.finish()?;
        let mut entries = |out: &mut dyn std::io::Write| {
            let mut bytes = Vec::new();
            for delete in deletes {
                StateEntry::Delete(*delete).encode(&mut bytes);
            }
            out.write_all(&bytes)?;
            let mut records = locations.forward();
            while let Some(bytes) = records.next().map_err(std::io::Error::other)? {
                out.write_all(bytes)?;
            }
            for (packfile, when) in &pending.packs {
                bytes.clear();
                StateEntry::Packfile(PackEntry { packfile: *packfile, state: id, when: *when })
                    .encode(&mut bytes);
                out.write_all(&bytes)?;
            }
            Ok(())
        };
        put_state(
            repository.storage().as_ref(),
            repository.keys(),
            repository.encoding(),
            &head,
            &mut entries,
        )?;
        *parent = id;
        Ok(())
    }

    /// Adds entries to the state that the commit will put, which take something out of the catalogue; that state
    /// then descends from `after`, so that they are applied behind what they take back.
    pub fn take_back(&mut self, deletes: Vec<Delete>, after: Option<Id>) {
        self.deletes.extend(deletes);
        if let Some(after) = after {
            lock(&self.checkpoint).parent = after;
        }
    }

    /// Stores a snapshot's header even where the store holds another one of this id.
    pub fn put_header_anew(&self, plain: &[u8]) -> Result<(), Error> {
        let (kind, id) = (BlobType::SNAPSHOT, self.snapshot);
        let _gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let mut encoded = Vec::new();
        self.repository().encoding().encode(Item::blob(kind.0, id), plain, &mut encoded)?;
        self.append(kind, id, Lane::Tree, &encoded, plain.len())
    }

    /// Commits: closes and waits for every packfile, then puts the state named after the snapshot.
    ///
    /// The caller has put the snapshot's header. What fails leaves no snapshot.
    pub fn commit(mut self) -> Result<WriterStats, Error> {
        self.shared.check()?;
        for pack in self.detach() {
            self.close(pack, true)?;
        }
        self.shared.wait_for_packs()?;
        self.settle()?;
        let mut parent = lock(&self.checkpoint).parent;
        let deletes = std::mem::take(&mut self.deletes);
        // A snapshot that comes back was committed here once: that state stands and is never replaced.
        let taken =
            self.base.is_folded(&self.snapshot) || self.base.states().any(|state| state == self.snapshot);
        let id = if taken { random::id() } else { self.snapshot };
        self.put_state(id, &mut parent, &deletes)?;
        if self.lock.lapsed() {
            self.make_up(&mut parent)?;
        }
        if let Some(journal) = lock(&self.journal).as_ref() {
            journal.forget();
        }
        Ok(self.stats())
    }

    /// Looks after every lapse of the lock until there is none that was not looked at.
    fn settle(&self) -> Result<(), Error> {
        for _ in 0..=LAPSES {
            if !self.lock.was_lost()? && !self.owed.swap(false, Ordering::AcqRel) {
                return Ok(());
            }
            self.look_again()?;
            self.shared.wait_for_packs()?;
        }
        // It lapses again and again: nobody can promise that anything stays.
        Err(Error::Overtaken)
    }

    /// The lock lapsed while the last state was on its way: what was lost meanwhile is sent anew under a state more.
    /// Where that cannot be done, the snapshot is removed again.
    fn make_up(&self, parent: &mut Id) -> Result<(), Error> {
        let done = self.settle().and_then(|()| self.put_state(random::id(), parent, &[]));
        if done.is_err() {
            // It may fail for the same reason; then the snapshot stays, and check names what it lacks.
            let _ = remove_snapshots(self.repository(), &[self.snapshot]);
        }
        done
    }

    /// Before a checkpoint: if the lock lapsed, what this session stored must still be there. What it relied on is
    /// looked at before the commit.
    fn look_at_own(&self) -> Result<(), Error> {
        if !self.lock.was_lost()? {
            return Ok(());
        }
        // First, so that a failure in between does not make the commit forget it.
        self.owed.store(true, Ordering::Release);
        self.renew()?;
        self.find_own()
    }

    /// Takes the lock again, waiting for maintenance as at the beginning.
    fn renew(&self) -> Result<(), Error> {
        self.repository().lock_wait().run(|| self.lock.renew())
    }

    /// Fails unless every packfile that this session stored is listed.
    fn find_own(&self) -> Result<(), Error> {
        let mut missing: HashSet<Id> = lock(&self.shared.stored).iter().copied().collect();
        self.repository().storage().list(crate::connector::Kind::Packfile, &mut |listed| {
            missing.remove(&listed.id);
        })?;
        if missing.is_empty() { Ok(()) } else { Err(Error::Overtaken) }
    }

    /// After a lapse of the lock: what was stored and what is relied on must still be there. What was there before and
    /// was coloured meanwhile is read from its packfile, which outlives its colour by the grace period, and sent anew.
    ///
    /// Why a packfile of this session may be coloured: maintenance takes the colour of one that a live snapshot needs,
    /// however old the colour is. One that a state deleted never comes back, be its file there or not.
    ///
    /// The lock is taken again first, so that what is found stays as it is until the commit.
    fn look_again(&self) -> Result<(), Error> {
        self.renew()?;
        let now = self.repository().reload()?;
        if lock(&self.shared.stored).iter().any(|pack| now.was_deleted(pack)) {
            return Err(Error::Overtaken);
        }
        self.find_own()?;
        let gone = |(ordinal, used): (usize, &bool)| *used && !now.is_live_pack(self.base.pack_id(ordinal));
        if !self.usable.iter().enumerate().any(gone) {
            return Ok(());
        }
        let is_held = |kind, id: &Id| -> Result<bool, Error> {
            if self.known.contains(kind, id)? {
                return Ok(true);
            }
            // A packfile that was not usable at the beginning is not now; one that is new was not there to be lost.
            let old = |id: &Id| self.base.pack_ordinal(id).is_some_and(|ordinal| !self.usable[ordinal]);
            Ok(now.find(kind, id)?.iter().any(|place| !old(&place.packfile)))
        };
        let search = Search { repository: self.repository(), is_held: &is_held };
        self.relied.each_lost(&search, &mut |kind, id, plain| {
            if !self.known.insert(kind, id)? {
                return Ok(());
            }
            let mut encoded = Vec::new();
            self.encoding().encode(Item::blob(kind.0, id), plain, &mut encoded)?;
            let lane = if kind == BlobType::CHUNK { Lane::Data } else { Lane::Metadata };
            self.append(kind, id, lane, &encoded, plain.len())
        })?;
        for pack in self.detach() {
            self.close(pack, true)?;
        }
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.closing.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl BlobSink for Writer {
    fn mac_key(&self) -> &MacKey {
        self.repository().keys().ids()
    }

    fn chunker(&self) -> &Chunker {
        self.repository().chunker().expect("checked when the session was opened")
    }

    fn put_as(&self, kind: BlobType, id: Id, plain: &[u8], lane: Lane) -> Result<bool, Error> {
        self.put_encoded(kind, id, lane, &mut |out| {
            self.repository().encoding().encode(Item::blob(kind.0, id), plain, out)?;
            Ok(plain.len())
        })
    }
}

impl Session for Writer {
    fn put_encoded(
        &self,
        kind: BlobType,
        id: Id,
        lane: Lane,
        encode: &mut Encode<'_>,
    ) -> Result<bool, Error> {
        self.shared.check()?;
        {
            let _gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
            if !self.claim(kind, id)? {
                return Ok(false);
            }
            let mut encoded = Vec::new();
            let plain = encode(&mut encoded).inspect_err(|_| self.shared.poison())?;
            self.append(kind, id, lane, &encoded, plain)?;
        }
        // With its header the snapshot would be there before the commit looked whether all of it is.
        if kind != BlobType::SNAPSHOT {
            self.checkpoint_when_due()?;
        }
        Ok(true)
    }

    fn covered(&self, path: &[u8], entry: &[u8]) -> Result<(), Error> {
        match lock(&self.journal).as_mut() {
            Some(journal) => journal.add(path, entry),
            None => Ok(()),
        }
    }

    fn end_contents(&self) -> Result<(), Error> {
        for pack in self.data.iter().filter_map(|slot| lock(slot).take()) {
            self.close(pack, true)?;
        }
        Ok(())
    }

    fn has_put(&self, kind: BlobType, id: &Id) -> Result<bool, Error> {
        self.known.contains(kind, id)
    }

    fn holds(&self, kind: BlobType, id: &Id) -> Result<bool, Error> {
        Ok(self.base.find(kind, id)?.iter().any(|place| self.usable[place.pack as usize]))
    }

    fn rely(&self, kind: BlobType, id: &Id) -> Result<(), Error> {
        self.relied.add(kind, id)
    }

    fn lost_packfiles(&self) -> bool {
        self.lost
    }

    fn is_intact(&self) -> bool {
        self.intact
    }

    fn encoding(&self) -> &Encoding {
        self.repository().encoding()
    }

    fn spills(&self) -> &SpillDir {
        self.repository().spills()
    }

    fn is_ours_alone(&self) -> bool {
        self.repository().is_ours_alone()
    }

    fn stats(&self) -> WriterStats {
        let counters = &self.shared.counters;
        WriterStats {
            blob_count: counters.blobs.load(Ordering::Relaxed),
            plain_bytes: counters.plain.load(Ordering::Relaxed),
            stored_bytes: counters.stored.load(Ordering::Relaxed),
            packfile_count: counters.packs.load(Ordering::Relaxed),
            packfile_bytes: counters.pack_bytes.load(Ordering::Relaxed),
        }
    }
}

impl Shared {
    fn start(shared: &Arc<Self>, packs: Receiver<Closing>) -> Result<JoinHandle<()>, Error> {
        let shared = Arc::clone(shared);
        std::thread::Builder::new()
            .name("packfiles".into())
            .spawn(move || {
                let mut end = Vec::new();
                for closing in packs {
                    shared.store(closing, &mut end);
                }
            })
            .map_err(|source| Error::spool("start a thread for", source))
    }

    fn store(&self, closing: Closing, end: &mut Vec<u8>) {
        let repository = &self.repository;
        let stored = if self.failed.load(Ordering::Acquire) {
            Err(Error::Aborted)
        } else {
            closing
                .pack
                .finish(
                    repository.storage().as_ref(),
                    repository.keys(),
                    repository.encoding(),
                    closing.padding,
                    end,
                )
                .and_then(|pack| self.record(pack))
        };
        if let Err(error) = stored {
            lock(&self.failure).get_or_insert(error);
            self.poison();
        }
        lock(&self.in_flight).open.remove(&closing.ticket);
        self.landed.notify_all();
    }

    fn record(&self, pack: StoredPack) -> Result<(), Error> {
        lock(&self.stored).push(pack.id);
        self.counters.packs.fetch_add(1, Ordering::Relaxed);
        self.counters.pack_bytes.fetch_add(pack.bytes, Ordering::Relaxed);
        let mut bytes = Vec::with_capacity(RECORDED + 128);
        let mut pending = lock(&self.pending);
        for location in pack.locations() {
            StateEntry::Location(location).encode(&mut bytes);
            if bytes.len() >= RECORDED {
                pending.locations.push(&[&bytes])?;
                bytes.clear();
            }
        }
        pending.locations.push(&[&bytes])?;
        pending.packs.push((pack.id, pack.created.unix_nanos()));
        Ok(())
    }

    fn poison(&self) {
        self.failed.store(true, Ordering::Release);
    }

    fn check(&self) -> Result<(), Error> {
        if self.failed.load(Ordering::Acquire) {
            self.take_failure().and(Err(Error::Aborted))
        } else {
            Ok(())
        }
    }

    fn take_failure(&self) -> Result<(), Error> {
        match lock(&self.failure).take() {
            Some(error) => Err(error),
            None if self.failed.load(Ordering::Acquire) => Err(Error::Aborted),
            None => Ok(()),
        }
    }

    /// Waits until every packfile handed over so far is durable.
    fn wait_for_packs(&self) -> Result<(), Error> {
        let mut in_flight = lock(&self.in_flight);
        let until = in_flight.next;
        while in_flight.open.first().is_some_and(|ticket| *ticket < until) {
            in_flight = self.landed.wait(in_flight).unwrap_or_else(PoisonError::into_inner);
        }
        drop(in_flight);
        self.take_failure()
    }
}

/// Says for each packfile of the catalogue whether it is live and listed.
fn usable_packs(storage: &dyn Storage, base: &Catalogue) -> Result<Vec<bool>, Error> {
    let mut usable = vec![false; base.pack_count()];
    storage.list(crate::connector::Kind::Packfile, &mut |listed| {
        if let Some(ordinal) = base.pack_ordinal(&listed.id) {
            usable[ordinal] = base.is_live_pack(listed.id);
        }
    })?;
    Ok(usable)
}

/// Says whether what an earlier snapshot refers to need not be there: a packfile that should be live is gone, or a
/// location was deleted because it did not verify, and the blob has no other.
fn has_losses(usable: &[bool], base: &Catalogue) -> Result<bool, Error> {
    if (0..usable.len()).any(|pack| !usable[pack] && base.is_live_pack(base.pack_id(pack))) {
        return Ok(true);
    }
    for (kind, id) in base.deleted_blobs() {
        // All else is put by every run.
        let matters = kind == BlobType::OBJECT || kind == BlobType::CHUNK;
        if matters && !base.find(kind, &id)?.iter().any(|place| usable[place.pack as usize]) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_follow_the_storage_within_the_disk_budget() {
        assert_eq!(storage_threads(2, 32 << 20), 2);
        assert_eq!(storage_threads(64, 32 << 20), 16);
        assert_eq!(storage_threads(16, 64 << 20), 8);
        assert_eq!(storage_threads(16, u64::MAX), 2);
        assert_eq!(storage_threads(1, 0), 2);
    }
}
