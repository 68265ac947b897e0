//! The body of a request, read while it arrives.

use std::io::{self, BufRead, Read, Write};

use super::head::Framing;
use super::message::Refusal;
use super::pace::Wire;

/// The longest line that introduces a chunk, and the longest trailer, in bytes.
const MAX_LINE: usize = 1024;
/// The most trailers.
const MAX_TRAILERS: usize = 16;
/// How much is read from a connection at once, in bytes.
const PIECE: usize = 64 << 10;

/// A connection, and what was read of it ahead.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) wire: Wire,
    buffer: Vec<u8>,
    start: usize,
}

impl Input {
    pub(super) fn new(wire: Wire) -> Self {
        Self { wire, buffer: Vec::new(), start: 0 }
    }

    /// Returns what was read ahead.
    pub(super) fn ahead(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Reads more; returns whether there was more.
    pub(super) fn more(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let before = self.buffer.len();
        self.buffer.resize(before + PIECE, 0);
        let read = self.wire.read(&mut self.buffer[before..]);
        self.buffer.truncate(before + read.as_ref().map_or(0, |count| *count));
        Ok(read? > 0)
    }
}

impl Read for Input {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        // What is long does not take the way through the buffer.
        if self.ahead().is_empty() && out.len() >= PIECE {
            return self.wire.read(out);
        }
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Input {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.ahead().is_empty() {
            self.more()?;
        }
        Ok(self.ahead())
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rest {
    /// So many bytes are to come.
    Bytes(u64),
    /// So many bytes of a chunk, and others after it.
    Chunk(u64),
    /// A chunk begins.
    Between,
    /// Everything was read.
    Done,
    /// It cannot be known where the body ends.
    Lost,
}

/// The body of a request. Reading it tells a client that waits for that to send it. A body that breaks off fails with
/// `UnexpectedEof`, one that takes too long with `TimedOut`, one that is not well formed with `InvalidData`.
#[derive(Debug)]
pub struct Body<'a> {
    input: &'a mut Input,
    rest: Rest,
    expects: bool,
}

impl<'a> Body<'a> {
    pub(super) fn new(input: &'a mut Input, framing: Framing, expects: bool) -> Self {
        let rest = match framing {
            Framing::Length(0) => Rest::Done,
            Framing::Length(length) => Rest::Bytes(length),
            Framing::Chunked => Rest::Between,
        };
        Self { input, rest, expects }
    }

    /// Returns what to answer when the body cannot be read.
    pub fn refusal(error: &io::Error) -> Refusal {
        let (status, text) = match error.kind() {
            io::ErrorKind::TimedOut => (408, "the body of the request took too long"),
            io::ErrorKind::UnexpectedEof => (400, "the body of the request ended early"),
            _ => (400, "the body of the request cannot be read"),
        };
        Refusal { status, text: text.to_owned() }
    }

    /// Reads what is left if it is little; returns whether the connection stands at the next request then.
    pub(super) fn drain(&mut self, most: u64) -> bool {
        match self.rest {
            Rest::Done => return true,
            Rest::Lost => return false,
            // It was never asked for, and is not coming.
            _ if self.expects => return false,
            Rest::Bytes(left) if left > most => return false,
            _ => {}
        }
        let drained = io::copy(&mut self.by_ref().take(most + 1), &mut io::sink());
        drained.is_ok() && self.rest == Rest::Done
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.input.by_ref().take(MAX_LINE as u64).read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\r\n") {
            Some(text) => Ok(text.to_vec()),
            None if line.len() < MAX_LINE && !line.ends_with(b"\n") => {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Reads the line that introduces a chunk: its length in hexadecimal, and extensions that mean nothing here.
    fn begin_chunk(&mut self) -> io::Result<Rest> {
        let line = self.line()?;
        let digits = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii_end();
        let valid = !digits.is_empty() && digits.len() <= 15 && digits.iter().all(u8::is_ascii_hexdigit);
        let text = std::str::from_utf8(digits).ok().filter(|_| valid);
        match text.and_then(|text| u64::from_str_radix(text, 16).ok()) {
            Some(0) => {
                for _ in 0..=MAX_TRAILERS {
                    if self.line()?.is_empty() {
                        return Ok(Rest::Done);
                    }
                }
                Err(io::ErrorKind::InvalidData.into())
            }
            Some(length) => Ok(Rest::Chunk(length)),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Reads the line end behind a chunk.
    fn end_chunk(&mut self) -> io::Result<Rest> {
        if self.line()?.is_empty() { Ok(Rest::Between) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    fn advance(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.rest == Rest::Between {
            self.rest = self.begin_chunk()?;
        }
        let (Rest::Bytes(left) | Rest::Chunk(left)) = self.rest else { return Ok(0) };
        let most = usize::try_from(left).map_or(out.len(), |left| left.min(out.len()));
        let count = self.input.read(&mut out[..most])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let left = left - count as u64;
        self.rest = match self.rest {
            Rest::Bytes(_) if left == 0 => Rest::Done,
            Rest::Bytes(_) => Rest::Bytes(left),
            _ if left > 0 => Rest::Chunk(left),
            _ => self.end_chunk()?,
        };
        Ok(count)
    }
}

impl Read for Body<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() || self.rest == Rest::Done {
            return Ok(0);
        }
        if self.rest == Rest::Lost {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if std::mem::take(&mut self.expects) && self.input.ahead().is_empty() {
            self.input.wire.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            self.input.wire.flush()?;
        }
        let result = self.advance(out);
        if result.is_err() {
            self.rest = Rest::Lost;
        }
        result
    }
}
