//! Immutable stores: buckets with Object Lock, and keys that may put, get and list, and no more.

use std::sync::Arc;
use std::time::Duration;

use plakar::base::Id;
use plakar::connector::{Body, ErrorKind, Kind, Purpose, Storage};
use plakar::connectors::fs::FsImporter;
use plakar::connectors::s3::S3Store;
use plakar::snapshot::{BackupOptions, Tally, backup, list};
use plakar::store::{CreateOptions, NoPassphrase, OpenOptions, Repository};

use crate::cli::User;
use crate::s3_bed::Bed;
use crate::s3server::{self, ACCESS_KEY, Key, S3Server, SECRET_KEY, elements, unescape};

const LOCK: [(&str, &str); 2] = [("object_lock", "governance"), ("retain", "30d")];
/// What writing an immutable store takes.
const WRITER: [&str; 3] = ["GetObject", "PutObject", "ListObjectsV2"];

fn id(n: u8) -> Id {
    Id([n; 32])
}

/// A bucket with Object Lock that is emptied in the end, whatever is retained there.
struct Locked(Bed);

impl Locked {
    /// Runs a test on every server there is.
    fn each(test: impl Fn(&Bed)) {
        let own = Bed::own(s3server::Options::default());
        own.own_server().make_locked_bucket("bucket");
        test(&own);
        if let Some(real) = Bed::real() {
            let bed = Bed {
                server: None,
                authority: real.authority.clone(),
                access_key: real.access_key.clone(),
                secret: real.secret.clone(),
                region: real.region.clone(),
                bucket: format!("{}-locked", real.bucket),
            };
            let lock: [(&str, &[u8]); 1] = [("x-amz-bucket-object-lock-enabled", b"true")];
            assert_eq!(bed.request("PUT", None, "", &lock, b"").status, 200, "cannot create a locked bucket");
            test(&Self(bed).0);
        }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let text = String::from_utf8(self.0.request("GET", None, "versions=", &[], b"").body).unwrap();
        let keys = elements(&text, "Key").into_iter().map(unescape);
        for (key, version) in keys.zip(elements(&text, "VersionId")) {
            let query = format!("versionId={version}");
            let bypass: [(&str, &[u8]); 1] = [("x-amz-bypass-governance-retention", b"true")];
            self.0.request("DELETE", Some(key.as_bytes()), &query, &bypass, b"");
        }
    }
}

fn store(bed: &Bed) -> S3Store {
    S3Store::new(bed.options("", &LOCK)).unwrap()
}

/// Returns mode and end of an object's retention, as the server tells them; empty where there is none.
fn retention(bed: &Bed, key: &str) -> (String, String) {
    let got = bed.get(key);
    assert_eq!(got.status, 200, "{key}");
    (got.header("x-amz-object-lock-mode"), got.header("x-amz-object-lock-retain-until-date"))
}

#[test]
fn packfiles_and_states_are_retained_and_nothing_else() {
    Locked::each(|bed| {
        let store = store(bed);
        store.create(b"config").unwrap();
        store.put_packfile(id(1), Purpose::Content, Body::Bytes(b"content")).unwrap();
        store.put_packfile(id(2), Purpose::Metadata, Body::Bytes(b"metadata")).unwrap();
        store.put(Kind::State, id(3), Body::Bytes(b"state")).unwrap();
        store.put(Kind::Lock, id(4), Body::Bytes(b"lock")).unwrap();
        let days = |n: u64| jiff::Timestamp::now() + Duration::from_hours(24 * n);
        for key in [
            format!("packfiles/01/{}", id(1)),
            format!("packfiles/02/{}", id(2)),
            format!("states/03/{}", id(3)),
        ] {
            let (mode, until) = retention(bed, &key);
            let until: jiff::Timestamp = until.parse().unwrap();
            assert_eq!(mode, "GOVERNANCE", "{key}");
            assert!((days(29)..days(31)).contains(&until), "{key} {until}");
        }
        for key in ["CONFIG".to_owned(), format!("locks/{}", id(4))] {
            assert_eq!(retention(bed, &key), (String::new(), String::new()), "{key}");
        }
        // What is retained is not hidden either; what is not can go.
        for (kind, n) in [(Kind::Packfile, 1), (Kind::Packfile, 2), (Kind::State, 3)] {
            let error = store.delete(kind, id(n)).unwrap_err();
            assert!(
                error.kind == ErrorKind::Denied && error.to_string().contains("keeps it until"),
                "{error}"
            );
            assert!(store.get(kind, id(n)).is_ok());
        }
        store.delete(Kind::Lock, id(4)).unwrap();
        store.replace_config(b"config", b"new slots").unwrap();
    });
}

#[test]
fn a_bucket_without_object_lock_is_told_before_anything_is_written() {
    Bed::each(|bed| {
        let error = store(bed).create(b"config").unwrap_err();
        assert!(error.kind == ErrorKind::Invalid && error.to_string().contains("no Object Lock"), "{error}");
        assert_eq!(bed.keys(), Vec::<Vec<u8>>::new());
        // And where the store is there already, by the first packfile or state.
        S3Store::new(bed.options("", &[])).unwrap().create(b"config").unwrap();
        for kind in [Kind::Packfile, Kind::State] {
            let error = store(bed).put(kind, id(1), Body::Bytes(b"x")).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
            assert!(error.to_string().contains("no Object Lock"), "{error}");
        }
    });
}

#[test]
fn a_bucket_made_for_an_immutable_store_has_object_lock() {
    let bed = Bed::own(s3server::Options::default());
    let mut options = bed.options("", &LOCK);
    options.location.bucket = "new-bucket".into();
    let store = S3Store::new(options).unwrap();
    store.create(b"config").unwrap();
    store.put(Kind::State, id(1), Body::Bytes(b"state")).unwrap();
    let state = bed.own_server().object("new-bucket", format!("states/01/{}", id(1))).unwrap();
    assert!(state.retention.is_some());
}

#[test]
fn putting_getting_and_listing_is_enough_for_backups() {
    let source = tempfile::tempdir().unwrap();
    let bed = Bed::own(s3server::Options::default());
    let server = bed.own_server();
    server.make_locked_bucket("bucket");
    server.set_key("WRITER", Key::only("writer-secret", &WRITER));
    let storage = || Arc::new(S3Store::new(bed.options_as("WRITER", "writer-secret", "", &LOCK)).unwrap());
    Repository::create(storage().as_ref(), &CreateOptions::default()).unwrap();
    for n in 1..=3_usize {
        std::fs::write(source.path().join(format!("{n}")), format!("content {n}").repeat(100)).unwrap();
        // Locks of earlier runs are there still, as they may not be deleted; they stand in nobody's way.
        let repository = Repository::open(storage(), &mut NoPassphrase, &OpenOptions::default()).unwrap();
        let importer = FsImporter::builder().place(source.path()).build().unwrap();
        let monitor = Tally::default();
        let report = backup(&repository, &importer, &BackupOptions::default(), &monitor).unwrap();
        assert_eq!((report.file_count, monitor.problems()), (n as u64, vec![]));
        let mut locks = 0;
        storage().list(Kind::Lock, &mut |_| locks += 1).unwrap();
        assert_eq!((locks, list(&repository).0.len()), (n, n));
    }
    let keys = server.keys("bucket");
    let kept = |key: &&Vec<u8>| server.object("bucket", key).unwrap().retention.is_some();
    let lasting = |key: &&Vec<u8>| key.starts_with(b"packfiles/") || key.starts_with(b"states/");
    assert!(keys.iter().filter(lasting).count() >= 9);
    assert!(keys.iter().filter(lasting).all(|key| kept(&key)));
    assert!(!keys.iter().filter(|key| !lasting(key)).any(|key| kept(&key)));
}

#[test]
fn many_locks_of_long_ago_are_not_read_again_and_again() {
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("file"), "content").unwrap();
    let bed = Bed::own(s3server::Options::default());
    let server = bed.own_server();
    server.set_key("WRITER", Key::only("writer-secret", &WRITER));
    let storage = || Arc::new(S3Store::new(bed.options_as("WRITER", "writer-secret", "", &[])).unwrap());
    Repository::create(storage().as_ref(), &CreateOptions::default()).unwrap();
    let back_up = || {
        let repository = Repository::open(storage(), &mut NoPassphrase, &OpenOptions::default()).unwrap();
        let importer = FsImporter::builder().place(source.path()).build().unwrap();
        backup(&repository, &importer, &BackupOptions::default(), &Tally::default()).unwrap();
    };
    back_up();
    let lock = server.keys("bucket").into_iter().find(|key| key.starts_with(b"locks/")).unwrap();
    let released = server.object("bucket", &lock).unwrap();
    for n in 0..200 {
        let mut old = (*released).clone();
        old.modified -= 25 * 3600 * 1000;
        server.insert("bucket", format!("locks/{}", id(n)), old);
    }
    server.reset_counters();
    back_up();
    let reads = |target: &&String| target.starts_with("GET") && target.contains("/locks/");
    assert_eq!(server.counters().targets.iter().filter(reads).count(), 1, "that of the first run");
}

#[test]
fn options_are_checked_when_a_store_is_configured() {
    let server = S3Server::new();
    let user = User::new();
    let line = |options: &str| {
        format!(
            "store add s s3://{}/new access_key={ACCESS_KEY} secret_access_key={SECRET_KEY} use_tls=false {options}",
            server.authority()
        )
    };
    user.ok(&line("object_lock=compliance retain=2w"));
    user.ok("at @s create -plaintext");
    std::fs::create_dir(user.home().join("data")).unwrap();
    std::fs::write(user.home().join("data/file"), "content").unwrap();
    user.ok("at @s backup data");
    let packs = server.keys("new").into_iter().filter(|key| key.starts_with(b"packfiles/"));
    for key in packs {
        let retention = server.object("new", &key).unwrap().retention.clone();
        assert_eq!(retention.map(|(mode, _)| mode).as_deref(), Some("COMPLIANCE"));
    }
    for (set, told) in [("retain=soon", "30d"), ("object_lock=maybe", "governance or compliance")] {
        let ran = user.run(&format!("store set s {set}"));
        assert!(ran.code == 64 && ran.stderr.contains(told), "{set}: {ran:?}");
    }
    user.ok("at @s ls");
}
