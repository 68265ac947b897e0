//! The content of one file, at random access.
//!
//! **Why chunks are verified, and not the content's MAC.** An object is named by the MAC of its serialization, so the
//! list of its chunks is what the backup wrote; each chunk is held against its own id and the length that the list
//! gives. Together these say all that the MAC over the whole would, and they say it of every piece: contents are
//! written by several threads, in parts, and parts are read again for a retry, so that the whole never passes by in
//! order. Only a writer that recorded a wrong MAC would be found out that way, which is a check's business.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::Id;
use crate::connector::{self, ContentSource, ErrorKind};
use crate::format::blob::BlobType;
use crate::format::object::Object;
use crate::store::blob::BlobSource;
use crate::store::{Error, Repository, Window};

/// A chunk that was decoded, by its number.
type Decoded = (usize, Arc<Vec<u8>>);

/// The verified content of one object. Every read decodes the chunks it touches; the last one is kept.
pub struct ObjectContent<'a> {
    repository: &'a Repository,
    window: Option<&'a Window>,
    object: Object,
    /// Where each chunk starts, and the size at the end.
    offsets: Vec<u64>,
    last: Mutex<Option<Decoded>>,
}

impl fmt::Debug for ObjectContent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectContent({} bytes)", self.size())
    }
}

impl<'a> ObjectContent<'a> {
    /// Opens the object with this id.
    pub fn open(repository: &'a Repository, id: &Id) -> Result<Self, Error> {
        let object = Object::decode(&repository.get(BlobType::OBJECT, id)?)?;
        Ok(Self::new(repository, object, None))
    }

    pub(super) fn new(repository: &'a Repository, object: Object, window: Option<&'a Window>) -> Self {
        let mut offsets = Vec::with_capacity(object.chunks.len() + 1);
        let mut offset = 0_u64;
        offsets.push(0);
        for chunk in &object.chunks {
            offset = offset.saturating_add(u64::from(chunk.length));
            offsets.push(offset);
        }
        Self { repository, window, object, offsets, last: Mutex::new(None) }
    }

    fn chunk(&self, number: usize) -> Result<Arc<Vec<u8>>, Error> {
        let kept = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, bytes)) = kept.filter(|(kept, _)| *kept == number) {
            return Ok(bytes);
        }
        let chunk = &self.object.chunks[number];
        let bytes = Arc::new(read_chunk(self.repository, self.window, &chunk.id, chunk.length)?);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((number, Arc::clone(&bytes)));
        Ok(bytes)
    }

    fn fill(&self, mut offset: u64, mut buffer: &mut [u8]) -> Result<(), Error> {
        let mut number = self.offsets.partition_point(|start| *start <= offset).saturating_sub(1);
        while !buffer.is_empty() {
            let within = usize::try_from(offset - self.offsets[number]).expect("within a chunk");
            let chunk = self.chunk(number)?;
            let length = buffer.len().min(chunk.len() - within);
            buffer[..length].copy_from_slice(&chunk[within..within + length]);
            buffer = &mut buffer[length..];
            offset += length as u64;
            number += 1;
            // Empty chunks are passed over.
            while self.offsets.get(number + 1) == Some(&offset) && !buffer.is_empty() {
                number += 1;
            }
        }
        Ok(())
    }
}

/// Reads a chunk, out of the window where it is there, and verifies id and length.
pub(crate) fn read_chunk(
    repository: &Repository,
    window: Option<&Window>,
    id: &Id,
    length: u32,
) -> Result<Vec<u8>, Error> {
    let limit = length as usize;
    let fetched = window.and_then(|window| {
        let places = repository.catalogue().find_any(BlobType::CHUNK, id).ok()?;
        places.iter().find_map(|place| window.get(place))
    });
    let decoded = fetched.and_then(|stored| repository.decode(BlobType::CHUNK, id, stored, limit).ok());
    let bytes = match decoded {
        Some(bytes) => bytes,
        // Not fetched, or not right: read once more from the source.
        None => repository.get_limited(BlobType::CHUNK, id, limit)?,
    };
    if bytes.len() != limit {
        let detail = format!("it has {} bytes, its object says {length}", bytes.len());
        return Err(Error::malformed(&format!("chunk {id}"), &detail));
    }
    Ok(bytes)
}

impl ContentSource for ObjectContent<'_> {
    fn size(&self) -> u64 {
        *self.offsets.last().expect("there is always a first offset")
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> connector::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.size()) {
            let message = format!("{} bytes at {offset} of {}", buffer.len(), self.size());
            return Err(connector::Error::new(ErrorKind::Invalid, "read", "a content").detail(message));
        }
        self.fill(offset, buffer).map_err(|error| match error {
            Error::Connector(error) => error,
            error => {
                let kind = if error.is_damage() { ErrorKind::Protocol } else { ErrorKind::Io };
                connector::Error::new(kind, "read", "the content from the store").because(error)
            }
        })
    }

    fn boundaries(&self) -> Vec<u64> {
        let mut starts = self.offsets[..self.offsets.len() - 1].to_vec();
        starts.dedup();
        starts.retain(|start| *start < self.size());
        starts
    }
}
