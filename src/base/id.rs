//! The 32-byte identifier of everything in a store.

use std::fmt;

/// A 32-byte identifier: a MAC, a snapshot id, or the name of a resource.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Id(pub [u8; 32]);

impl Id {
    /// 32 zero bytes: "unset" wherever the format has no other way to say so.
    pub const ZERO: Self = Self([0; 32]);
    /// The length of an identifier in bytes.
    pub const LEN: usize = 32;

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns whether all bytes are zero.
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 32]
    }

    /// Parses exactly 64 hexadecimal digits, upper or lower case.
    pub fn from_hex(text: impl AsRef<[u8]>) -> Option<Self> {
        let text = text.as_ref();
        if text.len() != 64 {
            return None;
        }
        let digit = |c: u8| (c as char).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(out))
    }

    /// Returns the 64 lower-case hexadecimal digits.
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }

    /// Returns the first eight hexadecimal digits, for people.
    pub fn short(&self) -> String {
        self.to_hex()[..8].to_owned()
    }
}

/// Returns lower-case hexadecimal digits, two a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(half.into(), 16).expect("half a byte is one digit");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({self})")
    }
}

impl From<[u8; 32]> for Id {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trip() {
        let id = Id(std::array::from_fn(|i| u8::try_from(i * 7).unwrap()));
        assert_eq!(Id::from_hex(id.to_hex()), Some(id));
        assert_eq!(Id::from_hex(&id.to_hex()[1..]), None);
        assert_eq!(Id::from_hex("g".repeat(64)), None);
    }
}
