//! LZ4 frames (LZ4 Frame Format 1.6.x) over the block codec of `lz4_flex`.
//!
//! The framing is our own because upstream's quirks must be read, byte for byte: a stored block of length zero is
//! not the end of the frame, and the end mark is four zero bytes.

use std::cell::RefCell;
use std::hash::Hasher;

use lz4_flex::block::{
    CompressTable, DecompressError, compress_into_with_table, decompress_into, decompress_into_with_dict,
    get_maximum_output_size,
};
use twox_hash::XxHash32;

use super::error::CompressionError;

const NAME: &str = "LZ4";
/// Magic, FLG `64`, BD `70` and the header checksum of every frame that is written: independent blocks of at most
/// 4 MiB, content checksum, no content size.
pub(super) const HEADER: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x64, 0x70, 0xb9];
const STORED: u32 = 1 << 31;
/// The largest block of the frames that are written.
const BLOCK: usize = 4 << 20;
/// How far back a linked block may refer.
pub(super) const WINDOW: usize = 64 << 10;
/// Below this length a table of 16-bit places will do, which takes half the time to clear.
const SMALL: usize = u16::MAX as usize;

const fn malformed(what: &'static str) -> CompressionError {
    CompressionError::Malformed { algorithm: NAME, what }
}

pub(super) const TRUNCATED: CompressionError = CompressionError::Truncated { algorithm: NAME };
pub(super) const CHECKSUM: CompressionError = CompressionError::Checksum { algorithm: NAME };
pub(super) const TRAILING: CompressionError = CompressionError::Trailing { algorithm: NAME };

struct Tables {
    small: CompressTable,
    large: CompressTable,
}

thread_local! {
    static TABLES: RefCell<Tables> =
        RefCell::new(Tables { small: CompressTable::small(), large: CompressTable::large() });
}

/// Appends one frame.
pub(super) fn compress(data: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&HEADER);
    for block in data.chunks(BLOCK) {
        compress_block(block, out);
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&XxHash32::oneshot(0, data).to_le_bytes());
}

/// Appends one block with its length, stored where compression would not shrink it.
pub(super) fn compress_block(block: &[u8], out: &mut Vec<u8>) {
    let at = out.len();
    out.resize(at + 4 + get_maximum_output_size(block.len()), 0);
    let compressed = TABLES.with_borrow_mut(|tables| {
        let table = if block.len() < SMALL { &mut tables.small } else { &mut tables.large };
        compress_into_with_table(block, &mut out[at + 4..], table)
    });
    let compressed = compressed.expect("the buffer has the maximum output size");
    let len = |len: usize| u32::try_from(len).expect("blocks have at most 4 MiB");
    let word = if compressed < block.len() {
        out.truncate(at + 4 + compressed);
        len(compressed)
    } else {
        out.truncate(at + 4);
        out.extend_from_slice(block);
        len(block.len()) | STORED
    };
    out[at..at + 4].copy_from_slice(&word.to_le_bytes());
}

/// What the descriptor of a frame says.
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub(super) linked: bool,
    pub(super) block_checksums: bool,
    pub(super) content_checksum: bool,
    pub(super) content_size: Option<u64>,
    pub(super) block_max: usize,
}

impl Header {
    /// The longest header without a dictionary: magic, FLG, BD, content size, checksum.
    pub(super) const MAX_LEN: usize = 15;

    /// Reads a header and its length; `None` when `data` holds only a part of it.
    pub(super) fn parse(data: &[u8]) -> Result<Option<(Self, usize)>, CompressionError> {
        let Some((magic, rest)) = data.split_first_chunk::<4>() else { return Ok(None) };
        if magic != &HEADER[..4] {
            return Err(malformed("it does not begin with the magic number"));
        }
        let &[flags, sizes, ..] = rest else { return Ok(None) };
        if flags >> 6 != 1 || flags & 0b10 != 0 || sizes & 0b1000_1111 != 0 {
            return Err(malformed("reserved bits are set or the version is unknown"));
        }
        if flags & 1 != 0 {
            return Err(malformed("it needs a dictionary"));
        }
        let block_max = match sizes >> 4 {
            code @ 4..=7 => 1 << (8 + 2 * code),
            _ => return Err(malformed("the maximum block size is unknown")),
        };
        let descriptor = if flags & 0b1000 == 0 { 2 } else { 10 };
        let (Some(described), Some(&checksum)) = (rest.get(..descriptor), rest.get(descriptor)) else {
            return Ok(None);
        };
        if XxHash32::oneshot(0, described).to_le_bytes()[1] != checksum {
            return Err(malformed("the header checksum does not fit"));
        }
        let content_size =
            described.get(2..).and_then(|size| size.first_chunk()).map(|size| u64::from_le_bytes(*size));
        let header = Self {
            linked: flags & 0b10_0000 == 0,
            block_checksums: flags & 0b1_0000 != 0,
            content_checksum: flags & 0b100 != 0,
            content_size,
            block_max,
        };
        Ok(Some((header, 4 + descriptor + 1)))
    }

    /// Reads the word before a block: its length and whether it is stored; `None` for the end mark.
    pub(super) fn block(&self, word: [u8; 4]) -> Result<Option<(usize, bool)>, CompressionError> {
        let word = u32::from_le_bytes(word);
        if word == 0 {
            return Ok(None);
        }
        let len = (word & !STORED) as usize;
        if len > self.block_max {
            return Err(malformed("a block is longer than the frame allows"));
        }
        Ok(Some((len, word & STORED != 0)))
    }
}

/// Appends the content of one frame that fills `data`, at most `limit` bytes.
pub(super) fn decompress(data: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let (header, len) = Header::parse(data)?.ok_or(TRUNCATED)?;
    let mut rest = &data[len..];
    let start = out.len();
    while let Some((len, stored)) = header.block(*take(&mut rest)?)? {
        let (block, after) = rest.split_at_checked(len).ok_or(TRUNCATED)?;
        rest = after;
        let room = header.block_max.min(limit - (out.len() - start));
        let window = if header.linked { start.max(out.len().saturating_sub(WINDOW)) } else { out.len() };
        let at = out.len();
        append_block(block, stored, window, room, out).map_err(|error| match error {
            BlockError::Malformed => malformed("a block does not decode"),
            BlockError::NoRoom if room < header.block_max => CompressionError::TooLong { limit },
            BlockError::NoRoom => malformed("a block decodes to more than the frame allows"),
        })?;
        if header.block_checksums {
            check_block(*take(&mut rest)?, block, &out[at..])?;
        }
    }
    let content = &out[start..];
    if header.content_checksum && XxHash32::oneshot(0, content).to_le_bytes() != *take(&mut rest)? {
        return Err(CHECKSUM);
    }
    if header.content_size.is_some_and(|size| size != content.len() as u64) {
        return Err(malformed("the content does not have the announced size"));
    }
    if rest.is_empty() { Ok(()) } else { Err(TRAILING) }
}

fn take<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8; 4], CompressionError> {
    let (word, after) = rest.split_first_chunk().ok_or(TRUNCATED)?;
    *rest = after;
    Ok(word)
}

/// Compares a block checksum. The specification computes it over the block as it stands in the frame, upstream's
/// library over its content: both are taken.
pub(super) fn check_block(expected: [u8; 4], block: &[u8], content: &[u8]) -> Result<(), CompressionError> {
    let fits = |data| XxHash32::oneshot(0, data).to_le_bytes() == expected;
    if fits(block) || fits(content) { Ok(()) } else { Err(CHECKSUM) }
}

pub(super) enum BlockError {
    Malformed,
    /// It decodes to more than there is room for.
    NoRoom,
}

/// Appends the content of one block, at most `room` bytes. A match may reach back to `out[window..]`.
pub(super) fn append_block(
    block: &[u8],
    stored: bool,
    window: usize,
    room: usize,
    out: &mut Vec<u8>,
) -> Result<(), BlockError> {
    if stored {
        if block.len() > room {
            return Err(BlockError::NoRoom);
        }
        out.extend_from_slice(block);
        return Ok(());
    }
    // Where much more room is given than a block is likely to need, its sequences are walked to find out, for
    // clearing megabytes costs more than decoding a small block.
    let len = if room <= 16 * block.len() + 4096 {
        room
    } else {
        content_len(block).ok_or(BlockError::Malformed)?
    };
    if len > room {
        return Err(BlockError::NoRoom);
    }
    let at = out.len();
    out.resize(at + len, 0);
    let (before, target) = out.split_at_mut(at);
    let decoded = match &before[window..] {
        [] => decompress_into(block, target),
        dictionary => decompress_into_with_dict(block, target, dictionary),
    };
    match decoded {
        Ok(len) => {
            out.truncate(at + len);
            Ok(())
        }
        Err(error) => {
            out.truncate(at);
            let no_room = matches!(error, DecompressError::OutputTooSmall { .. });
            Err(if no_room { BlockError::NoRoom } else { BlockError::Malformed })
        }
    }
}

/// Adds up the literals and matches of a block; `None` where it is malformed.
fn content_len(block: &[u8]) -> Option<usize> {
    let mut bytes = block.iter();
    let mut len = 0_usize;
    loop {
        let token = *bytes.next()?;
        let literals = extended(token >> 4, &mut bytes)?;
        len = len.checked_add(literals)?;
        if literals > 0 {
            bytes.nth(literals - 1)?;
        }
        if bytes.as_slice().is_empty() {
            return Some(len);
        }
        bytes.nth(1)?;
        len = len.checked_add(extended(token & 15, &mut bytes)? + 4)?;
    }
}

/// A length of four bits that 15 extends by the bytes that follow.
fn extended(bits: u8, bytes: &mut std::slice::Iter<'_, u8>) -> Option<usize> {
    let mut len = usize::from(bits);
    if bits == 15 {
        loop {
            let more = *bytes.next()?;
            len += usize::from(more);
            if more != 255 {
                break;
            }
        }
    }
    Some(len)
}

/// See [`Compression::is_single_canonical_frame`](super::Compression::is_single_canonical_frame).
pub(super) fn is_canonical(data: &[u8]) -> bool {
    let Ok(Some((header, len))) = Header::parse(data) else { return false };
    let Some(mut rest) = data.strip_prefix(&HEADER).filter(|_| len == HEADER.len()) else { return false };
    loop {
        let Some((word, after)) = rest.split_first_chunk() else { return false };
        match header.block(*word) {
            Ok(None) => return after.len() == 4,
            Ok(Some((len, _))) if (1..=after.len()).contains(&len) => rest = &after[len..],
            _ => return false,
        }
    }
}

/// A content checksum in progress.
pub(super) struct Checksum(XxHash32);

impl Checksum {
    pub(super) fn new() -> Self {
        Self(XxHash32::with_seed(0))
    }

    pub(super) fn update(&mut self, content: &[u8]) {
        self.0.write(content);
    }

    pub(super) fn finish(&self) -> [u8; 4] {
        self.0.finish_32().to_le_bytes()
    }
}
