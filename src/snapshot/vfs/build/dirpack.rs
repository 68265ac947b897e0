//! Writing dirpacks: the entries of one folder as one content.

use crate::base::Id;
use crate::crypto::MacHasher;
use crate::format::blob::BlobType;
use crate::format::dirpack::{FrameKind, encode_frame};
use crate::format::object::{ChunkRef, Object};
use crate::store::blob::{Batch, BlobSink, Lane, Result};

/// The content type that objects of dirpacks have.
const CONTENT_TYPE: &str = "application/octet-stream";

/// Writes one dirpack after the other.
#[derive(Debug)]
pub(super) struct DirpackWriter<'a, S: ?Sized> {
    batch: Batch<'a, S>,
    buffer: Vec<u8>,
    chunks: Vec<ChunkRef>,
    /// The MAC of the content, once it is known to be more than one chunk.
    hasher: Option<MacHasher>,
}

impl<'a, S: BlobSink + ?Sized> DirpackWriter<'a, S> {
    pub(super) fn new(sink: &'a S) -> Self {
        Self { batch: Batch::new(sink), buffer: Vec::new(), chunks: Vec::new(), hasher: None }
    }

    /// Appends the entry of a child; children come in byte order of their paths.
    pub(super) fn push(&mut self, folder: bool, entry: &[u8], id: Id) -> Result<()> {
        encode_frame(FrameKind::of(folder), entry, id, &mut self.buffer);
        // The place of a cut depends on as many bytes as a chunk may have, so only a full buffer is cut. It is
        // left to grow to twice that first: what remains has to be moved to the front.
        let max = self.batch.sink().chunker().max_size();
        if self.buffer.len() < 2 * max { Ok(()) } else { self.cut(max) }
    }

    /// Ends the dirpack; returns the id of its object.
    pub(super) fn finish(&mut self) -> Result<Id> {
        self.cut(1)?;
        if self.chunks.is_empty() {
            self.store(0, 0)?;
        }
        let content_mac = match (self.hasher.take(), &self.chunks[..]) {
            (None, [only]) => only.id,
            (hasher, _) => hasher.unwrap_or_else(|| self.batch.sink().hasher()).finish(),
        };
        let mut object = Object::new(content_mac);
        object.chunks = std::mem::take(&mut self.chunks);
        object.content_type = CONTENT_TYPE.into();
        self.batch.put(BlobType::OBJECT, &object.encode(), Lane::Metadata)
    }

    /// Stores what is collected. Must be called at the end.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.batch.flush()
    }

    /// Cuts chunks off while at least `least` bytes are left.
    fn cut(&mut self, least: usize) -> Result<()> {
        let mut start = 0;
        while self.buffer.len() - start >= least {
            let length = self.batch.sink().chunker().cut(&self.buffer[start..]);
            let last = least == 1 && start + length == self.buffer.len();
            if !last || !self.chunks.is_empty() {
                let sink = self.batch.sink();
                let hasher = self.hasher.get_or_insert_with(|| sink.hasher());
                hasher.update(&self.buffer[start..start + length]);
            }
            self.store(start, start + length)?;
            start += length;
        }
        self.buffer.drain(..start);
        Ok(())
    }

    fn store(&mut self, start: usize, end: usize) -> Result<()> {
        let id = self.batch.put(BlobType::CHUNK, &self.buffer[start..end], Lane::Metadata)?;
        let length = u32::try_from(end - start).expect("a chunk is shorter than 4 GiB");
        self.chunks.push(ChunkRef::new(id, length, 0.0));
        Ok(())
    }
}
