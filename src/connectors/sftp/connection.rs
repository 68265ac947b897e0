//! One connection: many requests under way, each with a thread that waits for its answer.
//!
//! Requests are written by whoever makes them; one thread reads answers and hands them out by number. When the stream
//! ends or makes no sense, everybody who waits is told so at once, with what `ssh` said as the cause.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::wire::{self, Extensions, Packet, Reply};
use crate::base::{Cancel, Printable};
use crate::connector::{Error, ErrorKind, Result};

/// How often who waits looks up.
const LOOK: Duration = Duration::from_millis(200);
/// How long a server may say nothing at all while it is asked something. Synchronising a large file takes its time.
const SILENCE: Duration = Duration::from_mins(5);

/// Why a connection ended.
#[derive(Clone, Debug)]
pub(super) struct Death {
    /// The kind that everybody's error gets.
    pub(super) kind: ErrorKind,
    /// What happened, in words.
    pub(super) detail: String,
}

impl Death {
    pub(super) fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

/// What carries a connection: a process, or a pipe of a test.
pub(super) trait Carrier: fmt::Debug + Send + Sync {
    /// Ends it, so that nobody waits for it any more.
    fn end(&self);

    /// Says why it ended, once it did.
    fn why(&self) -> Death;
}

#[derive(Debug, Default)]
struct Waiting {
    by_number: HashMap<u32, Sender<Reply>>,
    death: Option<Death>,
}

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    heard: Mutex<Instant>,
    carrier: Box<dyn Carrier>,
    cancel: Cancel,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn silence(&self) -> Duration {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Ends the connection for everybody. The first reason counts.
    fn die(&self, death: Death) {
        let mut waiting = self.waiting();
        waiting.death.get_or_insert(death);
        waiting.by_number.clear();
        drop(waiting);
        self.carrier.end();
    }

    fn error(&self, op: &'static str, target: String) -> Error {
        if self.cancel.is_cancelled() {
            return Error::new(ErrorKind::Cancelled, op, target);
        }
        let death = self.waiting().death.clone();
        let death = death.unwrap_or_else(|| Death::new(ErrorKind::Transport, "the connection ended"));
        Error::new(death.kind, op, target).detail(death.detail)
    }
}

/// One connection to a server.
#[derive(Debug)]
pub(super) struct Connection {
    shared: Arc<Shared>,
    writer: Mutex<Writer>,
    next: AtomicU32,
    under_way: Arc<AtomicUsize>,
    extensions: Extensions,
    limits: Limits,
}

struct Writer(Box<dyn Write + Send>);

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writer")
    }
}

/// How long parts of files may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Limits {
    /// The most bytes asked for at once.
    pub(super) read: usize,
    /// The most bytes sent at once.
    pub(super) write: usize,
}

impl Default for Limits {
    /// What every server must be able to do.
    fn default() -> Self {
        Self { read: 32 << 10, write: 32 << 10 }
    }
}

/// An answer to come.
#[derive(Debug)]
pub(super) struct Ticket {
    answer: Receiver<Reply>,
    shared: Arc<Shared>,
    under_way: Arc<AtomicUsize>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Ticket {
    /// Waits for the answer; `op` and `target` are for the error where none comes.
    pub(super) fn wait(self, op: &'static str, target: &dyn Fn() -> String) -> Result<Reply> {
        loop {
            match self.answer.recv_timeout(LOOK) {
                Ok(reply) => return Ok(reply),
                Err(RecvTimeoutError::Disconnected) => return Err(self.shared.error(op, target())),
                Err(RecvTimeoutError::Timeout) if self.shared.silence() > SILENCE => {
                    let detail = format!("the server said nothing for {} s", SILENCE.as_secs());
                    self.shared.die(Death::new(ErrorKind::Transport, detail));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl Connection {
    /// Greets the server at the far end of two streams and waits up to `patience` for its answer.
    pub(super) fn open(
        mut reader: impl Read + Send + 'static,
        writer: impl Write + Send + 'static,
        carrier: Box<dyn Carrier>,
        cancel: &Cancel,
        patience: Duration,
    ) -> Result<Self, Death> {
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            heard: Mutex::new(Instant::now()),
            carrier,
            cancel: cancel.clone(),
        });
        let (hello, greeted) = channel();
        let reading = Arc::clone(&shared);
        let read = move || {
            let death = match greeting(&mut reader) {
                Ok(version) => {
                    // Nobody there to hear it: the connection was given up meanwhile.
                    let _ = hello.send(version);
                    listen(&mut reader, &reading)
                }
                Err(death) => death,
            };
            reading.die(death.unwrap_or_else(|| reading.carrier.why()));
            drop(hello);
        };
        let spawned = std::thread::Builder::new().name("sftp".into()).stack_size(256 << 10).spawn(read);
        if let Err(error) = spawned {
            shared.carrier.end();
            return Err(Death::new(ErrorKind::Io, format!("no thread can be started: {error}")));
        }
        let mut writer = Writer(Box::new(writer));
        // A failure shows on the other stream, with its reason.
        let _ = writer.0.write_all(&Packet::hello()).and_then(|()| writer.0.flush());
        let (version, extensions) = Self::greeted(&greeted, &shared, patience)?;
        if version < wire::VERSION {
            shared.carrier.end();
            let detail = format!("the server speaks version {version} of SFTP, and 3 is needed");
            return Err(Death::new(ErrorKind::Unsupported, detail));
        }
        let mut made = Self {
            shared,
            writer: Mutex::new(writer),
            next: AtomicU32::new(1),
            under_way: Arc::default(),
            extensions,
            limits: Limits::default(),
        };
        made.limits = made.ask_limits(patience)?;
        Ok(made)
    }

    /// Waits for something that comes before anybody else can ask for anything, up to `patience`.
    fn greeted<T>(answer: &Receiver<T>, shared: &Shared, patience: Duration) -> Result<T, Death> {
        let begun = Instant::now();
        loop {
            match answer.recv_timeout(LOOK) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Disconnected) => {
                    let death = shared.waiting().death.clone();
                    return Err(death.unwrap_or_else(|| shared.carrier.why()));
                }
                Err(RecvTimeoutError::Timeout) if shared.cancel.is_cancelled() => {
                    shared.carrier.end();
                    return Err(Death::new(ErrorKind::Cancelled, "cancelled"));
                }
                Err(RecvTimeoutError::Timeout) if begun.elapsed() > patience => {
                    shared.carrier.end();
                    let detail = format!("no answer within {} s", patience.as_secs());
                    return Err(Death::new(ErrorKind::Transport, detail));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Asks how long packets may be, where the server tells.
    fn ask_limits(&self, patience: Duration) -> Result<Limits, Death> {
        let mut limits = Limits::default();
        if !self.has("limits@openssh.com") {
            return Ok(limits);
        }
        let target = || "the server's limits".to_owned();
        let asked = self.send(Packet::extended("limits@openssh.com"), "ask for", &target);
        // Where nothing can be asked the connection has ended, and the next request says why.
        let Ok(ticket) = asked else { return Ok(limits) };
        let Reply::Extended(bytes) = Self::greeted(&ticket.answer, &self.shared, patience)? else {
            return Ok(limits);
        };
        let mut fields = wire::Fields(&bytes);
        let mut next = || fields.u64().map(|value| usize::try_from(value).unwrap_or(usize::MAX));
        let (Some(packet), Some(read), Some(write)) = (next(), next(), next()) else {
            return Ok(limits);
        };
        // Room for the fields around the data.
        let most = packet.clamp(wire::SURE_PACKET, wire::MAX_PACKET) - 1024;
        // Zero says that there is no limit besides that of the packet.
        let within = |length: usize| if length == 0 { most } else { length.clamp(512, most) };
        limits.read = within(read);
        limits.write = within(write);
        Ok(limits)
    }

    /// Returns whether the server has an extension.
    pub(super) fn has(&self, extension: &str) -> bool {
        self.extensions.contains_key(extension)
    }

    /// Returns how long parts may be.
    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// Returns how many requests wait for answers.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// Returns whether it ended.
    pub(super) fn is_dead(&self) -> bool {
        self.shared.waiting().death.is_some()
    }

    /// Ends it.
    pub(super) fn end(&self, death: Death) {
        self.shared.die(death);
    }

    /// Sends a request.
    pub(super) fn send(
        &self,
        packet: Packet,
        op: &'static str,
        target: &dyn Fn() -> String,
    ) -> Result<Ticket> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let bytes = packet.seal(id).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, op, target()).detail("the name is too long for a request")
        })?;
        let (sender, answer) = channel();
        {
            let mut waiting = self.shared.waiting();
            if waiting.death.is_some() {
                drop(waiting);
                return Err(self.shared.error(op, target()));
            }
            if waiting.by_number.is_empty() {
                self.shared.hear();
            }
            waiting.by_number.insert(id, sender);
        }
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let ticket =
            Ticket { answer, shared: Arc::clone(&self.shared), under_way: Arc::clone(&self.under_way) };
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.0.write_all(&bytes).and_then(|()| writer.0.flush()).is_err() {
            drop(writer);
            // The reader learns why; where it does not, half a request has gone out and nothing can follow.
            self.shared.carrier.end();
        }
        Ok(ticket)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.carrier.end();
    }
}

/// Reads one packet; `None` at the end of the stream.
fn read_packet(reader: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; 4];
    let mut filled = 0;
    while filled < head.len() {
        match reader.read(&mut head[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let length = wire::length(head).ok_or_else(|| {
        let shown = Printable::new(&head).to_string();
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a packet begins with '{shown}', which is no length"),
        )
    })?;
    let mut packet = vec![0; length];
    reader.read_exact(&mut packet)?;
    Ok(Some(packet))
}

/// Reads the answer to the greeting. `None` as the reason: the carrier knows it.
fn greeting(reader: &mut impl Read) -> Result<(u32, Extensions), Option<Death>> {
    match read_packet(reader) {
        Ok(Some(packet)) => wire::decode_version(&packet).ok_or_else(|| {
            Some(Death::new(ErrorKind::Protocol, "the server's first packet is not a version of SFTP"))
        }),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            // Start-up files of a shell that print something come before the protocol.
            Err(Some(Death::new(
                ErrorKind::Protocol,
                format!(
                    "the server does not speak SFTP: {error}; do start-up files of its shell print something?"
                ),
            )))
        }
        Ok(None) | Err(_) => Err(None),
    }
}

/// Hands out answers until the stream ends. `None` as the reason: the carrier knows it.
fn listen(reader: &mut impl Read, shared: &Shared) -> Option<Death> {
    loop {
        let packet = match read_packet(reader) {
            Ok(Some(packet)) => packet,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Some(Death::new(ErrorKind::Protocol, error.to_string()));
            }
            Ok(None) | Err(_) => return None,
        };
        shared.hear();
        let Some((id, reply)) = Reply::decode(packet) else {
            return Some(Death::new(ErrorKind::Protocol, "the server sent a packet that cannot be read"));
        };
        let Some(asked) = shared.waiting().by_number.remove(&id) else {
            let detail = format!("the server answered a request that was not made, number {id}");
            return Some(Death::new(ErrorKind::Protocol, detail));
        };
        // Who asked may have gone.
        let _ = asked.send(reply);
    }
}
