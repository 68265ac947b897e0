//! Sessions of a writer at their edges: what the lock finds, what happens around the commit, answers that are lost.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use plakar::base::{Id, Timestamp};
use plakar::connector::{Error as Fault, ErrorKind, Kind, Storage};
use plakar::connectors::fs::FsImporter;
use plakar::connectors::memory::MemoryStore;
use plakar::format::blob::BlobType;
use plakar::format::state::{Coloured, Delete, StateEntry};
use plakar::snapshot::{BackupOptions, Tally, backup, list};
use plakar::store::blob::{BlobSink, BlobSource, Lane};
use plakar::store::{CheckpointPolicy, Error, LockTerms, Repository, Writer};

use crate::engine::{Shared, assert_clean, assert_restores, back_up, create, kinds, reopen};
use crate::lapse::{GONE, grow, maintain, packs, put_state, sleepy, states, sweep};

const OFTEN: CheckpointPolicy = CheckpointPolicy { bytes: 1, interval: Duration::from_secs(1000) };

fn fault() -> Fault {
    Fault::new(ErrorKind::Transport, "reach", "the store")
}

fn locks(storage: &dyn Storage) -> Vec<Id> {
    let mut locks = Vec::new();
    storage.list(Kind::Lock, &mut |lock| locks.push(lock.id)).unwrap();
    locks
}

/// An empty store.
fn new_store() -> (Arc<MemoryStore>, Arc<dyn Storage>) {
    let memory = Arc::new(MemoryStore::new());
    let storage: Arc<dyn Storage> = Arc::new(Shared::new(&memory));
    create(Arc::clone(&storage), &kinds()[0].1);
    (memory, storage)
}

fn put_chunk(writer: &Writer, content: &[u8]) -> Id {
    writer.put(BlobType::CHUNK, content, Lane::Data).unwrap()
}

/// Stores a chunk that a later session finds there.
fn store_chunk(storage: &Arc<dyn Storage>) {
    let first = Writer::open(&reopen(Arc::clone(storage)), Id([1; 32]), CheckpointPolicy::default(), None);
    let first = first.unwrap();
    put_chunk(&first, b"relied on");
    first.commit().unwrap();
}

/// Opens a session that relies on that chunk.
fn rely(repository: &Arc<Repository>, policy: CheckpointPolicy) -> Writer {
    let writer = Writer::open(repository, Id([2; 32]), policy, None).unwrap();
    put_chunk(&writer, b"relied on");
    writer
}

#[test]
fn a_header_makes_no_checkpoint() {
    let (_, storage) = new_store();
    store_chunk(&storage);
    let writer = rely(&reopen(Arc::clone(&storage)), OFTEN);
    sweep(&storage, &packs(storage.as_ref()));
    locks(storage.as_ref()).iter().for_each(|lock| storage.delete(Kind::Lock, *lock).unwrap());
    let before = states(storage.as_ref());
    writer.put_as(BlobType::SNAPSHOT, Id([2; 32]), b"a header", Lane::Tree).unwrap();
    assert!(matches!(writer.commit(), Err(Error::Overtaken)));
    assert_eq!(states(storage.as_ref()), before, "the snapshot was named by a state");
}

#[test]
fn a_session_knows_what_was_deleted_before_it_had_its_lock() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    for tree in [&one, &other] {
        fs::create_dir(tree).unwrap();
        fs::write(tree.join("file"), "the same content").unwrap();
    }
    std::thread::sleep(Duration::from_millis(100));
    let (_, storage) = new_store();
    back_up(&reopen(Arc::clone(&storage)), &one);
    let opened_before = reopen(Arc::clone(&storage));

    // What repair does with a chunk that does not verify.
    let repository = reopen(Arc::clone(&storage));
    let chunk = repository.mac(b"the same content");
    let places = repository.catalogue().find(BlobType::CHUNK, &chunk).unwrap();
    let entry = |pack| StateEntry::Delete(Delete::location(BlobType::CHUNK, chunk, pack));
    let entries: Vec<StateEntry> = places.iter().map(|place| entry(place.packfile)).collect();
    assert_eq!(entries.len(), 1);
    put_state(&repository, &entries);

    let report = back_up(&opened_before, &other);
    let repository = reopen(storage);
    let place = list(&repository).0.iter().position(|info| info.id == report.snapshot).unwrap();
    assert_restores(&repository, place, &other);
    assert_clean(&repository);
}

#[test]
fn a_lock_that_was_taken_away_is_missed_though_the_look_failed() {
    let (memory, plain) = new_store();
    store_chunk(&plain);
    let away = Arc::new(AtomicBool::new(false));
    let broken = Arc::clone(&away);
    let storage = Shared::new(&memory).before_listing(move |kind| {
        if kind == Kind::Lock && broken.load(Ordering::Relaxed) { Err(fault()) } else { Ok(()) }
    });
    let repository = reopen(Arc::new(storage));
    let refresh = Duration::from_millis(10);
    repository.set_lock_terms(LockTerms { refresh, ..LockTerms::default() });
    let writer = rely(&repository, CheckpointPolicy::default());
    away.store(true, Ordering::Relaxed);
    // A refresh that was under way ends, or finds out by itself.
    std::thread::sleep(refresh * 5);
    locks(plain.as_ref()).iter().for_each(|lock| plain.delete(Kind::Lock, *lock).unwrap());
    sweep(&plain, &packs(plain.as_ref()));
    while locks(plain.as_ref()).is_empty() {
        std::thread::sleep(refresh);
    }
    away.store(false, Ordering::Relaxed);
    put_chunk(&writer, b"something new");
    assert!(matches!(writer.commit(), Err(Error::Overtaken)));
}

/// A tree, and a store with one snapshot of it.
struct BackedUp {
    _folder: tempfile::TempDir,
    tree: PathBuf,
    memory: Arc<MemoryStore>,
    storage: Arc<dyn Storage>,
    /// The packfiles of that snapshot.
    old: Vec<Id>,
}

impl BackedUp {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        grow(&tree);
        let (memory, storage) = new_store();
        back_up(&reopen(Arc::clone(&storage)), &tree);
        let old = packs(storage.as_ref());
        Self { _folder: folder, tree, memory, storage, old }
    }
}

/// A store in which something happens once, right after a state was put.
fn after_state(memory: &Arc<MemoryStore>, act: impl Fn() + Send + Sync + 'static) -> Arc<dyn Storage> {
    let done = AtomicBool::new(false);
    Arc::new(Shared::new(memory).after_put(move |kind| {
        if kind == Kind::State && !done.swap(true, Ordering::Relaxed) {
            std::thread::sleep(GONE);
            act();
        }
        Ok(())
    }))
}

#[test]
fn what_is_lost_while_the_last_state_is_put_is_sent_anew() {
    let BackedUp { _folder, tree, memory, storage, old } = BackedUp::new();
    let (plain, coloured) = (Arc::clone(&storage), old.clone());
    let hooked = after_state(&memory, move || {
        let when = Timestamp::now().unix_nanos();
        let colour = |pack: &Id| StateEntry::Coloured(Coloured::packfile(*pack, when));
        put_state(&reopen(Arc::clone(&plain)), &coloured.iter().map(colour).collect::<Vec<_>>());
    });
    let report = back_up(&sleepy(&hooked), &tree);
    assert_eq!(report.read_bytes, 0);
    let repository = reopen(Arc::clone(&storage));
    let first: Vec<Id> =
        list(&repository).0.iter().map(|info| info.id).filter(|id| *id != report.snapshot).collect();
    plakar::store::remove_snapshots(&repository, &first).unwrap();
    sweep(&storage, &old);
    let repository = reopen(storage);
    assert_clean(&repository);
    assert_restores(&repository, 0, &tree);
}

#[test]
fn what_is_gone_while_the_last_state_is_put_takes_the_snapshot_along() {
    let BackedUp { _folder, tree, memory, storage, old } = BackedUp::new();
    let plain = Arc::clone(&storage);
    let hooked = after_state(&memory, move || sweep(&plain, &old));
    let importer = FsImporter::builder().place(&tree).build().unwrap();
    let error =
        backup(&sleepy(&hooked), &importer, &BackupOptions::default(), &Tally::default()).unwrap_err();
    assert!(matches!(error, Error::Overtaken), "{error}");
    // The first one is a ruin; of the second nothing is left.
    maintain(&storage);
    let repository = reopen(storage);
    assert_eq!(list(&repository).0.len(), 0);
    back_up(&repository, &tree);
    assert_clean(&repository);
}

#[test]
fn a_lock_whose_answer_was_lost_is_taken_back() {
    let (memory, plain) = new_store();
    let hooked =
        Shared::new(&memory).after_put(|kind| if kind == Kind::Lock { Err(fault()) } else { Ok(()) });
    let repository = reopen(Arc::new(hooked));
    let opened = Writer::open(&repository, Id([2; 32]), CheckpointPolicy::default(), None);
    assert!(opened.is_err());
    assert_eq!(locks(plain.as_ref()), []);
}

#[test]
fn what_only_a_damaged_state_names_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    grow(&tree);
    let (memory, storage) = new_store();
    // A checkpoint names most of the large file, the last state the trees.
    let checkpoints = CheckpointPolicy { bytes: 1_000_000, ..OFTEN };
    let options = BackupOptions { checkpoints, ..BackupOptions::default() };
    let importer = FsImporter::builder().place(&tree).build().unwrap();
    let first = reopen(Arc::clone(&storage));
    let snapshot = backup(&first, &importer, &options, &Tally::default()).unwrap().snapshot;
    let mut ids = Vec::new();
    storage.list(Kind::State, &mut |state| ids.push(state.id)).unwrap();
    assert_eq!(ids.len(), 2);
    for id in ids.iter().filter(|id| **id != snapshot) {
        memory.overwrite(Kind::State, *id, b"rubbish");
    }
    let repository = reopen(Arc::clone(&storage));
    assert!(!repository.damaged_states().is_empty());
    let report = back_up(&repository, &tree);
    assert!(report.read_bytes > 0, "{report:?}");
    let repository = reopen(storage);
    let place = list(&repository).0.iter().position(|info| info.id == report.snapshot).unwrap();
    assert_restores(&repository, place, &tree);
}
