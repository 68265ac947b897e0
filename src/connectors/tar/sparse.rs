//! Sparse files: which parts of one stand in the archive.
//!
//! GNU tar has four ways to say it ("Storing Sparse Files" of its manual): in the header block and blocks behind it,
//! and three formats of extended headers, the last of which puts the map before the content.

use super::fields::{Block, number};
use super::pax::decimal;

/// The most parts of one file. Each takes 24 bytes of memory.
const MOST: usize = 1 << 17;

/// A part of a file that is stored: its offset and its length in bytes.
pub(super) type Piece = (u64, u64);

/// Pieces in a header block, and in a block that goes on.
const FIRST: (usize, usize) = (386, 4);
const GOES_ON: (usize, usize) = (0, 21);

/// What extended headers say of a sparse file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct SparseKeys {
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    major: Option<u64>,
    pieces: Vec<Piece>,
    offset: Option<u64>,
    mapped: bool,
}

impl SparseKeys {
    pub(super) fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        const WRONG: &str = "the map of a sparse file is malformed";
        let number = || decimal(value).ok_or(WRONG);
        match key {
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(number()?),
            b"major" => self.major = Some(number()?),
            b"numblocks" => self.mapped = true,
            b"offset" => self.offset = Some(number()?),
            b"numbytes" => {
                let offset = self.offset.take().ok_or(WRONG)?;
                push(&mut self.pieces, (offset, number()?))?;
                self.mapped = true;
            }
            b"map" => {
                self.pieces.clear();
                self.mapped = true;
                let mut numbers = value.split(|byte| *byte == b',').filter(|part| !part.is_empty());
                while let Some(offset) = numbers.next() {
                    let length = numbers.next().ok_or(WRONG)?;
                    push(&mut self.pieces, (decimal(offset).ok_or(WRONG)?, decimal(length).ok_or(WRONG)?))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns whether the map stands before the content.
    pub(super) fn is_in_content(&self) -> bool {
        self.major == Some(1)
    }

    /// Returns the map of the older formats.
    pub(super) fn map(&self) -> Option<&[Piece]> {
        (self.mapped && !self.is_in_content()).then_some(&self.pieces)
    }
}

fn push(pieces: &mut Vec<Piece>, piece: Piece) -> Result<(), &'static str> {
    if pieces.len() >= MOST {
        return Err("a sparse file has too many parts");
    }
    pieces.push(piece);
    Ok(())
}

/// Takes the pieces of GNU's header block, or of one that goes on; returns whether another one follows.
pub(super) fn of_block(block: &Block, is_first: bool, pieces: &mut Vec<Piece>) -> Result<bool, &'static str> {
    let (start, count) = if is_first { FIRST } else { GOES_ON };
    let value = |at: usize| number(&block[at..at + 12]).and_then(|value| u64::try_from(value).ok());
    for at in (start..).step_by(24).take(count) {
        // The list ends with an empty field.
        if block[at] == 0 {
            break;
        }
        let wrong = "the map of a sparse file is malformed";
        push(pieces, (value(at).ok_or(wrong)?, value(at + 12).ok_or(wrong)?))?;
    }
    Ok(block[start + 24 * count] != 0)
}

/// Returns the real size of a file that GNU's header block says.
pub(super) fn real_size(block: &Block) -> Option<u64> {
    number(&block[483..495]).and_then(|value| u64::try_from(value).ok())
}

/// A map that stands before the content, while it is read block by block.
#[derive(Debug, Default)]
pub(super) struct MapReader {
    numbers: Vec<u64>,
    digits: Vec<u8>,
}

impl MapReader {
    /// Takes a block; returns the map once it is whole.
    pub(super) fn take(&mut self, block: &Block) -> Result<Option<Vec<Piece>>, &'static str> {
        const WRONG: &str = "the map of a sparse file is malformed";
        for byte in block {
            match byte {
                b'\n' => {
                    self.numbers.push(decimal(&self.digits).ok_or(WRONG)?);
                    self.digits.clear();
                    let count = usize::try_from(self.numbers[0]).unwrap_or(usize::MAX);
                    if count > MOST {
                        return Err("a sparse file has too many parts");
                    }
                    if self.numbers.len() == 1 + 2 * count {
                        return Ok(Some(
                            self.numbers[1..].chunks_exact(2).map(|pair| (pair[0], pair[1])).collect(),
                        ));
                    }
                }
                digit if self.digits.len() < 20 => self.digits.push(*digit),
                _ => return Err(WRONG),
            }
        }
        Ok(None)
    }
}

/// Checks that pieces ascend, do not overlap, lie within the file and are as long as what is stored.
pub(super) fn check(pieces: &[Piece], size: u64, stored: u64) -> Result<(), &'static str> {
    let (mut end, mut sum) = (0_u64, 0_u64);
    for (offset, length) in pieces {
        let behind = offset.checked_add(*length).ok_or("a part of a sparse file has no end")?;
        if *offset < end || behind > size {
            return Err("the parts of a sparse file overlap, or lie behind its end");
        }
        end = behind;
        sum += length;
    }
    if sum == stored { Ok(()) } else { Err("the parts of a sparse file are not what is stored of it") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_checked_before_they_are_used() {
        assert!(check(&[(0, 10), (20, 5), (30, 0)], 30, 15).is_ok());
        assert!(check(&[], 100, 0).is_ok());
        for (pieces, size, stored) in [
            (&[(0, 10), (5, 5)][..], 30, 15),
            (&[(25, 10)], 30, 10),
            (&[(0, 10)], 30, 11),
            (&[(u64::MAX, 2)], u64::MAX, 2),
        ] {
            assert!(check(pieces, size, stored).is_err(), "{pieces:?}");
        }
    }

    #[test]
    fn all_four_ways_say_the_same() {
        let wanted = vec![(512, 3), (4096, 10)];
        let mut keys = SparseKeys::default();
        keys.set(b"map", b"512,3,4096,10").unwrap();
        assert_eq!(keys.map(), Some(&wanted[..]));
        let mut keys = SparseKeys::default();
        for (key, value) in [("offset", "512"), ("numbytes", "3"), ("offset", "4096"), ("numbytes", "10")] {
            keys.set(key.as_bytes(), value.as_bytes()).unwrap();
        }
        assert_eq!(keys.map(), Some(&wanted[..]));
        assert!(keys.set(b"numbytes", b"10").is_err() && keys.set(b"map", b"1").is_err());
        let mut block = [0; 512];
        block[..17].copy_from_slice(b"2\n512\n3\n4096\n10\n\0");
        assert_eq!(MapReader::default().take(&block), Ok(Some(wanted.clone())));
        block[..10].copy_from_slice(b"999999999\n");
        assert!(MapReader::default().take(&block).is_err());
        let mut block = [0; 512];
        for (at, (offset, length)) in [386, 410].into_iter().zip(&wanted) {
            block[at..at + 11].copy_from_slice(format!("{offset:011o}").as_bytes());
            block[at + 12..at + 23].copy_from_slice(format!("{length:011o}").as_bytes());
        }
        block[482] = 1;
        let mut pieces = Vec::new();
        assert_eq!(of_block(&block, true, &mut pieces), Ok(true));
        assert_eq!(pieces, wanted);
    }
}
