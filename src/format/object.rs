//! Objects (blob type 7): the chunk list of one content.

use super::error::{Error, Result};
use super::msgpack::{Reader, Writer};
use super::version::Version;
use crate::base::{Id, RawString};

/// The longest chunk that is taken for one, in bytes: 64 MiB. Writers cut at 16 MiB at the latest, upstream at 8 MiB. A
/// few KiB of compressed zeros may announce 4 GiB, and a chunk is opened in memory as a whole.
pub const MAX_CHUNK: u32 = 64 << 20;

/// One chunk of a content.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ChunkRef {
    /// The version of the record, 1.0.0.
    pub version: Version,
    /// The id of the chunk: the MAC of its raw bytes.
    pub id: Id,
    /// Its decoded length in bytes, at most [`MAX_CHUNK`].
    pub length: u32,
    /// Its entropy in bits per byte; 0 for an empty chunk.
    pub entropy: f64,
    /// Always 0.
    pub flags: u32,
}

impl ChunkRef {
    /// Creates a record.
    pub fn new(id: Id, length: u32, entropy: f64) -> Self {
        Self { version: Version::V1_0_0, id, length, entropy, flags: 0 }
    }
}

/// The chunk list of one content. Its id is the MAC of its serialization.
#[derive(Clone, PartialEq, Debug)]
pub struct Object {
    /// The version of the record, 1.0.0.
    pub version: Version,
    /// The MAC of the whole content.
    pub content_mac: Id,
    /// The chunks in order. Empty contents have one empty chunk; plakar 1.0.1 and 1.0.2 gave them none.
    pub chunks: Vec<ChunkRef>,
    /// The content type; any text.
    pub content_type: RawString,
    /// The mean of the chunks' entropies, weighted by length.
    pub entropy: f64,
    /// Always 0.
    pub flags: u32,
}

impl Object {
    /// Creates an object without chunks.
    pub fn new(content_mac: Id) -> Self {
        Self {
            version: Version::V1_0_0,
            content_mac,
            chunks: Vec::new(),
            content_type: RawString::new(),
            entropy: 0.0,
            flags: 0,
        }
    }

    /// Returns the length of the content in bytes, saturating.
    pub fn size(&self) -> u64 {
        self.chunks.iter().fold(0, |sum, chunk| sum.saturating_add(u64::from(chunk.length)))
    }

    /// Encodes the canonical serialization.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(192 + 98 * self.chunks.len());
        Writer::new(&mut out).map(|m| {
            m.key("version").u32(self.version.0);
            m.key("contentMAC").id(&self.content_mac);
            m.key("chunks").list_or_nil(&self.chunks, write_chunk);
            if !self.content_type.is_empty() {
                m.key("content_type").str(&self.content_type);
            }
            if self.entropy != 0.0 {
                m.key("entropy").f64(self.entropy);
            }
            m.key("flags").u32(self.flags);
        });
        out
    }

    /// Decodes a serialization. Fails for a chunk above [`MAX_CHUNK`], whatever reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut object = Self::new(Id::ZERO);
        object.version = Version::NONE;
        let mut r = Reader::new("object", bytes);
        r.map(|key, r| {
            match key {
                b"version" => object.version = r.version()?,
                b"contentMAC" => object.content_mac = r.id()?,
                b"chunks" => object.chunks = r.list(read_chunk)?,
                b"content_type" => object.content_type = r.raw()?,
                b"entropy" => object.entropy = r.f64()?,
                b"flags" => object.flags = r.u32()?,
                _ => r.skip()?,
            }
            Ok(())
        })?;
        r.finish()?;
        Ok(object)
    }
}

fn write_chunk(w: &mut Writer<'_>, chunk: &ChunkRef) {
    w.map(|m| {
        m.key("version").u32(chunk.version.0);
        m.key("contentMAC").id(&chunk.id);
        m.key("length").u32(chunk.length);
        m.key("entropy").f64(chunk.entropy);
        m.key("flags").u32(chunk.flags);
    });
}

fn read_chunk(r: &mut Reader<'_>) -> Result<ChunkRef> {
    let mut chunk = ChunkRef::new(Id::ZERO, 0, 0.0);
    chunk.version = Version::NONE;
    r.map(|key, r| {
        match key {
            b"version" => chunk.version = r.version()?,
            b"contentMAC" => chunk.id = r.id()?,
            b"length" => chunk.length = r.u32()?,
            b"entropy" => chunk.entropy = r.f64()?,
            b"flags" => chunk.flags = r.u32()?,
            _ => r.skip()?,
        }
        Ok(())
    })?;
    if chunk.length > MAX_CHUNK {
        let detail = format!("a chunk of {} bytes, {MAX_CHUNK} (64 MiB) are allowed", chunk.length);
        return Err(Error::malformed("object", detail));
    }
    Ok(chunk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_round_trip() {
        let mut object = Object::new(Id([9; 32]));
        assert_eq!(Object::decode(&object.encode()).unwrap(), object);
        object.chunks = vec![ChunkRef::new(Id([1; 32]), MAX_CHUNK, 8.0); 70];
        object.content_type = "x".into();
        object.entropy = 8.0;
        assert_eq!(Object::decode(&object.encode()).unwrap(), object);
        assert_eq!(object.size(), 70 * u64::from(MAX_CHUNK));
    }

    #[test]
    fn a_chunk_that_no_writer_cuts_is_refused() {
        let mut object = Object::new(Id([9; 32]));
        for (length, good) in [(MAX_CHUNK, true), (MAX_CHUNK + 1, false), (u32::MAX, false)] {
            object.chunks = vec![ChunkRef::new(Id([1; 32]), length, 0.0)];
            assert_eq!(Object::decode(&object.encode()).is_ok(), good, "{length}");
        }
    }

    #[test]
    fn an_object_may_not_announce_more_chunks_than_bytes() {
        let mut bytes = vec![0x81, 0xa6];
        bytes.extend_from_slice(b"chunks");
        bytes.extend_from_slice(&[0xdd, 0x7f, 0xff, 0xff, 0xff]);
        assert!(Object::decode(&bytes).is_err());
    }
}
