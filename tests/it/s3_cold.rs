//! Stores in cold storage: what is readable at once, what is planned, asked for and awaited, and what is told.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plakar::base::Cancel;
use plakar::connector::{Body, Kind, Purpose, Storage};
use plakar::connectors::fs::{FsExporter, FsImporter};
use plakar::connectors::s3::S3Store;
use plakar::snapshot::retrieval::{Planner, Target};
use plakar::snapshot::vfs::read::Vfs;
use plakar::snapshot::{
    BackupOptions, CheckOptions, Fate, MaintenanceOptions, RestoreOptions, SnapshotInfo, Tally, backup,
    check, list, maintain, restore,
};
use plakar::store::{CreateOptions, NoPassphrase, OpenOptions, Repository, WithPassphrase, remove_snapshots};

use crate::cli::User;
use crate::s3_bed::Bed;
use crate::s3server::{self, ACCESS_KEY, Key, Object, S3Server, SECRET_KEY};

const GLACIER: [(&str, &str); 1] = [("storage_class", "GLACIER")];

fn storage(bed: &Bed, options: &[(&str, &str)]) -> Arc<S3Store> {
    Arc::new(S3Store::new(bed.options("", options)).unwrap())
}

fn open(bed: &Bed, options: &[(&str, &str)]) -> Arc<Repository> {
    Repository::open(storage(bed, options), &mut NoPassphrase, &OpenOptions::default()).unwrap()
}

/// A folder with folders, files of several chunks, a link, and attributes where they can be set.
fn tree(root: &Path) {
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("a/small"), "small").unwrap();
    fs::write(root.join("empty"), "").unwrap();
    // Incompressible, so that packfiles are of some size.
    let mut state = 1_u64;
    let noise: Vec<u8> = (0..3_000_000)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[4]
        })
        .collect();
    fs::write(root.join("a/b/large"), noise).unwrap();
    std::os::unix::fs::symlink("small", root.join("a/link")).unwrap();
}

fn back_up(repository: &Arc<Repository>, root: &Path) -> SnapshotInfo {
    let importer = FsImporter::builder().place(root).build().unwrap();
    let monitor = Tally::default();
    let report = backup(repository, &importer, &BackupOptions::default(), &monitor).unwrap();
    assert_eq!((report.error_count, monitor.problems()), (0, vec![]));
    list(repository).0.pop().unwrap()
}

/// Packfiles by class: (content, metadata).
fn packfiles(server: &S3Server, bucket: &str) -> (Vec<String>, Vec<String>) {
    let keys = server.keys(bucket).into_iter().map(|key| String::from_utf8(key).unwrap());
    keys.filter(|key| key.starts_with("packfiles/"))
        .partition(|key| server.object(bucket, key).unwrap().class == "GLACIER")
}

/// Puts every packfile into cold storage, as older programs and careless lifecycle rules do.
fn freeze(server: &S3Server, bucket: &str) {
    let (cold, warm) = packfiles(server, bucket);
    for key in cold.into_iter().chain(warm) {
        let object = (*server.object(bucket, &key).unwrap()).clone().class("GLACIER");
        server.insert(bucket, &key, object);
    }
}

#[test]
fn what_a_listing_needs_is_never_cold() {
    let source = tempfile::tempdir().unwrap();
    tree(source.path());
    let bed = Bed::own(s3server::Options { page_size: 2, ..s3server::Options::default() });
    let server = bed.own_server();
    let secret = || plakar::crypto::Secret::from("correct horse".to_owned());
    let options = CreateOptions { passphrase: Some(secret()), ..CreateOptions::default() };
    Repository::create(storage(&bed, &GLACIER).as_ref(), &options).unwrap();
    let open = || {
        let storage = storage(&bed, &GLACIER);
        Repository::open(storage, &mut WithPassphrase(secret()), &OpenOptions::default()).unwrap()
    };
    let repository = open();
    for n in 0..3 {
        fs::write(source.path().join(format!("new{n}")), format!("{n}").repeat(5000)).unwrap();
        back_up(&repository, source.path());
    }
    let (content, metadata) = packfiles(server, "bucket");
    assert!(content.len() >= 3 && metadata.len() >= 3, "{content:?} {metadata:?}");
    let tags = |key: &String| server.object("bucket", key).unwrap().tags.clone();
    assert!(content.iter().all(|key| tags(key) == [("plakar".to_owned(), "data".to_owned())]));
    assert!(metadata.iter().all(|key| tags(key).is_empty()));

    server.reset_counters();
    let repository = open();
    let (snapshots, failed) = list(&repository);
    assert_eq!((snapshots.len(), failed.len()), (3, 0), "every page of the listing of states is read");
    let mut files = 0;
    for info in &snapshots {
        let vfs = Vfs::open(repository.as_ref(), info.header.source().unwrap()).unwrap();
        for visit in vfs.walk(b"/").unwrap() {
            files += usize::from(
                matches!(visit.unwrap(), plakar::snapshot::vfs::read::Visit::Entry(c) if !c.is_dir()),
            );
        }
    }
    assert_eq!(files, 4 * 3 + 1 + 2 + 3);
    let counters = server.counters();
    assert_eq!(counters.of("RestoreObject"), 0);
    assert!(
        counters.targets.iter().any(|target| target.contains("/packfiles/")),
        "the packfiles of metadata"
    );
    for key in &content {
        assert!(!counters.targets.iter().any(|target| target.contains(key.as_str())), "{key} was touched");
    }
}

#[test]
fn a_plan_names_exactly_the_packfiles_of_what_is_wanted() {
    let source = tempfile::tempdir().unwrap();
    tree(source.path());
    let bed = Bed::own(s3server::Options::default());
    Repository::create(storage(&bed, &GLACIER).as_ref(), &CreateOptions::default()).unwrap();
    let repository = open(&bed, &GLACIER);
    back_up(&repository, source.path());
    let first = packfiles(bed.own_server(), "bucket").0;
    fs::write(source.path().join("later"), "later".repeat(10_000)).unwrap();
    let info = back_up(&repository, source.path());
    let second: Vec<String> =
        packfiles(bed.own_server(), "bucket").0.into_iter().filter(|key| !first.contains(key)).collect();
    assert_eq!((first.len(), second.len()), (1, 1));

    let planner = Planner::open(&repository).unwrap().expect("packfiles are archived");
    let cancel = Cancel::new();
    assert!(planner.metadata(&cancel).unwrap().is_empty());
    let planned = |path: Option<PathBuf>| -> Vec<String> {
        let path = path.map(|path| path.into_os_string().into_encoded_bytes());
        let target = Target { info: info.clone(), path, old_versions: false };
        let plan = planner.contents(&[target], &cancel).unwrap();
        let sizes: u64 = plan.packfiles.iter().map(|pack| pack.size).sum();
        assert_eq!((plan.bytes(), plan.unrequested_count()), (sizes, plan.count()));
        plan.packfiles
            .iter()
            .map(|pack| format!("packfiles/{}/{}", &pack.id.to_hex()[..2], pack.id))
            .collect()
    };
    let root = source.path().canonicalize().unwrap();
    assert_eq!(planned(Some(root.join("later"))), second);
    assert_eq!(planned(Some(root.join("a"))), first);
    assert_eq!(planned(Some(root.join("a/link"))), Vec::<String>::new());
    let mut both = [first, second].concat();
    let mut all = planned(None);
    both.sort();
    all.sort();
    assert_eq!(all, both);
}

#[test]
fn a_store_without_cold_packfiles_costs_one_request() {
    let source = tempfile::tempdir().unwrap();
    tree(source.path());
    let bed = Bed::own(s3server::Options::default());
    Repository::create(storage(&bed, &[]).as_ref(), &CreateOptions::default()).unwrap();
    let repository = open(&bed, &[]);
    back_up(&repository, source.path());
    bed.own_server().reset_counters();
    assert!(Planner::open(&repository).unwrap().is_none());
    assert_eq!(
        (bed.own_server().counters().total(), bed.own_server().counters().of("ListObjectsV2")),
        (1, 1)
    );
}

/// A server, a user, and a store of hers in cold storage that holds [`tree`].
fn cold_user(looks: u32) -> (S3Server, User) {
    let server =
        S3Server::start(s3server::Options { retrieval_looks: looks, ..s3server::Options::default() });
    server.make_bucket("cold");
    let user = User::new();
    let url = format!("s3://{}/cold", server.authority());
    user.ok(&format!(
        "store add cold {url} access_key={ACCESS_KEY} secret_access_key={SECRET_KEY} use_tls=false \
         storage_class=GLACIER"
    ));
    tree(&user.home().join("data"));
    user.ok("at @cold create -plaintext");
    user.ok("at @cold backup data");
    (server, user)
}

fn assert_restored(user: &User, to: &str) {
    let read = |root: &str, name: &str| fs::read(user.home().join(root).join(name)).unwrap();
    for name in ["a/small", "empty", "a/b/large"] {
        assert_eq!(read(to, name), read("data", name), "{name}");
    }
}

#[test]
fn a_restore_asks_waits_and_goes_on() {
    let (server, user) = cold_user(3);
    let count = packfiles(&server, "cold").0.len();
    assert!(user.ok("at @cold ls latest:a").contains("small"));
    user.ok("at @cold ls -recursive latest");
    user.ok("at @cold info latest");
    assert_eq!(server.retrievals("cold"), vec![]);
    let ran = user
        .run("at @cold restore -to out -retrieval-tier bulk -retrieval-days 3 -retrieval-poll 20ms latest");
    assert_eq!(ran.code, 0, "{ran:?}");
    let told = format!("{count} packfile{} (", if count == 1 { "" } else { "s" });
    assert!(ran.stderr.contains(&told) && ran.stderr.contains("up to two days"), "{ran:?}");
    assert_restored(&user, "out");
    let retrievals = server.retrievals("cold");
    assert_eq!(retrievals.len(), count);
    assert!(retrievals.iter().all(|(_, asked)| asked.tier == "Bulk" && asked.days == 3), "{retrievals:?}");
    assert_eq!(server.counters().of("RestoreObject"), count as u64, "nothing is asked for twice");

    // What was retrieved is read again without a request.
    user.ok("at @cold restore -to again latest");
    assert_restored(&user, "again");
    assert_eq!(server.counters().of("RestoreObject"), count as u64);
}

#[test]
fn without_waiting_the_same_command_goes_on_later() {
    let (server, user) = cold_user(2);
    let line = "at @cold restore -to out -no-wait latest";
    let ran = user.run(line);
    assert!(ran.code == 75 && ran.stderr.contains("run the same command again"), "{ran:?}");
    let asked = server.counters().of("RestoreObject");
    assert!(asked > 0);
    let ran = user.run(line);
    assert!(ran.code == 75 && ran.stderr.contains("is under way"), "{ran:?}");
    assert!(!user.home().join("out").exists(), "nothing is begun before everything is there");
    user.ok(line);
    assert_restored(&user, "out");
    assert_eq!(server.counters().of("RestoreObject"), asked);
    // After their days the copies go, and everything begins anew.
    server.forget_retrievals();
    assert_eq!(user.run(line).code, 75);
}

#[test]
fn a_key_that_may_not_retrieve_says_so() {
    let (server, user) = cold_user(1);
    server.set_key("READER", Key::only("reader-secret", &["GetObject", "ListObjectsV2"]));
    user.ok("store set cold access_key=READER secret_access_key=reader-secret");
    let ran = user.run("at @cold restore -to out latest");
    assert!(ran.code == 77 && ran.stderr.contains("s3:RestoreObject"), "{ran:?}");
}

#[test]
fn a_store_that_is_cold_through_and_through_comes_back_in_stages() {
    let (server, user) = cold_user(1);
    freeze(&server, "cold");
    let ran = user.run("at @cold ls latest");
    assert!(ran.code != 0 && ran.stderr.contains("archived"), "{ran:?}");
    let ran = user.run("at @cold restore -to out -retrieval-poll 20ms latest");
    assert_eq!(ran.code, 0, "{ran:?}");
    let (metadata, contents) = (ran.stderr.find("of metadata must"), ran.stderr.find("of contents must"));
    assert!(metadata.is_some() && metadata < contents, "{ran:?}");
    assert_restored(&user, "out");
    user.ok("at @cold ls latest");
    let all = packfiles(&server, "cold").0.len() as u64;
    assert_eq!(server.counters().of("RestoreObject"), all, "each packfile is asked for once");
}

#[test]
fn commands_that_read_contents_say_what_they_need() {
    let (server, user) = cold_user(1);
    user.ok("at @cold check -fast");
    user.ok("at other create -plaintext");
    for line in [
        "at @cold cat latest:a/small",
        "at @cold check",
        "at @cold check latest",
        "at @cold sync to other",
        "at other sync from @cold",
        "ptar -plaintext -o x.ptar -k @cold",
        "at @cold archive -output x.tar latest",
        "at @cold digest latest",
        "at @cold diff -recursive latest:a latest",
        "at @cold backup -check data",
    ] {
        let ran = user.run(line);
        assert_eq!(ran.code, 1, "{line}: {ran:?}");
        assert!(ran.stderr.contains(" packfile") && ran.stderr.contains("-retrieve"), "{line}: {ran:?}");
        assert!(ran.stdout.is_empty() || line.contains("backup"), "{line}: {ran:?}");
    }
    assert!(!user.home().join("x.ptar").exists() && !user.home().join("x.tar").exists());
    // These read no contents.
    user.ok("at @cold find -name small");
    user.ok("at @cold diff latest:a latest");
    user.ok("at @cold dup -name again latest");
    assert_eq!(server.counters().of("RestoreObject"), 0);
    assert_eq!(user.ok("at @cold cat -retrieve -retrieval-poll 20ms latest:a/small"), "small");
    user.ok("at @cold check");
    user.ok("at @cold sync to other");
    user.ok("at other check");
    server.forget_retrievals();
    // Nothing is missing there any more, so nothing has to be read here.
    user.ok("at @cold sync to other");
    user.ok("ptar -plaintext -o x.ptar -retrieve -retrieval-poll 20ms -k @cold");
    user.ok("at ./x.ptar check");
}

#[test]
fn every_command_that_reads_contents_retrieves_them_when_told_to() {
    for (line, told) in [
        ("archive -output x.tar latest", "wrote 3 files"),
        ("digest latest:a/small", "BLAKE3"),
        ("diff -recursive latest:a latest:a/b", "small"),
        ("diff latest:a/small latest:empty", "-small"),
        ("backup -check data", "no damage"),
        ("cat latest:a/small", "small"),
    ] {
        let (server, user) = cold_user(2);
        let (command, rest) = line.split_once(' ').unwrap();
        let ran = user.run(&format!("at @cold {command} -no-wait {rest}"));
        assert!(ran.code == 75 && ran.stderr.contains("run the same command again"), "{line}: {ran:?}");
        let asked = server.counters().of("RestoreObject");
        assert!(asked > 0, "{line}");
        let ran = user.run(&format!("at @cold {command} -retrieve -retrieval-poll 20ms {rest}"));
        assert!(ran.code == 0 && ran.stdout.contains(told), "{line}: {ran:?}");
        assert_eq!(server.counters().of("RestoreObject"), asked, "{line}: nothing is asked for twice");
    }
    // A store that is cold through and through: what reads metadata only retrieves that.
    for line in ["find -name small", "dup latest", "diff latest:a latest"] {
        let (server, user) = cold_user(1);
        freeze(&server, "cold");
        let (command, rest) = line.split_once(' ').unwrap();
        let ran = user.run(&format!("at @cold {command} {rest}"));
        assert!(ran.code == 1 && ran.stderr.contains("-retrieve"), "{line}: {ran:?}");
        user.ok(&format!("at @cold {command} -retrieve -retrieval-poll 20ms {rest}"));
        assert!(server.counters().of("RestoreObject") > 0);
    }
}

#[test]
fn an_archive_in_cold_storage_is_retrieved_as_a_whole() {
    let (server, user) = cold_user(2);
    user.ok("ptar -plaintext -o x.ptar ./data");
    let bytes = fs::read(user.home().join("x.ptar")).unwrap();
    let lay = || {
        server.forget_retrievals();
        server.insert("cold", "x.ptar", Object::new(bytes.clone()).class("GLACIER"));
    };
    lay();
    let at = "at @cold:x.ptar";
    let ran = user.run(&format!("{at} cat latest:a/small"));
    assert!(ran.code == 1 && ran.stderr.contains("must first be retrieved"), "{ran:?}");
    assert!(ran.stderr.contains("-retrieve"), "{ran:?}");
    // Those that have no flags for it name a command that does.
    for command in ["ls", "info", "locate small", "ls latest"] {
        let ran = user.run(&format!("{at} {command}"));
        assert!(ran.code == 1 && ran.stderr.contains("must first be retrieved from cold storage"), "{ran:?}");
        let hint =
            "hint: plakar at @cold:x.ptar check -no-wait asks for that (with -retrieve it waits, too); then";
        assert!(ran.stderr.contains(hint), "{ran:?}");
    }
    assert_eq!(server.counters().of("RestoreObject"), 0);
    // What that asks for is on its way then, and known to be.
    assert_eq!(user.run(&format!("{at} check -no-wait")).code, 75);
    let ran = user.run(&format!("{at} ls"));
    assert!(ran.code == 75 && ran.stderr.contains("is being retrieved"), "{ran:?}");
    lay();
    // A restore asks by itself; without waiting, the same command goes on.
    let line = format!("{at} restore -no-wait -retrieval-tier bulk -retrieval-days 3 -to out latest");
    let ran = user.run(&line);
    assert!(ran.code == 75 && ran.stderr.contains("up to two days"), "{ran:?}");
    let (_, asked) = server.retrievals("cold").pop().unwrap();
    assert!(asked.tier == "Bulk" && asked.days == 3);
    let ran = user.run(&line);
    assert!(ran.code == 75 && ran.stderr.contains("is under way"), "{ran:?}");
    (0..3).for_each(|_| drop(user.run(&line)));
    assert_restored(&user, "out");
    assert_eq!(server.counters().of("RestoreObject"), 2, "each of the two times it is asked for once");
    user.ok("at other create -plaintext");
    for line in [
        format!("{at} cat -retrieve -retrieval-poll 20ms latest:a/small"),
        format!("{at} check -retrieve -retrieval-poll 20ms"),
        format!("{at} find -retrieve -retrieval-poll 20ms -name small"),
        "at other sync -retrieve -retrieval-poll 20ms from @cold:x.ptar".to_owned(),
        "ptar -plaintext -overwrite -o y.ptar -retrieve -retrieval-poll 20ms -k @cold:x.ptar".to_owned(),
    ] {
        lay();
        user.ok(&line);
        assert_eq!(server.retrievals("cold").len(), 1, "{line}");
    }
    // What cannot be opened for another reason says so.
    server.insert("cold", "x.ptar", Object::new("no archive"));
    let ran = user.run(&format!("{at} cat -retrieve latest:a/small"));
    assert!(ran.code != 0 && ran.stderr.contains("not a .ptar archive"), "{ran:?}");
}

#[test]
fn a_backup_goes_on_in_a_cold_store_without_a_retrieval() {
    let (server, user) = cold_user(1);
    fs::write(user.home().join("data/new"), "new").unwrap();
    let told = user.ok("at @cold backup data");
    assert!(told.contains("unchanged"), "{told}");
    assert_eq!(server.counters().of("RestoreObject"), 0);
}

#[test]
fn maintenance_leaves_what_is_archived_alone_until_nothing_needs_it() {
    let source = tempfile::tempdir().unwrap();
    tree(source.path());
    let bed = Bed::own(s3server::Options::default());
    let server = bed.own_server();
    Repository::create(storage(&bed, &GLACIER).as_ref(), &CreateOptions::default()).unwrap();
    let run = || {
        let options = MaintenanceOptions {
            apply: true,
            grace: std::time::Duration::ZERO,
            ..MaintenanceOptions::default()
        };
        maintain(&open(&bed, &GLACIER), &options, &Tally::default()).unwrap()
    };
    let whole = back_up(&open(&bed, &GLACIER), source.path());
    fs::remove_file(source.path().join("a/b/large")).unwrap();
    let rest = back_up(&open(&bed, &GLACIER), source.path());
    remove_snapshots(&open(&bed, &GLACIER), &[whole.id]).unwrap();
    let content = packfiles(server, "bucket").0;
    server.reset_counters();
    let report = run();
    let repacked = report.fates.iter().filter(|pack| pack.fate == Fate::Repacked);
    let repacked: Vec<String> = repacked.map(|pack| pack.id.to_hex()).collect();
    assert!(!content.iter().any(|key| repacked.iter().any(|id| key.ends_with(id))), "{report:?}");
    let counters = server.counters();
    assert_eq!(counters.of("RestoreObject"), 0);
    let touched = |target: &&String| {
        target.starts_with("GET") && content.iter().any(|key| target.contains(key.as_str()))
    };
    let touched: Vec<&str> =
        counters.targets.iter().filter(touched).map(|target| &target[..target.find('?').unwrap()]).collect();
    assert_eq!(touched, Vec::<&str>::new(), "{report:?}");
    assert_eq!(packfiles(server, "bucket").0, content);

    remove_snapshots(&open(&bed, &GLACIER), &[rest.id]).unwrap();
    // One run colours, the next deletes.
    run();
    run();
    assert_eq!(packfiles(server, "bucket").0, Vec::<String>::new());
}

#[test]
fn a_key_that_may_not_tag_writes_without_tags_and_says_so_once() {
    let (server, user) = cold_user(1);
    server.set_key("WRITER", Key::only("writer-secret", &["GetObject", "PutObject", "ListObjectsV2"]));
    user.ok("store set cold access_key=WRITER secret_access_key=writer-secret");
    let before = packfiles(&server, "cold").0;
    fs::write(user.home().join("data/new"), "something new".repeat(1000)).unwrap();
    let ran = user.run("at @cold backup data");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.stderr.matches("s3:PutObjectTagging").count(), 1, "{ran:?}");
    let after = packfiles(&server, "cold").0;
    let fresh: Vec<&String> = after.iter().filter(|key| !before.contains(key)).collect();
    assert!(!fresh.is_empty());
    assert!(fresh.iter().all(|key| server.object("cold", key).unwrap().tags.is_empty()));
}

#[test]
fn the_class_of_metadata_can_be_chosen_unless_it_is_cold() {
    let bed = Bed::own(s3server::Options::default());
    let options = [("storage_class", "deep_archive"), ("metadata_storage_class", "onezone_ia")];
    let store = storage(&bed, &options);
    let id = |n: u8| plakar::base::Id([n; 32]);
    store.create(b"config").unwrap();
    store.put_packfile(id(1), Purpose::Content, Body::Bytes(b"content")).unwrap();
    store.put_packfile(id(2), Purpose::Metadata, Body::Bytes(b"metadata")).unwrap();
    store.put(Kind::State, id(3), Body::Bytes(b"state")).unwrap();
    store.put(Kind::Lock, id(4), Body::Bytes(b"lock")).unwrap();
    let class = |key: &str| bed.own_server().object("bucket", key).unwrap().class.clone();
    assert_eq!(class(&format!("packfiles/01/{}", id(1))), "DEEP_ARCHIVE");
    assert_eq!(class(&format!("packfiles/02/{}", id(2))), "ONEZONE_IA");
    assert_eq!(class(&format!("states/03/{}", id(3))), "ONEZONE_IA");
    assert_eq!((class(&format!("locks/{}", id(4))), class("CONFIG")), ("STANDARD".into(), "STANDARD".into()));

    let own = [("access_key", "a"), ("secret_access_key", "b"), ("metadata_storage_class", "GLACIER")];
    let error = plakar::connectors::s3::Options::parse("s3://bucket/", own, &|_| None).unwrap_err();
    assert!(error.to_string().contains("without a retrieval"), "{error}");
}

#[test]
fn a_store_on_a_real_server_takes_tags_and_classes() {
    let Some(bed) = Bed::real() else { return };
    let source = tempfile::tempdir().unwrap();
    tree(source.path());
    Repository::create(storage(&bed, &[]).as_ref(), &CreateOptions::default()).unwrap();
    let repository = open(&bed, &[]);
    let info = back_up(&repository, source.path());
    let tagged = |key: &Vec<u8>| bed.tags(key) == [("plakar".to_owned(), "data".to_owned())];
    let packs: Vec<Vec<u8>> = bed.keys().into_iter().filter(|key| key.starts_with(b"packfiles/")).collect();
    assert!(packs.iter().any(tagged) && !packs.iter().all(tagged), "contents are tagged, metadata is not");
    assert!(Planner::open(&repository).unwrap().is_none());
    let target = tempfile::tempdir().unwrap();
    let exporter = FsExporter::builder(target.path()).build().unwrap();
    let options = RestoreOptions::default();
    let report = restore(&repository, &info, None, &exporter, &options, &Tally::default()).unwrap();
    assert_eq!(report.error_count, 0);
    assert!(check(&repository, None, &CheckOptions::default(), &Tally::default()).unwrap().damage.is_empty());
}

#[test]
fn objects_that_cannot_be_read_are_no_damage() {
    let bed = Bed::own(s3server::Options::default());
    bed.own_server().insert(
        "bucket",
        format!("packfiles/01/{}", plakar::base::Id([1; 32])),
        Object::new("x").class("GLACIER"),
    );
    let error = storage(&bed, &[]).get(Kind::Packfile, plakar::base::Id([1; 32])).unwrap_err();
    let text = error.to_string();
    assert!(!plakar::store::Error::from(error).is_damage() && text.contains("archived"), "{text}");
}
