//! Archives straight to and from a bucket: parts that grow, nothing half-written, ranges of one version.

use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use plakar::base::Id;
use plakar::connector::{ArchiveSink, Body, ErrorKind, Kind, Storage};
use plakar::connectors::s3::{S3Archive, S3Sink, SinkOptions};

use crate::cli::{User, json};
use crate::conformance;
use crate::s3_bed::Bed;
use crate::s3server::{self, ACCESS_KEY, Action, Fault, Key, Object, S3Server, SECRET_KEY};

const MIB: usize = 1 << 20;
/// Long enough for any machine; what waits for a server that hangs takes longer.
const PATIENCE: Duration = Duration::from_secs(50);

fn bed() -> Bed {
    Bed::own(s3server::Options::default())
}

fn sink(bed: &Bed, key: &str, options: SinkOptions) -> plakar::connector::Result<Box<dyn ArchiveSink>> {
    Ok(Box::new(S3Sink::create(bed.options(key, &[]), options)?))
}

/// Bytes that differ from place to place.
fn content(length: usize) -> Vec<u8> {
    (0..length.div_ceil(8) as u64)
        .flat_map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes())
        .take(length)
        .collect()
}

fn hinted() -> SinkOptions {
    SinkOptions { size_hint: Some(1), ..SinkOptions::default() }
}

fn error_kind(error: std::io::Error) -> ErrorKind {
    error.downcast::<plakar::connector::Error>().unwrap().kind
}

#[test]
fn a_small_archive_is_one_request_and_appears_at_its_end() {
    Bed::each(|bed| {
        let bytes = content(3 * MIB);
        let mut small = sink(bed, "dir/x.ptar", SinkOptions::default()).unwrap();
        small.write_all(&bytes).unwrap();
        assert_eq!(bed.get("dir/x.ptar").status, 404);
        if let Some(server) = &bed.server {
            server.reset_counters();
        }
        small.commit().unwrap();
        if let Some(server) = &bed.server {
            assert_eq!((server.counters().total(), server.counters().of("PutObject")), (1, 1));
        }
        assert!(bed.get("dir/x.ptar").body == bytes);
        // It is there now, and stays as it is.
        let refused = sink(bed, "dir/x.ptar", SinkOptions::default()).unwrap_err();
        assert!(refused.kind == ErrorKind::Exists && refused.to_string().contains("-overwrite"), "{refused}");
        let overwrite = SinkOptions { overwrite: true, ..SinkOptions::default() };
        let mut other = sink(bed, "dir/x.ptar", overwrite).unwrap();
        other.write_all(b"other").unwrap();
        other.commit().unwrap();
        assert_eq!(bed.get("dir/x.ptar").body, b"other");
    });
}

#[test]
fn a_large_archive_goes_up_in_parts_through_little_memory() {
    Bed::each(|bed| {
        let bytes = content(55 * MIB + 17);
        for memory in [None, Some(1 << 20)] {
            let options = SinkOptions { memory, overwrite: true, ..hinted() };
            let mut large = sink(bed, "large.ptar", options).unwrap();
            if let Some(server) = &bed.server {
                server.reset_counters();
            }
            bytes.chunks(MIB).for_each(|piece| large.write_all(piece).unwrap());
            large.flush().unwrap();
            if let Some(server) = &bed.server {
                assert_eq!(server.open_uploads(), 1);
            }
            large.commit().unwrap();
            assert!(bed.get("large.ptar").body == bytes);
            if let Some(server) = &bed.server {
                let counters = server.counters();
                // 16, 16.8, 17.6 and the rest, in MiB.
                assert_eq!((counters.of("UploadPart"), counters.of("CompleteMultipartUpload")), (4, 1));
                assert_eq!((counters.of("PutObject"), server.open_uploads()), (0, 0));
            }
            bed.request("DELETE", Some(b"large.ptar"), "", &[], b"");
        }
    });
}

#[test]
fn what_is_not_committed_leaves_nothing() {
    let bed = bed();
    let server = bed.own_server();
    let bytes = content(40 * MIB);
    let mut dropped = sink(&bed, "x.ptar", hinted()).unwrap();
    dropped.write_all(&bytes).unwrap();
    assert_eq!(server.open_uploads(), 1);
    drop(dropped);
    assert_eq!((server.open_uploads(), server.keys("bucket").len()), (0, 0));

    // Parts that hang do not keep it from ending.
    server.inject(Fault::on("UploadPart", Action::Hang));
    let mut stalled = sink(&bed, "x.ptar", hinted()).unwrap();
    stalled.write_all(&bytes).unwrap();
    let dropping = std::thread::spawn(move || drop(stalled));
    let begun = Instant::now();
    while !dropping.is_finished() {
        assert!(begun.elapsed() < PATIENCE, "it waits for a server that hangs");
        std::thread::sleep(Duration::from_millis(5));
    }
    dropping.join().unwrap();
    server.clear_faults();
    assert_eq!((server.open_uploads(), server.keys("bucket").len()), (0, 0));

    for (op, action) in [
        ("UploadPart", Action::status(403, "AccessDenied")),
        ("CompleteMultipartUpload", Action::status(400, "InvalidPart")),
        ("CompleteMultipartUpload", Action::ErrorInOk("AccessDenied")),
    ] {
        server.inject(Fault::on(op, action));
        let mut failing = sink(&bed, "x.ptar", hinted()).unwrap();
        let result = failing.write_all(&bytes);
        assert!(result.is_ok() || error_kind(result.unwrap_err()) == ErrorKind::Denied);
        assert!(failing.commit().is_err());
        server.clear_faults();
        assert_eq!((server.open_uploads(), server.keys("bucket").len()), (0, 0), "{op}");
    }
    // Where nothing may be aborted, what is left is named.
    server.inject(Fault::on("AbortMultipartUpload", Action::status(403, "AccessDenied")));
    server.inject(Fault::on("CompleteMultipartUpload", Action::status(400, "InvalidPart")));
    let mut failing = sink(&bed, "x.ptar", hinted()).unwrap();
    failing.write_all(&bytes).unwrap();
    let error = failing.commit().unwrap_err();
    assert!(error.to_string().contains("left behind"), "{error}");
}

#[test]
fn nothing_follows_a_part_that_failed() {
    let bed = bed();
    let server = bed.own_server();
    server.inject(Fault::on("UploadPart", Action::status(403, "AccessDenied")).times(1));
    let mut failing = sink(&bed, "x.ptar", hinted()).unwrap();
    let piece = content(16 * MIB);
    let error = (0..20).find_map(|_| failing.write_all(&piece).err()).expect("the part is missed");
    assert_eq!(error_kind(error), ErrorKind::Denied);
    // The network is as good as ever: what comes now would be the rest of a whole archive.
    for _ in 0..2 {
        assert!(failing.write(&piece).is_err());
    }
    let error = failing.commit().unwrap_err();
    assert!(error.to_string().contains("not whole"), "{error}");
    assert_eq!((server.open_uploads(), server.keys("bucket").len()), (0, 0));
    assert_eq!(server.counters().of("CompleteMultipartUpload"), 0);
}

#[test]
fn answers_that_are_lost_do_not_lose_the_archive() {
    let bed = bed();
    let server = bed.own_server();
    let bytes = content(40 * MIB);
    for op in ["UploadPart", "CompleteMultipartUpload", "CreateMultipartUpload"] {
        server.inject(Fault::on(op, Action::ResetAfter).times(1));
        let mut large = sink(&bed, op, hinted()).unwrap();
        large.write_all(&bytes).unwrap();
        large.commit().unwrap();
        assert!(bed.get(op).body == bytes, "{op}");
    }
    // The retry of a PUT meets the object that the first attempt made.
    server.inject(Fault::on("PutObject", Action::ResetAfter).times(1));
    let mut small = sink(&bed, "small", SinkOptions::default()).unwrap();
    small.write_all(b"content").unwrap();
    small.commit().unwrap();
    assert_eq!(bed.get("small").body, b"content");
}

#[test]
fn a_name_taken_meanwhile_is_kept() {
    let bed = bed();
    for length in [10, 40 * MIB] {
        let mut late = sink(&bed, "x.ptar", hinted()).unwrap();
        late.write_all(&content(length)).unwrap();
        bed.put("x.ptar", &[], b"first");
        assert_eq!(late.commit().unwrap_err().kind, ErrorKind::Exists);
        assert_eq!(bed.get("x.ptar").body, b"first");
        assert_eq!(bed.own_server().open_uploads(), 0);
        bed.request("DELETE", Some(b"x.ptar"), "", &[], b"");
    }
}

#[test]
fn parts_become_an_object_only_where_there_is_none() {
    // Whether a server takes the condition or not, what is new is written.
    Bed::each(|bed| {
        let bytes = content(40 * MIB);
        let mut fresh = sink(bed, "fresh.ptar", hinted()).unwrap();
        fresh.write_all(&bytes).unwrap();
        fresh.commit().unwrap();
        assert!(bed.get("fresh.ptar").body == bytes);
        let refused = sink(bed, "fresh.ptar", hinted()).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Exists);
        bed.request("DELETE", Some(b"fresh.ptar"), "", &[], b"");
    });
    let bed = bed();
    let server = bed.own_server();
    let bytes = content(40 * MIB);
    // A key that may not look leaves it to the condition.
    let put_only = ["PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"];
    server.set_key("PUTTER", Key::only("secret", &[&put_only[..], &["AbortMultipartUpload"]].concat()));
    let late = || {
        let options = bed.options_as("PUTTER", "secret", "x.ptar", &[]);
        let mut late = Box::new(S3Sink::create(options, hinted()).unwrap());
        late.write_all(&bytes).unwrap();
        bed.put("x.ptar", &[], b"first");
        late.commit()
    };
    assert_eq!(late().unwrap_err().kind, ErrorKind::Exists);
    assert_eq!((bed.get("x.ptar").body.as_slice(), server.open_uploads()), (&b"first"[..], 0));
    // Where the server does not take the condition, it is left out, once.
    for (status, code) in [(501, "NotImplemented"), (400, "InvalidArgument")] {
        bed.request("DELETE", Some(b"x.ptar"), "", &[], b"");
        let mut plain = sink(&bed, "x.ptar", hinted()).unwrap();
        plain.write_all(&bytes).unwrap();
        server.inject(Fault::on("CompleteMultipartUpload", Action::status(status, code)).times(1));
        server.reset_counters();
        plain.commit().unwrap();
        assert_eq!(server.counters().of("CompleteMultipartUpload"), 2, "{code}");
        assert!(bed.get("x.ptar").body == bytes);
    }
    // The retry of what succeeded meets its own object, and knows it.
    bed.request("DELETE", Some(b"x.ptar"), "", &[], b"");
    let mut own = sink(&bed, "x.ptar", hinted()).unwrap();
    own.write_all(&bytes).unwrap();
    server.inject(Fault::on("CompleteMultipartUpload", Action::ResetAfter).times(1));
    server.inject(Fault::on("CompleteMultipartUpload", Action::status(412, "PreconditionFailed")).times(1));
    own.commit().unwrap();
    assert!(bed.get("x.ptar").body == bytes);
}

#[test]
fn what_a_killed_run_left_of_the_same_archive_is_given_up() {
    let bed = bed();
    let server = bed.own_server();
    let bytes = content(40 * MIB);
    let leave = |key: &str| {
        let mut left = sink(&bed, key, hinted()).unwrap();
        left.write_all(&bytes).unwrap();
        // As a process that was killed: nothing is given up.
        std::mem::forget(left);
    };
    let write = |open: usize| {
        let mut sink = sink(&bed, "x.ptar", SinkOptions { overwrite: true, ..hinted() }).unwrap();
        sink.write_all(&bytes).unwrap();
        sink.commit().unwrap();
        assert_eq!(server.open_uploads(), open);
    };
    leave("x.ptar");
    leave("x.ptar.other");
    // A part that arrived later would make its upload young again.
    while server.parts_of_open_uploads() < 4 {
        std::thread::sleep(Duration::from_millis(5));
    }
    // Young; begun long ago, but fed lately; and left.
    write(2);
    server.age_uploads(100, 23);
    write(2);
    server.age_uploads(23, 23);
    write(2);
    server.age_uploads(26, 25);
    // A key that may not look for it writes all the same.
    for op in ["ListMultipartUploads", "ListParts", "AbortMultipartUpload"] {
        server.inject(Fault::on(op, Action::status(403, "AccessDenied")));
        write(2);
        server.clear_faults();
    }
    // Only that of the same key.
    write(1);
}

#[test]
fn a_key_that_may_only_put_is_enough() {
    let bed = bed();
    let server = bed.own_server();
    server.set_key(
        "PUTTER",
        Key::only("secret", &["PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"]),
    );
    let bytes = content(40 * MIB);
    for (key, length) in [("small.ptar", 1000), ("large.ptar", bytes.len())] {
        let options = bed.options_as("PUTTER", "secret", key, &[("storage_class", "onezone_ia")]);
        let mut sink = Box::new(S3Sink::create(options, hinted()).unwrap());
        sink.write_all(&bytes[..length]).unwrap();
        sink.commit().unwrap();
        let object = server.object("bucket", key).unwrap();
        assert!(object.body[..] == bytes[..length] && object.class == "ONEZONE_IA", "{key}");
    }
    // The condition keeps what it may not see.
    let options = bed.options_as("PUTTER", "secret", "small.ptar", &[]);
    let mut sink = Box::new(S3Sink::create(options, hinted()).unwrap());
    sink.write_all(b"other").unwrap();
    assert_eq!(sink.commit().unwrap_err().kind, ErrorKind::Exists);
    // A location that names no object.
    for prefix in ["", "dir/"] {
        let error = S3Sink::create(bed.options(prefix, &[]), hinted()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
    }
}

#[test]
fn an_archive_is_read_by_ranges_of_one_version() {
    Bed::each(|bed| {
        let (bytes, sample) = conformance::archive();
        bed.put("x.ptar", &[], &bytes);
        if let Some(server) = &bed.server {
            server.reset_counters();
        }
        let archive = S3Archive::open(bed.options("x.ptar", &[])).unwrap();
        if let Some(server) = &bed.server {
            assert_eq!((server.counters().total(), server.counters().of("GetObject")), (2, 2));
        }
        assert!(archive.is_archive() && archive.is_remote() && archive.is_read_only());
        conformance::readable(&archive, &sample);
        assert_eq!(
            archive.put(Kind::State, Id::ZERO, Body::Bytes(b"")).unwrap_err().kind,
            ErrorKind::ReadOnly
        );
        let archive = S3Archive::open(bed.options("x.ptar", &[])).unwrap();
        let mut replaced = bytes.clone();
        replaced[1000] ^= 1;
        bed.put("x.ptar", &[], &replaced);
        let read = archive.read_range(Kind::Packfile, Id::ZERO, 0, 10, &mut |_| {});
        assert_eq!(read.unwrap_err().kind, ErrorKind::Changed);
    });
}

#[test]
fn what_is_no_archive_says_so() {
    let bed = bed();
    let kind = |key: &str| S3Archive::open(bed.options(key, &[])).unwrap_err().kind;
    assert_eq!(kind("none.ptar"), ErrorKind::NotFound);
    assert_eq!(kind("dir/"), ErrorKind::Invalid);
    let (bytes, _) = conformance::archive();
    for (length, expected) in
        [(0, ErrorKind::Invalid), (40, ErrorKind::Protocol), (1000, ErrorKind::Protocol)]
    {
        bed.put("x.ptar", &[], &bytes[..length]);
        assert_eq!(kind("x.ptar"), expected, "{length}");
    }
    bed.put("x.ptar", &[], &vec![7; 100_000]);
    assert_eq!(kind("x.ptar"), ErrorKind::Invalid);
    let server = bed.own_server();
    server.insert("bucket", "cold.ptar", Object { class: "GLACIER".into(), ..Object::new(bytes) });
    let error = S3Archive::open(bed.options("cold.ptar", &[])).unwrap_err();
    assert!(error.to_string().contains("InvalidObjectState"), "{error}");
}

/// A user with a destination and a store in one bucket, and a folder to pack.
fn user(server: &S3Server) -> User {
    let mut user = User::new();
    user.set("PLAKAR_PASSPHRASE", "correct horse battery staple");
    user.set("AWS_ACCESS_KEY_ID", ACCESS_KEY);
    user.set("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    server.make_bucket("bucket");
    for kind in ["destination", "store"] {
        user.ok(&format!(
            "{kind} add b location=s3://{}/bucket use_tls=false root=archives",
            server.authority()
        ));
    }
    let tree = user.home().join("tree");
    std::fs::create_dir_all(tree.join("sub")).unwrap();
    std::fs::write(tree.join("hello.txt"), "hello\n").unwrap();
    std::fs::write(tree.join("sub/large"), content(3 * MIB)).unwrap();
    user
}

fn assert_restored(user: &User, to: &str) {
    let to = user.home().join(to);
    assert_eq!(std::fs::read_to_string(to.join("hello.txt")).unwrap(), "hello\n");
    assert!(std::fs::read(to.join("sub/large")).unwrap() == content(3 * MIB));
}

#[test]
fn the_command_line_writes_to_a_bucket_and_reads_from_it() {
    let server = S3Server::new();
    let user = user(&server);
    for (n, output) in ["@b/one.ptar", "@b:sub/two.ptar"].into_iter().enumerate() {
        let told = user.ok(&format!("ptar -plaintext -o {output} tree"));
        assert!(told.contains("ptar"), "{told}");
        let refused = user.run(&format!("ptar -plaintext -o {output} tree"));
        assert!(refused.code != 0 && refused.stderr.contains("-overwrite"), "{refused:?}");
        user.ok(&format!("ptar -plaintext -overwrite -size-hint 10MiB -o {output} tree"));
        assert!(user.ok(&format!("at {output} ls latest")).contains("hello.txt"));
        assert_eq!(user.ok(&format!("at {output} cat latest:hello.txt")), "hello\n");
        user.ok(&format!("at {output} check"));
        user.ok(&format!("at {output} restore -to out{n}"));
        assert_restored(&user, &format!("out{n}"));
        user.ok("at ./local create -plaintext");
        user.ok(&format!("at ./local sync from {output}"));
        std::fs::remove_dir_all(user.home().join("local")).unwrap();
    }
    let keys = server.keys("bucket");
    assert_eq!(keys, [b"archives/one.ptar".to_vec(), b"archives/sub/two.ptar".to_vec()]);
    // A store of buckets and plain URLs, over the environment's endpoint.
    let mut direct = User::new();
    direct.set("AWS_ACCESS_KEY_ID", ACCESS_KEY);
    direct.set("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    direct.set("AWS_ENDPOINT_URL", &format!("http://{}", server.authority()));
    std::fs::write(direct.home().join("f"), "f").unwrap();
    direct.ok("ptar -plaintext -o s3://bucket/direct.ptar f");
    assert!(direct.ok("at s3://bucket/direct.ptar ls latest").contains('f'));
    let ran = direct.run("at s3://bucket/none.ptar ls");
    assert!(ran.code == 66, "{ran:?}");
    let ran = direct.run("ptar -plaintext -o s3://bucket/ f");
    assert!(ran.code != 0 && ran.stderr.contains("names a bucket"), "{ran:?}");
    assert_eq!(server.open_uploads(), 0);
}

#[test]
fn standard_output_carries_the_archive_and_nothing_else() {
    let server = S3Server::new();
    let user = user(&server);
    let ran = user.command(["ptar", "-o", "-", "tree"]).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(ran.stdout.starts_with(b"_PLATAR_"));
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(said.contains("on standard output"), "{said}");
    std::fs::write(user.home().join("x.ptar"), ran.stdout).unwrap();
    user.ok("at ./x.ptar check");
    user.ok("at ./x.ptar restore -to piped");
    assert_restored(&user, "piped");

    // A reader that leaves early is an error, not the quiet end of a listing.
    let mut child = user
        .command(["ptar", "-plaintext", "-o", "-", "tree"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{}", String::from_utf8_lossy(&ended.stderr));
    // So is a place that takes nothing.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let ended = user.command(["ptar", "-plaintext", "-o", "-", "tree"]).stdout(full).output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{}", String::from_utf8_lossy(&ended.stderr));
    // A JSON stream and an archive do not mix.
    assert_eq!(user.run("-json ptar -o - tree").code, 64);
}

#[test]
fn an_interrupted_archive_leaves_nothing_in_the_bucket() {
    let server = S3Server::new();
    let user = user(&server);
    // More than a first part.
    std::fs::write(user.home().join("tree/big"), content(90 * MIB)).unwrap();
    server.inject(Fault::on("UploadPart", Action::Hang));
    let mut child = user
        .command(["ptar", "-plaintext", "-no-compression", "-size-hint", "1", "-o", "@b/x.ptar", "tree"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while server.counters().hanging == 0 && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(server.open_uploads(), 1);
    let pid = rustix::process::Pid::from_child(&child);
    let begun = Instant::now();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("it waits for a server that hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(!status.success());
    assert_eq!((server.open_uploads(), server.keys("bucket").len()), (0, 0));
}

#[test]
fn no_snapshot_is_told_of_before_its_archive_is_there() {
    let server = S3Server::new();
    let user = user(&server);
    user.ok("at ./local create -plaintext");
    user.ok("at ./local backup tree");
    let pack = "-json ptar -plaintext -overwrite -k ./local -o @b/x.ptar tree";
    let types = |stdout: &str| -> Vec<String> {
        json(stdout).iter().map(|one| one["type"].as_str().unwrap().to_owned()).collect()
    };
    server.inject(Fault::on("PutObject", Action::status(403, "AccessDenied")));
    let refused = user.run(pack);
    assert_ne!(refused.code, 0);
    let told = types(&refused.stdout);
    assert!(!told.iter().any(|kind| kind == "committed" || kind == "summary"), "{refused:?}");
    server.clear_faults();
    let mut told = types(&user.ok(pack));
    told.retain(|kind| kind != "progress");
    assert_eq!(told, ["committed", "committed", "summary", "summary", "archive"]);
}
