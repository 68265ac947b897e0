//! The fixed fields of a header block: POSIX.1-1988 ustar, and GNU's own use of its end.

use std::ops::Range;

/// The length of a block.
pub(super) const BLOCK: usize = 512;

/// A header block, or any other.
pub(super) type Block = [u8; BLOCK];

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const TYPE: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..263;
const USER: Range<usize> = 265..297;
const GROUP: Range<usize> = 297..329;
const PREFIX: Range<usize> = 345..500;

/// What a header block says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Fields {
    pub(super) name: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) size: u64,
    pub(super) mtime: i64,
    pub(super) kind: u8,
    pub(super) link: Vec<u8>,
    pub(super) user: Vec<u8>,
    pub(super) group: Vec<u8>,
}

/// Returns whether a block is all zeros: two of them end an archive.
pub(super) fn is_zero(block: &Block) -> bool {
    block.iter().all(|byte| *byte == 0)
}

/// Reads a header block; an error says what is wrong with it.
pub(super) fn parse(block: &Block) -> Result<Fields, &'static str> {
    let sum = |block: &Block| -> (u64, i64) {
        let bytes = block.iter().enumerate();
        bytes.fold((0, 0), |(unsigned, signed), (at, byte)| {
            let byte = if CHECKSUM.contains(&at) { b' ' } else { *byte };
            (unsigned + u64::from(byte), signed + i64::from(byte.cast_signed()))
        })
    };
    let told = number(&block[CHECKSUM]).ok_or("the checksum of a header is no number")?;
    let (unsigned, signed) = sum(block);
    // Some old programs summed up signed characters.
    if told != i128::from(unsigned) && told != i128::from(signed) {
        return Err("the checksum of a header is wrong");
    }
    let field = |range: Range<usize>| number(&block[range]);
    let unsigned = |range| field(range).and_then(|value| u64::try_from(value).ok());
    let ustar = block[MAGIC].starts_with(b"ustar");
    let posix = &block[MAGIC] == b"ustar\0";
    let mut name = text(&block[NAME]).to_vec();
    let prefix = text(&block[PREFIX]);
    if posix && !prefix.is_empty() {
        name = [prefix, b"/", &name].concat();
    }
    let named = |range: Range<usize>| if ustar { text(&block[range]).to_vec() } else { Vec::new() };
    Ok(Fields {
        name,
        mode: u32::try_from(field(MODE).ok_or("a mode is no number")? & 0o7777).expect("twelve bits"),
        // Numbers that do not fit stand in extended headers.
        uid: unsigned(UID).unwrap_or(0),
        gid: unsigned(GID).unwrap_or(0),
        size: unsigned(SIZE).ok_or("a size is no number")?,
        mtime: i64::try_from(field(MTIME).ok_or("a time is no number")?)
            .map_err(|_| "a time is out of range")?,
        kind: block[TYPE],
        link: text(&block[LINK]).to_vec(),
        user: named(USER),
        group: named(GROUP),
    })
}

/// Returns a field up to its first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Reads a number: octal digits between blanks, or, where the first bit is set, GNU's binary numbers, big end first.
pub(super) fn number(field: &[u8]) -> Option<i128> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        // Of the first byte seven bits are left, whose highest is the sign.
        let start = i128::from((first << 1).cast_signed() >> 1);
        let mut value = start;
        for byte in &field[1..] {
            value = value.checked_mul(256)?.checked_add(i128::from(*byte))?;
        }
        return Some(value);
    }
    let blank = |byte: &u8| *byte == b' ' || *byte == 0;
    let start = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    let mut value = 0_i128;
    for digit in &digits[..end] {
        if !(b'0'..=b'7').contains(digit) {
            return None;
        }
        value = value * 8 + i128::from(digit - b'0');
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_in_two_forms() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"77777777777"), Some(0o77_777_777_777));
        assert_eq!(number(b"\0\0\0\0"), Some(0));
        assert_eq!(number(b"0000648\0"), None);
        assert_eq!(number(b"-644"), None);
        assert_eq!(number(b"\x80\0\0\0\0\0\0\0\0\0\x01\0"), Some(256));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe"), Some(-2));
        assert_eq!(number(b"\x80\0\0\0\xff\xff\xff\xff"), Some(0xffff_ffff));
        assert_eq!(number(b""), None);
    }

    #[test]
    fn a_block_without_its_checksum_is_no_header() {
        let mut block = [0; BLOCK];
        block[..4].copy_from_slice(b"name");
        block[100..107].copy_from_slice(b"0000644");
        assert_eq!(parse(&block), Err("the checksum of a header is wrong"));
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
        let fields = parse(&block).unwrap();
        assert_eq!((fields.name.as_slice(), fields.mode, fields.size), (&b"name"[..], 0o644, 0));
        block[0] = b'x';
        assert!(parse(&block).is_err());
    }
}
