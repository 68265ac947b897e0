//! Servers that differ from AWS's, or from each other, in what the protocol leaves open: each is read and written
//! right, or refused in words.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::ops::ControlFlow;

use plakar::base::{Id, RawString, Timestamp};
use plakar::connector::{
    Body, Change, ErrorKind, Exporter as _, Importer as _, Item, Kind, Outcome, Record, Storage,
};
use plakar::connectors::s3::{ExistingObject, ExportOptions, S3Archive, S3Exporter, S3Importer, S3Store};
use plakar::snapshot::{BackupOptions, RestoreOptions, Tally, backup, list, restore};

use crate::s3_bed::Bed;
use crate::s3_engine::repository;
use crate::s3_exporter::{Bytes, copy};
use crate::s3_importer::{ODD_KEYS, entry, objects, read, scan};
use crate::s3server::{self, Action, Fault, Key, Listing, Object};

const ID: Id = Id([7; 32]);
const MIB: usize = 1 << 20;

fn own(options: s3server::Options) -> Bed {
    Bed::own(options)
}

fn plain() -> s3server::Options {
    s3server::Options::default()
}

fn importer(bed: &Bed, prefix: &str, more: &[(&str, &str)]) -> S3Importer {
    S3Importer::new(bed.options(prefix, more)).unwrap()
}

fn exporter(bed: &Bed, prefix: &str) -> S3Exporter {
    S3Exporter::new(bed.options(prefix, &[]), ExportOptions::default()).unwrap()
}

fn store(bed: &Bed) -> S3Store {
    S3Store::new(bed.options("", &[])).unwrap()
}

/// Bytes that differ from place to place.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn keys(records: &[Record]) -> Vec<Vec<u8>> {
    records.iter().map(|record| record.locator.clone()).collect()
}

fn sorted(mut keys: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    keys.sort();
    keys
}

#[test]
fn a_set_of_tags_that_is_not_there_is_empty() {
    Bed::each(|bed| {
        bed.put("bare", &[], b"x");
        if let Some(server) = &bed.server {
            server.inject(Fault::on("GetObjectTagging", Action::status(404, "NoSuchTagSet")));
        }
        let asking = importer(bed, "", &[("tags", "true")]);
        let record = objects(&asking).remove(0);
        let entry = entry(&record, read(&asking, &record).unwrap().1);
        assert_eq!((entry.metadata("s3.tags"), entry.metadata("s3.not-captured")), (None, None));
    });
    // But an object that is not there any more is not one without tags.
    let bed = own(plain());
    bed.put("bare", &[], b"x");
    bed.own_server().inject(Fault::on("GetObjectTagging", Action::status(404, "NoSuchKey")));
    let asking = importer(&bed, "", &[("tags", "true")]);
    assert_eq!(read(&asking, &objects(&asking)[0]).unwrap_err().kind, ErrorKind::NotFound);
}

#[test]
fn a_bucket_that_retains_by_default_gets_checksums() {
    let from = own(plain());
    let bodies: BTreeMap<&str, Vec<u8>> =
        [("empty", 0), ("small", 100), ("middle", 2 * MIB), ("middle 2", 3 * MIB), ("parts", 12 * MIB)]
            .map(|(key, size)| (key, noise(1, size)))
            .into();
    for (key, body) in &bodies {
        from.put(key, &[], body);
    }
    let demanding = own(s3server::Options { checksums_required: true, ..plain() });
    let mut options = demanding.options("", &[]);
    options.tuning.multipart_threshold = 10 << 20;
    options.tuning.part_size = 5 << 20;
    let to = S3Exporter::new(options, ExportOptions::default()).unwrap();
    for (path, outcome) in copy(&importer(&from, "", &[]), &to) {
        assert_eq!(outcome, Outcome::Restored, "{path:?}");
    }
    for (key, body) in &bodies {
        assert!(demanding.get(key).body == *body, "{key}");
    }
    // One refusal tells what is wanted.
    let counters = demanding.own_server().counters();
    assert_eq!((counters.of("PutObject"), counters.of("UploadPart")), (5, 3), "{:?}", counters.requests);
}

#[test]
fn a_server_that_ignores_the_condition_of_a_get_is_not_believed() {
    let bed = own(s3server::Options { conditional_get: false, ..plain() });
    let server = bed.own_server();
    let importer = importer(&bed, "", &[]);
    let (short, long) = (17 * MIB, 26 * MIB);
    for (before, after) in [(3, 5), (5, 3), (short, long), (long, short), (long, 5), (5, long)] {
        server.insert("bucket", "k", Object::new(noise(1, before)));
        let record = objects(&importer).remove(0);
        server.insert("bucket", "k", Object::new(noise(2, after)));
        let (bytes, info) = read(&importer, &record).unwrap();
        assert!(bytes == noise(2, after), "{before} {after}: {} bytes", bytes.len());
        let entry = entry(&record, info);
        let stored = server.object("bucket", "k").unwrap();
        assert_eq!(entry.metadata("s3.etag"), Some(stored.etag.as_bytes()), "{before} {after}");
        assert_eq!(entry.metadata("s3.size"), Some(after.to_string().as_bytes()), "{before} {after}");
        let change = importer.compare(&objects(&importer)[0], &entry, Timestamp::now());
        assert_eq!(change, Change::Content, "its listed time is not known");
    }
}

/// What a proxy answers in the server's place: success, and a page of its own.
const PAGE: &str = "<html><body>Please log in.</body></html>";

#[test]
fn a_page_of_a_proxy_is_not_taken_for_an_object() {
    let bed = own(plain());
    let server = bed.own_server();
    let importer = importer(&bed, "", &[]);
    for length in [PAGE.len(), 5000, 17 * MIB] {
        server.insert("bucket", "k", Object::new(noise(1, length)));
        let record = objects(&importer).remove(0);
        server.inject(Fault::on("GetObject", Action::Replace(PAGE.into())).times(1));
        let (bytes, _) = read(&importer, &record).unwrap();
        assert!(bytes == noise(1, length), "{length}: {} bytes", bytes.len());
        server.inject(Fault::on("GetObject", Action::Replace(PAGE.into())));
        let error = read(&importer, &record).unwrap_err();
        assert!(error.to_string().contains("the answer has no ETag"), "{length}: {error}");
        server.clear_faults();
    }
}

#[test]
fn a_page_of_a_proxy_does_not_say_that_anything_was_stored() {
    let bed = own(plain());
    let server = bed.own_server();
    let store = store(&bed);
    server.inject(Fault::on("PutObject", Action::Replace(PAGE.into())).times(1));
    store.put(Kind::State, ID, Body::Bytes(b"state")).unwrap();
    assert_eq!(server.keys("bucket").len(), 1, "it was sent once more");
    server.inject(Fault::on("PutObject", Action::Replace(PAGE.into())));
    let error = store.put(Kind::State, Id([8; 32]), Body::Bytes(b"state")).unwrap_err();
    assert!(error.to_string().contains("the answer has no ETag"), "{error}");
    assert_eq!(server.keys("bucket").len(), 1);
}

#[test]
fn an_older_object_of_as_many_parts_is_not_what_was_uploaded() {
    let bed = own(plain());
    let server = bed.own_server();
    server.insert("bucket", "src/big", Object::new("x"));
    let importer = importer(&bed, "src/", &[]);
    let record = objects(&importer).remove(0);
    let info = read(&importer, &record).unwrap().1;
    let entry = entry(&record, info);
    let mut options = bed.options("dst/", &[]);
    options.tuning.multipart_threshold = 6 << 20;
    options.tuning.part_size = 5 << 20;
    let exporter = S3Exporter::new(options, ExportOptions::default()).unwrap();
    let put = |content: Vec<u8>| {
        let path = RawString::from("big");
        exporter.file(&Item { path: &path, entry: &entry, xattrs: &[] }, &Bytes::new(content))
    };
    assert_eq!(put(noise(1, 7 * MIB)).unwrap(), Outcome::Restored);
    server.inject(Fault::on("CompleteMultipartUpload", Action::status(404, "NoSuchUpload")).times(1));
    let error = put(noise(2, 7 * MIB)).unwrap_err();
    assert!(error.to_string().contains("NoSuchUpload"), "{error}");
    assert!(bed.get("dst/big").body == noise(1, 7 * MIB));
}

#[test]
fn keys_in_no_order_are_backed_up_and_found_again() {
    let bed = own(s3server::Options { listing: Listing::Unordered, page_size: 7, ..plain() });
    let server = bed.own_server();
    let mut expected: Vec<Vec<u8>> = (0..150).map(|n| format!("src/d{}/f{n}", n % 7).into_bytes()).collect();
    expected.extend(ODD_KEYS.iter().map(|key| format!("src/{key}").into_bytes()));
    for key in &expected {
        server.insert("bucket", key, Object::new(key.as_slice()));
    }
    let importer = importer(&bed, "src/", &[]);
    let found = keys(&objects(&importer));
    assert!(!found.is_sorted(), "the test wants a listing without an order");
    assert_eq!(sorted(found), sorted(expected.clone()));
    let storage = own(plain());
    let repository = repository(&storage, "", None);
    let run = || {
        let tally = Tally::default();
        let report = backup(&repository, &importer, &BackupOptions::default(), &tally).unwrap();
        assert_eq!(report.error_count, 0, "{:?}", tally.problems());
        (report.file_count, report.unchanged_count)
    };
    let count = expected.len() as u64;
    assert_eq!(run(), (count, 0));
    server.reset_counters();
    assert_eq!(run(), (count, count));
    assert_eq!(server.counters().of("GetObject"), 0);
    let snapshot = list(&repository).0.remove(0);
    let target = exporter(&bed, "dst/");
    let report =
        restore(&repository, &snapshot, None, &target, &RestoreOptions::default(), &Tally::default());
    assert_eq!(report.unwrap().error_count, 0);
    for key in &expected {
        let copied = [b"dst/", &key[4..]].concat();
        assert_eq!(*server.object("bucket", &copied).unwrap().body, *key, "{}", key.escape_ascii());
    }
}

#[test]
fn a_listing_without_order_that_goes_in_circles_ends() {
    let bed = own(s3server::Options { listing: Listing::Unordered, page_size: 5, ..plain() });
    let server = bed.own_server();
    for n in 0..60 {
        server.insert("bucket", format!("k{n}"), Object::new("x"));
    }
    // Every fifth page is the first one.
    server.inject(Fault::when(
        |seen| seen.op == "ListObjectsV2" && seen.number.is_multiple_of(5),
        Action::StalePage,
    ));
    let error = importer(&bed, "", &[]).scan(&mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(error.kind == ErrorKind::Protocol && error.to_string().contains("repeats itself"), "{error}");
}

#[test]
fn a_server_of_the_first_listing_is_listed_whole() {
    let bed = own(s3server::Options { listing: Listing::Version1, page_size: 3, ..plain() });
    let server = bed.own_server();
    for key in ODD_KEYS {
        server.insert("bucket", key, Object::new(key));
    }
    let importer = importer(&bed, "", &[]);
    let found = objects(&importer);
    assert_eq!(keys(&found), server.keys("bucket"));
    for record in &found {
        assert_eq!(read(&importer, record).unwrap().0, record.locator);
    }
    let pages = ODD_KEYS.len().div_ceil(3) as u64;
    assert_eq!(server.counters().of("ListObjectsV2"), pages);
    // A stale page is asked for again, one that is always stale is no listing.
    let number = server.counters().of("ListObjectsV2") + 3;
    server.inject(Fault::when(
        move |seen| seen.op == "ListObjectsV2" && seen.number == number,
        Action::StalePage,
    ));
    assert_eq!(keys(&objects(&importer)), server.keys("bucket"));
    server.inject(Fault::on("ListObjectsV2", Action::StalePage));
    assert_eq!(importer.scan(&mut |_| ControlFlow::Continue(())).unwrap_err().kind, ErrorKind::Protocol);
    server.clear_faults();
    let store = store(&bed);
    for n in 0..20 {
        store.put(Kind::State, Id([n; 32]), Body::Bytes(b"state")).unwrap();
    }
    let mut count = 0;
    store.list(Kind::State, &mut |_| count += 1).unwrap();
    assert_eq!(count, 20);
}

#[test]
fn versions_of_a_stale_page_are_asked_for_again() {
    let bed = own(s3server::Options { page_size: 4, ..plain() });
    let server = bed.own_server();
    server.keep_versions("bucket");
    for n in 0..20 {
        server.insert("bucket", format!("k{:02}", n / 3), Object::new(format!("{n}")));
    }
    let importer = importer(&bed, "", &[("versions", "all")]);
    let is_page = |seen: &s3server::Seen| seen.op == "ListObjectVersions";
    server.inject(Fault::when(move |seen| is_page(seen) && seen.number == 3, Action::StalePage));
    let mut paths: Vec<_> = objects(&importer).into_iter().map(|record| record.path).collect();
    paths.sort();
    paths.dedup();
    assert_eq!((paths.len(), server.counters().of("ListObjectVersions")), (20, 6));
    server.inject(Fault::when(is_page, Action::StalePage));
    let error = importer.scan(&mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(error.kind == ErrorKind::Protocol && error.to_string().contains("repeats itself"), "{error}");
}

#[test]
fn bodies_without_a_length_are_read_whole_and_no_further() {
    let bed = own(s3server::Options { chunked: true, page_size: 3, ..plain() });
    let server = bed.own_server();
    let sizes = [0, 1, 9_999, 10_000, 300_000, 16 * MIB - 1, 16 * MIB, 21 * MIB];
    for size in sizes {
        server.insert("bucket", format!("src/{size}"), Object::new(noise(3, size)));
    }
    let source = importer(&bed, "src", &[]);
    let records = objects(&source);
    assert_eq!(records.len(), sizes.len());
    for record in &records {
        let size: usize = record.path.lossy().rsplit('/').next().unwrap().parse().unwrap();
        assert!(read(&source, record).unwrap().0 == noise(3, size), "{size}");
    }
    copy(&source, &exporter(&bed, "dst"));
    assert!(*server.object("bucket", "dst/300000").unwrap().body == noise(3, 300_000));

    let storage = store(&bed);
    storage.create(b"config").unwrap();
    storage.put(Kind::Packfile, ID, Body::Bytes(&noise(4, 100_000))).unwrap();
    assert!(storage.get(Kind::Packfile, ID).unwrap() == noise(4, 100_000));
    storage
        .read_range(Kind::Packfile, ID, 5, 1000, &mut |bytes| assert!(bytes == &noise(4, 100_000)[5..1005]))
        .unwrap();
    // No archive, but read as far as that is seen.
    let error = S3Archive::open(bed.options("src/300000", &[])).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid, "{error}");

    // More than was listed under the same ETag: not cut off in silence.
    let record = records.iter().find(|record| record.path.lossy().ends_with("/9999")).unwrap();
    let etag = server.object("bucket", &record.locator).unwrap().etag.clone();
    let longer = Action::Status {
        status: 200,
        code: "",
        headers: vec![("etag", format!("\"{etag}\""))],
        xml: "x".repeat(20_000),
    };
    server.inject(Fault::on("GetObject", longer));
    let error = read(&source, record).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Protocol | ErrorKind::Transport), "{error}");
}

/// A server that gives one answer to everything.
fn parrot(answer: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = answer.to_owned();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                head.push(byte[0]);
            }
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

#[test]
fn an_answer_of_another_range_is_not_believed() {
    let bed = own(plain());
    let read = |status: &str, range: &str, body: &str| {
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{range}etag: \"e\"\r\nconnection: close\r\n\r\n{body}"
        );
        let mut options = bed.options("", &[]);
        options.location.endpoint.port = parrot(&answer).rsplit(':').next().unwrap().parse().ok();
        let mut found = Vec::new();
        let store = S3Store::new(options).unwrap();
        let result = store.read_range(Kind::State, ID, 5, 10, &mut |bytes| found.extend_from_slice(bytes));
        result.map(|()| String::from_utf8(found).unwrap())
    };
    let right = "content-range: bytes 5-14/100\r\n";
    assert_eq!(read("206", right, "0123456789").unwrap(), "0123456789");
    for (status, range, body) in [
        ("206", "content-range: bytes 0-9/100\r\n", "0123456789"),
        ("206", "content-range: bytes 5-13/14\r\n", "012345678"),
        ("206", "", "0123456789"),
        ("200", "", "0123456789"),
        ("200", right, "0123456789"),
        ("206", right, "01234567890"),
    ] {
        let error = read(status, range, body).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Protocol, "{status} {range} {body}: {error}");
    }
}

#[test]
fn what_a_head_alone_is_told_is_enough() {
    let options = s3server::Options { region: "eu-far-9".into(), ..plain() };
    let redirect = |status, region: Option<&str>| Action::Status {
        status,
        code: "",
        headers: region.map(|region| ("x-amz-bucket-region", region.to_owned())).into_iter().collect(),
        xml: String::new(),
    };
    for status in [301, 307, 400] {
        let bed = own(options.clone());
        let server = bed.own_server();
        store(&bed).put(Kind::State, ID, Body::Bytes(b"state")).unwrap();
        let mut elsewhere = bed.options("", &[]);
        elsewhere.region = "us-east-1".into();
        // The region is learnt from a header where there is no body, once.
        let store = S3Store::new(elsewhere.clone()).unwrap();
        server.reset_counters();
        server.inject(Fault::on("HeadObject", redirect(status, Some("eu-far-9"))).times(1));
        assert_eq!(store.size(Kind::State, ID).unwrap(), 5, "{status}");
        assert_eq!((store.size(Kind::State, ID).unwrap(), server.counters().of("HeadObject")), (5, 3));
        // Where there is none, what to look at is said, and nothing is tried again.
        server.reset_counters();
        server.inject(Fault::on("HeadObject", redirect(status, None)));
        let error = S3Store::new(elsewhere).unwrap().size(Kind::State, ID).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("check region (us-east-1 was used)") && text.contains("TESTREQUESTID"),
            "{text}"
        );
        assert_eq!(server.counters().total(), 1, "{status}");
    }
    // So is the clock.
    for clock_skew in [-7200, 7200] {
        let bed = own(s3server::Options { clock_skew, ..plain() });
        bed.own_server().insert("bucket", format!("states/07/{ID}"), Object::new("state"));
        assert_eq!(store(&bed).size(Kind::State, ID).unwrap(), 5);
        assert_eq!(bed.own_server().counters().total(), 2);
    }
}

#[test]
fn virtual_host_style_addresses_the_same_odd_keys() {
    let bed = own(s3server::Options { page_size: 10, ..plain() });
    let server = bed.own_server();
    let mut options = bed.options("", &[("virtual_host", "true")]);
    options.location.endpoint.host = "localhost".into();
    for key in ODD_KEYS {
        server.insert("bucket", key, Object::new(key));
    }
    let importer = S3Importer::new(options.clone()).unwrap();
    let found = objects(&importer);
    assert_eq!(keys(&found), server.keys("bucket"));
    for record in &found {
        assert_eq!(read(&importer, record).unwrap().0, record.locator);
    }
    options.location.prefix = "dst".into();
    let to = S3Exporter::new(options, ExportOptions::default()).unwrap();
    copy(&importer, &to);
    for key in ODD_KEYS {
        assert_eq!(*server.object("bucket", format!("dst/{key}")).unwrap().body, key.as_bytes(), "{key:?}");
    }
    assert!(
        server.counters().targets.iter().all(|target| !target.contains(" /bucket")),
        "by the host's name"
    );
}

#[test]
fn where_nobody_may_look_nothing_is_taken_for_missing() {
    // Whoever may not list gets 403 for a key that is not there: that it is free is not known then.
    let bed = own(plain());
    bed.put("k", &[], b"source");
    bed.own_server().set_key("WRITER", Key::only("writer-secret", &["PutObject"]));
    let source = importer(&bed, "", &[]);
    let record = objects(&source).remove(0);
    let (bytes, info) = read(&source, &record).unwrap();
    for existing in [ExistingObject::Skip, ExistingObject::Fail] {
        let options = bed.options_as("WRITER", "writer-secret", "dst", &[]);
        let to = S3Exporter::new(options, ExportOptions { existing, ..ExportOptions::default() }).unwrap();
        let path = RawString::from("k");
        let item = Item { path: &path, entry: &entry(&record, info.clone()), xattrs: &[] };
        let error = to.file(&item, &Bytes::new(bytes.clone())).unwrap_err();
        assert!(error.kind == ErrorKind::Denied && error.to_string().contains("s3:ListBucket"), "{error}");
    }
    assert_eq!(bed.own_server().counters().of("PutObject"), 1, "the test's own");
    // A plain restore has no need to know.
    let to = S3Exporter::new(bed.options_as("WRITER", "writer-secret", "dst", &[]), ExportOptions::default());
    assert_eq!(copy(&source, &to.unwrap())[0].1, Outcome::Restored);
}

#[test]
fn an_access_key_may_name_a_project() {
    let bed = own(plain());
    let (name, secret) = ("SCWXXXXXXXXXXXXXXXXX@6867048b-fe12-4e96-835e-41c79a39604b", "project-secret");
    bed.own_server().set_key(name, Key::all(secret));
    bed.put("x/../y", &[], b"signed by hand");
    let options = bed.options_as(name, secret, "", &[]);
    S3Store::new(options.clone()).unwrap().put(Kind::State, ID, Body::Bytes(b"state")).unwrap();
    let importer = S3Importer::new(options).unwrap();
    let found = objects(&importer);
    assert_eq!(found.len(), 2);
    assert_eq!(read(&importer, found.last().unwrap()).unwrap().0, b"signed by hand");
}

#[test]
fn an_empty_bucket_is_an_empty_snapshot() {
    Bed::each(|bed| {
        let source = importer(bed, "", &[]);
        assert_eq!(scan(&source).len(), 1, "the root");
        let storage = own(plain());
        let repository = repository(&storage, "", None);
        let tally = Tally::default();
        let report = backup(&repository, &source, &BackupOptions::default(), &tally).unwrap();
        assert_eq!((report.file_count, report.error_count, tally.problems().len()), (0, 0, 0));
        let snapshot = list(&repository).0.remove(0);
        let target = bed.beside("nothing");
        let report =
            restore(&repository, &snapshot, None, &exporter(&target, ""), &RestoreOptions::default(), &tally);
        assert_eq!(report.unwrap().error_count, 0);
        assert_eq!(target.keys(), Vec::<Vec<u8>>::new());
    });
}

#[test]
fn odd_metadata_and_tags_make_the_round_trip() {
    Bed::each(|bed| {
        let long = "v".repeat(1900);
        let headers: [(&str, &[u8]); 6] = [
            ("x-amz-meta-empty", b""),
            ("x-amz-meta-a.b_c-d", b"comma, quote\" and  two spaces; x=y"),
            ("x-amz-meta-long", long.as_bytes()),
            ("content-disposition", "attachment; filename*=UTF-8''%C3%A9.txt".as_bytes()),
            ("cache-control", b"no-cache, no-store"),
            ("x-amz-tagging", b"t%C3%A4g=a%2Bb%3D%20c&empty=&path%2Fx%3Ay=%40-_."),
        ];
        bed.put("src/o", &headers, b"body");
        let source = importer(bed, "src/", &[("tags", "true")]);
        for (path, outcome) in copy(&source, &exporter(bed, "dst/")) {
            assert_eq!(outcome, Outcome::Restored, "{path:?}");
        }
        let (before, after) = (bed.get("src/o"), bed.get("dst/o"));
        for (name, value) in &headers[..5] {
            assert_eq!(after.header(name).as_bytes(), *value, "{name}");
            assert_eq!(after.headers.contains_key(*name), before.headers.contains_key(*name), "{name}");
        }
        let tags = bed.tags("dst/o");
        assert_eq!(tags, bed.tags("src/o"));
        let expected = [("empty", ""), ("path/x:y", "@-_."), ("t\u{e4}g", "a+b= c")];
        assert_eq!(tags, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    });
}
