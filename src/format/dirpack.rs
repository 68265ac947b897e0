//! Dirpacks: all entries of one folder as one content.
//!
//! Per direct child, in byte order of the path: kind (u8: 1 folder, 2 anything else), length of the rest (u32), the
//! entry's serialization, its MAC (32 bytes).

use std::io::Read;

use super::error::{Error, Result};
use crate::base::Id;

const WHAT: &str = "dirpack";
const HEAD_LEN: usize = 5;

/// The longest frame that is read, in bytes: far above what names, attributes and metadata can add up to.
pub const MAX_FRAME_LEN: usize = 16 << 20;

/// What a frame says its entry is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FrameKind {
    /// A folder.
    Directory,
    /// Anything else.
    Other,
}

impl FrameKind {
    /// Returns the kind of a child.
    pub fn of(is_dir: bool) -> Self {
        if is_dir { Self::Directory } else { Self::Other }
    }

    fn number(self) -> u8 {
        match self {
            Self::Directory => 1,
            Self::Other => 2,
        }
    }

    fn from_number(number: u8) -> Result<Self> {
        match number {
            1 => Ok(Self::Directory),
            2 => Ok(Self::Other),
            _ => Err(Error::malformed(WHAT, format!("a frame of kind {number}"))),
        }
    }
}

/// One frame, borrowed from a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// What the entry is.
    pub kind: FrameKind,
    /// The entry's serialization.
    pub entry: &'a [u8],
    /// The MAC of the serialization: the entry's id; not verified yet.
    pub mac: Id,
}

/// Appends a frame. The entry must be shorter than [`MAX_FRAME_LEN`].
pub fn encode_frame(kind: FrameKind, entry: &[u8], mac: Id, out: &mut Vec<u8>) {
    let len = u32::try_from(entry.len() + Id::LEN).expect("an entry is shorter than 4 GiB");
    out.reserve(HEAD_LEN + entry.len() + Id::LEN);
    out.push(kind.number());
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(entry);
    out.extend_from_slice(mac.as_bytes());
}

/// Decodes the first five bytes of a frame: the kind, and the length of the rest.
fn parse_head(head: [u8; HEAD_LEN]) -> Result<(FrameKind, usize)> {
    let [kind, len @ ..] = head;
    let kind = FrameKind::from_number(kind)?;
    let len = usize::try_from(u32::from_le_bytes(len)).unwrap_or(usize::MAX);
    if !(Id::LEN..=MAX_FRAME_LEN).contains(&len) {
        return Err(Error::malformed(WHAT, format!("a frame of {len} bytes")));
    }
    Ok((kind, len))
}

fn split_body(kind: FrameKind, body: &[u8]) -> Frame<'_> {
    let (entry, mac) = body.split_last_chunk().expect("a frame holds a MAC at least");
    Frame { kind, entry, mac: Id(*mac) }
}

/// Iterates over the frames of a whole dirpack; ends after the first error.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Frames<'a> {
    /// Creates an iterator over a dirpack.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn frame(&mut self) -> Result<Frame<'a>> {
        let available = self.rest.len();
        let (head, rest) =
            self.rest.split_first_chunk().ok_or_else(|| Error::truncated(WHAT, HEAD_LEN, available))?;
        let (kind, len) = parse_head(*head)?;
        let (body, rest) =
            rest.split_at_checked(len).ok_or_else(|| Error::truncated(WHAT, len, rest.len()))?;
        self.rest = rest;
        Ok(split_body(kind, body))
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let frame = self.frame();
        if frame.is_err() {
            self.rest = &[];
        }
        Some(frame)
    }
}

/// Reads the frames of a dirpack from a stream, one at a time.
#[derive(Debug)]
pub struct FrameReader<R> {
    inner: R,
    body: Vec<u8>,
}

impl<R: Read> FrameReader<R> {
    /// Creates a reader. The stream is read in small pieces, so it should be buffered.
    pub fn new(inner: R) -> Self {
        Self { inner, body: Vec::new() }
    }

    /// Reads the next frame; `None` when the stream ends between frames.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>> {
        let mut head = [0; HEAD_LEN];
        if read_full(&mut self.inner, &mut head[..1])? == 0 {
            return Ok(None);
        }
        let got = read_full(&mut self.inner, &mut head[1..])?;
        if got < HEAD_LEN - 1 {
            return Err(Error::truncated(WHAT, HEAD_LEN, 1 + got));
        }
        let (kind, len) = parse_head(head)?;
        self.body.clear();
        // `take` lets the buffer grow with the bytes that really come, not with the length announced.
        let got = (&mut self.inner)
            .take(len as u64)
            .read_to_end(&mut self.body)
            .map_err(|source| Error::Io { what: WHAT, source })?;
        if got < len {
            return Err(Error::truncated(WHAT, len, got));
        }
        Ok(Some(split_body(kind, &self.body)))
    }

    /// Returns the stream.
    pub fn into_inner(self) -> R {
        self.inner
    }
}

/// Fills as much of the buffer as the stream has; returns how much that is.
fn read_full(stream: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) => return Err(Error::Io { what: WHAT, source }),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack() -> Vec<u8> {
        let mut out = Vec::new();
        encode_frame(FrameKind::Directory, b"one", Id([1; 32]), &mut out);
        encode_frame(FrameKind::Other, b"", Id([2; 32]), &mut out);
        out
    }

    #[test]
    fn frames_round_trip_through_both_readers() {
        let bytes = pack();
        assert_eq!(bytes[..8], *b"\x01\x23\0\0\0one");
        let frames: Vec<_> = Frames::new(&bytes).collect::<Result<_>>().unwrap();
        assert_eq!(frames.len(), 2);
        assert_eq!(frames[0], Frame { kind: FrameKind::Directory, entry: b"one", mac: Id([1; 32]) });
        let mut reader = FrameReader::new(&bytes[..]);
        for frame in frames {
            assert_eq!(reader.next_frame().unwrap(), Some(frame));
        }
        assert_eq!(reader.next_frame().unwrap(), None);
    }

    #[test]
    fn every_cut_inside_a_frame_is_noticed() {
        let bytes = pack();
        for len in 1..bytes.len() {
            let whole = len == 5 + 3 + 32;
            assert_eq!(Frames::new(&bytes[..len]).all(|frame| frame.is_ok()), whole, "{len}");
            let mut reader = FrameReader::new(&bytes[..len]);
            let result = loop {
                match reader.next_frame() {
                    Ok(Some(_)) => {}
                    Ok(None) => break true,
                    Err(_) => break false,
                }
            };
            assert_eq!(result, whole, "{len}");
        }
    }

    #[test]
    fn bad_kinds_and_lengths_are_refused() {
        for (at, byte) in [(0, 0), (0, 3), (1, 31), (4, 2)] {
            let mut bytes = pack();
            bytes[at] = byte;
            let mut frames = Frames::new(&bytes);
            assert!(frames.next().unwrap().is_err());
            assert!(frames.next().is_none());
        }
    }
}
