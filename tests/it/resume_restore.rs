//! Restores that were interrupted go on where they were: what is written again is counted.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use plakar::base::Cancel;
use plakar::connector::Storage;
use plakar::connectors::fs::{FsExporter, FsImporter, FsStore};
use plakar::connectors::memory::MemoryStore;
use plakar::connectors::s3::{ExportOptions, S3Exporter};
use plakar::crypto::Secret;
use plakar::snapshot::{BackupOptions, Event, RestoreOptions, RestoreReport, Tally, backup, list, restore};
use plakar::store::{CreateOptions, KdfChoice, Repository};

use crate::cli::{Ran, User};
use crate::engine::{PASSPHRASE, Shared, StopAfter, create, kinds, look, make_tree, noise, reopen};
use crate::s3_bed::Bed;
use crate::s3server::{self, ACCESS_KEY, Action, Fault, Key, Object, S3Server, SECRET_KEY};

/// Files in the source.
const COUNT: usize = 300;

/// A user with a store that holds one snapshot of a folder, and a server to restore to.
struct Bench {
    user: User,
    server: S3Server,
}

impl Bench {
    fn new() -> Self {
        let mut user = User::in_memory();
        user.set("PLAKAR_PASSPHRASE", PASSPHRASE);
        user.set("AWS_ACCESS_KEY_ID", ACCESS_KEY);
        user.set("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        let source = user.home().join("source");
        make_files(&source, COUNT);
        let options = CreateOptions {
            passphrase: Some(Secret::from(PASSPHRASE.to_owned())),
            kdf: KdfChoice::weak_for_tests(),
            ..CreateOptions::default()
        };
        Repository::create(&FsStore::new(user.home().join("store")), &options).unwrap();
        user.ok("at store backup source");
        let server = S3Server::new();
        server.make_bucket("bucket");
        let bench = Self { user, server };
        bench.user.ok(&format!(
            "destination add dst s3://{}/bucket/out use_tls=false concurrency=4",
            bench.server.authority()
        ));
        bench
    }

    fn source(&self) -> PathBuf {
        self.user.home().join("source")
    }

    /// Starts a restore to the bucket and kills it when so many objects are there.
    fn kill_at(&self, count: usize) -> usize {
        let slow = Fault::on("PutObject", Action::Stall(Duration::from_millis(10)));
        self.server.inject(slow);
        let mut child = start(&self.user, "at store restore -to @dst latest");
        wait(&mut child, || self.keys().len() >= count);
        // What was sent already still arrives.
        std::thread::sleep(Duration::from_millis(200));
        while self.server.is_busy() {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.server.clear_faults();
        self.server.reset_counters();
        let there = self.keys().len();
        assert!(there >= count && there < COUNT, "{there} of {COUNT} when it was killed");
        there
    }

    fn again(&self) -> (Ran, u64) {
        let ran = self.user.run("at store restore -to @dst latest");
        (ran, self.server.counters().of("PutObject"))
    }

    fn keys(&self) -> Vec<Vec<u8>> {
        self.server.keys("bucket")
    }

    /// Everything below the prefix, as names and contents.
    fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        let objects = self.keys().into_iter().map(|key| {
            let body = self.server.object("bucket", &key).unwrap().body.to_vec();
            let name = key.strip_prefix(b"out/").unwrap().to_vec();
            (String::from_utf8(name).unwrap(), body)
        });
        objects.collect()
    }

    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for name in look(&self.source()).into_keys() {
            let name = String::from_utf8(name).unwrap();
            let path = self.source().join(&name);
            if path.is_file() {
                files.insert(name, fs::read(path).unwrap());
            }
        }
        files
    }

    fn assert_whole(&self, ran: &Ran) {
        assert_eq!(ran.code, 0, "{ran:?}");
        let (found, wanted) = (self.objects(), self.files());
        assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
        for (name, content) in wanted {
            assert!(found[&name] == content, "{name} differs");
        }
        let journals = self.user.home().join(".cache/plakar/restores");
        assert_eq!(
            fs::read_dir(journals).map_or(0, Iterator::count),
            0,
            "a journal that is not needed any more"
        );
    }
}

pub(crate) fn make_files(folder: &Path, count: usize) {
    for number in 0..count {
        let sub = folder.join(format!("sub {}", number % 7));
        fs::create_dir_all(&sub).unwrap();
        let mut content = noise(4000);
        content[..8].copy_from_slice(&(number as u64).to_le_bytes());
        fs::write(sub.join(format!("{number:04}")), content).unwrap();
    }
}

pub(crate) fn start(user: &User, line: &str) -> Child {
    let mut command: Command = user.command(line.split_whitespace());
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Kills a run when something has come about.
fn wait(child: &mut Child, until: impl Fn() -> bool) {
    assert!(kill_once(child, until), "it ended before it was killed");
}

/// Kills a run when something has come about; returns whether it had not ended before.
pub(crate) fn kill_once(child: &mut Child, until: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while !until() {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(begun.elapsed() < Duration::from_mins(5), "nothing happens");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    true
}

#[test]
fn a_killed_restore_to_a_bucket_sends_only_what_is_missing() {
    let bench = Bench::new();
    let there = bench.kill_at(100);
    // Meanwhile somebody deletes one, changes one without changing its size, and cuts one short.
    let keys = bench.keys();
    bench.server.insert("bucket", &keys[1], Object::new(vec![7; 4000]));
    bench.server.insert("bucket", &keys[2], Object::new("short"));
    let (ran, sent) = bench.again();
    println!("{there} of {COUNT} were there, two of them changed; {sent} were sent");
    assert_eq!(sent, (COUNT - there + 2) as u64);
    bench.assert_whole(&ran);
    let listed = bench.server.counters().of("ListObjectsV2");
    assert!(listed <= 1, "{listed} listings");
}

#[test]
fn without_a_journal_what_is_equal_beyond_doubt_is_not_sent_again() {
    let bench = Bench::new();
    let there = bench.kill_at(100);
    fs::remove_dir_all(bench.user.home().join(".cache/plakar/restores")).unwrap();
    let keys = bench.keys();
    bench.server.insert("bucket", &keys[1], Object::new(vec![7; 4000]));
    let (ran, sent) = bench.again();
    assert_eq!(sent, (COUNT - there + 1) as u64);
    bench.assert_whole(&ran);
}

#[test]
fn where_nothing_may_be_listed_the_journal_alone_has_to_do() {
    let bench = Bench::new();
    bench.server.set_key(ACCESS_KEY, Key::only(SECRET_KEY, &["PutObject"]));
    let there = bench.kill_at(100);
    let (ran, sent) = bench.again();
    // What was in flight, and what was not written to the journal yet, goes again.
    let (least, most) = (COUNT - there, COUNT - there + 64);
    println!("{there} of {COUNT} were there; {sent} were sent");
    assert!((least..=most).contains(&(sent as usize)), "{sent} were sent, {there} were there");
    bench.assert_whole(&ran);
}

/// A snapshot of five small files, and restores of it to a bucket, all with one cache.
struct Few {
    bed: Bed,
    temp: tempfile::TempDir,
    repository: Arc<Repository>,
}

impl Few {
    const COUNT: usize = 5;

    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        make_files(&temp.path().join("tree"), Self::COUNT);
        let repository = create(Arc::new(MemoryStore::new()), &kinds()[1].1);
        let importer = FsImporter::builder().place(temp.path().join("tree")).build().unwrap();
        backup(&repository, &importer, &BackupOptions::default(), &Tally::default()).unwrap();
        Self { bed: Bed::own(s3server::Options::default()), temp, repository }
    }

    fn run(&self, more: &[(&str, &str)], export: ExportOptions) -> RestoreReport {
        let exporter = S3Exporter::new(self.bed.options("out", more), export).unwrap();
        let cache_dir = Some(self.temp.path().join("cache"));
        let options = RestoreOptions { cache_dir, ..RestoreOptions::default() };
        let snapshot = list(&self.repository).0.pop().unwrap();
        restore(&self.repository, &snapshot, None, &exporter, &options, &Tally::default()).unwrap()
    }

    /// Restores all but one object, which is refused; the journal knows of the others.
    fn run_refused(&self, more: &[(&str, &str)], export: ExportOptions) {
        let server = self.bed.own_server();
        server.inject(Fault::on("PutObject", Action::status(403, "AccessDenied")).times(1));
        let report = self.run(more, export);
        assert_eq!((report.file_count, report.error_count), (Self::COUNT as u64 - 1, 1), "{report:?}");
        server.clear_faults();
    }

    /// Returns the keys of what was restored.
    fn restored(&self) -> Vec<Vec<u8>> {
        let keys = self.bed.own_server().keys("bucket").into_iter();
        keys.filter(|key| key.starts_with(b"out/sub ")).collect()
    }

    fn assert_all_written(&self, report: &RestoreReport) {
        let counts = (report.file_count, report.equal_count, report.error_count);
        assert_eq!(counts, (Self::COUNT as u64, 0, 0), "{report:?}");
        assert_eq!(self.restored().len(), Self::COUNT);
    }
}

#[test]
fn a_journal_says_nothing_of_a_bucket_that_is_gone() {
    let few = Few::new();
    few.run_refused(&[], ExportOptions::default());
    let server = few.bed.own_server();
    few.restored().iter().for_each(|key| server.remove("bucket", key));
    assert_eq!(few.bed.request("DELETE", None, "", &[], b"").status, 204);
    few.assert_all_written(&few.run(&[], ExportOptions::default()));
}

#[test]
fn a_journal_says_nothing_of_what_is_gone_from_among_too_much_to_be_listed() {
    let few = Few::new();
    let server = few.bed.own_server();
    for number in 0..=10_000 {
        server.insert("bucket", format!("out/foreign/{number}"), Object::new(""));
    }
    few.run_refused(&[], ExportOptions::default());
    few.restored().iter().for_each(|key| server.remove("bucket", key));
    few.run_refused(&[], ExportOptions::default());
    // What was changed or went is put again, and what is there still is not.
    let there = few.restored();
    assert_eq!(there.len(), Few::COUNT - 1);
    server.remove("bucket", &there[0]);
    server.insert("bucket", &there[1], Object::new(vec![7; 4000]));
    let report = few.run(&[], ExportOptions::default());
    assert_eq!((report.file_count, report.equal_count), (3, 2), "{report:?}");
    assert_eq!(few.restored().len(), Few::COUNT);
    assert!(*server.object("bucket", &there[1]).unwrap().body != [7; 4000]);
}

#[test]
fn equal_objects_of_another_class_are_written_again() {
    let few = Few::new();
    let server = few.bed.own_server();
    let run = |class: Option<&'static str>| {
        let more: Vec<_> = class.map(|class| ("storage_class", class)).into_iter().collect();
        let report = few.run(&more, ExportOptions::default());
        let classes: Vec<String> =
            few.restored().iter().map(|key| server.object("bucket", key).unwrap().class.clone()).collect();
        assert_eq!(classes, vec![class.unwrap_or("STANDARD"); Few::COUNT]);
        report
    };
    few.assert_all_written(&run(None));
    assert_eq!(run(None).equal_count, Few::COUNT as u64);
    assert_eq!(run(Some("STANDARD")).equal_count, Few::COUNT as u64);
    few.assert_all_written(&run(Some("STANDARD_IA")));
    assert_eq!(run(Some("STANDARD_IA")).equal_count, Few::COUNT as u64);
    few.assert_all_written(&run(None));
}

#[test]
fn a_journal_says_nothing_of_a_restore_with_other_options() {
    let plain = ExportOptions::default();
    let skip = ExportOptions { skip_permissions: true, ..plain };
    for (before, after) in [
        ((None, plain), (Some("STANDARD_IA"), plain)),
        ((Some("STANDARD_IA"), plain), (None, plain)),
        ((None, skip), (None, plain)),
        ((None, plain), (None, skip)),
    ] {
        let few = Few::new();
        let more = |class: Option<&'static str>| Vec::from_iter(class.map(|class| ("storage_class", class)));
        few.run_refused(&more(before.0), before.1);
        few.assert_all_written(&few.run(&more(after.0), after.1));
        let server = few.bed.own_server();
        for key in few.restored() {
            let object = server.object("bucket", &key).unwrap();
            assert_eq!(object.class, after.0.unwrap_or("STANDARD"));
            assert_eq!(object.get("x-amz-meta-mode").is_none(), after.1.skip_permissions);
        }
    }
}

#[test]
fn a_killed_restore_to_a_folder_writes_only_what_is_missing() {
    const COUNT: usize = 3000;
    let bench = Bench::new();
    let source = bench.source();
    make_files(&source, COUNT);
    // Links, modes, times, a mode of the root's own, and something large.
    make_tree(&source.join("tree"));
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o710);
    fs::set_permissions(&source, private).unwrap();
    bench.user.ok("at store backup source");
    let out = bench.user.home().join("out");
    let done = || look_names(&out).into_iter().filter(|name| !name.contains(".plakar-")).collect::<Vec<_>>();
    let mut child = start(&bench.user, "at store restore -to out latest");
    wait(&mut child, || out.is_dir() && count(&out) > 1000);
    let names = done();
    let inodes: BTreeMap<&String, u64> =
        names.iter().map(|name| (name, fs::symlink_metadata(out.join(name)).unwrap().ino())).collect();
    assert!(names.len() > 900 && names.len() < COUNT, "{} were there", names.len());
    // One was changed, one is gone; and what the dead run had in its hands lies about.
    let regular: Vec<&String> =
        names.iter().filter(|name| name.starts_with("sub ") && name.contains('/')).collect();
    let file = |number: usize| out.join(regular[number]);
    fs::write(file(0), vec![1; 4000]).unwrap();
    fs::remove_file(file(1)).unwrap();

    let ran = bench.user.run("at store restore -to out latest");
    assert_eq!(ran.code, 0, "{ran:?}");
    let (found, wanted) = (look(&out), look(&source));
    assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>(), "no leftovers either");
    for (path, wanted) in wanted {
        assert_eq!(found[&path], wanted, "{}", path.escape_ascii());
    }
    assert_eq!(fs::metadata(&out).unwrap().mode(), fs::metadata(&source).unwrap().mode());
    let kept =
        inodes.iter().filter(|(name, inode)| fs::symlink_metadata(out.join(name)).unwrap().ino() == **inode);
    let (kept, there) = (kept.count(), names.len());
    println!("{there} were there, {kept} of them were left alone");
    // Folders are kept in any case; of files all but the last batches of the journal, links and special files.
    assert!(kept + 150 > there, "{kept} of {there} were left alone");
    let journals = bench.user.home().join(".cache/plakar/restores");
    assert_eq!(fs::read_dir(journals).unwrap().count(), 0);
}

pub(crate) fn look_names(root: &Path) -> Vec<String> {
    use std::os::unix::ffi::OsStrExt as _;
    fn walk(root: &Path, folder: &Path, out: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            // Names that are not UTF-8 are left out here.
            if let Ok(name) = std::str::from_utf8(path.strip_prefix(root).unwrap().as_os_str().as_bytes()) {
                out.push(name.to_owned());
            }
            if entry.file_type().unwrap().is_dir() {
                walk(root, &path, out);
            }
        }
    }
    let mut out = Vec::new();
    walk(root, root, &mut out);
    out.sort();
    out
}

pub(crate) fn count(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, |entries| {
        entries.flatten().map(|e| 1 + if e.path().is_dir() { count(&e.path()) } else { 0 }).sum()
    })
}

#[test]
fn objects_of_several_parts_are_known_again_by_the_journal() {
    let bed = Bed::own(s3server::Options { min_part_size: 1, ..s3server::Options::default() });
    let folder = tempfile::tempdir().unwrap();
    let (tree, cache) = (folder.path().join("tree"), folder.path().join("cache"));
    fs::create_dir_all(&tree).unwrap();
    for number in 0..8_u8 {
        let mut content = noise(1_200_000);
        content[0] = number;
        fs::write(tree.join(format!("{number:02}")), content).unwrap();
    }
    let memory = Arc::new(MemoryStore::new());
    let repository = create(Arc::new(Shared::new(&memory)), &kinds()[0].1);
    let importer = FsImporter::builder().place(&tree).build().unwrap();
    backup(&repository, &importer, &BackupOptions::default(), &Tally::default()).unwrap();
    let snapshot = list(&repository).0.pop().unwrap();
    let run = |cancel: Cancel, stop: u64| -> Result<RestoreReport, plakar::store::Error> {
        let mut options = bed.options("out", &[("concurrency", "1")]);
        options.tuning.multipart_threshold = 1 << 20;
        options.tuning.part_size = 500_000;
        let exporter = S3Exporter::new(options, ExportOptions::default()).unwrap();
        let monitor = StopAfter { tally: Tally::default(), bytes: stop, cancel: cancel.clone() };
        let options = RestoreOptions { cache_dir: Some(cache.clone()), cancel, ..RestoreOptions::default() };
        restore(&repository, &snapshot, None, &exporter, &options, &monitor)
    };
    assert!(run(Cancel::new(), 4_700_000).is_err(), "it was cancelled");
    let server = bed.own_server();
    let there = server.keys("bucket");
    assert!(there.len() >= 3 && there.len() < 8, "{}", there.len());
    assert!(server.object("bucket", &there[0]).unwrap().etag.contains('-'));
    // One is changed by someone else; its size stays.
    server.insert("bucket", &there[1], Object::new(vec![9; 1_200_000]));
    server.reset_counters();
    let report = run(Cancel::new(), u64::MAX).unwrap();
    assert_eq!(report.equal_count, there.len() as u64 - 1);
    assert_eq!(server.counters().of("CompleteMultipartUpload"), 8 - there.len() as u64 + 1);
    for number in 0..8 {
        let name = format!("{number:02}");
        let object = server.object("bucket", format!("out/{name}")).unwrap();
        assert_eq!(*object.body, fs::read(tree.join(name)).unwrap());
    }
    // It is complete: the next restore knows nothing of it, and cannot know the parts.
    server.reset_counters();
    assert_eq!(run(Cancel::new(), u64::MAX).unwrap().equal_count, 0);
}

#[test]
fn a_restore_of_another_snapshot_or_elsewhere_starts_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, cache, out) =
        (folder.path().join("tree"), folder.path().join("cache"), folder.path().join("out"));
    make_files(&tree, 60);
    let storage: Arc<dyn Storage> = Arc::new(MemoryStore::new());
    let repository = create(Arc::clone(&storage), &kinds()[1].1);
    let importer = FsImporter::builder().place(&tree).build().unwrap();
    let take = || backup(&repository, &importer, &BackupOptions::default(), &Tally::default()).unwrap();
    take();
    // The same size and time, another content: nothing but the journal's own snapshot may be taken for equal.
    let file = tree.join("sub 0/0000");
    let modified = fs::metadata(&file).unwrap().modified().unwrap();
    fs::write(&file, vec![5; 4000]).unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
    backup(
        &repository,
        &importer,
        &BackupOptions { force: true, ..BackupOptions::default() },
        &Tally::default(),
    )
    .unwrap();
    let snapshots = list(&repository).0;
    let run = |number: usize, to: &Path, stop: bool| {
        let cancel = Cancel::new();
        let exporter = FsExporter::builder(to).build().unwrap();
        let options = RestoreOptions {
            cache_dir: Some(cache.clone()),
            cancel: cancel.clone(),
            ..RestoreOptions::default()
        };
        let monitor = Stop::new(cancel, stop, When::LastFile);
        restore(&repository, &snapshots[number], None, &exporter, &options, &monitor)
    };
    // Everything was put in place, but the run did not end.
    assert!(run(0, &out, true).is_err());
    let report = run(1, &out, false).unwrap();
    assert_eq!(report.equal_count, 8, "the folders, no file");
    assert_eq!(look(&out), look(&tree));
    let report = run(0, &folder.path().join("elsewhere"), false).unwrap();
    assert_eq!((report.equal_count, report.file_count), (0, 60));
    // The one that was interrupted still has its journal; what no longer looks right is put again.
    let report = run(0, &out, false).unwrap();
    assert!(report.file_count <= 60 && report.error_count == 0);
    drop(reopen(storage));
}

/// A snapshot of 60 files, and restores of it, all with one cache.
struct Folder {
    temp: tempfile::TempDir,
    repository: Arc<Repository>,
}

impl Folder {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        make_files(&temp.path().join("tree"), 60);
        let repository = create(Arc::new(MemoryStore::new()), &kinds()[1].1);
        let importer = FsImporter::builder().place(temp.path().join("tree")).build().unwrap();
        backup(&repository, &importer, &BackupOptions::default(), &Tally::default()).unwrap();
        Self { temp, repository }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// Restores; `stop` breaks off when most was put in place.
    fn run(&self, to: &Path, stop: bool) -> Result<RestoreReport, plakar::store::Error> {
        let cancel = Cancel::new();
        let exporter = FsExporter::builder(to).build().unwrap();
        let options = RestoreOptions {
            cache_dir: Some(self.path("cache")),
            cancel: cancel.clone(),
            ..RestoreOptions::default()
        };
        let snapshot = list(&self.repository).0.pop().unwrap();
        let monitor = Stop::new(cancel, stop, When::Done(45));
        restore(&self.repository, &snapshot, None, &exporter, &options, &monitor)
    }

    /// Makes a folder of mode 1777 with something of its own and a file that looks like one of the snapshot's.
    fn foreign(&self, name: &str) -> PathBuf {
        let folder = self.path(name);
        let (file, original) = (folder.join("sub 0/0000"), self.path("tree/sub 0/0000"));
        fs::create_dir_all(folder.join("sub 0")).unwrap();
        fs::write(folder.join("own"), "mine").unwrap();
        fs::write(&file, vec![5; 4000]).unwrap();
        let facts = fs::metadata(&original).unwrap();
        fs::set_permissions(&file, facts.permissions()).unwrap();
        fs::File::options().write(true).open(&file).unwrap().set_modified(facts.modified().unwrap()).unwrap();
        fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
        folder
    }

    fn assert_all_new(&self, to: &Path, report: &RestoreReport) {
        assert_eq!((report.file_count, report.error_count), (60, 0), "{report:?}");
        assert_eq!(fs::metadata(to).unwrap().mode() & 0o7777, 0o1777, "somebody else's folder");
        assert_eq!(fs::read(to.join("own")).unwrap(), b"mine");
        assert!(fs::read(to.join("sub 0/0000")).unwrap() == fs::read(self.path("tree/sub 0/0000")).unwrap());
    }
}

#[test]
fn a_journal_is_of_one_folder_and_not_of_its_name() {
    let bench = Folder::new();
    // One name that leads to two folders, one after the other: as `-to .` does.
    let (first, second, name) = (bench.path("first"), bench.foreign("second"), bench.path("name"));
    fs::create_dir(&first).unwrap();
    std::os::unix::fs::symlink(&first, &name).unwrap();
    assert!(bench.run(&name, true).is_err());
    fs::remove_file(&name).unwrap();
    std::os::unix::fs::symlink(&second, &name).unwrap();
    let report = bench.run(&name, false).unwrap();
    bench.assert_all_new(&second, &report);
    // The first one, by other names, is gone on with.
    let report = bench.run(&first.join("../second/../first"), false).unwrap();
    assert!(report.equal_count > 20, "{report:?}");
    assert_eq!(look(&first), look(&bench.path("tree")));
}

#[test]
fn a_folder_that_was_removed_and_made_again_is_another_one() {
    let bench = Folder::new();
    let out = bench.path("out");
    assert!(bench.run(&out, true).is_err());
    fs::remove_dir_all(&out).unwrap();
    assert_eq!(bench.foreign("out"), out);
    let report = bench.run(&out, false).unwrap();
    bench.assert_all_new(&out, &report);
}

/// Cancels a run, if it is to stop at all.
#[derive(Debug)]
struct Stop {
    cancel: Cancel,
    wanted: bool,
    when: When,
    done: AtomicUsize,
}

/// When a run is cancelled.
#[derive(Clone, Copy, PartialEq, Debug)]
enum When {
    /// When the last file of the walk is done: every folder is there.
    LastFile,
    /// When so many things are done, in whatever order.
    Done(usize),
}

impl Stop {
    fn new(cancel: Cancel, wanted: bool, when: When) -> Self {
        Self { cancel, wanted, when, done: AtomicUsize::new(0) }
    }
}

impl plakar::snapshot::Monitor for Stop {
    fn count(&self, _: plakar::snapshot::Counter, _: u64) {}
    fn problem(&self, problem: &plakar::snapshot::Problem) {
        panic!("{problem:?}");
    }
    fn event(&self, event: &Event<'_>) {
        let Event::Done { path, .. } = event else { return };
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let is_time = match self.when {
            When::LastFile => path.ends_with(b"0059"),
            When::Done(count) => done == count,
        };
        if self.wanted && is_time {
            self.cancel.cancel();
        }
    }
}
