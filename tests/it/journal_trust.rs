//! What a journal says is used as far as it still holds: what it relied on may be gone, and what it covered may have
//! changed since.

use std::fs;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plakar::base::{Id, Timestamp};
use plakar::connector::{
    self, Change, Content, ErrorKind, Importer, Kind, Record, SourceInfo, Storage, Work, Xattr,
};
use plakar::connectors::fs::FsImporter;
use plakar::connectors::memory::MemoryStore;
use plakar::connectors::s3::S3Store;
use plakar::format::blob::BlobType;
use plakar::format::entry::{Entry, FileInfo, Mode};
use plakar::format::object::Object;
use plakar::format::state::{Coloured, Delete, StateEntry};
use plakar::snapshot::{
    BackupOptions, BackupReport, Counter, Fate, MaintenanceOptions, Monitor, Problem, Tally, backup, list,
    maintain,
};
use plakar::store::blob::{BlobSink as _, Lane};
use plakar::store::{
    CheckpointPolicy, CreateOptions, Journal, JournalWriter, LockTerms, NoPassphrase, OpenOptions,
    Repository, Session as _, Writer, remove_snapshots,
};

use crate::engine::{Shared, assert_clean, assert_restores, back_up, create, kinds, reopen};
use crate::lapse::{packs, put_state};
use crate::maintenance::forget_locks;
use crate::{s3_bed, s3server};

const DAY: i64 = 24 * 3600;
/// Length of most contents, in bytes.
const LENGTH: usize = 20_000;
const GONE: Duration = Duration::from_millis(300);

/// Contents that have nothing in common.
fn content(seed: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Writes files of these numbers.
fn write(folder: &Path, numbers: std::ops::Range<u32>) {
    fs::create_dir_all(folder).unwrap();
    for number in numbers {
        let path = folder.join(format!("{number:04}"));
        fs::write(&path, content(path.to_str().unwrap(), LENGTH)).unwrap();
    }
}

/// What was modified a moment before a backup begins is read again by the next.
fn settle() {
    std::thread::sleep(Duration::from_millis(100));
}

/// A source that breaks off after so many regular files: all those are backed up, and the run fails.
#[derive(Debug)]
struct Breaking {
    inner: FsImporter,
    after: usize,
}

impl Breaking {
    fn new(root: &Path, after: usize) -> Self {
        Self { inner: FsImporter::builder().place(root).build().unwrap(), after }
    }
}

impl Importer for Breaking {
    fn source(&self) -> SourceInfo {
        self.inner.source()
    }
    fn scan(&self, emit: &mut dyn FnMut(Record) -> ControlFlow<()>) -> connector::Result<()> {
        let mut left = self.after;
        self.inner.scan(&mut |record| {
            if record.info.as_ref().is_ok_and(|info| info.mode.is_regular()) {
                if left == 0 {
                    return ControlFlow::Break(());
                }
                left -= 1;
            }
            emit(record)
        })?;
        Err(connector::Error::new(ErrorKind::Transport, "list", "breaking:"))
    }
    fn compare(&self, record: &Record, previous: &Entry, begun: Timestamp) -> Change {
        self.inner.compare(record, previous, begun)
    }
    fn open(&self, record: &Record) -> connector::Result<Box<dyn Content>> {
        self.inner.open(record)
    }
    fn xattrs(&self, record: &Record) -> connector::Result<Vec<Xattr>> {
        self.inner.xattrs(record)
    }
    fn work(&self) -> Work {
        self.inner.work()
    }
}

/// Checkpoints after a few files each, so that objects lie beside the journals.
fn often() -> BackupOptions {
    let checkpoints = CheckpointPolicy { bytes: 5 * LENGTH as u64, interval: Duration::from_hours(1) };
    BackupOptions { checkpoints, ..BackupOptions::default() }
}

/// Runs a backup that covers so many files and is cut short.
fn interrupt(repository: &Arc<Repository>, root: &Path, after: usize, monitor: &dyn Monitor) {
    backup(repository, &Breaking::new(root, after), &often(), monitor).unwrap_err();
    forget_locks(repository.storage().as_ref());
}

fn back_up_all(repository: &Arc<Repository>, root: &Path) -> BackupReport {
    let importer = FsImporter::builder().place(root).build().unwrap();
    backup(repository, &importer, &BackupOptions::default(), &Tally::default()).unwrap()
}

fn run(repository: &Arc<Repository>, days: i64) -> plakar::snapshot::MaintenanceReport {
    let now = Timestamp::now();
    let options = MaintenanceOptions {
        apply: true,
        max_repack: 0,
        now: Some(Timestamp { secs: now.secs + days * DAY, ..now }),
        ..MaintenanceOptions::default()
    };
    maintain(repository, &options, &Tally::default()).unwrap()
}

/// A store with a snapshot of a folder that holds one large old file; then new ones come.
struct Bed {
    folder: tempfile::TempDir,
    storage: Arc<dyn Storage>,
    first: Id,
    old: Vec<Id>,
}

impl Bed {
    fn new(kind: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("home/a")).unwrap();
        fs::write(folder.path().join("home/a/old"), content("old", 300_000)).unwrap();
        settle();
        let storage: Arc<dyn Storage> = Arc::new(Shared::new(&Arc::new(MemoryStore::new())));
        let store = create(Arc::clone(&storage), &kinds()[kind].1);
        let first = back_up(&store, &folder.path().join("home")).snapshot;
        let old = packs(storage.as_ref());
        write(&folder.path().join("home/sub"), 0..60);
        settle();
        Self { folder, storage, first, old }
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn open(&self) -> Arc<Repository> {
        reopen(Arc::clone(&self.storage))
    }

    /// Takes the interrupted run up; returns how many files were not read again.
    fn finish(&self) -> BackupReport {
        let report = back_up_all(&self.open(), &self.home());
        let repository = self.open();
        assert_clean(&repository);
        assert_restores(&repository, list(&repository).0.len() - 1, &self.home());
        report
    }
}

#[test]
fn what_a_journal_relied_on_may_have_been_deleted_since() {
    for kind in [0, 3] {
        let bed = Bed::new(kind);
        interrupt(&bed.open(), &bed.home(), 61, &Tally::default());
        assert!(bed.open().catalogue().journals().len() > 1);
        // This keeps what the checkpoints brought, journals included, and nothing of what the run took for unchanged.
        back_up(&bed.open(), &bed.home().join("sub"));
        remove_snapshots(&bed.open(), &[bed.first]).unwrap();
        let marked = run(&bed.open(), 30).of(Fate::Coloured);
        // The old content at least: of the packfile with the trees something may still be used.
        assert!(marked.1 > 300_000);
        assert_eq!(run(&bed.open(), 60).of(Fate::Swept), marked);
        assert!(bed.open().catalogue().journals().len() > 1);
        let report = bed.finish();
        assert!(report.resumed_count > 20, "{report:?}");
        assert_eq!(report.unchanged_count, report.resumed_count - 1, "all but the old one: {report:?}");
    }
}

/// Does something once so many bytes were read.
struct After<F> {
    tally: Tally,
    bytes: u64,
    act: Mutex<Option<F>>,
}

impl<F> std::fmt::Debug for After<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("After")
    }
}

impl<F: FnOnce() + Send> Monitor for After<F> {
    fn count(&self, counter: Counter, amount: u64) {
        self.tally.count(counter, amount);
        if self.tally.get(Counter::Bytes) >= self.bytes
            && let Some(act) = self.act.lock().unwrap().take()
        {
            act();
        }
    }
    fn problem(&self, problem: &Problem) {
        self.tally.problem(problem);
    }
}

#[test]
fn a_checkpoint_after_a_lapse_vouches_for_nothing_that_was_marked_meanwhile() {
    let bed = Bed::new(0);
    let sleepy = bed.open();
    sleepy.set_lock_terms(LockTerms { stale: GONE, refresh: Duration::from_hours(1) });
    let act = || {
        std::thread::sleep(GONE);
        let repository = bed.open();
        remove_snapshots(&repository, &[bed.first]).unwrap();
        let when = Timestamp::now().unix_nanos();
        let colours = bed.old.iter().map(|pack| StateEntry::Coloured(Coloured::packfile(*pack, when)));
        put_state(&repository, &colours.collect::<Vec<_>>());
    };
    let bytes = 30 * LENGTH as u64;
    let monitor = After { tally: Tally::default(), bytes, act: Mutex::new(Some(act)) };
    interrupt(&sleepy, &bed.home(), 61, &monitor);
    assert!(monitor.act.lock().unwrap().is_none(), "the run never got there");
    // Maintenance: what was marked goes, what the checkpoints brought is young.
    let deletes: Vec<_> = bed.old.iter().map(|pack| StateEntry::Delete(Delete::packfile(*pack))).collect();
    put_state(&bed.open(), &deletes);
    bed.old.iter().for_each(|pack| bed.storage.delete(Kind::Packfile, *pack).unwrap());
    let report = bed.finish();
    assert!(report.resumed_count > 20, "{report:?}");
    assert_eq!(report.unchanged_count, report.resumed_count - 1, "all but the old one: {report:?}");
}

#[test]
fn looking_into_a_journal_takes_few_requests() {
    const COUNT: u32 = 1500;
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    fs::create_dir_all(&tree).unwrap();
    for number in 0..COUNT {
        fs::write(tree.join(format!("{number:04}")), content(&number.to_string(), 600)).unwrap();
    }
    settle();
    for kind in [0, 3] {
        let interrupted = s3_bed::Bed::own(s3server::Options::default());
        let storage = Arc::new(S3Store::new(interrupted.options("", &[])).unwrap());
        interrupt(&create(storage, &kinds()[kind].1), &tree, COUNT as usize, &Tally::default());
        let cost = |touched: bool| {
            // Two copies of one store: where a run is interrupted is up to its threads.
            let bed = s3_bed::Bed::own(s3server::Options::default());
            for key in interrupted.own_server().keys("bucket") {
                let object = interrupted.own_server().object("bucket", &key).unwrap();
                bed.own_server().insert("bucket", &key, (*object).clone());
            }
            let storage: Arc<dyn Storage> = Arc::new(S3Store::new(bed.options("", &[])).unwrap());
            if touched {
                // Something left the store once.
                put_state(
                    &reopen(Arc::clone(&storage)),
                    &[StateEntry::Delete(Delete::packfile(Id([9; 32])))],
                );
            }
            let repository = reopen(Arc::clone(&storage));
            bed.own_server().reset_counters();
            let report = back_up_all(&repository, &tree);
            let counters = bed.own_server().counters();
            assert!(report.unchanged_count > 1000, "{report:?}");
            assert!(report.unchanged_count >= report.resumed_count - 1, "{report:?}");
            counters.of("GetObject") + counters.of("HeadObject")
        };
        let (untouched, touched) = (cost(false), cost(true));
        println!("{}: {untouched} requests to read, {touched} with a look into the journal", kinds()[kind].0);
        // One journal blob for each checkpoint, and a few ranges for the objects of each.
        assert!(touched > untouched && touched < untouched + u64::from(COUNT) / 5, "{untouched}, {touched}");
    }
}

/// Writes other bytes of the same length into a file and puts its time back: only its ctime tells.
fn rewrite(path: &Path) {
    let mut file = fs::File::options().write(true).open(path).unwrap();
    let metadata = file.metadata().unwrap();
    file.write_all(&content("other", usize::try_from(metadata.len()).unwrap())).unwrap();
    file.set_modified(metadata.modified().unwrap()).unwrap();
}

#[test]
fn what_changed_between_two_interrupted_runs_is_read_again() {
    for kind in [0, 3] {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        let storage: Arc<dyn Storage> = Arc::new(Shared::new(&Arc::new(MemoryStore::new())));
        let store = create(Arc::clone(&storage), &kinds()[kind].1);
        write(&tree.join("m"), 0..60);
        settle();
        interrupt(&store, &tree, 60, &Tally::default());
        // The first run covered this one; the second never gets there.
        let changed = tree.join("m/0000");
        rewrite(&changed);
        write(&tree.join("a"), 0..60);
        settle();
        let store = reopen(Arc::clone(&storage));
        interrupt(&store, &tree, 60, &Tally::default());
        let store = reopen(storage);
        let report = back_up_all(&store, &tree);
        assert!(report.resumed_count > 40, "{report:?}");
        assert_eq!(report.unchanged_count, report.resumed_count - 1, "all but the changed one: {report:?}");
        assert_clean(&store);
        assert_restores(&store, 0, &tree);
    }
}

#[test]
fn each_entry_tells_when_the_run_that_covered_it_began() {
    let cache = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(Shared::new(&Arc::new(MemoryStore::new())));
    Repository::create(storage.as_ref(), &CreateOptions::default()).unwrap();
    let options = OpenOptions { cache_dir: Some(cache.path().to_owned()), ..OpenOptions::default() };
    let open = || Repository::open(Arc::clone(&storage), &mut NoPassphrase, &options).unwrap();
    let time = |secs| Timestamp { secs, nanos: 0 };
    let entry = |name: &str, object: Id| {
        let mut bytes = Vec::new();
        let info = FileInfo::new(name, Mode::regular(0o644));
        Entry { object, ..Entry::new("/r", info) }.encode_into(&mut bytes);
        bytes
    };
    let source = SourceInfo { kind: "fs".into(), origin: "here".into(), root: "/r".into() };
    let mut object = Id::ZERO;
    for (run, names) in [(1_u8, ["a", "b"]), (2, ["b", "c"])] {
        let (repository, id) = (open(), Id([run; 32]));
        let journal = JournalWriter::new(&repository, id, time(run.into()), &source).unwrap();
        let always = CheckpointPolicy { bytes: 1, interval: Duration::from_hours(1) };
        let writer = Writer::open(&repository, id, always, Some(journal)).unwrap();
        object = writer.put(BlobType::OBJECT, &Object::new(Id([4; 32])).encode(), Lane::Metadata).unwrap();
        for name in names {
            let covered = entry(&format!("{name}{run}"), object);
            writer.covered(format!("/r/{name}").as_bytes(), &covered).unwrap();
        }
        writer.covered(b"/r/lost", &entry("lost", Id([5; 32]))).unwrap();
        // With this a checkpoint is made; nothing is committed.
        writer.put(BlobType::CHUNK, &[run; 100], Lane::Data).unwrap();
    }
    // Something left the store once: entries are looked into.
    put_state(&open(), &[StateEntry::Delete(Delete::packfile(Id([9; 32])))]);
    let repository = open();
    let session = Writer::open(&repository, Id([3; 32]), CheckpointPolicy::default(), None).unwrap();
    let journal = Journal::load(&repository, &source, Timestamp::EPOCH).unwrap().unwrap();
    assert_eq!(journal.len(), 4);
    for (name, run) in [("a", 1), ("b", 2), ("c", 2)] {
        let covered = journal.find(format!("/r/{name}").as_bytes(), &session).unwrap().unwrap();
        assert_eq!(covered.begun, time(run), "{name}");
        assert_eq!(covered.entry, entry(&format!("{name}{run}"), object));
    }
    // What refers to something that the store does not hold is not covered, nor is what no run found.
    for name in ["lost", "d"] {
        assert_eq!(journal.find(format!("/r/{name}").as_bytes(), &session).unwrap(), None, "{name}");
    }
    // Runs that began no later than the latest snapshot are of no use any more.
    let journal = Journal::load(&repository, &source, time(1)).unwrap().unwrap();
    assert_eq!(journal.find(b"/r/a", &session).unwrap(), None);
    assert!(Journal::load(&repository, &source, time(2)).unwrap().is_none());
}
