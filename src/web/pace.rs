//! A connection under time limits, with TLS or without.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ServerConnection, StreamOwned};

/// What is being waited for, and for how long that may take.
#[derive(Clone, Copy, Debug)]
struct Phase {
    /// The time to begin with.
    allowed: Duration,
    /// Bytes that earn another second; `None` where nothing does.
    rate: Option<u64>,
    spent: Duration,
    moved: u64,
}

impl Phase {
    fn left(&self) -> Option<Duration> {
        let earned = self.rate.map_or(Duration::ZERO, |rate| Duration::from_secs(self.moved / rate.max(1)));
        self.allowed.saturating_add(earned).checked_sub(self.spent).filter(|left| !left.is_zero())
    }
}

/// A TCP connection on which every phase has its time. Only waiting counts, not what happens between two calls.
#[derive(Debug)]
pub(super) struct Paced {
    socket: Arc<TcpStream>,
    phase: Phase,
}

impl Paced {
    pub(super) fn new(socket: Arc<TcpStream>) -> Self {
        Self { socket, phase: Phase { allowed: Duration::ZERO, rate: None, spent: Duration::ZERO, moved: 0 } }
    }

    /// Runs a call that waits, again where a signal broke it off: a process that was stopped and goes on finds every
    /// wait under a time limit ended that way, which says nothing of the client.
    fn timed(
        &mut self,
        set: fn(&TcpStream, Option<Duration>) -> io::Result<()>,
        mut run: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let late = || io::Error::from(io::ErrorKind::TimedOut);
        loop {
            let left = self.phase.left().ok_or_else(late)?;
            set(&self.socket, Some(left))?;
            let begun = Instant::now();
            let result = run(&self.socket);
            let waited = begun.elapsed();
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    // A wait never takes longer than it may, so beyond that the process stood still. How long it had
                    // waited before is not known: no less than half of the time is left.
                    self.phase.spent += waited.min(left.saturating_sub(left / 2));
                    continue;
                }
                Ok(count) => self.phase.moved += count as u64,
                Err(_) => {}
            }
            self.phase.spent += waited;
            return result.map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => late(),
                _ => error,
            });
        }
    }
}

impl Read for Paced {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.timed(TcpStream::set_read_timeout, |mut socket| socket.read(buffer))
    }
}

impl Write for Paced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.timed(TcpStream::set_write_timeout, |mut socket| socket.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What requests come from and responses go to.
#[derive(Debug)]
pub(super) enum Wire {
    Plain(Paced),
    Tls(Box<StreamOwned<ServerConnection, Paced>>),
}

impl Wire {
    fn paced(&mut self) -> &mut Paced {
        match self {
            Self::Plain(paced) => paced,
            Self::Tls(stream) => &mut stream.sock,
        }
    }

    /// Begins a phase that has a fixed time.
    pub(super) fn within(&mut self, allowed: Duration) {
        self.paced().phase = Phase { allowed, rate: None, spent: Duration::ZERO, moved: 0 };
    }

    /// Begins a phase that may last while bytes move: `allowed`, and a second more for each `rate` bytes.
    pub(super) fn flowing(&mut self, allowed: Duration, rate: u64) {
        self.paced().phase = Phase { allowed, rate: Some(rate), spent: Duration::ZERO, moved: 0 };
    }

    /// Says that nothing more will be sent.
    pub(super) fn end(&mut self) {
        if let Self::Tls(stream) = self {
            stream.conn.send_close_notify();
        }
        let _ = self.flush();
        let _ = self.paced().socket.shutdown(std::net::Shutdown::Write);
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(paced) => paced.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(paced) => paced.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(paced) => paced.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn bytes_earn_time_only_at_a_rate() {
        let mut phase =
            Phase { allowed: Duration::from_secs(2), rate: Some(100), spent: Duration::ZERO, moved: 0 };
        assert_eq!(phase.left(), Some(Duration::from_secs(2)));
        phase.spent = Duration::from_secs(2);
        assert_eq!(phase.left(), None);
        phase.moved = 250;
        assert_eq!(phase.left(), Some(Duration::from_secs(2)));
        assert_eq!(Phase { rate: None, ..phase }.left(), None);
    }

    /// A connection that has so much time, and its other end.
    fn pair(allowed: Duration) -> (Paced, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut paced = Paced::new(Arc::new(listener.accept().unwrap().0));
        paced.phase.allowed = allowed;
        (paced, client)
    }

    #[test]
    fn what_a_signal_breaks_off_goes_on() {
        let (mut paced, mut client) = pair(Duration::from_mins(1));
        client.write_all(b"hello").unwrap();
        let (mut calls, mut buffer) = (0, [0; 8]);
        let count = paced.timed(TcpStream::set_read_timeout, |mut socket| {
            calls += 1;
            if calls < 3 { Err(io::ErrorKind::Interrupted.into()) } else { socket.read(&mut buffer) }
        });
        assert_eq!((count.unwrap(), &buffer[..5], calls, paced.phase.moved), (5, &b"hello"[..], 3, 5));
    }

    #[test]
    fn standing_still_does_not_use_up_the_time() {
        let allowed = Duration::from_millis(50);
        let (mut paced, _client) = pair(allowed);
        let mut calls = 0;
        let count = paced.timed(TcpStream::set_read_timeout, |_| {
            calls += 1;
            if calls > 1 {
                return Ok(7);
            }
            std::thread::sleep(allowed * 2);
            Err(io::ErrorKind::Interrupted.into())
        });
        assert_eq!((count.unwrap(), calls), (7, 2));
        // What was waited counts all the same: there is an end.
        let (mut paced, _client) = pair(allowed);
        let ended = paced.timed(TcpStream::set_read_timeout, |_| {
            std::thread::sleep(Duration::from_millis(1));
            Err(io::ErrorKind::Interrupted.into())
        });
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
