//! One connection: requests in, responses out, until either side has had enough.

use std::io::{self, Read as _, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use super::body::{Body, Input};
use super::head::{self, Head};
use super::message::{Content, Refusal, Request, Response, reason};
use super::server::{Access, Place, Shared};

/// A body of at most this many bytes that nobody wanted is read, so that the connection lives on.
const DRAIN: u64 = 1 << 20;
/// How long to listen to a client that goes on sending after its answer, so that it gets to read that.
const LINGER: Duration = Duration::from_secs(2);
/// How much of a response is gathered before it is sent, in bytes.
const GATHER: usize = 64 << 10;

/// Serves a connection to its end.
pub(super) fn serve(mut input: Input, peer: SocketAddr, shared: &Shared, place: &Place<'_>) {
    let settings = &shared.settings;
    // The first head has less time than one that may follow at leisure: with TLS, the handshake is part of it.
    input.wire.within(settings.head_time);
    loop {
        if input.ahead().is_empty() {
            match input.more() {
                Ok(true) => {}
                Ok(false) | Err(_) => break,
            }
        }
        if !place.begin() {
            break;
        }
        input.wire.within(settings.head_time);
        let alive = match read_head(&mut input, peer) {
            Ok(Some(head)) => answer(&mut input, head, shared),
            Ok(None) => false,
            Err(refusal) => refuse(&mut input, refusal, peer, shared),
        };
        if !alive || !place.rest() {
            break;
        }
        input.wire.within(settings.idle_time);
    }
    input.wire.within(LINGER);
    input.wire.end();
}

/// Reads a head; `None` at the end of the connection.
fn read_head(input: &mut Input, peer: SocketAddr) -> Result<Option<Head>, Refusal> {
    loop {
        if let Some((head, length)) = head::parse(input.ahead(), peer)? {
            io::BufRead::consume(input, length);
            return Ok(Some(head));
        }
        match input.more() {
            Ok(true) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Err(Refusal { status: 408, text: "the head of the request took too long".into() });
            }
            Ok(false) | Err(_) => return Ok(None),
        }
    }
}

/// Tells why a head was not understood. Where the next one begins is not known then.
fn refuse(input: &mut Input, refusal: Refusal, peer: SocketAddr, shared: &Shared) -> bool {
    let begun = Instant::now();
    input.wire.within(LINGER);
    let how = How { head_only: false, chunks: false, alive: false };
    let sent = respond(input, refusal.clone().into(), how);
    (shared.log)(&Access {
        peer,
        method: "-",
        target: "-",
        status: refusal.status,
        received: 0,
        sent: sent.as_ref().map_or(0, |sent| sent.bytes),
        duration: begun.elapsed(),
    });
    linger(input);
    false
}

/// Answers a request; returns whether the connection lives on.
fn answer(input: &mut Input, head: Head, shared: &Shared) -> bool {
    let begun = Instant::now();
    let settings = &shared.settings;
    let Head { request, framing, expects, keep_alive, modern } = head;
    input.wire.flowing(settings.stall_time, settings.least_rate);
    let mut body = Body::new(input, framing, expects);
    let response = (shared.handler)(&request, &mut body);
    let drained = body.drain(DRAIN);
    let alive = keep_alive && drained && !shared.is_stopping();
    input.wire.flowing(settings.stall_time, settings.least_rate);
    let how = How { head_only: request.is_head(), chunks: modern, alive };
    let status = response.status;
    let sent = respond(input, response, how);
    let (status, bytes) = sent.as_ref().map_or((status, 0), |sent| (sent.status, sent.bytes));
    log(shared, &request, status, bytes, begun);
    match sent {
        Ok(sent) if sent.whole && !drained => linger(input),
        _ => {}
    }
    alive && sent.is_ok_and(|sent| sent.whole && sent.delimited)
}

fn log(shared: &Shared, request: &Request, status: u16, sent: u64, begun: Instant) {
    let target = match request.query.as_str() {
        "" => request.path.clone(),
        query => format!("{}?{query}", request.path),
    };
    (shared.log)(&Access {
        peer: request.peer,
        method: &request.method,
        target: &target,
        status,
        received: request.length.unwrap_or(0),
        sent,
        duration: begun.elapsed(),
    });
}

/// Listens for a moment to a client that is still sending: closing at once would destroy the answer on its way.
fn linger(input: &mut Input) {
    input.wire.within(LINGER);
    input.wire.end();
    let _ = io::copy(&mut input.by_ref().take(64 << 20), &mut io::sink());
}

/// How a response is to be sent.
#[derive(Clone, Copy, Debug)]
struct How {
    head_only: bool,
    /// Whether the client understands chunks.
    chunks: bool,
    alive: bool,
}

/// What became of a response.
#[derive(Clone, Copy, Debug)]
struct Sent {
    status: u16,
    /// Bytes of the body.
    bytes: u64,
    whole: bool,
    /// Whether the client can tell its end without the end of the connection.
    delimited: bool,
}

fn respond(input: &mut Input, response: Response, how: How) -> io::Result<Sent> {
    let status = response.status;
    let (length, write) = match response.content {
        Content::Bytes(bytes) => {
            let mut head = head_of(status, &response.headers, Some(bytes.len() as u64), how);
            let body = if how.head_only { &[][..] } else { &bytes };
            head.extend_from_slice(body);
            input.wire.write_all(&head)?;
            input.wire.flush()?;
            return Ok(Sent { status, bytes: body.len() as u64, whole: true, delimited: true });
        }
        Content::Stream { length, write } => (length, write),
    };
    let head = head_of(status, &response.headers, length, how);
    if how.head_only {
        input.wire.write_all(&head)?;
        input.wire.flush()?;
        return Ok(Sent { status, bytes: 0, whole: true, delimited: true });
    }
    let chunked = length.is_none() && how.chunks;
    let mut out =
        Outgoing { input, head, gathered: Vec::new(), left: length, chunked, sent: 0, begun: false };
    match write(&mut out).and_then(|()| out.finish()) {
        Ok(()) => {
            let delimited = length.is_some() || chunked;
            Ok(Sent { status, bytes: out.sent, whole: true, delimited })
        }
        Err(error) if !out.begun => {
            let refusal = error.downcast::<Refusal>();
            let refusal = refusal
                .unwrap_or_else(|_| Refusal { status: 500, text: "the answer could not be made".into() });
            respond(input, refusal.into(), How { head_only: false, ..how })
        }
        Err(_) => Ok(Sent { status, bytes: out.sent, whole: false, delimited: false }),
    }
}

fn head_of(status: u16, headers: &[(&'static str, String)], length: Option<u64>, how: How) -> Vec<u8> {
    let date = httpdate::fmt_http_date(SystemTime::now());
    let mut head = format!(
        "HTTP/1.1 {status} {}\r\nDate: {date}\r\nServer: plakar/{}\r\n",
        reason(status),
        env!("CARGO_PKG_VERSION")
    );
    let mut add = |name: &str, value: &str| {
        // A line end in a value would be the beginning of another header.
        let value = value.replace(|c: char| c.is_control(), " ");
        head.extend([name, ": ", &value, "\r\n"]);
    };
    for (name, value) in headers {
        add(name, value);
    }
    match length {
        Some(length) => add("Content-Length", &length.to_string()),
        None if how.chunks => add("Transfer-Encoding", "chunked"),
        None => {}
    }
    if !how.alive {
        add("Connection", "close");
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// A body on its way: gathered, counted, and not begun before there is something to send.
struct Outgoing<'a> {
    input: &'a mut Input,
    head: Vec<u8>,
    gathered: Vec<u8>,
    /// What is still to come, where the length was told.
    left: Option<u64>,
    chunked: bool,
    sent: u64,
    begun: bool,
}

impl Outgoing<'_> {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.begun = true;
        let wire = &mut self.input.wire;
        wire.write_all(&std::mem::take(&mut self.head))?;
        if bytes.is_empty() {
            return Ok(());
        }
        if self.chunked {
            wire.write_all(format!("{:x}\r\n", bytes.len()).as_bytes())?;
        }
        wire.write_all(bytes)?;
        if self.chunked {
            wire.write_all(b"\r\n")?;
        }
        self.sent += bytes.len() as u64;
        Ok(())
    }

    fn send_gathered(&mut self) -> io::Result<()> {
        let mut gathered = std::mem::take(&mut self.gathered);
        self.send(&gathered)?;
        gathered.clear();
        self.gathered = gathered;
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        if self.left.is_some_and(|left| left > 0) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.send_gathered()?;
        if self.chunked {
            self.input.wire.write_all(b"0\r\n\r\n")?;
        }
        self.input.wire.flush()
    }
}

impl Write for Outgoing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(bytes.len() as u64).ok_or(io::ErrorKind::InvalidData)?;
        }
        if self.gathered.len() + bytes.len() > GATHER {
            self.send_gathered()?;
        }
        if bytes.len() >= GATHER {
            self.send(bytes)?;
        } else {
            self.gathered.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
