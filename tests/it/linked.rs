//! Restores of trees in which every file has several names, as those of rsnapshot do.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use plakar::base::{Cancel, Id};
use plakar::connector::{self, Body, Kind, Listed, Storage};
use plakar::connectors::fs::{Existing, FsExporter, FsExporterBuilder, FsImporter};
use plakar::connectors::memory::MemoryStore;
use plakar::snapshot::{
    BackupOptions, Counter, Event, Monitor, Problem, RestoreOptions, RestoreReport, Tally, backup, list,
    restore,
};
use plakar::store::Repository;

use crate::engine::{Shared, create, kinds, look};

/// Files in a tree, each with a name in each of its folders.
const COUNT: u64 = 200;
const FOLDERS: [&str; 3] = ["daily.0", "daily.1", "daily.2"];

/// A tree, a snapshot of it, and a cache.
struct Trial {
    temp: tempfile::TempDir,
    repository: Arc<Repository>,
}

impl Trial {
    fn new(repository: Arc<Repository>) -> Self {
        let trial = Self { temp: tempfile::tempdir().unwrap(), repository };
        for folder in FOLDERS {
            fs::create_dir_all(trial.path("tree").join(folder)).unwrap();
        }
        for number in 0..COUNT {
            let mut content = vec![0; 20_000];
            blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut content);
            let name = |folder: &str| trial.path("tree").join(folder).join(format!("{number:03}"));
            fs::write(name(FOLDERS[0]), content).unwrap();
            for folder in &FOLDERS[1..] {
                fs::hard_link(name(FOLDERS[0]), name(folder)).unwrap();
            }
        }
        let importer = FsImporter::builder().place(trial.path("tree")).build().unwrap();
        backup(&trial.repository, &importer, &BackupOptions::default(), &Tally::default()).unwrap();
        trial
    }

    fn local() -> Self {
        let store = Arc::new(MemoryStore::new());
        Self::new(create(Arc::new(Shared::new(&store)), &kinds()[1].1))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn exporter(&self) -> FsExporterBuilder {
        FsExporter::builder(self.path("out"))
    }

    fn restore(&self, exporter: FsExporterBuilder, stop: u64) -> Result<RestoreReport, plakar::store::Error> {
        let monitor = StopAt { tally: Tally::default(), left: AtomicU64::new(stop), cancel: Cancel::new() };
        let options = RestoreOptions {
            cache_dir: Some(self.path("cache")),
            cancel: monitor.cancel.clone(),
            ..RestoreOptions::default()
        };
        let snapshot = list(&self.repository).0.pop().unwrap();
        let tree = self.path("tree").canonicalize().unwrap();
        let start = tree.as_os_str().as_encoded_bytes();
        restore(&self.repository, &snapshot, Some(start), &exporter.build().unwrap(), &options, &monitor)
    }

    fn name(&self, folder: usize, number: u64) -> PathBuf {
        self.path("out").join(FOLDERS[folder]).join(format!("{number:03}"))
    }

    fn assert_whole(&self) {
        assert_eq!(look(&self.path("out")), look(&self.path("tree")));
        for number in 0..COUNT {
            let inodes = [0, 1, 2].map(|folder| inode(&self.name(folder, number)));
            assert!(inodes[0] == inodes[1] && inodes[1] == inodes[2], "{number} is {inodes:?}");
        }
    }
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

/// Cancels a run when so many things are done.
#[derive(Debug)]
struct StopAt {
    tally: Tally,
    left: AtomicU64,
    cancel: Cancel,
}

impl Monitor for StopAt {
    fn count(&self, counter: Counter, add: u64) {
        self.tally.count(counter, add);
    }
    fn problem(&self, problem: &Problem) {
        self.tally.problem(problem);
    }
    fn event(&self, event: &Event<'_>) {
        if matches!(event, Event::Done { .. }) && self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.cancel.cancel();
        }
    }
}

const ALL: u64 = u64::MAX;

/// A store that is far away and remembers nothing: every read counts, and takes a while.
#[derive(Debug)]
struct Far {
    store: Shared,
    reads: AtomicU64,
    now: AtomicU64,
    most: AtomicU64,
}

impl Far {
    /// Returns how many reads there were since the last time, and how many at once.
    fn take(&self) -> (u64, u64) {
        (self.reads.swap(0, Ordering::SeqCst), self.most.swap(0, Ordering::SeqCst))
    }
}

impl Storage for Far {
    fn location(&self) -> String {
        self.store.location()
    }
    fn create(&self, config: &[u8]) -> connector::Result<()> {
        self.store.create(config)
    }
    fn config(&self) -> connector::Result<Vec<u8>> {
        self.store.config()
    }
    fn replace_config(&self, expected: &[u8], new: &[u8]) -> connector::Result<()> {
        self.store.replace_config(expected, new)
    }
    fn list(&self, kind: Kind, each: &mut dyn FnMut(Listed)) -> connector::Result<()> {
        self.store.list(kind, each)
    }
    fn size(&self, kind: Kind, id: Id) -> connector::Result<u64> {
        self.store.size(kind, id)
    }
    fn get(&self, kind: Kind, id: Id) -> connector::Result<Vec<u8>> {
        self.store.get(kind, id)
    }
    fn read_range(
        &self,
        kind: Kind,
        id: Id,
        offset: u64,
        length: usize,
        consume: &mut dyn FnMut(&[u8]),
    ) -> connector::Result<()> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(2));
        self.now.fetch_sub(1, Ordering::SeqCst);
        self.store.read_range(kind, id, offset, length, consume)
    }
    fn spool(&self) -> connector::Result<fs::File> {
        self.store.spool()
    }
    fn put(&self, kind: Kind, id: Id, body: Body<'_>) -> connector::Result<()> {
        self.store.put(kind, id, body)
    }
    fn delete(&self, kind: Kind, id: Id) -> connector::Result<()> {
        self.store.delete(kind, id)
    }
    fn is_remote(&self) -> bool {
        true
    }
}

#[test]
fn from_far_away_they_are_fetched_together_like_others() {
    let store = Shared::new(&Arc::new(MemoryStore::new()));
    let far =
        Arc::new(Far { store, reads: AtomicU64::new(0), now: AtomicU64::new(0), most: AtomicU64::new(0) });
    let trial = Trial::new(create(Arc::<Far>::clone(&far), &kinds()[1].1));
    far.take();
    let report = trial.restore(trial.exporter(), ALL).unwrap();
    assert_eq!((report.file_count, report.error_count), (3 * COUNT, 0), "{report:?}");
    assert_eq!(report.restored_bytes, COUNT * 20_000, "each once");
    trial.assert_whole();
    let (asked, most) = far.take();
    println!("{asked} reads, {most} at once, for {COUNT} files of three names each");
    assert!(asked < COUNT / 8, "{asked} reads");

    // Where the first names are left alone, others become the files: without windows, but several at a time.
    for number in 0..COUNT {
        for folder in [1, 2] {
            fs::remove_file(trial.name(folder, number)).unwrap();
        }
        fs::write(trial.name(0, number), "mine").unwrap();
    }
    let report = trial.restore(trial.exporter().existing(Existing::Skip), ALL).unwrap();
    assert_eq!((report.file_count, report.skipped_count), (2 * COUNT, COUNT + 4), "{report:?}");
    let (asked, most) = far.take();
    println!("{asked} reads, {most} at once");
    let threads = std::thread::available_parallelism().unwrap().get() as u64;
    assert!(most >= threads.min(2), "{most} at once");
    for number in 0..COUNT {
        assert_eq!(fs::read(trial.name(0, number)).unwrap(), b"mine");
        assert_eq!(inode(&trial.name(1, number)), inode(&trial.name(2, number)));
    }
}

#[test]
fn where_the_first_name_cannot_be_restored_the_next_one_is_the_file() {
    let trial = Trial::local();
    for number in 0..10 {
        // A folder is never replaced by a file.
        fs::create_dir_all(trial.name(0, number)).unwrap();
        if number < 5 {
            fs::create_dir_all(trial.name(1, number)).unwrap();
        }
    }
    let report = trial.restore(trial.exporter(), ALL).unwrap();
    assert_eq!((report.error_count, report.file_count), (15, 3 * COUNT - 15), "{report:?}");
    for number in 0..COUNT {
        let first = if number < 5 { 2 } else { u64::from(number < 10) } as usize;
        let wanted = fs::read(trial.path("tree").join(FOLDERS[0]).join(format!("{number:03}"))).unwrap();
        for folder in first..3 {
            assert_eq!(inode(&trial.name(folder, number)), inode(&trial.name(first, number)), "{number}");
            assert!(fs::read(trial.name(folder, number)).unwrap() == wanted, "{number}");
        }
    }
}

#[test]
fn an_interrupted_restore_of_them_goes_on() {
    // Among the files, and among the links.
    for stop in [150, COUNT + 150] {
        let trial = Trial::local();
        assert!(trial.restore(trial.exporter(), stop).is_err());
        let known: Vec<(PathBuf, u64)> = (0..COUNT)
            .map(|number| trial.name(0, number))
            .filter(|path| path.exists())
            .map(|path| (path.clone(), inode(&path)))
            .collect();
        let report = trial.restore(trial.exporter(), ALL).unwrap();
        trial.assert_whole();
        let kept = known.iter().filter(|(path, before)| inode(path) == *before).count();
        println!("{stop}: {kept} of {} files were left alone, {report:?}", known.len());
        assert!(kept >= 128 && kept + 32 >= known.len(), "{kept} of {}", known.len());
        assert_eq!(fs::read_dir(trial.path("cache/restores")).unwrap().count(), 0);
    }
}

#[test]
fn they_are_told_apart_from_names_outside_of_what_is_restored() {
    let trial = Trial::local();
    let snapshot = list(&trial.repository).0.pop().unwrap();
    let start = trial.path("tree").canonicalize().unwrap().join(FOLDERS[1]);
    let (exporter, options) = (trial.exporter().build().unwrap(), RestoreOptions::default());
    let start = start.as_os_str().as_encoded_bytes();
    let report =
        restore(&trial.repository, &snapshot, Some(start), &exporter, &options, &Tally::default()).unwrap();
    assert_eq!((report.file_count, report.error_count), (COUNT, 0), "{report:?}");
    assert_eq!(look(&trial.path("out")), look(&trial.path("tree").join(FOLDERS[1])));
    let links = fs::metadata(trial.path("out/007")).unwrap().nlink();
    assert_eq!(links, 1);
}
