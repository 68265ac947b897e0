//! Nothing of an object is lost: through a store, through a folder, and on request what needs rights of its own.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use plakar::connector::{Exporter, Importer};
use plakar::connectors::fs::{FsExporter, FsImporter};
use plakar::connectors::s3::{ExistingObject, ExportOptions, ImportOptions, S3Exporter, S3Importer};
use plakar::format::entry::Entry;
use plakar::snapshot::vfs::read::{Vfs, Visit};
use plakar::snapshot::{
    BackupOptions, RestoreOptions, RestoreReport, SnapshotInfo, Tally, backup, list, restore,
};
use plakar::store::Repository;

use crate::s3_bed::Bed;
use crate::s3_engine::repository;
use crate::s3_importer::ODD_KEYS;
use crate::s3server::{self, Key, Object};

fn store() -> (Bed, Arc<Repository>) {
    let bed = Bed::own(s3server::Options::default());
    let repository = repository(&bed, "", None);
    (bed, repository)
}

fn take(repository: &Arc<Repository>, importer: &dyn Importer) -> (SnapshotInfo, Tally) {
    let monitor = Tally::default();
    let report = backup(repository, importer, &BackupOptions::default(), &monitor).unwrap();
    let snapshot = list(repository).0.into_iter().find(|found| found.id == report.snapshot).unwrap();
    (snapshot, monitor)
}

fn bring(
    repository: &Repository,
    snapshot: &SnapshotInfo,
    exporter: &dyn Exporter,
) -> (RestoreReport, Tally) {
    let monitor = Tally::default();
    let report = restore(repository, snapshot, None, exporter, &RestoreOptions::default(), &monitor).unwrap();
    (report, monitor)
}

fn importer(bed: &Bed, more: &[(&str, &str)]) -> S3Importer {
    S3Importer::new(bed.options("", more)).unwrap()
}

fn exporter(bed: &Bed, more: &[(&str, &str)]) -> S3Exporter {
    S3Exporter::new(bed.options("", more), ExportOptions::default()).unwrap()
}

/// Returns the entries of the files of a snapshot by their raw keys.
fn entries(repository: &Repository, snapshot: &SnapshotInfo) -> BTreeMap<Vec<u8>, Entry> {
    let vfs = Vfs::open(repository, snapshot.header.source().unwrap()).unwrap();
    let mut out = BTreeMap::new();
    for visit in vfs.walk(b"/").unwrap() {
        if let Visit::Entry(child) = visit.unwrap()
            && let Some(key) = child.entry.metadata("s3.key")
        {
            out.insert(key.to_vec(), child.entry.clone());
        }
    }
    out
}

const KEPT: [&str; 9] = [
    "content-type",
    "content-encoding",
    "content-language",
    "content-disposition",
    "cache-control",
    "expires",
    "x-amz-meta-colour",
    "x-amz-meta-word",
    "x-amz-meta-raw",
];

/// Fills a bucket with everything that is hard to keep.
fn fill(bed: &Bed) {
    let long = format!("long/{}", "k/\u{e9}\u{1}".repeat(204)).chars().take(1019).collect::<String>();
    let mut long: String = long
        .chars()
        .scan(0, |sum, c| {
            *sum += c.len_utf8();
            (*sum <= 1024).then_some(c)
        })
        .collect();
    while long.len() < 1024 {
        long.push('x');
    }
    let controls: String = (1..32_u8).chain([127]).map(char::from).collect();
    let extra = [long.as_str(), controls.as_str(), "col", "col/x", "col/", "col//y", "%~m/n", "%~m"];
    for key in ODD_KEYS.iter().chain(&extra) {
        let headers: [(&str, &[u8]); 9] = [
            ("content-type", b"text/x-odd; charset=latin1"),
            ("content-encoding", b"gzip"),
            ("content-language", b"fr"),
            ("content-disposition", b"attachment; filename=\"a  b\""),
            ("cache-control", b"max-age=5"),
            ("expires", b"Thu, 01 Dec 2044 16:00:00 GMT"),
            ("x-amz-meta-colour", b"blue"),
            ("x-amz-meta-word", b"=?UTF-8?B?w6l0w6k=?="),
            ("x-amz-tagging", b"team=core&note=a%20b%26c"),
        ];
        bed.put(key, &headers, key.as_bytes());
    }
    bed.put("plain", &[], b"nothing special");
    if bed.server.is_some() {
        bed.put(
            "raw",
            &[("x-amz-meta-raw", b"\xe9t\xe9"), ("x-amz-website-redirect-location", b"/x")],
            b"raw",
        );
        bed.put("class", &[("x-amz-storage-class", b"ONEZONE_IA")], b"class");
    }
}

fn assert_same(a: &Bed, b: &Bed) {
    let keys = a.keys();
    assert_eq!(b.keys(), keys);
    for key in keys {
        let (one, other) = (a.get(&key), b.get(&key));
        let name = key.escape_ascii();
        assert_eq!(other.body, one.body, "{name}");
        for header in KEPT.iter().chain(&["x-amz-website-redirect-location", "x-amz-storage-class"]) {
            let bytes =
                |got: &crate::s3_bed::Fetched| got.headers.get(*header).map(|v| v.as_bytes().to_vec());
            assert_eq!(bytes(&other), bytes(&one), "{name} {header}");
        }
        assert_eq!(b.tags(&key), a.tags(&key), "{name}");
    }
}

#[test]
fn everything_goes_through_a_store() {
    Bed::each(|bed| {
        fill(bed);
        let (_storage, repository) = store();
        let tags = [("tags", "true")];
        let (snapshot, monitor) = take(&repository, &importer(bed, &tags));
        assert_eq!(monitor.problems().len(), 0, "{:?}", monitor.problems());
        let target = bed.beside("copy");
        let (report, monitor) = bring(&repository, &snapshot, &exporter(&target, &[]));
        assert_eq!((report.error_count, report.partly_count), (0, 0), "{:?}", monitor.problems());
        assert_same(bed, &target);
    });
}

/// Moves the attributes that hold metadata into a sidecar, as a restore to a file system without attributes does.
fn to_sidecar(folder: &Path) {
    let base64 = base64::engine::general_purpose::STANDARD;
    let mut lines = String::new();
    let mut pending = vec![folder.to_owned()];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(at) = pending.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { pending.push(path) } else { files.push(path) }
        }
    }
    for file in files {
        let mut names = vec![0; 65_536];
        let length = rustix::fs::listxattr(&file, &mut names).unwrap();
        let mut items = Vec::new();
        for name in names[..length].split(|&byte| byte == 0).filter(|name| name.starts_with(b"user.s3.")) {
            let mut value = vec![0; 65_536];
            let length = rustix::fs::getxattr(&file, name, &mut value).unwrap();
            rustix::fs::removexattr(&file, name).unwrap();
            items.push(serde_json::json!({
                "key": std::str::from_utf8(&name[5..]).unwrap(),
                "base64": base64.encode(&value[..length]),
            }));
        }
        let path = file.strip_prefix(folder).unwrap().as_os_str().as_bytes();
        let line = serde_json::json!({ "path_base64": base64.encode(path), "metadata": items });
        lines.push_str(&line.to_string());
        lines.push('\n');
    }
    std::fs::write(folder.join(".plakar-s3-metadata.jsonl"), lines).unwrap();
}

#[test]
fn everything_goes_through_a_folder() {
    Bed::each(|bed| {
        fill(bed);
        let (_storage, repository) = store();
        let (snapshot, _) = take(&repository, &importer(bed, &[("tags", "true")]));
        for sidecar in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path().canonicalize().unwrap().join("restored");
            let fs = FsExporter::builder(&root).build().unwrap();
            let (report, monitor) = bring(&repository, &snapshot, &fs);
            assert_eq!(report.error_count, 0, "{:?}", monitor.problems());
            if sidecar {
                to_sidecar(&root);
            }
            let place = FsImporter::builder().place(&root).build().unwrap();
            let (again, monitor) = take(&repository, &place);
            assert_eq!(monitor.problems().len(), 0, "{:?}", monitor.problems());
            let target = bed.beside(if sidecar { "sidecar" } else { "attributes" });
            let (report, monitor) = bring(&repository, &again, &exporter(&target, &[]));
            assert_eq!((report.error_count, report.partly_count), (0, 0), "{:?}", monitor.problems());
            assert_same(bed, &target);

            // A part of the folder finds the metadata, too: what is restored beside it is not left out.
            let part = FsImporter::builder().place(root.join("double")).build().unwrap();
            let (again, _) = take(&repository, &part);
            assert!(entries(&repository, &again).contains_key(b"double//slash".as_slice()), "{sidecar}");
        }
    });
}

const PUBLIC: &str = "http://acs.amazonaws.com/groups/global/AllUsers";

fn acl(bed: &Bed, key: &str) -> String {
    String::from_utf8(bed.request("GET", Some(key.as_bytes()), "acl=", &[], b"").body).unwrap()
}

#[test]
fn access_lists_come_along_on_request() {
    Bed::each(|bed| {
        bed.put("open", &[], b"x");
        bed.put("closed", &[], b"x");
        let there = acl(bed, "open");
        let owner = s3server::elements(&there, "ID")[0].to_owned();
        let grant = |kind: &str, who: &str, what: &str| {
            format!(
                "<Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"{kind}\">{who}\
                 </Grantee><Permission>{what}</Permission></Grant>"
            )
        };
        let own = grant("CanonicalUser", &format!("<ID>{owner}</ID>"), "FULL_CONTROL");
        let public = grant("Group", &format!("<URI>{PUBLIC}</URI>"), "READ");
        let body = format!(
            "<AccessControlPolicy xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Owner><ID>{owner}</ID></Owner>\
             <AccessControlList>{own}{public}</AccessControlList></AccessControlPolicy>"
        );
        let answer = bed.request("PUT", Some(b"open"), "acl=", &[], body.as_bytes());
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));

        let (_storage, repository) = store();
        let (plain, _) = take(&repository, &importer(bed, &[]));
        assert!(entries(&repository, &plain).values().all(|entry| entry.metadata("s3.acl").is_none()));
        // Asked for now, they are read although nothing changed.
        let (snapshot, monitor) = take(&repository, &importer(bed, &[("acl", "true")]));
        assert_eq!(monitor.problems().len(), 0, "{:?}", monitor.problems());
        let found = entries(&repository, &snapshot);
        let text = |key: &str| {
            String::from_utf8_lossy(found[key.as_bytes()].metadata("s3.acl").unwrap()).into_owned()
        };
        assert!(text("open").contains("READ=uri%3A"), "{}", text("open"));
        assert!(
            text("closed").starts_with("owner=") && !text("closed").contains("READ="),
            "{}",
            text("closed")
        );

        for (option, skip, open) in [("false", false, false), ("true", true, false), ("true", false, true)] {
            let target = bed.beside(&format!("acl-{option}-{skip}"));
            let export = ExportOptions { skip_permissions: skip, ..ExportOptions::default() };
            let exporter = S3Exporter::new(target.options("", &[("acl", option)]), export).unwrap();
            let (report, monitor) = bring(&repository, &snapshot, &exporter);
            assert_eq!((report.error_count, report.partly_count), (0, 0), "{:?}", monitor.problems());
            assert_eq!(acl(&target, "open").contains(PUBLIC), open, "{option} {skip}");
            assert!(!acl(&target, "closed").contains(PUBLIC));
        }
    });
}

#[test]
fn retention_and_holds_come_along_on_request() {
    let bed = Bed::own(s3server::Options::default());
    let server = bed.own_server();
    let until = "2094-01-02T03:04:05Z";
    let over = "2004-01-02T03:04:05Z";
    let held = |until: &str, hold| Object {
        retention: Some(("GOVERNANCE".into(), until.into())),
        hold,
        ..Object::new("x")
    };
    server.insert("bucket", "held", held(until, true));
    server.insert("bucket", "over", held(over, false));
    server.insert("bucket", "free", Object::new("x"));
    let (_storage, repository) = store();
    take(&repository, &importer(&bed, &[]));
    let (snapshot, monitor) = take(&repository, &importer(&bed, &[("retention", "true")]));
    assert_eq!(monitor.problems().len(), 0, "{:?}", monitor.problems());
    let found = entries(&repository, &snapshot);
    let get = |key: &str, name: &str| found[key.as_bytes()].metadata(name).map(<[u8]>::to_vec);
    assert_eq!(get("held", "s3.retain-until").unwrap(), until.as_bytes());
    assert_eq!(get("held", "s3.legal-hold").unwrap(), b"ON");
    assert_eq!(
        (get("free", "s3.retention-mode"), get("free", "s3.legal-hold").unwrap()),
        (None, b"OFF".to_vec())
    );
    server.reset_counters();
    take(&repository, &importer(&bed, &[("retention", "true")]));
    assert_eq!(server.counters().of("HeadObject"), 0, "what is known is not asked again");

    for (option, kept) in [("false", false), ("true", true)] {
        let target = bed.beside(&format!("held-{option}"));
        let (report, _) = bring(&repository, &snapshot, &exporter(&target, &[("retention", option)]));
        assert_eq!((report.error_count, report.partly_count), (0, 0));
        let object = server.object(&target.bucket, "held").unwrap();
        let wanted = kept.then(|| ("GOVERNANCE".to_owned(), until.to_owned()));
        assert_eq!((object.retention.clone(), object.hold), (wanted, kept));
        assert_eq!(server.object(&target.bucket, "over").unwrap().retention, None, "it is over");
    }
}

#[test]
fn a_missing_permission_loses_its_feature_alone() {
    let bed = Bed::own(s3server::Options::default());
    let server = bed.own_server();
    server.insert("bucket", "a", Object::new("x").tag("a", "b"));
    server.insert("bucket", "b", Object::new("y").tag("c", "d"));
    server.set_key("READER", Key::only("reader-secret", &["ListObjectsV2", "GetObject"]));
    let more = [("acl", "true"), ("retention", "true")];
    let reader = S3Importer::new(bed.options_as("READER", "reader-secret", "", &more)).unwrap();
    let (_storage, repository) = store();
    let (snapshot, monitor) = take(&repository, &reader);
    let found = entries(&repository, &snapshot);
    for entry in found.values() {
        assert_eq!(entry.metadata("s3.not-captured").unwrap(), b"tags,acl,retention,legal-hold");
    }
    assert_eq!(monitor.problems().len(), 1, "told once: {:?}", monitor.problems());
    assert!(monitor.problems()[0].message.contains("tags,acl"), "{:?}", monitor.problems());
    let facts = facts(&snapshot);
    assert_eq!(facts["s3.not-captured"], "location,creation date,versioning");
    assert_eq!((facts["s3.bucket"].as_str(), facts["s3.owner"].as_str()), ("bucket", "owner-1"));

    // The destination may put and nothing else.
    let import = ImportOptions { recheck: true, ..ImportOptions::default() };
    let full = S3Importer::with(bed.options("", &more), &import).unwrap();
    server.insert("bucket", "a", Object { acl: Some(public_acl()), ..Object::new("x") });
    let (snapshot, _) = take(&repository, &full);
    server.make_bucket("target");
    server.set_key("WRITER", Key::only("writer-secret", &["PutObject"]));
    let target = bed.beside("put-only");
    let options = target.options_as("WRITER", "writer-secret", "", &more);
    let writer = S3Exporter::new(options, ExportOptions::default()).unwrap();
    let (report, monitor) = bring(&repository, &snapshot, &writer);
    assert_eq!((report.error_count, report.partly_count), (0, 2), "{:?}", monitor.problems());
    let told: Vec<String> = monitor.problems().iter().map(|problem| problem.message.clone()).collect();
    assert!(told.iter().any(|message| message.contains("ACL")), "{told:?}");
    assert!(told.iter().any(|message| message.contains("tags")), "{told:?}");
    assert_eq!(target.get("a").body, b"x");
}

fn public_acl() -> String {
    format!(
        "<AccessControlPolicy><Owner><ID>owner-1</ID></Owner><AccessControlList><Grant><Grantee><URI>{PUBLIC}</URI>\
         </Grantee><Permission>READ</Permission></Grant></AccessControlList></AccessControlPolicy>"
    )
}

fn facts(snapshot: &SnapshotInfo) -> BTreeMap<String, String> {
    let source = snapshot.header.source().unwrap();
    source
        .context
        .iter()
        .flatten()
        .map(|pair| (pair.key.lossy().into_owned(), pair.value.lossy().into_owned()))
        .collect()
}

#[test]
fn the_bucket_is_described() {
    Bed::each(|bed| {
        bed.put("k", &[], b"x");
        let (_storage, repository) = store();
        let (snapshot, _) = take(&repository, &importer(bed, &[]));
        let facts = facts(&snapshot);
        assert_eq!(facts["s3.bucket"], bed.bucket);
        assert_eq!(facts["s3.endpoint"], bed.authority);
        assert!(facts["s3.created"].starts_with("20") && !facts["s3.owner"].is_empty(), "{facts:?}");
        assert_eq!(facts["s3.versioning"], "Off");
        assert!(!facts["s3.region"].is_empty() && !facts.contains_key("s3.not-captured"), "{facts:?}");
    });
}

#[test]
fn metadata_is_read_again_on_request_and_content_is_not() {
    Bed::each(|bed| {
        bed.put("k", &[("x-amz-meta-n", b"1"), ("x-amz-tagging", b"a=1")], b"content");
        let (_storage, repository) = store();
        let (first, _) = take(&repository, &importer(bed, &[("tags", "true")]));
        let tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>2</Value></Tag></TagSet></Tagging>";
        assert!(bed.request("PUT", Some(b"k"), "tagging=", &[], tags.as_bytes()).status < 300);
        let (second, _) = take(&repository, &importer(bed, &[("tags", "true")]));
        let import = ImportOptions { recheck: true, ..ImportOptions::default() };
        let recheck = S3Importer::with(bed.options("", &[("tags", "true")]), &import).unwrap();
        if let Some(server) = &bed.server {
            server.reset_counters();
        }
        let (third, _) = take(&repository, &recheck);
        if let Some(server) = &bed.server {
            let counters = server.counters();
            let seen = ["GetObject", "HeadObject", "GetObjectTagging"].map(|op| counters.of(op));
            assert_eq!(seen, [0, 1, 1]);
        }
        let get = |snapshot: &SnapshotInfo| {
            let found = entries(&repository, snapshot);
            let entry = &found[b"k".as_slice()];
            (
                entry.metadata("s3.tags").unwrap().to_vec(),
                entry.object,
                entry.metadata("s3.meta.n").unwrap().to_vec(),
            )
        };
        let (first, second, third) = (get(&first), get(&second), get(&third));
        assert_eq!((&first.0[..], &second.0[..], &third.0[..]), (&b"a=1"[..], &b"a=1"[..], &b"a=2"[..]));
        assert_eq!((first.1, first.2), (third.1, third.2));
    });
}

#[test]
fn existing_objects_are_replaced_kept_or_in_the_way() {
    Bed::each(|bed| {
        bed.put("there", &[], b"new");
        bed.put("absent", &[], b"new");
        let (_storage, repository) = store();
        let (snapshot, _) = take(&repository, &importer(bed, &[]));
        for (existing, body, counts) in [
            (ExistingObject::Replace, "new", (2, 0, 0)),
            (ExistingObject::Skip, "old", (1, 1, 0)),
            (ExistingObject::Fail, "old", (1, 0, 1)),
        ] {
            let target = bed.beside(&format!("{existing:?}").to_lowercase());
            target.put("there", &[], b"old");
            let export = ExportOptions { existing, ..ExportOptions::default() };
            let exporter = S3Exporter::new(target.options("", &[]), export).unwrap();
            let (report, monitor) = bring(&repository, &snapshot, &exporter);
            let got = (report.file_count, report.skipped_count, report.error_count);
            assert_eq!(got, counts, "{existing:?}: {:?}", monitor.problems());
            assert_eq!(target.get("there").body, body.as_bytes(), "{existing:?}");
            assert_eq!(target.get("absent").body, b"new");
        }
    });
}

#[test]
fn files_become_objects_and_files_again() {
    Bed::each(|bed| {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("src/sub/empty")).unwrap();
        for (name, mode, secs, nanos) in [
            ("plain", 0o640, 1_600_000_000, 123_456_789),
            ("sub/script", 0o755, -77, 5),
            ("sub/set", 0o4711, 1, 0),
        ] {
            let path = root.join("src").join(name);
            std::fs::write(&path, name).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let time = plakar::base::Timestamp { secs, nanos };
            let since = std::time::Duration::new(secs.unsigned_abs(), 0);
            let epoch = std::time::UNIX_EPOCH;
            let base = if secs < 0 { epoch - since } else { epoch + since };
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(base + std::time::Duration::new(0, time.nanos)).unwrap();
        }
        std::os::unix::fs::symlink("plain", root.join("src/link")).unwrap();
        let (_storage, repository) = store();
        let place = FsImporter::builder().place(root.join("src")).build().unwrap();
        let (snapshot, _) = take(&repository, &place);
        let export = ExportOptions { folder_markers: true, ..ExportOptions::default() };
        let target = S3Exporter::new(bed.options("", &[]), export).unwrap();
        let (report, monitor) = bring(&repository, &snapshot, &target);
        assert_eq!((report.file_count, report.unsupported_count), (3, 1), "{:?}", monitor.problems());
        assert_eq!(
            bed.keys(),
            ["plain", "sub/empty/", "sub/script", "sub/set"].map(|key| key.as_bytes().to_vec())
        );
        assert_eq!(bed.get("plain").header("x-amz-meta-mtime"), "1600000000.123456789");

        let (back, _) = take(&repository, &importer(bed, &[]));
        let fs = FsExporter::builder(root.join("back")).build().unwrap();
        let (report, monitor) = bring(&repository, &back, &fs);
        assert_eq!((report.error_count, report.partly_count), (0, 1), "{:?}", monitor.problems());
        for name in ["plain", "sub/script"] {
            let look = |folder: &str| {
                let metadata = std::fs::metadata(root.join(folder).join(name)).unwrap();
                (metadata.mode(), metadata.mtime(), metadata.mtime_nsec(), metadata.uid(), metadata.gid())
            };
            assert_eq!(look("back"), look("src"), "{name}");
        }
        let set = std::fs::metadata(root.join("back/sub/set")).unwrap();
        assert_eq!(set.mode() & 0o7777, 0o711, "no bucket gives away a set-id bit");
        // From there into a bucket once more, it is the same.
        let again = FsImporter::builder().place(root.join("back")).build().unwrap();
        let (again, _) = take(&repository, &again);
        let copy = bed.beside("copy");
        bring(&repository, &again, &exporter(&copy, &[]));
        assert_eq!(copy.keys(), bed.keys());
        assert_eq!(copy.get("plain").header("x-amz-meta-mode"), bed.get("plain").header("x-amz-meta-mode"));
    });
}

#[test]
fn an_archived_object_is_reported_and_the_rest_is_kept() {
    let bed = Bed::own(s3server::Options::default());
    let server = bed.own_server();
    server.insert("bucket", "cold", Object::new("x").class("GLACIER"));
    server.insert("bucket", "warm", Object::new("y"));
    let (_storage, repository) = store();
    let (snapshot, monitor) = take(&repository, &importer(&bed, &[]));
    assert_eq!(entries(&repository, &snapshot).len(), 1);
    let problems = monitor.problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].message.contains("archived in GLACIER"), "{problems:?}");
}

#[test]
fn an_archived_object_is_retrieved_on_request_and_waited_for() {
    let bed = Bed::own(s3server::Options::default());
    let server = bed.own_server();
    for n in 0..40 {
        server.insert("bucket", format!("cold/{n}"), Object::new(format!("cold {n}")).class("GLACIER"));
    }
    server.insert("bucket", "warm", Object::new("y"));
    let (_storage, repository) = store();
    let import = ImportOptions { retrieve: true, ..ImportOptions::default() };
    let retriever = S3Importer::with(bed.options("", &[]), &import).unwrap();
    let monitor = Tally::default();
    let options =
        BackupOptions { retrieval_pause: std::time::Duration::from_millis(10), ..BackupOptions::default() };
    let report = backup(&repository, &retriever, &options, &monitor).unwrap();
    assert_eq!((report.file_count, report.error_count), (41, 0), "{:?}", monitor.problems());
    let asked = server.retrievals("bucket");
    assert_eq!(asked.len(), 40);
    assert!(
        asked.iter().all(|(_, retrieval)| retrieval.days == 7 && retrieval.tier == "Standard"),
        "{asked:?}"
    );

    // Once they are in the store, nothing is asked for any more.
    server.forget_retrievals();
    server.reset_counters();
    let report = backup(&repository, &retriever, &options, &monitor).unwrap();
    assert_eq!((report.unchanged_count, server.retrievals("bucket").len()), (41, 0));
}

#[test]
fn a_wait_for_cold_storage_can_be_given_up() {
    let bed = Bed::own(s3server::Options { retrieval_looks: u32::MAX, ..s3server::Options::default() });
    bed.own_server().insert("bucket", "cold", Object::new("x").class("GLACIER"));
    let (_storage, repository) = store();
    let import = ImportOptions { retrieve: true, ..ImportOptions::default() };
    let retriever = S3Importer::with(bed.options("", &[]), &import).unwrap();
    let cancel = plakar::base::Cancel::new();
    let options = BackupOptions { cancel: cancel.clone(), ..BackupOptions::default() };
    std::thread::scope(|scope| {
        let run = scope.spawn(|| backup(&repository, &retriever, &options, &Tally::default()));
        while bed.own_server().retrievals("bucket").is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        cancel.cancel();
        assert!(run.join().unwrap().is_err());
    });
}

#[test]
fn a_failure_of_the_store_does_not_wait_for_cold_storage() {
    let bed = Bed::own(s3server::Options { retrieval_looks: u32::MAX, ..s3server::Options::default() });
    bed.own_server().insert("bucket", "cold", Object::new("x").class("GLACIER"));
    bed.own_server().insert("bucket", "warm", Object::new("y"));
    let (storage, repository) = store();
    let is_packfile = |seen: &s3server::Seen| seen.key.windows(10).any(|part| part == b"packfiles/");
    storage.own_server().inject(s3server::Fault::when(
        move |seen| seen.op == "PutObject" && is_packfile(seen),
        s3server::Action::status(403, "AccessDenied"),
    ));
    let import = ImportOptions { retrieve: true, ..ImportOptions::default() };
    let retriever = S3Importer::with(bed.options("", &[]), &import).unwrap();
    let cancel = plakar::base::Cancel::new();
    let options = BackupOptions {
        cancel: cancel.clone(),
        // The first content that is stored makes a checkpoint.
        checkpoints: plakar::store::CheckpointPolicy { bytes: 1, ..Default::default() },
        retrieval_pause: std::time::Duration::from_millis(10),
        ..BackupOptions::default()
    };
    std::thread::scope(|scope| {
        let run = scope.spawn(|| backup(&repository, &retriever, &options, &Tally::default()));
        for _ in 0..6000 {
            if run.is_finished() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        // Should it wait, it is told to end, and the test fails instead of hanging.
        cancel.cancel();
        let error = run.join().unwrap().unwrap_err();
        assert!(error.to_string().contains("AccessDenied"), "{error}");
    });
}

#[test]
fn the_null_version_has_tags_of_its_own() {
    let bed = Bed::own(s3server::Options::default());
    let server = bed.own_server();
    server.insert("bucket", "k", Object::new("old").tag("t", "OLD"));
    server.keep_versions("bucket");
    server.insert("bucket", "k", Object::new("newer").tag("t", "NEW"));
    let (_storage, repository) = store();
    let (snapshot, monitor) = take(&repository, &importer(&bed, &[("versions", "true")]));
    assert_eq!(monitor.problems(), []);
    let vfs = Vfs::open(repository.as_ref(), snapshot.header.source().unwrap()).unwrap();
    let mut tags: Vec<(i64, Vec<u8>)> = Vec::new();
    for visit in vfs.walk(b"/").unwrap() {
        if let Visit::Entry(child) = visit.unwrap() {
            tags.extend(child.entry.metadata("s3.tags").map(|tags| (child.entry.info.size, tags.to_vec())));
        }
    }
    tags.sort();
    assert_eq!(tags, [(3, b"t=OLD".to_vec()), (5, b"t=NEW".to_vec())]);
}

#[test]
fn encryption_comes_along_or_is_reported_and_what_a_server_withholds_is_told() {
    let bed = Bed::own(s3server::Options::default());
    let server = bed.own_server();
    let kms = Object::new("x")
        .header("x-amz-server-side-encryption", "aws:kms")
        .header("x-amz-server-side-encryption-aws-kms-key-id", "key-1");
    server.insert("bucket", "kms", kms);
    server.insert("bucket", "plain", Object::new("x").header("x-amz-server-side-encryption", "AES256"));
    server.insert("bucket", "withheld", Object::new("x").header("x-amz-missing-meta", "2"));
    let (_storage, repository) = store();
    let (snapshot, monitor) = take(&repository, &importer(&bed, &[]));
    assert_eq!(monitor.problems().len(), 1, "{:?}", monitor.problems());
    let found = entries(&repository, &snapshot);
    assert_eq!(found[b"withheld".as_slice()].metadata("s3.not-captured").unwrap(), b"metadata");

    let target = bed.beside("kms");
    let (report, _) = bring(&repository, &snapshot, &exporter(&target, &[]));
    assert_eq!((report.error_count, report.partly_count), (0, 0));
    let header = |key: &str, name: &str| server.object(&target.bucket, key).unwrap().get(name);
    assert_eq!(header("kms", "x-amz-server-side-encryption").as_deref(), Some("aws:kms"));
    assert_eq!(header("kms", "x-amz-server-side-encryption-aws-kms-key-id").as_deref(), Some("key-1"));
    assert_eq!(header("plain", "x-amz-server-side-encryption"), None, "the server does as it always does");

    let target = bed.beside("without");
    let refusal = s3server::Action::status(400, "InvalidArgument");
    server
        .inject(s3server::Fault::when(|seen| seen.op == "PutObject" && seen.key == b"kms", refusal).times(1));
    let (report, monitor) = bring(&repository, &snapshot, &exporter(&target, &[]));
    assert_eq!((report.error_count, report.partly_count), (0, 1));
    assert!(monitor.problems()[0].message.contains("server-side encryption"), "{:?}", monitor.problems());
}

#[test]
fn what_stands_there_is_left_alone_only_if_all_of_it_is_equal() {
    Bed::each(|bed| {
        let headers: [(&str, &[u8]); 3] =
            [("content-type", b"x/y"), ("x-amz-meta-n", b"1"), ("x-amz-tagging", b"a=1&b=%20")];
        for key in ["same", "typed", "meta", "tags", "more"] {
            bed.put(key, &headers, key.as_bytes());
        }
        let (_storage, repository) = store();
        let (snapshot, _) = take(&repository, &importer(bed, &[("tags", "true")]));
        let target = bed.beside("there");
        let all = |tagging: &'static [u8],
                   kind: &'static [u8],
                   n: &'static [u8]|
         -> [(&'static str, &'static [u8]); 3] {
            [("content-type", kind), ("x-amz-meta-n", n), ("x-amz-tagging", tagging)]
        };
        target.put("same", &all(b"b=%20&a=1", b"x/y", b"1"), b"same");
        target.put("typed", &all(b"a=1&b=%20", b"x/z", b"1"), b"typed");
        target.put("meta", &all(b"a=1&b=%20", b"x/y", b"2"), b"meta");
        target.put("tags", &all(b"a=2&b=%20", b"x/y", b"1"), b"tags");
        let mut more = all(b"a=1&b=%20", b"x/y", b"1").to_vec();
        more.push(("cache-control", b"no-store"));
        target.put("more", &more, b"more");
        let (report, monitor) = bring(&repository, &snapshot, &exporter(&target, &[]));
        let counts = (report.file_count, report.equal_count, report.error_count);
        assert_eq!(counts, (4, 1, 0), "{:?}", monitor.problems());
        assert_same(bed, &target);
        let (report, _) = bring(&repository, &snapshot, &exporter(&target, &[]));
        assert_eq!((report.file_count, report.equal_count), (0, 5));
    });
}
