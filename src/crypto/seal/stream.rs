//! Sealing and opening of streams, one segment in memory at a time.

use std::fmt;
use std::io::{self, Read, Write};

use zeroize::Zeroizing;

use super::cipher::{Cipher, Operation, SealError};
use super::item::Item;

/// Seals what is written to it. [`finish`](Self::finish) must be called: without it the end is missing, and
/// what was written does not open.
pub struct SealWriter<W> {
    inner: W,
    operation: Operation,
    segment_size: usize,
    /// Plaintext of the segment that is being filled. A full one waits until it is known not to be the last.
    plain: Zeroizing<Vec<u8>>,
    sealed: Vec<u8>,
}

impl<W: Write> SealWriter<W> {
    /// Starts sealing `item` into `inner`.
    pub fn new(cipher: &Cipher, item: Item, inner: W) -> Self {
        let mut sealed = Vec::new();
        let operation = cipher.start_sealing(item, &mut sealed);
        let segment_size = cipher.segment_size();
        Self { inner, operation, segment_size, plain: Zeroizing::new(Vec::new()), sealed }
    }

    fn put_segment(&mut self, last: bool) -> io::Result<()> {
        self.operation.seal(&self.plain, last, &mut self.sealed)?;
        self.plain.clear();
        self.put_sealed()
    }

    fn put_sealed(&mut self) -> io::Result<()> {
        self.inner.write_all(&self.sealed)?;
        self.sealed.clear();
        Ok(())
    }

    /// Seals the last segment and returns what was written into. Does not flush it.
    pub fn finish(mut self) -> io::Result<W> {
        if self.plain.is_empty() && !self.operation.seals_empty() {
            self.put_sealed()?;
        } else {
            self.put_segment(true)?;
        }
        Ok(self.inner)
    }
}

impl<W: Write> Write for SealWriter<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if data.is_empty() {
            return Ok(0);
        }
        if self.plain.len() == self.segment_size {
            self.put_segment(false)?;
        }
        // Reserving at once keeps the buffer from moving, which would leave unwiped copies behind.
        let room = self.segment_size - self.plain.len();
        self.plain.reserve_exact(room);
        let room = room.min(data.len());
        self.plain.extend_from_slice(&data[..room]);
        Ok(room)
    }

    /// Does nothing: a segment cannot be cut short.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W> fmt::Debug for SealWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealWriter(…)")
    }
}

/// Opens what it reads, segment by segment: no byte is handed out before its segment was verified.
///
/// In the native profile a stream that was cut ends in an error, not in an early end. Errors of kind
/// `InvalidData` carry a [`SealError`]; all others come from the reader below.
pub struct OpenReader<R> {
    inner: R,
    state: State,
    /// Sealed bytes read ahead: at most one segment and one byte, which tells whether a segment is the last.
    sealed: Vec<u8>,
    plain: Zeroizing<Vec<u8>>,
    used: usize,
}

enum State {
    Start(Cipher, Item),
    Segments { operation: Operation, sealed_size: usize, any: bool },
    End,
    Failed(SealError),
}

impl<R: Read> OpenReader<R> {
    /// Starts opening `item` from `inner`, which must end where the sealed bytes end.
    pub fn new(cipher: &Cipher, item: Item, inner: R) -> Self {
        let state = State::Start(cipher.clone(), item);
        Self { inner, state, sealed: Vec::new(), plain: Zeroizing::new(Vec::new()), used: 0 }
    }

    /// Returns the reader below.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// Reads until `len` sealed bytes are there or the reader ends.
    fn fill(&mut self, len: usize) -> io::Result<()> {
        let missing = len.saturating_sub(self.sealed.len());
        self.sealed.reserve_exact(missing);
        (&mut self.inner).take(missing as u64).read_to_end(&mut self.sealed).map(drop)
    }

    /// Opens the next segment into `plain`, or comes to the end.
    fn next_segment(&mut self) -> io::Result<()> {
        match &self.state {
            State::End => return Ok(()),
            State::Failed(error) => return Err((*error).into()),
            State::Start(cipher, item) => {
                let (cipher, item) = (cipher.clone(), *item);
                self.fill(cipher.start_len())?;
                let start = self.sealed.get(..cipher.start_len()).ok_or(SealError::Truncated)?;
                let operation = cipher.start_opening(item, start)?;
                self.sealed.clear();
                let sealed_size = cipher.segment_size() + operation.overhead();
                self.state = State::Segments { operation, sealed_size, any: false };
            }
            State::Segments { .. } => {}
        }
        let &State::Segments { sealed_size, .. } = &self.state else { return Ok(()) };
        self.fill(sealed_size + 1)?;
        self.plain.clear();
        self.plain.reserve_exact(sealed_size);
        self.used = 0;
        let State::Segments { operation, any, .. } = &mut self.state else { return Ok(()) };
        let last = self.sealed.len() <= sealed_size;
        let segment = &self.sealed[..self.sealed.len().min(sealed_size)];
        let opened = if segment.is_empty() && !*any {
            operation.open_nothing()
        } else {
            operation.open(segment, last, &mut self.plain)
        };
        if let Err(error) = opened {
            self.state = State::Failed(error);
            return Err(error.into());
        }
        *any = true;
        if last {
            self.state = State::End;
        } else {
            self.sealed.drain(..sealed_size);
        }
        Ok(())
    }
}

impl<R: Read> Read for OpenReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.used == self.plain.len() && !matches!(self.state, State::End) {
            self.next_segment()?;
        }
        let rest = &self.plain[self.used..];
        let len = rest.len().min(out.len());
        out[..len].copy_from_slice(&rest[..len]);
        self.used += len;
        Ok(len)
    }
}

impl<R> fmt::Debug for OpenReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenReader(…)")
    }
}
