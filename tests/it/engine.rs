//! The engine end to end, without the command line: backup, check, restore, sync, archives, resumption.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use plakar::base::Cancel;
use plakar::connector::Storage;
use plakar::connectors::fs::{FsExporter, FsImporter, FsStore};
use plakar::connectors::memory::{Counted, Faulty, MemoryStore};
use plakar::connectors::ptar::{ArchiveFile, PtarStore};
use plakar::crypto::Secret;
use plakar::snapshot::{
    ArchiveExport, BackupOptions, BackupReport, CheckOptions, Counter, RestoreOptions, SyncOptions, Tally,
    backup, backup_into, check, list, restore, sync,
};
use plakar::store::{
    ArchiveKind, ArchiveWriter, CheckpointPolicy, CreateOptions, KdfChoice, OpenOptions, Profile, Repository,
    WithPassphrase,
};

pub(crate) const PASSPHRASE: &str = "a passphrase for tests";

/// The four kinds of store there are.
pub(crate) fn kinds() -> [(&'static str, CreateOptions); 4] {
    let kind = |profile, encrypted: bool| CreateOptions {
        profile,
        passphrase: encrypted.then(|| Secret::from(PASSPHRASE.to_owned())),
        kdf: KdfChoice::weak_for_tests(),
        ..CreateOptions::default()
    };
    [
        ("native", kind(Profile::Native, true)),
        ("native plaintext", kind(Profile::Native, false)),
        ("plakar", kind(Profile::Plakar, true)),
        ("plakar plaintext", kind(Profile::Plakar, false)),
    ]
}

pub(crate) fn create(storage: Arc<dyn Storage>, options: &CreateOptions) -> Arc<Repository> {
    Repository::create(storage.as_ref(), options).unwrap();
    reopen(storage)
}

pub(crate) fn reopen(storage: Arc<dyn Storage>) -> Arc<Repository> {
    super::interop::open_with(storage, PASSPHRASE)
}

/// A small tree with a bit of everything.
pub(crate) fn make_tree(root: &Path) {
    fs::create_dir_all(root.join("a/b/c")).unwrap();
    fs::create_dir_all(root.join("empty folder")).unwrap();
    fs::write(root.join("empty"), b"").unwrap();
    fs::write(root.join("one"), b"x").unwrap();
    fs::write(root.join("a/b/c/deep.txt"), b"deep\n").unwrap();
    fs::write(root.join("a/new\nline"), b"newline in its name").unwrap();
    fs::write(root.join("large"), noise(2_500_000)).unwrap();
    fs::write(root.join("copy of large"), noise(2_500_000)).unwrap();
    let mut sparse = vec![0; 3_000_000];
    sparse[1_500_000] = 1;
    fs::write(root.join("sparse"), sparse).unwrap();
    for number in 0..300 {
        fs::write(root.join(format!("a/b/file {number:03}")), format!("content {}\n", number % 50)).unwrap();
    }
    use std::os::unix::ffi::OsStrExt;
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"bad\xff")), b"not UTF-8").unwrap();
    symlink("one", root.join("link")).unwrap();
    symlink("no/such/target", root.join("dangling")).unwrap();
    fs::hard_link(root.join("one"), root.join("a/another one")).unwrap();
    fs::set_permissions(root.join("one"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(root.join("a/b"), fs::Permissions::from_mode(0o700)).unwrap();
    let time = std::time::UNIX_EPOCH + Duration::new(1_600_000_000, 123_456_789);
    fs::File::open(root.join("large")).unwrap().set_modified(time).unwrap();
    fs::File::open(root.join("a/b")).unwrap().set_modified(time).unwrap();
    // What was modified a moment before a backup began may have changed unseen, so the next one reads it again.
    std::thread::sleep(Duration::from_millis(100));
}

/// Bytes that do not compress, the same every time.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// What a tree looks like: mode, size, modification, content or target, by path. Folders' sizes are left out.
pub(crate) type Look = BTreeMap<Vec<u8>, (u32, u64, i64, i64, Vec<u8>)>;

/// Looks at a tree.
pub(crate) fn look(root: &Path) -> Look {
    fn walk(root: &Path, folder: &Path, out: &mut Look) {
        use std::os::unix::ffi::OsStrExt;
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let content = if metadata.is_dir() {
                Vec::new()
            } else if metadata.is_symlink() {
                fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
            } else {
                blake3::hash(&fs::read(&path).unwrap()).as_bytes().to_vec()
            };
            let size = if metadata.is_dir() { 0 } else { metadata.len() };
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
            out.insert(name, (metadata.mode(), size, metadata.mtime(), metadata.mtime_nsec(), content));
            if metadata.is_dir() {
                walk(root, &path, out);
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(root, root, &mut out);
    out
}

pub(crate) fn back_up(repository: &Arc<Repository>, root: &Path) -> BackupReport {
    let tally = Tally::default();
    let importer = FsImporter::builder().place(root).build().unwrap();
    let report = backup(repository, &importer, &BackupOptions::default(), &tally).unwrap();
    assert_eq!(tally.problems(), []);
    report
}

pub(crate) fn assert_clean(repository: &Repository) {
    for fast in [false, true] {
        let options = CheckOptions { fast, ..CheckOptions::default() };
        let report = check(repository, None, &options, &Tally::default()).unwrap();
        assert_eq!(report.damage, [], "fast: {fast}");
    }
}

pub(crate) fn assert_restores(repository: &Repository, number: usize, expected: &Path) {
    let target = tempfile::tempdir().unwrap();
    let target = target.path().join("restored");
    let (snapshots, _) = list(repository);
    let exporter = FsExporter::builder(&target).build().unwrap();
    let tally = Tally::default();
    let report =
        restore(repository, &snapshots[number], None, &exporter, &RestoreOptions::default(), &tally).unwrap();
    assert_eq!(tally.problems(), []);
    assert_eq!(report.error_count, 0);
    let (found, expected) = (look(&target), look(expected));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (path, expected) in expected {
        assert_eq!(found[&path], expected, "{}", path.escape_ascii());
    }
}

#[test]
fn round_trips_in_every_kind_of_store() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    make_tree(&tree);
    for (name, options) in kinds() {
        println!("{name}");
        let storage: Arc<dyn Storage> = Arc::new(FsStore::new(folder.path().join(name)));
        let repository = create(Arc::clone(&storage), &options);
        let first = back_up(&repository, &tree);
        assert_eq!((first.error_count, first.unchanged_count), (0, 0), "{name}");
        let second = back_up(&repository, &tree);
        assert_eq!(second.unchanged_count, second.file_count, "{name}: nothing was read");
        assert_eq!(second.read_bytes, 0, "{name}");
        fs::write(tree.join("one more"), b"later").unwrap();
        fs::write(tree.join("one"), b"y").unwrap();
        let third = back_up(&repository, &tree);
        assert_eq!(
            third.file_count - third.unchanged_count,
            3,
            "{name}: two names of one file and a new one"
        );
        let repository = reopen(storage);
        assert_clean(&repository);
        assert_restores(&repository, 2, &tree);
        fs::remove_file(tree.join("one more")).unwrap();
        fs::write(tree.join("one"), b"x").unwrap();
        // As in make_tree: what is modified while a backup begins is read again by the next.
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn archives_from_folders_and_stores() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    make_tree(&tree);
    for (name, options) in kinds() {
        println!("{name}");
        let path = folder.path().join(format!("{name}.ptar"));
        let sink = Box::new(ArchiveFile::create(&path, false).unwrap());
        let archive = ArchiveWriter::create(ArchiveKind::New(&options), sink, folder.path()).unwrap();
        let importer = FsImporter::builder().place(&tree).build().unwrap();
        backup_into(&archive, &importer, &BackupOptions::default(), &Tally::default()).unwrap();
        archive.commit().unwrap();
        let opened = reopen(Arc::new(PtarStore::open(&path, true).unwrap()));
        assert_clean(&opened);
        assert_restores(&opened, 0, &tree);

        // From the archive into stores of every kind, and back out into archives, with and without their keys.
        for (other, options) in kinds() {
            let storage: Arc<dyn Storage> = Arc::new(MemoryStore::new());
            let store = create(Arc::clone(&storage), &options);
            let (snapshots, _) = list(&opened);
            let report =
                sync(&opened, &store, &snapshots, &SyncOptions::default(), &Tally::default()).unwrap();
            assert_eq!(report.copied, [snapshots[0].id], "{name} -> {other}");
            let again =
                sync(&opened, &store, &snapshots, &SyncOptions::default(), &Tally::default()).unwrap();
            assert_eq!(again.present, [snapshots[0].id]);
            let store = reopen(storage);
            assert_clean(&store);
            assert_restores(&store, 0, &tree);
            for (same_key, kind) in
                [(true, ArchiveKind::SameKey(&store)), (false, ArchiveKind::New(&options))]
            {
                let path = folder.path().join(format!("{name} {other} {same_key}.ptar"));
                let sink = Box::new(ArchiveFile::create(&path, false).unwrap());
                let archive = ArchiveWriter::create(kind, sink, folder.path()).unwrap();
                let (snapshots, _) = list(&store);
                let (options, tally) = (SyncOptions::default(), Tally::default());
                let mut export = ArchiveExport::new(&archive, &options, &tally);
                export.add(&store, &snapshots).unwrap();
                export.finish();
                archive.commit().unwrap();
                let exported = reopen(Arc::new(PtarStore::open(&path, true).unwrap()));
                assert_eq!(list(&exported).0[0].id, snapshots[0].id);
                assert_clean(&exported);
                assert_restores(&exported, 0, &tree);
            }
        }
    }
}

#[test]
fn an_interrupted_backup_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    fs::create_dir_all(&tree).unwrap();
    for number in 0..400 {
        let mut bytes = noise(20_000);
        bytes[..8].copy_from_slice(&u64::from(number as u32).to_le_bytes());
        fs::write(tree.join(format!("{number:04}")), bytes).unwrap();
    }
    // As in make_tree.
    std::thread::sleep(Duration::from_millis(100));
    let storage: Arc<dyn Storage> = Arc::new(MemoryStore::new());
    let repository = create(Arc::clone(&storage), &kinds()[0].1);
    let importer = FsImporter::builder().place(&tree).build().unwrap();
    let checkpoints = CheckpointPolicy { bytes: 500_000, interval: Duration::from_hours(1) };
    let cancel = Cancel::new();
    let options = BackupOptions { checkpoints, cancel: cancel.clone(), ..BackupOptions::default() };
    let stopper = StopAfter { tally: Tally::default(), bytes: 6_000_000, cancel };
    assert!(backup(&repository, &importer, &options, &stopper).is_err(), "it was stopped");

    let checkpoints = crate::lapse::states(storage.as_ref());
    let repository = reopen(storage);
    assert_eq!(list(&repository).0.len(), 0, "no snapshot was committed");
    let report = backup(&repository, &importer, &BackupOptions::default(), &Tally::default()).unwrap();
    // Each of the checkpoints covers so much more than the one before; noise is stored as it is.
    let covered = checkpoints as u64 * 500_000 / 20_000 * 9 / 10;
    assert!(
        report.resumed_count >= covered.max(20),
        "{} paths, {checkpoints} checkpoints",
        report.resumed_count
    );
    assert_eq!(report.read_bytes, (400 - report.unchanged_count) * 20_000);
    assert!(report.unchanged_count >= report.resumed_count - 1, "{report:?}");
    assert_clean(&repository);
    assert_restores(&repository, 0, &tree);
}

/// Cancels a run once so many bytes were read.
#[derive(Debug)]
pub(crate) struct StopAfter {
    pub(crate) tally: Tally,
    pub(crate) bytes: u64,
    pub(crate) cancel: Cancel,
}

impl plakar::snapshot::Monitor for StopAfter {
    fn count(&self, counter: Counter, amount: u64) {
        self.tally.count(counter, amount);
        if self.tally.get(Counter::Bytes) >= self.bytes {
            self.cancel.cancel();
        }
    }
    fn problem(&self, problem: &plakar::snapshot::Problem) {
        self.tally.problem(problem);
    }
}

/// Looks, before a run commits, until the store has a packfile.
#[derive(Debug)]
struct Awaits {
    storage: Arc<dyn Storage>,
    landed: AtomicBool,
}

impl plakar::snapshot::Monitor for Awaits {
    fn phase(&self, name: &'static str) {
        let give_up = Instant::now() + Duration::from_secs(20);
        while name == "commit" && !self.landed.load(Ordering::SeqCst) && Instant::now() < give_up {
            let landed = &mut |_| self.landed.store(true, Ordering::SeqCst);
            self.storage.list(plakar::connector::Kind::Packfile, landed).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    fn count(&self, _: Counter, _: u64) {}
    fn problem(&self, problem: &plakar::snapshot::Problem) {
        panic!("{problem:?}");
    }
}

#[test]
fn contents_are_sent_while_the_view_is_made() {
    let folder = tempfile::tempdir().unwrap();
    make_tree(folder.path());
    for (name, options) in kinds() {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStore::new());
        let repository = create(Arc::clone(&storage), &options);
        let monitor = Awaits { storage: Arc::clone(&storage), landed: AtomicBool::new(false) };
        let importer = FsImporter::builder().place(folder.path()).build().unwrap();
        backup(&repository, &importer, &BackupOptions::default(), &monitor).unwrap();
        assert!(monitor.landed.into_inner(), "{name}: all packfiles waited for the commit");
        assert_clean(&repository);
    }
}

#[test]
fn a_lost_packfile_is_made_up_for() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    make_tree(&tree);
    let root = folder.path().join("store");
    let storage: Arc<dyn Storage> = Arc::new(FsStore::new(&root));
    let repository = create(Arc::clone(&storage), &kinds()[0].1);
    back_up(&repository, &tree);
    let mut packs = Vec::new();
    storage.list(plakar::connector::Kind::Packfile, &mut |listed| packs.push(listed.id)).unwrap();
    for pack in packs {
        storage.delete(plakar::connector::Kind::Packfile, pack).unwrap();
    }
    let repository = reopen(Arc::clone(&storage));
    assert!(
        !check(&repository, None, &CheckOptions::default(), &Tally::default()).unwrap().damage.is_empty()
    );
    back_up(&repository, &tree);
    let repository = reopen(storage);
    assert_restores(&repository, 0, &tree);
}

#[test]
fn the_wrong_passphrase_is_told_from_damage() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStore::new());
    for (name, options) in kinds() {
        if options.passphrase.is_none() {
            continue;
        }
        let storage = if name == "native" { Arc::clone(&storage) } else { Arc::new(MemoryStore::new()) as _ };
        create(Arc::clone(&storage), &options);
        let wrong = Secret::from("not it".to_owned());
        let error =
            Repository::open(storage, &mut WithPassphrase(wrong), &OpenOptions::default()).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(cause, "wrong passphrase", "{name}");
    }
}

#[test]
fn an_archive_brings_back_what_was_removed() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    make_tree(&tree);
    for (name, options) in kinds() {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStore::new());
        let store = create(Arc::clone(&storage), &options);
        let id = back_up(&store, &tree).snapshot;
        let path = folder.path().join(format!("{name}.ptar"));
        let sink = Box::new(ArchiveFile::create(&path, false).unwrap());
        let archive = ArchiveWriter::create(ArchiveKind::New(&options), sink, folder.path()).unwrap();
        let (sync_options, tally) = (SyncOptions::default(), Tally::default());
        let mut export = ArchiveExport::new(&archive, &sync_options, &tally);
        export.add(&store, &list(&store).0).unwrap();
        archive.commit().unwrap();
        let archive = reopen(Arc::new(PtarStore::open(&path, true).unwrap()));
        let snapshots = list(&archive).0;

        plakar::store::remove_snapshots(&store, &[id]).unwrap();
        assert_eq!(list(&store).0.len(), 0, "{name}");
        let report = sync(&archive, &store, &snapshots, &sync_options, &tally).unwrap();
        assert_eq!((report.revived, report.copied), (vec![id], vec![]), "{name}");
        assert_clean(&reopen(Arc::clone(&storage)));

        // The same when its packfiles are gone as well.
        plakar::store::remove_snapshots(&store, &[id]).unwrap();
        let mut packs = Vec::new();
        storage.list(plakar::connector::Kind::Packfile, &mut |listed| packs.push(listed.id)).unwrap();
        for pack in &packs {
            storage.delete(plakar::connector::Kind::Packfile, *pack).unwrap();
        }
        let store = reopen(Arc::clone(&storage));
        let report = sync(&archive, &store, &snapshots, &sync_options, &tally).unwrap();
        assert_eq!(report.revived, [id], "{name}");
        assert_restores(&reopen(storage), 0, &tree);
    }
}

/// Every write of a backup fails once: what was committed stays whole, and the next run succeeds.
#[test]
fn a_backup_may_fail_at_any_write() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    fs::create_dir_all(&tree).unwrap();
    for number in 0..40_u8 {
        fs::write(tree.join(format!("{number}")), noise(20_000 + usize::from(number))).unwrap();
    }
    let base = Arc::new(MemoryStore::new());
    create(Arc::new(Shared::new(&base)), &kinds()[0].1);
    let checkpoints = CheckpointPolicy { bytes: 20_000, interval: Duration::from_hours(1) };
    let options = BackupOptions { checkpoints, ..BackupOptions::default() };
    let importer = FsImporter::builder().place(&tree).build().unwrap();
    let mut failed = 0;
    for budget in 0.. {
        // A clone of the store itself is a copy of all that is in it.
        let store = Arc::new(MemoryStore::clone(&base));
        for landing in [false, true] {
            let faulty = Faulty::new(Shared::new(&store), Counted::Writes, budget);
            let faulty = if landing { faulty.landing() } else { faulty };
            let result = {
                let repository = reopen(Arc::new(faulty));
                backup(&repository, &importer, &options, &Tally::default())
            };
            let repository = reopen(Arc::new(Shared::new(&store)));
            assert_clean(&repository);
            if result.is_ok() {
                assert!(failed > 4, "only {failed} writes failed");
                assert_restores(&repository, list(&repository).0.len() - 1, &tree);
                return;
            }
            failed += 1;
        }
        let repository = reopen(Arc::new(Shared::new(&store)));
        backup(&repository, &importer, &options, &Tally::default()).unwrap();
        assert_clean(&repository);
    }
}

/// A store that several repositories look at.
pub(crate) struct Shared {
    store: Arc<MemoryStore>,
    /// Called after every listing.
    listed: Option<ListHook>,
    /// Called before every listing, which fails as it says.
    listing: Option<FaultHook>,
    /// Called when something was put, which then fails as it says.
    put: Option<FaultHook>,
}

type ListHook = Box<dyn Fn(plakar::connector::Kind) + Send + Sync>;
type FaultHook = Box<dyn Fn(plakar::connector::Kind) -> plakar::connector::Result<()> + Send + Sync>;

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shared({:?})", self.store)
    }
}

impl Shared {
    pub(crate) fn new(store: &Arc<MemoryStore>) -> Self {
        Self { store: Arc::clone(store), listed: None, listing: None, put: None }
    }

    pub(crate) fn after_listing(
        mut self,
        hook: impl Fn(plakar::connector::Kind) + Send + Sync + 'static,
    ) -> Self {
        self.listed = Some(Box::new(hook));
        self
    }

    pub(crate) fn before_listing(
        mut self,
        hook: impl Fn(plakar::connector::Kind) -> plakar::connector::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.listing = Some(Box::new(hook));
        self
    }

    pub(crate) fn after_put(
        mut self,
        hook: impl Fn(plakar::connector::Kind) -> plakar::connector::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.put = Some(Box::new(hook));
        self
    }
}

impl Storage for Shared {
    fn location(&self) -> String {
        self.store.location()
    }
    fn create(&self, config: &[u8]) -> plakar::connector::Result<()> {
        self.store.create(config)
    }
    fn config(&self) -> plakar::connector::Result<Vec<u8>> {
        self.store.config()
    }
    fn replace_config(&self, expected: &[u8], new: &[u8]) -> plakar::connector::Result<()> {
        self.store.replace_config(expected, new)
    }
    fn list(
        &self,
        kind: plakar::connector::Kind,
        each: &mut dyn FnMut(plakar::connector::Listed),
    ) -> plakar::connector::Result<()> {
        self.listing.as_ref().map_or(Ok(()), |listing| listing(kind))?;
        self.store.list(kind, each)?;
        if let Some(listed) = &self.listed {
            listed(kind);
        }
        Ok(())
    }
    fn size(&self, kind: plakar::connector::Kind, id: plakar::base::Id) -> plakar::connector::Result<u64> {
        self.store.size(kind, id)
    }
    fn get(&self, kind: plakar::connector::Kind, id: plakar::base::Id) -> plakar::connector::Result<Vec<u8>> {
        self.store.get(kind, id)
    }
    fn read_range(
        &self,
        kind: plakar::connector::Kind,
        id: plakar::base::Id,
        offset: u64,
        length: usize,
        consume: &mut dyn FnMut(&[u8]),
    ) -> plakar::connector::Result<()> {
        self.store.read_range(kind, id, offset, length, consume)
    }
    fn spool(&self) -> plakar::connector::Result<fs::File> {
        self.store.spool()
    }
    fn put(
        &self,
        kind: plakar::connector::Kind,
        id: plakar::base::Id,
        body: plakar::connector::Body<'_>,
    ) -> plakar::connector::Result<()> {
        self.store.put(kind, id, body)?;
        self.put.as_ref().map_or(Ok(()), |put| put(kind))
    }
    fn delete(&self, kind: plakar::connector::Kind, id: plakar::base::Id) -> plakar::connector::Result<()> {
        self.store.delete(kind, id)
    }
}

/// A file that was written in place and given its old size and time back is read again, unless that is not wanted.
#[test]
fn a_time_that_was_put_back_deceives_nobody() {
    let user = crate::cli::User::new();
    user.ok("at ./store create -plaintext");
    let file = user.home().join("container");
    let write = |text: &str| {
        fs::write(&file, text).unwrap();
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_mins(25_000_000);
        fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
    };
    write("before");
    user.ok("at ./store backup container");
    write("within");
    user.ok("at ./store backup -ignore-ctime container");
    assert_eq!(user.ok("at ./store cat latest:container"), "before");
    write("behind");
    user.ok("at ./store backup container");
    assert_eq!(user.ok("at ./store cat latest:container"), "behind");
    let said = user.ok("at ./store backup container");
    assert!(said.contains("1 unchanged"), "{said}");
}
