//! A bucket backed up into a store in a bucket, and restored into another prefix.

use std::sync::Arc;

use plakar::base::Cancel;
use plakar::connectors::fs::FsImporter;
use plakar::connectors::s3::{ExportOptions, S3Exporter, S3Importer, S3Store};
use plakar::crypto::Secret;
use plakar::snapshot::{BackupOptions, CheckOptions, RestoreOptions, Tally, backup, check, list, restore};
use plakar::store::{CreateOptions, KdfChoice, NoPassphrase, OpenOptions, Repository, WithPassphrase};

use crate::s3_bed::Bed;
use crate::s3_importer::ODD_KEYS;
use crate::s3server;

pub(crate) fn repository(bed: &Bed, prefix: &str, secret: Option<Secret>) -> Arc<Repository> {
    let store = S3Store::new(bed.options(prefix, &[])).unwrap();
    let options =
        CreateOptions { passphrase: secret.clone(), kdf: KdfChoice::default(), ..CreateOptions::default() };
    Repository::create(&store, &options).unwrap();
    let (storage, options) = (Arc::new(store), OpenOptions::default());
    match secret {
        Some(secret) => Repository::open(storage, &mut WithPassphrase(secret), &options).unwrap(),
        None => Repository::open(storage, &mut NoPassphrase, &options).unwrap(),
    }
}

#[test]
fn a_bucket_goes_through_a_store_in_a_bucket_and_comes_back() {
    Bed::each(|bed| {
        let mut keys: Vec<String> = ODD_KEYS.iter().map(|key| (*key).to_owned()).collect();
        // What collides with a folder, in every way it can.
        keys.extend(
            ["col", "col/x", "col//y", "col/", "col/./z", "col/.", "%~m", "%~m/n"].map(str::to_owned),
        );
        for (n, key) in keys.iter().enumerate() {
            let headers: [(&str, &[u8]); 3] =
                [("content-type", b"x/odd"), ("x-amz-meta-n", b"1"), ("x-amz-tagging", b"a=b%20c")];
            bed.put(format!("src/{key}"), &headers, format!("content {n}").as_bytes());
        }
        bed.put("src/large", &[], &vec![9; 3 << 20]);
        let importer = S3Importer::new(bed.options("src", &[])).unwrap();
        let repository = repository(bed, "store", Some(Secret::from("a passphrase".to_owned())));
        let monitor = Tally::default();
        let report = backup(&repository, &importer, &BackupOptions::default(), &monitor).unwrap();
        assert_eq!(monitor.problems().len(), 0, "{:?}", monitor.problems());
        assert_eq!(report.file_count, keys.len() as u64 + 1);

        let (snapshots, failed) = list(&repository);
        assert!(failed.is_empty());
        let source = snapshots[0].header.source().unwrap();
        assert_eq!(source.importer.kind, "s3");

        let exporter = S3Exporter::new(bed.options("dst", &[]), ExportOptions::default()).unwrap();
        let monitor = Tally::default();
        let options = RestoreOptions { cancel: Cancel::new(), ..RestoreOptions::default() };
        let report = restore(&repository, &snapshots[0], None, &exporter, &options, &monitor).unwrap();
        assert_eq!((report.error_count, report.partly_count), (0, 0), "{:?}", monitor.problems());
        let of = |prefix: &str| -> Vec<Vec<u8>> {
            bed.keys()
                .into_iter()
                .filter_map(|key| key.strip_prefix(prefix.as_bytes()).map(<[u8]>::to_vec))
                .collect()
        };
        assert_eq!(of("dst/"), of("src/"));
        for (n, key) in keys.iter().enumerate() {
            let got = bed.get(format!("dst/{key}"));
            assert_eq!(got.body, format!("content {n}").into_bytes(), "{key:?}");
            assert_eq!(
                (got.header("content-type"), got.header("x-amz-meta-n")),
                ("x/odd".into(), "1".into())
            );
        }
        assert_eq!(bed.tags("dst/col/"), [("a".to_owned(), "b c".to_owned())]);
        assert_eq!(bed.get("dst/large").body, vec![9; 3 << 20]);
    });
}

#[test]
fn an_unchanged_bucket_is_backed_up_again_without_a_get() {
    let bed = Bed::own(s3server::Options { page_size: 100, ..s3server::Options::default() });
    let server = bed.own_server();
    for n in 0..1000 {
        server.insert("bucket", format!("src/d{}/f{n}", n % 7), s3server::Object::new(format!("{n}")));
    }
    let importer = S3Importer::new(bed.options("src/", &[])).unwrap();
    let storage = Bed::own(s3server::Options::default());
    let repository = repository(&storage, "", None);
    let run = || backup(&repository, &importer, &BackupOptions::default(), &Tally::default()).unwrap();
    assert_eq!(run().unchanged_count, 0);
    server.reset_counters();
    assert_eq!(run().unchanged_count, 1000);
    let counters = server.counters();
    assert_eq!(
        (counters.of("ListObjectsV2"), counters.of("GetObject"), counters.of("HeadObject")),
        (10, 0, 0)
    );

    // By force, each is read again.
    server.reset_counters();
    let force = BackupOptions { force: true, ..BackupOptions::default() };
    assert_eq!(backup(&repository, &importer, &force, &Tally::default()).unwrap().unchanged_count, 0);
    assert_eq!(server.counters().of("GetObject"), 1000);

    server.insert("bucket", "src/d3/f3", s3server::Object::new("changed"));
    server.insert("bucket", "src/d3/new", s3server::Object::new("new"));
    server.reset_counters();
    assert_eq!(run().unchanged_count, 999);
    assert_eq!(server.counters().of("GetObject"), 2);
}

#[test]
fn a_check_of_many_small_files_takes_few_requests() {
    const COUNT: u64 = 1000;
    let folder = tempfile::tempdir().unwrap();
    for number in 0..COUNT {
        let below = folder.path().join(format!("{}", number % 5));
        std::fs::create_dir_all(&below).unwrap();
        std::fs::write(below.join(number.to_string()), format!("content {number}")).unwrap();
    }
    for secret in [None, Some("secret")] {
        let bed = Bed::own(s3server::Options::default());
        let repository = repository(&bed, "", secret.map(|secret| Secret::from(secret.to_owned())));
        let importer = FsImporter::builder().place(folder.path()).build().unwrap();
        backup(&repository, &importer, &BackupOptions::default(), &Tally::default()).unwrap();
        let snapshot = list(&repository).0.remove(0);
        for (what, selection, fast) in [
            ("everything", None, false),
            ("one snapshot", Some(vec![(snapshot.clone(), None)]), false),
            ("one folder", Some(vec![(snapshot.clone(), Some(snapshot_path(folder.path())))]), false),
            ("structure", None, true),
        ] {
            bed.own_server().reset_counters();
            let options = CheckOptions { fast, ..CheckOptions::default() };
            let report = check(&repository, selection.as_deref(), &options, &Tally::default()).unwrap();
            assert_eq!(report.damage, [], "{what}");
            let requests = bed.own_server().counters().of("GetObject");
            println!("{what}, secret: {}: {requests} GETs", secret.is_some());
            // Nodes of trees and folders are still read one by one.
            assert!(requests < COUNT / 5, "{what}: {requests} GETs for {COUNT} files");
        }
    }
}

/// Returns the path that a folder has in a snapshot of it.
fn snapshot_path(folder: &std::path::Path) -> Vec<u8> {
    folder.canonicalize().unwrap().into_os_string().into_encoded_bytes()
}
