//! Encryption of blobs, indexes, states, locks and canaries.
//!
//! [`Cipher`] seals whole byte strings; [`SealWriter`] and [`OpenReader`] do the same for streams. What is
//! sealed is named by an [`Item`]: the native cipher binds that name into every segment, so that storage cannot
//! pass one item off as another; the cipher of upstream's profile cannot bind it and relies on the MACs around
//! it. Both cut the plaintext into segments, so that a stream is verified while it is read.
//!
//! | | upstream's profile | native profile |
//! |---|---|---|
//! | start | wrapped random subkey, 40 or 60 bytes | nonce prefix, 19 bytes |
//! | segment | nonce 12 ‖ ciphertext ‖ tag 16 | ciphertext ‖ tag 16 |
//! | empty plaintext | no segment | one empty segment |
//! | order and end | not protected | protected |
//!
//! FORMAT.md, "Keys and encryption", has the bytes.

mod aes;
mod cipher;
mod item;
mod stream;
#[cfg(test)]
mod tests;
mod xchacha;

pub use aes::SubkeyAlgorithm;
pub use cipher::{Cipher, SealError};
pub use item::Item;
pub use stream::{OpenReader, SealWriter};
