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

    fn timed(
        &mut self,
        set: fn(&TcpStream, Option<Duration>) -> io::Result<()>,
        run: impl FnOnce(&TcpStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let late = || io::Error::from(io::ErrorKind::TimedOut);
        let left = self.phase.left().ok_or_else(late)?;
        set(&self.socket, Some(left))?;
        let begun = Instant::now();
        let result = run(&self.socket);
        self.phase.spent += begun.elapsed();
        match result {
            Ok(count) => {
                self.phase.moved += count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(late()),
            Err(error) => Err(error),
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
}
