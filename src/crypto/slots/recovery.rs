//! Recovery keys: 20 random bytes for paper.
//!
//! Written as `PKR1-` and 40 Crockford base-32 characters in 8 groups of 5: the secret and five bytes of
//! K("recovery checksum", secret), so that a slip of the pen is found before any slot is tried.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::crypto::native::derive;
use crate::crypto::{Key, random};

const PREFIX: &str = "PKR1";
const SECRET: usize = 20;
const CHECKSUM: usize = 5;
/// Crockford's digits: no I, L, O, U.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A recovery key. Wiped when dropped, redacted in `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct RecoveryKey([u8; SECRET]);

/// A text is not a recovery key. Never says what the text was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryKeyError {
    /// It does not begin with `PKR1`.
    #[error("a recovery key begins with PKR1-")]
    Prefix,
    /// It holds something that is not a digit of Crockford's base 32.
    #[error("character {at} of the recovery key is none of the characters that recovery keys use")]
    Character {
        /// Which character after the prefix, counted from 1, `-` and spaces not counted.
        at: usize,
    },
    /// It does not have 40 characters.
    #[error("a recovery key has 40 characters after PKR1, this has {found}")]
    Length {
        /// How many it has.
        found: usize,
    },
    /// It was mistyped.
    #[error("the recovery key was mistyped: its checksum does not fit")]
    Checksum,
}

impl RecoveryKey {
    /// Makes a new key.
    pub fn random() -> Self {
        let mut secret = [0; SECRET];
        random::fill(&mut secret);
        Self(secret)
    }

    /// Takes over 20 bytes, for vectors.
    #[doc(hidden)]
    pub const fn from_bytes(secret: [u8; SECRET]) -> Self {
        Self(secret)
    }

    /// Reads a key as a person writes it: case, `-` and spaces do not matter, I and L are 1, O is 0.
    pub fn decode(text: &str) -> Result<Self, RecoveryKeyError> {
        let mut signs = text.chars().filter(|sign| !sign.is_whitespace() && *sign != '-');
        for expected in PREFIX.chars() {
            let sign = signs.next().ok_or(RecoveryKeyError::Prefix)?;
            if plain(sign) != plain(expected) {
                return Err(RecoveryKeyError::Prefix);
            }
        }
        let mut bytes = Zeroizing::new([0; SECRET + CHECKSUM]);
        let mut found = 0;
        for sign in signs {
            found += 1;
            let value = digit(sign).ok_or(RecoveryKeyError::Character { at: found })?;
            let bit = (found - 1) * 5;
            for offset in 0..5 {
                if let Some(byte) = bytes.get_mut((bit + offset) / 8) {
                    *byte |= (value >> (4 - offset) & 1) << (7 - (bit + offset) % 8);
                }
            }
        }
        if found != (SECRET + CHECKSUM) * 8 / 5 {
            return Err(RecoveryKeyError::Length { found });
        }
        let (secret, checksum) = bytes.split_first_chunk().expect("25 is more than 20");
        let key = Self(*secret);
        if bool::from(key.checksum().ct_eq(checksum)) { Ok(key) } else { Err(RecoveryKeyError::Checksum) }
    }

    /// Writes the key as a person reads it: `PKR1-` and eight groups of five. The text is the secret.
    pub fn encode(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0; SECRET + CHECKSUM]);
        bytes[..SECRET].copy_from_slice(&self.0);
        bytes[SECRET..].copy_from_slice(&self.checksum());
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + 48));
        text.push_str(PREFIX);
        for group in bytes
            .chunks_exact(5)
            .flat_map(|five| {
                let mut bits = five.iter().fold(0_u64, |bits, &byte| bits << 8 | u64::from(byte));
                bits <<= 24;
                (0..8).map(move |at| bits << (5 * at) >> 59)
            })
            .enumerate()
        {
            if group.0 % 5 == 0 {
                text.push('-');
            }
            text.push(char::from(DIGITS[usize::try_from(group.1).expect("below 32")]));
        }
        text
    }

    /// K("recovery ikm", secret ‖ Salt).
    pub(super) fn ikm(&self, salt: &[u8]) -> Key {
        derive("recovery ikm", &[&self.0, salt])
    }

    fn checksum(&self) -> [u8; CHECKSUM] {
        let key = derive("recovery checksum", &[&self.0]);
        *key.as_bytes().first_chunk().expect("5 is less than 32")
    }
}

/// Folds what people confuse.
fn plain(sign: char) -> char {
    match sign.to_ascii_uppercase() {
        'I' | 'L' => '1',
        'O' => '0',
        other => other,
    }
}

fn digit(sign: char) -> Option<u8> {
    let sign = u8::try_from(plain(sign)).ok()?;
    DIGITS.iter().position(|&digit| digit == sign).and_then(|at| u8::try_from(at).ok())
}

impl fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryKey(…)")
    }
}
