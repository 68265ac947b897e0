//! The `.ptar` container: one file with a CONFIG, a packfile and a state.
//!
//! | part | length |
//! |---|---|
//! | `_PLATAR_`, version (u32) | 12 |
//! | CONFIG resource | c |
//! | packfile resource | p |
//! | state resource | s |
//! | offset and length of each, in this order, i64 | 48 |

use super::config::MAX_CONFIG_LEN;
use super::error::{Error, Result};
use super::version::Version;
use super::wrapper;
use crate::base::Id;

const WHAT: &str = "archive";
const MAGIC: [u8; 8] = *b"_PLATAR_";

/// The length of magic and version in bytes.
pub const HEAD_LEN: usize = 12;
/// The length of the table at the end in bytes.
pub const TRAILER_LEN: usize = 48;

/// The id that the container's only state is known under.
pub const STATE_ID: Id = Id([
    15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
]);
/// The id that the container's only packfile is known under. The state inside uses another, random one.
pub const PACKFILE_ID: Id = Id([
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
]);

/// One section of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Section {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
}

impl Section {
    /// Returns where the section ends; sections are checked not to overflow.
    pub fn end(self) -> u64 {
        self.offset + self.length
    }
}

/// Where the sections lie. Of a parsed one it is known that the sections tile the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The CONFIG resource.
    pub config: Section,
    /// The packfile resource.
    pub packfile: Section,
    /// The state resource.
    pub state: Section,
}

impl Layout {
    /// Computes the layout of sections of these lengths, which must add up to less than 2^63.
    pub fn new(config: u64, packfile: u64, state: u64) -> Self {
        let config = Section { offset: HEAD_LEN as u64, length: config };
        let packfile = Section { offset: config.end(), length: packfile };
        let state = Section { offset: packfile.end(), length: state };
        Self { config, packfile, state }
    }

    /// Returns the length of the whole file in bytes.
    pub fn file_len(&self) -> u64 {
        self.state.end() + TRAILER_LEN as u64
    }

    /// Encodes the table at the end of the file.
    pub fn encode_trailer(&self) -> [u8; TRAILER_LEN] {
        let mut out = [0; TRAILER_LEN];
        let sections = [self.config, self.packfile, self.state];
        let numbers = sections.into_iter().flat_map(|section| [section.offset, section.length]);
        for (field, number) in out.as_chunks_mut::<8>().0.iter_mut().zip(numbers) {
            *field = number.to_le_bytes();
        }
        out
    }

    /// Decodes the table at the end of a file of `file_len` bytes, checking that the sections tile the file and
    /// that each can hold a resource.
    pub fn parse(trailer: &[u8; TRAILER_LEN], file_len: u64) -> Result<Self> {
        let numbers: [u64; 6] = std::array::from_fn(|i| u64::from_le_bytes(trailer.as_chunks::<8>().0[i]));
        let [.., config, _, packfile, _, state] = numbers;
        let least = (wrapper::HEADER_LEN + wrapper::TRAILER_LEN) as u64;
        if config > MAX_CONFIG_LEN as u64 {
            return Err(Error::malformed(WHAT, format!("a CONFIG of {config} bytes")));
        }
        for length in [config, packfile, state] {
            if length < least || length > file_len {
                return Err(Error::malformed(WHAT, format!("a section of {length} bytes in {file_len}")));
            }
        }
        // Three lengths of at most `file_len` each: only a file of more than 2^61 bytes could overflow.
        if file_len > 1 << 61 {
            return Err(Error::malformed(WHAT, format!("a file of {file_len} bytes")));
        }
        let layout = Self::new(config, packfile, state);
        if layout.encode_trailer() != *trailer || layout.file_len() != file_len {
            return Err(Error::malformed(WHAT, "its sections do not tile the file"));
        }
        Ok(layout)
    }
}

/// Encodes magic and version.
pub fn head() -> [u8; HEAD_LEN] {
    let mut out = [0; HEAD_LEN];
    out[..8].copy_from_slice(&MAGIC);
    out[8..].copy_from_slice(&Version::V1_0_0.0.to_le_bytes());
    out
}

/// Checks magic and version.
pub fn check_head(bytes: &[u8; HEAD_LEN]) -> Result<()> {
    let (magic, version) = bytes.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(Error::malformed(WHAT, "it does not begin with _PLATAR_"));
    }
    let found = Version(u32::from_le_bytes(std::array::from_fn(|i| version[i])));
    if found.readable_by(Version::V1_0_0) { Ok(()) } else { Err(Error::Version { what: WHAT, found }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_round_trip() {
        let layout = Layout::new(299, 11_713, 3_606);
        assert_eq!(layout.file_len(), 15_678);
        assert_eq!(Layout::parse(&layout.encode_trailer(), 15_678).unwrap(), layout);
        check_head(&head()).unwrap();
        assert_eq!(STATE_ID.to_hex(), "0f0e0d0c0b0a09080706050403020100".to_owned() + &"00".repeat(16));
        assert_eq!(PACKFILE_ID.to_hex(), "000102030405060708090a0b0c0d0e0f".to_owned() + &"00".repeat(16));
    }

    #[test]
    fn sections_that_do_not_tile_are_refused() {
        let good = Layout::new(299, 11_713, 3_606);
        assert!(Layout::parse(&good.encode_trailer(), 15_679).is_err());
        let mut moved = good;
        moved.packfile.offset += 1;
        assert!(Layout::parse(&moved.encode_trailer(), 15_678).is_err());
        for bad in
            [Layout::new(47, 11_713, 3_606), Layout::new(32_769, 11_713, 3_606), Layout::new(299, 0, 3_606)]
        {
            assert!(Layout::parse(&bad.encode_trailer(), bad.file_len()).is_err());
        }
        let mut huge = good.encode_trailer();
        huge[24..32].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(Layout::parse(&huge, u64::MAX).is_err());
        assert!(matches!(check_head(b"_PLATAR_\0\0\x02\0"), Err(Error::Version { .. })));
        assert!(check_head(b"_KLOSET_\0\0\x01\0").is_err());
    }
}
