//! How little each key may be allowed: the policies that README prints suffice, on the server of ours and on a real
//! one, and each permission less costs its own feature alone.
//!
//! `tests/data/policies` holds those policies word for word, with `BUCKET` for the bucket's name. The real server gets
//! them as bucket policies for users of its own, named by `S3_SOURCE_ACCESS_KEY` and the like.

use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::Arc;

use plakar::base::{Cancel, Timestamp};
use plakar::codec::compress::Compression;
use plakar::connector::{ErrorKind, Exporter as _, Item, Kind, Storage};
use plakar::connectors::memory::MemoryStore;
use plakar::connectors::s3::{ExportOptions, Options, S3Exporter, S3Importer, S3Store};
use plakar::format::lock::Lock;
use plakar::format::wrapper::{self, Resource};
use plakar::snapshot::{
    BackupOptions, BackupReport, CheckOptions, RestoreOptions, RestoreReport, Tally, backup, check, list,
    restore,
};
use plakar::store::{CreateOptions, NoPassphrase, OpenOptions, Repository};
use serde_json::{Value, json};

use crate::cli::User;
use crate::s3_bed::Bed;
use crate::s3server::{self, Key};

/// Statements of a policy: actions, and whether they are about objects.
type Allowed = Vec<(String, bool)>;

fn file(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/policies").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Returns what the policy of a role allows.
fn policy(role: &str) -> Allowed {
    let mut out = Vec::new();
    for statement in file(&format!("{role}.json"))["Statement"].as_array().unwrap() {
        assert_eq!(statement["Effect"], "Allow");
        let resources = statement["Resource"].as_array().unwrap();
        let on_objects = match resources.as_slice() {
            [one] if one == "arn:aws:s3:::BUCKET" => false,
            [one] if one == "arn:aws:s3:::BUCKET/*" => true,
            other => panic!("{other:?}"),
        };
        let actions = statement["Action"].as_array().unwrap();
        out.extend(actions.iter().map(|action| (action.as_str().unwrap().to_owned(), on_objects)));
    }
    out
}

fn without(role: &str, action: &str) -> Allowed {
    let all = policy(role);
    let left: Allowed = all.iter().filter(|(name, _)| name != action).cloned().collect();
    assert!(left.len() < all.len(), "{action} is not in the policy");
    left
}

fn with(role: &str, action: &str) -> Allowed {
    [policy(role), vec![(action.to_owned(), true)]].concat()
}

/// The operations of the server of ours that an action stands for.
fn operation(action: &str) -> &str {
    match action.strip_prefix("s3:").unwrap() {
        "ListBucket" => "ListObjectsV2",
        other => other,
    }
}

/// A key of a role in a bucket.
#[derive(Clone)]
struct Guest<'a> {
    bed: &'a Bed,
    role: &'a str,
    access_key: String,
    secret: String,
}

impl<'a> Guest<'a> {
    /// Returns the role's key, which may do nothing yet; `None` where the real server has no such users.
    fn new(bed: &'a Bed, role: &'a str) -> Option<Self> {
        let (access_key, secret) = if bed.server.is_some() {
            (format!("AK-{role}"), format!("SK-{role}"))
        } else {
            let read = |part: &str| std::env::var(format!("S3_{}_{part}", role.to_uppercase())).ok();
            let found = read("ACCESS_KEY").zip(read("SECRET_KEY"));
            if found.is_none() {
                println!("not run against a real server: it has no user for the role of a {role}");
            }
            found?
        };
        let guest = Self { bed, role, access_key, secret };
        guest.allow(&Vec::new());
        Some(guest)
    }

    /// Lets the key do this and nothing else.
    fn allow(&self, allowed: &Allowed) {
        if let Some(server) = &self.bed.server {
            let operations: Vec<&str> = allowed.iter().map(|(action, _)| operation(action)).collect();
            server.set_key(&self.access_key, Key::only(&self.secret, &operations));
            return;
        }
        let bucket = &self.bed.bucket;
        let statements: Vec<Value> = allowed
            .iter()
            .map(|(action, on_objects)| {
                let tail = if *on_objects { "/*" } else { "" };
                json!({
                    "Effect": "Allow",
                    "Principal": {"AWS": [format!("arn:aws:iam:::user/{}", self.role)]},
                    "Action": [action],
                    "Resource": [format!("arn:aws:s3:::{bucket}{tail}")],
                })
            })
            .collect();
        let method = if statements.is_empty() { "DELETE" } else { "PUT" };
        let policy = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        let answer = self.bed.request(method, None, "policy=", &[], policy.as_bytes());
        assert!(
            matches!(answer.status, 200 | 204),
            "{}: {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
    }

    /// Returns a way to see what the key wrote: on the real server an object belongs to who wrote it, not to the
    /// bucket's owner.
    fn eyes(&self) -> ManuallyDrop<Bed> {
        let own = self.bed.server.is_some();
        let pick = |owner: &str, guest: &str| if own { owner.to_owned() } else { guest.to_owned() };
        ManuallyDrop::new(Bed {
            server: None,
            authority: self.bed.authority.clone(),
            access_key: pick(&self.bed.access_key, &self.access_key),
            secret: pick(&self.bed.secret, &self.secret),
            region: self.bed.region.clone(),
            bucket: self.bed.bucket.clone(),
        })
    }

    fn options(&self, prefix: &str) -> Options {
        self.bed.options_as(&self.access_key, &self.secret, prefix, &[])
    }
}

fn source() -> Bed {
    Bed::own(s3server::Options::default())
}

/// Runs a test on every server there is, for a role.
fn each(role: &str, test: impl Fn(&Bed, &Guest<'_>)) {
    let own = Bed::own(s3server::Options::default());
    test(&own, &Guest::new(&own, role).unwrap());
    if let Some(bed) = Bed::real()
        && let Some(guest) = Guest::new(&bed, role)
    {
        test(&bed, &guest);
    }
}

fn make(storage: impl Storage + 'static, compression: Option<Compression>) -> Arc<Repository> {
    let storage: Arc<dyn Storage> = Arc::new(storage);
    Repository::create(storage.as_ref(), &CreateOptions { compression, ..CreateOptions::default() }).unwrap();
    open(storage)
}

fn open(storage: Arc<dyn Storage>) -> Arc<Repository> {
    Repository::open(storage, &mut NoPassphrase, &OpenOptions::default()).unwrap()
}

fn run(repository: &Arc<Repository>, importer: &S3Importer) -> (BackupReport, Tally) {
    let tally = Tally::default();
    let report = backup(repository, importer, &BackupOptions::default(), &tally).unwrap();
    (report, tally)
}

fn restore_latest(repository: &Arc<Repository>, to: &S3Exporter) -> (RestoreReport, Tally) {
    let (snapshots, failed) = list(repository);
    assert!(failed.is_empty());
    let newest = snapshots.iter().max_by_key(|snapshot| snapshot.header.timestamp).unwrap();
    let tally = Tally::default();
    let options = RestoreOptions { cancel: Cancel::new(), ..RestoreOptions::default() };
    let report = restore(repository, newest, None, to, &options, &tally).unwrap();
    (report, tally)
}

/// Puts some objects where a source begins.
fn fill(bed: &Bed) {
    for n in 0..20 {
        bed.put(format!("src/d{}/f{n}", n % 3), &[("x-amz-meta-n", b"1")], format!("content {n}").as_bytes());
    }
    bed.put("src/tagged", &[("x-amz-tagging", b"team=blue")], b"t");
    bed.put("src/large", &[], &vec![9; 3 << 20]);
}

const OBJECTS: u64 = 22;

fn problems(tally: &Tally) -> String {
    format!("{:?}", tally.problems())
}

#[test]
fn a_source_needs_to_list_and_to_read() {
    each("source", |bed, guest| {
        fill(bed);
        guest.allow(&policy("source"));
        let repository = make(MemoryStore::new(), None);
        let importer = S3Importer::new(guest.options("src/")).unwrap();
        let (report, tally) = run(&repository, &importer);
        assert_eq!((report.file_count, report.error_count), (OBJECTS, 0), "{}", problems(&tally));
        let (report, _) = run(&repository, &importer);
        assert_eq!(report.unchanged_count, OBJECTS);
        // What the key may not do, it cannot.
        let writer = S3Store::new(guest.options("")).unwrap();
        assert_eq!(writer.create(b"config").unwrap_err().kind, ErrorKind::Denied);

        // It all comes back, tags included if they could be seen.
        let there = S3Exporter::new(bed.options("dst", &[]), ExportOptions::default()).unwrap();
        let (report, tally) = restore_latest(&repository, &there);
        assert_eq!((report.file_count, report.error_count), (OBJECTS, 0), "{}", problems(&tally));
        assert_eq!(bed.get("dst/large").body, vec![9; 3 << 20]);
        assert_eq!(bed.get("dst/d1/f1").header("x-amz-meta-n"), "1");
        assert!(bed.tags("dst/tagged").is_empty(), "the key may not read tags");

        guest.allow(&with("source", "s3:GetObjectTagging"));
        let seeing = make(MemoryStore::new(), None);
        run(&seeing, &importer);
        restore_latest(&seeing, &there);
        // Only where the server says with the object that there are tags is it asked for them.
        let says = bed.get("src/tagged").header("x-amz-tagging-count") == "1";
        let tags = if says { vec![("team".to_owned(), "blue".to_owned())] } else { Vec::new() };
        assert_eq!(bed.tags("dst/tagged"), tags);
    });
}

#[test]
fn a_source_that_may_not_list_or_read_says_which() {
    each("source", |bed, guest| {
        fill(bed);
        guest.allow(&without("source", "s3:ListBucket"));
        let importer = S3Importer::new(guest.options("src/")).unwrap();
        let repository = make(MemoryStore::new(), None);
        let tally = Tally::default();
        let told = match backup(&repository, &importer, &BackupOptions::default(), &tally) {
            Err(error) => plakar::snapshot::message_of(&error),
            Ok(report) => {
                assert!(report.error_count > 0);
                problems(&tally)
            }
        };
        assert!(told.contains("grant s3:ListBucket on ") && told.contains("403"), "{told}");

        guest.allow(&without("source", "s3:GetObject"));
        let (report, tally) = run(&repository, &importer);
        assert_eq!(report.error_count, OBJECTS, "every object is named");
        let told = problems(&tally);
        assert!(told.contains("grant s3:GetObject on ") && told.contains("src/d1/f1"), "{told}");
        assert!(!told.contains(&guest.secret) && !told.contains("X-Amz-"), "{told}");
    });
}

fn settings(guest: &Guest<'_>, prefix: &str) -> Options {
    let mut options = guest.options(prefix);
    options.tuning.multipart_threshold = 10 << 20;
    options.tuning.part_size = 5 << 20;
    options
}

#[test]
fn a_destination_needs_to_put() {
    each("destination", |bed, guest| {
        let from = source();
        fill(&from);
        from.put("src/parts", &[("x-amz-tagging", b"team=blue")], &vec![7; 11 << 20]);
        let repository = make(MemoryStore::new(), None);
        run(&repository, &S3Importer::new(from.options("src/", &[])).unwrap());

        guest.allow(&policy("destination"));
        let writer = S3Exporter::new(settings(guest, "one"), ExportOptions::default()).unwrap();
        let (report, tally) = restore_latest(&repository, &writer);
        assert_eq!((report.file_count, report.error_count), (OBJECTS + 1, 0), "{}", problems(&tally));
        let eyes = guest.eyes();
        // What was not written is reported. (Ceph lets who wrote an object tag it, whatever the policy says.)
        let untagged = ["one/tagged", "one/parts"].iter().filter(|key| eyes.tags(key).is_empty()).count();
        assert_eq!(report.partly_count, untagged as u64, "{}", problems(&tally));
        assert_eq!(problems(&tally).contains("tags"), untagged > 0, "{}", problems(&tally));
        assert!(bed.server.is_none() || untagged == 2);
        assert_eq!(eyes.get("one/d1/f1").header("x-amz-meta-n"), "1");
        assert!(eyes.get("one/parts").body == vec![7; 11 << 20]);
        if let Some(server) = &bed.server {
            let counters = server.counters();
            for (op, most) in [
                ("HeadBucket", 0),
                ("CreateBucket", 0),
                ("HeadObject", 0),
                // What is there already is asked for once, and the refusal taken for an answer.
                ("ListObjectsV2", 1),
                // The test's own.
                ("GetObject", 2),
            ] {
                assert!(counters.of(op) <= most, "{op}: {:?}", counters.requests);
            }
        }

        guest.allow(&with("destination", "s3:PutObjectTagging"));
        let tagger = S3Exporter::new(settings(guest, "two"), ExportOptions::default()).unwrap();
        let (report, tally) = restore_latest(&repository, &tagger);
        assert_eq!((report.partly_count, report.error_count), (0, 0), "{}", problems(&tally));
        for key in ["two/tagged", "two/parts"] {
            assert_eq!(eyes.tags(key), [("team".to_owned(), "blue".to_owned())], "{key}");
        }
    });
}

/// A content that breaks off.
#[derive(Debug)]
struct Torn;

impl plakar::connector::ContentSource for Torn {
    fn size(&self) -> u64 {
        11 << 20
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), plakar::connector::Error> {
        if offset + buffer.len() as u64 > 6 << 20 {
            return Err(plakar::connector::Error::new(ErrorKind::Io, "read", "a chunk"));
        }
        buffer.fill(1);
        Ok(())
    }

    fn boundaries(&self) -> Vec<u64> {
        vec![0]
    }
}

#[test]
fn a_destination_that_may_not_put_or_clean_up_says_so() {
    each("destination", |bed, guest| {
        let entry = {
            let mode = plakar::format::entry::Mode::regular(0o600);
            let mut info = plakar::format::entry::FileInfo::new("k", mode);
            info.modified = Timestamp::EPOCH;
            plakar::format::entry::Entry::new("/", info)
        };
        let path = plakar::base::RawString::from("k");
        let item = Item { path: &path, entry: &entry, xattrs: &[] };
        let writer = S3Exporter::new(settings(guest, ""), ExportOptions::default()).unwrap();
        let error = writer.file(&item, &Torn).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind, ErrorKind::Denied);
        assert!(text.contains("grant s3:PutObject on") && text.contains(&bed.bucket), "{text}");
        guest.allow(&policy("destination"));
        // The failure is told as it is, whether or not the parts sent so far could be removed.
        let error = writer.file(&item, &Torn).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Io, "{error}");
        assert_eq!(bed.get("k").status, 404);
    });
}

/// Returns the locks of a store as they stand, with what is inside.
fn locks(store: &S3Store) -> Vec<Lock> {
    let mut ids = Vec::new();
    store.list(Kind::Lock, &mut |lock| ids.push(lock.id)).unwrap();
    let decode = |id| {
        let bytes = store.get(Kind::Lock, id).unwrap();
        Lock::decode(wrapper::split(&bytes, Resource::Lock).unwrap().payload).unwrap()
    };
    ids.into_iter().map(decode).collect()
}

#[test]
fn a_store_needs_to_list_read_and_write_but_never_to_delete() {
    each("store", |bed, guest| {
        let from = source();
        fill(&from);
        let importer = S3Importer::new(from.options("src/", &[])).unwrap();
        guest.allow(&policy("store"));
        let storage = || S3Store::new(guest.options("store")).unwrap();
        // Uncompressed, so that the locks can be looked into.
        let repository = make(storage(), Some(Compression::None));
        let (report, tally) = run(&repository, &importer);
        assert_eq!((report.file_count, report.error_count), (OBJECTS, 0), "{}", problems(&tally));
        from.put("src/new", &[], b"new");
        let (report, tally) = run(&open(Arc::new(storage())), &importer);
        assert_eq!(
            (report.file_count, report.unchanged_count),
            (OBJECTS + 1, OBJECTS),
            "{}",
            problems(&tally)
        );
        // Nothing was deleted: the locks are there, and each is released.
        let found = locks(&storage());
        assert!(
            !found.is_empty() && found.iter().all(|lock| lock.timestamp == Timestamp::EPOCH),
            "{found:?}"
        );
        let report =
            check(&open(Arc::new(storage())), None, &CheckOptions::default(), &Tally::default()).unwrap();
        assert_eq!((report.snapshot_count, report.damage.len()), (2, 0), "{:?}", report.damage);

        // A key that may delete leaves no lock.
        guest.allow(&with("store", "s3:DeleteObject"));
        let before = locks(&storage()).len();
        run(&open(Arc::new(storage())), &importer);
        assert!(locks(&storage()).len() <= before);

        // To read a store takes no right to write to it, nor a lock.
        guest.allow(&without("store", "s3:PutObject"));
        let reader = open(Arc::new(storage()));
        let report = check(&reader, None, &CheckOptions::default(), &Tally::default()).unwrap();
        assert_eq!((report.snapshot_count, report.damage.len()), (3, 0), "{:?}", report.damage);
        let there = S3Exporter::new(bed.options("dst", &[]), ExportOptions::default()).unwrap();
        let (report, tally) = restore_latest(&reader, &there);
        assert_eq!((report.file_count, report.error_count), (OBJECTS + 1, 0), "{}", problems(&tally));
        let tally = Tally::default();
        let error = backup(&reader, &importer, &BackupOptions::default(), &tally).unwrap_err();
        let told = plakar::snapshot::message_of(&error);
        assert!(told.contains("grant s3:PutObject on "), "{told}");
    });
}

#[test]
fn the_command_line_gets_along_with_three_narrow_keys() {
    let beds = ["source", "store", "destination"].map(|role| (role, source()));
    let mut user = User::new();
    user.set("PLAKAR_PASSPHRASE", "correct horse battery staple");
    for (role, bed) in &beds {
        let guest = Guest::new(bed, role).unwrap();
        guest.allow(&policy(role));
        user.ok(&format!(
            "{role} add {role} s3://{}/{} access_key={} secret_access_key={} use_tls=false",
            bed.authority, bed.bucket, guest.access_key, guest.secret
        ));
    }
    let [(_, from), (_, kept), (_, to)] = &beds;
    fill(from);
    user.ok("at @store create");
    user.ok("at @store backup @source");
    from.put("src/new", &[], b"new");
    let told = user.ok("at @store backup @source");
    assert!(told.contains(&format!("({OBJECTS} unchanged)")), "{told}");
    user.ok("at @store check");
    let ran = user.run("at @store restore -to @destination");
    // (Tags could not be read, so there are none to lose: all is well.)
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(to.keys(), from.keys());
    assert_eq!(to.get("src/large").body, vec![9; 3 << 20]);
    // Once more: what cannot be looked at is written again.
    user.ok("at @store restore -to @destination");
    let counters = to.own_server().counters();
    assert_eq!(counters.of("CreateBucket") + counters.of("HeadBucket"), 0, "{:?}", counters.requests);
    // And a key of nobody's is told what it lacks.
    Guest::new(kept, "store").unwrap();
    let ran = user.run("at @store ls");
    assert!(ran.code == 77 && ran.stderr.contains("grant s3:"), "{ran:?}");
}

#[test]
fn scaleways_policies_allow_the_same() {
    for role in ["source", "store", "destination"] {
        let aws: Vec<String> = policy(role).into_iter().map(|(action, _)| action).collect();
        let document = file(&format!("scaleway-{role}.json"));
        assert_eq!(document["Version"], "2023-04-17");
        let statements = document["Statement"].as_array().unwrap();
        let mut principals = Vec::new();
        for statement in statements {
            assert_eq!(statement["Resource"], json!(["BUCKET", "BUCKET/*"]));
            principals.push(statement["Principal"]["SCW"].as_str().unwrap());
        }
        // Who is not named is locked out: the owner is.
        assert_eq!(principals, ["user_id:OWNER", "application_id:APPLICATION"]);
        assert_eq!(statements[1]["Action"], json!(aws), "{role}");
    }
}
