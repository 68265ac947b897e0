//! GZIP members (RFC 1952) over the deflate codec of `flate2`.

use std::cell::RefCell;

use flate2::{Compress, Crc, Decompress, FlushCompress, FlushDecompress, Status};

use super::error::CompressionError;

const NAME: &str = "GZIP";
/// No name, no time, unknown system: what upstream writes in front.
pub(super) const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// What upstream writes for empty content after the header: an empty stored block, checksum, length.
const EMPTY: [u8; 13] = [1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
const LEVEL: u32 = 6;
/// Space given to a call of the codec. It is cleared before, so large buffers would cost more than small blobs.
const SPACE: usize = 32 << 10;
/// The longest header that is accepted: extra field, name and comment are at the writer's discretion.
pub(super) const MAX_HEADER: usize = 128 << 10;

const fn malformed(what: &'static str) -> CompressionError {
    CompressionError::Malformed { algorithm: NAME, what }
}

pub(super) const TRUNCATED: CompressionError = CompressionError::Truncated { algorithm: NAME };
pub(super) const CHECKSUM: CompressionError = CompressionError::Checksum { algorithm: NAME };
pub(super) const TRAILING: CompressionError = CompressionError::Trailing { algorithm: NAME };
pub(super) const NOT_DEFLATE: CompressionError = malformed("the deflate data does not decode");

thread_local! {
    static DEFLATE: RefCell<Compress> = RefCell::new(new_deflate());
    static INFLATE: RefCell<Decompress> = RefCell::new(new_inflate());
}

pub(super) fn new_deflate() -> Compress {
    Compress::new(flate2::Compression::new(LEVEL), false)
}

pub(super) fn new_inflate() -> Decompress {
    Decompress::new(false)
}

/// Appends one member.
pub(super) fn compress(data: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&HEADER);
    if data.is_empty() {
        out.extend_from_slice(&EMPTY);
        return;
    }
    DEFLATE.with_borrow_mut(|deflate| {
        deflate.reset();
        deflate_into(deflate, data, FlushCompress::Finish, out);
    });
    let mut crc = Crc::new();
    crc.update(data);
    out.extend_from_slice(&trailer(&crc));
}

/// Feeds all of `data`, and on `Finish` writes all that is left.
pub(super) fn deflate_into(deflate: &mut Compress, mut data: &[u8], flush: FlushCompress, out: &mut Vec<u8>) {
    let finish = matches!(flush, FlushCompress::Finish);
    loop {
        let (at, taken) = (out.len(), deflate.total_in());
        out.resize(at + SPACE.min(data.len() + 1024), 0);
        let made = deflate.total_out();
        let status = deflate.compress(data, &mut out[at..], flush).expect("parameters are constant");
        out.truncate(at + moved(made, deflate.total_out()));
        data = &data[moved(taken, deflate.total_in())..];
        if status == Status::StreamEnd || (!finish && data.is_empty()) {
            return;
        }
    }
}

/// How far a counter of the codec went in one call.
fn moved(before: u64, after: u64) -> usize {
    usize::try_from(after - before).expect("no more than one buffer at a time")
}

/// Appends at most `room` bytes of the deflate stream that `data` continues; returns how much of `data` was used
/// and whether the stream is over.
pub(super) fn inflate_step(
    inflate: &mut Decompress,
    data: &[u8],
    room: usize,
    out: &mut Vec<u8>,
) -> Result<(usize, bool), CompressionError> {
    let (at, taken, made) = (out.len(), inflate.total_in(), inflate.total_out());
    out.resize(at + room, 0);
    let status = inflate.decompress(data, &mut out[at..], FlushDecompress::None);
    out.truncate(at + moved(made, inflate.total_out()));
    let status = status.map_err(|_| NOT_DEFLATE)?;
    Ok((moved(taken, inflate.total_in()), status == Status::StreamEnd))
}

/// crc32 ‖ length modulo 2^32.
pub(super) fn trailer(crc: &Crc) -> [u8; 8] {
    let mut trailer = [0; 8];
    trailer[..4].copy_from_slice(&crc.sum().to_le_bytes());
    trailer[4..].copy_from_slice(&crc.amount().to_le_bytes());
    trailer
}

/// Reads a member's header: its length, or `None` when `data` holds only a part of it.
pub(super) fn header_len(data: &[u8]) -> Result<Option<usize>, CompressionError> {
    let Some(fixed) = data.first_chunk::<10>() else {
        let known = data.len().min(3);
        return if data[..known] == HEADER[..known] { Ok(None) } else { Err(malformed("no gzip header")) };
    };
    let flags = fixed[3];
    if fixed[..3] != HEADER[..3] {
        return Err(malformed("no gzip header"));
    }
    if flags & 0b1110_0000 != 0 {
        return Err(malformed("reserved bits are set"));
    }
    let mut at = 10;
    if flags & 0b100 != 0 {
        let Some(len) = data.get(at..).and_then(|rest| rest.first_chunk()) else { return Ok(None) };
        at += 2 + usize::from(u16::from_le_bytes(*len));
    }
    for flag in [0b1000, 0b1_0000] {
        if flags & flag != 0 {
            let end = data.get(at..).and_then(|rest| rest.iter().position(|&byte| byte == 0));
            let Some(end) = end else { return Ok(None) };
            at += end + 1;
        }
    }
    if flags & 0b10 != 0 {
        at += 2;
    }
    Ok((at <= data.len()).then_some(at))
}

/// Appends the content of the members that fill `data`, at most `limit` bytes. Upstream takes several, so this does.
pub(super) fn decompress(data: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let start = out.len();
    let mut rest = data;
    loop {
        let len = header_len(rest).map_err(|error| if out.len() > start { TRAILING } else { error })?;
        rest = &rest[len.ok_or(TRUNCATED)?..];
        let at = out.len();
        let taken = INFLATE.with_borrow_mut(|inflate| inflate_into(inflate, rest, start, limit, out))?;
        let (trailer_found, after) = rest[taken..].split_first_chunk::<8>().ok_or(TRUNCATED)?;
        let mut crc = Crc::new();
        crc.update(&out[at..]);
        if *trailer_found != trailer(&crc) {
            return Err(CHECKSUM);
        }
        rest = after;
        if rest.is_empty() {
            return Ok(());
        }
    }
}

/// Appends one deflate stream and returns its length.
fn inflate_into(
    inflate: &mut Decompress,
    data: &[u8],
    start: usize,
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<usize, CompressionError> {
    inflate.reset(false);
    let mut taken = 0;
    loop {
        // One byte more than allowed tells too much from just enough.
        let left = (limit - (out.len() - start)).saturating_add(1);
        let at = out.len();
        let (used, end) = inflate_step(inflate, &data[taken..], left.min(SPACE), out)?;
        taken += used;
        if out.len() - start > limit {
            return Err(CompressionError::TooLong { limit });
        }
        if end {
            return Ok(taken);
        }
        if used == 0 && out.len() == at {
            return Err(TRUNCATED);
        }
    }
}

/// See [`Compression::is_single_canonical_frame`](super::Compression::is_single_canonical_frame). The end of a
/// deflate stream shows only when it is decoded, so it is, into nothing.
pub(super) fn is_canonical(data: &[u8]) -> bool {
    let Some((header, body)) = data.split_first_chunk::<10>() else { return false };
    // The byte before the last tells the level, or says nothing.
    if header[..8] != HEADER[..8] || !matches!(header[8], 0 | 2 | 4) {
        return false;
    }
    INFLATE.with_borrow_mut(|inflate| {
        inflate.reset(false);
        let (mut sink, mut taken) = (Vec::new(), 0);
        loop {
            sink.clear();
            match inflate_step(inflate, &body[taken..], SPACE, &mut sink) {
                Ok((used, true)) => return taken + used + 8 == body.len(),
                Ok((used, false)) if used > 0 || !sink.is_empty() => taken += used,
                _ => return false,
            }
        }
    })
}
