//! Zstandard frames (RFC 8878).
//!
//! Written as upstream's newer versions do: content checksum, no content size, no dictionary, a window of at most
//! 8 MiB, and nothing at all for empty content.

use std::cell::RefCell;

use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, compress_bound};

use super::error::CompressionError;

const NAME: &str = "ZSTD";
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The largest window that is written (by level 19), and that a stream may ask for: 8 MiB.
const MAX_WINDOW_LOG: u32 = 23;
/// The largest content of a block.
const MAX_BLOCK: u64 = 128 << 10;
/// The library's error codes, which its header declares stable.
const WINDOW_TOO_LARGE: usize = 0_usize.wrapping_sub(16);
const CHECKSUM_WRONG: usize = 0_usize.wrapping_sub(22);
const DST_SIZE_TOO_SMALL: usize = 0_usize.wrapping_sub(70);

const fn malformed(what: &'static str) -> CompressionError {
    CompressionError::Malformed { algorithm: NAME, what }
}

pub(super) const TRUNCATED: CompressionError = CompressionError::Truncated { algorithm: NAME };
pub(super) const TRAILING: CompressionError = CompressionError::Trailing { algorithm: NAME };
const NOT_A_FRAME: CompressionError = malformed("it does not begin with the magic number");

/// Up to this many bytes a fast level is not asked for its best.
const SMALL: usize = 1024;
/// The level for small data when the level for the rest is at most [`FAST`].
///
/// Why: entries and objects, of which there is one a file, are mostly ids. Level 1 takes 5 % off them and three to four
/// times as long (of an entry of an S3 object 448 bytes in 10 µs instead of 474 in 3), most of it for tables of a code
/// that then saves next to nothing.
const SMALL_LEVEL: i32 = -1;
/// The highest level that is asked for because it is fast.
const FAST: i32 = 3;

thread_local! {
    /// The contexts of this thread, for small data and for all other, with the levels they are set to. Allocating
    /// one per blob would cost more than the blob.
    static ENCODERS: RefCell<[Option<(i32, CCtx<'static>)>; 2]> = const { RefCell::new([None, None]) };
    static DECODER: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

/// Makes a context that writes canonical frames.
pub(super) fn encoder(level: i32) -> CCtx<'static> {
    let mut context = CCtx::create();
    let mut set = |parameter| {
        context.set_parameter(parameter).expect("the parameter is within the library's bounds");
    };
    set(CParameter::CompressionLevel(level));
    set(CParameter::ChecksumFlag(true));
    set(CParameter::ContentSizeFlag(false));
    context
}

/// Appends one frame.
pub(super) fn compress(level: i32, data: &[u8], out: &mut Vec<u8>) {
    if data.is_empty() {
        return;
    }
    let small = data.len() <= SMALL && level <= FAST;
    let level = if small { level.min(SMALL_LEVEL) } else { level };
    ENCODERS.with_borrow_mut(|kept| {
        let kept = &mut kept[usize::from(small)];
        let context = match kept {
            Some((of_level, context)) if *of_level == level => context,
            _ => &mut kept.insert((level, encoder(level))).1,
        };
        let at = out.len();
        out.reserve(compress_bound(data.len()));
        let mut target = OutBuffer::around_pos(out, at);
        let mut source = InBuffer::around(data);
        let end = zstd_safe::zstd_sys::ZSTD_EndDirective::ZSTD_e_end;
        let left = context.compress_stream2(&mut target, &mut source, end);
        assert_eq!(left, Ok(0), "the buffer has the maximum output size");
    });
}

/// What the header of a frame says.
struct Header {
    len: usize,
    window: u64,
    content_size: Option<u64>,
    checksum: bool,
    dictionary: bool,
}

impl Header {
    /// Reads the header of a frame.
    fn parse(data: &[u8]) -> Result<Self, CompressionError> {
        let (magic, rest) = data.split_first_chunk::<4>().ok_or(TRUNCATED)?;
        if *magic != MAGIC {
            return Err(NOT_A_FRAME);
        }
        let (&descriptor, mut rest) = rest.split_first().ok_or(TRUNCATED)?;
        if descriptor & 0b1000 != 0 {
            return Err(malformed("a reserved bit is set"));
        }
        let single_segment = descriptor & 0b10_0000 != 0;
        let mut window = 0;
        if !single_segment {
            let (&byte, after) = rest.split_first().ok_or(TRUNCATED)?;
            let base = 1_u64 << (10 + (byte >> 3));
            window = base + base / 8 * u64::from(byte & 7);
            rest = after;
        }
        let dictionary = take_number(&mut rest, [0, 1, 2, 4][usize::from(descriptor & 0b11)])?;
        let size_bytes = match descriptor >> 6 {
            0 => usize::from(single_segment),
            code => 1 << code,
        };
        let mut content_size = (size_bytes != 0).then_some(take_number(&mut rest, size_bytes)?);
        if size_bytes == 2 {
            content_size = content_size.map(|size| size + 256);
        }
        if single_segment {
            window = content_size.unwrap_or(0);
        }
        Ok(Self {
            len: data.len() - rest.len(),
            window,
            content_size,
            checksum: descriptor & 0b100 != 0,
            dictionary: dictionary != 0,
        })
    }
}

fn take_number(rest: &mut &[u8], len: usize) -> Result<u64, CompressionError> {
    let (bytes, after) = rest.split_at_checked(len).ok_or(TRUNCATED)?;
    *rest = after;
    let mut number = [0; 8];
    number[..len].copy_from_slice(bytes);
    Ok(u64::from_le_bytes(number))
}

/// Walks the blocks of the frame at the start of `data`: its header, its length, and a bound on its content.
fn measure(data: &[u8]) -> Result<(Header, usize, u64), CompressionError> {
    let header = Header::parse(data)?;
    let (mut at, mut bound) = (header.len, 0_u64);
    loop {
        let word = data.get(at..).and_then(|rest| rest.first_chunk::<3>()).ok_or(TRUNCATED)?;
        let word = u32::from_le_bytes([word[0], word[1], word[2], 0]);
        let size = (word >> 3) as usize;
        let (stored, content) = match word >> 1 & 0b11 {
            0 => (size, size as u64),
            1 => (1, size as u64),
            2 => (size, MAX_BLOCK.min(header.window)),
            _ => return Err(malformed("a block has a reserved type")),
        };
        bound += content;
        at += 3 + stored;
        if at > data.len() {
            return Err(TRUNCATED);
        }
        if word & 1 != 0 {
            break;
        }
    }
    if header.checksum {
        at += 4;
    }
    if at > data.len() {
        return Err(TRUNCATED);
    }
    if let Some(size) = header.content_size {
        bound = bound.min(size);
    }
    Ok((header, at, bound))
}

/// Appends the content of one frame that fills `data`, or of no frame at all; at most `limit` bytes.
pub(super) fn decompress(data: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CompressionError> {
    if data.is_empty() {
        return Ok(());
    }
    let (header, len, bound) = measure(data)?;
    if header.dictionary {
        return Err(malformed("it needs a dictionary"));
    }
    if len != data.len() {
        return Err(TRAILING);
    }
    if header.content_size.is_some_and(|size| size > limit as u64) {
        return Err(CompressionError::TooLong { limit });
    }
    let room = limit.min(usize::try_from(bound).unwrap_or(usize::MAX));
    if !out.is_empty() {
        // The library decodes to the start of a buffer only.
        let mut content = Vec::new();
        decode(data, room, limit, &mut content)?;
        out.extend_from_slice(&content);
        return Ok(());
    }
    decode(data, room, limit, out)
}

/// Decodes to the start of `out`, which is empty.
fn decode(data: &[u8], room: usize, limit: usize, out: &mut Vec<u8>) -> Result<(), CompressionError> {
    out.reserve(room);
    let decoded = DECODER.with_borrow_mut(|context| context.decompress(out, data));
    match decoded {
        Ok(_) if out.len() > limit => Err(CompressionError::TooLong { limit }),
        Ok(_) => Ok(()),
        Err(DST_SIZE_TOO_SMALL) => Err(CompressionError::TooLong { limit }),
        Err(code) => Err(error(code)),
    }
}

fn error(code: usize) -> CompressionError {
    match code {
        CHECKSUM_WRONG => CompressionError::Checksum { algorithm: NAME },
        WINDOW_TOO_LARGE => malformed("its window is larger than 8 MiB"),
        _ => malformed("a block does not decode"),
    }
}

/// See [`Compression::is_single_canonical_frame`](super::Compression::is_single_canonical_frame).
pub(super) fn is_canonical(data: &[u8]) -> bool {
    if data.is_empty() {
        return true;
    }
    let Ok((header, len, _)) = measure(data) else { return false };
    len == data.len()
        && header.checksum
        && header.content_size.is_none()
        && !header.dictionary
        && header.window <= 1 << MAX_WINDOW_LOG
}

/// Writes one frame piece by piece.
pub(super) struct StreamEncoder(CCtx<'static>);

impl StreamEncoder {
    pub(super) fn new(level: i32) -> Self {
        Self(encoder(level))
    }

    /// Compresses all of `data` and appends what is ready.
    pub(super) fn write(&mut self, data: &[u8], out: &mut Vec<u8>) {
        let mut source = InBuffer::around(data);
        while source.pos() < data.len() {
            self.step(&mut source, zstd_safe::zstd_sys::ZSTD_EndDirective::ZSTD_e_continue, out);
        }
    }

    /// Appends the rest of the frame.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        let mut source = InBuffer::around(b"");
        while self.step(&mut source, zstd_safe::zstd_sys::ZSTD_EndDirective::ZSTD_e_end, out) != 0 {}
    }

    fn step(
        &mut self,
        source: &mut InBuffer<'_>,
        directive: zstd_safe::zstd_sys::ZSTD_EndDirective,
        out: &mut Vec<u8>,
    ) -> usize {
        out.reserve(CCtx::out_size());
        let at = out.len();
        let mut target = OutBuffer::around_pos(out, at);
        self.0
            .compress_stream2(&mut target, source, directive)
            .expect("memory is the only thing that can fail")
    }
}

/// Reads one frame piece by piece.
pub(super) struct StreamDecoder(DCtx<'static>);

impl StreamDecoder {
    pub(super) fn new() -> Self {
        let mut context = DCtx::create();
        context.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG)).expect("within the library's bounds");
        Self(context)
    }

    /// Rejects what is not a frame, given its first four bytes: the library would skip skippable frames.
    pub(super) fn check_magic(start: &[u8]) -> Result<(), CompressionError> {
        if start.first_chunk() == Some(&MAGIC) { Ok(()) } else { Err(NOT_A_FRAME) }
    }

    /// Appends some content; returns how much of `data` was used and whether the frame is over.
    pub(super) fn step(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(usize, bool), CompressionError> {
        out.reserve(DCtx::out_size());
        let at = out.len();
        let mut source = InBuffer::around(data);
        let hint =
            self.0.decompress_stream(&mut OutBuffer::around_pos(out, at), &mut source).map_err(error)?;
        Ok((source.pos(), hint == 0))
    }
}
