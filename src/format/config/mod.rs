//! CONFIG: what a store is, and how its bytes are made.
//!
//! The payload is neither compressed nor encrypted. It can be read without the passphrase (it has to be, to find the
//! parameters of the key derivation), so everything in it is hostile until its trailer is verified.

mod decode;
mod encode;
mod native;
mod types;

pub use native::{
    MAX_LABEL_LEN, MAX_SLOTS, NATIVE_CIPHER, NATIVE_KDF, NATIVE_SUBKEY, NATIVE_VERSION, Native, SUM_LEN,
    Slot, SlotKind, set_sum, split_sum, sum_input_len,
};
pub use types::{
    Argon2id, Chunking, Compression, Config, Encryption, Hashing, KdfParams, MAX_CONFIG_LEN, PackfileSizes,
    Pbkdf2, Scrypt,
};
