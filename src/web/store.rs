//! The http store protocol (FORMAT.md, "Where resources are kept"): a store, sealed as it is, for whoever may ask.

use std::fmt;
use std::io::{self, Read as _, Seek as _, Write};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use super::body::Body;
use super::message::{Content, Refusal, Request, Response};
use super::token::Token;
use crate::base::Id;
use crate::connector::{self, Error, ErrorKind, Kind, Listed, Purpose, Storage};

/// The longest packfile or state that is taken, in bytes.
const MAX_RESOURCE: u64 = 4 << 30;
/// The longest lock that is taken, in bytes. Real ones have some hundred bytes.
const MAX_LOCK: u64 = 4 << 20;
/// The longest CONFIG, in bytes.
const MAX_CONFIG: u64 = 32 << 10;
/// Bodies of at most this many bytes are not spooled.
const IN_MEMORY: u64 = 256 << 10;
/// What a client asks for that wants more of a listing than ids.
const DETAILS: &str = "application/vnd.plakar.resources+json";

/// What clients may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Rights {
    /// Read.
    Read,
    /// Add packfiles and states, write locks. Nothing that is there can be changed or deleted.
    Write,
    /// Delete, and replace CONFIG, as well.
    Delete,
}

impl Rights {
    fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
        }
    }
}

/// Takes note of what went wrong behind the server.
pub type Troubles = Arc<dyn Fn(&Error) + Send + Sync>;

/// Serves a store.
pub struct StoreService {
    storage: Arc<dyn Storage>,
    rights: Rights,
    token: Option<Token>,
    troubles: Troubles,
    /// Whether clients must have called the server by an address or `localhost`.
    local_names: bool,
    /// How much is read of a resource at once.
    piece: usize,
}

impl fmt::Debug for StoreService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreService")
            .field("storage", &self.storage)
            .field("rights", &self.rights)
            .finish_non_exhaustive()
    }
}

impl StoreService {
    /// Makes the service. `piece` bounds the bytes of a resource that each connection holds in memory. A storage that
    /// cannot be written is served for reading, whatever the rights.
    pub fn new(storage: Arc<dyn Storage>, rights: Rights, token: Option<Token>, piece: usize) -> Self {
        let rights = if storage.is_read_only() { Rights::Read } else { rights };
        Self { storage, rights, token, troubles: Arc::new(|_| {}), local_names: false, piece: piece.max(1) }
    }

    /// Serves only those who call the server by an address or `localhost`. A server without a token that listens on
    /// this machine alone needs that: else a web page could have its own name lead here, and a browser on this machine
    /// would ask, and let the page read.
    #[must_use]
    pub fn local_names_only(mut self) -> Self {
        self.local_names = true;
        self
    }

    /// Has somebody told what clients are not told: why the store behind the server failed.
    #[must_use]
    pub fn with_troubles(mut self, troubles: Troubles) -> Self {
        self.troubles = troubles;
        self
    }

    /// Answers a request.
    pub fn answer(&self, request: &Request, body: &mut Body<'_>) -> Response {
        if let Some(token) = &self.token
            && !token.admits(request)
        {
            return Response::text(401, "this server wants a token: Authorization: Bearer TOKEN")
                .header("WWW-Authenticate", "Bearer");
        }
        if self.local_names && !request.header("host").is_none_or(is_local_name) {
            let text = "this server is called by its address or as localhost, unless it has a token";
            return Response::text(421, text);
        }
        let segments = request.segments();
        let segments: Vec<&[u8]> = segments.iter().map(Vec::as_slice).collect();
        let result = match segments.as_slice() {
            [] => self.config(request, body),
            [b"resources", b"eccpackfiles" | b"eccstates"]
            | [b"resources", b"eccpackfiles" | b"eccstates", _] => {
                Err(refusal(501, "this server keeps no error correction resources"))
            }
            [b"resources", kind] => self.list(request, kind),
            [b"resources", kind, id] => self.resource(request, kind, id, body),
            _ => Err(refusal(404, "there is nothing of that name")),
        };
        result.unwrap_or_else(Response::from)
    }

    fn config(&self, request: &Request, body: &mut Body<'_>) -> Result<Response, Refusal> {
        match request.method.as_str() {
            "GET" | "HEAD" => {
                let config = self.storage.config().map_err(|error| told(&self.troubles, &error))?;
                let mut response = Response::new(200)
                    .header("Content-Type", "application/octet-stream")
                    .header("Cache-Control", "no-store")
                    .header("ETag", tag(&config))
                    .header("Plakar-Access", self.rights.word());
                if self.storage.is_archive() {
                    response = response.header("Plakar-Layout", "archive");
                }
                Ok(response.content(Content::Bytes(config)))
            }
            "PUT" => self.replace_config(request, body),
            _ => Ok(not_allowed("GET, HEAD, PUT")),
        }
    }

    /// Replaces CONFIG by another if it still is what the client read: key slots are the only reason to.
    fn replace_config(&self, request: &Request, body: &mut Body<'_>) -> Result<Response, Refusal> {
        self.check(Rights::Delete, "a store is not created over HTTP, and its CONFIG changed only")?;
        let Some(expected) = request.header("if-match") else {
            return Err(refusal(412, "CONFIG is replaced only where If-Match names the one that is there"));
        };
        let new = whole(request, body, MAX_CONFIG)?;
        let current = self.storage.config().map_err(|error| told(&self.troubles, &error))?;
        if tag(&current) != expected {
            return Err(refusal(412, "CONFIG is not what it was"));
        }
        match self.storage.replace_config(&current, &new) {
            Ok(()) => Ok(Response::new(200)),
            Err(error) if error.kind == ErrorKind::Changed => Err(refusal(412, "CONFIG is not what it was")),
            Err(error) => Err(told(&self.troubles, &error)),
        }
    }

    fn list(&self, request: &Request, kind: &[u8]) -> Result<Response, Refusal> {
        let kind = kind_of(kind)?;
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            return Ok(not_allowed("GET, HEAD"));
        }
        let detailed = request.header("accept").is_some_and(|accept| accept.contains(DETAILS));
        let (storage, troubles) = (Arc::clone(&self.storage), Arc::clone(&self.troubles));
        let write = move |out: &mut dyn Write| {
            write_listing(storage.as_ref(), kind, detailed, out).map_err(|failure| failure.told(&troubles))
        };
        Ok(Response::new(200)
            .header("Content-Type", if detailed { DETAILS } else { "application/json" })
            .header("Cache-Control", "no-store")
            .header("Vary", "Accept")
            .content(Content::Stream { length: None, write: Box::new(write) }))
    }

    fn resource(
        &self,
        request: &Request,
        kind: &[u8],
        id: &[u8],
        body: &mut Body<'_>,
    ) -> Result<Response, Refusal> {
        let kind = kind_of(kind)?;
        let id = Id::from_hex(id).ok_or_else(|| refusal(400, "an id has 64 hexadecimal digits"))?;
        match request.method.as_str() {
            "GET" | "HEAD" => self.get(request, kind, id),
            "PUT" => self.put(request, kind, id, body),
            "DELETE" => {
                self.check(Rights::Delete, "deleting is allowed only")?;
                self.storage.delete(kind, id).map_err(|error| told(&self.troubles, &error))?;
                Ok(Response::new(200))
            }
            _ => Ok(not_allowed("GET, HEAD, PUT, DELETE")),
        }
    }

    /// Fails unless clients may do something.
    fn check(&self, needed: Rights, what: &str) -> Result<(), Refusal> {
        if self.rights >= needed {
            return Ok(());
        }
        if self.storage.is_read_only() {
            return Err(refusal(403, "what is served here can only be read"));
        }
        Err(refusal(403, format!("{what} where the server was started with -allow-{}", needed.word())))
    }

    fn get(&self, request: &Request, kind: Kind, id: Id) -> Result<Response, Refusal> {
        let response = Response::new(200)
            .header("Content-Type", "application/octet-stream")
            .header("Cache-Control", "no-store");
        if kind == Kind::Lock {
            // Locks are rewritten: what is sent must be of one moment.
            let bytes = self.storage.get(kind, id).map_err(|error| told(&self.troubles, &error))?;
            let (start, end) = range(request, bytes.len() as u64)?;
            let place = |at| usize::try_from(at).expect("within a value in memory");
            return Ok(response.content(Content::Bytes(bytes[place(start)..place(end)].to_vec())));
        }
        let size = self.storage.size(kind, id).map_err(|error| told(&self.troubles, &error))?;
        let (start, end) = range(request, size)?;
        let (storage, piece) = (Arc::clone(&self.storage), self.piece);
        let troubles = Arc::clone(&self.troubles);
        let write = move |out: &mut dyn Write| {
            let written = write_range(storage.as_ref(), kind, id, (start, end), piece, out);
            written.map_err(|failure| failure.told(&troubles))
        };
        Ok(response.content(Content::Stream { length: Some(end - start), write: Box::new(write) }))
    }

    fn put(&self, request: &Request, kind: Kind, id: Id, body: &mut Body<'_>) -> Result<Response, Refusal> {
        self.check(Rights::Write, "writing is allowed only")?;
        let purpose = match request.header("plakar-purpose") {
            Some("metadata") => Purpose::Metadata,
            _ => Purpose::Content,
        };
        let store = |body: connector::Body<'_>| {
            let stored = match kind {
                Kind::Packfile => self.storage.put_packfile(id, purpose, body),
                Kind::State | Kind::Lock => self.storage.put(kind, id, body),
            };
            stored.map_err(|error| told(&self.troubles, &error))
        };
        // Not every storage refuses to write over what is there, and whoever may add may not replace.
        if kind != Kind::Lock {
            match self.storage.size(kind, id) {
                Ok(_) => return Ok(Response::new(200)),
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) => return Err(told(&self.troubles, &error)),
            }
        }
        let limit = if kind == Kind::Lock { MAX_LOCK } else { MAX_RESOURCE };
        if request.length.is_some_and(|length| length <= IN_MEMORY) {
            store(connector::Body::Bytes(&whole(request, body, IN_MEMORY)?))?;
            return Ok(Response::new(200));
        }
        if request.length.is_some_and(|length| length > limit) {
            return Err(too_long(limit));
        }
        let mut file = self.storage.spool().map_err(|error| told(&self.troubles, &error))?;
        let length = spool(body, &mut file, limit, &self.troubles)?;
        if length == 0 {
            return Err(refusal(400, "a resource is not empty"));
        }
        store(connector::Body::Spool { file: &file, length })?;
        Ok(Response::new(200))
    }
}

/// Copies a body of at most `limit` bytes into a file; returns its length.
fn spool(
    body: &mut Body<'_>,
    file: &mut std::fs::File,
    limit: u64,
    troubles: &Troubles,
) -> Result<u64, Refusal> {
    let mut buffer = vec![0; 256 << 10];
    let mut length = 0;
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => return Err(Body::refusal(&error)),
        };
        length += count as u64;
        if length > limit {
            return Err(too_long(limit));
        }
        file.write_all(&buffer[..count])
            .map_err(|error| told(troubles, &Error::io("write", "a temporary file", error)))?;
    }
    file.rewind().map_err(|error| told(troubles, &Error::io("read", "a temporary file", error)))?;
    Ok(length)
}

/// Reads a body of at most `limit` bytes, and not none.
fn whole(request: &Request, body: &mut Body<'_>, limit: u64) -> Result<Vec<u8>, Refusal> {
    if request.length.is_some_and(|length| length > limit) {
        return Err(too_long(limit));
    }
    let mut bytes = Vec::new();
    body.take(limit + 1).read_to_end(&mut bytes).map_err(|error| Body::refusal(&error))?;
    match bytes.len() as u64 {
        0 => Err(refusal(400, "a resource is not empty")),
        length if length > limit => Err(too_long(limit)),
        _ => Ok(bytes),
    }
}

fn too_long(limit: u64) -> Refusal {
    refusal(413, format!("at most {limit} bytes are taken"))
}

fn refusal(status: u16, text: impl Into<String>) -> Refusal {
    Refusal { status, text: text.into() }
}

fn not_allowed(methods: &str) -> Response {
    Response::text(405, format!("the methods here are {methods}")).header("Allow", methods)
}

fn kind_of(name: &[u8]) -> Result<Kind, Refusal> {
    [Kind::Packfile, Kind::State, Kind::Lock]
        .into_iter()
        .find(|kind| kind.folder().as_bytes() == name)
        .ok_or_else(|| refusal(404, "resources are packfiles, states or locks"))
}

/// Returns what tells a CONFIG from another.
fn tag(config: &[u8]) -> String {
    format!("\"{}\"", blake3::hash(config).to_hex())
}

/// Reads the range of a request: from its first number to before its second, which the protocol wants exclusive,
/// against RFC 9110. Without one it is everything.
fn range(request: &Request, size: u64) -> Result<(u64, u64), Refusal> {
    if request.headers.iter().all(|(name, _)| name != "range") {
        return Ok((0, size));
    }
    let number = |text: &str| text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
    let range = request
        .header("range")
        .and_then(|value| value.strip_prefix("bytes="))
        .and_then(|value| value.split_once('-'))
        .and_then(|(first, end)| Some((number(first)?, number(end)?)));
    match range {
        Some((first, end)) if first <= end && end <= size => Ok((first, end)),
        Some((first, end)) => Err(refusal(416, format!("{first} to {end} is not within the {size} bytes"))),
        None => Err(refusal(416, "a range is bytes=FIRST-END, END being the first byte that is not wanted")),
    }
}

/// Returns whether a Host header names this machine in a way that no one else can claim.
fn is_local_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|c| c.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
}

/// Says what became of a request without saying where on this machine things are.
fn told(troubles: &Troubles, error: &Error) -> Refusal {
    let (status, what) = match error.kind {
        ErrorKind::NotFound => (404, "it does not exist"),
        ErrorKind::Denied => (403, "the store behind this server refuses that"),
        ErrorKind::ReadOnly => (403, "what is served here can only be read"),
        ErrorKind::Unsupported => (501, "the store behind this server has no such operation"),
        ErrorKind::Archived => {
            (409, "it lies in cold storage and has to be retrieved first, which is not possible from here")
        }
        ErrorKind::Full => (507, "the store behind this server is full, or takes nothing of that length"),
        ErrorKind::Transport => (502, "the store behind this server cannot be reached"),
        ErrorKind::Cancelled => (503, "the server is about to end"),
        ErrorKind::Invalid => (500, "the store behind this server cannot be used"),
        ErrorKind::Exists | ErrorKind::Changed | ErrorKind::Protocol | ErrorKind::Io => {
            (500, "the store behind this server failed")
        }
    };
    if status >= 500 {
        troubles(error);
    }
    refusal(status, what)
}

/// Why a body could not be made or sent.
enum Failure {
    Storage(Error),
    Client(io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Storage(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Client(error)
    }
}

impl Failure {
    fn told(self, troubles: &Troubles) -> io::Error {
        match self {
            Self::Storage(error) => told(troubles, &error).into(),
            Self::Client(error) => error,
        }
    }
}

/// Writes a listing as a JSON array: of ids, or of objects with what else is known.
fn write_listing(
    storage: &dyn Storage,
    kind: Kind,
    detailed: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let (mut failed, mut first) = (None, true);
    let listed = storage.list(kind, &mut |listed| {
        if failed.is_none() {
            let comma = if std::mem::take(&mut first) { "[" } else { "," };
            let item = if detailed { details(&listed) } else { format!("\"{}\"", listed.id) };
            failed = out.write_all(comma.as_bytes()).and_then(|()| out.write_all(item.as_bytes())).err();
        }
    });
    if let Some(error) = failed {
        return Err(error.into());
    }
    listed?;
    Ok(out.write_all(if first { b"[]\n" } else { b"]\n" })?)
}

fn details(listed: &Listed) -> String {
    let mut text = format!("{{\"id\":\"{}\",\"size\":{}", listed.id, listed.size);
    if let Some(time) = listed.modified.and_then(|time| Timestamp::try_from(time).ok()) {
        text.extend([",\"modified\":\"", &time.to_string(), "\""]);
    }
    if let Some(tag) = listed.tag {
        text.extend([",\"tag\":\"", &format!("{tag:016x}"), "\""]);
    }
    text.push('}');
    text
}

/// Writes a part of a resource, a piece after the other.
fn write_range(
    storage: &dyn Storage,
    kind: Kind,
    id: Id,
    (start, end): (u64, u64),
    piece: usize,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut buffer = Vec::new();
    let mut at = start;
    while at < end {
        let length = usize::try_from(end - at).map_or(piece, |left| left.min(piece));
        buffer.clear();
        // Copied out first: whoever reads slowly must not keep a file or a map busy.
        storage.read_range(kind, id, at, length, &mut |bytes| buffer.extend_from_slice(bytes))?;
        out.write_all(&buffer)?;
        at += length as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(range: &str) -> Request {
        Request {
            method: "GET".into(),
            path: "/".into(),
            query: String::new(),
            headers: vec![("range".into(), range.as_bytes().to_vec())],
            length: Some(0),
            peer: ([127, 0, 0, 1], 1).into(),
        }
    }

    #[test]
    fn the_end_of_a_range_is_exclusive() {
        assert_eq!(range(&request("bytes=0-16"), 100).unwrap(), (0, 16));
        assert_eq!(range(&request("bytes=90-100"), 100).unwrap(), (90, 100));
        assert_eq!(range(&request("bytes=100-100"), 100).unwrap(), (100, 100));
        for bad in [
            "bytes=90-101",
            "bytes=5-4",
            "bytes=-5",
            "bytes=5-",
            "bytes=0-1,3-4",
            "5-6",
            "bytes=+1-2",
            "bytes=0-99999999999999999999",
        ] {
            assert_eq!(range(&request(bad), 100).unwrap_err().status, 416, "{bad}");
        }
    }

    #[test]
    fn names_that_a_page_could_claim_are_not_local() {
        for name in
            ["localhost", "LocalHost:9876", "a.localhost", "127.0.0.1", "127.0.0.1:80", "[::1]:80", "[::1]"]
        {
            assert!(is_local_name(name), "{name}");
        }
        for name in ["evil.test", "evil.test:9876", "localhost.evil.test", "127.0.0.1.evil.test", ""] {
            assert!(!is_local_name(name), "{name}");
        }
    }
}
