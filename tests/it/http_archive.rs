//! Archives over HTTP, against a small server with every bad habit worth knowing.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plakar::base::{Cancel, Id};
use plakar::connector::{Body, ErrorKind, Kind, Storage};
use plakar::connectors::http::{HttpArchive, Patience};

use crate::conformance;

/// What a server does wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Habits {
    /// Answers suffix ranges with this status.
    suffix_status: Option<u16>,
    /// Ignores ranges of all kinds: 200 and everything.
    no_ranges: bool,
    /// Answers this many requests with 503 first.
    busy: u32,
    /// Closes the connection after so many bytes of a body, this often.
    cut_after: Option<(usize, u32)>,
    /// Sends a range that begins one byte further on.
    shifted: bool,
    /// Sends at most so many bytes of a range.
    at_most: Option<usize>,
    /// Answers everything with this status and a Location.
    status: Option<u16>,
    /// Accepts, reads, and never answers.
    silent: bool,
    /// Says that the body is compressed.
    encoded: bool,
    no_etag: bool,
    etag: &'static str,
    /// Does not look at conditions.
    heedless: bool,
    /// Must be in the request.
    authorization: Option<&'static str>,
}

#[derive(Debug)]
struct State {
    habits: Habits,
    content: Vec<u8>,
    /// Served instead of the content, so that it may be larger than memory.
    file: Option<(File, usize)>,
    /// `GET bytes=0-1` and the like.
    requests: Vec<String>,
    /// Bytes of bodies announced.
    sent: usize,
}

/// A server of one file that counts.
#[derive(Clone, Debug)]
pub(crate) struct Web {
    state: Arc<Mutex<State>>,
    address: String,
}

impl Web {
    pub(crate) fn new(content: Vec<u8>, habits: Habits) -> Self {
        Self::start(State { habits, content, file: None, requests: Vec::new(), sent: 0 })
    }

    /// Serves a file.
    pub(crate) fn of_file(file: File) -> Self {
        let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
        let (habits, file) = (Habits::default(), Some((file, length)));
        Self::start(State { habits, content: Vec::new(), file, requests: Vec::new(), sent: 0 })
    }

    fn start(state: State) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let web = Self { state: Arc::new(Mutex::new(state)), address };
        let server = web.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let server = server.clone();
                std::thread::spawn(move || server.serve(stream));
            }
        });
        web
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/dir/x.ptar", self.address)
    }

    fn open(&self) -> plakar::connector::Result<HttpArchive> {
        // Requests are counted: one that is answered late must not be sent again.
        self.open_within(Duration::from_secs(20))
    }

    /// Opens the archive with so much patience for a server that is silent.
    fn open_within(&self, stall: Duration) -> plakar::connector::Result<HttpArchive> {
        let patience =
            Patience { attempts: 4, first_pause: Duration::from_millis(1), stall, ..Patience::default() };
        HttpArchive::open(&format!("ptar+{}", self.url()), patience, Cancel::new())
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    /// Returns the bytes sent since the last call.
    pub(crate) fn sent(&self) -> usize {
        std::mem::take(&mut self.state.lock().unwrap().sent)
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        loop {
            let mut lines = Vec::new();
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
                if line.trim().is_empty() {
                    break;
                }
                lines.push(line.trim().to_owned());
            }
            if !self.answer(&lines, &mut stream) {
                return;
            }
        }
    }

    /// Answers one request. Returns whether the connection goes on.
    fn answer(&self, lines: &[String], stream: &mut TcpStream) -> bool {
        let header = |name: &str| {
            lines.iter().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let head = lines[0].starts_with("HEAD ");
        let range = header("range");
        let mut state = self.state.lock().unwrap();
        let method = if head { "HEAD" } else { "GET" };
        state.requests.push(format!("{method} {}", range.as_deref().unwrap_or_default()));
        let State { habits, content, file, sent, .. } = &mut *state;
        let etag = if habits.etag.is_empty() { "\"one\"" } else { habits.etag };
        let mut extra = if habits.no_etag { String::new() } else { format!("ETag: {etag}\r\n") };
        extra += "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n";
        if habits.encoded {
            extra += "Content-Encoding: gzip\r\n";
        }
        let status = |stream: &mut TcpStream, status: u16| {
            let text = format!(
                "HTTP/1.1 {status} X\r\nLocation: http://elsewhere.test/\r\nContent-Length: 0\r\n\r\n"
            );
            stream.write_all(text.as_bytes()).is_ok()
        };
        if habits.silent {
            drop(state);
            loop {
                std::thread::park();
            }
        }
        if habits.busy > 0 {
            habits.busy -= 1;
            return status(stream, 503);
        }
        if let Some(wanted) = habits.authorization
            && header("authorization").as_deref() != Some(wanted)
        {
            return status(stream, 401);
        }
        if let Some(code) = habits.status {
            return status(stream, code);
        }
        let mismatch = header("if-match").is_some_and(|wanted| wanted != etag);
        if mismatch && !habits.heedless {
            return status(stream, 412);
        }
        let total = file.as_ref().map_or(content.len(), |(_, length)| *length);
        let asked = range.filter(|_| !habits.no_ranges).and_then(|range| parse(&range, total));
        let suffix = header("range").is_some_and(|range| range.starts_with("bytes=-"));
        if let Some(code) = habits.suffix_status.filter(|_| suffix) {
            return status(stream, code);
        }
        let (mut from, mut to, partial) = match asked {
            Some((from, to)) if from >= total || from >= to => return status(stream, 416),
            Some((from, to)) => (from, to, true),
            None => (0, total, false),
        };
        if habits.shifted && partial && !suffix {
            (from, to) = (from + 1, (to + 1).min(total));
        }
        if let Some(limit) = habits.at_most.filter(|_| !suffix) {
            to = to.min(from + limit);
        }
        let body = match file {
            Some((file, _)) => {
                let mut body = vec![0; to - from];
                file.read_exact_at(&mut body, from as u64).unwrap();
                body
            }
            None => content[from..to].to_vec(),
        };
        *sent += if head { 0 } else { body.len() };
        let cut = habits.cut_after.as_mut().filter(|(_, times)| *times > 0 && partial && !suffix);
        let cut = cut.map(|(after, times)| {
            *times -= 1;
            *after
        });
        drop(state);
        let line = if partial { "206 Partial Content" } else { "200 OK" };
        if partial {
            let _ = std::fmt::Write::write_fmt(
                &mut extra,
                format_args!("Content-Range: bytes {from}-{}/{total}\r\n", to - 1),
            );
        }
        let text = format!("HTTP/1.1 {line}\r\nContent-Length: {}\r\n{extra}\r\n", body.len());
        if stream.write_all(text.as_bytes()).is_err() || head {
            return head;
        }
        match cut {
            Some(after) => {
                let _ = stream.write_all(&body[..after.min(body.len())]);
                false
            }
            None => stream.write_all(&body).is_ok(),
        }
    }
}

fn parse(range: &str, total: usize) -> Option<(usize, usize)> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    if from.is_empty() {
        return Some((total.saturating_sub(to.parse().ok()?), total));
    }
    Some((from.parse().ok()?, to.parse::<usize>().ok()?.saturating_add(1).min(total)))
}

fn range(archive: &HttpArchive, offset: u64, length: usize) -> plakar::connector::Result<Vec<u8>> {
    let mut seen = Vec::new();
    archive
        .read_range(Kind::Packfile, Id::ZERO, offset, length, &mut |bytes| seen.extend_from_slice(bytes))?;
    Ok(seen)
}

#[test]
fn passes_the_contract_of_readers() {
    let (bytes, sample) = conformance::archive();
    for habits in [
        Habits::default(),
        Habits { suffix_status: Some(416), ..Habits::default() },
        Habits { suffix_status: Some(400), ..Habits::default() },
        Habits { suffix_status: Some(501), no_etag: true, ..Habits::default() },
        Habits { etag: "W/\"weak\"", at_most: Some(50_000), ..Habits::default() },
    ] {
        let web = Web::new(bytes.clone(), habits);
        let archive = web.open().unwrap();
        assert!(archive.is_archive() && archive.is_remote() && archive.is_read_only());
        conformance::readable(&archive, &sample);
        assert_eq!(
            archive.put(Kind::State, Id::ZERO, Body::Bytes(b"")).unwrap_err().kind,
            ErrorKind::ReadOnly
        );
    }
}

#[test]
fn opening_takes_two_requests_and_the_end_is_kept() {
    let (bytes, sample) = conformance::archive();
    let total = bytes.len() as u64;
    let web = Web::new(bytes, Habits::default());
    let archive = web.open().unwrap();
    assert_eq!(web.requests(), ["GET bytes=-65536", "GET bytes=0-311"]);
    let state = archive.get(Kind::State, sample.resources[1].1).unwrap();
    assert_eq!(state, sample.resources[1].2);
    let packfile = sample.resources[0].2.len() as u64;
    range(&archive, packfile - 10, 10).unwrap();
    assert_eq!(web.requests(), Vec::<String>::new());
    // Ranges are widened to 64 KiB, and what is near is there already.
    range(&archive, 100, 5).unwrap();
    assert_eq!(web.requests(), ["GET bytes=0-65535"]);
    range(&archive, 60_000, 500).unwrap();
    assert_eq!(web.requests(), Vec::<String>::new());
    range(&archive, 65_000, 500).unwrap();
    assert_eq!(web.requests(), ["GET bytes=0-131071"]);
    assert!(total > 65_536);

    // A file shorter than its end: one request.
    let mut small = conformance::archive().0;
    small.drain(1000..480_000);
    let length = small.len();
    let trailer = length - 48;
    let packfile = 500_000 - 479_000_i64;
    small[trailer + 24..trailer + 32].copy_from_slice(&packfile.to_le_bytes());
    small[trailer + 32..trailer + 40].copy_from_slice(&(312 + packfile).to_le_bytes());
    for no_ranges in [false, true] {
        let web = Web::new(small.clone(), Habits { no_ranges, ..Habits::default() });
        let archive = web.open().unwrap();
        assert_eq!(archive.config().unwrap(), sample.config);
        assert_eq!(web.requests(), ["GET bytes=-65536"]);
    }
}

#[test]
fn what_breaks_off_or_is_busy_is_tried_again() {
    let (bytes, sample) = conformance::archive();
    let web = Web::new(bytes, Habits { busy: 3, ..Habits::default() });
    let archive = web.open().unwrap();
    assert_eq!(web.requests().len(), 5);
    // A connection that breaks off often, but not without bringing something, goes on where it was.
    web.change(|state| state.habits.cut_after = Some((70_000, 6)));
    let packfile = &sample.resources[0].2;
    assert!(range(&archive, 0, 430_000).unwrap() == packfile[..430_000]);
    let requests = web.requests();
    assert_eq!(requests.len(), 7);
    assert_eq!(requests[1], format!("GET bytes={}-{}", 70_000, (430_312_u32).next_multiple_of(1 << 16) - 1));
    // One that never brings anything is given up.
    web.change(|state| state.habits.cut_after = Some((0, 100)));
    assert_eq!(range(&archive, 0, 1000).unwrap_err().kind, ErrorKind::Transport);
    assert_eq!(web.requests().len(), 4);
    web.change(|state| {
        state.habits.cut_after = None;
        state.habits.busy = 100;
    });
    assert_eq!(range(&archive, 0, 1000).unwrap_err().kind, ErrorKind::Transport);
    web.change(|state| state.habits.busy = 0);
    let archive = web.open_within(Duration::from_millis(300)).unwrap();
    web.change(|state| state.habits.silent = true);
    let error = range(&archive, 0, 1000).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Transport, "{error}");
}

#[test]
fn a_file_that_changed_is_reported() {
    let (bytes, _) = conformance::archive();
    for heedless in [false, true] {
        let web = Web::new(bytes.clone(), Habits { heedless, ..Habits::default() });
        let archive = web.open().unwrap();
        range(&archive, 0, 10).unwrap();
        web.change(|state| state.habits.etag = "\"two\"");
        assert_eq!(range(&archive, 200_000, 10).unwrap_err().kind, ErrorKind::Changed);
    }
    let web = Web::new(bytes, Habits { no_etag: true, ..Habits::default() });
    let archive = web.open().unwrap();
    web.change(|state| state.content.push(0));
    assert_eq!(range(&archive, 0, 10).unwrap_err().kind, ErrorKind::Changed);
    web.change(|state| state.content.truncate(100));
    assert_eq!(range(&archive, 50_000, 10).unwrap_err().kind, ErrorKind::Changed);
}

#[test]
fn wrong_answers_are_not_believed() {
    let (bytes, _) = conformance::archive();
    let kind = |habits: Habits| Web::new(bytes.clone(), habits).open().unwrap_err().kind;
    assert_eq!(kind(Habits { shifted: true, ..Habits::default() }), ErrorKind::Protocol);
    assert_eq!(kind(Habits { no_ranges: true, ..Habits::default() }), ErrorKind::Unsupported);
    assert_eq!(kind(Habits { encoded: true, ..Habits::default() }), ErrorKind::Protocol);
    let status = |status| kind(Habits { status: Some(status), ..Habits::default() });
    assert_eq!(status(404), ErrorKind::NotFound);
    assert_eq!(status(403), ErrorKind::Denied);
    assert_eq!(status(500), ErrorKind::Transport);
    assert_eq!(status(418), ErrorKind::Protocol);
    let web = Web::new(bytes.clone(), Habits { status: Some(307), ..Habits::default() });
    let error = web.open().unwrap_err();
    assert!(error.to_string().contains("redirects"), "{error}");
    let web = Web::new(bytes, Habits::default());
    let archive = web.open().unwrap();
    web.change(|state| state.habits.shifted = true);
    assert_eq!(range(&archive, 0, 10).unwrap_err().kind, ErrorKind::Protocol);
}

#[test]
fn files_that_are_no_archives_are_told_apart() {
    let (bytes, _) = conformance::archive();
    let kind = |content: &[u8]| Web::new(content.to_vec(), Habits::default()).open().unwrap_err().kind;
    assert_eq!(kind(b"<html>hello</html>"), ErrorKind::Invalid);
    assert_eq!(kind(&vec![0; 200_000]), ErrorKind::Invalid);
    assert_eq!(kind(&bytes[..40]), ErrorKind::Protocol);
    assert_eq!(kind(&bytes[..1000]), ErrorKind::Protocol);
    assert_eq!(kind(&bytes[..bytes.len() - 1]), ErrorKind::Protocol);
    assert_eq!(kind(b""), ErrorKind::Invalid);
}

#[test]
fn a_name_and_a_password_are_sent_and_not_shown() {
    let (bytes, _) = conformance::archive();
    let habits = Habits { authorization: Some("Basic bWU6c2VjcmV0"), ..Habits::default() };
    let web = Web::new(bytes, habits);
    assert_eq!(web.open().unwrap_err().kind, ErrorKind::Denied);
    let url = web.url().replace("http://", "http://me:secret@");
    let archive = HttpArchive::open(&url, Patience::default(), Cancel::new()).unwrap();
    assert!(!archive.location().contains("secret") && !format!("{archive:?}").contains("secret"));
}

#[test]
fn a_server_that_is_not_there() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let patience = Patience { attempts: 2, first_pause: Duration::from_millis(1), ..Patience::default() };
    let error = HttpArchive::open(&format!("http://{address}/x.ptar?signature=abc"), patience, Cancel::new())
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Transport);
    assert!(error.to_string().contains("refused") && !error.to_string().contains("abc"), "{error}");
}
