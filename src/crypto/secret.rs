//! Secrets that wipe themselves and do not show themselves.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A byte string that must not be seen: a passphrase, a credential, the content of a key file.
///
/// Wiped when dropped, redacted in `Debug`, compared in constant time (lengths apart).
#[derive(Clone, Default, Zeroize, ZeroizeOnDrop)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes over the bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Returns the bytes; the caller must not copy them into anything that outlives their use.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl From<&[u8]> for Secret {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A 32-byte key. Wiped when dropped, redacted in `Debug`, compared in constant time.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; 32]);

impl Key {
    /// Takes over the bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Makes a new key from the randomness of the operating system.
    pub fn random() -> Self {
        let mut key = Self([0; 32]);
        super::random::fill(&mut key.0);
        key
    }

    /// Returns the bytes; the caller must not copy them into anything that outlives their use.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Gives the buffer to a function that fills it.
    pub(super) fn fill_with<E>(fill: impl FnOnce(&mut [u8; 32]) -> Result<(), E>) -> Result<Self, E> {
        let mut key = Self([0; 32]);
        fill(&mut key.0)?;
        Ok(key)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Key {}

impl From<[u8; 32]> for Key {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let secret = Secret::new(b"hunter2".to_vec());
        assert_eq!(format!("{secret:?} {:?}", Key::new([0x41; 32])), "Secret(…) Key(…)");
    }

    #[test]
    fn comparison_sees_every_byte() {
        let key = Key::random();
        assert_eq!(key, key.clone());
        for at in 0..32 {
            let mut other = *key.as_bytes();
            other[at] ^= 1;
            assert_ne!(key, Key::new(other));
        }
        assert_ne!(Secret::new(b"ab".to_vec()), Secret::new(b"abc".to_vec()));
        assert_eq!(Secret::from(String::from("ab")), Secret::from(b"ab".as_slice()));
    }
}
