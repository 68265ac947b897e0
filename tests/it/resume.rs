//! Runs that were interrupted go on where they were: what is read and sent again is counted.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use plakar::base::Cancel;
use plakar::connector::{Kind, Storage};
use plakar::connectors::fs::FsImporter;
use plakar::connectors::memory::MemoryStore;
use plakar::connectors::s3::{S3Importer, S3Store};
use plakar::crypto::Secret;
use plakar::format::blob::BlobType;
use plakar::format::state::{Delete, StateEntry};
use plakar::snapshot::{BackupOptions, BackupReport, Tally, backup, list};
use plakar::store::{CheckpointPolicy, OpenOptions, Repository, WithPassphrase};
use rustix::process::Signal;

use crate::cli::User;
use crate::engine::{PASSPHRASE, Shared, StopAfter, assert_clean, assert_restores, kinds, noise};
use crate::lapse::put_state;
use crate::s3_bed::Bed;
use crate::s3server::{self, ACCESS_KEY, SECRET_KEY};

/// Length of every content in the tests, in bytes.
const LENGTH: usize = 20_000;

fn open(storage: Arc<dyn Storage>, cache: Option<&Path>) -> Arc<Repository> {
    let mut passphrase = WithPassphrase(Secret::from(PASSPHRASE.to_owned()));
    let options = OpenOptions { cache_dir: cache.map(Path::to_owned), ..OpenOptions::default() };
    Repository::open(storage, &mut passphrase, &options).unwrap()
}

/// Contents that have nothing in common.
fn content(number: u32) -> Vec<u8> {
    let mut bytes = noise(LENGTH);
    let key = blake3::hash(&number.to_le_bytes());
    bytes.iter_mut().zip(key.as_bytes().iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    bytes
}

fn checkpoints() -> CheckpointPolicy {
    CheckpointPolicy { bytes: 1_000_000, interval: Duration::from_hours(1) }
}

#[test]
fn a_killed_backup_of_a_bucket_reads_and_sends_only_what_its_last_checkpoint_lacks() {
    const COUNT: u32 = 600;
    let source = Bed::own(s3server::Options::default());
    for number in 0..COUNT {
        let object = s3server::Object::new(content(number));
        source.own_server().insert("bucket", format!("src/{}/{number}", number % 7), object);
    }
    for cached in [false, true] {
        let target = Bed::own(s3server::Options::default());
        let cache = tempfile::tempdir().unwrap();
        let cache = cached.then(|| cache.path());
        let storage = || Arc::new(S3Store::new(target.options("", &[])).unwrap()) as Arc<dyn Storage>;
        Repository::create(storage().as_ref(), &kinds()[0].1).unwrap();
        let importer = S3Importer::new(source.options("src/", &[])).unwrap();

        let cancel = Cancel::new();
        let options =
            BackupOptions { checkpoints: checkpoints(), cancel: cancel.clone(), ..BackupOptions::default() };
        let ninety = u64::from(COUNT) * LENGTH as u64 * 9 / 10;
        let stopper = StopAfter { tally: Tally::default(), bytes: ninety, cancel };
        assert!(backup(&open(storage(), cache), &importer, &options, &stopper).is_err(), "it was stopped");

        // Each checkpoint is a state, and covers a checkpoint's worth more than the one before.
        let keys = target.own_server().keys("bucket");
        let states = keys.iter().filter(|key| key.windows(7).any(|part| part == b"states/")).count() as u64;
        assert!(states >= 2, "{states} checkpoints");
        let covered = states * checkpoints().bytes / LENGTH as u64;
        // Where there is time while the source is waited for, entries are stored as they are made.
        let (mut entries, interrupted) = (0, open(storage(), None));
        let count = &mut |kind, _: &_| entries += u64::from(kind == BlobType::VFS_ENTRY);
        interrupted.catalogue().each_blob(count).unwrap();
        assert!(entries >= covered * 9 / 10, "{entries} entries of {covered} objects");
        source.own_server().reset_counters();
        target.own_server().reset_counters();
        let report = backup(
            &open(storage(), cache),
            &importer,
            &BackupOptions { checkpoints: checkpoints(), ..BackupOptions::default() },
            &Tally::default(),
        )
        .unwrap();
        // A blob is a little longer than its content.
        let most = u64::from(COUNT) - covered * 9 / 10;
        let (read, sent) = (source.own_server().counters(), target.own_server().counters());
        println!(
            "cached: {cached}; {states} checkpoints; read again {} of {COUNT} objects, sent {} bytes in {} requests; {report:?}",
            read.of("GetObject"),
            sent.received_bytes,
            sent.of("PutObject")
        );
        assert!(read.of("GetObject") <= most, "{} objects were read", read.of("GetObject"));
        assert_eq!(report.unchanged_count + read.of("GetObject"), u64::from(COUNT));
        // Names, trees and the padding of the packfiles beside the contents.
        assert!(
            sent.received_bytes < most * LENGTH as u64 + 1_000_000,
            "{} bytes were sent",
            sent.received_bytes
        );
        let repository = open(storage(), None);
        assert_clean(&repository);
        assert_eq!(report.file_count, u64::from(COUNT));
    }
}

#[test]
fn a_process_killed_at_ninety_percent_leaves_all_but_its_last_checkpoint_done() {
    const COUNT: u64 = 600;
    const CHECKPOINT: u64 = 1_000_000;
    let server = s3server::S3Server::new();
    server.make_bucket("kloset");
    for number in 0..600 {
        let object = s3server::Object::new(content(number));
        server.insert("source", format!("src/{}/{number}", number % 7), object);
    }
    let user = User::new();
    let keys = format!("access_key={ACCESS_KEY} secret_access_key={SECRET_KEY} use_tls=false");
    for (kind, name, bucket) in [("store", "st", "kloset"), ("source", "src", "source/src/")] {
        user.ok(&format!("{kind} add {name} s3://{}/{bucket} {keys}", server.authority()));
    }
    for cached in [false, true] {
        user.ok("at @st create -plaintext");
        let line = format!("at @st backup -checkpoint {CHECKPOINT} @src");
        server.inject(s3server::Fault::when(
            |seen| seen.op == "GetObject" && seen.bucket == "source" && seen.number > COUNT * 9 / 10,
            s3server::Action::Hang,
        ));
        // A pace at which checkpoints are made meanwhile.
        server.inject(s3server::Fault::when(
            |seen| seen.op == "GetObject" && seen.bucket == "source",
            s3server::Action::Stall(Duration::from_millis(20)),
        ));
        server.reset_counters();
        let first = format!("-cachedir ./first {line}");
        let mut child = user.command(first.split_whitespace()).stdout(Stdio::null()).spawn().unwrap();
        let made = || server.keys("kloset").iter().filter(|key| key.starts_with(b"states/")).count();
        while server.counters().hanging == 0 || made() < 2 {
            assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
            std::thread::sleep(Duration::from_millis(5));
        }
        // No destructor runs, no lock is released, nothing is said.
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
        server.clear_faults();
        let stored = server.keys("kloset");
        let checkpoints = stored.iter().filter(|key| key.starts_with(b"states/")).count() as u64;
        assert!(checkpoints >= 2, "{checkpoints} checkpoints");

        server.reset_counters();
        user.ok(&format!("-cachedir ./{} {line}", if cached { "first" } else { "second" }));
        let most = COUNT - checkpoints * CHECKPOINT / LENGTH as u64 * 9 / 10;
        let counters = server.counters();
        let read =
            counters.targets.iter().filter(|target| target.starts_with("GET /source/src/")).count() as u64;
        let sent =
            counters.targets.iter().filter(|target| target.starts_with("PUT /kloset/packfiles/")).count();
        println!(
            "cached: {cached}; {checkpoints} checkpoints; {read} read again, {sent} packfiles sent, {} bytes",
            counters.received_bytes
        );
        assert!(read <= most && read < COUNT, "{read} of {COUNT} objects were read again, {most} at most");
        // Every checkpoint of this size ends packfiles early, and their padding and lists weigh half of it.
        assert!(
            counters.received_bytes < most * LENGTH as u64 * 3 / 2 + 1_000_000,
            "{} bytes",
            counters.received_bytes
        );
        assert!(sent as u64 <= 3 * (most * LENGTH as u64 / CHECKPOINT + 2), "{sent} packfiles");
        user.ok("at @st check");
        for key in server.keys("kloset") {
            server.remove("kloset", key);
        }
    }
}

/// A store with an interrupted run of 200 files in it, and a cache that knows of it.
struct Interrupted {
    folder: tempfile::TempDir,
    store: Arc<MemoryStore>,
    covered: usize,
}

impl Interrupted {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir_all(&tree).unwrap();
        for number in 0..200 {
            fs::write(tree.join(format!("{number:04}")), content(number)).unwrap();
        }
        // What was modified a moment before a backup began would be read again.
        std::thread::sleep(Duration::from_millis(100));
        let store = Arc::new(MemoryStore::new());
        Repository::create(&Shared::new(&store), &kinds()[0].1).unwrap();
        let cancel = Cancel::new();
        let stopper = StopAfter { tally: Tally::default(), bytes: 3_000_000, cancel: cancel.clone() };
        let options = BackupOptions { checkpoints: checkpoints(), cancel, ..BackupOptions::default() };
        let mut all = Self { folder, store, covered: 0 };
        assert!(backup(&all.open(), &all.importer(), &options, &stopper).is_err(), "it was stopped");
        assert_eq!(all.files().len(), 1, "a copy of the journal");
        let checkpoints = crate::lapse::states(all.storage().as_ref());
        assert!(checkpoints > 0);
        all.covered = checkpoints * 1_000_000 / LENGTH * 9 / 10;
        all
    }

    fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    fn importer(&self) -> FsImporter {
        FsImporter::builder().place(self.tree()).build().unwrap()
    }

    fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(Shared::new(&self.store))
    }

    fn open(&self) -> Arc<Repository> {
        open(self.storage(), Some(&self.folder.path().join("cache")))
    }

    /// The cached journals.
    fn files(&self) -> Vec<PathBuf> {
        let kloset = self.folder.path().join("cache/kloset");
        let store = fs::read_dir(kloset).unwrap().next().unwrap().unwrap().path();
        let files = fs::read_dir(store).unwrap().map(|file| file.unwrap().path());
        files.filter(|file| file.file_name().unwrap().to_str().unwrap().starts_with("j-")).collect()
    }

    /// Makes the store forget its journal.
    fn forget_in_store(&self) {
        let repository = self.open();
        let catalogue = repository.catalogue();
        let mut entries = Vec::new();
        for id in catalogue.journals() {
            for place in catalogue.find_any(BlobType::JOURNAL, &id).unwrap() {
                entries.push(StateEntry::Delete(Delete::location(BlobType::JOURNAL, id, place.packfile)));
            }
        }
        assert!(!entries.is_empty());
        put_state(&repository, &entries);
        assert_eq!(self.open().catalogue().journals(), []);
    }

    fn finish(&self) -> BackupReport {
        let report =
            backup(&self.open(), &self.importer(), &BackupOptions::default(), &Tally::default()).unwrap();
        let repository = open(self.storage(), None);
        assert_clean(&repository);
        assert_restores(&repository, list(&repository).0.len() - 1, &self.tree());
        assert_eq!(self.files(), [] as [PathBuf; 0], "a run that is committed needs no journal");
        report
    }
}

fn flip_all(path: &Path, step: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes.iter_mut().step_by(step).for_each(|byte| *byte ^= 0x40);
    fs::write(path, bytes).unwrap();
}

#[test]
fn either_copy_of_a_journal_will_do() {
    // Both there.
    let run = Interrupted::new();
    assert!(run.finish().unchanged_count as usize >= run.covered);
    // Only the cache's.
    let run = Interrupted::new();
    run.forget_in_store();
    let report = run.finish();
    assert!(report.unchanged_count as usize >= run.covered, "{report:?}");
    // Only the store's: the cache's is damaged, cut short or gone.
    for harm in [
        |path: &Path| flip_all(path, 100),
        |path: &Path| fs::write(path, b"x").unwrap(),
        |path: &Path| {
            fs::remove_file(path).unwrap();
        },
    ] {
        let run = Interrupted::new();
        harm(&run.files()[0]);
        let report = run.finish_with_leftovers();
        assert!(report.unchanged_count as usize >= run.covered, "{report:?}");
    }
    // Neither.
    let run = Interrupted::new();
    run.forget_in_store();
    run.files().iter().for_each(|file| flip_all(file, 100));
    assert_eq!(run.finish_with_leftovers().unchanged_count, 0);
}

impl Interrupted {
    /// The same where a broken journal stays behind: nobody can tell whose it was.
    fn finish_with_leftovers(&self) -> BackupReport {
        let report =
            backup(&self.open(), &self.importer(), &BackupOptions::default(), &Tally::default()).unwrap();
        let repository = open(self.storage(), None);
        assert_clean(&repository);
        assert_restores(&repository, list(&repository).0.len() - 1, &self.tree());
        report
    }
}

#[test]
fn a_journal_is_not_believed_blindly() {
    let run = Interrupted::new();
    run.forget_in_store();
    // The packfile that holds the first contents is gone, and a state says so.
    let lost = {
        let repository = run.open();
        let id = repository.keys().id(&content(0));
        repository.catalogue().find_any(BlobType::CHUNK, &id).unwrap()[0].packfile
    };
    put_state(&run.open(), &[StateEntry::Delete(Delete::packfile(lost))]);
    run.storage().delete(Kind::Packfile, lost).unwrap();
    let report = run.finish();
    assert!(report.unchanged_count < 150, "what is lost was read again: {report:?}");
    // The same where the store's own journal vouches for it, and nothing says that the packfile is gone.
    let run = Interrupted::new();
    let lost = {
        let repository = run.open();
        let id = repository.keys().id(&content(0));
        repository.catalogue().find_any(BlobType::CHUNK, &id).unwrap()[0].packfile
    };
    run.storage().delete(Kind::Packfile, lost).unwrap();
    backup(&run.open(), &run.importer(), &BackupOptions::default(), &Tally::default()).unwrap();
    let repository = open(run.storage(), None);
    assert_restores(&repository, 0, &run.tree());
}

#[test]
fn a_cached_catalogue_costs_one_listing_and_notices_what_changed() {
    let bed = Bed::own(s3server::Options::default());
    let folder = tempfile::tempdir().unwrap();
    let (cache, tree) = (folder.path().join("cache"), folder.path().join("tree"));
    fs::create_dir_all(&tree).unwrap();
    let storage =
        |prefix: &str| Arc::new(S3Store::new(bed.options(prefix, &[])).unwrap()) as Arc<dyn Storage>;
    Repository::create(storage("a").as_ref(), &kinds()[0].1).unwrap();
    let importer = FsImporter::builder().place(&tree).build().unwrap();
    let back_up = |prefix: &str, number: u32| {
        fs::write(tree.join("file"), content(number)).unwrap();
        let repository = open(storage(prefix), Some(&cache));
        backup(&repository, &importer, &BackupOptions::default(), &Tally::default()).unwrap();
    };
    for number in 0..5 {
        back_up("a", number);
    }
    let server = bed.own_server();
    let requests = |prefix: &str| {
        server.reset_counters();
        let repository = open(storage(prefix), Some(&cache));
        let counters = server.counters();
        // CONFIG is always read.
        (list(&repository).0.len(), counters.of("ListObjectsV2"), counters.of("GetObject") - 1)
    };
    assert_eq!(requests("a"), (5, 1, 0));

    // A copy elsewhere: other times, the same tags. Nothing is read again.
    let states = |prefix: &str| -> Vec<Vec<u8>> {
        let keys = server.keys("bucket");
        keys.into_iter().filter(|key| key.starts_with(format!("{prefix}/states/").as_bytes())).collect()
    };
    for key in server.keys("bucket") {
        let object = server.object("bucket", &key).unwrap();
        let copy = [b"b", &key[1..]].concat();
        server.insert("bucket", copy, s3server::Object::new(object.body.to_vec()));
    }
    assert_eq!(requests("b"), (5, 1, 0));
    // They part: each has what the other lacks, and each is seen as it is.
    back_up("a", 5);
    back_up("b", 6);
    back_up("b", 7);
    back_up("a", 7);
    for prefix in ["a", "b"] {
        assert_eq!(requests(prefix).0, 7);
        assert_clean(&open(storage(prefix), Some(&cache)));
    }

    // Put again, the same bytes under another tag (another encryption of the server's, say): one look at the
    // trailer, once.
    requests("a");
    let key = states("a").pop().unwrap();
    let mut object = server.object("bucket", &key).unwrap().as_ref().clone();
    object.etag = "0123456789abcdef0123456789abcdef".into();
    server.insert("bucket", &key, object.clone());
    assert_eq!(requests("a"), (7, 1, 1));
    assert_eq!(requests("a"), (7, 1, 0));

    // Another state of the same length in its place: what the cache says of it does not count any more.
    let mut swapped = object.body.to_vec();
    let end = swapped.len();
    swapped[end - 40..].iter_mut().for_each(|byte| *byte ^= 1);
    server.insert("bucket", &key, s3server::Object::new(swapped));
    let repository = open(storage("a"), Some(&cache));
    assert_eq!(repository.damaged_states().len(), 1);
    assert!(list(&repository).0.len() < 7);
}
