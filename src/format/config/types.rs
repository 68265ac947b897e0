//! What CONFIG holds.

use super::native::{NATIVE_CIPHER, Native};
use crate::base::Timestamp;

/// The longest CONFIG resource that is read, in bytes, wrapper included.
pub const MAX_CONFIG_LEN: usize = 32 << 10;

/// The configuration of a store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// When the store was created.
    pub timestamp: Timestamp,
    /// A random UUID.
    pub repository_id: [u8; 16],
    /// Sizes of packfiles.
    pub packfile: PackfileSizes,
    /// How contents are cut.
    pub chunking: Chunking,
    /// How things are named.
    pub hashing: Hashing,
    /// How things are compressed; `None` for not at all.
    pub compression: Option<Compression>,
    /// How things are encrypted; `None` for not at all.
    pub encryption: Option<Encryption>,
}

impl Config {
    /// Returns the native profile's part.
    pub fn native(&self) -> Option<&Native> {
        self.encryption.as_ref()?.native.as_ref()
    }
}

/// Sizes of packfiles, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PackfileSizes {
    /// Unused, 0.
    pub min: u64,
    /// Unused, 0.
    pub avg: u64,
    /// A packfile is closed when its blob area exceeds this.
    pub max: u64,
}

impl PackfileSizes {
    /// Creates the record with a maximum.
    pub fn new(max: u64) -> Self {
        Self { min: 0, avg: 0, max }
    }
}

/// How contents are cut; sizes in bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chunking {
    /// The name of the algorithm, in any case.
    pub algorithm: String,
    /// The smallest chunk.
    pub min: u32,
    /// The size aimed at.
    pub normal: u32,
    /// The largest chunk.
    pub max: u32,
}

/// How things are named.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hashing {
    /// `BLAKE3` or `SHA256`.
    pub algorithm: String,
    /// 256; says nothing.
    pub bits: u32,
}

impl Hashing {
    /// Creates the record of an algorithm of 256 bits.
    pub fn new(algorithm: &str) -> Self {
        Self { algorithm: algorithm.to_owned(), bits: 256 }
    }
}

/// How things are compressed. A reader needs the algorithm only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compression {
    /// `LZ4`, `GZIP` or `ZSTD`.
    pub algorithm: String,
    /// The level; ignored by upstream.
    pub level: i64,
    /// -1.
    pub window_size: i64,
    /// -1.
    pub chunk_size: i64,
    /// -1.
    pub block_size: i64,
    /// False.
    pub enable_crc: bool,
}

impl Compression {
    /// Creates the record of an algorithm at a level.
    pub fn new(algorithm: &str, level: i64) -> Self {
        Self {
            algorithm: algorithm.to_owned(),
            level,
            window_size: -1,
            chunk_size: -1,
            block_size: -1,
            enable_crc: false,
        }
    }
}

/// How things are encrypted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Encryption {
    /// How the key of each operation is wrapped: `AES256-KW`, `AES256-GCM`, in the native profile `NONE`.
    pub subkey_algorithm: String,
    /// `AES256-GCM-SIV`, in the native profile `XCHACHA20-POLY1305`.
    pub data_algorithm: String,
    /// Plaintext bytes per segment.
    pub chunk_size: i64,
    /// How the key is derived from the passphrase; in the native profile the slots say so.
    pub kdf: KdfParams,
    /// Encrypted random bytes: a key that opens them is the right one.
    pub canary: Vec<u8>,
    /// The native profile's part; present exactly when the data algorithm is the native one.
    pub native: Option<Native>,
}

impl Encryption {
    /// Returns whether this is the native profile.
    pub fn is_native(&self) -> bool {
        self.data_algorithm == NATIVE_CIPHER
    }
}

/// How a key is derived. Bounds are for the derivation to check, before it allocates anything.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KdfParams {
    /// `ARGON2ID`, `SCRYPT`, `PBKDF2`; in the native profile also `KEYSLOTS` and `BLAKE3`.
    pub kdf: String,
    /// The salt.
    pub salt: Vec<u8>,
    /// Present for `ARGON2ID`.
    pub argon2id: Option<Argon2id>,
    /// Present for `SCRYPT`.
    pub scrypt: Option<Scrypt>,
    /// Present for `PBKDF2`.
    pub pbkdf2: Option<Pbkdf2>,
}

impl KdfParams {
    /// Creates the record of a derivation without parameters.
    pub fn new(kdf: &str, salt: &[u8]) -> Self {
        Self { kdf: kdf.to_owned(), salt: salt.to_vec(), ..Self::default() }
    }
}

/// The parameters of Argon2id, version 0x13.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Argon2id {
    /// The length of the salt in bytes; says nothing.
    pub salt_size: u32,
    /// Passes.
    pub time: u32,
    /// Memory in KiB.
    pub memory: u32,
    /// Lanes.
    pub threads: u8,
    /// The length of the key in bytes, 32.
    pub key_len: u32,
}

/// The parameters of scrypt.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Scrypt {
    /// The length of the salt in bytes; says nothing.
    pub salt_size: u32,
    /// Cost.
    pub n: i64,
    /// Block size.
    pub r: i64,
    /// Lanes.
    pub p: i64,
    /// The length of the key in bytes, 32.
    pub key_len: i64,
}

/// The parameters of PBKDF2.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pbkdf2 {
    /// The length of the salt in bytes; says nothing.
    pub salt_size: u32,
    /// Iterations.
    pub iterations: i64,
    /// The length of the key in bytes, 32.
    pub key_len: i64,
    /// `SHA256`.
    pub hashing: String,
}
