//! Connections that somebody else can end, and that come about unless everything is to end.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::options::Options;
use crate::base::Cancel;
use crate::connector::{Error, ErrorKind, Result};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(30);
/// How long a server may say nothing.
pub(super) const PATIENCE: Duration = Duration::from_mins(2);
/// How often who waits for a connection looks whether everything is to end.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// Sockets of a session, so that somebody else can end its waiting.
#[derive(Debug)]
pub(super) struct Sockets {
    control: Mutex<TcpStream>,
    data: Mutex<Option<TcpStream>>,
}

impl Sockets {
    pub(super) fn new(control: TcpStream) -> Self {
        Self { control: Mutex::new(control), data: Mutex::default() }
    }

    /// Returns the control connection.
    pub(super) fn control(&self) -> MutexGuard<'_, TcpStream> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn data(&self) -> MutexGuard<'_, Option<TcpStream>> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a stream for the control connection.
    pub(super) fn adopt(&self, control: &TcpStream) -> io::Result<()> {
        *self.control() = control.try_clone()?;
        Ok(())
    }

    /// Notes the connection of a transfer.
    pub(super) fn transfer_over(&self, data: &TcpStream) {
        *self.data() = data.try_clone().ok();
    }

    /// Forgets the connection of a transfer, so that it closes when its stream does.
    pub(super) fn forget_data(&self) {
        self.data().take();
    }

    /// Ends the connection of a transfer.
    pub(super) fn end_data(&self) {
        if let Some(data) = &*self.data() {
            // One that is closed already needs no closing.
            let _ = data.shutdown(Shutdown::Both);
        }
    }

    /// Ends both connections: who waits for them learns it at once.
    pub(super) fn cut(&self) {
        // One that is closed already needs no closing.
        let _ = self.control().shutdown(Shutdown::Both);
        self.end_data();
    }
}

/// Connects to the server.
pub(super) fn dial(options: &Options) -> Result<TcpStream> {
    let (host, port) = (options.host.clone(), options.port);
    let any = move || {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in (host.as_str(), port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT).and_then(patient) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    unless(&options.cancel, any).map_err(|error| {
        let kind = if options.cancel.is_cancelled() { ErrorKind::Cancelled } else { ErrorKind::Transport };
        Error::new(kind, "connect to", options.server()).detail(error.to_string()).because(error)
    })
}

/// Connects for a transfer.
pub(super) fn open_data(address: SocketAddr, cancel: &Cancel) -> io::Result<TcpStream> {
    unless(cancel, move || patient(TcpStream::connect_timeout(&address, CONNECT)?))
}

/// Waits for a connection unless everything is to end: names are resolved and addresses dialled on a thread of their
/// own, which nobody waits for then.
fn unless(
    cancel: &Cancel,
    connect: impl FnOnce() -> io::Result<TcpStream> + Send + 'static,
) -> io::Result<TcpStream> {
    let (done, connected) = sync_channel(1);
    let run = move || {
        // Whoever asked may be gone.
        let _ = done.send(connect());
    };
    std::thread::Builder::new().name("dial".into()).stack_size(1 << 20).spawn(run)?;
    loop {
        match connected.recv_timeout(LOOK) {
            Ok(connected) => return connected,
            Err(RecvTimeoutError::Timeout) if !cancel.is_cancelled() => {}
            Err(_) => return Err(io::Error::other("it was not waited for")),
        }
    }
}

fn patient(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_does_not_answer_is_not_waited_for_when_everything_is_to_end() {
        let cancel = Cancel::new();
        let (_keep, never) = sync_channel::<()>(0);
        cancel.cancel();
        let hangs = move || {
            let _ = never.recv();
            Err(io::ErrorKind::TimedOut.into())
        };
        assert!(unless(&cancel, hangs).is_err());
    }
}
