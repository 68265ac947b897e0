//! Frames as streams, for what may be larger than memory: states and the indexes of archives.

use std::fmt;
use std::io::{self, Read, Write};

use flate2::{Compress, Crc, Decompress, FlushCompress};

use super::compression::Compression;
use super::error::CompressionError;
use super::{gzip, lz4, zstd};

/// Content bytes per LZ4 block of a stream; and how much is written to the writer below at once.
const PIECE: usize = 1 << 20;
/// How much is read from the reader below at once.
const READ: usize = 64 << 10;

/// Compresses what is written to it into one frame. [`finish`](Self::finish) must be called: without it the frame
/// has no end.
///
/// No unit of the frame is made before a megabyte is there or the content ends (GZIP and ZSTD decide for
/// themselves, and take more than 32 bytes): upstream reads the first 32 bytes of a state in one go and fails
/// when the first unit holds less.
pub struct FrameWriter<W> {
    inner: W,
    encoder: Encoder,
    /// Compressed bytes not yet written.
    out: Vec<u8>,
}

enum Encoder {
    None,
    Lz4 { block: Vec<u8>, checksum: lz4::Checksum },
    Gzip { deflate: Box<Compress>, crc: Crc },
    Zstd { level: i32, encoder: Option<zstd::StreamEncoder> },
}

impl<W: Write> FrameWriter<W> {
    /// Starts a frame in `inner`.
    pub fn new(compression: Compression, inner: W) -> Self {
        let mut out = Vec::new();
        let encoder = match compression {
            Compression::None => Encoder::None,
            Compression::Lz4 => {
                out.extend_from_slice(&lz4::HEADER);
                Encoder::Lz4 { block: Vec::new(), checksum: lz4::Checksum::new() }
            }
            Compression::Gzip => {
                out.extend_from_slice(&gzip::HEADER);
                Encoder::Gzip { deflate: Box::new(gzip::new_deflate()), crc: Crc::new() }
            }
            Compression::Zstd { level } => Encoder::Zstd { level, encoder: None },
        };
        Self { inner, encoder, out }
    }

    fn put(&mut self) -> io::Result<()> {
        self.inner.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// Ends the frame and returns what was written into. Does not flush it.
    pub fn finish(mut self) -> io::Result<W> {
        match &mut self.encoder {
            Encoder::None => {}
            Encoder::Lz4 { block, checksum } => {
                if !block.is_empty() {
                    lz4::compress_block(block, &mut self.out);
                }
                self.out.extend_from_slice(&[0; 4]);
                self.out.extend_from_slice(&checksum.finish());
            }
            Encoder::Gzip { deflate, crc } => {
                gzip::deflate_into(deflate, b"", FlushCompress::Finish, &mut self.out);
                self.out.extend_from_slice(&gzip::trailer(crc));
            }
            Encoder::Zstd { encoder, .. } => {
                if let Some(encoder) = encoder {
                    encoder.finish(&mut self.out);
                }
            }
        }
        self.put()?;
        Ok(self.inner)
    }
}

impl<W: Write> Write for FrameWriter<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let data = &data[..data.len().min(PIECE)];
        let taken = match &mut self.encoder {
            Encoder::None => return self.inner.write(data),
            Encoder::Lz4 { block, checksum } => {
                block.reserve_exact(PIECE - block.len());
                let data = &data[..data.len().min(PIECE - block.len())];
                block.extend_from_slice(data);
                checksum.update(data);
                if block.len() == PIECE {
                    lz4::compress_block(block, &mut self.out);
                    block.clear();
                }
                data.len()
            }
            Encoder::Gzip { deflate, crc } => {
                gzip::deflate_into(deflate, data, FlushCompress::None, &mut self.out);
                crc.update(data);
                data.len()
            }
            // Empty content is no frame at all, so the frame begins with the first byte.
            Encoder::Zstd { .. } if data.is_empty() => 0,
            Encoder::Zstd { level, encoder } => {
                encoder.get_or_insert_with(|| zstd::StreamEncoder::new(*level)).write(data, &mut self.out);
                data.len()
            }
        };
        // An error here loses data that was reported as taken only if the caller goes on after it.
        if self.out.len() >= READ {
            self.put()?;
        }
        Ok(taken)
    }

    /// Does nothing: a small unit must not be forced.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W> fmt::Debug for FrameWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FrameWriter(…)")
    }
}

/// Decompresses one frame that fills the reader below.
///
/// Content is handed out before its checksum was seen: what must not be used unverified has to be authenticated by
/// another layer, as everything in a store is. Memory is bounded by two blocks of 4 MiB or a window of 8 MiB; the
/// length of the content is for the caller to bound. Errors of kind `InvalidData` carry a [`CompressionError`];
/// all others come from the reader below.
pub struct FrameReader<R> {
    source: Source<R>,
    decoder: Decoder,
    content: Vec<u8>,
    used: usize,
}

enum Decoder {
    None,
    Lz4Start,
    Lz4 {
        header: lz4::Header,
        checksum: lz4::Checksum,
        window: Vec<u8>,
        len: u64,
    },
    Gzip {
        inflate: Box<Decompress>,
        crc: Crc,
        members: u64,
        within: bool,
    },
    ZstdStart,
    Zstd(zstd::StreamDecoder),
    /// Nothing may follow.
    Ending(CompressionError),
    End,
    Failed(CompressionError),
}

impl<R: Read> FrameReader<R> {
    /// Starts reading a frame from `inner`, which must end where the frame ends.
    pub fn new(compression: Compression, inner: R) -> Self {
        let decoder = match compression {
            Compression::None => Decoder::None,
            Compression::Lz4 => Decoder::Lz4Start,
            Compression::Gzip => {
                let inflate = Box::new(gzip::new_inflate());
                Decoder::Gzip { inflate, crc: Crc::new(), members: 0, within: false }
            }
            Compression::Zstd { .. } => Decoder::ZstdStart,
        };
        let source = Source { inner, data: Vec::new(), at: 0, ended: false };
        Self { source, decoder, content: Vec::new(), used: 0 }
    }

    /// Returns the reader below.
    pub fn into_inner(self) -> R {
        self.source.inner
    }

    /// Decodes a little more into `content`, or moves to the next state.
    fn step(&mut self) -> io::Result<()> {
        let Self { source, decoder, content, .. } = self;
        let next = match decoder {
            Decoder::None | Decoder::End => None,
            Decoder::Failed(error) => return Err(error.clone().into()),
            Decoder::Lz4Start => Some(lz4_start(source)?),
            Decoder::Lz4 { header, checksum, window, len } => {
                lz4_step(source, header, checksum, window, len, content)?
                    .then_some(Decoder::Ending(lz4::TRAILING))
            }
            Decoder::Gzip { inflate, crc, members, within } => {
                gzip_step(source, inflate, crc, members, within, content)?.then_some(Decoder::End)
            }
            Decoder::ZstdStart => Some(match source.need(4)? {
                [] => Decoder::End,
                start => {
                    zstd::StreamDecoder::check_magic(start)?;
                    Decoder::Zstd(zstd::StreamDecoder::new())
                }
            }),
            Decoder::Zstd(decoder) => {
                let (used, over) = decoder.step(source.some()?, content)?;
                if used == 0 && !over && content.is_empty() && source.ended {
                    return Err(zstd::TRUNCATED.into());
                }
                source.at += used;
                over.then_some(Decoder::Ending(zstd::TRAILING))
            }
            Decoder::Ending(error) => {
                if !source.need(1)?.is_empty() {
                    return Err(error.clone().into());
                }
                Some(Decoder::End)
            }
        };
        if let Some(next) = next {
            *decoder = next;
        }
        Ok(())
    }
}

impl<R: Read> Read for FrameReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if matches!(self.decoder, Decoder::None) {
            return self.source.inner.read(out);
        }
        if out.is_empty() {
            return Ok(0);
        }
        while self.used == self.content.len() && !matches!(self.decoder, Decoder::End) {
            self.content.clear();
            self.used = 0;
            if let Err(error) = self.step() {
                if let Some(cause) = CompressionError::in_io(&error) {
                    self.decoder = Decoder::Failed(cause.clone());
                    self.content.clear();
                }
                return Err(error);
            }
        }
        let rest = &self.content[self.used..];
        let len = rest.len().min(out.len());
        out[..len].copy_from_slice(&rest[..len]);
        self.used += len;
        Ok(len)
    }
}

impl<R> fmt::Debug for FrameReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FrameReader(…)")
    }
}

fn lz4_start<R: Read>(source: &mut Source<R>) -> io::Result<Decoder> {
    let start = source.need(lz4::Header::MAX_LEN)?;
    let (header, len) = lz4::Header::parse(start)?.ok_or(lz4::TRUNCATED)?;
    source.at += len;
    Ok(Decoder::Lz4 { header, checksum: lz4::Checksum::new(), window: Vec::new(), len: 0 })
}

/// Decodes one block; returns whether the frame is over.
fn lz4_step<R: Read>(
    source: &mut Source<R>,
    header: &lz4::Header,
    checksum: &mut lz4::Checksum,
    window: &mut Vec<u8>,
    content_len: &mut u64,
    content: &mut Vec<u8>,
) -> io::Result<bool> {
    let word = |data: &[u8]| data.first_chunk().copied().ok_or(lz4::TRUNCATED);
    let Some((len, stored)) = header.block(word(source.need(4)?)?)? else {
        let trailer = if header.content_checksum { 8 } else { 4 };
        let end = source.need(trailer)?.get(4..trailer).ok_or(lz4::TRUNCATED)?;
        if header.content_checksum && end != checksum.finish() {
            return Err(lz4::CHECKSUM.into());
        }
        if header.content_size.is_some_and(|size| size != *content_len) {
            let what = "the content does not have the announced size";
            return Err(CompressionError::Malformed { algorithm: "LZ4", what }.into());
        }
        source.at += trailer;
        return Ok(true);
    };
    let whole = 4 + len + if header.block_checksums { 4 } else { 0 };
    let data = source.need(whole)?.get(4..whole).ok_or(lz4::TRUNCATED)?;
    let (block, block_checksum) = data.split_at(len);
    // A linked block refers to what came before it, so that is put in front for the time of decoding.
    std::mem::swap(window, content);
    let start = content.len();
    let decoded = lz4::append_block(block, stored, 0, header.block_max, content);
    decoded.map_err(|_| CompressionError::Malformed { algorithm: "LZ4", what: "a block does not decode" })?;
    if header.block_checksums {
        lz4::check_block(word(block_checksum)?, block, &content[start..])?;
    }
    source.at += whole;
    window.clear();
    if header.linked {
        window.extend_from_slice(&content[content.len().saturating_sub(lz4::WINDOW)..]);
    }
    content.drain(..start);
    checksum.update(content);
    *content_len += content.len() as u64;
    Ok(false)
}

/// Decodes some of a member, or moves to the next; returns whether all are over.
fn gzip_step<R: Read>(
    source: &mut Source<R>,
    inflate: &mut Decompress,
    crc: &mut Crc,
    members: &mut u64,
    within: &mut bool,
    content: &mut Vec<u8>,
) -> io::Result<bool> {
    if !*within {
        let mut wanted = 10;
        let len = loop {
            let start = source.need(wanted)?;
            if start.is_empty() && *members > 0 {
                return Ok(true);
            }
            let parsed = gzip::header_len(start);
            match parsed.map_err(|error| if *members > 0 { gzip::TRAILING } else { error })? {
                Some(len) => break len,
                None if start.len() < wanted || wanted > gzip::MAX_HEADER => {
                    return Err(gzip::TRUNCATED.into());
                }
                None => wanted *= 2,
            }
        };
        source.at += len;
        inflate.reset(false);
        crc.reset();
        *within = true;
        *members += 1;
    }
    let (used, end) = gzip::inflate_step(inflate, source.some()?, READ, content)?;
    source.at += used;
    crc.update(content);
    if end {
        let found: [u8; 8] = source.need(8)?.first_chunk().copied().ok_or(gzip::TRUNCATED)?;
        if found != gzip::trailer(crc) {
            return Err(gzip::CHECKSUM.into());
        }
        source.at += 8;
        *within = false;
    } else if used == 0 && content.is_empty() && source.ended {
        return Err(gzip::TRUNCATED.into());
    }
    Ok(false)
}

/// A reader with a look-ahead of as many bytes as one asks for.
struct Source<R> {
    inner: R,
    data: Vec<u8>,
    at: usize,
    ended: bool,
}

impl<R: Read> Source<R> {
    /// Returns what lies ahead: at least `len` bytes unless the reader ends before. Uses nothing up.
    fn need(&mut self, len: usize) -> io::Result<&[u8]> {
        if self.data.len() - self.at < len && !self.ended {
            self.data.drain(..self.at);
            self.at = 0;
        }
        while self.data.len() - self.at < len && !self.ended {
            let missing = (len - (self.data.len() - self.at)).max(READ);
            let read = (&mut self.inner).take(missing as u64).read_to_end(&mut self.data)?;
            self.ended = read < missing;
        }
        Ok(&self.data[self.at..])
    }

    /// Returns what lies ahead: at least a byte unless the reader ends before.
    fn some(&mut self) -> io::Result<&[u8]> {
        self.need(1)
    }
}
