//! The main job as its users type it: a bucket into a store into an archive and back into a bucket.
//!
//! Against the server inside this process and, where the environment names one (`s3_bed`), against a real one.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use md5::Digest as _;

use crate::cli::User;
use crate::s3_bed::{Bed, Fetched};
use crate::s3server::{self, elements, percent_encode};

/// Headers that tell of the answer or of the server, not of what was stored.
const OF_THE_ANSWER: [&str; 10] = [
    "date",
    "last-modified",
    "etag",
    "server",
    "connection",
    "accept-ranges",
    "x-amz-request-id",
    "x-amz-id-2",
    "x-rgw-object-type",
    // The tags are compared themselves.
    "x-amz-tagging-count",
];

/// The large object's key.
const LARGE: &str = "large/in parts.bin";

/// An object as it is compared: headers, tags, length and digest of the content.
type Look = (BTreeMap<String, Vec<u8>>, Vec<(String, String)>, usize, blake3::Hash);

fn look(bed: &Bed) -> BTreeMap<String, Look> {
    let one = |key: Vec<u8>| {
        let Fetched { status, headers, body } = bed.get(&key);
        assert_eq!(status, 200, "{}", key.escape_ascii());
        let kept = headers.iter().filter(|(name, _)| !OF_THE_ANSWER.contains(&name.as_str()));
        let kept = kept.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
        let tags = bed.tags(&key);
        (String::from_utf8(key).unwrap(), (kept, tags, body.len(), blake3::hash(&body)))
    };
    bed.keys().into_iter().map(one).collect()
}

/// Compares object by object, so that a failure names one.
fn assert_same(source: &BTreeMap<String, Look>, target: &Bed) {
    let found = look(target);
    let keys = |of: &BTreeMap<String, Look>| of.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(keys(&found), keys(source));
    for (key, expected) in source {
        assert_eq!(&found[key], expected, "{key:?}");
    }
}

/// Bytes that differ from part to part and do not compress to nothing.
fn part(number: usize, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes[..length / 2]);
    bytes
}

/// Uploads an object in parts.
fn put_in_parts(bed: &Bed, key: &str, headers: &[(&str, &[u8])], (parts, length): (usize, usize)) {
    let key = key.as_bytes();
    let answer = bed.request("POST", Some(key), "uploads=", headers, b"");
    let text = String::from_utf8(answer.body).unwrap();
    let upload = percent_encode(elements(&text, "UploadId")[0].as_bytes(), b"");
    let mut list = Vec::new();
    for number in 1..=parts {
        let query = format!("partNumber={number}&uploadId={upload}");
        let answer = bed.request("PUT", Some(key), &query, &[], &part(number, length));
        assert_eq!(answer.status, 200);
        let etag = answer.header("etag");
        list.push(format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"));
    }
    let list = list.concat();
    let body = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
    let answer = bed.request("POST", Some(key), &format!("uploadId={upload}"), &[], body.as_bytes());
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
}

/// Fills a bucket with everything that a bucket may hold.
fn fill(bed: &Bed, large: (usize, usize)) {
    let full: [(&str, &[u8]); 9] = [
        ("content-type", b"text/x-odd; charset=utf-8"),
        ("cache-control", b"max-age=60, private"),
        ("content-disposition", b"attachment; filename=\"a b.txt\""),
        ("content-encoding", b"identity"),
        ("content-language", b"de, fr"),
        ("expires", b"Wed, 21 Oct 2065 07:28:00 GMT"),
        ("x-amz-meta-colour", b"blue green"),
        ("x-amz-meta-mtime", b"1600000000.123456789"),
        ("x-amz-tagging", b"team=blue&k%20ey=v%2Fa%2Bl"),
    ];
    bed.put("full.txt", &full, b"everything\n");
    bed.put("plain.txt", &[("content-type", b"text/plain")], b"hello\n");
    bed.put("no type of its own", &[], b"x");
    bed.put("empty", &[("x-amz-meta-note", b"nothing inside")], b"");
    bed.put("marker/", &[("content-type", b"application/x-directory"), ("x-amz-meta-m", b"1")], b"");
    bed.put("a", &[("content-type", b"a/file")], b"beside");
    bed.put("a/b", &[("content-type", b"a/b")], b"below");
    for key in [
        "with space",
        " both ends ",
        "plus+plus",
        "per%cent",
        "%41",
        "ünïcode/日本語 ☃.txt",
        "e\u{301}",
        "double//slash",
        "//leading",
        "%~tilde",
        "q?a=b&c#d",
    ] {
        bed.put(key, &[("content-type", b"odd/key"), ("x-amz-meta-for", b"a key")], key.as_bytes());
    }
    let headers: [(&str, &[u8]); 2] =
        [("content-type", b"application/x-large"), ("x-amz-meta-size", b"large")];
    put_in_parts(bed, LARGE, &headers, large);
    let tags = b"<Tagging><TagSet><Tag><Key>big</Key><Value>yes &amp; no</Value></Tag></TagSet></Tagging>";
    let md5 = base64::engine::general_purpose::STANDARD.encode(md5::Md5::digest(tags));
    let headers: [(&str, &[u8]); 1] = [("content-md5", md5.as_bytes())];
    let answer = bed.request("PUT", Some(LARGE.as_bytes()), "tagging=", &headers, tags);
    assert!(matches!(answer.status, 200 | 204), "{}", answer.status);
    assert_eq!(bed.tags(LARGE).len(), 1);
}

/// Source, store and destination.
struct Buckets {
    target: Bed,
    kloset: Bed,
    source: Bed,
}

impl Buckets {
    /// Runs a test on every server there is. The large object is 200 MiB on a real one where that is asked for.
    fn each(huge: bool, test: impl Fn(&Self)) {
        let run = |source: Bed| {
            let huge = huge && source.server.is_none();
            fill(&source, if huge { (25, 8 << 20) } else { (4, 5 << 20) });
            let (target, kloset) = (source.beside("target"), source.beside("kloset"));
            test(&Self { target, kloset, source });
        };
        run(Bed::own(s3server::Options::default()));
        if let Some(bed) = Bed::real() {
            run(bed);
        }
    }
}

fn user() -> User {
    let mut user = User::in_memory();
    user.set("PLAKAR_PASSPHRASE", "correct horse battery staple");
    user
}

/// Configures a place in the syntax of v1.0.2.
fn configure(user: &User, kind: &str, name: &str, bed: &Bed) {
    user.ok(&format!("config {kind} create {name}"));
    for (key, value) in [
        ("location", format!("s3://{}/{}", bed.authority, bed.bucket).as_str()),
        ("access_key", &bed.access_key),
        ("secret_access_key", &bed.secret),
        ("region", &bed.region),
        ("use_tls", "false"),
    ] {
        user.ok(&format!("config {kind} set {name} {key} {value}"));
    }
}

#[test]
fn bucket_store_in_a_bucket_archive_bucket() {
    Buckets::each(true, |Buckets { source, kloset, target }| {
        let (user, expected) = (user(), look(source));
        configure(&user, "repository", "scw_store", kloset);
        configure(&user, "remote", "scw_src", source);
        configure(&user, "remote", "scw_dst", target);
        user.ok("at @scw_store create");
        let told = user.ok("at @scw_store backup @scw_src");
        assert!(told.contains(&format!("{} files", expected.len())), "{told}");
        assert_eq!(user.ok("at @scw_store ls").lines().count(), 1);
        let listed = user.ok("at @scw_store ls -recursive latest");
        assert!(listed.contains("plain.txt") && listed.contains("日本語"), "{listed}");
        user.ok("ptar -o export.ptar -k @scw_store");
        user.ok("at ./export.ptar check");
        user.ok("at ./export.ptar restore -to @scw_dst");
        assert_same(&expected, target);
        // Once more over what is there: it stays what it is.
        user.ok("at ./export.ptar restore -to @scw_dst");
        assert_same(&expected, target);
        user.ok("at @scw_store check");
    });
}

#[test]
fn bucket_local_store_archive_bucket() {
    Buckets::each(false, |Buckets { source, target, .. }| {
        let (user, expected) = (user(), look(source));
        configure(&user, "remote", "scw_src", source);
        configure(&user, "remote", "scw_dst", target);
        user.ok("at ./store create -plaintext");
        user.ok("at ./store backup @scw_src");
        user.ok("ptar -plaintext -o export.ptar -k ./store");
        user.ok("at ./export.ptar restore -to @scw_dst");
        assert_same(&expected, target);
    });
}

#[test]
fn direct_addresses_and_an_environment() {
    Buckets::each(false, |Buckets { source, kloset, target }| {
        let (mut user, expected) = (user(), look(source));
        user.set("AWS_ACCESS_KEY_ID", &source.access_key);
        user.set("AWS_SECRET_ACCESS_KEY", &source.secret);
        user.set("AWS_REGION", &source.region);
        user.set("AWS_ENDPOINT_URL", &format!("http://{}", source.authority));
        let url = |bed: &Bed| format!("s3://{}", bed.bucket);
        user.ok(&format!("at {}/some/prefix create -plaintext", url(kloset)));
        user.ok(&format!("at {}/some/prefix backup {}", url(kloset), url(source)));
        user.ok(&format!("ptar -plaintext -o export.ptar -k {}/some/prefix", url(kloset)));
        user.ok(&format!("at ./export.ptar restore -to {}", url(target)));
        assert_same(&expected, target);
    });
}

#[test]
fn folders_in_between() {
    Buckets::each(false, |Buckets { source, kloset, target }| {
        let (user, expected) = (user(), look(source));
        configure(&user, "repository", "scw_store", kloset);
        configure(&user, "remote", "scw_src", source);
        configure(&user, "remote", "scw_dst", target);
        user.ok("at @scw_store create -plaintext");
        user.ok("at @scw_store backup @scw_src");
        user.ok("at @scw_store restore -to folder");
        assert_eq!(std::fs::read(user.home().join("folder/a/b")).unwrap(), b"below");
        assert_eq!(std::fs::read(user.home().join("folder/with space")).unwrap(), b"with space");
        user.ok("at ./store create -plaintext");
        user.ok("at ./store backup folder");
        user.ok("at ./store restore -to @scw_dst");
        assert_same(&expected, target);
    });
}
