//! The two hashes of the format and their keyed forms (FORMAT.md, hashes and MACs).
//!
//! | name | `hash(x)` | `MacKey::mac(x)` |
//! |---|---|---|
//! | `BLAKE3` | BLAKE3, 32 bytes | BLAKE3 keyed mode |
//! | `SHA256` | SHA-256 | HMAC-SHA-256 |

use std::fmt;
use std::io;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::base::Id;

/// A hash algorithm that a configuration can name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum HashAlgorithm {
    /// BLAKE3 with 32 bytes of output.
    Blake3,
    /// SHA-256, and HMAC-SHA-256 where a key is involved.
    Sha256,
}

impl HashAlgorithm {
    /// Finds the algorithm of a configuration's `Hashing.Algorithm`; names are case-sensitive.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "BLAKE3" => Some(Self::Blake3),
            "SHA256" => Some(Self::Sha256),
            _ => None,
        }
    }

    /// Returns the name that a configuration uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blake3 => "BLAKE3",
            Self::Sha256 => "SHA256",
        }
    }
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Hashes without a key.
pub fn hash(algorithm: HashAlgorithm, data: &[u8]) -> Id {
    match algorithm {
        HashAlgorithm::Blake3 => Id(*blake3::hash(data).as_bytes()),
        HashAlgorithm::Sha256 => Id(Sha256::digest(data).into()),
    }
}

/// A key that names and authenticates data: the store key of the format, or a trailer key.
///
/// Cheap to share between threads: every call works on its own state, and for HMAC the key schedule is done once.
#[derive(Clone)]
pub struct MacKey(Inner);

#[derive(Clone)]
enum Inner {
    Blake3(Zeroizing<[u8; 32]>),
    /// Boxed, as it is rare and ten times as large.
    Sha256(Box<Hmac<Sha256>>),
}

impl MacKey {
    /// Creates a key for an algorithm.
    pub fn new(algorithm: HashAlgorithm, key: [u8; 32]) -> Self {
        let key = Zeroizing::new(key);
        Self(match algorithm {
            HashAlgorithm::Blake3 => Inner::Blake3(key),
            HashAlgorithm::Sha256 => {
                let hmac = Hmac::new_from_slice(key.as_slice()).expect("HMAC takes keys of any length");
                Inner::Sha256(Box::new(hmac))
            }
        })
    }

    /// Returns the algorithm.
    pub fn algorithm(&self) -> HashAlgorithm {
        match self.0 {
            Inner::Blake3(_) => HashAlgorithm::Blake3,
            Inner::Sha256(_) => HashAlgorithm::Sha256,
        }
    }

    /// MAC(key, data).
    pub fn mac(&self, data: &[u8]) -> Id {
        match &self.0 {
            Inner::Blake3(key) => Id(*blake3::keyed_hash(key, data).as_bytes()),
            Inner::Sha256(hmac) => {
                let mut hmac = (**hmac).clone();
                hmac.update(data);
                Id(hmac.finalize().into_bytes().into())
            }
        }
    }

    /// MAC(key, parts\[0\] ‖ parts\[1\] ‖ …).
    pub fn mac_parts(&self, parts: &[&[u8]]) -> Id {
        let mut hasher = self.hasher();
        for part in parts {
            hasher.update(part);
        }
        hasher.finish()
    }

    /// Starts a MAC over data that arrives in pieces.
    pub fn hasher(&self) -> MacHasher {
        MacHasher(match &self.0 {
            Inner::Blake3(key) => Running::Blake3(Box::new(blake3::Hasher::new_keyed(key))),
            Inner::Sha256(hmac) => Running::Sha256(hmac.clone()),
        })
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MacKey({}, …)", self.algorithm())
    }
}

/// A MAC in progress. Wiped when dropped, since it holds its key.
#[derive(Clone)]
pub struct MacHasher(Running);

#[derive(Clone)]
enum Running {
    Blake3(Box<blake3::Hasher>),
    Sha256(Box<Hmac<Sha256>>),
}

impl MacHasher {
    /// Adds data.
    pub fn update(&mut self, data: &[u8]) -> &mut Self {
        match &mut self.0 {
            Running::Blake3(hasher) => {
                hasher.update(data);
            }
            Running::Sha256(hmac) => hmac.update(data),
        }
        self
    }

    /// Returns the MAC of everything added.
    pub fn finish(self) -> Id {
        match &self.0 {
            Running::Blake3(hasher) => Id(*hasher.finalize().as_bytes()),
            Running::Sha256(hmac) => Id(hmac.as_ref().clone().finalize().into_bytes().into()),
        }
    }
}

impl Drop for MacHasher {
    fn drop(&mut self) {
        // HMAC states wipe themselves.
        if let Running::Blake3(hasher) = &mut self.0 {
            hasher.zeroize();
        }
    }
}

impl ZeroizeOnDrop for MacHasher {}

impl io::Write for MacHasher {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.update(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for MacHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacHasher(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(id: Id) -> String {
        id.to_hex()
    }

    #[test]
    fn plaintext_store_keys_and_macs_of_the_format() {
        let uuid = b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff";
        let cases = [
            (
                HashAlgorithm::Blake3,
                "2ff58ddf3d00b27143e7960de70679f11786176dc50d3ffd688b8aa4d1bd4294",
                "3a77dbd14805b47c2514acb2003f0b5cc99aa7dc3ec4f608ac77a7b03ac0755f",
                "60cf92d1fea2d82a29f3cabf9f833e4482813294d1f5785232d38490accb84e2",
            ),
            (
                HashAlgorithm::Sha256,
                "a8faed6abbf35c12a4b26e40f6feb19d736d90045c83b9f9a31f638d323e6811",
                "1577caf4e2cb4921991aa83810764504d37a3b36405309d48c21c3ec235b62b4",
                "335a33a634d8c3ee9a39e8a209ac2a6bc6a9f2afef9ec9d332fbede1abb3bbde",
            ),
        ];
        for (algorithm, key, empty, hello) in cases {
            let k = hash(algorithm, uuid);
            assert_eq!(hex(k), key);
            let k = MacKey::new(algorithm, k.0);
            assert_eq!(hex(k.mac(b"")), empty);
            assert_eq!(hex(k.mac(b"hello\n")), hello);
            assert_eq!(hex(k.mac_parts(&[b"hel", b"", b"lo\n"])), hello);
            assert_eq!(hex(k.hasher().finish()), empty);
            assert_eq!(HashAlgorithm::from_name(algorithm.name()), Some(algorithm));
        }
        let other = b"\x00\x11\x22\x33\x44\x55\x46\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff";
        assert_eq!(
            hex(hash(HashAlgorithm::Blake3, other)),
            "0700d6a41771410881f87db439391012fa32257bbc157617d217479b9e8850d9"
        );
    }

    #[test]
    fn names_are_exact() {
        assert_eq!(HashAlgorithm::from_name("blake3"), None);
        assert_eq!(HashAlgorithm::from_name("SHA512"), None);
    }

    #[test]
    fn debug_shows_no_key() {
        let key = MacKey::new(HashAlgorithm::Blake3, [0x41; 32]);
        assert_eq!(format!("{key:?} {:?}", key.hasher()), "MacKey(BLAKE3, …) MacHasher(…)");
    }
}
