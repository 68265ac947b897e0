//! Listening, and the connections there are.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::body::{Body, Input};
use super::connection;
use super::message::{Request, Response};
use super::pace::{Paced, Wire};
use crate::base::{Cancel, sys};

/// How long the wish to end may go unseen.
const GLANCE: Duration = Duration::from_millis(200);
/// The stack of a connection's thread in bytes.
const STACK: usize = 1 << 20;

/// Decides what a request means.
pub type Handler = Box<dyn Fn(&Request, &mut Body<'_>) -> Response + Send + Sync>;

/// Takes note of a request that was answered.
pub type Log = Box<dyn Fn(&Access<'_>) + Send + Sync>;

/// A request that was answered.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// Who asked.
    pub peer: SocketAddr,
    /// The method; `-` where the request was not understood.
    pub method: &'a str,
    /// The path and the query, as they came.
    pub target: &'a str,
    /// The status of the response.
    pub status: u16,
    /// The length of the request's body in bytes, where it was told.
    pub received: u64,
    /// The bytes of the response's body that were sent.
    pub sent: u64,
    /// From the end of the request's head to the end of the response.
    pub duration: Duration,
}

/// Limits.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The most connections at a time.
    pub connections: usize,
    /// How long the head of a request may take.
    pub head_time: Duration,
    /// How long a connection may be idle between two requests.
    pub idle_time: Duration,
    /// How long a body or an answer may stand still, in all.
    pub stall_time: Duration,
    /// Bytes of a body or an answer that allow for another second.
    pub least_rate: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections: 128,
            head_time: Duration::from_secs(20),
            idle_time: Duration::from_mins(2),
            stall_time: Duration::from_secs(45),
            least_rate: 1024,
        }
    }
}

/// What connections share.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) handler: Handler,
    pub(super) log: Log,
    tls: Option<Arc<ServerConfig>>,
    stopping: AtomicBool,
    connections: Mutex<Connections>,
    /// Told when a connection ends.
    ended: Condvar,
}

#[derive(Default)]
struct Connections {
    next: u64,
    open: HashMap<u64, Open>,
}

struct Open {
    socket: Arc<TcpStream>,
    /// Since when nothing is being done for it; `None` while a request is served.
    idle: Option<Instant>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}

/// A connection's place among the others; given back when dropped.
pub(super) struct Place<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Place<'_> {
    /// Says that a request has begun to arrive; returns whether it is to be served.
    pub(super) fn begin(&self) -> bool {
        self.set(None)
    }

    /// Says that a response was sent; returns whether another request may follow.
    pub(super) fn rest(&self) -> bool {
        self.set(Some(Instant::now()))
    }

    fn set(&self, idle: Option<Instant>) -> bool {
        let mut connections = self.shared.lock();
        if self.shared.is_stopping() {
            return false;
        }
        match connections.open.get_mut(&self.number) {
            Some(open) => {
                open.idle = idle;
                true
            }
            // Its place was given to another.
            None => false,
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.shared.lock().open.remove(&self.number);
        self.shared.ended.notify_all();
    }
}

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl Server {
    /// Makes a server of a socket that listens; with `tls` it speaks nothing else.
    pub fn new(
        listener: TcpListener,
        settings: Settings,
        tls: Option<Arc<ServerConfig>>,
        handler: Handler,
        log: Log,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let shared = Shared {
            settings,
            handler,
            log,
            tls,
            stopping: AtomicBool::new(false),
            connections: Mutex::default(),
            ended: Condvar::new(),
        };
        Ok(Self { listener, shared: Arc::new(shared) })
    }

    /// Serves until everything is to end, and then on until what was begun is done: no request is broken off that was
    /// being served. Fails when the socket does.
    pub fn run(&self, cancel: &Cancel) -> io::Result<()> {
        let result = self.accept(cancel);
        self.stop();
        result
    }

    fn accept(&self, cancel: &Cancel) -> io::Result<()> {
        while !cancel.is_cancelled() {
            if !sys::wait_for_visitor(&self.listener, GLANCE)? {
                continue;
            }
            match self.listener.accept() {
                Ok((socket, peer)) => self.welcome(socket, peer),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock
                    | io::ErrorKind::Interrupted
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::ConnectionReset => {}
                    // No descriptors, no memory: what is open now will end.
                    _ => std::thread::sleep(Duration::from_millis(100)),
                },
            }
        }
        Ok(())
    }

    fn welcome(&self, socket: TcpStream, peer: SocketAddr) {
        // A socket that refuses these is of no use.
        if socket.set_nonblocking(false).is_err() || socket.set_nodelay(true).is_err() {
            return;
        }
        let socket = Arc::new(socket);
        let Some(number) = self.admit(&socket) else {
            return self.turn_away(&socket);
        };
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("web".into()).stack_size(STACK);
        let spawned = thread.spawn(move || {
            let place = Place { shared: &shared, number };
            let paced = Paced::new(socket);
            let wire = match &shared.tls {
                None => Wire::Plain(paced),
                Some(config) => match ServerConnection::new(Arc::clone(config)) {
                    Ok(connection) => Wire::Tls(Box::new(StreamOwned::new(connection, paced))),
                    Err(_) => return,
                },
            };
            connection::serve(Input::new(wire), peer, &shared, &place);
        });
        if spawned.is_err() {
            self.shared.lock().open.remove(&number);
        }
    }

    /// Gives a connection a place, that of the one that has been idle the longest if need be.
    fn admit(&self, socket: &Arc<TcpStream>) -> Option<u64> {
        let mut connections = self.shared.lock();
        if connections.open.len() >= self.shared.settings.connections {
            let idle = connections.open.iter().filter_map(|(number, open)| Some((open.idle?, *number)));
            let (_, longest) = idle.min()?;
            let open = connections.open.remove(&longest)?;
            let _ = open.socket.shutdown(Shutdown::Both);
        }
        let number = connections.next;
        connections.next += 1;
        // Until its first request has arrived it is as idle as any.
        connections.open.insert(number, Open { socket: Arc::clone(socket), idle: Some(Instant::now()) });
        Some(number)
    }

    fn turn_away(&self, mut socket: &TcpStream) {
        if self.shared.tls.is_none() && socket.set_nonblocking(true).is_ok() {
            let _ = socket.write(
                b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            );
        }
        let _ = socket.shutdown(Shutdown::Write);
    }

    fn stop(&self) {
        let mut connections = self.shared.lock();
        self.shared.stopping.store(true, Ordering::SeqCst);
        for open in connections.open.values().filter(|open| open.idle.is_some()) {
            let _ = open.socket.shutdown(Shutdown::Both);
        }
        while !connections.open.is_empty() {
            connections = self.shared.ended.wait(connections).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
