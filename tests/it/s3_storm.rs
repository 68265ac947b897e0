//! Whole runs against a server that fails now and then, which succeed, and against one that fails for good, which
//! end with the cause.

use std::sync::Arc;
use std::time::Duration;

use plakar::connector::{Exporter, Kind};
use plakar::connectors::s3::{ExportOptions, Options, S3Exporter, S3Importer, S3Store};
use plakar::snapshot::{
    BackupOptions, BackupReport, CheckOptions, RestoreOptions, RestoreReport, Tally, backup, check, list,
    restore,
};
use plakar::store::{CreateOptions, Error, NoPassphrase, OpenOptions, Repository};

use crate::s3_bed::Bed;
use crate::s3server::{self, Action, Fault, Object, S3Server, Seen, Storm};

/// Objects of the source.
const OBJECTS: u32 = 2000;

/// A server with a source, and what the tests need of it.
struct Scene {
    bed: Bed,
}

impl Scene {
    /// A source of so many objects, every one of them with something of its own to keep, and of two large ones.
    fn with_large(objects: u32, options: s3server::Options) -> Self {
        let scene = Self::new(objects, options);
        let server = scene.server();
        server.insert("bucket", "src/large", Object::new(noise(objects, 20 << 20)));
        server.insert("bucket", "src/larger", Object::new(noise(objects + 1, 34 << 20)).tag("size", "large"));
        scene
    }

    fn new(objects: u32, options: s3server::Options) -> Self {
        let bed = Bed::own(options);
        let server = bed.own_server();
        for n in 0..objects {
            let length = usize::try_from(n * 7919 % 6000).unwrap();
            let mut object = Object::new(noise(n, length))
                .header("content-type", format!("x/{}", n % 5))
                .header("x-amz-meta-number", n.to_string());
            if n % 10 == 0 {
                object = object.tag("n", &n.to_string()).header("cache-control", "no-store");
            }
            if n % 13 == 0 {
                object = object.class("ONEZONE_IA");
            }
            server.insert("bucket", format!("src/{}/object {n}", n % 17), object);
        }
        Self { bed }
    }

    fn server(&self) -> &S3Server {
        self.bed.own_server()
    }

    /// Options of a connector that does not wait long, and does not know the region.
    fn options(&self, prefix: &str) -> Options {
        let mut options = self.bed.options(prefix, &[]);
        options.region = "us-east-1".into();
        options.tuning.stall_timeout = Duration::from_secs(2);
        options
    }

    fn create(&self) -> Arc<Repository> {
        let store = S3Store::new(self.options("store")).unwrap();
        Repository::create(&store, &CreateOptions::default()).unwrap();
        self.open()
    }

    fn open(&self) -> Arc<Repository> {
        let store = Arc::new(S3Store::new(self.options("store")).unwrap());
        Repository::open(store, &mut NoPassphrase, &OpenOptions::default()).unwrap()
    }

    fn backup(&self, repository: &Arc<Repository>) -> (Result<BackupReport, Error>, Tally) {
        let importer = S3Importer::new(self.options("src/")).unwrap();
        let tally = Tally::default();
        (backup(repository, &importer, &BackupOptions::default(), &tally), tally)
    }

    fn restore(&self, repository: &Arc<Repository>) -> (Result<RestoreReport, Error>, Tally) {
        let exporter = S3Exporter::new(self.options("dst"), ExportOptions::default()).unwrap();
        let (snapshots, failed) = list(repository);
        assert!(failed.is_empty(), "{failed:?}");
        let tally = Tally::default();
        let exporter: &dyn Exporter = &exporter;
        (restore(repository, &snapshots[0], None, exporter, &RestoreOptions::default(), &tally), tally)
    }

    fn keys(&self, prefix: &str) -> Vec<Vec<u8>> {
        let keys = self.server().keys("bucket").into_iter();
        keys.filter_map(|key| key.strip_prefix(prefix.as_bytes()).map(<[u8]>::to_vec)).collect()
    }

    fn assert_same(&self) {
        let keys = self.keys("src/");
        assert_eq!(self.keys("dst/"), keys);
        for key in keys {
            let of =
                |prefix: &str| self.server().object("bucket", [prefix.as_bytes(), &key].concat()).unwrap();
            let (a, b) = (of("src/"), of("dst/"));
            let name = key.escape_ascii();
            assert!(a.body == b.body, "the content of {name}");
            let sorted = |object: &Object| {
                let mut headers = object.headers.clone();
                headers.sort();
                (headers, object.tags.clone(), object.class.clone())
            };
            assert_eq!(sorted(&a), sorted(&b), "{name}");
        }
    }

    fn locks(&self) -> Vec<Vec<u8>> {
        self.keys("store/locks/")
    }
}

fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Returns an error with all its causes.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[test]
fn two_thousand_objects_go_through_a_storm_and_are_what_they_were() {
    // The server's clock is wrong and its region another, too: both are learnt.
    let steady = s3server::Options {
        region: "eu-far-9".into(),
        clock_skew: 7200,
        page_size: 300,
        ..s3server::Options::default()
    };
    let scene = Scene::with_large(OBJECTS, steady);
    let repository = scene.create();
    let storm = |seed| Some(Storm::new(seed, 50, Duration::from_secs(3)));
    scene.server().storm(storm(2026));
    let (report, tally) = scene.backup(&repository);
    let report = report.unwrap();
    assert_eq!((report.error_count, report.warning_count), (0, 0), "{:?}", tally.problems());
    assert_eq!(report.file_count, u64::from(OBJECTS) + 2);
    let struck = scene.server().counters().struck;
    assert!(struck > 80, "{struck} of {} requests were struck", scene.server().counters().total());

    scene.server().storm(storm(2027));
    let repository = scene.open();
    let (report, tally) = scene.restore(&repository);
    let report = report.unwrap();
    assert_eq!((report.error_count, report.partly_count), (0, 0), "{:?}", tally.problems());
    assert!(scene.server().counters().struck > struck + 80);
    scene.server().storm(None);
    scene.assert_same();
    assert_eq!((scene.locks().len(), scene.server().open_uploads()), (0, 0));
    let checked = check(&repository, None, &CheckOptions::default(), &Tally::default()).unwrap();
    assert!(checked.damage.is_empty(), "{:?}", checked.damage);
    println!("{:?}", scene.server().counters().requests);
}

/// Runs a backup against a fault that does not pass; returns what was reported.
fn lasting(
    strikes: impl Fn(&Seen) -> bool + Send + 'static,
    action: Action,
) -> (Scene, Result<BackupReport, Error>, Tally) {
    let scene = Scene::new(120, s3server::Options::default());
    let repository = scene.create();
    scene.server().inject(Fault::when(strikes, action));
    let (report, tally) = scene.backup(&repository);
    assert_eq!(scene.locks(), Vec::<Vec<u8>>::new(), "the lock is released");
    (scene, report, tally)
}

#[test]
fn an_object_that_cannot_be_read_is_named_and_the_others_are_kept() {
    for action in [
        Action::status(500, "InternalError"),
        Action::status(403, "AccessDenied"),
        // Deleted since it was listed.
        Action::status(404, "NoSuchKey"),
        Action::Truncate(0),
    ] {
        let told = format!("{action:?}");
        let (scene, report, tally) =
            lasting(|seen| seen.op == "GetObject" && seen.key == b"src/3/object 3", action);
        let report = report.unwrap();
        assert_eq!((report.error_count, report.file_count), (1, 119), "{told}");
        let problems = tally.problems();
        let problem = &problems[0].message;
        assert!(problem.contains("src/3/object 3") && !problem.contains("X-Amz"), "{problem}");
        let cause = if told.contains("Truncate") { "0 of 5757" } else { "HTTP" };
        assert!(problem.contains(cause), "{problem}");
        scene.server().clear_faults();
        // What is not there is not restored, and what is, is.
        let repository = scene.open();
        assert_eq!(list(&repository).0.len(), 1);
        let (restored, _) = scene.restore(&repository);
        assert_eq!(restored.unwrap().error_count, 0);
        assert_eq!(scene.keys("dst/").len(), 119);
    }
}

#[test]
fn a_listing_that_is_refused_ends_the_run_with_the_cause() {
    let (scene, report, _) =
        lasting(|seen| seen.op == "ListObjectsV2" && seen.number > 4, Action::status(403, "AccessDenied"));
    let said = told(&report.unwrap_err());
    assert!(said.contains("AccessDenied") && said.contains("grant s3:ListBucket"), "{said}");
    scene.server().clear_faults();
    assert_eq!(list(&scene.open()).0.len(), 0, "nothing was committed");
}

#[test]
fn a_listing_that_goes_in_circles_ends_the_run() {
    let options = s3server::Options { page_size: 20, ..s3server::Options::default() };
    let scene = Scene::new(120, options);
    let repository = scene.create();
    scene.server().inject(Fault::when(|seen| seen.op == "ListObjectsV2", Action::StalePage));
    let (report, _) = scene.backup(&repository);
    let said = told(&report.unwrap_err());
    assert!(said.contains("the listing repeats itself"), "{said}");
    scene.server().clear_faults();
    assert_eq!(list(&scene.open()).0.len(), 0);
}

#[test]
fn packfiles_that_cannot_be_put_end_the_run_and_nothing_is_committed() {
    for (action, cause) in [
        (Action::status(503, "SlowDown"), "SlowDown"),
        (Action::status(507, "InsufficientStorage"), "InsufficientStorage"),
        (Action::Reset, "attempts"),
    ] {
        let strikes = |seen: &Seen| seen.op == "PutObject" && seen.key.starts_with(b"store/packfiles/");
        let (scene, report, _) = lasting(strikes, action);
        let said = told(&report.unwrap_err());
        assert!(said.contains(cause) && said.contains("store/packfiles/"), "{said}");
        scene.server().clear_faults();
        assert_eq!(list(&scene.open()).0.len(), 0);
        assert_eq!(scene.keys("store/states/"), Vec::<Vec<u8>>::new());
    }
}

#[test]
fn a_state_that_cannot_be_put_is_no_backup() {
    let (scene, report, _) = lasting(
        |seen| seen.op == "PutObject" && seen.key.starts_with(b"store/states/"),
        Action::status(500, "InternalError"),
    );
    let said = told(&report.unwrap_err());
    assert!(said.contains("InternalError") && said.contains("store/states/"), "{said}");
    assert_eq!(list(&scene.open()).0.len(), 0);
}

#[test]
fn a_packfile_that_breaks_off_for_ever_is_a_transport_fault_and_no_damage() {
    let scene = Scene::with_large(120, s3server::Options::default());
    let repository = scene.create();
    scene.backup(&repository).0.unwrap();
    let mut packs = Vec::new();
    repository.storage().list(Kind::Packfile, &mut |listed| packs.push((listed.size, listed.id))).unwrap();
    let (_, largest) = packs.iter().max().unwrap();
    let hex = largest.to_hex();
    scene.server().inject(Fault::when(
        move |seen| seen.op == "GetObject" && seen.key.ends_with(hex.as_bytes()),
        Action::Truncate(5),
    ));
    let (restored, tally) = scene.restore(&scene.open());
    let failed = match restored {
        Ok(report) => report.error_count > 0,
        Err(_) => true,
    };
    assert!(failed, "a restore that misses something does not succeed");
    for problem in tally.problems() {
        let message = &problem.message;
        assert!(message.contains("attempts") && !message.contains("corrupt"), "{message}");
    }
    // Whatever stands at the destination is whole.
    for key in scene.keys("dst/") {
        let of = |prefix: &str| scene.server().object("bucket", [prefix.as_bytes(), &key].concat()).unwrap();
        assert!(of("src/").body == of("dst/").body, "{}", key.escape_ascii());
    }
    assert_eq!(scene.server().open_uploads(), 0);
    scene.server().clear_faults();
    scene.restore(&scene.open()).0.unwrap();
    scene.assert_same();
}
