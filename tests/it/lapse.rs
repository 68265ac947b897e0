//! A writer whose lock lapsed while maintenance ran: what it relied on is there when it commits, or it does not.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plakar::base::{Id, Timestamp};
use plakar::connector::{Body, Kind, Storage};
use plakar::connectors::fs::FsImporter;
use plakar::connectors::memory::MemoryStore;
use plakar::connectors::ptar::{ArchiveFile, PtarStore};
use plakar::crypto::seal::Item;
use plakar::format::blob::BlobType;
use plakar::format::state::{Coloured, Delete, Metadata, StateEntry, encode_metadata};
use plakar::format::version::Version;
use plakar::format::wrapper::{self, Resource};
use plakar::snapshot::{
    ArchiveExport, BackupOptions, BackupReport, Counter, Fate, MaintenanceOptions, MaintenanceReport,
    Monitor, Problem, SyncOptions, Tally, backup, list, sync,
};
use plakar::store::blob::{BlobSink, Lane};
use plakar::store::{
    ArchiveKind, ArchiveWriter, CheckpointPolicy, CreateOptions, Error, LockTerms, Repository, Writer,
};

use crate::engine::{Shared, assert_clean, assert_restores, back_up, create, kinds, noise, reopen};
use crate::maintenance::forget_locks;

pub(crate) const GONE: Duration = Duration::from_millis(300);

/// A tree with contents of one chunk, of several, and of none.
pub(crate) fn grow(tree: &Path) {
    fs::create_dir_all(tree.join("sub/deep")).unwrap();
    for number in 0..20 {
        fs::write(tree.join(format!("sub/{number}")), format!("content {number}")).unwrap();
    }
    fs::write(tree.join("sub/deep/large"), noise(1_500_000)).unwrap();
    fs::write(tree.join("empty"), "").unwrap();
    // What was modified a moment before a backup began would be read again.
    std::thread::sleep(Duration::from_millis(100));
}

/// Locks that are stale after a moment and never written again: every run outlives its own.
pub(crate) fn sleepy(storage: &Arc<dyn Storage>) -> Arc<Repository> {
    let repository = reopen(Arc::clone(storage));
    repository.set_lock_terms(LockTerms { stale: GONE, refresh: Duration::from_hours(1) });
    repository
}

pub(crate) fn packs(storage: &dyn Storage) -> Vec<Id> {
    let mut packs = Vec::new();
    storage.list(Kind::Packfile, &mut |listed| packs.push(listed.id)).unwrap();
    packs
}

/// Puts a state that holds these entries and nothing else.
pub(crate) fn put_state(repository: &Repository, entries: &[StateEntry]) {
    let mut id = Id::ZERO;
    getrandom::fill(&mut id.0).unwrap();
    let mut plain = repository.catalogue().newest().0.to_vec();
    entries.iter().for_each(|entry| entry.encode(&mut plain));
    let timestamp = Timestamp::now().unix_nanos();
    let version = Version::V1_1_0;
    encode_metadata(&Metadata { version, timestamp, serial: [0; 16] }, &mut plain);
    let mut bytes = wrapper::header(Resource::State, version).to_vec();
    repository.encoding().encode(Item::state(id), &plain, &mut bytes).unwrap();
    let trailer = repository.keys().trailers().mac(&bytes);
    bytes.extend_from_slice(trailer.as_bytes());
    repository.storage().put(Kind::State, id, Body::Bytes(&bytes)).unwrap();
}

/// What maintenance does when nobody holds a lock: colours every packfile there is, all snapshots being removed.
pub(crate) fn maintain(storage: &Arc<dyn Storage>) -> Vec<Id> {
    let repository = reopen(Arc::clone(storage));
    let snapshots: Vec<Id> = list(&repository).0.iter().map(|info| info.id).collect();
    plakar::store::remove_snapshots(&repository, &snapshots).unwrap();
    let packs = packs(storage.as_ref());
    let when = Timestamp::now().unix_nanos();
    let entries: Vec<StateEntry> =
        packs.iter().map(|pack| StateEntry::Coloured(Coloured::packfile(*pack, when))).collect();
    put_state(&repository, &entries);
    packs
}

/// What maintenance does when the grace period is over: what is coloured is forgotten, then deleted.
pub(crate) fn sweep(storage: &Arc<dyn Storage>, packs: &[Id]) {
    let entries: Vec<StateEntry> =
        packs.iter().map(|pack| StateEntry::Delete(Delete::packfile(*pack))).collect();
    put_state(&reopen(Arc::clone(storage)), &entries);
    packs.iter().for_each(|pack| storage.delete(Kind::Packfile, *pack).unwrap());
}

/// Does something in the middle of a run.
struct Meanwhile<F> {
    tally: Tally,
    phase: &'static str,
    act: Mutex<Option<F>>,
}

impl<F> std::fmt::Debug for Meanwhile<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meanwhile")
    }
}

impl<F: FnOnce() + Send> Monitor for Meanwhile<F> {
    fn phase(&self, name: &'static str) {
        if name == self.phase
            && let Some(act) = self.act.lock().unwrap().take()
        {
            act();
        }
    }
    fn count(&self, counter: Counter, amount: u64) {
        self.tally.count(counter, amount);
    }
    fn problem(&self, problem: &Problem) {
        self.tally.problem(problem);
    }
}

fn back_up_meanwhile(
    repository: &Arc<Repository>,
    tree: &Path,
    phase: &'static str,
    act: impl FnOnce() + Send,
) -> Result<BackupReport, Error> {
    back_up_by(&BackupOptions::default(), repository, tree, phase, act)
}

fn back_up_by(
    options: &BackupOptions,
    repository: &Arc<Repository>,
    tree: &Path,
    phase: &'static str,
    act: impl FnOnce() + Send,
) -> Result<BackupReport, Error> {
    let importer = FsImporter::builder().place(tree).build().unwrap();
    let monitor = Meanwhile { tally: Tally::default(), phase, act: Mutex::new(Some(act)) };
    let report = backup(repository, &importer, options, &monitor);
    assert!(monitor.act.lock().unwrap().is_none(), "the run never got there");
    report
}

#[test]
fn what_was_coloured_during_a_lapse_is_sent_anew() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    grow(&tree);
    for (name, options) in kinds() {
        // Before anything is read, and when everything but the trees is stored.
        for phase in ["backup", "index"] {
            let memory = Arc::new(MemoryStore::new());
            let storage: Arc<dyn Storage> = Arc::new(Shared::new(&memory));
            create(Arc::clone(&storage), &options);
            back_up(&reopen(Arc::clone(&storage)), &tree);
            let old = packs(storage.as_ref());

            let writer = sleepy(&storage);
            let report = back_up_meanwhile(&writer, &tree, phase, || {
                std::thread::sleep(GONE);
                maintain(&storage);
            })
            .unwrap();
            assert_eq!(report.read_bytes, 0, "{name}: nothing was read from the source");
            assert_eq!(list(&reopen(Arc::clone(&storage))).0.len(), 1, "{name} {phase}");
            sweep(&storage, &old);
            let repository = reopen(Arc::clone(&storage));
            assert_clean(&repository);
            assert_restores(&repository, 0, &tree);
        }
    }
}

#[test]
fn only_what_is_needed_is_sent_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (large, small) = (folder.path().join("large"), folder.path().join("small"));
    fs::create_dir_all(&large).unwrap();
    fs::create_dir_all(&small).unwrap();
    fs::write(large.join("file"), noise(3_000_000)).unwrap();
    fs::write(small.join("file"), "small").unwrap();
    let memory = Arc::new(MemoryStore::new());
    let storage: Arc<dyn Storage> = Arc::new(Shared::new(&memory));
    let repository = create(Arc::clone(&storage), &kinds()[0].1);
    std::thread::sleep(Duration::from_millis(100));
    back_up(&repository, &large);
    back_up(&repository, &small);
    let before = memory.stored_bytes(Kind::Packfile);
    assert!(before > 3_000_000);
    let report = back_up_meanwhile(&sleepy(&storage), &small, "backup", || {
        std::thread::sleep(GONE);
        maintain(&storage);
    })
    .unwrap();
    let sent = memory.stored_bytes(Kind::Packfile) - before;
    assert!(report.unchanged_count == 1 && sent > 0 && sent < 300_000, "{sent} bytes: {report:?}");
    assert_clean(&reopen(storage));
}

#[test]
fn a_lapse_is_remembered_when_the_lock_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    grow(&tree);
    let storage: Arc<dyn Storage> = Arc::new(Shared::new(&Arc::new(MemoryStore::new())));
    create(Arc::clone(&storage), &kinds()[0].1);
    back_up(&reopen(Arc::clone(&storage)), &tree);
    let old = packs(storage.as_ref());
    let writer = reopen(Arc::clone(&storage));
    // Written again long after it went stale, and well before the commit.
    writer.set_lock_terms(LockTerms { stale: GONE, refresh: GONE * 3 });
    back_up_meanwhile(&writer, &tree, "backup", || {
        maintain(&storage);
        std::thread::sleep(GONE * 4);
        writer.set_lock_terms(LockTerms::default());
    })
    .unwrap();
    sweep(&storage, &old);
    assert_clean(&reopen(Arc::clone(&storage)));
}

#[test]
fn what_is_gone_for_good_is_not_committed() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    grow(&tree);
    let storage: Arc<dyn Storage> = Arc::new(Shared::new(&Arc::new(MemoryStore::new())));
    create(Arc::clone(&storage), &kinds()[0].1);
    back_up(&reopen(Arc::clone(&storage)), &tree);
    let error = back_up_meanwhile(&sleepy(&storage), &tree, "backup", || {
        std::thread::sleep(GONE);
        sweep(&storage, &maintain(&storage));
    })
    .unwrap_err();
    assert!(matches!(error, Error::Overtaken), "{error}");
    let repository = reopen(storage);
    assert_eq!(list(&repository).0.len(), 0);
    // The next run stores everything anew.
    back_up(&repository, &tree);
    assert_clean(&repository);
    assert_restores(&repository, 0, &tree);
}

#[test]
fn a_snapshot_that_comes_back_is_whole_after_a_lapse() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    grow(&tree);
    let memory = Arc::new(MemoryStore::new());
    let storage: Arc<dyn Storage> = Arc::new(Shared::new(&memory));
    let options = &kinds()[0].1;
    let store = create(Arc::clone(&storage), options);
    let id = back_up(&store, &tree).snapshot;
    let path = folder.path().join("x.ptar");
    let sink = Box::new(ArchiveFile::create(&path, false).unwrap());
    let archive = ArchiveWriter::create(ArchiveKind::New(options), sink, folder.path()).unwrap();
    let (sync_options, tally) = (SyncOptions::default(), Tally::default());
    ArchiveExport::new(&archive, &sync_options, &tally).add(&store, &list(&store).0).unwrap();
    archive.commit().unwrap();
    let archive = reopen(Arc::new(PtarStore::open(&path, true).unwrap()));
    plakar::store::remove_snapshots(&store, &[id]).unwrap();
    let old = packs(storage.as_ref());

    // Between the moment when the writer sees that all is there and its commit.
    let (done, under) = (Mutex::new(false), Arc::clone(&storage));
    let hooked = Shared::new(&memory).after_listing(move |kind| {
        if kind == Kind::Packfile && !std::mem::replace(&mut *done.lock().unwrap(), true) {
            maintain(&under);
            std::thread::sleep(GONE);
        }
    });
    let writer = sleepy(&(Arc::new(hooked) as Arc<dyn Storage>));
    let report = sync(&archive, &writer, &list(&archive).0, &sync_options, &tally).unwrap();
    assert_eq!((report.revived, report.stats.blob_count > 0), (vec![id], true));
    sweep(&storage, &old);
    let repository = reopen(storage);
    assert_clean(&repository);
    assert_restores(&repository, 0, &tree);
}

/// An empty store with small packfiles, so that a run stores several before its commit.
fn small_packs() -> Arc<dyn Storage> {
    let storage: Arc<dyn Storage> = Arc::new(Shared::new(&Arc::new(MemoryStore::new())));
    let options = CreateOptions { packfile_size: Some(100_000), ..kinds()[0].1.clone() };
    create(Arc::clone(&storage), &options);
    storage
}

/// A tree that fills several of them.
fn grow_packs(tree: &Path) {
    grow(tree);
    (0..30).for_each(|n| fs::write(tree.join(format!("{n}")), noise(60_000 + n)).unwrap());
    std::thread::sleep(Duration::from_millis(100));
}

pub(crate) fn states(storage: &dyn Storage) -> usize {
    let mut count = 0;
    storage.list(Kind::State, &mut |_| count += 1).unwrap();
    count
}

/// Maintains without a grace period, so many days from now, on a machine that takes every lock for stale.
fn maintain_regardless(storage: &Arc<dyn Storage>, days: i64) -> MaintenanceReport {
    let now = Timestamp::now();
    let options = MaintenanceOptions {
        apply: true,
        grace: Duration::ZERO,
        now: Some(Timestamp { secs: now.secs + days * 24 * 3600, ..now }),
        // States are counted below.
        fold_above: None,
        ..MaintenanceOptions::default()
    };
    loop {
        forget_locks(storage.as_ref());
        match plakar::snapshot::maintain(&reopen(Arc::clone(storage)), &options, &Tally::default()) {
            // A lock was written again just now.
            Err(Error::Locked { .. }) => {}
            done => return done.unwrap(),
        }
    }
}

/// Marks and deletes what no snapshot needs.
fn delete_all(storage: &Arc<dyn Storage>) {
    assert!(maintain_regardless(storage, 2).of(Fate::Coloured).0 > 1);
    assert!(maintain_regardless(storage, 3).of(Fate::Swept).0 > 1);
}

fn assert_next_run_is_whole(storage: &Arc<dyn Storage>, tree: &Path) {
    let repository = reopen(Arc::clone(storage));
    assert_eq!(list(&repository).0.len(), 0, "nothing was committed");
    back_up(&repository, tree);
    assert_clean(&repository);
    assert_restores(&repository, 0, tree);
}

#[test]
fn a_run_whose_own_packfiles_were_deleted_is_not_committed() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    grow_packs(&tree);
    // The machine slept; another one's clock goes ahead; the same, and the lock is written again before the commit.
    for case in ["asleep", "ahead", "written again"] {
        let storage = small_packs();
        let writer = if case == "asleep" { sleepy(&storage) } else { reopen(Arc::clone(&storage)) };
        if case == "written again" {
            let refresh = GONE / 3;
            writer.set_lock_terms(LockTerms { refresh, ..LockTerms::default() });
        }
        let error = back_up_meanwhile(&writer, &tree, "index", || {
            std::thread::sleep(GONE);
            delete_all(&storage);
            if case == "written again" {
                std::thread::sleep(GONE);
            }
        })
        .unwrap_err();
        assert!(matches!(error, Error::Overtaken), "{case}: {error}");
        assert_next_run_is_whole(&storage, &tree);
    }
}

#[test]
fn no_checkpoint_names_packfiles_that_were_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    grow_packs(&tree);
    let storage = small_packs();
    let often = CheckpointPolicy { bytes: 1, interval: Duration::from_secs(1000) };
    let options = BackupOptions { checkpoints: often, ..BackupOptions::default() };
    let mut before = 0;
    let writer = reopen(Arc::clone(&storage));
    let error = back_up_by(&options, &writer, &tree, "index", || {
        delete_all(&storage);
        before = states(storage.as_ref());
    })
    .unwrap_err();
    assert!(matches!(error, Error::Overtaken), "{error}");
    let after = states(storage.as_ref());
    assert!(before > 2, "no state was put before: {before}");
    assert_eq!(after, before, "a state was put");
    assert_next_run_is_whole(&storage, &tree);
}

#[test]
fn a_session_that_was_overtaken_puts_nothing_more() {
    let storage = small_packs();
    let often = CheckpointPolicy { bytes: 1, interval: Duration::from_secs(1000) };
    let writer = Writer::open(&reopen(Arc::clone(&storage)), Id([7; 32]), often, None).unwrap();
    let put = |n: u8| writer.put(BlobType::CHUNK, &[n; 1000], Lane::Data);
    (0..4).for_each(|n| assert!(put(n).is_ok()));
    delete_all(&storage);
    let before = states(storage.as_ref());
    assert!(matches!(put(4), Err(Error::Overtaken)));
    // Whoever else writes into the session finds a lock that was just taken again.
    (5..8).for_each(|n| assert!(put(n).is_err()));
    assert!(writer.commit().is_err());
    assert_eq!(states(storage.as_ref()), before, "a state was put");
}

#[test]
fn own_packfiles_that_were_only_marked_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    grow_packs(&tree);
    for bytes in [1, u64::MAX] {
        let storage = small_packs();
        let often = CheckpointPolicy { bytes, interval: Duration::from_secs(1000) };
        let options = BackupOptions { checkpoints: often, ..BackupOptions::default() };
        let writer = reopen(Arc::clone(&storage));
        let mut marked = (0, 0);
        let act = || marked = maintain_regardless(&storage, 2).of(Fate::Coloured);
        back_up_by(&options, &writer, &tree, "index", act).unwrap();
        assert!(marked.0 > 1);
        assert_clean(&reopen(Arc::clone(&storage)));
        assert!(maintain_regardless(&storage, 30).of(Fate::Revived).0 > 1);
        maintain_regardless(&storage, 60);
        let repository = reopen(storage);
        assert_clean(&repository);
        assert_restores(&repository, 0, &tree);
    }
}
