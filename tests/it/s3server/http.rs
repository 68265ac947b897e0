//! One connection: reads requests, writes answers, and breaks either on request.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use md5::{Digest, Md5};

use super::fault::{Action, Fault, Seen};
use super::wire::{Body, Request, Response};
use super::{Shared, access, ops};

/// Serves a connection until it ends.
pub(super) fn serve(stream: &TcpStream, shared: &Shared) {
    let (mut buffer, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
    Shared::lock(&shared.counters).connections += 1;
    while let Ok(Some((request, inside))) = read_request(stream, &mut buffer, &mut chunk, shared) {
        match answer(stream, &request, shared, inside) {
            Ok(true) => {}
            Ok(false) | Err(_) => break,
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A request that is in the server. It leaves before the last of its answer does: a client that has that may have sent
/// the next one before this thread gets to say so.
struct Inside<'a>(&'a AtomicU64);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Reads one request with its body; `None` at the end of the connection.
fn read_request<'a>(
    mut stream: &TcpStream,
    buffer: &mut Vec<u8>,
    chunk: &mut [u8],
    shared: &'a Shared,
) -> io::Result<Option<(Request, Inside<'a>)>> {
    let (mut request, head) = loop {
        if let Some(parsed) = parse_head(buffer)? {
            break parsed;
        }
        match stream.read(chunk)? {
            0 => return Ok(None),
            n => buffer.extend_from_slice(&chunk[..n]),
        }
    };
    buffer.drain(..head);
    let at_once = shared.at_once.fetch_add(1, Ordering::SeqCst) + 1;
    let inside = Inside(&shared.at_once);
    let whole = read_body(stream, buffer, &mut request, chunk, shared);
    let mut counters = Shared::lock(&shared.counters);
    counters.most_at_once = counters.most_at_once.max(at_once);
    drop(counters);
    whole.map(|()| Some((request, inside)))
}

fn read_body(
    mut stream: &TcpStream,
    buffer: &mut Vec<u8>,
    request: &mut Request,
    chunk: &mut [u8],
    shared: &Shared,
) -> io::Result<()> {
    if request.header("expect").is_some_and(|v| v.eq_ignore_ascii_case("100-continue")) {
        Shared::lock(&shared.counters).expected += 1;
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let length: usize = match request.header("content-length") {
        Some(text) => text.parse().map_err(|_| invalid("content-length"))?,
        None if request.header("transfer-encoding").is_some() => {
            return Err(invalid("chunked bodies are refused"));
        }
        None => 0,
    };
    buffer.reserve(length.saturating_sub(buffer.len()));
    while buffer.len() < length {
        match stream.read(chunk)? {
            0 => return Err(invalid("the body is cut off")),
            n => buffer.extend_from_slice(&chunk[..n]),
        }
    }
    let rest = buffer.split_off(length);
    request.body = Arc::new(std::mem::replace(buffer, rest));
    request.md5 = Md5::digest(request.body.as_slice()).into();
    Ok(())
}

fn parse_head(buffer: &[u8]) -> io::Result<Option<(Request, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 200];
    let mut parsed = httparse::Request::new(&mut headers);
    let head = match parsed.parse(buffer) {
        Ok(httparse::Status::Complete(n)) => n,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(invalid("the request's head")),
    };
    let target = parsed.path.unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let request = Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        query: query.to_owned().into(),
        headers: parsed.headers.iter().map(|h| (h.name.to_ascii_lowercase(), h.value.to_vec())).collect(),
        ..Request::default()
    };
    Ok(Some((request, head)))
}

/// Answers one request; returns whether the connection lives on.
fn answer(stream: &TcpStream, request: &Request, shared: &Shared, inside: Inside<'_>) -> io::Result<bool> {
    let target = ops::route(request);
    let number = {
        let mut counters = Shared::lock(&shared.counters);
        counters.received_bytes += request.body.len() as u64;
        counters.targets.push(format!("{} {}?{}", request.method, request.path, &*request.query));
        let count = counters.requests.entry(target.op).or_default();
        *count += 1;
        *count
    };
    let seen = Seen {
        op: target.op,
        bucket: target.bucket.clone(),
        key: target.key.clone(),
        number,
        at_once: shared.at_once.load(Ordering::SeqCst),
    };
    let mut action = Fault::strike(&mut Shared::lock(&shared.faults), &seen);
    if action.is_none() {
        action = Shared::lock(&shared.storm).as_mut().and_then(|storm| storm.strike(&seen));
        Shared::lock(&shared.counters).struck += u64::from(action.is_some());
    }
    let normal = || match access::check(shared, request) {
        Ok(key) => ops::handle(shared, request, &target, &key),
        Err(refusal) => refusal,
    };
    let response = match &action {
        Some(Action::Reset) => return reset(stream),
        Some(Action::ResetAfter) => {
            normal();
            return reset(stream);
        }
        Some(Action::Status { status, code, headers, xml }) => {
            let mut response = Response::error_with(*status, code, "injected", xml);
            response.headers.extend(headers.iter().map(|(n, v)| ((*n).to_owned(), v.clone().into_bytes())));
            response
        }
        Some(Action::ErrorInOk(code)) => Response { status: 200, ..Response::error(200, code, "injected") },
        Some(Action::Replace(body)) => {
            Response { body: body.clone().into_bytes().into(), ..Response::new(200) }
        }
        Some(Action::Hang) => {
            Shared::lock(&shared.counters).hanging += 1;
            while !shared.stopping.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(20));
            }
            return Err(invalid("hung up"));
        }
        Some(Action::StalePage) => match access::check(shared, request) {
            Ok(key) => {
                let mut first = request.clone();
                let markers = ["continuation-token=", "marker=", "key-marker=", "version-id-marker="];
                let is_marker = |part: &str| markers.iter().any(|marker| part.starts_with(marker));
                let kept = request.query.split('&').filter(|part| !is_marker(part));
                first.query = kept.collect::<Vec<_>>().join("&").into();
                ops::handle(shared, &first, &target, &key)
            }
            Err(refusal) => refusal,
        },
        Some(Action::Stall(pause)) => {
            std::thread::sleep(*pause);
            normal()
        }
        _ => normal(),
    };
    write_response(stream, request, response, action.as_ref(), shared, inside)
}

/// Writes a body whose length is not told.
fn write_chunks(
    mut stream: &TcpStream,
    mut head: Vec<u8>,
    body: &[u8],
    inside: Inside<'_>,
) -> io::Result<bool> {
    head.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
    stream.write_all(&head)?;
    for chunk in body.chunks(10_000) {
        stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes())?;
        stream.write_all(chunk)?;
        stream.write_all(b"\r\n")?;
    }
    drop(inside);
    stream.write_all(b"0\r\n\r\n")?;
    Ok(true)
}

fn reset(stream: &TcpStream) -> io::Result<bool> {
    // A zero linger makes the close a reset.
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?;
    Err(invalid("reset on request"))
}

fn write_response(
    mut stream: &TcpStream,
    request: &Request,
    mut response: Response,
    action: Option<&Action>,
    shared: &Shared,
    inside: Inside<'_>,
) -> io::Result<bool> {
    if let Some(Action::Shorten(by)) = action {
        let Body { start, end, .. } = response.body;
        response.body.end = end.saturating_sub(*by).max(start);
        response.headers.retain(|(name, _)| name != "content-length");
    }
    let body = response.body.as_slice();
    let now = UNIX_EPOCH + Duration::from_secs(access::now(&shared.options).unsigned_abs());
    let mut head =
        format!("HTTP/1.1 {} X\r\nDate: {}\r\n", response.status, httpdate::fmt_http_date(now)).into_bytes();
    head.extend_from_slice(b"x-amz-request-id: TESTREQUESTID\r\n");
    let chunked = shared.options.chunked && request.method != "HEAD";
    for (name, value) in response.headers.iter().filter(|(name, _)| !chunked || name != "content-length") {
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value);
        head.extend_from_slice(b"\r\n");
    }
    let bodiless = request.method == "HEAD" || matches!(response.status, 204 | 304);
    if shared.options.chunked && !bodiless {
        return write_chunks(stream, head, body, inside);
    }
    if !response.headers.iter().any(|(name, _)| name == "content-length")
        && !matches!(response.status, 204 | 304)
    {
        head.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    if bodiless {
        drop(inside);
        stream.write_all(&head)?;
        return Ok(true);
    }
    let sent = match action {
        Some(Action::ResetBody(n) | Action::Truncate(n)) => &body[..body.len().min(*n)],
        _ => body,
    };
    Shared::lock(&shared.counters).sent_bytes += sent.len() as u64;
    if let Some(Action::Slow(piece, pause)) = action {
        stream.write_all(&head)?;
        for piece in sent.chunks(*piece) {
            stream.write_all(piece)?;
            std::thread::sleep(*pause);
        }
        return Ok(true);
    }
    if sent.len() < 64 << 10 {
        head.extend_from_slice(sent);
        drop(inside);
        stream.write_all(&head)?;
    } else {
        let (most, last) = sent.split_at(sent.len() - 1);
        stream.write_all(&head)?;
        stream.write_all(most)?;
        drop(inside);
        stream.write_all(last)?;
    }
    match action {
        Some(Action::ResetBody(_)) => {
            // What was written must leave before the reset discards it.
            std::thread::sleep(Duration::from_millis(20));
            reset(stream)
        }
        Some(Action::Truncate(_)) => Ok(false),
        _ => Ok(true),
    }
}
