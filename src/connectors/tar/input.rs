//! The archive's bytes: read once in order, and what is content again at any place.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use crate::base::spill::SpillCipher;
use crate::base::sys::FileAt as _;
use crate::base::{At as _, Cancel};
use crate::connector::{Error, ErrorKind, Result};
use crate::connectors::pipe::Pipe;
use crate::crypto::spill::RunCipher;

use super::fields::{BLOCK, Block};

/// Plain bytes in a block of the spool.
const SPOOL_BLOCK: usize = 64 << 10;

/// Where contents can be read again.
#[derive(Clone)]
pub(super) enum Store {
    /// In the archive itself.
    Archive(Arc<File>),
    /// In a temporary file, sealed.
    Spool(Arc<File>, Arc<dyn SpillCipher>),
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Archive(_) => "Archive",
            Self::Spool(..) => "Spool",
        })
    }
}

impl Store {
    /// Reads from an offset, at most to the end of a block; `block` is the caller's, to be used again.
    pub(super) fn read_at(
        &self,
        offset: u64,
        buffer: &mut [u8],
        block: &mut SpoolBlock,
    ) -> io::Result<usize> {
        match self {
            Self::Archive(file) => file.read_at(buffer, offset),
            Self::Spool(file, cipher) => {
                let size = SPOOL_BLOCK as u64;
                let (index, within) = (offset / size, usize::try_from(offset % size).expect("64 KiB"));
                if block.index != Some(index) {
                    block.index = None;
                    let sealed = SPOOL_BLOCK + cipher.overhead();
                    block.bytes.resize(sealed, 0);
                    let mut filled = 0;
                    // The last block is shorter.
                    while filled < sealed {
                        let at = index * sealed as u64 + filled as u64;
                        match file.read_at(&mut block.bytes[filled..], at) {
                            Ok(0) => break,
                            Ok(read) => filled += read,
                            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                            Err(error) => return Err(error),
                        }
                    }
                    block.bytes.truncate(filled);
                    if !cipher.open_block(index, &mut block.bytes) {
                        return Err(io::Error::other("a temporary file changed while it was in use"));
                    }
                    block.index = Some(index);
                }
                let ready = block.bytes.get(within..).unwrap_or_default();
                let length = ready.len().min(buffer.len());
                buffer[..length].copy_from_slice(&ready[..length]);
                Ok(length)
            }
        }
    }
}

/// A block of the spool, opened.
#[derive(Debug, Default)]
pub(super) struct SpoolBlock {
    index: Option<u64>,
    bytes: Vec<u8>,
}

/// A spool in the making.
struct Spooling {
    file: Arc<File>,
    cipher: Arc<dyn SpillCipher>,
    block: Vec<u8>,
    /// Plain bytes so far, those in the block included.
    length: u64,
}

impl Spooling {
    fn create() -> Result<Self> {
        let folder = std::env::temp_dir();
        let file = tempfile::tempfile_in(&folder).at("create a temporary file in", &folder)?;
        Ok(Self { file: Arc::new(file), cipher: RunCipher::shared(), block: Vec::new(), length: 0 })
    }

    fn push(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(SPOOL_BLOCK - self.block.len()));
            self.block.extend_from_slice(now);
            self.length += now.len() as u64;
            bytes = later;
            if self.block.len() == SPOOL_BLOCK {
                self.write()?;
            }
        }
        Ok(())
    }

    /// Writes the block at hand. All but the last are full.
    fn write(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let index = (self.length - 1) / SPOOL_BLOCK as u64;
        self.cipher.seal_block(index, &mut self.block);
        let sealed = (SPOOL_BLOCK + self.cipher.overhead()) as u64;
        self.file.write_all_at(&self.block, index * sealed)?;
        self.block.clear();
        Ok(())
    }
}

enum From {
    File { reader: BufReader<File>, length: u64 },
    Stream { reader: Box<dyn Read + Send>, spool: Spooling },
}

/// The archive while it is read in order.
pub(super) struct Input {
    from: From,
    /// What is read, for errors.
    target: String,
    position: u64,
    cancel: Cancel,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Input({} at {})", self.target, self.position)
    }
}

impl Input {
    /// Opens an archive, `-` for standard input. Compression is recognised by the first bytes.
    pub(super) fn open(path: &Path, cancel: &Cancel) -> Result<Self> {
        let cancel = cancel.clone();
        if path.as_os_str() == "-" {
            let target = "standard input".to_owned();
            let pipe = Pipe::open(&cancel).map_err(|error| Error::io("read", &target, error))?;
            let reader = decompressed(BufReader::with_capacity(1 << 16, pipe), &target)?;
            return Ok(Self {
                from: From::Stream { reader, spool: Spooling::create()? },
                target,
                position: 0,
                cancel,
            });
        }
        let target = path.display().to_string();
        let failed = |error| Error::io("open", &target, error);
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(Error::new(ErrorKind::Invalid, "open", target).detail("it is a folder"));
        }
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let head = reader.fill_buf().map_err(failed)?;
        let from = if metadata.is_file() && Compression::of(head, &target)?.is_none() {
            From::File { reader, length: metadata.len() }
        } else {
            From::Stream { reader: decompressed(reader, &target)?, spool: Spooling::create()? }
        };
        Ok(Self { from, target, position: 0, cancel })
    }

    /// Returns how many bytes of the archive, decompressed, were read.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Creates an error about the archive as it is.
    pub(super) fn malformed(&self, detail: &str) -> Error {
        // No kind that would be taken for damage of the store.
        Error::new(ErrorKind::Io, "read the archive", &self.target)
            .detail(format!("{detail}, at byte {}", self.position))
    }

    fn failed(&self, error: io::Error) -> Error {
        if self.cancel.is_cancelled() {
            return Error::new(ErrorKind::Cancelled, "read", &self.target);
        }
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return self.broken_off();
        }
        let detail = format!("at byte {} of its content", self.position);
        Error::new(ErrorKind::Io, "read the archive", &self.target).detail(detail).because(error)
    }

    fn broken_off(&self) -> Error {
        self.malformed("it breaks off")
    }

    /// Reads a block; `false` when there is none at all.
    pub(super) fn block(&mut self, block: &mut Block) -> Result<bool> {
        if self.cancel.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "read", &self.target));
        }
        match self.fill(block)? {
            0 => Ok(false),
            BLOCK => Ok(true),
            _ => Err(self.broken_off()),
        }
    }

    /// Fills a buffer as far as there is something.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let reader: &mut dyn Read = match &mut self.from {
                From::File { reader, .. } => reader,
                From::Stream { reader, .. } => reader,
            };
            match reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => {
                    filled += read;
                    self.position += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(filled)
    }

    /// Reads so many bytes and the padding behind them.
    pub(super) fn bytes(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        if self.fill(&mut bytes)? < length {
            return Err(self.broken_off());
        }
        self.padding(length as u64)?;
        Ok(bytes)
    }

    fn padding(&mut self, length: u64) -> Result<()> {
        let mut rest = [0; BLOCK];
        let rest =
            &mut rest[..usize::try_from(length.next_multiple_of(BLOCK as u64) - length).expect("below 512")];
        if self.fill(rest)? == rest.len() { Ok(()) } else { Err(self.broken_off()) }
    }

    /// Passes a content; returns where it can be read again.
    pub(super) fn content(&mut self, length: u64) -> Result<u64> {
        if let From::File { reader, length: whole } = &mut self.from {
            let start = self.position;
            let end = start.checked_add(length).and_then(|end| end.checked_next_multiple_of(BLOCK as u64));
            // What does not reach the end of its last block breaks off, too.
            let Some(end) = end.filter(|end| end <= whole) else { return Err(self.broken_off()) };
            let skip = i64::try_from(end - start).expect("within a file");
            if let Err(error) = reader.seek_relative(skip) {
                return Err(self.failed(error));
            }
            self.position = end;
            return Ok(start);
        }
        let start = self.spooled();
        let mut left = length;
        let mut buffer = vec![0; usize::try_from(length.min(SPOOL_BLOCK as u64)).expect("64 KiB")];
        while left > 0 {
            if self.cancel.is_cancelled() {
                return Err(Error::new(ErrorKind::Cancelled, "read", &self.target));
            }
            let part = usize::try_from(left.min(buffer.len() as u64)).expect("64 KiB");
            if self.fill(&mut buffer[..part])? < part {
                return Err(self.broken_off());
            }
            self.spool(&buffer[..part])?;
            left -= part as u64;
        }
        self.padding(length)?;
        Ok(start)
    }

    fn spooled(&self) -> u64 {
        match &self.from {
            From::File { .. } => 0,
            From::Stream { spool, .. } => spool.length,
        }
    }

    fn spool(&mut self, bytes: &[u8]) -> Result<()> {
        let From::Stream { spool, .. } = &mut self.from else { return Ok(()) };
        spool.push(bytes).at("write a temporary file in", std::env::temp_dir())?;
        Ok(())
    }

    /// Reads what is behind the end marker, so that whoever writes is not cut off and a decompressor sees its end.
    /// Returns where the first byte stands that is not zero.
    pub(super) fn drain(&mut self) -> Result<Option<u64>> {
        let is_file = matches!(self.from, From::File { .. });
        let mut buffer = vec![0; SPOOL_BLOCK];
        let mut found = None;
        loop {
            let start = self.position;
            let filled = self.fill(&mut buffer)?;
            let more = buffer[..filled].iter().position(|byte| *byte != 0);
            found = found.or(more.map(|at| start + at as u64));
            if filled == 0 || is_file && found.is_some() {
                return Ok(found);
            }
            if self.cancel.is_cancelled() {
                return Err(Error::new(ErrorKind::Cancelled, "read", &self.target));
            }
        }
    }

    /// Ends the reading in order.
    pub(super) fn finish(self) -> Result<Store> {
        match self.from {
            From::File { reader, .. } => Ok(Store::Archive(Arc::new(reader.into_inner()))),
            From::Stream { mut spool, .. } => {
                spool.write().at("write a temporary file in", std::env::temp_dir())?;
                Ok(Store::Spool(spool.file, spool.cipher))
            }
        }
    }
}

/// What an archive may be compressed by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    fn is_none(self) -> bool {
        self == Self::None
    }

    /// Recognises a compression by the first bytes.
    fn of(head: &[u8], target: &str) -> Result<Self> {
        let other = |name: &str, command: &str| {
            Err(Error::new(ErrorKind::Unsupported, "read the archive", target).detail(format!(
                "it is compressed by {name}: {command} {target} | plakar at STORE backup tar:-"
            )))
        };
        match head {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Self::Zstd),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => other("bzip2", "bzip2 -dc"),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => other("xz", "xz -dc"),
            _ => Ok(Self::None),
        }
    }
}

/// Decompresses what comes, if it is compressed. A pipe may give its first bytes one by one.
fn decompressed(mut reader: impl Read + Send + 'static, target: &str) -> Result<Box<dyn Read + Send>> {
    let failed = |error| Error::io("read", target, error);
    let mut head = Vec::new();
    reader.by_ref().take(BLOCK as u64).read_to_end(&mut head).map_err(failed)?;
    let compression = Compression::of(&head, target)?;
    let whole = BufReader::with_capacity(1 << 16, io::Cursor::new(head).chain(reader));
    Ok(match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(whole).map_err(failed)?),
    })
}
