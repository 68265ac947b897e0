//! The http store protocol: our client and our server against each other, against servers and clients that mean no
//! good, and against a server that speaks like upstream's.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use plakar::base::{Cancel, Id};
use plakar::connector::{Body, ErrorKind, Kind, Listed, Purpose, Result, Storage};
use plakar::connectors::fs::FsStore;
use plakar::connectors::http::{HttpOptions, HttpStore, Patience};
use plakar::connectors::memory::MemoryStore;
use plakar::connectors::ptar::PtarStore;
use plakar::connectors::sqlite::SqliteStore;
use plakar::web::{Handler, Response, Rights, Server, Settings, StoreService, Token};

use crate::conformance;

const ID: Id = Id([7; 32]);

/// A server in this process, ended when dropped.
pub(crate) struct Served {
    pub(crate) address: String,
    cancel: Cancel,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    fn with(settings: Settings, handler: Handler) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = Server::new(listener, settings, None, handler, Box::new(|_| {})).unwrap();
        let cancel = Cancel::new();
        let watched = cancel.clone();
        let thread = std::thread::spawn(move || server.run(&watched).unwrap());
        Self { address, cancel, thread: Some(thread) }
    }

    fn of(storage: Arc<dyn Storage>, rights: Rights) -> Self {
        let service = StoreService::new(storage, rights, None, 100_000);
        Self::with(Settings::default(), Box::new(move |request, body| service.answer(request, body)))
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn client(&self) -> HttpStore {
        client(&self.url(), None)
    }

    /// Sends bytes as they are, and returns all that comes back.
    fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // A server that has heard enough may close before everything is sent.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn end(&mut self) {
        self.cancel.cancel();
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end();
        }
    }
}

fn patience() -> Patience {
    Patience {
        attempts: 3,
        first_pause: Duration::from_millis(1),
        // Some count requests: one that is answered late must not be sent again.
        stall: Duration::from_secs(20),
        ..Patience::default()
    }
}

fn client(url: &str, token: Option<&str>) -> HttpStore {
    let token = token.map(|token| zeroize::Zeroizing::new(token.to_owned()));
    HttpStore::new(url, HttpOptions { token, patience: patience(), ..HttpOptions::default() }).unwrap()
}

/// A store over HTTP that is created where it is kept.
#[derive(Debug)]
struct Remote {
    client: HttpStore,
    behind: Arc<dyn Storage>,
    _served: Arc<Mutex<ServedDebug>>,
}

struct ServedDebug(#[expect(dead_code, reason = "it is kept so that it serves")] Served);

impl std::fmt::Debug for ServedDebug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Served")
    }
}

impl Remote {
    fn new(behind: Arc<dyn Storage>, served: Served) -> Self {
        Self { client: served.client(), behind, _served: Arc::new(Mutex::new(ServedDebug(served))) }
    }
}

impl Storage for Remote {
    fn location(&self) -> String {
        self.client.location()
    }
    fn create(&self, config: &[u8]) -> Result<()> {
        assert_eq!(self.client.create(config).unwrap_err().kind, ErrorKind::Unsupported);
        self.behind.create(config)
    }
    fn config(&self) -> Result<Vec<u8>> {
        self.client.config()
    }
    fn replace_config(&self, expected: &[u8], new: &[u8]) -> Result<()> {
        self.client.replace_config(expected, new)
    }
    fn list(&self, kind: Kind, each: &mut dyn FnMut(Listed)) -> Result<()> {
        self.client.list(kind, each)
    }
    fn size(&self, kind: Kind, id: Id) -> Result<u64> {
        self.client.size(kind, id)
    }
    fn get(&self, kind: Kind, id: Id) -> Result<Vec<u8>> {
        self.client.get(kind, id)
    }
    fn read_range(
        &self,
        kind: Kind,
        id: Id,
        offset: u64,
        length: usize,
        consume: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        self.client.read_range(kind, id, offset, length, consume)
    }
    fn spool(&self) -> Result<File> {
        self.client.spool()
    }
    fn put(&self, kind: Kind, id: Id, body: Body<'_>) -> Result<()> {
        match kind {
            Kind::Packfile => self.client.put_packfile(id, Purpose::Metadata, body),
            _ => self.client.put(kind, id, body),
        }
    }
    fn delete(&self, kind: Kind, id: Id) -> Result<()> {
        self.client.delete(kind, id)
    }
}

#[test]
fn a_store_over_http_is_a_store() {
    conformance::writable(&|| {
        let behind: Arc<dyn Storage> = Arc::new(MemoryStore::new());
        let served = Served::of(Arc::clone(&behind), Rights::Delete);
        Box::new(Remote::new(behind, served))
    });
}

#[test]
fn so_is_one_behind_a_server_like_upstreams() {
    conformance::writable(&|| {
        let behind: Arc<dyn Storage> = Arc::new(MemoryStore::new());
        let service = StoreService::new(Arc::clone(&behind), Rights::Delete, None, 100_000);
        let config = Arc::clone(&behind);
        let handler: Handler = Box::new(move |request, body| {
            let mut request = request.clone();
            request
                .headers
                .retain(|(name, _)| name.starts_with("range") || name == "host" || name == "if-match");
            if request.is_head() {
                // Nothing is told of the length: what upstream's does with large answers.
                let mut response = service.answer(&request, body);
                if response.status == 200 {
                    let write = Box::new(|_: &mut dyn std::io::Write| Ok(()));
                    response.content = plakar::web::Content::Stream { length: None, write };
                }
                return response;
            }
            // What only ours has is used by one test, which is about something else.
            let mut response = service.answer(&request, body);
            let kept = ["Content-Type", "ETag"];
            response.headers.retain(|(name, _)| kept.contains(name));
            response
        });
        let served = Served::with(Settings::default(), handler);
        Box::new(Remote::new(config, served))
    });
}

#[test]
fn other_storages_can_be_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let database = SqliteStore::new(dir.path().join("db"), None, Cancel::new());
    for behind in [Arc::new(FsStore::new(dir.path().join("fs"))) as Arc<dyn Storage>, Arc::new(database)] {
        behind.create(b"CONFIG of a store").unwrap();
        let served = Served::of(Arc::clone(&behind), Rights::Delete);
        let client = served.client();
        assert_eq!(client.config().unwrap(), b"CONFIG of a store");
        assert!(!client.is_read_only() && !client.is_archive() && client.is_remote());
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let mut spool = client.spool().unwrap();
        spool.write_all(&bytes).unwrap();
        client.put_packfile(ID, Purpose::Content, Body::Spool { file: &spool, length: 3_000_000 }).unwrap();
        assert!(behind.get(Kind::Packfile, ID).unwrap() == bytes);
        assert!(client.get(Kind::Packfile, ID).unwrap() == bytes);
        let mut listed = Vec::new();
        client.list(Kind::Packfile, &mut |one| listed.push((one.id, one.size, one.modified))).unwrap();
        let mut wanted = Vec::new();
        behind.list(Kind::Packfile, &mut |one| wanted.push((one.id, one.size, one.modified))).unwrap();
        assert_eq!(listed, wanted);
        client.delete(Kind::Packfile, ID).unwrap();
        assert_eq!(behind.size(Kind::Packfile, ID).unwrap_err().kind, ErrorKind::NotFound);
    }
}

#[test]
fn an_archive_is_served_and_known_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.ptar");
    let (bytes, sample) = conformance::archive();
    std::fs::write(&path, bytes).unwrap();
    let behind: Arc<dyn Storage> = Arc::new(PtarStore::open(&path, true).unwrap());
    // Rights are what the storage allows at most.
    let served = Served::of(Arc::clone(&behind), Rights::Delete);
    let client = served.client();
    client.config().unwrap();
    assert!(client.is_archive() && client.is_read_only());
    conformance::readable(&client, &sample);
    let error = client.put(Kind::State, ID, Body::Bytes(b"x")).unwrap_err();
    assert!(error.kind == ErrorKind::Denied && error.to_string().contains("can only be read"), "{error}");

    // A server that does not say so, as upstream's.
    let service = StoreService::new(behind, Rights::Read, None, 4096);
    let silent: Handler = Box::new(move |request, body| {
        let mut response = service.answer(request, body);
        response.headers.clear();
        response
    });
    let served = Served::with(Settings::default(), silent);
    let client = served.client();
    client.config().unwrap();
    assert!(client.is_archive() && client.is_read_only());
}

#[test]
fn rights_are_what_was_given() {
    let behind: Arc<dyn Storage> = Arc::new(MemoryStore::new());
    behind.create(b"CONFIG").unwrap();
    behind.put(Kind::State, ID, Body::Bytes(b"state")).unwrap();
    for (rights, may_write, may_delete) in
        [(Rights::Read, false, false), (Rights::Write, true, false), (Rights::Delete, true, true)]
    {
        let served = Served::of(Arc::clone(&behind), rights);
        let client = served.client();
        client.config().unwrap();
        assert_eq!(client.is_read_only(), !may_write);
        let large = vec![1; 5_000_000];
        for body in [&b"lock"[..], &large] {
            let kind = if body.len() > 10 { Kind::Packfile } else { Kind::Lock };
            let put = client.put(kind, ID, Body::Bytes(body));
            assert_eq!(put.is_ok(), may_write, "{rights:?}");
            if let Err(error) = put {
                assert!(
                    error.kind == ErrorKind::Denied && error.to_string().contains("-allow-write"),
                    "{error}"
                );
            }
        }
        let replaced = client.replace_config(b"CONFIG", b"CONFIG");
        let deleted = client.delete(Kind::Lock, ID);
        assert_eq!((replaced.is_ok(), deleted.is_ok()), (may_delete, may_delete), "{rights:?}");
        if let Err(error) = deleted {
            assert!(
                error.kind == ErrorKind::Denied && error.to_string().contains("-allow-delete"),
                "{error}"
            );
        }
        assert_eq!(client.get(Kind::State, ID).unwrap(), b"state");
    }
}

#[test]
fn a_token_opens_and_nothing_else_does() {
    let behind: Arc<dyn Storage> = Arc::new(MemoryStore::new());
    behind.create(b"CONFIG").unwrap();
    let token = Token::new(b"correct-horse-battery").unwrap();
    let service = StoreService::new(behind, Rights::Delete, Some(token), 4096);
    let handler: Handler = Box::new(move |request, body| service.answer(request, body));
    let served = Served::with(Settings::default(), handler);
    assert_eq!(client(&served.url(), Some("correct-horse-battery")).config().unwrap(), b"CONFIG");
    for (token, said) in [(None, "option token"), (Some("wrong-horse-battery"), "does not accept the token")]
    {
        let client = client(&served.url(), token);
        for error in [
            client.config().unwrap_err(),
            client.put(Kind::Packfile, ID, Body::Bytes(&vec![0; 3_000_000])).unwrap_err(),
            client.delete(Kind::Lock, ID).unwrap_err(),
            client.list(Kind::State, &mut |_| ()).unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(error.kind == ErrorKind::Denied && text.contains(said), "{text}");
            assert!(!text.contains("wrong-horse"), "{text}");
        }
    }
    let url = served.url().replace("http://", "http://me:secret@");
    let error = client(&url, None).config().unwrap_err();
    assert!(error.kind == ErrorKind::Denied && !error.to_string().contains("secret"), "{error}");
}

#[test]
fn what_clients_should_not_send_is_refused_in_order() {
    let behind: Arc<dyn Storage> = Arc::new(MemoryStore::new());
    behind.create(b"CONFIG").unwrap();
    behind.put(Kind::Packfile, ID, Body::Bytes(b"0123456789")).unwrap();
    let with = |settings| {
        let service = StoreService::new(Arc::clone(&behind), Rights::Delete, None, 4096).local_names_only();
        Served::with(settings, Box::new(move |request, body| service.answer(request, body)))
    };
    let served = with(Settings::default());
    // Where something never comes, on a server that does not wait for long.
    let head_hurried = with(Settings { head_time: Duration::from_millis(400), ..Settings::default() });
    let body_hurried = with(Settings { stall_time: Duration::from_millis(400), ..Settings::default() });
    let place = format!("/resources/packfiles/{ID}");
    let other = format!("/resources/packfiles/{}", Id([8; 32]));
    let lock = format!("/resources/locks/{ID}");
    let headers = "Host: localhost\r\nConnection: close\r\n";
    let long = "x".repeat(40_000);
    let many = "X: y\r\n".repeat(100);
    let cases = [
        (format!("GET {place} HTTP/1.1\r\n{headers}\r\n"), "200", "0123456789"),
        (format!("GET {place} HTTP/1.1\r\n{headers}Range: bytes=2-5\r\n\r\n"), "200", "\r\n\r\n234"),
        (format!("GET {place} HTTP/1.1\r\n{headers}Range: bytes=2-11\r\n\r\n"), "416", "not within"),
        (format!("GET {place} HTTP/1.1\r\n{headers}Range: bytes=5-\r\n\r\n"), "416", "a range is"),
        (format!("HEAD {place} HTTP/1.1\r\n{headers}\r\n"), "200", "Content-Length: 10"),
        (format!("GET {other} HTTP/1.1\r\n{headers}\r\n"), "404", "does not exist"),
        (format!("GET /resources/secrets HTTP/1.1\r\n{headers}\r\n"), "404", "resources are"),
        (format!("GET /resources/eccstates HTTP/1.1\r\n{headers}\r\n"), "501", "error correction"),
        (format!("GET /resources/packfiles/../../etc/passwd HTTP/1.1\r\n{headers}\r\n"), "404", "nothing"),
        (format!("GET /resources/packfiles/..%2f..%2fCONFIG HTTP/1.1\r\n{headers}\r\n"), "400", "64 hex"),
        (format!("GET /resources/packfiles/{ID}/x HTTP/1.1\r\n{headers}\r\n"), "404", "nothing"),
        (format!("GET //{place} HTTP/1.1\r\n{headers}\r\n"), "404", "nothing"),
        (format!("POST {place} HTTP/1.1\r\n{headers}\r\n"), "405", "Allow: GET, HEAD, PUT, DELETE"),
        (format!("DELETE / HTTP/1.1\r\n{headers}\r\n"), "405", "Allow"),
        (format!("PUT / HTTP/1.1\r\n{headers}Content-Length: 3\r\n\r\nnew"), "412", "If-Match"),
        (
            format!("PUT / HTTP/1.1\r\n{headers}If-Match: \"x\"\r\nContent-Length: 3\r\n\r\nnew"),
            "412",
            "not what it was",
        ),
        (format!("PUT {other} HTTP/1.1\r\n{headers}\r\n"), "400", "not empty"),
        (format!("PUT {other} HTTP/1.1\r\n{headers}Content-Length: 99999999999\r\n\r\n"), "413", "at most"),
        (format!("PUT {lock} HTTP/1.1\r\n{headers}Content-Length: 5000000\r\n\r\n{long}"), "413", "at most"),
        (
            format!(
                "PUT {other} HTTP/1.1\r\n{headers}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            "400",
            "chunked",
        ),
        (
            format!("PUT {other} HTTP/1.1\r\n{headers}Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n"),
            "400",
            "cannot be read",
        ),
        (
            format!(
                "PUT {other} HTTP/1.1\r\n{headers}Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n"
            ),
            "400",
            "cannot be read",
        ),
        (
            format!(
                "PUT {other} HTTP/1.1\r\n{headers}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc"
            ),
            "400",
            "cannot be read",
        ),
        (format!("PUT {other} HTTP/1.1\r\n{headers}Content-Length: 10\r\n\r\nabc"), "408", "took too long"),
        ("GET / HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n".into(), "421", "address"),
        ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n".into(), "400", "Host"),
        (format!("GET /{long} HTTP/1.1\r\n{headers}\r\n"), "431", "too long"),
        (format!("GET / HTTP/1.1\r\n{headers}{many}\r\n"), "431", "too many"),
        ("GET / HTTP/1.1\r\nHost: local".into(), "408", "took too long"),
        ("\x16\x03\x01\x00\x05hello world\r\n\r\n".into(), "400", "not an HTTP"),
        ("GET / HTTP/3.0\r\n\r\n".into(), "505", "HTTP/1.1"),
    ];
    for (request, status, said) in cases {
        let server = match status {
            "408" if request.starts_with("PUT") => &body_hurried,
            "408" => &head_hurried,
            _ => &served,
        };
        let answer = server.raw(request.as_bytes());
        let start = request.chars().take(90).collect::<String>();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(said),
            "{start:?}: {answer}"
        );
    }
    // Nothing of all that left a trace.
    let mut listed = Vec::new();
    behind.list(Kind::Packfile, &mut |one| listed.push((one.id, one.size))).unwrap();
    assert_eq!(listed, [(ID, 10)]);
    assert_eq!(behind.config().unwrap(), b"CONFIG");
    behind.list(Kind::Lock, &mut |_| panic!("there is a lock")).unwrap();
}

#[test]
fn requests_follow_each_other_on_one_connection() {
    let behind: Arc<dyn Storage> = Arc::new(MemoryStore::new());
    behind.create(b"CONFIG").unwrap();
    let served = Served::of(Arc::clone(&behind), Rights::Write);
    let place = format!("/resources/states/{ID}");
    // In chunks, with an expectation, pipelined, the last by an old client.
    let request = format!(
        "PUT {place} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: x\r\n\r\n\
         GET {place} HTTP/1.1\r\nHost: h\r\n\r\n\
         DELETE {place} HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nxyz\
         GET /resources/states HTTP/1.0\r\n\r\n"
    );
    let answer = served.raw(request.as_bytes());
    let statuses: Vec<&str> =
        answer.match_indices("HTTP/1.1 ").map(|(at, _)| &answer[at + 9..at + 12]).collect();
    assert_eq!(statuses, ["200", "200", "403", "200"], "{answer}");
    assert!(answer.contains("\r\n\r\nhello world"), "{answer}");
    // No chunks for the one who does not know them.
    assert!(answer.ends_with(&format!("\r\n\r\n[\"{ID}\"]\n")), "{answer}");

    let mut stream = TcpStream::connect(&served.address).unwrap();
    let head = format!(
        "PUT /resources/locks/{ID} HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut word = [0; 25];
    stream.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"lock").unwrap();
    stream.read_exact(&mut word[..15]).unwrap();
    assert_eq!(&word[..15], b"HTTP/1.1 200 OK");
    assert_eq!(behind.get(Kind::Lock, ID).unwrap(), b"lock");
}

#[test]
fn an_upload_that_breaks_off_is_never_seen() {
    let dir = tempfile::tempdir().unwrap();
    let behind: Arc<dyn Storage> = Arc::new(FsStore::new(dir.path().join("s")));
    behind.create(b"CONFIG").unwrap();
    let served = Served::of(Arc::clone(&behind), Rights::Write);
    for framing in ["Content-Length: 2000000", "Transfer-Encoding: chunked"] {
        let mut stream = TcpStream::connect(&served.address).unwrap();
        let head = format!("PUT /resources/packfiles/{ID} HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        if framing.starts_with('T') {
            stream.write_all(b"f4240\r\n").unwrap();
        }
        stream.write_all(&vec![1; 1_000_000]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("ended early"), "{answer}");
        assert_eq!(behind.size(Kind::Packfile, ID).unwrap_err().kind, ErrorKind::NotFound);
    }
}

#[test]
fn those_who_dawdle_do_not_keep_others_out() {
    let behind: Arc<dyn Storage> = Arc::new(MemoryStore::new());
    behind.create(b"CONFIG").unwrap();
    let service = StoreService::new(behind, Rights::Read, None, 4096);
    let settings = Settings { connections: 4, head_time: Duration::from_mins(1), ..Settings::default() };
    let served = Served::with(settings, Box::new(move |request, body| service.answer(request, body)));
    // More of them than there are places; they never say anything.
    let dawdlers: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(&served.address).unwrap()).collect();
    assert_eq!(served.client().config().unwrap(), b"CONFIG");
    drop(dawdlers);

    // Heads that dribble in keep their places, but not for long.
    let behind: Arc<dyn Storage> = Arc::new(MemoryStore::new());
    behind.create(b"CONFIG").unwrap();
    let service = StoreService::new(behind, Rights::Read, None, 4096);
    let settings = Settings { connections: 4, head_time: Duration::from_millis(300), ..Settings::default() };
    let served = Served::with(settings, Box::new(move |request, body| service.answer(request, body)));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut stream = TcpStream::connect(&served.address).unwrap();
                while stream.write_all(b"G").is_ok() && begun.elapsed() < Duration::from_secs(20) {
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
        }
        std::thread::sleep(Duration::from_millis(50));
        let config = (0..200).find_map(|_| {
            std::thread::sleep(Duration::from_millis(20));
            served.client().config().ok()
        });
        assert_eq!(config.as_deref(), Some(&b"CONFIG"[..]));
    });
}

#[test]
fn the_end_waits_for_requests_under_way() {
    let behind: Arc<dyn Storage> = Arc::new(MemoryStore::new());
    behind.create(b"CONFIG").unwrap();
    let service = StoreService::new(Arc::clone(&behind), Rights::Write, None, 100_000);
    let (entered, under_way) = std::sync::mpsc::channel();
    let handler: Handler = Box::new(move |request, body| {
        entered.send(()).unwrap();
        service.answer(request, body)
    });
    let mut served = Served::with(Settings::default(), handler);
    let mut idle = TcpStream::connect(&served.address).unwrap();
    let mut busy = TcpStream::connect(&served.address).unwrap();
    write!(busy, "PUT /resources/states/{ID} HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n01234")
        .unwrap();
    under_way.recv().unwrap();
    let finisher = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(600));
        busy.write_all(b"56789").unwrap();
        let mut answer = String::new();
        busy.read_to_string(&mut answer).unwrap();
        answer
    });
    served.end();
    assert!(finisher.join().unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(behind.get(Kind::State, ID).unwrap(), b"0123456789");
    assert_eq!(idle.read(&mut [0]).unwrap_or(0), 0);
}

/// A server that answers every request with the same bytes, and closes.
fn canned(answer: Vec<u8>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            counter.fetch_add(1, Ordering::SeqCst);
            let answer = answer.clone();
            std::thread::spawn(move || {
                let mut request = Vec::new();
                let mut byte = [0; 1];
                while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
                    request.push(byte[0]);
                }
                let _ = stream.write_all(&answer);
                let _ = stream.shutdown(Shutdown::Write);
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
            });
        }
    });
    (url, count)
}

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\nConnection: close\r\n{headers}\r\n{body}").into_bytes()
}

fn read(url: &str, offset: u64, length: usize) -> Result<Vec<u8>> {
    let mut read = Vec::new();
    client(url, Some("very-secret-token"))
        .read_range(Kind::Packfile, ID, offset, length, &mut |bytes| read = bytes.to_vec())
        .map(|()| read)
}

#[test]
fn parts_are_believed_only_when_they_are_the_ones_asked_for() {
    let cases = [
        ("200", "Content-Length: 4\r\n", "abcd", Ok("abcd")),
        ("200", "Transfer-Encoding: chunked\r\n", "4\r\nabcd\r\n0\r\n\r\n", Ok("abcd")),
        // A standard server takes the second number for the last byte.
        ("206", "Content-Range: bytes 2-6/100\r\nContent-Length: 5\r\n", "abcde", Ok("abcd")),
        ("206", "Content-Range: bytes 2-5/6\r\nContent-Length: 4\r\n", "abcd", Ok("abcd")),
        ("206", "Content-Range: bytes 2-4/5\r\nContent-Length: 3\r\n", "abc", Err(ErrorKind::Protocol)),
        ("206", "Content-Range: bytes 0-4/100\r\nContent-Length: 5\r\n", "abcde", Err(ErrorKind::Protocol)),
        ("206", "Content-Range: bytes 2-6/100\r\nContent-Length: 4\r\n", "abcd", Err(ErrorKind::Protocol)),
        ("206", "Content-Length: 4\r\n", "abcd", Err(ErrorKind::Protocol)),
        // One that does not know ranges sends everything.
        ("200", "Content-Length: 6\r\n", "abcdef", Err(ErrorKind::Protocol)),
        ("200", "Content-Length: 3\r\n", "abc", Err(ErrorKind::Protocol)),
        ("200", "Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n", Err(ErrorKind::Protocol)),
        ("200", "Content-Encoding: gzip\r\nContent-Length: 4\r\n", "abcd", Err(ErrorKind::Protocol)),
        ("416", "Content-Length: 0\r\n", "", Err(ErrorKind::Protocol)),
        // What breaks off says nothing about the content.
        ("200", "Content-Length: 4\r\n", "ab", Err(ErrorKind::Transport)),
        ("200", "Transfer-Encoding: chunked\r\n", "4\r\nab", Err(ErrorKind::Transport)),
        ("503", "Content-Length: 4\r\n", "busy", Err(ErrorKind::Transport)),
        ("404", "Content-Length: 4\r\n", "gone", Err(ErrorKind::NotFound)),
        ("500", "Content-Length: 4\r\n", "oops", Err(ErrorKind::Transport)),
        ("409", "Content-Length: 4\r\n", "cold", Err(ErrorKind::Archived)),
    ];
    for (status, headers, body, expected) in cases {
        let (url, count) = canned(answer(status, headers, body));
        let result = read(&url, 2, 4);
        match (&result, expected) {
            (Ok(bytes), Ok(wanted)) => assert_eq!(bytes, wanted.as_bytes()),
            (Err(error), Err(kind)) => assert_eq!(error.kind, kind, "{status} {headers}{body}: {error}"),
            _ => panic!("{status} {headers}{body}: {result:?}"),
        }
        // Sent again where that may help, and only there.
        let again = matches!(expected, Err(ErrorKind::Transport));
        assert_eq!(count.load(Ordering::SeqCst), if again { 3 } else { 1 }, "{status} {headers}{body}");
    }
}

#[test]
fn errors_of_servers_are_told_without_harm() {
    let text = format!("\x1b[31mvery-secret-token {}\nsecond line", "x".repeat(100_000));
    let (url, _) = canned(answer("403", &format!("Content-Length: {}\r\n", text.len()), &text));
    let error = read(&url, 0, 1).unwrap_err();
    let told = error.to_string();
    assert!(error.kind == ErrorKind::Denied && told.contains("403") && told.contains("\\x1b[31m…"), "{told}");
    assert!(told.len() < 700 && !told.contains("secret") && !told.contains("second"), "{told}");

    // Nobody else gets the token.
    let (thief, stolen) = canned(answer("200", "Content-Length: 1\r\n", "x"));
    let (url, _) =
        canned(answer("302", &format!("Location: {thief}/x?sig=abc\r\nContent-Length: 0\r\n"), ""));
    let error = read(&url, 0, 1).unwrap_err();
    assert!(error.kind == ErrorKind::Protocol && error.to_string().contains(&thief), "{error}");
    assert!(!error.to_string().contains("sig=abc"), "{error}");
    assert_eq!(stolen.load(Ordering::SeqCst), 0);

    for (body, kind) in [
        ("[\"00", ErrorKind::Protocol),
        ("<html>", ErrorKind::Protocol),
        ("{}", ErrorKind::Protocol),
        ("", ErrorKind::Protocol),
    ] {
        let (url, _) = canned(answer("200", &format!("Content-Length: {}\r\n", body.len()), body));
        let error = client(&url, None).list(Kind::State, &mut |_| panic!("nothing was listed")).unwrap_err();
        assert_eq!(error.kind, kind, "{body}: {error}");
    }
    let (url, _) = canned(answer("200", "Content-Length: 99999999999999\r\n", "x"));
    assert_eq!(client(&url, None).config().unwrap_err().kind, ErrorKind::Protocol);
    assert_eq!(client(&url, None).get(Kind::State, ID).unwrap_err().kind, ErrorKind::Protocol);
    let (url, _) = canned(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec());
    assert_eq!(client(&url, None).config().unwrap_err().kind, ErrorKind::Transport);
    for bad in ["http://h/?x=y", "http://h/#x", "ftp://h/", "http://"] {
        let options = HttpOptions::default();
        assert_eq!(HttpStore::new(bad, options).unwrap_err().kind, ErrorKind::Invalid, "{bad}");
    }
}

#[test]
fn a_server_that_is_busy_for_a_while_is_waited_for() {
    let behind: Arc<dyn Storage> = Arc::new(MemoryStore::new());
    behind.create(b"CONFIG").unwrap();
    let service = StoreService::new(Arc::clone(&behind), Rights::Delete, None, 4096);
    let count = AtomicUsize::new(0);
    let handler: Handler = Box::new(move |request, body| match count.fetch_add(1, Ordering::SeqCst) % 3 {
        0 => Response::text(503, "busy"),
        1 => Response::text(502, "still"),
        _ => service.answer(request, body),
    });
    let served = Served::with(Settings::default(), handler);
    let client = served.client();
    assert_eq!(client.config().unwrap(), b"CONFIG");
    let mut spool = client.spool().unwrap();
    spool.write_all(&vec![3; 2_000_000]).unwrap();
    client.put(Kind::Packfile, ID, Body::Spool { file: &spool, length: 2_000_000 }).unwrap();
    assert!(behind.get(Kind::Packfile, ID).unwrap() == vec![3; 2_000_000]);
    client.delete(Kind::Packfile, ID).unwrap();
}
