//! What a backup gets out of a server, beside what bare requests get: `cargo bench --bench s3`.
//!
//! Reads the same objects twice, first in a bare loop of signed GETs that throws the bytes away, then by a backup into
//! a store in a folder in memory, with as many requests in flight, and prints the ratio, and the processor time that
//! either took. Many small objects are read one by one, the large one by ranges. This is done over a link of one
//! gigabit a second (`link`: a proxy that all connections share), over one that is 20 ms long, over one that is both,
//! and without any. The server and the link are this program once more, as processes of their own on this machine. They
//! take their share of the processors, so that on few of them the last two rows tell what the processors can do rather
//! than what a network leaves to be had. With `S3_ENDPOINT`, `S3_ACCESS_KEY`, `S3_SECRET_KEY` (and `S3_REGION`) set,
//! the same is done on that server, in a bucket that is removed afterwards.
//!
//! | Variable | Meaning |
//! |---|---|
//! | `PLAKAR_BENCH_OBJECTS` | small objects; 16000 when not set |
//! | `PLAKAR_BENCH_OBJECT_KIB` | their size in KiB; 16 when not set |
//! | `PLAKAR_BENCH_LARGE_MIB` | size of the large one in MiB; 512 when not set |
//! | `PLAKAR_BENCH_CONCURRENCY` | requests in flight; 16 when not set |
//! | `PLAKAR_BENCH_LINK` | measures this link only, by its name in the first column |
//! | `PLAKAR_BENCH_WHAT` | measures `small` or `large` only |
//! | `PLAKAR_BENCH_SERVER_CPU` | the processor that server and link keep to (Linux) |
//!
//! With `PLAKAR_BENCH_SERVER_CPU=0 taskset -c 1 cargo bench --bench s3` the server has a processor of its own, as it
//! has in life; a real one is then to be started under `taskset -c 0`. A link that takes next to nothing from the
//! processors is one of the kernel's, in a network of its own (as root, where the programs of iproute2 are):
//!
//! ```sh
//! unshare -n sh -c 'ip link set lo up &&
//!   tc qdisc add dev lo root tbf rate 1gbit burst 512kb latency 100ms &&
//!   PLAKAR_BENCH_LINK=unlimited cargo bench --bench s3'
//! ```
#![allow(
    dead_code,
    unused_imports,
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "the server of the tests can do more than is needed here, and is written as tests are"
)]

mod link;
#[path = "../../tests/it/s3server/mod.rs"]
mod s3server;

use std::io::{self, BufRead as _, Read as _, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use plakar::connectors::fs::FsStore;
use plakar::connectors::s3::{Options, S3Importer};
use plakar::snapshot::{BackupOptions, Tally, backup};
use plakar::store::{CreateOptions, NoPassphrase, OpenOptions, Repository};
use rusty_s3::{Bucket, Credentials, S3Action as _, UrlStyle};
use tempfile::TempDir;

use link::{LINKS, Link};

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
            objects: get("PLAKAR_BENCH_OBJECTS", 16_000)?,
            object: get("PLAKAR_BENCH_OBJECT_KIB", 16)? << 10,
            large: get("PLAKAR_BENCH_LARGE_MIB", 512)? << 20,
            concurrency: usize::try_from(get("PLAKAR_BENCH_CONCURRENCY", 16)?)?,
        })
    }
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let sizes = Sizes::read()?;
    let argument = |name: &str| arguments.iter().position(|argument| argument == name);
    if argument("--serve").is_some() {
        return serve(sizes);
    }
    if let Some(at) = argument("--link") {
        let link = LINKS.iter().find(|link| link.name == arguments[at + 1]).ok_or("no such link")?;
        return link::serve(*link, &arguments[at + 2]);
    }
    // `cargo test --benches` and `cargo nextest` start this without `--bench`: there is nothing to test then.
    if argument("--bench").is_none() {
        return Ok(());
    }
    say(&format!(
        "{} objects of {} KiB and one of {} MiB, {} requests in flight",
        sizes.objects,
        sizes.object >> 10,
        sizes.large >> 20,
        sizes.concurrency
    ))?;
    say("                                     MiB/s             processor s/GiB     backup, processor")?;
    say(
        "server, link                  what    bare  backup       bare  backup     s/1000 objects     ratio",
    )?;
    let server = Process::start(&["--serve"])?;
    let own =
        Place::new(&server.authority, "bench", (s3server::ACCESS_KEY, s3server::SECRET_KEY), "us-east-1");
    measure_links("own", &own, sizes)?;
    drop(server);
    if let Some(place) = Place::real() {
        place.fill(sizes)?;
        let done = measure_links("real", &place, sizes);
        place.empty(sizes)?;
        done?;
    }
    Ok(())
}

fn measure_links(server: &str, place: &Place, sizes: Sizes) -> Result<(), Failure> {
    let wanted = std::env::var("PLAKAR_BENCH_LINK").ok();
    for link in LINKS.iter().filter(|link| wanted.as_ref().is_none_or(|wanted| wanted == link.name)) {
        let name = format!("{server}, {}", link.name);
        if link.is_bare() {
            measure(&name, place, sizes)?;
        } else {
            let proxy = Process::start(&["--link", link.name, &place.authority])?;
            measure(&name, &place.behind(&proxy.authority), sizes)?;
        }
    }
    Ok(())
}

fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// Serves the objects until standard input ends.
fn serve(sizes: Sizes) -> Result<(), Failure> {
    let server = s3server::S3Server::new();
    for (key, body) in contents(sizes) {
        // As S3 has it where none was given.
        let object = s3server::Object::new(body).header("content-type", "binary/octet-stream");
        server.insert("bench", key, object);
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

/// The server, or a link, as a process of its own.
struct Process {
    child: Child,
    authority: String,
}

impl Process {
    fn start(arguments: &[&str]) -> Result<Self, Failure> {
        let own = std::env::current_exe()?;
        let mut command = match std::env::var("PLAKAR_BENCH_SERVER_CPU") {
            Ok(cpu) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &cpu]).arg(own);
                command
            }
            Err(_) => Command::new(own),
        };
        let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut authority = String::new();
        io::BufReader::new(child.stdout.take().expect("it is a pipe")).read_line(&mut authority)?;
        Ok(Self { child, authority: authority.trim().to_owned() })
    }
}

impl Drop for Process {
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

    /// Returns the same bucket by way of a link.
    fn behind(&self, authority: &str) -> Self {
        let (key, secret) = (self.secret.0.as_str(), self.secret.1.as_str());
        Self::new(authority, self.bucket.name(), (key, secret), self.bucket.region())
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

    /// Backs a prefix up into a store in a folder, in memory where there is such a place; returns how many bytes were
    /// read, and the folder.
    fn back_up(&self, prefix: &str, concurrency: usize) -> Result<Read, Failure> {
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
        let shared = Path::new("/dev/shm");
        let folder = match tempfile::tempdir_in(shared) {
            Ok(folder) => folder,
            Err(_) => tempfile::tempdir()?,
        };
        let store = FsStore::new(folder.path().join("store"));
        Repository::create(&store, &CreateOptions::default())?;
        let repository = Repository::open(Arc::new(store), &mut NoPassphrase, &OpenOptions::default())?;
        let report = backup(&repository, &importer, &BackupOptions::default(), &Tally::default())?;
        assert_eq!(report.error_count, 0, "nothing may be missing");
        Ok((report.read_bytes, Some(folder)))
    }
}

/// How many bytes were read, and what is to be removed once the clock has stopped.
type Read = (u64, Option<TempDir>);

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
fn measure(name: &str, place: &Place, sizes: Sizes) -> Result<(), Failure> {
    let wanted = std::env::var("PLAKAR_BENCH_WHAT").ok();
    let wanted = |what: &str| wanted.as_ref().is_none_or(|wanted| wanted == what);
    if wanted("small") {
        let bare =
            || Ok((side_by_side(sizes.concurrency, sizes.objects, |n| place.get(&small_key(n), None)), None));
        let full = || place.back_up("small", sizes.concurrency);
        let (bare, full) = best_of(sizes.objects * sizes.object, &bare, &full)?;
        report(name, "small", sizes.objects, &bare, &full)?;
    }
    if wanted("large") {
        let bare = || {
            let ranges = sizes.large.div_ceil(RANGE);
            let get = |n: u64| place.get("large", Some((n * RANGE, ((n + 1) * RANGE).min(sizes.large))));
            Ok((side_by_side(RANGES_AT_ONCE, ranges, get), None))
        };
        let full = || place.back_up("large", sizes.concurrency);
        let (bare, full) = best_of(sizes.large, &bare, &full)?;
        report(name, "large", 1, &bare, &full)?;
    }
    Ok(())
}

/// What one way of reading took.
#[derive(Clone, Copy)]
struct Run {
    bytes: u64,
    took: Duration,
    processor: f64,
}

/// Reads both ways by turns and returns the best of three each: what disturbs only ever slows down.
fn best_of(
    bytes: u64,
    bare: &dyn Fn() -> Result<Read, Failure>,
    full: &dyn Fn() -> Result<Read, Failure>,
) -> Result<(Run, Run), Failure> {
    let mut best = [Run { bytes, took: Duration::MAX, processor: f64::MAX }; 2];
    for _ in 0..3 {
        for (best, run) in best.iter_mut().zip([bare, full]) {
            let (begun, processor) = (Instant::now(), processor_seconds());
            let (read, _folder) = run()?;
            best.took = best.took.min(begun.elapsed());
            best.processor = best.processor.min(processor_seconds() - processor);
            assert_eq!(read, bytes, "all of it is read");
        }
    }
    let [bare, full] = best;
    Ok((bare, full))
}

fn report(name: &str, what: &str, objects: u64, bare: &Run, full: &Run) -> io::Result<()> {
    let rate = |run: &Run| run.bytes as f64 / MIB / run.took.as_secs_f64();
    let processor = |run: &Run| run.processor * 1024.0 * MIB / run.bytes as f64;
    say(&format!(
        "{name:<28}  {what}  {:>6.0}  {:>6.0}     {:>6.2}  {:>6.2}       {:>12}  {:>6.0} %",
        rate(bare),
        rate(full),
        processor(bare),
        processor(full),
        if objects > 1 { format!("{:.3}", full.processor * 1000.0 / objects as f64) } else { String::new() },
        100.0 * bare.took.as_secs_f64() / full.took.as_secs_f64()
    ))
}

/// Returns the processor time of this process so far, in seconds.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in parentheses, may hold spaces.
    let fields = stat.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default();
    let ticks = |n: usize| fields.split(' ').nth(n).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
