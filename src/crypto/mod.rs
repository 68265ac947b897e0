//! Floor 0: MACs, key derivation, ciphers, key slots.
//!
//! Nothing here knows what a store is: every function takes plain parameters, and the store floor ties them to
//! a configuration. Two families of encryption stand side by side behind [`Cipher`]:
//!
//! - the one upstream writes: one AES-256 subkey per operation, wrapped by the master key, and
//!   AES-256-GCM-SIV segments;
//! - the native one: XChaCha20-Poly1305 segments in the STREAM construction, keys derived per purpose
//!   ([`NativeKeys`]), every segment bound to the name of what it belongs to ([`Item`]), and the master key kept
//!   in slots ([`slots`]) that a passphrase or a recovery key opens.
//!
//! What never happens here: a nonce is never used twice under one key, no plaintext leaves a failed
//! [`Cipher::open`], no secret is shown by `Debug` or by an error, and no parameter from outside decides about
//! an allocation before it was checked.

pub mod kdf;
pub mod mac;
mod native;
pub mod random;
pub mod seal;
mod secret;
pub mod slots;
pub mod spill;

pub use mac::{HashAlgorithm, MacHasher, MacKey, hash};
pub use native::{NativeKeys, derive};
pub use seal::{Cipher, Item, SubkeyAlgorithm};
pub use secret::{Key, Secret};
