//! Old versions and delete markers: recorded, left alone by default, and brought back in order or as of a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use plakar::base::Timestamp;
use plakar::connector::{Exporter, Importer};
use plakar::connectors::fs::FsExporter;
use plakar::connectors::s3::{ExistingObject, ExportOptions, ImportOptions, S3Exporter, S3Importer};
use plakar::snapshot::{
    BackupOptions, BackupReport, RestoreOptions, RestoreReport, SnapshotInfo, Tally, Versions, backup, list,
    message_of, restore,
};
use plakar::store::Repository;

use crate::cli::User;
use crate::s3_bed::Bed;
use crate::s3_engine::repository;
use crate::s3server::{self, elements, percent_decode};

/// One version as a server lists it: key, content (nothing for a delete marker), whether it is the latest.
type Listed = (Vec<u8>, Option<Vec<u8>>, bool);

/// A bucket that keeps versions.
fn versioned(bed: &Bed) {
    let body = b"<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                 <Status>Enabled</Status></VersioningConfiguration>";
    let answer = bed.request("PUT", None, "versioning=", &[], body);
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
}

/// Calls `each` with key, version id, whether it is a delete marker, and whether it is the latest, in the server's
/// order; read without the product.
fn each_version(bed: &Bed, mut each: impl FnMut(Vec<u8>, &str, bool, bool)) {
    let encode = |text: &str| s3server::percent_encode(text.as_bytes(), b"");
    let decode = |key: &str| percent_decode(key.replace('+', " ").as_bytes());
    let mut marker = String::new();
    loop {
        let query = format!("encoding-type=url{marker}&versions=");
        let text = String::from_utf8(bed.request("GET", None, &query, &[], b"").body).unwrap();
        let (mut rest, mut last) = (text.as_str(), None);
        while let Some(at) = rest.find("<Key>") {
            let before = &rest[..at];
            let is_marker = before.rfind("<DeleteMarker>") > before.rfind("<Version>");
            let first = |name: &str| elements(&rest[at..], name)[0].to_owned();
            let (key, id) = (decode(&first("Key")), first("VersionId"));
            each(key.clone(), &id, is_marker, first("IsLatest") == "true");
            last = Some((String::from_utf8(key).unwrap(), id));
            rest = &rest[at + 5..];
        }
        match last.filter(|_| elements(&text, "IsTruncated") == ["true"]) {
            Some((key, id)) => {
                marker = format!("&key-marker={}&version-id-marker={}", encode(&key), encode(&id));
            }
            None => return,
        }
    }
}

/// Returns every version of every key, the newest first.
fn versions(bed: &Bed) -> Vec<Listed> {
    let mut out = Vec::new();
    each_version(bed, |key, id, is_marker, latest| {
        let content = (!is_marker).then(|| {
            let query = format!("versionId={}", s3server::percent_encode(id.as_bytes(), b""));
            bed.request("GET", Some(&key), &query, &[], b"").body
        });
        out.push((key, content, latest));
    });
    out
}

fn empty(bed: &Bed) {
    let mut all = Vec::new();
    each_version(bed, |key, id, _, _| all.push((key, id.to_owned())));
    for (key, id) in all {
        let query = format!("versionId={}", s3server::percent_encode(id.as_bytes(), b""));
        bed.request("DELETE", Some(&key), &query, &[], b"");
    }
}

/// A clock's worth between two changes: servers list milliseconds, some of them seconds.
fn pause() -> Timestamp {
    std::thread::sleep(Duration::from_millis(1100));
    let now = Timestamp::now();
    std::thread::sleep(Duration::from_millis(1100));
    now
}

const ODD: &str = "odd//\u{e9} +%~/../x";

/// Writes a history; returns a moment in its middle.
fn write_history(bed: &Bed, prefix: &str) -> Timestamp {
    let put = |key: &str, body: &str| {
        bed.put(format!("{prefix}{key}"), &[("x-amz-meta-n", body.as_bytes())], body.as_bytes());
    };
    let delete = |key: &str| {
        bed.request("DELETE", Some(format!("{prefix}{key}").as_bytes()), "", &[], b"");
    };
    put("changed", "one");
    put("changed", "two");
    put("deleted", "here");
    put("a", "an object beside what is a folder later");
    put(ODD, "odd 1");
    put("same", "always");
    let middle = pause();
    put("changed", "three");
    delete("deleted");
    delete("a");
    put("a/b", "below");
    put(ODD, "odd 2");
    put("new", "new");
    delete("new");
    put("new", "newer");
    middle
}

fn take(repository: &Arc<Repository>, importer: &S3Importer) -> (BackupReport, SnapshotInfo) {
    let monitor = Tally::default();
    let report = backup(repository, importer, &BackupOptions::default(), &monitor).unwrap();
    assert_eq!(monitor.problems().len(), 0, "{:?}", monitor.problems());
    let snapshot = list(repository).0.into_iter().find(|found| found.id == report.snapshot).unwrap();
    (report, snapshot)
}

fn bring(
    repository: &Repository,
    snapshot: &SnapshotInfo,
    exporter: &dyn Exporter,
    versions: Versions,
) -> (RestoreReport, Tally) {
    let monitor = Tally::default();
    let options = RestoreOptions { versions, ..RestoreOptions::default() };
    let report = restore(repository, snapshot, None, exporter, &options, &monitor).unwrap();
    (report, monitor)
}

fn all(bed: &Bed, prefix: &str) -> S3Importer {
    S3Importer::new(bed.options(prefix, &[("versions", "all")])).unwrap()
}

fn exporter(bed: &Bed, more: &[(&str, &str)]) -> S3Exporter {
    S3Exporter::new(bed.options("", more), ExportOptions::default()).unwrap()
}

fn store() -> (Bed, Arc<Repository>) {
    let bed = Bed::own(s3server::Options::default());
    let repository = repository(&bed, "", None);
    (bed, repository)
}

#[test]
fn a_history_comes_back_in_order() {
    let test = |bed: &Bed| {
        versioned(bed);
        write_history(bed, "");
        let (_storage, repository) = store();
        let (report, snapshot) = take(&repository, &all(bed, ""));
        let expected = versions(bed);
        let files = expected.iter().filter(|(_, content, _)| content.is_some()).count() as u64;
        assert_eq!(report.file_count, files);

        let target = bed.beside("all");
        versioned(&target);
        let (report, monitor) =
            bring(&repository, &snapshot, &exporter(&target, &[("versions", "all")]), Versions::All);
        assert_eq!((report.error_count, report.partly_count), (0, 0), "{:?}", monitor.problems());
        assert_eq!(versions(&target), expected);
        assert_eq!(target.get("changed").header("x-amz-meta-n"), "three");

        let plain = bed.beside("plain");
        let (report, monitor) = bring(&repository, &snapshot, &exporter(&plain, &[]), Versions::Latest);
        assert_eq!((report.error_count, report.unsupported_count), (0, 0), "{:?}", monitor.problems());
        assert_eq!(plain.keys(), bed.keys(), "by default, what is there now");

        let monitor = Tally::default();
        let options = RestoreOptions { versions: Versions::All, ..RestoreOptions::default() };
        let refused = exporter(&plain, &[("versions", "all")]);
        let before = plain.keys();
        let report = restore(&repository, &snapshot, None, &refused, &options, &monitor);
        let error = message_of(&report.expect_err("a bucket without versions keeps none"));
        assert!(error.contains("versioning is off; enable it"), "{error}");
        assert_eq!(plain.keys(), before);
        let unasked = restore(&repository, &snapshot, None, &exporter(&target, &[]), &options, &monitor);
        assert!(unasked.is_err(), "the destination was not told");
        for bucket in [bed, &target] {
            empty(bucket);
        }
    };
    Bed::each(test);
    test(&Bed::own(s3server::Options { page_size: 2, ..s3server::Options::default() }));
}

#[test]
fn versions_are_not_restored_beside_what_is_to_be_kept() {
    let bed = Bed::own(s3server::Options::default());
    versioned(&bed);
    write_history(&bed, "");
    let (_storage, repository) = store();
    let (_, snapshot) = take(&repository, &all(&bed, ""));
    let target = bed.beside("all");
    versioned(&target);
    for existing in [ExistingObject::Skip, ExistingObject::Fail] {
        let export = ExportOptions { existing, ..ExportOptions::default() };
        let exporter = S3Exporter::new(target.options("", &[("versions", "all")]), export).unwrap();
        let options = RestoreOptions { versions: Versions::All, ..RestoreOptions::default() };
        let result = restore(&repository, &snapshot, None, &exporter, &options, &Tally::default());
        let error = message_of(&result.expect_err("only the oldest version of each key would come back"));
        assert!(error.contains("are to be kept") && error.contains("versions=all"), "{error}");
    }
    assert_eq!(versions(&target), []);

    let user = User::in_memory();
    for flag in ["-skip-existing", "-no-overwrite"] {
        let to = target.location("");
        let ran = user.run(&format!("at store restore {flag} -o versions=all -to {to} latest"));
        let told = ran.stderr.contains(flag) && ran.stderr.contains("versions=all");
        assert!(ran.code == 64 && told, "{ran:?}");
    }
}

#[test]
fn versions_make_no_bucket() {
    let bed = Bed::own(s3server::Options::default());
    versioned(&bed);
    write_history(&bed, "");
    let (_storage, repository) = store();
    let (_, snapshot) = take(&repository, &all(&bed, ""));
    let server = bed.own_server();
    let options = RestoreOptions { versions: Versions::All, ..RestoreOptions::default() };
    let restore_to = |key: &str, secret: &str| {
        let mut to = bed.options_as(key, secret, "", &[("versions", "all")]);
        to.location.bucket = "fresh".into();
        let exporter = S3Exporter::new(to, ExportOptions::default()).unwrap();
        let monitor = Tally::default();
        (restore(&repository, &snapshot, None, &exporter, &options, &monitor), monitor)
    };
    let before = server.counters();
    let (result, _) = restore_to(&bed.access_key, &bed.secret);
    let error = message_of(&result.expect_err("there is no bucket"));
    assert!(error.contains("there is no bucket fresh; make it and turn versioning on"), "{error}");
    let sent = |op: &str| server.counters().of(op) - before.of(op);
    assert_eq!((sent("CreateBucket"), sent("PutObject"), sent("DeleteObject")), (0, 0, 0));
    assert_eq!(server.buckets(), ["bucket"]);

    // Who may not ask finds no bucket later, and makes none either.
    server.set_key(
        "BLIND",
        s3server::Key::only("blind", &["PutObject", "HeadObject", "CreateBucket", "DeleteObject"]),
    );
    let (result, monitor) = restore_to("BLIND", "blind");
    assert!(result.unwrap().error_count > 0);
    let problems = monitor.problems();
    assert!(
        problems.iter().any(|problem| problem.message.contains("keeps versions cannot be asked")),
        "{problems:?}"
    );
    assert_eq!((sent("CreateBucket"), server.buckets().len()), (0, 1));
}

#[test]
fn versions_nobody_may_ask_for_are_seen_to_be_kept() {
    let bed = Bed::own(s3server::Options::default());
    versioned(&bed);
    write_history(&bed, "");
    let (_storage, repository) = store();
    let (_, snapshot) = take(&repository, &all(&bed, ""));
    let expected = versions(&bed);
    let server = bed.own_server();
    server.set_key("BLIND", s3server::Key::only("blind", &["PutObject", "HeadObject", "DeleteObject"]));
    let to = |target: &Bed| {
        let options = target.options_as("BLIND", "blind", "", &[("versions", "all"), ("concurrency", "1")]);
        S3Exporter::new(options, ExportOptions::default()).unwrap()
    };

    let kept = bed.beside("kept");
    versioned(&kept);
    let (report, monitor) = bring(&repository, &snapshot, &to(&kept), Versions::All);
    assert_eq!(report.error_count, 0, "{:?}", monitor.problems());
    let warnings = monitor.problems().into_iter().filter(|problem| problem.path.is_empty()).count();
    assert_eq!(warnings, 1, "the question is asked once");
    assert_eq!(versions(&kept), expected);
    empty(&kept);

    let lost = bed.beside("lost");
    lost.put("deleted", &[], b"stood here before");
    let (report, monitor) = bring(&repository, &snapshot, &to(&lost), Versions::All);
    assert!(report.error_count > 0 && report.file_count == 0, "{report:?}");
    let problems = monitor.problems();
    assert!(problems.iter().any(|problem| problem.message.contains("becomes no version")), "{problems:?}");
    assert_eq!(lost.get("deleted").body, b"stood here before", "nothing is deleted");
    empty(&bed);
}

#[test]
fn a_bucket_comes_back_as_it_was() {
    Bed::each(|bed| {
        versioned(bed);
        let middle = write_history(bed, "src/");
        let (_storage, repository) = store();
        let (_, snapshot) = take(&repository, &all(bed, "src"));
        let target = bed.beside("then");
        let (report, monitor) =
            bring(&repository, &snapshot, &exporter(&target, &[]), Versions::AsOf(middle));
        assert_eq!((report.error_count, report.partly_count), (0, 0), "{:?}", monitor.problems());
        let found: BTreeMap<String, String> = target
            .keys()
            .into_iter()
            .map(|key| {
                let body = String::from_utf8(target.get(&key).body).unwrap();
                (String::from_utf8(key).unwrap(), body)
            })
            .collect();
        let then = [
            ("a", "an object beside what is a folder later"),
            ("changed", "two"),
            ("deleted", "here"),
            (ODD, "odd 1"),
            ("same", "always"),
        ];
        let then: BTreeMap<String, String> = then.map(|(key, body)| (key.to_owned(), body.to_owned())).into();
        assert_eq!(found, then);

        // A folder of today is a file then.
        let folder = tempfile::tempdir().unwrap();
        let fs = FsExporter::builder(folder.path()).build().unwrap();
        let (report, monitor) = bring(&repository, &snapshot, &fs, Versions::AsOf(middle));
        assert_eq!(report.error_count, 0, "{:?}", monitor.problems());
        assert!(folder.path().join("a").is_file());
        assert_eq!(std::fs::read_to_string(folder.path().join("deleted")).unwrap(), "here");
        let fs = FsExporter::builder(folder.path().join("now")).build().unwrap();
        let far = Timestamp::from_secs(Timestamp::now().secs + 1000);
        bring(&repository, &snapshot, &fs, Versions::AsOf(far));
        assert_eq!(std::fs::read_to_string(folder.path().join("now/a/b")).unwrap(), "below");
        // A part, too: an object that is gone by now, by its name.
        for (start, file) in [("/src/deleted", "part/deleted"), ("/src/odd", "part/%~/\u{e9} +%~/%~%2E%2E/x")]
        {
            let fs = FsExporter::builder(folder.path().join("part")).build().unwrap();
            let options = RestoreOptions { versions: Versions::AsOf(middle), ..RestoreOptions::default() };
            let start = Some(start.as_bytes());
            restore(&repository, &snapshot, start, &fs, &options, &Tally::default()).unwrap();
            assert!(folder.path().join(file).is_file(), "{file}");
        }
        let nothing = FsExporter::builder(folder.path().join("never")).build().unwrap();
        let (report, monitor) = bring(&repository, &snapshot, &nothing, Versions::AsOf(Timestamp::EPOCH));
        assert_eq!((report.file_count, report.error_count), (0, 0));
        let problems = monitor.problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        let told = "no object existed at 1970-01-01T00:00:00Z; the oldest version is of 20";
        assert!(problems[0].message.starts_with(told), "{problems:?}");
        empty(bed);
    });
}

#[test]
fn a_journal_is_of_one_time() {
    let bed = Bed::own(s3server::Options::default());
    versioned(&bed);
    for key in ["a", "b"] {
        bed.put(key, &[("x-amz-meta-n", b"one")], b"always the same");
    }
    let middle = pause();
    for key in ["a", "b"] {
        bed.put(key, &[("x-amz-meta-n", b"two")], b"always the same");
    }
    let (_storage, repository) = store();
    let (_, snapshot) = take(&repository, &all(&bed, ""));
    let target = bed.beside("then");
    let cache = tempfile::tempdir().unwrap();
    let run = |versions: Versions| {
        let cache_dir = Some(cache.path().to_owned());
        let options = RestoreOptions { versions, cache_dir, ..RestoreOptions::default() };
        restore(&repository, &snapshot, None, &exporter(&target, &[]), &options, &Tally::default()).unwrap()
    };
    let server = bed.own_server();
    let refused = s3server::Fault::on("PutObject", s3server::Action::status(403, "AccessDenied")).times(1);
    server.inject(refused);
    let report = run(Versions::AsOf(middle));
    assert_eq!((report.file_count, report.error_count), (1, 1), "{report:?}");
    server.clear_faults();
    let report = run(Versions::Latest);
    assert_eq!((report.file_count, report.equal_count), (2, 0), "{report:?}");
    for key in ["a", "b"] {
        assert_eq!(target.get(key).header("x-amz-meta-n"), "two");
    }
}

#[test]
fn names_that_collided_then_are_kept_apart() {
    let bed = Bed::own(s3server::Options::default());
    versioned(&bed);
    bed.put("x", &[], b"file");
    bed.put("x/y", &[], b"below");
    let then = pause();
    bed.request("DELETE", Some(b"x"), "", &[], b"");
    bed.request("DELETE", Some(b"x/y"), "", &[], b"");
    let (_storage, repository) = store();
    let (_, snapshot) = take(&repository, &all(&bed, ""));
    let folder = tempfile::tempdir().unwrap();
    let fs = FsExporter::builder(folder.path()).build().unwrap();
    let (report, monitor) = bring(&repository, &snapshot, &fs, Versions::AsOf(then));
    assert_eq!((report.error_count, report.file_count), (0, 2), "{:?}", monitor.problems());
    assert_eq!(std::fs::read_to_string(folder.path().join("%~x")).unwrap(), "file");
    assert_eq!(std::fs::read_to_string(folder.path().join("x/y")).unwrap(), "below");
}

#[test]
fn versions_of_one_moment_keep_their_order() {
    let bed = Bed::own(s3server::Options::default());
    let server = bed.own_server();
    server.keep_versions("bucket");
    for n in 0..20 {
        let object =
            s3server::Object { modified: 1_700_000_000_000, ..s3server::Object::new(format!("{n}")) };
        server.insert("bucket", "k", object);
    }
    let (_storage, repository) = store();
    let (_, snapshot) = take(&repository, &all(&bed, ""));
    let target = bed.beside("all");
    versioned(&target);
    bring(&repository, &snapshot, &exporter(&target, &[("versions", "all")]), Versions::All);
    assert_eq!(versions(&target), versions(&bed));
}

#[test]
fn a_version_is_read_once_wherever_it_moves() {
    let bed = Bed::own(s3server::Options::default());
    let server = bed.own_server();
    server.keep_versions("bucket");
    for n in 0..10 {
        for version in 0..3 {
            bed.put(format!("d/k{n}"), &[], format!("{n} {version}").as_bytes());
        }
    }
    let (_storage, repository) = store();
    let importer = all(&bed, "");
    let gets = || {
        server.reset_counters();
        let (report, _) = take(&repository, &importer);
        (report.unchanged_count, server.counters().of("GetObject"))
    };
    assert_eq!(gets(), (0, 30));
    assert_eq!(gets(), (30, 0), "nothing changed");
    bed.put("d/k3", &[], b"newest");
    assert_eq!(gets(), (30, 1), "the version before moved to the old ones");
    bed.request("DELETE", Some(b"d/k4"), "", &[], b"");
    assert_eq!(gets(), (31, 0), "a delete marker has no content");
    let newest = server.versions("bucket", "d/k3")[0].version.clone();
    bed.request("DELETE", Some(b"d/k3"), &format!("versionId={newest}"), &[], b"");
    assert_eq!(gets(), (30, 0), "an old version is the current one again");
}

#[test]
fn patterns_leave_out_old_versions_too() {
    let bed = Bed::own(s3server::Options::default());
    versioned(&bed);
    for key in ["keep.txt", "drop.tmp", "logs/a", "logs/keep"] {
        bed.put(key, &[], b"1");
        bed.put(key, &[], b"2");
    }
    let import = ImportOptions {
        excludes: vec!["*.tmp".into(), "/logs/*".into(), "!/logs/keep".into()],
        ..ImportOptions::default()
    };
    for (option, count) in [("latest", 2), ("all", 4)] {
        let importer = S3Importer::with(bed.options("", &[("versions", option)]), &import).unwrap();
        let mut keys = Vec::new();
        importer
            .scan(&mut |record| {
                keys.extend((!record.locator.is_empty()).then_some(record.locator));
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(keys.len(), count);
        keys.dedup();
        assert_eq!(keys, [b"keep.txt".to_vec(), b"logs/keep".to_vec()], "{option}");
    }
}

#[test]
fn a_snapshot_without_versions_says_so() {
    let bed = Bed::own(s3server::Options::default());
    bed.put("k", &[], b"x");
    let (_storage, repository) = store();
    let (_, snapshot) = take(&repository, &S3Importer::new(bed.options("", &[])).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let fs = FsExporter::builder(folder.path()).build().unwrap();
    let options = RestoreOptions { versions: Versions::AsOf(Timestamp::now()), ..RestoreOptions::default() };
    let error = restore(&repository, &snapshot, None, &fs, &options, &Tally::default()).unwrap_err();
    assert!(error.to_string().contains("versions=all"), "{error}");
}
