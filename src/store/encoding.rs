//! The encoding pipeline: compress, then seal; open, then decompress (FORMAT.md, "Encoding pipeline").

use std::fmt::Display;
use std::io::{self, Read, Write};

use crate::codec::{Compression, FrameReader, FrameWriter};
use crate::crypto::seal::{Cipher, Item, OpenReader, SealWriter};

use super::blob::Error;

/// How the bytes of one store are encoded: what its CONFIG says, with the keys.
#[derive(Debug)]
pub struct Encoding {
    compression: Compression,
    cipher: Option<Cipher>,
}

impl Encoding {
    /// Ties a compression and, for an encrypted store, a cipher together.
    pub fn new(compression: Compression, cipher: Option<Cipher>) -> Self {
        Self { compression, cipher }
    }

    /// Returns the compression of every item.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Returns the cipher of an encrypted store.
    pub fn cipher(&self) -> Option<&Cipher> {
        self.cipher.as_ref()
    }

    /// Appends encode(`plain`) to `out`.
    pub fn encode(&self, item: Item, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        match &self.cipher {
            None => self.compression.compress(plain, out),
            Some(_) => with_scratch(|frame| {
                self.compression.compress(plain, frame);
                self.encode_frame(item, frame, out)
            })?,
        }
        Ok(())
    }

    /// Appends seal(`frame`) to `out`: for bytes that are a canonical frame of this compression already.
    pub fn encode_frame(&self, item: Item, frame: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        match &self.cipher {
            None => out.extend_from_slice(frame),
            Some(cipher) => cipher
                .seal(item, frame, out)
                .map_err(|source| Error::undecodable("an item to be sealed", source))?,
        }
        Ok(())
    }

    /// Returns decode(`stored`), at most `limit` bytes. `what` names the item in errors, and costs nothing without.
    pub fn decode(
        &self,
        item: Item,
        stored: &[u8],
        limit: usize,
        what: impl Display,
    ) -> Result<Vec<u8>, Error> {
        let mut plain = Vec::new();
        match &self.cipher {
            None => self.decompress(stored, limit, &mut plain, what)?,
            Some(cipher) => with_scratch(|frame| {
                let opened = cipher.open(item, stored, frame);
                opened.map_err(|source| Error::undecodable(&what.to_string(), source))?;
                self.decompress(frame, limit, &mut plain, what)
            })?,
        }
        Ok(plain)
    }

    /// Opens `stored` without decompressing it: the frame, appended to `out`.
    pub fn open_frame(&self, item: Item, stored: &[u8], out: &mut Vec<u8>, what: &str) -> Result<(), Error> {
        match &self.cipher {
            None => out.extend_from_slice(stored),
            Some(cipher) => {
                cipher.open(item, stored, out).map_err(|source| Error::undecodable(what, source))?;
            }
        }
        Ok(())
    }

    /// Decompresses one frame of this store's compression.
    pub fn decompress(
        &self,
        frame: &[u8],
        limit: usize,
        plain: &mut Vec<u8>,
        what: impl Display,
    ) -> Result<(), Error> {
        let decompressed = self.compression.decompress(frame, limit, plain);
        decompressed.map_err(|source| Error::undecodable(&what.to_string(), source))
    }

    /// Passes a writer to `fill` whose output is encoded into `out` as one item, as a stream.
    pub fn write_stream<W: Write>(
        &self,
        item: Item,
        out: W,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<W> {
        match &self.cipher {
            None => {
                let mut frame = FrameWriter::new(self.compression, out);
                fill(&mut frame)?;
                frame.finish()
            }
            Some(cipher) => {
                let sealed = SealWriter::new(cipher, item, out);
                let mut frame = FrameWriter::new(self.compression, sealed);
                fill(&mut frame)?;
                frame.finish()?.finish()
            }
        }
    }

    /// Returns a reader of decode(`stored`), as a stream.
    pub fn read_stream<'a, R: Read + 'a>(&'a self, item: Item, stored: R) -> Box<dyn Read + 'a> {
        match &self.cipher {
            None => Box::new(FrameReader::new(self.compression, stored)),
            Some(cipher) => {
                Box::new(FrameReader::new(self.compression, OpenReader::new(cipher, item, stored)))
            }
        }
    }
}

/// Lends a cleared per-thread buffer, so that a small item costs no allocation.
fn with_scratch<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    use std::cell::RefCell;
    thread_local!(static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });
    /// What a thread may keep between two items, in bytes.
    const KEPT: usize = 2 << 20;
    SCRATCH.with(|cell| {
        let mut buffer = cell.take();
        buffer.clear();
        let result = work(&mut buffer);
        if buffer.capacity() <= KEPT {
            cell.replace(buffer);
        }
        result
    })
}
