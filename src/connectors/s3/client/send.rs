//! One request from its parts to its checked answer, through as many attempts as it takes.

use std::fmt;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rusty_s3::Method;
use ureq::http::{self, HeaderMap, HeaderName, HeaderValue};
use ureq::{Agent, SendBody};

use super::super::credentials::Credentials;
use super::super::location::Endpoint;
use super::super::options::Options;
use super::advice::{Advice, advise, redact};
use super::agent;
use super::body::Body;
use super::failure::{Again, Answer, Failure, Result, classify, printable};
use super::gate::{Gate, Permit};
use super::last_words::{LastWords, Watch};
use super::pace::Pace;
use super::retry::Retry;
use super::sign::{DayKeys, Unsigned, encode, presign};
use crate::base::Printable;
use crate::connector;

/// The longest error answer that is read.
const MAX_ERROR_BODY: u64 = 64 << 10;
/// Clocks that differ by more than this many seconds make signatures invalid, five minutes being their life.
const MAX_SKEW: i64 = 240;
/// How often one request may learn from a refusal what the time is, or the region. Once would do, if another thread
/// did not learn something else meanwhile from a server among many whose clock is wrong.
const LESSONS: u32 = 2;
/// Bodies of at least this many bytes wait for `100 Continue`, so that a refusal costs no upload.
const EXPECT_FROM: u64 = 1 << 20;

/// The client of one bucket, shared by threads.
pub struct Client {
    options: Options,
    /// `s3://host/bucket`.
    target: String,
    agent: Agent,
    gate: Gate,
    aim: RwLock<Aim>,
    /// Seconds the server's clock is ahead of ours, once learnt.
    skew: AtomicI64,
    keys: DayKeys,
    /// Set once the server demanded a checksum of contents that are dear to read.
    pub(super) wants_checksums: AtomicBool,
    /// Breaks connections off once everything is to end.
    _watch: Watch,
    /// What still has to be said then.
    last_words: OnceLock<LastWords>,
}

/// Where requests go: corrected once when the server names another region.
#[derive(Clone, Debug)]
struct Aim {
    region: String,
    endpoint: Endpoint,
}

/// What one attempt was signed with: other threads may learn better meanwhile.
struct Signing {
    who: Arc<Credentials>,
    aim: Aim,
    skew: i64,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("location", &self.options.describe()).finish_non_exhaustive()
    }
}

/// A content that can be read from its start as often as it takes: what a retry needs is made anew, not kept.
pub(in super::super) trait Rewind {
    /// Returns the length in bytes.
    fn length(&self) -> u64;

    /// Starts at the beginning.
    fn open(&self) -> connector::Result<Box<dyn Read + '_>>;
}

/// A body to send.
#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    /// No body.
    None,
    /// Bytes in memory.
    Bytes(&'a [u8]),
    /// A content made anew for each attempt.
    Reader(&'a dyn Rewind),
}

impl Payload<'_> {
    fn length(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Reader(reader) => reader.length(),
        }
    }
}

/// A request before it is signed.
#[derive(Clone, Debug)]
pub(super) struct Request<'a> {
    /// The verb for errors.
    pub(super) op: &'static str,
    pub(super) method: Method,
    /// The exact key, never empty; `None` addresses the bucket.
    pub(super) key: Option<&'a [u8]>,
    pub(super) query: Vec<(&'static str, String)>,
    /// Names in lower case.
    pub(super) headers: Vec<(String, Vec<u8>)>,
    /// Whether it takes back what would stay behind, and so is sent even when everything is to end.
    pub(super) cleans_up: bool,
    /// Whether it addresses the server, and no bucket on it.
    pub(super) of_service: bool,
}

impl<'a> Request<'a> {
    pub(super) fn new(op: &'static str, method: Method, key: Option<&'a [u8]>) -> Self {
        let (query, headers) = (Vec::new(), Vec::new());
        Self { op, method, key, query, headers, cleans_up: false, of_service: false }
    }

    pub(super) fn cleaning_up(mut self) -> Self {
        self.cleans_up = true;
        self
    }

    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// A successful answer whose body is still to be read.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// The length that an answer must have which tells none.
    expected: Option<u64>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Response {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
    }

    /// Returns what `Content-Length` says, or what has to be.
    pub(super) fn length(&self) -> Option<u64> {
        self.expected.or_else(|| self.header("content-length")?.trim().parse().ok())
    }

    /// Sets the length of an answer that tells none.
    pub(super) fn expect(&mut self, length: u64) {
        self.expected = Some(length);
        self.body.expect(length);
    }

    /// Reads a body of at most `limit` bytes.
    pub(super) fn bytes(self, op: &'static str, target: &str, limit: u64) -> Result<Vec<u8>> {
        let announced = self.length();
        let mut out = Vec::with_capacity(usize::try_from(announced.unwrap_or(0).min(1 << 20)).unwrap_or(0));
        self.body.take(limit + 1).read_to_end(&mut out).map_err(|e| broken(op, target, &e))?;
        if out.len() as u64 > limit {
            return Err(Failure::protocol(op, target, format!("the answer is longer than {limit} bytes")));
        }
        if announced.is_some_and(|announced| announced != out.len() as u64) {
            return Err(Failure::transport(op, target, "the answer's body ended early"));
        }
        Ok(out)
    }
}

/// A failure while a body was read.
pub(super) fn broken(op: &'static str, target: &str, error: &io::Error) -> Box<Failure> {
    let (message, again) = agent::explain_io(error);
    let mut failure = Failure::transport(op, target, message);
    failure.again = again;
    failure
}

impl Client {
    /// Makes a client; no request is sent yet. Fails when certificates or the proxy cannot be used.
    pub fn new(options: Options) -> connector::Result<Self> {
        let agent = agent::build(&options)?;
        let aim = Aim { region: options.region.clone(), endpoint: options.location.endpoint.clone() };
        let tuning = &options.tuning;
        let pace = if tuning.adaptive { Pace::adaptive(tuning.workers) } else { Pace::fixed(tuning.workers) };
        let watch = Watch::start(&options.cancel, &agent);
        let place = &options.location;
        let target = format!("s3://{}/{}", place.endpoint.authority(), place.bucket);
        Ok(Self {
            target,
            gate: Gate::new(pace),
            options,
            agent,
            aim: RwLock::new(aim),
            skew: AtomicI64::new(0),
            keys: DayKeys::default(),
            wants_checksums: AtomicBool::new(false),
            _watch: watch,
            last_words: OnceLock::new(),
        })
    }

    /// Returns the settings.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Returns the region requests are signed for now.
    pub fn region(&self) -> String {
        self.aim().region
    }

    fn signing(&self, op: &'static str, target: &str) -> Result<Signing> {
        let who = self.options.credentials.current(&self.options.cancel);
        let who = who.map_err(|error| Failure::new(error.kind(), op, target, error.to_string()))?;
        Ok(Signing { who, aim: self.aim(), skew: self.skew.load(Ordering::Relaxed) })
    }

    fn aim(&self) -> Aim {
        self.aim.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns `s3://host/bucket/key` for people.
    pub(in super::super) fn target(&self, key: Option<&[u8]>) -> String {
        match key {
            Some(key) => format!("{}/{}", self.target, Printable::new(key)),
            None => self.target.clone(),
        }
    }

    /// Sends a request until it succeeds or fails for good, and hands the answer to `consume`; a failure there
    /// that may pass (a body that broke off) is an attempt like any other.
    pub(super) fn run<T>(
        &self,
        request: &Request<'_>,
        payload: Payload<'_>,
        consume: &mut dyn FnMut(Response) -> Result<T>,
    ) -> Result<T> {
        let target = self.target(request.key);
        if request.key.is_some_and(<[u8]>::is_empty) {
            // The empty key is the bucket itself: a delete would become the bucket's.
            let message = "an empty key addresses no object";
            return Err(Failure::new(connector::ErrorKind::Invalid, request.op, &target, message));
        }
        let mut retry = Retry::new(&self.options.tuning);
        let (mut moved, mut wound, mut renewed) = (0, 0, false);
        loop {
            if self.options.cancel.is_cancelled() {
                if request.cleans_up {
                    return self.last_word(request, payload, &target, consume);
                }
                return Err(cancelled(request.op, &target));
            }
            let signing = self.signing(request.op, &target)?;
            let attempt = self.attempt(request, payload, &target, &signing);
            let mut failure = match attempt.and_then(&mut *consume) {
                Ok(value) => return Ok(value),
                // What is broken off is no failure of the server's.
                Err(_) if self.options.cancel.is_cancelled() => continue,
                Err(failure) => failure,
            };
            if !renewed
                && failure.may_be_expiry()
                && self.options.credentials.renew(&signing.who, &self.options.cancel)
            {
                renewed = true;
                continue;
            }
            if wound < LESSONS && self.learn_clock(&failure, &signing) {
                wound += 1;
                continue;
            }
            if moved < LESSONS && self.learn_region(&failure, &signing) {
                moved += 1;
                continue;
            }
            if failure.again == Again::Throttled {
                self.gate.throttled();
            }
            let Some(pause) = retry.next(&failure) else {
                failure.attempts = retry.failures();
                self.advise(&mut failure, &signing.who);
                return Err(failure);
            };
            // The next round sees that everything is to end.
            let _ = self.options.cancel.sleep(pause);
        }
    }

    /// Sends a request that takes something back, once more, after everything else was broken off.
    fn last_word<T>(
        &self,
        request: &Request<'_>,
        payload: Payload<'_>,
        target: &str,
        consume: &mut dyn FnMut(Response) -> Result<T>,
    ) -> Result<T> {
        let words = self.last_words.get_or_init(|| LastWords::begin(&self.options));
        let signing = self.signing(request.op, target)?;
        let mut result = Err(cancelled(request.op, target));
        // A server that answers at all answers the second time, should it be busy the first.
        for _ in 0..2 {
            let Some(agent) = words.agent() else { break };
            let sent = self.send(agent, request, payload, target, &signing);
            result = sent
                .and_then(|answer| judge(request, target, answer, None, &signing))
                .map_err(|failure| self.without_key(failure))
                .and_then(&mut *consume);
            if result.as_ref().is_ok() || result.as_ref().is_err_and(|failure| failure.again == Again::Never)
            {
                break;
            }
        }
        result
    }

    /// Sends a request once and returns the answer if it is a success.
    fn attempt(
        &self,
        request: &Request<'_>,
        payload: Payload<'_>,
        target: &str,
        signing: &Signing,
    ) -> Result<Response> {
        let permit = self.gate.enter(&self.options.cancel);
        let mut permit = permit.ok_or_else(|| cancelled(request.op, target))?;
        let answer = self.send(&self.agent, request, payload, target, signing)?;
        if answer.status().is_success() {
            permit.moved(payload.length());
        }
        judge(request, target, answer, Some(permit), signing).map_err(|failure| self.without_key(failure))
    }

    /// Removes the customer's key from what the server said.
    fn without_key(&self, mut failure: Box<Failure>) -> Box<Failure> {
        if let Some(key) = &self.options.customer_key {
            let [_, (_, sent), _] = key.headers();
            failure.message = failure.message.replace(&sent, "…");
        }
        failure
    }

    fn send(
        &self,
        agent: &Agent,
        request: &Request<'_>,
        payload: Payload<'_>,
        target: &str,
        signing: &Signing,
    ) -> Result<http::Response<ureq::Body>> {
        let url = self.sign(request, signing);
        let mut builder = http::Request::builder().method(method(request.method)).uri(url);
        let invalid = |what: String| Failure::new(connector::ErrorKind::Invalid, request.op, target, what);
        if let Some(headers) = builder.headers_mut() {
            for (name, value) in &request.headers {
                let wrong = || invalid(format!("{} cannot be sent as a header", printable(name, 100)));
                let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
                headers.insert(name, HeaderValue::from_bytes(value).map_err(|_| wrong())?);
            }
            if payload.length() >= EXPECT_FROM {
                headers.insert(http::header::EXPECT, HeaderValue::from_static("100-continue"));
            }
        }
        let unsendable = |_| invalid("the request cannot be expressed".into());
        let result = match payload {
            Payload::None => agent.run(builder.body(()).map_err(unsendable)?),
            Payload::Bytes(bytes) => agent.run(builder.body(bytes).map_err(unsendable)?),
            Payload::Reader(content) => {
                let mut reader = content.open().map_err(|error| caused(request.op, target, error))?;
                let builder = builder.header(http::header::CONTENT_LENGTH, content.length());
                agent.run(builder.body(SendBody::from_reader(&mut reader)).map_err(unsendable)?)
            }
        };
        result.map_err(|error| match error {
            ureq::Error::Io(e) => match e.downcast::<connector::Error>() {
                Ok(cause) => caused(request.op, target, cause),
                Err(e) => broken(request.op, target, &e),
            },
            error => {
                let (message, again) = agent::explain(&error);
                let mut failure = Failure::transport(request.op, target, message);
                failure.again = again;
                failure
            }
        })
    }

    /// Returns the signed URL of a request: a secret that goes to the agent and nowhere else.
    fn sign(&self, request: &Request<'_>, signing: &Signing) -> String {
        let aim = &signing.aim;
        let bucket = &self.options.location.bucket;
        let tls = self.options.use_tls;
        let default_port = if tls { 443 } else { 80 };
        let endpoint =
            Endpoint { port: aim.endpoint.port.filter(|&port| port != default_port), ..aim.endpoint.clone() };
        let key = request.key.map(encode).unwrap_or_default();
        let (authority, path) = if request.of_service {
            (endpoint.authority(), "/".to_owned())
        } else if self.in_host_name() {
            (format!("{bucket}.{}", endpoint.authority()), format!("/{key}"))
        } else {
            let path = if request.key.is_some() { format!("/{bucket}/{key}") } else { format!("/{bucket}") };
            (endpoint.authority(), path)
        };
        let mut query: Vec<(String, String)> =
            request.query.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        query.sort();
        // Every x-amz-* header must be signed; others may be changed by a proxy on the way.
        let mut headers: Vec<(String, Vec<u8>)> =
            request.headers.iter().filter(|(name, _)| name.starts_with("x-amz-")).cloned().collect();
        headers.sort();
        let unsigned = Unsigned {
            method: request.method,
            scheme: if tls { "https" } else { "http" },
            authority: &authority,
            path: &path,
            query: &query,
            headers: &headers,
        };
        presign(&unsigned, &signing.who, &aim.region, now_with(signing.skew), &self.keys)
    }

    /// Returns what the server's clock shows, as far as that is known.
    pub(super) fn server_time(&self) -> jiff::Timestamp {
        now_with(self.skew.load(Ordering::Relaxed))
    }

    /// Returns whether the bucket goes into the host name: asked for, and possible. A dot in the name would
    /// leave the certificate's wildcard, and an address has no names below it.
    fn in_host_name(&self) -> bool {
        let place = &self.options.location;
        let bucket_is_label =
            place.bucket.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
        self.options.virtual_host && bucket_is_label && place.endpoint.address().is_none()
    }

    /// Learns the server's clock from a refusal; returns whether it differs enough from what was signed with to sign
    /// again.
    fn learn_clock(&self, failure: &Failure, signing: &Signing) -> bool {
        let Some(date) = failure.date.filter(|_| matches!(failure.status, 400 | 403)) else { return false };
        let skew = seconds(date) - seconds(SystemTime::now());
        if (skew - signing.skew).abs() <= MAX_SKEW {
            return false;
        }
        self.skew.store(skew, Ordering::Relaxed);
        true
    }

    /// Learns the bucket's region from a refusal; returns whether it is another one than was signed for.
    fn learn_region(&self, failure: &Failure, signing: &Signing) -> bool {
        let Some(region) =
            failure.region.as_ref().filter(|_| matches!(failure.status, 301 | 307 | 400 | 403))
        else {
            return false;
        };
        if signing.aim.region == *region {
            return false;
        }
        let mut aim = self.aim.write().unwrap_or_else(PoisonError::into_inner);
        if aim.region != *region {
            if let Some(endpoint) = aim.endpoint.in_region(region) {
                aim.endpoint = endpoint;
            }
            aim.region.clone_from(region);
        }
        true
    }

    /// Adds what a person can do about a failure, where the code alone did not say it.
    fn advise(&self, failure: &mut Failure, who: &Credentials) {
        let place = &self.options.location;
        let about = Advice {
            endpoint: &place.endpoint,
            reading: place.reading,
            use_tls: self.options.use_tls,
            bucket: &place.bucket,
            region: &self.region(),
            who,
        };
        advise(failure, &about);
    }
}

/// Tells a success from a refusal.
fn judge(
    request: &Request<'_>,
    target: &str,
    answer: http::Response<ureq::Body>,
    permit: Option<Permit>,
    signing: &Signing,
) -> Result<Response> {
    let (parts, body) = answer.into_parts();
    let status = parts.status.as_u16();
    let mut response = Response { status, headers: parts.headers, body: Body::none(), expected: None };
    let length = response.length().filter(|_| request.method != Method::Head);
    response.body = Body::new(body.into_reader(), length, permit);
    if (200..300).contains(&status) {
        return Ok(response);
    }
    let text = |name: &str| response.header(name).map(str::to_owned);
    let (region, request_id) = (text("x-amz-bucket-region"), text("x-amz-request-id"));
    let date = response.header("date").and_then(|date| httpdate::parse_http_date(date).ok());
    let retry_after = response.header("retry-after").and_then(|text| pause_asked_for(text, date));
    let mut body = Vec::new();
    // What of it arrived is enough: the status alone is an answer.
    let _ = response.body.take(MAX_ERROR_BODY).read_to_end(&mut body);
    let answer = Answer { status, body: &body, request_id, region, date, retry_after };
    Err(classify(request.op, target, answer, &|text| redact(text, &signing.who)))
}

fn caused(op: &'static str, target: &str, error: connector::Error) -> Box<Failure> {
    let mut failure = Failure::new(error.kind, op, target, "the content could not be read");
    failure.cause = Some(Box::new(error));
    failure
}

fn cancelled(op: &'static str, target: &str) -> Box<Failure> {
    Failure::new(connector::ErrorKind::Cancelled, op, target, "cancelled")
}

/// Reads `Retry-After`: seconds, or a date by the clock of the server.
fn pause_asked_for(text: &str, date: Option<SystemTime>) -> Option<Duration> {
    let text = text.trim();
    let until = || httpdate::parse_http_date(text).ok();
    let seconds = text.parse().ok().map(Duration::from_secs);
    seconds.or_else(|| until()?.duration_since(date.unwrap_or_else(SystemTime::now)).ok())
}

/// Returns the time by a clock that is so many seconds ahead.
fn now_with(skew: i64) -> jiff::Timestamp {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second() + skew).unwrap_or(now)
}

fn seconds(time: SystemTime) -> i64 {
    crate::base::Timestamp::from(time).secs
}

fn method(method: Method) -> http::Method {
    match method {
        Method::Head => http::Method::HEAD,
        Method::Get => http::Method::GET,
        Method::Put => http::Method::PUT,
        Method::Post => http::Method::POST,
        Method::Delete => http::Method::DELETE,
    }
}
