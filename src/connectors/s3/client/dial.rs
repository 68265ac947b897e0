//! How connections come about: names are resolved and addresses dialled so that either ends at once when everything
//! is to end. A host that swallows packets would otherwise hold a thread until its time limit.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use rustix::event::{PollFd, PollFlags, Timespec, poll};
#[cfg(target_os = "linux")]
use rustix::io::Errno;
#[cfg(target_os = "linux")]
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, ipproto, socket_with, sockopt};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, ShutdownHandle, Transport,
};
use ureq::{Error, Timeout};

use super::super::location::is_localhost;
use crate::base::Cancel;

/// How often a thread that waits looks whether everything is to end.
const LOOK: Duration = Duration::from_millis(50);
/// How long may be waited where no limit was set.
const PATIENCE: Duration = Duration::from_mins(2);
/// The addresses of one name that are tried.
const ADDRESSES: usize = 16;

fn cancelled() -> Error {
    Error::Io(io::Error::other("cancelled"))
}

/// Returns when a step has to be done.
fn deadline(timeout: NextTimeout) -> Instant {
    Instant::now() + timeout.not_zero().map_or(PATIENCE, |limit| (*limit).min(PATIENCE))
}

/// Resolves `localhost` and every name below it to the loopback address, as RFC 6761 (6.3) asks, so that
/// virtual-host style works with a server on this machine; asks the system for all else.
#[derive(Debug)]
pub(super) struct Names {
    cancel: Cancel,
}

impl Names {
    pub(super) fn new(cancel: Cancel) -> Self {
        Self { cancel }
    }

    /// Asks the system, on a thread of its own, since the answer may never come.
    fn ask(&self, host: &str, port: u16, timeout: NextTimeout) -> Result<Vec<SocketAddr>, Error> {
        let (answered, answer) = sync_channel(1);
        let (host, until) = (host.to_owned(), deadline(timeout));
        let ask = move || {
            // Whoever asked may be gone.
            let _ = answered.send((host.as_str(), port).to_socket_addrs().map(Vec::from_iter));
        };
        std::thread::Builder::new().name("resolve".into()).spawn(ask).map_err(Error::Io)?;
        loop {
            match answer.recv_timeout(LOOK) {
                Ok(addresses) => return addresses.map_err(Error::Io),
                Err(RecvTimeoutError::Disconnected) => return Err(Error::HostNotFound),
                Err(RecvTimeoutError::Timeout) if self.cancel.is_cancelled() => return Err(cancelled()),
                Err(RecvTimeoutError::Timeout) if Instant::now() >= until => {
                    return Err(Error::Timeout(timeout.reason));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let default_port = if uri.scheme_str() == Some("http") { 80 } else { 443 };
        let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(default_port));
        let plain = host.trim_start_matches('[').trim_end_matches(']');
        let addresses = match plain.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) if host.ends_with(".localhost") && is_localhost(host) => {
                vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)]
            }
            Err(_) => self.ask(plain, port, timeout)?,
        };
        let mut resolved = self.empty();
        addresses.into_iter().take(ADDRESSES).for_each(|address| resolved.push(address));
        if resolved.is_empty() { Err(Error::HostNotFound) } else { Ok(resolved) }
    }
}

/// Opens connections, unless one was opened by way of a proxy.
#[derive(Debug)]
pub(super) struct Dial {
    cancel: Cancel,
}

impl Dial {
    pub(super) fn new(cancel: Cancel) -> Self {
        Self { cancel }
    }

    /// Tries one address after the other; each but the last gets half of the time that is left.
    fn any(&self, addresses: &[SocketAddr], timeout: NextTimeout) -> Result<TcpStream, Error> {
        let until = deadline(timeout);
        let mut failed = Error::ConnectionFailed;
        for (at, address) in addresses.iter().enumerate() {
            let left = until.saturating_duration_since(Instant::now());
            let share = if at + 1 == addresses.len() { left } else { left / 2 };
            match self.one(*address, Instant::now() + share) {
                Ok(stream) => return Ok(stream),
                Err(_) if self.cancel.is_cancelled() => return Err(cancelled()),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    failed = Error::Timeout(Timeout::Connect);
                }
                Err(error) => failed = Error::Io(error),
            }
        }
        Err(failed)
    }

    /// Dials one address. Here a signal is noticed between two addresses only.
    #[cfg(not(target_os = "linux"))]
    fn one(&self, address: SocketAddr, until: Instant) -> io::Result<TcpStream> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        TcpStream::connect_timeout(&address, left)
    }

    #[cfg(target_os = "linux")]
    fn one(&self, address: SocketAddr, until: Instant) -> io::Result<TcpStream> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        match connect(&socket, &address) {
            Ok(()) => {}
            Err(Errno::INPROGRESS | Errno::INTR) => {
                self.until_writable(&socket, until)?;
                sockopt::socket_error(&socket)??;
            }
            Err(error) => return Err(error.into()),
        }
        let stream = TcpStream::from(socket);
        stream.set_nonblocking(false)?;
        Ok(stream)
    }

    #[cfg(target_os = "linux")]
    fn until_writable(&self, socket: &impl std::os::fd::AsFd, until: Instant) -> io::Result<()> {
        loop {
            if self.cancel.is_cancelled() {
                return Err(io::Error::other("cancelled"));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let step = Timespec::try_from(left.min(LOOK)).map_err(io::Error::other)?;
            match poll(&mut [PollFd::new(socket, PollFlags::OUT)], Some(&step)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl<In: Transport> Connector<In> for Dial {
    type Out = Either<In, Wire>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        if chained.is_some() {
            return Ok(chained.map(Either::A));
        }
        let stream = Arc::new(self.any(&details.addrs, details.timeout)?);
        if details.config.no_delay() {
            stream.set_nodelay(true)?;
        }
        let handle: Arc<dyn ShutdownHandle> = Arc::<TcpStream>::clone(&stream);
        (details.register_shutdown)(Arc::downgrade(&handle))?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Either::B(Wire { stream, buffers, read_limit: None, write_limit: None })))
    }
}

/// A connection.
pub(super) struct Wire {
    stream: Arc<TcpStream>,
    buffers: LazyBuffers,
    /// The limits that the socket knows.
    read_limit: Option<Duration>,
    write_limit: Option<Duration>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("peer", &self.stream.peer_addr().ok()).finish_non_exhaustive()
    }
}

/// A limit of a socket comes back as either of two kinds.
fn timed_out(error: io::Error, timeout: NextTimeout) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => Error::Io(error),
    }
}

impl Transport for Wire {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = timeout.for_write();
        let limit = timeout.not_zero().map(|limit| *limit);
        if limit != self.write_limit {
            self.stream.set_write_timeout(limit)?;
            self.write_limit = limit;
        }
        let mut stream = &*self.stream;
        stream.write_all(&self.buffers.output()[..amount]).map_err(|error| timed_out(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        let limit = timeout.not_zero().map(|limit| *limit);
        if limit != self.read_limit {
            self.stream.set_read_timeout(limit)?;
            self.read_limit = limit;
        }
        let mut stream = &*self.stream;
        let room = self.buffers.input_append_buf();
        let amount = loop {
            match stream.read(room) {
                Ok(amount) => break amount,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(timed_out(error, timeout)),
            }
        };
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    /// An idle connection has nothing to say: bytes nobody asked for, or an end, make it useless.
    fn is_open(&mut self) -> bool {
        let quiet = |stream: &TcpStream| {
            stream.set_nonblocking(true)?;
            let peeked = stream.peek(&mut [0]);
            stream.set_nonblocking(false)?;
            io::Result::Ok(peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock))
        };
        quiet(&self.stream).unwrap_or(false)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // Other handles may live a moment longer; the connection does not.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A listener that accepts nothing, with its queue full: whoever dials it waits for an answer that never comes.
    fn deaf() -> (TcpListener, Vec<TcpStream>) {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
        rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
            queued.push(stream);
        }
        (listener, queued)
    }

    #[test]
    fn dialling_ends_when_everything_is_to_end() {
        let (listener, _queued) = deaf();
        let address = listener.local_addr().unwrap();
        let cancel = Cancel::new();
        let dial = Dial::new(cancel.clone());
        std::thread::scope(|scope| {
            // Ends only because it is told to: the limit is further away than any test is let run.
            let dialling = scope.spawn(|| dial.one(address, Instant::now() + Duration::from_hours(1)));
            cancel.cancel();
            assert_eq!(dialling.join().unwrap().unwrap_err().to_string(), "cancelled");
        });
    }

    #[test]
    fn dialling_ends_with_its_time_and_goes_on_with_the_next_address() {
        let (listener, _queued) = deaf();
        let deaf = listener.local_addr().unwrap();
        let dial = Dial::new(Cancel::new());
        let within = |time| Instant::now() + time;
        assert_eq!(
            dial.one(deaf, within(Duration::from_millis(120))).unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
        let open = TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(
            dial.one(closed, within(Duration::from_hours(1))).unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
        let stream = dial.any(&[closed, open.local_addr().unwrap()], NextTimeout::default()).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open.local_addr().unwrap());
    }
}
