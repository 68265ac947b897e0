//! A bucket as a destination: keys, headers, parts, refusals.

use std::sync::atomic::{AtomicU64, Ordering};

use plakar::base::spill::SpillDir;
use plakar::base::{Id, RawString, Timestamp};
use plakar::connector::{ContentSource, Error, ErrorKind, Exporter, Importer, Item, Outcome, Work, Xattr};
use plakar::connectors::s3::{ExistingObject, ExportOptions, S3Exporter, S3Importer};
use plakar::format::entry::{CustomMetadata, Entry, FileInfo, Mode};

use crate::s3_bed::Bed;
use crate::s3_importer::{ODD_KEYS, entry, objects, read};
use crate::s3server::{self, Action, Fault, Key, Object};

/// A content in memory that counts what is read of it.
#[derive(Debug, Default)]
pub(crate) struct Bytes {
    content: Vec<u8>,
    read: AtomicU64,
    broken_at: Option<u64>,
}

impl Bytes {
    pub(crate) fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self { content: bytes.into(), ..Self::default() }
    }
}

impl ContentSource for Bytes {
    fn size(&self) -> u64 {
        self.content.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let end = offset + buffer.len() as u64;
        if self.broken_at.is_some_and(|at| end > at) {
            return Err(Error::new(ErrorKind::Protocol, "read", "a chunk").detail("its MAC is wrong"));
        }
        let start = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(&self.content[start..start + buffer.len()]);
        self.read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn boundaries(&self) -> Vec<u64> {
        vec![0]
    }
}

fn exporter(bed: &Bed, prefix: &str) -> S3Exporter {
    S3Exporter::new(bed.options(prefix, &[]), ExportOptions::default()).unwrap()
}

fn file_entry(name: &str) -> Entry {
    let mut info = FileInfo::new(name, Mode::regular(0o640).with(Mode::SETGID));
    (info.uid, info.gid, info.modified) = (1000, 100, Timestamp { secs: 1_700_000_000, nanos: 5 });
    let mut entry = Entry::new("/", info);
    entry.content_type = "text/plain; charset=utf-8".into();
    entry.object = Id([1; 32]);
    entry
}

fn put(exporter: &S3Exporter, path: &str, entry: &Entry, content: &Bytes) -> Result<Outcome, Error> {
    let path = RawString::from(path);
    exporter.file(&Item { path: &path, entry, xattrs: &[] }, content)
}

/// Restores everything one connector finds through another, paths being relative to the source's root.
pub(crate) fn copy(from: &S3Importer, to: &S3Exporter) -> Vec<(RawString, Outcome)> {
    let root = from.source().root;
    let above = if root == "/" { 1 } else { root.len() + 1 };
    let mut outcomes = Vec::new();
    for record in objects(from) {
        let (bytes, info) = read(from, &record).unwrap();
        let entry = entry(&record, info);
        let path = RawString::from(&record.path[above..]);
        let outcome = to.file(&Item { path: &path, entry: &entry, xattrs: &[] }, &Bytes::new(bytes)).unwrap();
        outcomes.push((path, outcome));
    }
    outcomes
}

#[test]
fn odd_keys_make_the_round_trip() {
    Bed::each(|bed| {
        for (n, key) in ODD_KEYS.iter().enumerate() {
            bed.put(format!("src/{key}"), &[], format!("content {n}").as_bytes());
        }
        let importer = S3Importer::new(bed.options("src", &[])).unwrap();
        for (_, outcome) in copy(&importer, &exporter(bed, "dst")) {
            assert_eq!(outcome, Outcome::Restored);
        }
        let copied: Vec<Vec<u8>> =
            bed.keys().into_iter().filter_map(|key| key.strip_prefix(b"dst/").map(<[u8]>::to_vec)).collect();
        let mut expected: Vec<Vec<u8>> = ODD_KEYS.iter().map(|key| key.as_bytes().to_vec()).collect();
        expected.sort();
        assert_eq!(copied, expected);
        for (n, key) in ODD_KEYS.iter().enumerate() {
            assert_eq!(bed.get(format!("dst/{key}")).body, format!("content {n}").into_bytes(), "{key:?}");
        }
    });
}

#[test]
fn all_that_an_object_is_makes_the_round_trip() {
    Bed::each(|bed| {
        let headers: [(&str, &[u8]); 9] = [
            ("content-type", b"image/x-odd"),
            ("content-encoding", b"br"),
            ("content-language", b"de"),
            ("content-disposition", b"inline"),
            ("cache-control", b"no-store"),
            ("expires", b"Thu, 01 Dec 2044 16:00:00 GMT"),
            ("x-amz-meta-colour", b"light  blue"),
            ("x-amz-meta-utf8", "\u{e9}t\u{e9}\u{a0}\u{a0}x".as_bytes()),
            ("x-amz-tagging", b"team=core%20team&empty="),
        ];
        bed.put("src/o", &headers, b"body");
        bed.put("src/empty", &[("content-type", b"x/empty")], b"");
        let importer = S3Importer::new(bed.options("src/", &[])).unwrap();
        copy(&importer, &exporter(bed, "dst/"));
        let (before, after) = (bed.get("src/o"), bed.get("dst/o"));
        assert_eq!(after.body, b"body");
        for (name, _) in &headers[..8] {
            assert_eq!(after.header(name), before.header(name), "{name}");
            assert!(!after.header(name).is_empty(), "{name}");
        }
        if before.header("x-amz-tagging-count").is_empty() {
            println!("not compared: this server does not count tags in the answer to GET");
        } else {
            assert_eq!(bed.tags("dst/o"), bed.tags("src/o"));
        }
        assert_eq!(bed.get("dst/empty").header("content-type"), "x/empty");
        assert_eq!(bed.get("dst/empty").body, b"");
    });
}

#[test]
fn classes_and_redirects_are_written_back_but_nothing_is_frozen_unasked() {
    let bed = Bed::own(s3server::Options::default());
    let server = bed.own_server();
    let redirect = Object::new("x").class("ONEZONE_IA").header("x-amz-website-redirect-location", "/there");
    server.insert("bucket", "src/warm", redirect);
    let importer = S3Importer::new(bed.options("src", &[])).unwrap();
    let record = objects(&importer).remove(0);
    let warm = entry(&record, read(&importer, &record).unwrap().1);
    let mut cold = warm.clone();
    for item in &mut cold.metadata {
        if item.key == "s3.storage-class" {
            item.value = b"DEEP_ARCHIVE".to_vec();
        }
    }
    let class = |key: &str| server.object("bucket", key).unwrap().class.clone();
    let plain = exporter(&bed, "plain");
    assert_eq!(put(&plain, "warm", &warm, &Bytes::new("x")).unwrap(), Outcome::Restored);
    assert_eq!(class("plain/warm"), "ONEZONE_IA");
    let stored = server.object("bucket", "plain/warm").unwrap();
    assert_eq!(stored.get("x-amz-website-redirect-location").as_deref(), Some("/there"));
    assert_eq!(put(&plain, "warm", &cold, &Bytes::new("x")).unwrap(), Outcome::Restored);
    assert_eq!(class("plain/warm"), "STANDARD");
    let asked = bed.options("asked", &[("storage_class", "GLACIER")]);
    let asked = S3Exporter::new(asked, ExportOptions::default()).unwrap();
    put(&asked, "warm", &warm, &Bytes::new("x")).unwrap();
    assert_eq!(class("asked/warm"), "GLACIER");
}

#[test]
fn a_cold_class_that_is_not_written_back_is_no_difference() {
    let bed = Bed::own(s3server::Options::default());
    let server = bed.own_server();
    let mut entry = file_entry("k");
    entry.info.size = 1;
    let etag = Object::new("x").etag;
    for (key, value) in [("s3.etag", etag.as_str()), ("s3.key", "k"), ("s3.storage-class", "GLACIER")] {
        entry.metadata.push(CustomMetadata { key: key.into(), value: value.into() });
    }
    let spills = tempfile::tempdir().unwrap();
    let spills = SpillDir::new(spills.path(), None);
    let path = RawString::from("k");
    for (class, chosen, equal) in [
        ("STANDARD", "", true),
        ("GLACIER", "", true),
        ("ONEZONE_IA", "", false),
        ("STANDARD", "GLACIER", false),
        ("GLACIER", "STANDARD", false),
    ] {
        server.insert("bucket", "k", Object::new("x").class(class));
        let more = [("storage_class", chosen)];
        let options = bed.options("", if chosen.is_empty() { &[] } else { &more });
        let exporter = S3Exporter::new(options, ExportOptions::default()).unwrap();
        exporter.survey(&spills, 1).unwrap();
        let item = Item { path: &path, entry: &entry, xattrs: &[] };
        assert_eq!(exporter.stands(&item, None).unwrap(), equal, "{class} where {chosen:?} is chosen");
        let outcome = put(&exporter, "k", &entry, &Bytes::new("x")).unwrap();
        assert_eq!(outcome == Outcome::Equal, equal, "{class} where {chosen:?} is chosen");
    }
}

#[test]
fn a_class_the_server_does_not_know_is_left_out_and_reported() {
    let bed = Bed::own(s3server::Options { classes: vec!["STANDARD"], ..s3server::Options::default() });
    let mut entry = file_entry("k");
    entry.metadata = vec![
        CustomMetadata { key: "s3.key".into(), value: b"k".to_vec() },
        CustomMetadata { key: "s3.storage-class".into(), value: b"EXPRESS_ONEZONE".to_vec() },
    ];
    let outcome = put(&exporter(&bed, ""), "k", &entry, &Bytes::new("x")).unwrap();
    assert_eq!(outcome, Outcome::Partly(vec!["storage class EXPRESS_ONEZONE".into()]));
    // But a class that was asked for is not replaced in silence.
    let asked = bed.options("", &[("storage_class", "STANDARD_IA")]);
    let asked = S3Exporter::new(asked, ExportOptions::default()).unwrap();
    assert_eq!(put(&asked, "k", &entry, &Bytes::new("x")).unwrap_err().kind, ErrorKind::Invalid);
}

#[test]
fn files_keep_mode_owner_and_time_in_metadata() {
    Bed::each(|bed| {
        let exporter = exporter(bed, "dst");
        assert_eq!(exporter.work(), Work::Waiting(64));
        assert!(!exporter.links());
        let outcome = put(&exporter, "dir/file.txt", &file_entry("file.txt"), &Bytes::new("hello")).unwrap();
        assert_eq!(outcome, Outcome::Restored);
        let got = bed.get("dst/dir/file.txt");
        assert_eq!(got.body, b"hello");
        assert_eq!(got.header("content-type"), "text/plain; charset=utf-8");
        assert_eq!(got.header("x-amz-meta-mtime"), "1700000000.000000005");
        assert_eq!(got.header("x-amz-meta-mode"), "102640");
        assert_eq!(
            (got.header("x-amz-meta-uid"), got.header("x-amz-meta-gid")),
            ("1000".into(), "100".into())
        );
    });
}

#[test]
fn what_a_bucket_cannot_hold_is_reported() {
    let bed = Bed::own(s3server::Options::default());
    let exporter = exporter(&bed, "p");
    let unsupported = |path: &[u8], mode: Mode| {
        let mut entry = file_entry("x");
        entry.info.mode = mode;
        let path = RawString::from(path);
        let item = Item { path: &path, entry: &entry, xattrs: &[] };
        let outcome =
            if mode.is_regular() { exporter.file(&item, &Bytes::new("x")) } else { exporter.special(&item) };
        matches!(outcome.unwrap(), Outcome::Unsupported(_))
    };
    assert!(unsupported(b"link", Mode::SYMLINK));
    assert!(unsupported(b"pipe", Mode::PIPE));
    assert!(unsupported(b"not \xff utf-8", Mode(0)));
    assert!(unsupported(&[b'x'; 1025], Mode(0)));
    assert!(unsupported(b"", Mode(0)), "an empty key is the bucket");
    assert_eq!(bed.keys(), Vec::<Vec<u8>>::new());
    assert_eq!(bed.own_server().counters().of("PutObject"), 0);

    let path = RawString::from("f");
    let xattrs = [Xattr { name: "user.a".into(), value: b"1".to_vec() }];
    let outcome =
        exporter.file(&Item { path: &path, entry: &file_entry("f"), xattrs: &xattrs }, &Bytes::new("x"));
    assert_eq!(outcome.unwrap(), Outcome::Partly(vec!["extended attributes".into()]));
}

#[test]
fn hostile_keys_stay_below_the_prefix() {
    let bed = Bed::own(s3server::Options::default());
    let exporter = exporter(&bed, "safe");
    for (key, path) in [("../../out", "%~%2E%2E/%~%2E%2E/out"), ("/abs", "%~/abs"), ("elsewhere", "here")] {
        let mut entry = file_entry("x");
        entry.metadata = vec![CustomMetadata { key: "s3.key".into(), value: key.as_bytes().to_vec() }];
        put(&exporter, path, &entry, &Bytes::new("x")).unwrap();
    }
    let keys: Vec<String> = bed.keys().into_iter().map(|key| String::from_utf8(key).unwrap()).collect();
    assert_eq!(keys, ["safe/../../out", "safe//abs", "safe/here"]);
}

#[test]
fn folder_markers_on_request_only_for_empty_folders() {
    let bed = Bed::own(s3server::Options::default());
    let run = |prefix: &str, folder_markers| {
        let options = bed.options(prefix, &[]);
        let exporter =
            S3Exporter::new(options, ExportOptions { folder_markers, ..ExportOptions::default() }).unwrap();
        let entry = Entry::new("/", FileInfo::new("d", Mode::dir(0o755)));
        let paths = ["", "full", "full/sub", "empty", "full/sub/hollow"].map(RawString::from);
        for path in &paths {
            assert_eq!(
                exporter.folder(&Item { path, entry: &entry, xattrs: &[] }).unwrap(),
                Outcome::Restored
            );
        }
        put(&exporter, "full/file", &file_entry("file"), &Bytes::new("x")).unwrap();
        for path in paths.iter().rev() {
            exporter.finish_folder(&Item { path, entry: &entry, xattrs: &[] }).unwrap();
        }
    };
    run("off", false);
    run("on", true);
    let keys: Vec<String> = bed.keys().into_iter().map(|key| String::from_utf8(key).unwrap()).collect();
    assert_eq!(keys, ["off/full/file", "on/empty/", "on/full/file", "on/full/sub/hollow/"]);
}

#[test]
fn sizes_around_every_limit() {
    Bed::each(|bed| {
        let mut options = bed.options("", &[]);
        options.tuning.multipart_threshold = 11 << 20;
        options.tuning.part_size = 5 << 20;
        let exporter = S3Exporter::new(options, ExportOptions::default()).unwrap();
        let mib = 1 << 20;
        for size in [0, 1, mib, mib + 1, 11 * mib - 1, 11 * mib, 15 * mib, 15 * mib + 1] {
            let body: Vec<u8> = (0..size).map(|n: u32| u8::try_from((n >> 8 ^ n) & 0xff).unwrap()).collect();
            let content = Bytes::new(body.clone());
            let path = format!("f{size}");
            assert_eq!(put(&exporter, &path, &file_entry("f"), &content).unwrap(), Outcome::Restored);
            let got = bed.get(&path);
            assert!(got.body == body, "{size} bytes came back as {}", got.body.len());
            assert_eq!(
                content.read.load(Ordering::Relaxed),
                u64::from(size),
                "read once, not for a checksum too"
            );
            let parts =
                got.header("etag").trim_matches('"').rsplit_once('-').map(|(_, n)| n.parse().unwrap());
            let expected = (size >= 11 * mib).then(|| size.div_ceil(5 * mib));
            assert_eq!(parts, expected, "{size}");
            assert_eq!(got.header("x-amz-meta-mode"), "102640");
        }
        if let Some(server) = &bed.server {
            assert_eq!(server.open_uploads(), 0);
        }
    });
}

#[test]
fn parts_are_made_anew_when_they_have_to_be_sent_again() {
    let bed = Bed::own(s3server::Options::default());
    let server = bed.own_server();
    let mut options = bed.options("", &[]);
    options.tuning.multipart_threshold = 6 << 20;
    options.tuning.part_size = 5 << 20;
    let exporter = S3Exporter::new(options, ExportOptions::default()).unwrap();
    let body: Vec<u8> = (0..23_000_000_u32).map(|n| u8::try_from(n % 241).unwrap()).collect();
    server.inject(Fault::when(|seen| seen.op == "UploadPart" && seen.number == 2, Action::Reset));
    server.inject(Fault::when(
        |seen| seen.op == "UploadPart" && seen.number == 4,
        Action::status(503, "SlowDown"),
    ));
    server.inject(Fault::on("CreateMultipartUpload", Action::status(500, "InternalError")).times(1));
    server.inject(Fault::on("CompleteMultipartUpload", Action::ErrorInOk("InternalError")).times(1));
    // The upload is completed, but its answer is lost: the retry finds no upload, and the object is what counts.
    server.inject(Fault::on("CompleteMultipartUpload", Action::ResetAfter).times(1));
    let content = Bytes::new(body.clone());
    assert_eq!(put(&exporter, "big", &file_entry("big"), &content).unwrap(), Outcome::Restored);
    assert!(bed.get("big").body == body);
    assert!(content.read.load(Ordering::Relaxed) > body.len() as u64);
    assert_eq!((server.counters().of("UploadPart"), server.open_uploads()), (7, 0));
}

#[test]
fn an_upload_that_is_gone_is_no_success_unless_the_object_is_there() {
    let bed = Bed::own(s3server::Options::default());
    let server = bed.own_server();
    let mut options = bed.options("", &[]);
    options.tuning.multipart_threshold = 6 << 20;
    options.tuning.part_size = 5 << 20;
    let exporter = S3Exporter::new(options, ExportOptions::default()).unwrap();
    // Another object stands under the key, of another size; and of the same size, but not from these parts.
    for length in [10_usize, 7 << 20] {
        server.insert("bucket", "big", s3server::Object::new(vec![1; length]));
        server.inject(Fault::on("CompleteMultipartUpload", Action::status(404, "NoSuchUpload")).times(1));
        let error = put(&exporter, "big", &file_entry("big"), &Bytes::new(vec![2; 7 << 20])).unwrap_err();
        assert!(error.to_string().contains("NoSuchUpload"), "{error}");
        assert_eq!(server.open_uploads(), 0);
    }
    assert_eq!(server.counters().of("HeadObject"), 2);
}

#[test]
fn parts_replace_no_object_that_is_to_be_kept() {
    let bed = Bed::own(s3server::Options::default());
    let server = bed.own_server();
    for existing in [ExistingObject::Skip, ExistingObject::Fail, ExistingObject::Replace] {
        let mut options = bed.options("", &[]);
        options.tuning.multipart_threshold = 6 << 20;
        options.tuning.part_size = 5 << 20;
        let exporter =
            S3Exporter::new(options, ExportOptions { existing, ..ExportOptions::default() }).unwrap();
        server.insert("bucket", "big", s3server::Object::new(b"first".to_vec()));
        // It came into being after it was looked for.
        server.inject(Fault::on("HeadObject", Action::status(404, "NoSuchKey")).times(1));
        let outcome = put(&exporter, "big", &file_entry("big"), &Bytes::new(vec![2; 7 << 20]));
        let replaced = existing == ExistingObject::Replace;
        assert_eq!(bed.get("big").body.len(), if replaced { 7 << 20 } else { 5 }, "{existing:?}");
        match (existing, outcome) {
            (ExistingObject::Fail, Err(error)) => assert_eq!(error.kind, ErrorKind::Exists, "{error}"),
            (ExistingObject::Skip, Ok(outcome)) => assert_eq!(outcome, Outcome::Skipped),
            (ExistingObject::Replace, Ok(outcome)) => assert_eq!(outcome, Outcome::Restored),
            (existing, outcome) => panic!("{existing:?}: {outcome:?}"),
        }
        assert_eq!(server.open_uploads(), 0);
        server.clear_faults();
    }
}

fn careful(bed: &Bed, existing: ExistingObject, more: &[(&str, &str)]) -> S3Exporter {
    let export = ExportOptions { existing, folder_markers: true, ..ExportOptions::default() };
    S3Exporter::new(bed.options("", more), export).unwrap()
}

#[test]
fn an_object_whose_answer_was_lost_is_nobody_elses() {
    let bed = Bed::own(s3server::Options::default());
    let server = bed.own_server();
    let mut entry = file_entry("k");
    let acl = "owner=a&READ=uri%3Ahttp%3A%2F%2Facs.amazonaws.com%2Fgroups%2Fglobal%2FAllUsers";
    entry.metadata.push(CustomMetadata { key: "s3.acl".into(), value: acl.into() });
    for (existing, key) in [(ExistingObject::Skip, "skip"), (ExistingObject::Fail, "fail")] {
        let exporter = careful(&bed, existing, &[("acl", "true")]);
        server.inject(Fault::on("PutObject", Action::ResetAfter).times(1));
        assert_eq!(put(&exporter, key, &entry, &Bytes::new("x")).unwrap(), Outcome::Restored);
        assert!(server.object("bucket", key).unwrap().acl.is_some(), "{key}");
        assert_eq!(server.counters().of("PutObject"), 2);
        server.reset_counters();
    }
    // Of the same size, but somebody else's; it came after it was looked for.
    server.insert("bucket", "other", Object::new("y"));
    server.inject(Fault::on("HeadObject", Action::status(404, "NoSuchKey")).times(1));
    let outcome = put(&careful(&bed, ExistingObject::Skip, &[]), "other", &entry, &Bytes::new("x"));
    assert_eq!(outcome.unwrap(), Outcome::Skipped);
    assert_eq!(bed.get("other").body, b"y");
}

#[test]
fn a_server_without_conditions_is_given_none() {
    let bed = Bed::own(s3server::Options::default());
    let server = bed.own_server();
    let exporter = careful(&bed, ExistingObject::Skip, &[]);
    server.inject(Fault::on("PutObject", Action::status(501, "NotImplemented")).times(1));
    for key in ["a", "b"] {
        assert_eq!(put(&exporter, key, &file_entry(key), &Bytes::new("x")).unwrap(), Outcome::Restored);
    }
    assert_eq!(server.counters().of("PutObject"), 3, "the refusal is learnt once");
    assert_eq!(put(&exporter, "a", &file_entry("a"), &Bytes::new("y")).unwrap(), Outcome::Skipped);
    assert_eq!(bed.get("a").body, b"x");
}

#[test]
fn a_marker_that_is_there_is_kept_like_an_object() {
    let bed = Bed::own(s3server::Options::default());
    let server = bed.own_server();
    let entry = Entry::new("/", FileInfo::new("d", Mode::dir(0o755)));
    let path = RawString::from("d");
    let item = Item { path: &path, entry: &entry, xattrs: &[] };
    let mark = |existing| {
        let exporter = careful(&bed, existing, &[]);
        exporter.folder(&item).unwrap();
        exporter.finish_folder(&item)
    };
    assert_eq!(mark(ExistingObject::Skip).unwrap(), Outcome::Restored);
    assert_eq!(mark(ExistingObject::Skip).unwrap(), Outcome::Skipped);
    assert_eq!(mark(ExistingObject::Fail).unwrap_err().kind, ErrorKind::Exists);
    // It came after it was looked for.
    server.inject(Fault::on("HeadObject", Action::status(404, "NoSuchKey")).times(1));
    assert_eq!(mark(ExistingObject::Skip).unwrap(), Outcome::Skipped);
    assert_eq!(server.keys("bucket"), [b"d/".to_vec()]);
}

#[test]
fn what_a_killed_restore_left_of_the_same_object_is_given_up() {
    let bed = Bed::own(s3server::Options::default());
    let server = bed.own_server();
    let begin = |key: &[u8]| bed.request("POST", Some(key), "uploads=", &[], b"");
    begin(b"big");
    begin(b"bigger");
    server.age_uploads(26, 26);
    let mut options = bed.options("", &[]);
    options.tuning.multipart_threshold = 6 << 20;
    options.tuning.part_size = 5 << 20;
    let exporter = S3Exporter::new(options, ExportOptions::default()).unwrap();
    let big = || put(&exporter, "big", &file_entry("big"), &Bytes::new(vec![2; 7 << 20])).unwrap();
    assert_eq!(big(), Outcome::Restored);
    assert_eq!(server.open_uploads(), 1);
    // A refusal is learnt once.
    server.inject(Fault::on("ListMultipartUploads", Action::status(403, "AccessDenied")));
    server.reset_counters();
    (0..3).for_each(|_| assert_eq!(big(), Outcome::Restored));
    assert_eq!(server.counters().of("ListMultipartUploads"), 1);
}

#[test]
fn a_failed_upload_is_given_up_and_leaves_no_object() {
    let bed = Bed::own(s3server::Options::default());
    let server = bed.own_server();
    let mut options = bed.options("", &[]);
    options.tuning.multipart_threshold = 6 << 20;
    options.tuning.part_size = 5 << 20;
    let exporter = S3Exporter::new(options.clone(), ExportOptions::default()).unwrap();
    // The content itself is damaged: that is what the error says, not that a PUT failed.
    let damaged = Bytes { broken_at: Some(12 << 20), ..Bytes::new(vec![7; 20 << 20]) };
    let error = put(&exporter, "big", &file_entry("big"), &damaged).unwrap_err();
    assert_eq!((error.kind, error.target.as_str()), (ErrorKind::Protocol, "a chunk"));
    let small = Bytes { broken_at: Some(0), ..Bytes::new("small") };
    assert_eq!(put(&exporter, "small", &file_entry("small"), &small).unwrap_err().target, "a chunk");
    assert_eq!((server.open_uploads(), bed.keys().len()), (0, 0));

    // A key that may not abort leaves parts behind, and the error names them.
    server.set_key("WRITER", Key::only("writer-secret", &["PutObject"]));
    let mut limited = bed.options_as("WRITER", "writer-secret", "", &[]);
    limited.tuning.clone_from(&options.tuning);
    let limited = S3Exporter::new(limited, ExportOptions::default()).unwrap();
    server.inject(Fault::on("CompleteMultipartUpload", Action::status(400, "InvalidPart")));
    let error =
        put(&limited, "big", &file_entry("big"), &Bytes::new(vec![7; 20 << 20])).unwrap_err().to_string();
    assert!(error.contains("InvalidPart") && error.contains("left behind"), "{error}");
}

#[test]
fn a_key_that_may_only_put_restores_all_but_tags() {
    let bed = Bed::own(s3server::Options::default());
    let server = bed.own_server();
    server.set_key("WRITER", Key::only("writer-secret", &["PutObject"]));
    let writer =
        S3Exporter::new(bed.options_as("WRITER", "writer-secret", "", &[]), ExportOptions::default())
            .unwrap();
    let mut entry = file_entry("k");
    entry.metadata = vec![
        CustomMetadata { key: "s3.key".into(), value: b"k1".to_vec() },
        CustomMetadata { key: "s3.meta.colour".into(), value: b"blue".to_vec() },
        CustomMetadata { key: "s3.tags".into(), value: b"a=b".to_vec() },
    ];
    let partly = Outcome::Partly(vec!["tags".into()]);
    assert_eq!(put(&writer, "k1", &entry, &Bytes::new("x")).unwrap(), partly);
    assert_eq!(put(&writer, "k2", &entry, &Bytes::new("x")).unwrap(), partly);
    // The refusal is learnt once, and nothing but PUTs was sent.
    assert_eq!((server.counters().of("PutObject"), server.counters().total()), (3, 3));
    assert_eq!(bed.get("k1").header("x-amz-meta-colour"), "blue");
    let allowed = exporter(&bed, "");
    assert_eq!(put(&allowed, "k3", &entry, &Bytes::new("x")).unwrap(), Outcome::Restored);
    assert_eq!(bed.tags("k3"), [("a".to_owned(), "b".to_owned())]);
}

#[test]
fn a_refusal_of_one_objects_tags_is_no_other_objects() {
    let bed = Bed::own(s3server::Options::default());
    let server = bed.own_server();
    let mut entry = file_entry("k");
    entry.metadata = vec![
        CustomMetadata { key: "s3.key".into(), value: b"k".to_vec() },
        CustomMetadata { key: "s3.tags".into(), value: b"a=b".to_vec() },
    ];
    let exporter = exporter(&bed, "");
    let mut put = |key: &str| {
        entry.metadata[0].value = key.into();
        put(&exporter, key, &entry, &Bytes::new("x"))
    };
    let refuse = |key: &'static [u8], status, code, times| {
        server.clear_faults();
        let is_it = move |seen: &s3server::Seen| seen.op == "PutObject" && seen.key == key;
        server.inject(Fault::when(is_it, Action::status(status, code)).times(times));
    };
    // These tags, and nobody else's.
    refuse(b"odd", 400, "InvalidTag", 1);
    assert_eq!(put("odd").unwrap(), Outcome::Partly(vec!["tags".into()]));
    assert_eq!(put("next").unwrap(), Outcome::Restored);
    // The object itself: going without tags does not help.
    refuse(b"denied", 403, "AccessDenied", u64::MAX);
    assert_eq!(put("denied").unwrap_err().kind, ErrorKind::Denied);
    assert_eq!(put("last").unwrap(), Outcome::Restored);
    for (key, count) in [("odd", 0), ("next", 1), ("last", 1)] {
        assert_eq!(bed.tags(key).len(), count, "{key}");
    }
}

#[test]
fn tags_come_along_where_it_was_the_encryption_that_was_refused() {
    let bed = Bed::own(s3server::Options::default());
    let server = bed.own_server();
    let mut entry = file_entry("k");
    for (key, value) in [("s3.key", "k"), ("s3.sse", "aws:kms"), ("s3.tags", "a=b")] {
        entry.metadata.push(CustomMetadata { key: key.into(), value: value.into() });
    }
    server.inject(Fault::on("PutObject", Action::status(403, "AccessDenied")).times(2));
    let outcome = put(&exporter(&bed, ""), "k", &entry, &Bytes::new("x")).unwrap();
    assert_eq!(outcome, Outcome::Partly(vec!["server-side encryption".into()]));
    assert_eq!(bed.tags("k"), [("a".to_owned(), "b".to_owned())]);
}

#[test]
fn the_bucket_is_made_only_when_there_is_none() {
    let bed = Bed::own(s3server::Options::default());
    let server = bed.own_server();
    put(&exporter(&bed, ""), "k", &file_entry("k"), &Bytes::new("x")).unwrap();
    assert_eq!((server.counters().of("CreateBucket"), server.counters().of("HeadBucket")), (0, 0));
    let mut options = bed.options("", &[]);
    options.location.bucket = "fresh".into();
    let fresh = S3Exporter::new(options, ExportOptions::default()).unwrap();
    put(&fresh, "k", &file_entry("k"), &Bytes::new("x")).unwrap();
    put(&fresh, "l", &file_entry("l"), &Bytes::new(vec![0; 2 << 20])).unwrap();
    assert_eq!(server.counters().of("CreateBucket"), 1);
    assert_eq!(server.buckets(), ["bucket", "fresh"]);
    assert_eq!(server.keys("fresh"), [b"k".to_vec(), b"l".to_vec()]);
}
