//! Contents as streams: the chunks of an object, one after the other.

use std::fmt;
use std::io::{self, Read};

use crate::base::Id;
use crate::format;
use crate::format::blob::BlobType;
use crate::format::object::Object;
use crate::store::blob::{BlobSource, Error, Result};

/// Reads the content of an object, holding one chunk at a time. For dirpacks and attributes; contents of files
/// are read by plans of their own.
///
/// An error comes out as an [`io::Error`] that holds the store's [`Error`].
pub struct ObjectReader<'a, S: ?Sized> {
    source: &'a S,
    object: Object,
    /// The number of the chunk after the current one.
    next: usize,
    chunk: Vec<u8>,
    position: usize,
    /// Whether the current chunk was let go and has to be read again.
    released: bool,
}

impl<S: ?Sized> fmt::Debug for ObjectReader<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectReader(chunk {} of {})", self.next, self.object.chunks.len())
    }
}

impl<'a, S: BlobSource + ?Sized> ObjectReader<'a, S> {
    /// Opens the object with this id.
    pub fn open(source: &'a S, id: &Id) -> Result<Self> {
        let object = Object::decode(&source.get(BlobType::OBJECT, id)?)?;
        Ok(Self { source, object, next: 0, chunk: Vec::new(), position: 0, released: false })
    }

    /// Returns the object.
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// Returns how many bytes were read so far.
    pub(super) fn position(&self) -> u64 {
        let Some(current) = self.next.checked_sub(1) else { return 0 };
        let before: u64 = self.object.chunks[..current].iter().map(|chunk| u64::from(chunk.length)).sum();
        before + self.position as u64
    }

    /// Goes on behind the first `offset` bytes. Behind the end there is nothing to read.
    pub(super) fn skip_to(&mut self, mut offset: u64) -> Result<()> {
        (self.next, self.position, self.released) = (0, 0, false);
        self.chunk = Vec::new();
        while let Some(chunk) = self.object.chunks.get(self.next) {
            if offset < u64::from(chunk.length) {
                break;
            }
            offset -= u64::from(chunk.length);
            self.next += 1;
        }
        if offset > 0 && self.next < self.object.chunks.len() {
            self.chunk = self.read_chunk(self.next)?;
            self.position = usize::try_from(offset).expect("less than the chunk's length");
        } else if let Some(current) = self.next.checked_sub(1) {
            // At the end of the chunk before, which need not be read.
            self.position = self.object.chunks[current].length as usize;
            return Ok(());
        } else {
            return Ok(());
        }
        self.next += 1;
        Ok(())
    }

    /// Returns how many bytes are held.
    pub fn held_bytes(&self) -> usize {
        self.chunk.capacity()
    }

    /// Lets the current chunk go; it is read again when it is needed.
    pub fn release(&mut self) {
        self.released = self.position < self.chunk.len();
        self.chunk = Vec::new();
    }

    /// Makes sure that there is something to read; `false` at the end.
    fn fill(&mut self) -> Result<bool> {
        if self.released {
            self.chunk = self.read_chunk(self.next - 1)?;
            self.released = false;
        }
        while self.position >= self.chunk.len() {
            if self.next == self.object.chunks.len() {
                return Ok(false);
            }
            self.chunk = self.read_chunk(self.next)?;
            self.position = 0;
            self.next += 1;
        }
        Ok(true)
    }

    fn read_chunk(&self, number: usize) -> Result<Vec<u8>> {
        let chunk = &self.object.chunks[number];
        let bytes = self.source.get(BlobType::CHUNK, &chunk.id)?;
        if bytes.len() as u64 == u64::from(chunk.length) {
            return Ok(bytes);
        }
        let detail = format!("it has {} bytes, its object says {}", bytes.len(), chunk.length);
        Err(Error::malformed(&format!("chunk {}", chunk.id), &detail))
    }
}

impl<S: BlobSource + ?Sized> Read for ObjectReader<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || !self.fill().map_err(io::Error::other)? {
            return Ok(0);
        }
        let ready = &self.chunk[self.position..];
        let length = ready.len().min(buffer.len());
        buffer[..length].copy_from_slice(&ready[..length]);
        self.position += length;
        Ok(length)
    }
}

/// Takes the store's error out of a decoder's: a failed read is no property of the bytes.
pub(super) fn store_error(error: format::Error) -> Error {
    match error {
        format::Error::Io { what, source } => match source.downcast::<Error>() {
            Ok(error) => error,
            Err(source) => Error::Format(format::Error::Io { what, source }),
        },
        other => Error::Format(other),
    }
}
