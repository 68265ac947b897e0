//! What a backup gets out of a server, beside what bare requests get: `cargo bench --bench s3`.
//!
//! Reads the same objects twice, first in a bare loop of signed GETs that throws the bytes away, then by a backup into
//! a store in memory, with as many requests in flight, and prints the ratio. Many small objects are read one by one,
//! the large one by ranges. The server is this program once more, as a process of its own on this machine; it takes
//! its share of the processors, so that a backup, which has computing to do, is held back by what the server takes.
//! The rows marked `latency` add 20 ms to every answer, those marked `bandwidth` send 64 KiB a millisecond at most on
//! each connection, as networks do. With `S3_ENDPOINT`, `S3_ACCESS_KEY`, `S3_SECRET_KEY`
//! (and `S3_REGION`) set, the same is done on that server, in a bucket that is removed afterwards.
//!
//! | Variable | Meaning |
//! |---|---|
//! | `PLAKAR_BENCH_OBJECTS` | small objects; 4000 when not set |
//! | `PLAKAR_BENCH_OBJECT_KIB` | their size in KiB; 16 when not set |
//! | `PLAKAR_BENCH_LARGE_MIB` | size of the large one in MiB; 256 when not set |
//! | `PLAKAR_BENCH_CONCURRENCY` | requests in flight; 16 when not set |
#![allow(
    dead_code,
    unused_imports,
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "the server of the tests can do more than is needed here, and is written as tests are"
)]

#[path = "../tests/it/s3server/mod.rs"]
mod s3server;

use std::io::{self, BufRead as _, Read as _, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use plakar::connectors::memory::MemoryStore;
use plakar::connectors::s3::{Options, S3Importer};
use plakar::snapshot::{BackupOptions, Tally, backup};
use plakar::store::{CreateOptions, NoPassphrase, OpenOptions, Repository};
use rusty_s3::{Bucket, Credentials, S3Action as _, UrlStyle};

type Failure = Box<dyn std::error::Error>;

const MIB: f64 = 1_048_576.0;
const LIFE: Duration = Duration::from_mins(10);
/// Ranges of the large object, in bytes, and how many are asked for at a time.
const RANGE: u64 = 8 << 20;
const RANGES_AT_ONCE: usize = 4;

/// How much there is, and how many requests are in flight.
#[derive(Clone, Copy)]
struct Sizes {
    objects: u64,
    object: u64,
    large: u64,
    concurrency: usize,
}

impl Sizes {
    fn read() -> Result<Self, Failure> {
        let get = |name: &str, default: u64| match std::env::var(name) {
            Ok(text) => text.parse::<u64>(),
            Err(_) => Ok(default),
        };
        Ok(Self {
            objects: get("PLAKAR_BENCH_OBJECTS", 4000)?,
            object: get("PLAKAR_BENCH_OBJECT_KIB", 16)? << 10,
            large: get("PLAKAR_BENCH_LARGE_MIB", 256)? << 20,
            concurrency: usize::try_from(get("PLAKAR_BENCH_CONCURRENCY", 16)?)?,
        })
    }
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let sizes = Sizes::read()?;
    if let Some(at) = arguments.iter().position(|argument| argument == "--serve") {
        return serve(sizes, &arguments[at + 1]);
    }
    // `cargo test --benches` and `cargo nextest` start this without `--bench`: there is nothing to test then.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return Ok(());
    }
    say(&format!(
        "{} objects of {} KiB and one of {} MiB, {} requests in flight",
        sizes.objects,
        sizes.object >> 10,
        sizes.large >> 20,
        sizes.concurrency
    ))?;
    say("server                  what        bare MiB/s  cpu s    backup MiB/s  cpu s    ratio")?;
    for network in ["none", "latency", "bandwidth"] {
        let server = Server::start(network)?;
        let place = Place::own(&server.authority);
        measure(&format!("own, {network}"), &place, sizes)?;
    }
    if let Some(place) = Place::real() {
        place.fill(sizes)?;
        let done = measure(&place.authority.clone(), &place, sizes);
        place.empty(sizes)?;
        done?;
    }
    Ok(())
}

fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// Serves the objects until standard input ends.
fn serve(sizes: Sizes, network: &str) -> Result<(), Failure> {
    let server = s3server::S3Server::new();
    for (key, body) in contents(sizes) {
        server.insert("bench", key, s3server::Object::new(body));
    }
    let network = match network {
        "latency" => Some(s3server::Action::Stall(Duration::from_millis(20))),
        "bandwidth" => Some(s3server::Action::Slow(64 << 10, Duration::from_millis(1))),
        _ => None,
    };
    if let Some(network) = network {
        server.inject(s3server::Fault::on("GetObject", network));
    }
    say(&server.authority())?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Half of every content is noise and half repeats, as in life.
fn contents(sizes: Sizes) -> impl Iterator<Item = (String, Vec<u8>)> {
    let content = |seed: u64, length: u64| {
        let mut bytes = vec![b'.'; length as usize];
        let half = bytes.len() / 2;
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes[..half]);
        bytes
    };
    let small = (0..sizes.objects).map(move |n| (small_key(n), content(n, sizes.object)));
    small.chain(std::iter::once_with(move || ("large".to_owned(), content(u64::MAX, sizes.large))))
}

fn small_key(n: u64) -> String {
    format!("small/{:02}/{n:06}", n % 32)
}

/// The server as a process of its own.
struct Server {
    child: Child,
    authority: String,
}

impl Server {
    fn start(network: &str) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--serve", network])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut authority = String::new();
        io::BufReader::new(child.stdout.take().expect("it is a pipe")).read_line(&mut authority)?;
        Ok(Self { child, authority: authority.trim().to_owned() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// A bucket on a server.
struct Place {
    authority: String,
    bucket: Bucket,
    credentials: Credentials,
    secret: (String, String),
    agent: ureq::Agent,
}

impl Place {
    fn new(authority: &str, bucket: &str, (key, secret): (&str, &str), region: &str) -> Self {
        let url = format!("http://{authority}").parse().expect("a host and a port");
        let bucket = Bucket::new(url, UrlStyle::Path, bucket.to_owned(), region.to_owned());
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(true)
            .max_idle_connections(256)
            .max_idle_connections_per_host(256)
            .build();
        Self {
            authority: authority.to_owned(),
            bucket: bucket.expect("a plain name"),
            credentials: Credentials::new(key, secret),
            secret: (key.to_owned(), secret.to_owned()),
            agent: agent.into(),
        }
    }

    fn own(authority: &str) -> Self {
        Self::new(authority, "bench", (s3server::ACCESS_KEY, s3server::SECRET_KEY), "us-east-1")
    }

    fn real() -> Option<Self> {
        let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint = get("S3_ENDPOINT")?;
        let authority = endpoint.strip_prefix("http://")?.trim_end_matches('/').to_owned();
        let region = get("S3_REGION").unwrap_or_else(|| "us-east-1".into());
        let bucket = format!("plakar-bench-{}", std::process::id());
        Some(Self::new(&authority, &bucket, (&get("S3_ACCESS_KEY")?, &get("S3_SECRET_KEY")?), &region))
    }

    fn fill(&self, sizes: Sizes) -> Result<(), Failure> {
        self.agent.put(self.bucket.create_bucket(&self.credentials).sign(LIFE).as_str()).send_empty()?;
        for (key, body) in contents(sizes) {
            let url = self.bucket.put_object(Some(&self.credentials), &key).sign(LIFE);
            self.agent.put(url.as_str()).send(&body[..])?;
        }
        Ok(())
    }

    fn empty(&self, sizes: Sizes) -> Result<(), Failure> {
        for key in (0..sizes.objects).map(small_key).chain(["large".to_owned()]) {
            let url = self.bucket.delete_object(Some(&self.credentials), &key).sign(LIFE);
            self.agent.delete(url.as_str()).call()?;
        }
        self.agent.delete(self.bucket.delete_bucket(&self.credentials).sign(LIFE).as_str()).call()?;
        Ok(())
    }

    /// Reads an object, or a range of it, and throws it away; returns how many bytes it was.
    fn get(&self, key: &str, range: Option<(u64, u64)>) -> Result<u64, Failure> {
        let url = self.bucket.get_object(Some(&self.credentials), key).sign(LIFE);
        let mut request = self.agent.get(url.as_str());
        if let Some((start, end)) = range {
            request = request.header("range", format!("bytes={start}-{}", end - 1));
        }
        let mut reader = request.call()?.into_body().into_reader();
        let mut buffer = vec![0; 256 << 10];
        let mut length = 0;
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(length),
                read => length += read as u64,
            }
        }
    }

    /// Backs a prefix up into a store in memory; returns how many bytes were read.
    fn back_up(&self, prefix: &str, concurrency: usize) -> Result<u64, Failure> {
        let region = self.bucket.region();
        let concurrency = concurrency.to_string();
        let options = [
            ("access_key", self.secret.0.as_str()),
            ("secret_access_key", &self.secret.1),
            ("use_tls", "false"),
            ("region", region),
            ("concurrency", &concurrency),
        ];
        let location = format!("s3://{}/{}/{prefix}", self.authority, self.bucket.name());
        let importer = S3Importer::new(Options::parse(&location, options, &|_| None)?)?;
        let store = MemoryStore::default();
        Repository::create(&store, &CreateOptions::default())?;
        let repository = Repository::open(Arc::new(store), &mut NoPassphrase, &OpenOptions::default())?;
        let report = backup(&repository, &importer, &BackupOptions::default(), &Tally::default())?;
        assert_eq!(report.error_count, 0, "nothing may be missing");
        Ok(report.read_bytes)
    }
}

/// Does jobs by number on several threads; returns the sum of what they return.
fn side_by_side(threads: usize, jobs: u64, each: impl Fn(u64) -> Result<u64, Failure> + Sync) -> u64 {
    let (next, sum) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let job = next.fetch_add(1, Ordering::Relaxed);
                    if job >= jobs {
                        return;
                    }
                    sum.fetch_add(each(job).expect("the server answers"), Ordering::Relaxed);
                }
            });
        }
    });
    sum.into_inner()
}

/// Measures both ways of reading, small objects and the large one, and prints what came out.
fn measure(server: &str, place: &Place, sizes: Sizes) -> Result<(), Failure> {
    let ranges = sizes.large.div_ceil(RANGE);
    let bare_small =
        || Ok(side_by_side(sizes.concurrency, sizes.objects, |n| place.get(&small_key(n), None)));
    let bare_large = || {
        Ok(side_by_side(RANGES_AT_ONCE, ranges, |n| {
            place.get("large", Some((n * RANGE, ((n + 1) * RANGE).min(sizes.large))))
        }))
    };
    let small = sizes.objects * sizes.object;
    let pair = |what: &str,
                bytes: u64,
                bare: &dyn Fn() -> Result<u64, Failure>,
                full: &dyn Fn() -> Result<u64, Failure>|
     -> Result<(), Failure> {
        // The best of three: what disturbs only ever slows down.
        let mut best = [(Duration::MAX, 0.0); 2];
        for _ in 0..3 {
            for (best, run) in best.iter_mut().zip([bare, full]) {
                let (begun, cpu) = (Instant::now(), processor_seconds());
                assert_eq!(run()?, bytes, "all of it is read");
                let took = begun.elapsed();
                if took < best.0 {
                    *best = (took, processor_seconds() - cpu);
                }
            }
        }
        let rate = |took: Duration| bytes as f64 / MIB / took.as_secs_f64();
        let [bare, full] = best;
        say(&format!(
            "{server:<22}  {what:<10}  {:>10.1}  {:>5.2}  {:>14.1}  {:>5.2}  {:>6.0} %",
            rate(bare.0),
            bare.1,
            rate(full.0),
            full.1,
            100.0 * bare.0.as_secs_f64() / full.0.as_secs_f64()
        ))?;
        Ok(())
    };
    pair("small", small, &bare_small, &|| place.back_up("small", sizes.concurrency))?;
    pair("large", sizes.large, &bare_large, &|| place.back_up("large", sizes.concurrency))
}

/// Returns the processor time of this process so far, in seconds.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in parentheses, may hold spaces.
    let fields = stat.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default();
    let ticks = |n: usize| fields.split(' ').nth(n).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
