//! Reading any valid form.
#![expect(clippy::big_endian_bytes, reason = "msgpack is big-endian by definition")]

use crate::base::{Id, RawString, Timestamp};
use crate::format::error::{Error, Result};
use crate::format::version::Version;

/// Reads msgpack from a slice.
///
/// Null reads as the zero value of every type. Lengths are checked against the bytes that are left before
/// anything is allocated.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

/// One token: a scalar, or the header of something longer.
enum Token<'a> {
    Nil,
    Bool(bool),
    Uint(u64),
    Int(i64),
    Float(f64),
    Bytes(&'a [u8]),
    Array(usize),
    Map(usize),
    Ext(u8, &'a [u8]),
}

impl Token<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Nil => "null",
            Self::Bool(_) => "a boolean",
            Self::Uint(_) | Self::Int(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Bytes(_) => "a string",
            Self::Array(_) => "an array",
            Self::Map(_) => "a map",
            Self::Ext(..) => "an extension",
        }
    }
}

impl<'a> Reader<'a> {
    /// Creates a reader over the serialization of `what`, which errors will name.
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { rest: bytes, what }
    }

    /// Returns how many bytes are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Creates an error about the record being read.
    pub fn error(&self, detail: impl Into<String>) -> Error {
        Error::malformed(self.what, detail)
    }

    /// Ends the reading; bytes that are left are an error.
    pub fn finish(self) -> Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.error(format!("{} bytes after its end", self.rest.len())))
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        match self.rest.split_at_checked(len) {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(head)
            }
            None => Err(Error::truncated(self.what, len, self.rest.len())),
        }
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(*self.take(N)?.first_chunk().expect("N bytes were taken"))
    }

    /// Reads a big-endian length of `width` bytes.
    fn length(&mut self, width: usize) -> Result<usize> {
        let value = self.take(width)?.iter().fold(0u32, |value, &byte| value << 8 | u32::from(byte));
        usize::try_from(value).map_err(|_| self.error("a length past the address space"))
    }

    fn bytes_of(&mut self, width: usize) -> Result<Token<'a>> {
        let len = self.length(width)?;
        Ok(Token::Bytes(self.take(len)?))
    }

    /// Checks a count of items, of which each takes `each` bytes or more.
    fn count(&self, count: usize, each: usize) -> Result<usize> {
        if count > self.rest.len() / each {
            return Err(Error::truncated(self.what, count.saturating_mul(each), self.rest.len()));
        }
        Ok(count)
    }

    fn ext(&mut self, len: usize) -> Result<Token<'a>> {
        let [kind] = self.fixed()?;
        Ok(Token::Ext(kind, self.take(len)?))
    }

    fn token(&mut self) -> Result<Token<'a>> {
        let [tag] = self.fixed()?;
        Ok(match tag {
            0x00..=0x7f => Token::Uint(u64::from(tag)),
            0x80..=0x8f => Token::Map(self.count(usize::from(tag & 0x0f), 2)?),
            0x90..=0x9f => Token::Array(self.count(usize::from(tag & 0x0f), 1)?),
            0xa0..=0xbf => Token::Bytes(self.take(usize::from(tag & 0x1f))?),
            0xc0 => Token::Nil,
            0xc1 => return Err(self.error("the byte c1, which msgpack never uses")),
            0xc2 | 0xc3 => Token::Bool(tag == 0xc3),
            0xc4 | 0xd9 => self.bytes_of(1)?,
            0xc5 | 0xda => self.bytes_of(2)?,
            0xc6 | 0xdb => self.bytes_of(4)?,
            0xc7..=0xc9 => {
                let len = self.length(1 << (tag - 0xc7))?;
                self.ext(len)?
            }
            0xca => Token::Float(f64::from(f32::from_bits(u32::from_be_bytes(self.fixed()?)))),
            0xcb => Token::Float(f64::from_bits(u64::from_be_bytes(self.fixed()?))),
            0xcc => Token::Uint(u64::from(u8::from_be_bytes(self.fixed()?))),
            0xcd => Token::Uint(u64::from(u16::from_be_bytes(self.fixed()?))),
            0xce => Token::Uint(u64::from(u32::from_be_bytes(self.fixed()?))),
            0xcf => Token::Uint(u64::from_be_bytes(self.fixed()?)),
            0xd0 => Token::Int(i64::from(i8::from_be_bytes(self.fixed()?))),
            0xd1 => Token::Int(i64::from(i16::from_be_bytes(self.fixed()?))),
            0xd2 => Token::Int(i64::from(i32::from_be_bytes(self.fixed()?))),
            0xd3 => Token::Int(i64::from_be_bytes(self.fixed()?)),
            0xd4..=0xd8 => self.ext(1 << (tag - 0xd4))?,
            0xdc | 0xdd => {
                let len = self.length(2 << (tag - 0xdc))?;
                Token::Array(self.count(len, 1)?)
            }
            0xde | 0xdf => {
                let len = self.length(2 << (tag - 0xde))?;
                Token::Map(self.count(len, 2)?)
            }
            0xe0..=0xff => Token::Int(i64::from(i8::from_be_bytes([tag]))),
        })
    }

    fn unexpected<T>(&self, wanted: &str, token: &Token<'_>) -> Result<T> {
        Err(self.error(format!("{wanted} expected, {} found", token.name())))
    }

    /// Consumes a null, if that is what comes next.
    pub fn nil(&mut self) -> bool {
        match self.rest.split_first() {
            Some((0xc0, rest)) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Skips one value, whatever it is and however deep it goes.
    pub fn skip(&mut self) -> Result<()> {
        // Each pending value takes a byte at least, so `pending` is bounded by what is left.
        let mut pending = 1usize;
        while pending > 0 {
            pending -= 1;
            match self.token()? {
                Token::Array(len) => pending += len,
                Token::Map(len) => pending += 2 * len,
                _ => {}
            }
            if pending > self.rest.len() {
                return Err(Error::truncated(self.what, pending, self.rest.len()));
            }
        }
        Ok(())
    }

    /// Reads a non-negative integer of any width.
    pub fn u64(&mut self) -> Result<u64> {
        match self.token()? {
            Token::Nil => Ok(0),
            Token::Uint(value) => Ok(value),
            Token::Int(value) => {
                u64::try_from(value).map_err(|_| self.error(format!("{value} where no negative may be")))
            }
            other => self.unexpected("an integer", &other),
        }
    }

    /// Reads an integer of any width.
    pub fn i64(&mut self) -> Result<i64> {
        match self.token()? {
            Token::Nil => Ok(0),
            Token::Int(value) => Ok(value),
            Token::Uint(value) => {
                i64::try_from(value).map_err(|_| self.error(format!("{value} is too large")))
            }
            other => self.unexpected("an integer", &other),
        }
    }

    fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T> {
        let value = self.u64()?;
        T::try_from(value).map_err(|_| self.error(format!("{value} is too large")))
    }

    /// Reads a non-negative integer that fits 32 bits.
    pub fn u32(&mut self) -> Result<u32> {
        self.narrow()
    }

    /// Reads a non-negative integer that fits 16 bits.
    pub fn u16(&mut self) -> Result<u16> {
        self.narrow()
    }

    /// Reads a non-negative integer that fits 8 bits.
    pub fn u8(&mut self) -> Result<u8> {
        self.narrow()
    }

    /// Reads a version.
    pub fn version(&mut self) -> Result<Version> {
        self.u32().map(Version)
    }

    /// Reads a float, or an integer in its place.
    pub fn f64(&mut self) -> Result<f64> {
        match self.token()? {
            Token::Nil => Ok(0.0),
            Token::Float(value) => Ok(value),
            Token::Uint(value) => Ok(value as f64),
            Token::Int(value) => Ok(value as f64),
            other => self.unexpected("a float", &other),
        }
    }

    /// Reads a boolean.
    pub fn bool(&mut self) -> Result<bool> {
        match self.token()? {
            Token::Nil => Ok(false),
            Token::Bool(value) => Ok(value),
            other => self.unexpected("a boolean", &other),
        }
    }

    /// Reads a string or byte string; null is empty.
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        match self.token()? {
            Token::Nil => Ok(&[]),
            Token::Bytes(bytes) => Ok(bytes),
            other => self.unexpected("a string", &other),
        }
    }

    /// Reads a string that need not be UTF-8.
    pub fn raw(&mut self) -> Result<RawString> {
        self.bytes().map(RawString::from)
    }

    /// Reads a string that must be UTF-8: the name of an algorithm.
    pub fn text(&mut self) -> Result<String> {
        let bytes = self.bytes()?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.error(format!("\"{}\" is not text", bytes.escape_ascii()))),
        }
    }

    /// Reads exactly `N` bytes; null is zeros.
    pub fn array_of<const N: usize>(&mut self) -> Result<[u8; N]> {
        if self.nil() {
            return Ok([0; N]);
        }
        let bytes = self.bytes()?;
        match bytes.try_into() {
            Ok(array) => Ok(array),
            Err(_) => Err(self.error(format!("{} bytes where {N} belong", bytes.len()))),
        }
    }

    /// Reads an identifier; null is zeros.
    pub fn id(&mut self) -> Result<Id> {
        self.array_of().map(Id)
    }

    /// Decodes the body of a timestamp: 4, 8 or 12 bytes.
    fn time_of(&self, body: &[u8]) -> Result<(i64, u32)> {
        let number = |bytes: &[u8]| bytes.iter().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
        let small = |value: u64| u32::try_from(value).expect("32 bits at most");
        match body.len() {
            4 => Ok((number(body) as i64, 0)),
            8 => Ok(((number(body) & ((1 << 34) - 1)) as i64, small(number(body) >> 34))),
            12 => Ok((number(&body[4..]) as i64, small(number(&body[..4])))),
            len => Err(self.error(format!("a time of {len} bytes"))),
        }
    }

    /// Reads a timestamp in any of its three forms; null is the zero time.
    pub fn time(&mut self) -> Result<Timestamp> {
        let (secs, nanos) = match self.token()? {
            Token::Nil => return Ok(Timestamp::ZERO),
            Token::Ext(0xff, body) => self.time_of(body)?,
            other => return self.unexpected("a time", &other),
        };
        if nanos >= 1_000_000_000 {
            return Err(self.error(format!("a time with {nanos} nanoseconds")));
        }
        Ok(Timestamp { secs, nanos })
    }

    /// Reads the header of an array; `None` for null. The count was checked against the bytes that are left.
    pub fn array_or_nil(&mut self) -> Result<Option<usize>> {
        match self.token()? {
            Token::Nil => Ok(None),
            Token::Array(len) => Ok(Some(len)),
            other => self.unexpected("an array", &other),
        }
    }

    /// Reads an array, `None` for null.
    pub fn list_or_nil<T>(&mut self, mut each: impl FnMut(&mut Self) -> Result<T>) -> Result<Option<Vec<T>>> {
        let Some(len) = self.array_or_nil()? else { return Ok(None) };
        // An item takes one byte at least but may be much larger in memory, so growth follows the items read.
        let mut items = Vec::with_capacity(len.min(1024));
        for _ in 0..len {
            items.push(each(self)?);
        }
        Ok(Some(items))
    }

    /// Reads an array; null is empty.
    pub fn list<T>(&mut self, each: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        self.list_or_nil(each).map(Option::unwrap_or_default)
    }

    /// Reads a map, calling `each` with every key; it must read exactly one value. Null is an empty map.
    pub fn map(&mut self, mut each: impl FnMut(&'a [u8], &mut Self) -> Result<()>) -> Result<()> {
        let len = match self.token()? {
            Token::Nil => return Ok(()),
            Token::Map(len) => len,
            other => return self.unexpected("a map", &other),
        };
        for _ in 0..len {
            match self.token()? {
                Token::Bytes(key) => each(key, self)?,
                // A key that is no string is none that we know.
                Token::Array(_) | Token::Map(_) => return Err(self.error("a map key that is not a scalar")),
                _ => self.skip()?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::msgpack::Writer;

    fn reader(bytes: &[u8]) -> Reader<'_> {
        Reader::new("test", bytes)
    }

    #[test]
    fn integers_of_any_width_are_read() {
        for value in
            [0, 1, -1, -32, -33, 127, 128, -129, 40_000, -40_000, 1 << 33, -(1 << 33), i64::MIN, i64::MAX]
        {
            for fixed in [false, true] {
                let mut out = Vec::new();
                let mut writer = Writer::new(&mut out);
                if fixed {
                    writer.i64(value);
                } else {
                    writer.int(value);
                }
                assert_eq!(reader(&out).i64().unwrap(), value);
                assert_eq!(reader(&out).u64().ok(), u64::try_from(value).ok());
            }
        }
        assert!(reader(&[0xcd, 1, 0]).u8().is_err());
        assert_eq!(reader(&[0xd3, 0, 0, 0, 0, 0, 0, 0, 7]).u8().unwrap(), 7);
    }

    #[test]
    fn times_round_trip() {
        for time in [
            Timestamp::ZERO,
            Timestamp::EPOCH,
            Timestamp { secs: -1, nanos: 999_999_999 },
            Timestamp { secs: (1 << 34) - 1, nanos: 1 },
            Timestamp { secs: 1 << 34, nanos: 1 },
            Timestamp { secs: i64::MIN, nanos: 0 },
        ] {
            let mut out = Vec::new();
            Writer::new(&mut out).time(time);
            assert_eq!(reader(&out).time().unwrap(), time);
        }
        assert!(reader(&[0xd7, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]).time().is_err());
    }

    #[test]
    fn skipping_is_exact_and_never_recurses() {
        let mut deep = vec![0x91; 1 << 20];
        deep.extend_from_slice(&[0x07, 0x2a]);
        let mut r = reader(&deep);
        r.skip().unwrap();
        assert_eq!(r.u64().unwrap(), 0x2a);
        let mut bomb = Vec::new();
        for _ in 0..100 {
            bomb.extend_from_slice(&[0xdd, 0, 0, 0, 200]);
        }
        assert!(matches!(reader(&bomb).skip(), Err(Error::Truncated { .. })));
        let all = [
            0x83, 1, 0xc2, 0xa1, b'k', 0xca, 0, 0, 0, 0, 0xc0, 0xc7, 2, 5, 1, 2, // map with odd keys
        ];
        let mut r = reader(&all);
        r.skip().unwrap();
        r.finish().unwrap();
    }

    #[test]
    fn lengths_are_checked_first() {
        for bytes in [
            &[0xdd, 0xff, 0xff, 0xff, 0xff][..],
            &[0xdf, 0xff, 0xff, 0xff, 0xff, 0],
            &[0xc6, 0xff, 0xff, 0xff, 0xff],
            &[0xdb, 0, 0, 0, 2, 0],
            &[0xa5, b'x'],
            &[],
        ] {
            assert!(matches!(reader(bytes).skip(), Err(Error::Truncated { .. })), "{bytes:x?}");
        }
        assert!(matches!(reader(&[0xc1]).skip(), Err(Error::Malformed { .. })));
    }

    #[test]
    fn maps_skip_what_is_unknown() {
        let bytes = [0x83, 0xa1, b'x', 0x91, 0x01, 0x05, 0xc0, 0xa1, b'y', 0x02];
        let mut got = None;
        let mut r = reader(&bytes);
        r.map(|key, r| match key {
            b"y" => r.u64().map(|v| got = Some(v)),
            _ => r.skip(),
        })
        .unwrap();
        assert_eq!(got, Some(2));
    }

    #[test]
    fn null_is_the_zero_value() {
        assert_eq!(reader(&[0xc0]).id().unwrap(), Id::ZERO);
        assert_eq!(reader(&[0xc0]).list(Reader::u64).unwrap(), Vec::<u64>::new());
        assert_eq!(reader(&[0xc0]).time().unwrap(), Timestamp::ZERO);
        assert_eq!(reader(&[0xc0]).raw().unwrap(), RawString::new());
    }
}
