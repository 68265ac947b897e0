//! An S3 server inside the test process: exact keys, signatures checked, faults on demand.
//!
//! It speaks HTTP/1.1 over plain sockets, one thread a connection, and shares no code with the product: its
//! signature check, its XML and its pagination are written from the protocol's documentation, so that a mistake
//! of the client is not mirrored here. Keys are the bytes between `/bucket/` and `?`, percent-decoded and
//! otherwise untouched: `..`, `//` and a leading slash mean nothing special.
//!
//! ```text
//! accept -> http (parse, body) -> access (fault?, signature, permission) -> ops (backend) -> http (write, fault?)
//! ```

mod access;
mod backend;
mod fault;
mod http;
mod ops;
mod sigv4;
mod wire;

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

pub(crate) use access::Key;
use backend::Backend;
pub(crate) use backend::Object;
pub(crate) use fault::{Action, Counters, Fault, Seen, Storm};
pub(crate) use ops::cold::Retrieval;
pub(crate) use wire::{elements, percent_decode, percent_encode, unescape};

/// The access key every server starts with.
pub(crate) const ACCESS_KEY: &str = "AKIDTESTEXAMPLE";
/// Its secret: a string no other text contains by chance, so that a leak shows.
pub(crate) const SECRET_KEY: &str = "s3cr3t/LeakCanary+0123456789abcdefghijk";

/// Returns a request's headers with those that sign it; `path` and `query` are encoded already.
pub(crate) fn authorize(
    (method, path, query): (&str, &str, &str),
    headers: Vec<(String, Vec<u8>)>,
    (access_key, secret): (&str, &str),
    region: &str,
) -> Vec<(String, Vec<u8>)> {
    let request = wire::Request {
        method: method.into(),
        path: path.into(),
        query: query.to_owned().into(),
        headers,
        ..wire::Request::default()
    };
    sigv4::authorize(&request, access_key, secret, region)
}

/// What kind of listing a server gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Listing {
    /// Keys in order, page after page by a token.
    Version2,
    /// The same with keys in no order, as directory buckets have it.
    Unordered,
    /// The first version of the operation, whatever is asked for: a page follows a key.
    Version1,
}

/// How the server behaves.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The region signatures must name.
    pub(crate) region: String,
    /// Keys on one page of a listing, whatever the client asks for.
    pub(crate) page_size: usize,
    /// The highest part number.
    pub(crate) max_parts: u32,
    /// The least size in bytes of every part but the last.
    pub(crate) min_part_size: usize,
    /// Seconds the server's clock is ahead of the true one.
    pub(crate) clock_skew: i64,
    /// Whether `encoding-type=url` is honoured in listings.
    pub(crate) url_encoding: bool,
    /// Whether `If-Match` and `If-None-Match` on PUT are honoured; ignored otherwise, as older servers do.
    pub(crate) conditional_put: bool,
    /// Whether contents are taken with a checksum only, as where a bucket retains them by default.
    pub(crate) checksums_required: bool,
    /// Whether `If-Match` on GET is honoured.
    pub(crate) conditional_get: bool,
    /// How the keys of a listing follow each other, and how it goes on.
    pub(crate) listing: Listing,
    /// Whether bodies of answers go out in chunks, without a length.
    pub(crate) chunked: bool,
    /// Storage classes that exist.
    pub(crate) classes: Vec<&'static str>,
    /// How often a retrieval is looked at until it is done.
    pub(crate) retrieval_looks: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            region: "us-east-1".into(),
            page_size: 1000,
            max_parts: 1000,
            min_part_size: 5 << 20,
            clock_skew: 0,
            url_encoding: true,
            conditional_put: true,
            checksums_required: false,
            conditional_get: true,
            listing: Listing::Version2,
            chunked: false,
            classes: vec!["STANDARD", "ONEZONE_IA", "STANDARD_IA", "GLACIER", "DEEP_ARCHIVE"],
            retrieval_looks: 2,
        }
    }
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    options: Options,
    backend: Mutex<Backend>,
    keys: Mutex<HashMap<String, Key>>,
    faults: Mutex<Vec<Fault>>,
    storm: Mutex<Option<Storm>>,
    counters: Mutex<Counters>,
    connections: Mutex<HashMap<u64, TcpStream>>,
    /// Requests in the server now.
    at_once: AtomicU64,
    stopping: AtomicBool,
}

impl Shared {
    fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().expect("no connection thread panics while it holds a lock")
    }
}

/// A running server; stops when dropped.
#[derive(Debug)]
pub(crate) struct S3Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    accept: Option<std::thread::JoinHandle<()>>,
}

impl S3Server {
    /// Starts a server on a free port of the loopback interface.
    pub(crate) fn start(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let shared = Arc::new(Shared {
            options,
            backend: Mutex::default(),
            keys: Mutex::new(HashMap::from([(ACCESS_KEY.to_owned(), Key::all(SECRET_KEY))])),
            faults: Mutex::default(),
            storm: Mutex::default(),
            counters: Mutex::default(),
            connections: Mutex::default(),
            at_once: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        });
        let accept = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept_loop(&listener, &shared)
        });
        Self { shared, address, accept: Some(accept) }
    }

    /// Starts a server as most tests want it.
    pub(crate) fn new() -> Self {
        Self::start(Options::default())
    }

    /// Returns `127.0.0.1:port`.
    pub(crate) fn authority(&self) -> String {
        self.address.to_string()
    }

    /// Returns the port.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns whether requests are under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.shared.at_once.load(Ordering::SeqCst) > 0
    }

    /// Creates an empty bucket.
    pub(crate) fn make_bucket(&self, bucket: &str) {
        Shared::lock(&self.shared.backend).make_bucket(bucket);
    }

    /// Makes a bucket keep versions.
    pub(crate) fn keep_versions(&self, bucket: &str) {
        Shared::lock(&self.shared.backend).set_versioning(bucket, "Enabled");
    }

    /// Returns every version of a key, the newest first, delete markers included.
    pub(crate) fn versions(&self, bucket: &str, key: impl AsRef<[u8]>) -> Vec<Arc<Object>> {
        let all = Shared::lock(&self.shared.backend).versions(bucket);
        all.into_iter()
            .find(|(found, _)| found == key.as_ref())
            .map(|(_, versions)| versions)
            .unwrap_or_default()
    }

    /// Creates an empty bucket that has Object Lock.
    pub(crate) fn make_locked_bucket(&self, bucket: &str) {
        let mut backend = Shared::lock(&self.shared.backend);
        backend.make_bucket(bucket);
        backend.set_versioning(bucket, "Enabled");
        backend.locked.insert(bucket.to_owned());
    }

    /// Returns the retrievals that were asked for, by key.
    pub(crate) fn retrievals(&self, bucket: &str) -> Vec<(Vec<u8>, Retrieval)> {
        let backend = Shared::lock(&self.shared.backend);
        let all = backend.retrievals.iter().filter(|((of, _), _)| of == bucket);
        all.map(|((_, key), retrieval)| (key.clone(), retrieval.clone())).collect()
    }

    /// Lets the retrieved copies go: their days are over.
    pub(crate) fn forget_retrievals(&self) {
        Shared::lock(&self.shared.backend).retrievals.clear();
    }

    /// Returns the names of the buckets.
    pub(crate) fn buckets(&self) -> Vec<String> {
        Shared::lock(&self.shared.backend).bucket_names()
    }

    /// Puts an object behind the protocol's back.
    pub(crate) fn insert(&self, bucket: &str, key: impl AsRef<[u8]>, object: Object) {
        Shared::lock(&self.shared.backend).insert(bucket, key.as_ref(), object);
    }

    /// Removes an object behind the protocol's back.
    pub(crate) fn remove(&self, bucket: &str, key: impl AsRef<[u8]>) {
        Shared::lock(&self.shared.backend).remove(bucket, key.as_ref());
    }

    /// Returns an object as it is stored.
    pub(crate) fn object(&self, bucket: &str, key: impl AsRef<[u8]>) -> Option<Arc<Object>> {
        Shared::lock(&self.shared.backend).object(bucket, key.as_ref())
    }

    /// Returns all keys of a bucket in order.
    pub(crate) fn keys(&self, bucket: &str) -> Vec<Vec<u8>> {
        Shared::lock(&self.shared.backend).keys(bucket)
    }

    /// Returns the number of multipart uploads begun and neither completed nor aborted.
    pub(crate) fn open_uploads(&self) -> usize {
        Shared::lock(&self.shared.backend).open_uploads()
    }

    /// Returns the number of parts that are kept of those.
    pub(crate) fn parts_of_open_uploads(&self) -> usize {
        Shared::lock(&self.shared.backend).uploads.values().map(|upload| upload.parts.len()).sum()
    }

    /// Lets uploads have begun, and got their last part, so many hours ago.
    pub(crate) fn age_uploads(&self, begun: i64, fed: i64) {
        let now = backend::now_millis();
        for upload in Shared::lock(&self.shared.backend).uploads.values_mut() {
            (upload.begun, upload.fed) = (now - begun * 3_600_000, now - fed * 3_600_000);
        }
    }

    /// Adds or replaces an access key.
    pub(crate) fn set_key(&self, access_key: &str, key: Key) {
        Shared::lock(&self.shared.keys).insert(access_key.to_owned(), key);
    }

    /// Adds a fault; the first that matches a request wins.
    pub(crate) fn inject(&self, fault: Fault) {
        Shared::lock(&self.shared.faults).push(fault);
    }

    /// Begins a storm, or ends it.
    pub(crate) fn storm(&self, storm: Option<Storm>) {
        *Shared::lock(&self.shared.storm) = storm;
    }

    /// Removes all faults.
    pub(crate) fn clear_faults(&self) {
        Shared::lock(&self.shared.faults).clear();
    }

    /// Returns what was counted since the start or the last reset.
    pub(crate) fn counters(&self) -> Counters {
        Shared::lock(&self.shared.counters).clone()
    }

    /// Starts counting anew.
    pub(crate) fn reset_counters(&self) {
        *Shared::lock(&self.shared.counters) = Counters::default();
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        for stream in Shared::lock(&self.shared.connections).values() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.accept.take() {
            let _ = thread.join();
        }
    }
}

fn accept_loop(listener: &TcpListener, shared: &Arc<Shared>) {
    for (number, stream) in (0_u64..).zip(listener.incoming()) {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let _ = stream.set_nodelay(true);
        if let Ok(clone) = stream.try_clone() {
            Shared::lock(&shared.connections).insert(number, clone);
        }
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            http::serve(&stream, &shared);
            Shared::lock(&shared.connections).remove(&number);
        });
    }
}
