//! How many requests a run makes, how many at a time, and what memory it takes for many objects or large ones.

use std::sync::Arc;
use std::time::Duration;

use plakar::connectors::s3::{Options, S3Importer};
use plakar::snapshot::{BackupOptions, BackupReport, Tally, backup};
use plakar::store::{CreateOptions, NoPassphrase, OpenOptions, Repository};

use crate::cli::User;
use crate::memory::watched_below;
use crate::s3_bed::Bed;
use crate::s3server::{self, ACCESS_KEY, Action, Fault, Object, S3Server, SECRET_KEY};

const MIB: u64 = 1 << 20;
/// Requests about the bucket itself, however many objects it holds: its region, its owner, whether it keeps versions.
const ABOUT_THE_BUCKET: u64 = 4;
/// Objects of the test of scale unless `PLAKAR_TEST_CROWD` says how many; neither requests beside the listings nor
/// memory depend on it.
const CROWD: u32 = 100_000;
/// Objects of the run that the test of scale is compared with.
const FEW: u32 = 20_000;
/// The most data memory that a run may take beyond what the run of few takes. What it holds does not grow, and neither
/// must what the allocator keeps of what was dropped.
const GROWTH: u64 = 32 * MIB;
/// Address space for data, the stacks of threads that wait included.
const LIMIT: u64 = 256 * MIB;

/// Backs a bucket up into a store in memory.
fn run(options: Options) -> (BackupReport, Tally) {
    let store = plakar::connectors::memory::MemoryStore::default();
    Repository::create(&store, &CreateOptions::default()).unwrap();
    let repository = Repository::open(Arc::new(store), &mut NoPassphrase, &OpenOptions::default()).unwrap();
    let tally = Tally::default();
    let report = backup(&repository, &S3Importer::new(options).unwrap(), &BackupOptions::default(), &tally);
    (report.unwrap(), tally)
}

fn bed(objects: u32) -> Bed {
    let bed = Bed::own(s3server::Options::default());
    for n in 0..objects {
        bed.own_server().insert("bucket", format!("{}/{n}", n % 11), Object::new(format!("content {n}")));
    }
    bed
}

#[test]
fn no_more_requests_are_in_flight_than_were_asked_for() {
    for concurrency in [1, 3, 20] {
        let bed = bed(300);
        // The more at a time, the longer each takes, so that they meet.
        let stall = Duration::from_millis(3 * concurrency);
        bed.own_server().inject(Fault::on("GetObject", Action::Stall(stall)));
        let (report, tally) = run(bed.options("", &[("concurrency", &concurrency.to_string())]));
        assert_eq!((report.file_count, tally.problems().len()), (300, 0));
        let counters = bed.own_server().counters();
        let most = counters.most_at_once;
        // On a machine that has no time for them, not all that may be are in flight.
        assert!(most <= concurrency && most >= concurrency.min(2), "{most} of {concurrency} at once");
        // One request an object, and connections are used again.
        assert_eq!((counters.of("GetObject"), counters.of("ListObjectsV2")), (300, 1));
        assert!(counters.total() <= 301 + ABOUT_THE_BUCKET, "{:?}", counters.requests);
        assert!(counters.connections <= concurrency + 1, "{} connections", counters.connections);
    }
}

#[test]
fn without_a_wish_it_grows_while_that_helps_and_shrinks_when_refused() {
    // A server of some latency: the more at once, the faster.
    let calm = bed(2000);
    calm.own_server().inject(Fault::on("GetObject", Action::Stall(Duration::from_millis(50))));
    run(calm.options("", &[]));
    let most = calm.own_server().counters().most_at_once;
    assert!((9..=64).contains(&most), "{most} at once");

    // The same, but more than ten at once are refused.
    let strict = bed(2000);
    let server = strict.own_server();
    server.inject(Fault::when(
        |seen| seen.op == "GetObject" && seen.at_once > 10,
        Action::status(503, "SlowDown"),
    ));
    server.inject(Fault::on("GetObject", Action::Stall(Duration::from_millis(25))));
    let mut options = strict.options("", &[]);
    // As in life, the pause after a refusal is long beside what a request takes.
    options.tuning.throttle_delay = Duration::from_millis(100);
    options.tuning.max_delay = Duration::from_secs(3);
    let (report, tally) = run(options);
    assert_eq!((report.error_count, tally.problems().len()), (0, 0), "{:?}", tally.problems());
    let counters = server.counters();
    let refused = counters.of("GetObject") - 2000;
    assert!(refused > 0 && refused < 1000, "{refused} of {} were refused", counters.of("GetObject"));
}

#[test]
fn large_objects_are_read_by_ranges_and_small_ones_are_not() {
    let bed = Bed::own(s3server::Options::default());
    let server = bed.own_server();
    let noise = |length: u64| {
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        blake3::Hasher::new().update(&length.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    };
    server.insert("bucket", "below", Object::new(noise(16 * MIB - 1)));
    run(bed.options("", &[]));
    assert_eq!((server.counters().of("GetObject"), server.counters().of("HeadObject")), (1, 0));

    // Eight MiB each, the last one shorter; several at a time, since each takes a while.
    server.insert("bucket", "large", Object::new(noise(60 * MIB + 5)));
    server.inject(Fault::on("GetObject", Action::Stall(Duration::from_millis(100))));
    server.reset_counters();
    let (report, _) = run(bed.options("large", &[]));
    assert_eq!((report.content_bytes, report.error_count), (60 * MIB + 5, 0));
    let counters = server.counters();
    assert_eq!(counters.of("GetObject"), 8);
    assert!(counters.most_at_once >= 2, "{} at once", counters.most_at_once);
    server.clear_faults();

    // Little memory: short ranges, one at a time if need be.
    let mut options = bed.options("large", &[]);
    options.tuning.read_ahead = MIB;
    server.reset_counters();
    assert_eq!(run(options).0.content_bytes, 60 * MIB + 5);
    assert_eq!(server.counters().of("GetObject"), 61);
    assert!(server.counters().most_at_once <= 3);

    // Replaced while it is read: it is read again from its start.
    server.inject(Fault::when(
        |seen| seen.op == "GetObject" && seen.number == 4,
        Action::status(412, "PreconditionFailed"),
    ));
    server.reset_counters();
    let (report, tally) = run(bed.options("large", &[]));
    assert_eq!((report.file_count, report.error_count), (1, 0), "{:?}", tally.problems());
    assert!(server.counters().of("GetObject") > 8);
}

/// A source of very many tiny objects, and a user with a store in a folder.
fn crowd(objects: u32) -> (S3Server, User) {
    let server = S3Server::new();
    for n in 0..objects {
        let key = format!("{:02}/{:03}/object number {n:07}", n % 50, n / 50 % 100);
        server.insert("source", key, Object::new(format!("{n}")));
    }
    let user = User::in_memory();
    let place = format!("s3://{}/source", server.authority());
    let keys = format!("access_key={ACCESS_KEY} secret_access_key={SECRET_KEY} use_tls=false");
    user.ok(&format!("source add src {place} {keys}"));
    user.ok("at ./store create -plaintext");
    (server, user)
}

/// Returns how many objects the test of scale has.
fn crowd_size() -> u32 {
    std::env::var("PLAKAR_TEST_CROWD").map_or(CROWD, |size| size.parse().expect("a number of objects"))
}

#[test]
fn unchanged_objects_cost_listings_only() {
    let objects = crowd_size();
    let pages = u64::from(objects.div_ceil(1000));
    let line = "-memory 64MiB at ./store backup @src";
    let few = {
        let (_server, user) = crowd(FEW);
        watched_below(LIMIT, &user, line)
    };
    println!("{FEW} objects: {few:?}");
    let (server, user) = crowd(objects);
    let begun = std::time::Instant::now();
    let first = watched_below(LIMIT, &user, line);
    println!("{objects} objects: {:?}, {first:?}", begun.elapsed());
    let counters = server.counters();
    assert_eq!((counters.of("GetObject"), counters.of("ListObjectsV2")), (u64::from(objects), pages));
    assert!(counters.total() <= u64::from(objects) + pages + ABOUT_THE_BUCKET, "{:?}", counters.requests);

    server.reset_counters();
    let begun = std::time::Instant::now();
    let again = watched_below(LIMIT, &user, line);
    println!("unchanged: {:?}, {again:?}", begun.elapsed());
    let counters = server.counters();
    assert_eq!(
        (counters.of("ListObjectsV2"), counters.of("GetObject")),
        (pages, 0),
        "{:?}",
        counters.requests
    );
    assert!(counters.total() <= pages + ABOUT_THE_BUCKET, "{:?}", counters.requests);

    // One changed among them costs one GET.
    server.insert("source", "07/001/object number 0000057", Object::new("changed"));
    server.reset_counters();
    user.ok(line);
    assert_eq!((server.counters().of("GetObject"), server.counters().of("ListObjectsV2")), (1, pages));
    for peaks in [few, first, again] {
        assert!(peaks.anonymous <= 96 * MIB, "with a budget of 64 MiB: {peaks:?}");
        assert!(peaks.data <= few.data + GROWTH, "{peaks:?} for {objects} objects, {few:?} for {FEW}");
    }
}
