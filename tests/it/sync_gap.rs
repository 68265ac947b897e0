//! What happens between two snapshots of one sync: each is committed under a lock of its own, and in between anybody
//! may remove the one before.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plakar::base::{Id, Timestamp};
use plakar::connector::Storage;
use plakar::connectors::memory::MemoryStore;
use plakar::format::blob::BlobType;
use plakar::snapshot::{
    Counter, Event, MaintenanceOptions, Monitor, Problem, SyncOptions, SyncReport, Tally, list, maintain,
    sync,
};
use plakar::store::blob::BlobSource as _;
use plakar::store::{CreateOptions, Repository, remove_snapshots};

use crate::engine::{Shared, assert_clean, assert_restores, back_up, create, kinds, reopen};
use crate::lapse::{packs, sweep};
use crate::maintenance::content;

/// Files that the first and the last snapshot share, and the bytes of each.
const SHARED: u64 = 40;
const EACH: usize = 30_000;
/// A file of several chunks that they share, too.
const LARGE: usize = 1_800_000;
/// The bytes of what the other snapshots have of their own.
const OWN: usize = 10_000;

/// A store of three snapshots, the last of which has what the first had, and where their trees are.
struct Source {
    folder: tempfile::TempDir,
    repository: Arc<Repository>,
    ids: Vec<Id>,
}

impl Source {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tree = |name: &str, seed: u64, shared: bool| {
            let tree = folder.path().join(name);
            fs::create_dir(&tree).unwrap();
            fs::write(tree.join("own"), content(1000 + seed, OWN)).unwrap();
            if shared {
                (0..SHARED).for_each(|n| fs::write(tree.join(format!("{n}")), content(n, EACH)).unwrap());
                fs::write(tree.join("large"), content(500, LARGE)).unwrap();
            }
            tree
        };
        let trees: [PathBuf; 3] = [tree("a", 0, true), tree("b", 1, false), tree("c", 2, true)];
        let repository = create(Arc::new(MemoryStore::new()), &kinds()[0].1);
        let ids = trees.iter().map(|tree| back_up(&repository, tree).snapshot).collect();
        Self { folder, repository: reopen(Arc::clone(repository.storage())), ids }
    }

    fn tree(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

type Act<'a> = Box<dyn FnOnce(Id) + Send + 'a>;

/// Does something when the first snapshot is committed; knows how many bytes had been copied at each commit.
struct Between<'a> {
    tally: Tally,
    copied: Mutex<Vec<u64>>,
    act: Mutex<Option<Act<'a>>>,
}

impl std::fmt::Debug for Between<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Between")
    }
}

impl Monitor for Between<'_> {
    fn count(&self, counter: Counter, amount: u64) {
        self.tally.count(counter, amount);
    }

    fn problem(&self, problem: &Problem) {
        self.tally.problem(problem);
    }

    fn event(&self, event: &Event<'_>) {
        if let Event::Committed { snapshot } = event {
            self.copied.lock().unwrap().push(self.tally.get(Counter::Bytes));
            if let Some(act) = self.act.lock().unwrap().take() {
                act(*snapshot);
            }
        }
    }
}

/// An empty store of small packfiles.
fn target(kind: usize) -> Arc<dyn Storage> {
    let storage: Arc<dyn Storage> = Arc::new(Shared::new(&Arc::new(MemoryStore::new())));
    let options = CreateOptions { packfile_size: Some(150_000), ..kinds()[kind].1.clone() };
    create(Arc::clone(&storage), &options);
    storage
}

/// Copies the three snapshots, the oldest first; returns how many bytes each of them took.
fn copy(source: &Source, target: &Arc<dyn Storage>, act: Act<'_>) -> (SyncReport, Vec<u64>) {
    let (mut snapshots, _) = list(&source.repository);
    snapshots.sort_by_key(|info| source.ids.iter().position(|id| *id == info.id));
    let monitor = Between { tally: Tally::default(), copied: Mutex::default(), act: Mutex::new(Some(act)) };
    let to = reopen(Arc::clone(target));
    let report = sync(&source.repository, &to, &snapshots, &SyncOptions::default(), &monitor).unwrap();
    let mut before = 0;
    let copied = monitor.copied.lock().unwrap();
    (report, copied.iter().map(|bytes| bytes - std::mem::replace(&mut before, *bytes)).collect())
}

fn assert_holds(storage: &Arc<dyn Storage>, id: Id, tree: &Path) {
    let repository = reopen(Arc::clone(storage));
    assert_clean(&repository);
    let number = list(&repository).0.iter().position(|info| info.id == id).unwrap();
    assert_restores(&repository, number, tree);
}

#[test]
fn what_an_earlier_snapshot_brought_is_not_read_again() {
    let source = Source::new();
    for kind in [0, 3] {
        let target = target(kind);
        let (report, bytes) = copy(&source, &target, Box::new(|_| {}));
        assert_eq!(report.copied, source.ids);
        let all = SHARED * EACH as u64 + (LARGE + OWN) as u64;
        assert_eq!(bytes, [all, OWN as u64, OWN as u64], "{}", kinds()[kind].0);
        assert_holds(&target, source.ids[2], &source.tree("c"));
    }
}

#[test]
fn what_maintenance_deleted_between_two_snapshots_is_copied_again() {
    let source = Source::new();
    for kind in [0, 3] {
        let target = target(kind);
        let open = || reopen(Arc::clone(&target));
        let act = |first| {
            remove_snapshots(&open(), &[first]).unwrap();
            let now = Timestamp::now();
            for days in [0, 30] {
                let options = MaintenanceOptions {
                    apply: true,
                    grace: Duration::ZERO,
                    now: Some(Timestamp { secs: now.secs + days * 24 * 3600, ..now }),
                    ..MaintenanceOptions::default()
                };
                maintain(&open(), &options, &Tally::default()).unwrap();
            }
            assert_eq!(packs(target.as_ref()), [], "nothing needs the packfiles of the first");
        };
        let (report, bytes) = copy(&source, &target, Box::new(act));
        assert_eq!(report.copied, source.ids);
        assert_eq!(bytes[2], bytes[0], "{}", kinds()[kind].0);
        assert_eq!(list(&open()).0.len(), 2);
        assert_holds(&target, source.ids[2], &source.tree("c"));
    }
}

/// Maintenance decides on packfiles: objects may stay that nothing needs, without their chunks.
#[test]
fn an_object_that_outlived_its_chunks_is_not_trusted() {
    let source = Source::new();
    for kind in [0, 3] {
        let target = target(kind);
        let open = || reopen(Arc::clone(&target));
        let act = |first| {
            remove_snapshots(&open(), &[first]).unwrap();
            let repository = open();
            let chunk = repository.mac(&content(7, EACH));
            let places = repository.catalogue().find(BlobType::CHUNK, &chunk).unwrap();
            sweep(&target, &places.iter().map(|place| place.packfile).collect::<Vec<_>>());
        };
        let (report, bytes) = copy(&source, &target, Box::new(act));
        assert_eq!(report.copied, source.ids);
        assert_holds(&target, source.ids[2], &source.tree("c"));
        // What is left is not read again: one packfile was lost, of many.
        let most = (LARGE + OWN) as u64 + SHARED / 2 * EACH as u64;
        assert!(bytes[2] > OWN as u64 && bytes[2] < most, "{}: {bytes:?}", kinds()[kind].0);
    }
}
