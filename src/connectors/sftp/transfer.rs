//! Contents on their way: many parts under way at once, in both directions.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;

use super::client::Client;
use super::connection::{Connection, Ticket};
use super::operations::{self, Handle};
use super::store::mode_of;
use super::wire::{Attrs, open};
use crate::base::{Cancel, Printable};
use crate::connector::{Body, Error, ErrorKind, Result};
use crate::connectors::tree::{Standing, Steps};

/// How many bytes of one file are under way at most.
const WINDOW: usize = 2 << 20;
/// The fewest parts under way.
const FEWEST: usize = 4;
/// Below this many free bytes a write that failed for no stated reason failed for want of space.
const SCARCE: u64 = 1 << 20;

fn depth(part: usize) -> usize {
    (WINDOW / part.max(1)).max(FEWEST)
}

/// An opened file, closed when it is dropped.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) connection: Arc<Connection>,
    pub(super) handle: Handle,
    pub(super) path: Vec<u8>,
}

impl Opened {
    /// Opens a file to read it.
    pub(super) fn read(connection: &Arc<Connection>, path: &[u8]) -> Result<Self> {
        let handle = connection.open_file(path, open::READ, &Attrs::default())?;
        Ok(Self { connection: Arc::clone(connection), handle, path: path.to_vec() })
    }

    /// Asks for its attributes.
    pub(super) fn attrs(&self) -> Result<Attrs> {
        self.connection.fstat(&self.handle, &self.path)
    }

    fn shown(&self) -> String {
        Printable::new(&self.path).to_string()
    }

    /// Reads exactly `length` bytes from `offset` on. Fails with `Changed` when the file ends before.
    pub(super) fn read_range(self: &Arc<Self>, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(length);
        let mut parts = Parts::new(Arc::clone(self), offset, Some(offset + length as u64));
        while out.len() < length {
            let Some((packet, from)) = parts.next()? else {
                return Err(Error::new(ErrorKind::Changed, "read", self.shown())
                    .detail("it is shorter than the server said before"));
            };
            out.extend_from_slice(&packet[from..]);
        }
        Ok(out)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.connection.let_go(&self.handle);
    }
}

/// The parts of a file, in order, asked for ahead.
#[derive(Debug)]
pub(super) struct Parts {
    file: Arc<Opened>,
    asked: VecDeque<(u64, usize, Ticket)>,
    /// Where the next question begins.
    next: u64,
    /// Up to where it is worth asking ahead.
    end: u64,
    /// Whether what lies behind the end is asked for, too, part by part.
    beyond: bool,
}

impl Parts {
    /// Begins at an offset. Without an end everything up to the real end of the file comes; `end` then tells up to
    /// where it is worth asking ahead.
    pub(super) fn new(file: Arc<Opened>, offset: u64, end: Option<u64>) -> Self {
        Self { file, asked: VecDeque::new(), next: offset, end: end.unwrap_or(offset), beyond: end.is_none() }
    }

    /// Everything from an offset to the real end of a file that is expected to be `size` bytes long.
    pub(super) fn to_the_end(file: Arc<Opened>, offset: u64, size: u64) -> Self {
        Self { end: size.max(offset), ..Self::new(file, offset, None) }
    }

    fn ask(&self, offset: u64, length: usize) -> Result<(u64, usize, Ticket)> {
        let ticket = self.file.connection.ask_data(&self.file.handle, &self.file.path, offset, length)?;
        Ok((offset, length, ticket))
    }

    /// Returns the next bytes: a packet and where in it they begin. `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(Vec<u8>, usize)>> {
        let part = self.file.connection.limits().read;
        while self.asked.len() < depth(part) && self.next < self.end {
            let length = usize::try_from(self.end - self.next).unwrap_or(usize::MAX).min(part);
            self.asked.push_back(self.ask(self.next, length)?);
            self.next += length as u64;
        }
        if self.asked.is_empty() {
            if !self.beyond {
                return Ok(None);
            }
            self.asked.push_back(self.ask(self.next, part)?);
            self.next += part as u64;
            self.end = self.next;
        }
        let Some((offset, length, ticket)) = self.asked.pop_front() else { return Ok(None) };
        let Some((packet, from)) = operations::data(ticket, length, &|| self.file.shown())? else {
            // The end comes earlier than expected: nothing that was asked for behind it is of use.
            self.asked.clear();
            self.beyond = false;
            self.end = 0;
            return Ok(None);
        };
        let got = packet.len() - from;
        if got < length {
            // Servers may send less than they were asked for; what follows is asked for anew.
            let rest = self.ask(offset + got as u64, length - got)?;
            self.asked.push_front(rest);
        }
        Ok(Some((packet, from)))
    }
}

/// A file in the making under a temporary name, removed unless it gets its own.
#[derive(Debug)]
pub(super) struct Upload {
    cancel: Cancel,
    connection: Arc<Connection>,
    handle: Option<Handle>,
    path: Vec<u8>,
    offset: u64,
    sent: VecDeque<Ticket>,
    kept: bool,
}

impl Upload {
    /// Creates a file that must not be there yet.
    pub(super) fn create(
        cancel: &Cancel,
        connection: &Arc<Connection>,
        path: Vec<u8>,
        mode: u32,
    ) -> Result<Self> {
        let flags = open::WRITE | open::CREATE | open::EXCLUSIVE;
        let opened = connection.open_file(&path, flags, &Attrs::permissions(mode));
        let handle = opened.map_err(|error| explain(connection, &path, error))?;
        Ok(Self {
            cancel: cancel.clone(),
            connection: Arc::clone(connection),
            handle: Some(handle),
            path,
            offset: 0,
            sent: VecDeque::new(),
            kept: false,
        })
    }

    fn shown(&self) -> String {
        Printable::new(&self.path).to_string()
    }

    fn handle(&self) -> Result<&Handle> {
        self.handle.as_ref().ok_or_else(|| Error::new(ErrorKind::Io, "write", self.shown()))
    }

    /// Returns what the server tells of the file so far.
    pub(super) fn attrs(&self) -> Result<Attrs> {
        self.connection.fstat(self.handle()?, &self.path)
    }

    /// Sends bytes that follow those sent before.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let part = self.connection.limits().write;
        for piece in bytes.chunks(part) {
            if self.cancel.is_cancelled() {
                return Err(Error::new(ErrorKind::Cancelled, "write", self.shown()));
            }
            while self.sent.len() >= depth(part) {
                self.settle_one()?;
            }
            let ticket = self.connection.send_data(self.handle()?, &self.path, self.offset, piece)?;
            self.sent.push_back(ticket);
            self.offset += piece.len() as u64;
        }
        Ok(())
    }

    /// Leaves bytes out that are zero; [`settle`](Self::settle) gives the file its length.
    pub(super) fn skip(&mut self, length: u64) {
        self.offset += length;
    }

    fn settle_one(&mut self) -> Result<()> {
        let Some(ticket) = self.sent.pop_front() else { return Ok(()) };
        let written = operations::done(ticket, "write", &|| self.shown());
        written.map_err(|error| explain(&self.connection, &self.path, error))
    }

    /// Waits until everything that was sent was written.
    pub(super) fn settle(&mut self) -> Result<()> {
        while !self.sent.is_empty() {
            self.settle_one()?;
        }
        Ok(())
    }

    /// Sets attributes.
    pub(super) fn set(&self, attrs: &Attrs) -> Result<()> {
        self.connection.set_open(self.handle()?, &self.path, attrs)
    }

    /// Returns how many bytes were written or left out.
    pub(super) fn length(&self) -> u64 {
        self.offset
    }

    /// Waits until everything is written and, where that is asked for and possible, on the server's disk; closes the
    /// file.
    pub(super) fn close(&mut self, durable: bool) -> Result<()> {
        self.settle()?;
        let Some(handle) = self.handle.take() else { return Ok(()) };
        let synchronised = if durable && self.connection.can_synchronise() {
            self.connection.synchronise(&handle, &self.path)
        } else {
            Ok(())
        };
        let closed = synchronised.and(self.connection.close(&handle, &self.path));
        closed.map_err(|error| explain(&self.connection, &self.path, error))
    }

    /// Leaves the closed file under its temporary name, which it returns, for somebody else to rename.
    pub(super) fn keep(mut self) -> Vec<u8> {
        self.kept = true;
        self.path.clone()
    }

    /// Gives the closed file its name. Without `replace` it fails with `Exists` when something has that.
    pub(super) fn place(mut self, name: &[u8], replace: bool) -> Result<()> {
        rename(&self.connection, &self.path, name, replace, self.offset)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.sent.clear();
        if let Some(handle) = self.handle.take() {
            self.connection.let_go(&handle);
        }
        if !self.kept && !self.connection.is_dead() {
            // What stays says by its name that it is temporary.
            let _ = self.connection.remove(&self.path);
        }
    }
}

/// Returns what stands at a path; `None` where nothing is.
pub(super) fn standing(connection: &Connection, path: &[u8]) -> Result<Option<Standing>> {
    let attrs = match connection.lstat(path) {
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    Ok(Some(Standing {
        mode: mode_of(&attrs),
        permissions: attrs.mode.is_some(),
        size: attrs.size.unwrap_or(0),
        modified: attrs.times.map(|(_, modified)| i64::from(modified)),
    }))
}

/// Renames over one connection. Without `replace` it fails with `Exists` when something has the name.
fn rename(connection: &Connection, from: &[u8], to: &[u8], replace: bool, size: u64) -> Result<()> {
    let attempt = |from: &[u8], to: &[u8]| {
        attempt(connection, from, to, replace).map_err(|error| {
            let uncertain = error.kind == ErrorKind::Transport;
            (error, uncertain)
        })
    };
    let steps = Steps {
        attempt: &attempt,
        look: &|path| standing(connection, path),
        remove: &|path| connection.remove(path),
    };
    rename_by(&steps, from, to, replace, connection.can_replace(), Some(size))
}

/// The same over another connection where one is lost on the way. `size` is the file's length, where that is known.
pub(super) fn rename_again(
    client: &Client,
    from: &[u8],
    to: &[u8],
    replace: bool,
    size: Option<u64>,
) -> Result<()> {
    let can_replace = client.again(|connection| Ok(connection.can_replace()))?;
    let attempt = |from: &[u8], to: &[u8]| {
        let attempts = Cell::new(0);
        let renamed = client.again(|connection| {
            attempts.set(attempts.get() + 1);
            attempt(connection, from, to, replace)
        });
        renamed.map_err(|error| {
            let uncertain = attempts.get() > 1 || error.kind == ErrorKind::Transport;
            (error, uncertain)
        })
    };
    let steps = Steps {
        attempt: &attempt,
        look: &|path| client.again(|connection| standing(connection, path)),
        remove: &|path| client.again(|connection| connection.remove(path)),
    };
    rename_by(&steps, from, to, replace, can_replace, size)
}

fn attempt(connection: &Connection, from: &[u8], to: &[u8], replace: bool) -> Result<()> {
    if replace && connection.can_replace() {
        connection.rename_over(from, to)
    } else {
        connection.rename_new(from, to)
    }
}

fn rename_by(
    steps: &Steps<'_>,
    from: &[u8],
    to: &[u8],
    replace: bool,
    can_replace: bool,
    size: Option<u64>,
) -> Result<()> {
    if replace {
        return if can_replace { steps.rename(from, to, size) } else { steps.replace(from, to, size) };
    }
    steps.rename(from, to, size).map_err(|error| {
        // Version 3 has no word for "it exists".
        let taken = matches!(error.kind, ErrorKind::Io | ErrorKind::Exists)
            && matches!((steps.look)(to), Ok(Some(_)));
        if taken { Error { kind: ErrorKind::Exists, ..error } } else { error }
    })
}

/// Finds out whether a write that failed without a reason failed for want of space.
fn explain(connection: &Connection, path: &[u8], error: Error) -> Error {
    if error.kind != ErrorKind::Io {
        return error;
    }
    let cut = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    let folder = if cut == 0 { &b"."[..] } else { &path[..cut] };
    match connection.space(folder) {
        Some(space) if space.free < SCARCE => Error { kind: ErrorKind::Full, ..error }
            .detail(format!("the server's disk is full ({} bytes are free)", space.free)),
        Some(space) if space.free_inodes == 0 => {
            Error { kind: ErrorKind::Full, ..error }.detail("the server's disk takes no more files")
        }
        _ => error,
    }
}

/// Writes a whole body into a new file and closes it, on the server's disk where that is possible.
pub(super) fn write_body(upload: &mut Upload, body: &Body<'_>) -> Result<()> {
    match body {
        Body::Bytes(bytes) => upload.write(bytes)?,
        Body::Spool { file, length } => {
            let mut buffer = vec![0; 256 << 10];
            let mut done = 0;
            while done < *length {
                use crate::base::sys::FileAt as _;
                let part = usize::try_from(length - done).map_or(buffer.len(), |left| left.min(buffer.len()));
                file.read_exact_at(&mut buffer[..part], done)
                    .map_err(|error| Error::io("read the spool of", upload.shown(), error))?;
                upload.write(&buffer[..part])?;
                done += part as u64;
            }
        }
    }
    upload.close(true)
}

/// Copies what a part holds into a buffer; returns how much fitted.
pub(super) fn fill(part: &mut Option<(Vec<u8>, usize)>, mut buffer: &mut [u8]) -> usize {
    let Some((packet, from)) = part else { return 0 };
    let count = buffer.len().min(packet.len() - *from);
    // A slice takes all that fits.
    let _ = buffer.write(&packet[*from..*from + count]);
    *from += count;
    if *from == packet.len() {
        *part = None;
    }
    count
}
