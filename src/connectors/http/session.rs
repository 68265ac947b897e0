//! A server that speaks the store protocol: one request after the other, understood.

use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use ureq::http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, EXPECT, HeaderName, LOCATION};
use ureq::http::{self, HeaderMap, HeaderValue, Method};
use ureq::tls::TlsConfig;
use ureq::{Agent, SendBody};
use url::Url;
use zeroize::Zeroizing;

use super::part;
use super::patience::{Failure, Patience, describe_io, explain, retry_after, take_credentials};
use crate::base::{Cancel, Printable};
use crate::connector::{Error, ErrorKind, Result};
use crate::connectors::{redact, tls};

/// The longest text of an error that is read, in bytes.
const MAX_ERROR: u64 = 4 << 10;
/// The longest text of an error that is shown, in characters.
const SHOWN_ERROR: usize = 300;
/// Bodies of at least this many bytes wait for `100 Continue`, so that a refusal costs no upload.
const EXPECT_FROM: u64 = 256 << 10;

/// How long a server may be silent: it may be about to pass on what it was sent.
const STALL: Duration = Duration::from_mins(3);

/// How a server is reached.
#[derive(Clone)]
pub struct HttpOptions {
    /// The token to show.
    pub token: Option<Zeroizing<String>>,
    /// Whether the server's certificate goes unchecked.
    pub insecure: bool,
    /// A file of PEM certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// How long to wait, and how often to try.
    pub patience: Patience,
    /// Ends what waits or tries again.
    pub cancel: Cancel,
}

impl Default for HttpOptions {
    fn default() -> Self {
        let patience = Patience { stall: STALL, ..Patience::default() };
        Self { token: None, insecure: false, ca_file: None, patience, cancel: Cancel::new() }
    }
}

impl fmt::Debug for HttpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpOptions")
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("insecure", &self.insecure)
            .field("ca_file", &self.ca_file)
            .finish_non_exhaustive()
    }
}

/// What is sent along.
pub(super) enum Payload<'a> {
    None,
    Bytes(&'a [u8]),
    /// Makes a reader of so many bytes, anew for each attempt.
    Reader(&'a dyn Fn() -> Box<dyn Read + 'a>, u64),
}

impl Payload<'_> {
    fn length(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Reader(_, length) => *length,
        }
    }
}

/// A request.
pub(super) struct Ask<'a> {
    /// The verb for errors.
    pub(super) op: &'static str,
    pub(super) method: Method,
    /// What follows the store's URL, without a leading slash.
    pub(super) path: String,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) payload: Payload<'a>,
    /// Whether it is sent even when everything is to end.
    pub(super) at_the_end: bool,
}

impl Ask<'_> {
    pub(super) fn new(op: &'static str, method: Method, path: impl Into<String>) -> Self {
        let (headers, payload) = (Vec::new(), Payload::None);
        Self { op, method, path: path.into(), headers, payload, at_the_end: false }
    }
}

/// The head of an answer of success, and the rest of it.
pub(super) struct Answer<'a> {
    session: &'a Session,
    op: &'static str,
    path: &'a str,
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    body: ureq::Body,
}

impl Answer<'_> {
    /// Returns a header's text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Reads all of a body of at most `limit` bytes; what was told of its length must be true.
    pub(super) fn bytes(self, limit: u64) -> Result<Vec<u8>, Failure> {
        let announced = part::content_length(&self.headers);
        if announced.is_some_and(|length| length > limit) {
            return Err(self.too_long(limit));
        }
        let mut out = Vec::new();
        let read = self.body.into_reader().take(limit + 1).read_to_end(&mut out);
        read.map_err(|error| self.session.broken(self.op, self.path, &error))?;
        if out.len() as u64 > limit {
            return Err(self.session.failure(ErrorKind::Protocol, self.op, self.path, too_long(limit)));
        }
        Ok(out)
    }

    /// Writes all of a body to `out`, `limit` bytes at most. A failure of `out` is reported as such.
    pub(super) fn copy(self, limit: u64, out: &mut dyn std::io::Write) -> Result<(), Failure> {
        let (session, op, path) = (self.session, self.op, self.path);
        let mut reader = self.body.into_reader().take(limit + 1);
        let mut buffer = vec![0; 64 << 10];
        let mut total = 0;
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) => return Err(session.broken(op, path, &error)),
            };
            total += count as u64;
            if total > limit {
                return Err(session.failure(ErrorKind::Protocol, op, path, too_long(limit)));
            }
            out.write_all(&buffer[..count]).map_err(|error| Error::io("write", "a temporary file", error))?;
        }
    }

    /// Returns the body to read from, with what its failures mean.
    pub(super) fn reader(self) -> impl Read {
        self.body.into_reader()
    }

    fn too_long(&self, limit: u64) -> Failure {
        self.session.failure(ErrorKind::Protocol, self.op, self.path, too_long(limit))
    }
}

fn too_long(limit: u64) -> String {
    format!("the answer is longer than {limit} bytes")
}

/// A server, and who asks it.
pub(super) struct Session {
    agent: Agent,
    /// The store's URL, ending in a slash.
    base: Url,
    target: String,
    authorization: Option<Zeroizing<String>>,
    has_token: bool,
    options: HttpOptions,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Session {
    /// Makes a session; no request is sent yet.
    pub(super) fn new(url: &str, options: HttpOptions) -> Result<Self> {
        let target = redact(url).trim_end_matches('/').to_owned();
        let invalid = |why: &str| Error::new(ErrorKind::Invalid, "open", &*target).detail(why.to_owned());
        let mut base = Url::parse(url).map_err(|_| invalid("it is not a URL"))?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(invalid("it is not an http or https URL"));
        }
        if base.query().is_some() || base.fragment().is_some() {
            return Err(invalid(
                "the URL of a store has neither a query nor a fragment; an archive on a web server is ptar+https://…",
            ));
        }
        let mut authorization =
            take_credentials(&mut base).map_err(|()| invalid("it is not an http or https URL"))?;
        if let Some(token) = &options.token {
            if authorization.is_some() {
                return Err(invalid("give a token, or a name and a password in the URL, not both"));
            }
            if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(invalid("the token holds characters that cannot be sent"));
            }
            authorization = Some(Zeroizing::new(format!("Bearer {}", token.as_str())));
        }
        if !base.path().ends_with('/') {
            let path = format!("{}/", base.path());
            base.set_path(&path);
        }
        let roots =
            if options.insecure { tls::roots(None)? } else { tls::roots(options.ca_file.as_deref())? };
        let tls = TlsConfig::builder().root_certs(roots).disable_verification(options.insecure).build();
        let (agent, has_token) = (options.patience.agent(tls), options.token.is_some());
        Ok(Self { agent, base, target, authorization, has_token, options })
    }

    /// Returns the URL for people and errors.
    pub(super) fn target(&self) -> &str {
        &self.target
    }

    /// Sends a request until it succeeds or fails for good. `consume` gets the answer; a failure there that may pass is
    /// an attempt like any other.
    pub(super) fn run<T>(
        &self,
        ask: &Ask<'_>,
        consume: &mut dyn FnMut(Answer<'_>) -> Result<T, Failure>,
    ) -> Result<T> {
        // What is to be said at the end is said once: then it is about to be late anyway.
        self.options.patience.persist(&self.options.cancel, || {
            if self.options.cancel.is_cancelled() && !ask.at_the_end {
                return Err(Error::new(ErrorKind::Cancelled, ask.op, self.place(&ask.path)).into());
            }
            consume(self.send(ask)?).map(Some)
        })
    }

    fn place(&self, path: &str) -> String {
        if path.is_empty() { self.target.clone() } else { format!("{}/{path}", self.target) }
    }

    /// Returns an error about something below the store's URL.
    pub(super) fn failure(
        &self,
        kind: ErrorKind,
        op: &'static str,
        path: &str,
        detail: impl Into<String>,
    ) -> Failure {
        Error::new(kind, op, self.place(path)).detail(detail).into()
    }

    /// The same for a body that broke off.
    pub(super) fn broken(&self, op: &'static str, path: &str, error: &std::io::Error) -> Failure {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
        let (detail, again) = inner.map_or_else(|| (describe_io(error), true), explain);
        Failure { again, ..self.failure(ErrorKind::Transport, op, path, detail) }
    }

    fn send<'a>(&'a self, ask: &'a Ask<'_>) -> Result<Answer<'a>, Failure> {
        let unsendable =
            |_| self.failure(ErrorKind::Invalid, ask.op, &ask.path, "the request cannot be expressed");
        let mut builder =
            http::Request::builder().method(ask.method.clone()).uri(format!("{}{}", self.base, ask.path));
        if let Some(authorization) = &self.authorization {
            let mut value = HeaderValue::from_str(authorization).map_err(|error| unsendable(error.into()))?;
            value.set_sensitive(true);
            builder = builder.header(AUTHORIZATION, value);
        }
        for (name, value) in &ask.headers {
            builder = builder.header(name, value);
        }
        if ask.payload.length() >= EXPECT_FROM {
            builder = builder.header(EXPECT, "100-continue");
        }
        if ask.headers.iter().all(|(name, _)| name != ACCEPT) {
            builder = builder.header(ACCEPT, "*/*");
        }
        let result = match &ask.payload {
            Payload::None => self.agent.run(builder.body(()).map_err(unsendable)?),
            Payload::Bytes(bytes) => self.agent.run(builder.body(*bytes).map_err(unsendable)?),
            Payload::Reader(open, length) => {
                let mut reader = open();
                let request =
                    builder.header(CONTENT_LENGTH, *length).body(SendBody::from_reader(&mut reader));
                self.agent.run(request.map_err(unsendable)?)
            }
        };
        let answer = result.map_err(|error| self.unsent(ask, error))?;
        self.judge(ask, answer)
    }

    fn unsent(&self, ask: &Ask<'_>, error: ureq::Error) -> Failure {
        // A failure of what was to be sent comes back as the library's.
        if let ureq::Error::Io(io) = &error
            && let Some(cause) = io.get_ref().and_then(|inner| inner.downcast_ref::<SpoolFailed>())
        {
            return Error::new(ErrorKind::Io, ask.op, self.place(&ask.path)).detail(cause.to_string()).into();
        }
        let (detail, again) = explain(&error);
        Failure { again, ..self.failure(ErrorKind::Transport, ask.op, &ask.path, detail) }
    }

    fn judge<'a>(
        &'a self,
        ask: &'a Ask<'_>,
        answer: http::Response<ureq::Body>,
    ) -> Result<Answer<'a>, Failure> {
        let (head, body) = answer.into_parts();
        let status = head.status.as_u16();
        if matches!(status, 200 | 201 | 204 | 206) {
            let (op, path) = (ask.op, ask.path.as_str());
            return Ok(Answer { session: self, op, path, status, headers: head.headers, body });
        }
        let said = self.said(body);
        let told = if said.is_empty() { String::new() } else { format!(": {said}") };
        let detail = format!("the server answered {status}{told}");
        let (kind, again) = match status {
            300..=399 => {
                let to = head.headers.get(LOCATION).and_then(|value| value.to_str().ok()).map(redact);
                let to = to.map(|to| format!(" to {}", shortened(&to))).unwrap_or_default();
                let detail =
                    format!("the server redirects{to}, which is not followed: give the URL it leads to");
                return Err(self.failure(ErrorKind::Protocol, ask.op, &ask.path, detail));
            }
            401 => {
                let hint = if self.has_token {
                    "it does not accept the token"
                } else {
                    "it wants a token: option token"
                };
                return Err(self.failure(ErrorKind::Denied, ask.op, &ask.path, format!("{detail} ({hint})")));
            }
            403 | 407 => (ErrorKind::Denied, false),
            404 | 410 => (ErrorKind::NotFound, false),
            405 | 501 => (ErrorKind::Unsupported, false),
            409 => (ErrorKind::Archived, false),
            412 => (ErrorKind::Changed, false),
            413 | 507 => (ErrorKind::Full, false),
            408 | 425 | 429 | 500 | 502..=504 | 506 | 508..=599 => (ErrorKind::Transport, true),
            _ => (ErrorKind::Protocol, false),
        };
        let pause = retry_after(&head.headers);
        Err(Failure { again, pause, ..self.failure(kind, ask.op, &ask.path, detail) })
    }

    /// Returns the first line of an error's text, fit for showing and without the secret that was sent.
    fn said(&self, body: ureq::Body) -> String {
        let mut bytes = Vec::new();
        // What can be read of it is better than nothing.
        let _ = body.into_reader().take(MAX_ERROR).read_to_end(&mut bytes);
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((_, secret)) = self.authorization.as_deref().and_then(|value| value.split_once(' ')) {
            text = text.replace(secret, "…");
        }
        shortened(text.trim().lines().next().unwrap_or_default())
    }
}

fn shortened(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN_ERROR).collect();
    let ellipsis = if cut.len() < text.len() { "…" } else { "" };
    format!("{}{ellipsis}", Printable::message(&cut))
}

/// The spooled file of a body could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the temporary file cannot be read: {0}")]
pub(super) struct SpoolFailed(pub(super) std::io::Error);
