//! Contents and entries under another key.

use crate::base::Id;
use crate::codec::Compression;
use crate::crypto::seal::Item;
use crate::format::blob::BlobType;
use crate::format::entry::{Entry, marked_device};
use crate::format::object::{ChunkRef, Object};
use crate::store::blob::{BlobSource, Lane};
use crate::store::{Error, METADATA_LIMIT, Repository, Session, Window};

use super::super::monitor::{Counter, Monitor};
use super::copied::{Copied, Standing};

/// Copies contents from a store to a session, remembering what became of them.
#[derive(Debug)]
pub(super) struct Rewriter<'a> {
    from: &'a Repository,
    to: &'a dyn Session,
    copied: &'a Copied,
    monitor: &'a dyn Monitor,
    /// Whether both sides compress alike, so that frames may be reused.
    same_frames: bool,
}

impl<'a> Rewriter<'a> {
    pub(super) fn new(
        from: &'a Repository,
        to: &'a dyn Session,
        copied: &'a Copied,
        monitor: &'a dyn Monitor,
    ) -> Self {
        let same_frames = alike(from.encoding().compression(), to.encoding().compression());
        Self { from, to, copied, monitor, same_frames }
    }

    /// Copies an object with its chunks; returns its new id. `known` spares reading it where a window has it.
    pub(super) fn object(
        &self,
        id: &Id,
        known: Option<&Object>,
        window: Option<&Window>,
        lane: Lane,
    ) -> Result<Id, Error> {
        let standing = self.copied.find_object(self.to, id)?;
        if let Standing::Whole(new) = standing {
            return Ok(new);
        }
        let read;
        let object = if let Some(object) = known {
            object
        } else {
            read = Object::decode(&self.from.get(BlobType::OBJECT, id)?)?;
            &read
        };
        if let Standing::Bare(new) = standing
            && self.copied.has_all(self.to, &object.chunks)?
        {
            return Ok(new);
        }
        let mut copy = object.clone();
        match object.chunks.as_slice() {
            [only] => {
                let new = self.chunk(only, window, lane, &mut |_| {})?;
                copy.chunks = vec![ChunkRef { id: new, ..*only }];
                copy.content_mac = new;
            }
            chunks => {
                // The MAC over the whole is another one under another key: every chunk has to pass.
                let mut whole = self.to.hasher();
                copy.chunks.clear();
                for chunk in chunks {
                    let new = self.chunk_with_bytes(chunk, window, lane, &mut |bytes| {
                        whole.update(bytes);
                    })?;
                    copy.chunks.push(ChunkRef { id: new, ..*chunk });
                }
                copy.content_mac = whole.finish();
            }
        }
        let new = self.to.put(BlobType::OBJECT, &copy.encode(), Lane::Metadata)?;
        self.copied.insert(BlobType::OBJECT, id, &new)?;
        Ok(new)
    }

    /// Copies a chunk unless that was done.
    fn chunk(
        &self,
        chunk: &ChunkRef,
        window: Option<&Window>,
        lane: Lane,
        seen: &mut dyn FnMut(&[u8]),
    ) -> Result<Id, Error> {
        match self.copied.find(self.to, BlobType::CHUNK, &chunk.id)? {
            Some(new) => Ok(new),
            None => self.chunk_with_bytes(chunk, window, lane, seen),
        }
    }

    fn chunk_with_bytes(
        &self,
        chunk: &ChunkRef,
        window: Option<&Window>,
        lane: Lane,
        seen: &mut dyn FnMut(&[u8]),
    ) -> Result<Id, Error> {
        let (plain, frame) = self.open(chunk, window)?;
        seen(&plain);
        let new = self.to.mac(&plain);
        self.to.put_encoded(BlobType::CHUNK, new, lane, &mut |out| {
            let item = Item::blob(BlobType::CHUNK.0, new);
            match &frame {
                Some(frame) => self.to.encoding().encode_frame(item, frame, out)?,
                None => self.to.encoding().encode(item, &plain, out)?,
            }
            Ok(plain.len())
        })?;
        self.copied.insert(BlobType::CHUNK, &chunk.id, &new)?;
        self.monitor.count(Counter::Blobs, 1);
        self.monitor.count(Counter::Bytes, plain.len() as u64);
        Ok(new)
    }

    /// Opens and verifies a chunk; returns its bytes, and its frame where that may be reused.
    fn open(&self, chunk: &ChunkRef, window: Option<&Window>) -> Result<(Vec<u8>, Option<Vec<u8>>), Error> {
        let (kind, id) = (BlobType::CHUNK, &chunk.id);
        let places = self.from.catalogue().find_any(kind, id)?;
        let mut last = Error::Missing { kind, id: *id };
        for place in &places {
            // Twice: what does not verify is read once more from the source.
            for fetched in [window.and_then(|window| window.get(place)), None] {
                let opened = if let Some(stored) = fetched {
                    self.open_stored(chunk, stored)
                } else {
                    let mut opened = None;
                    self.from
                        .with_stored(place, &mut |stored| opened = Some(self.open_stored(chunk, stored)))
                        .and(opened.unwrap_or(Err(Error::Missing { kind, id: *id })))
                };
                match opened {
                    Ok(opened) => return Ok(opened),
                    Err(error) => last = error,
                }
            }
        }
        Err(last)
    }

    fn open_stored(&self, chunk: &ChunkRef, stored: &[u8]) -> Result<(Vec<u8>, Option<Vec<u8>>), Error> {
        let (kind, id, limit) = (BlobType::CHUNK, &chunk.id, chunk.length as usize);
        let what = format!("{kind} {id}");
        let (mut frame, mut plain) = (Vec::new(), Vec::new());
        let encoding = self.from.encoding();
        encoding.open_frame(Item::blob(kind.0, *id), stored, &mut frame, &what)?;
        encoding.decompress(&frame, limit, &mut plain, &what)?;
        let found = self.from.mac(&plain);
        if found != *id {
            return Err(Error::corrupt(what, id, found));
        }
        if plain.len() != limit {
            let detail = format!("it has {} bytes, its object says {limit}", plain.len());
            return Err(Error::malformed(&what, &detail));
        }
        let reusable = self.same_frames && encoding.compression().is_single_canonical_frame(&frame);
        Ok((plain, reusable.then_some(frame)))
    }

    /// Makes an entry for the other side, its content copied.
    pub(super) fn entry(
        &self,
        entry: &Entry,
        known: Option<&Object>,
        window: Option<&Window>,
    ) -> Result<Entry, Error> {
        let mut copy = entry.clone();
        if !entry.object.is_zero() {
            copy.object = self.object(&entry.object, known, window, Lane::Data)?;
        }
        if !copy.metadata.is_empty() && !self.to.is_ours_alone() {
            copy.info.device = marked_device(copy.info.device);
        }
        // Summaries inside folder entries were 1.0.x's way; ours stand in an index.
        copy.summary = None;
        Ok(copy)
    }
}

/// Returns whether frames of one compression are frames of the other.
fn alike(a: Compression, b: Compression) -> bool {
    a.name() == b.name()
}

/// Copies a blob as it is to a session under the same keys, verified on the way.
pub(super) fn copy_blob(
    from: &Repository,
    to: &dyn Session,
    kind: BlobType,
    id: &Id,
    lane: Lane,
) -> Result<(), Error> {
    to.put_encoded(kind, *id, lane, &mut |out| {
        let mut last = Error::Missing { kind, id: *id };
        for place in from.catalogue().find_any(kind, id)? {
            let mut copied = None;
            from.with_stored(&place, &mut |stored| {
                // The copy is what is verified: the bytes may lie in a map.
                let stored = stored.to_vec();
                copied =
                    Some(from.decode(kind, id, &stored, METADATA_LIMIT).map(|plain| (plain.len(), stored)));
            })?;
            match copied {
                Some(Ok((length, stored))) => {
                    out.extend_from_slice(&stored);
                    return Ok(length);
                }
                Some(Err(error)) => last = error,
                None => {}
            }
        }
        Err(last)
    })?;
    Ok(())
}
