//! XChaCha20-Poly1305 in the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015): the nonce of a
//! segment is prefix ‖ number ‖ last, so that segments can be neither exchanged, dropped nor added.
//!
//! The prefix is P = BLAKE3-keyed(nonce key, r32 ‖ associated data)\[..19\] with 32 fresh random bytes per
//! operation. For q operations under one key two prefixes meet with a chance of at most q² / 2^153; should the
//! random generator repeat its state, prefixes still repeat only for one and the same item.

use chacha20poly1305::aead::KeyInit;
use chacha20poly1305::{AeadInOut, Tag, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::cipher::SealError;
use super::item::Item;
use crate::crypto::{Key, NativeKeys, random};

pub(super) struct XChaChaCipher {
    blob: XChaCha20Poly1305,
    meta: XChaCha20Poly1305,
    nonce: Key,
    pub(super) segment: usize,
}

impl XChaChaCipher {
    /// The length of a nonce prefix.
    pub(super) const START_LEN: usize = 19;

    pub(super) fn new(keys: &NativeKeys, segment: usize) -> Self {
        let cipher = |key: &Key| XChaCha20Poly1305::new(key.as_bytes().into());
        Self { blob: cipher(&keys.blob), meta: cipher(&keys.meta), nonce: keys.nonce.clone(), segment }
    }

    pub(super) fn start_sealing(&self, item: Item, out: &mut Vec<u8>) -> XChaChaOperation {
        self.start_sealing_with(&random::array(), item, out)
    }

    pub(super) fn start_sealing_with(
        &self,
        r32: &[u8; 32],
        item: Item,
        out: &mut Vec<u8>,
    ) -> XChaChaOperation {
        let associated_data = item.associated_data();
        let mut input = Zeroizing::new([0; 32 + 37]);
        input[..32].copy_from_slice(r32);
        input[32..].copy_from_slice(&associated_data);
        let hash = blake3::keyed_hash(self.nonce.as_bytes(), input.as_slice());
        let prefix = *hash.as_bytes().first_chunk().expect("19 is less than 32");
        out.extend_from_slice(&prefix);
        self.operation(item, prefix)
    }

    pub(super) fn start_opening(&self, item: Item, start: &[u8]) -> Result<XChaChaOperation, SealError> {
        let prefix = start.try_into().map_err(|_| SealError::Truncated)?;
        Ok(self.operation(item, prefix))
    }

    fn operation(&self, item: Item, prefix: [u8; Self::START_LEN]) -> XChaChaOperation {
        let cipher = if item.is_meta() { &self.meta } else { &self.blob };
        let associated_data = item.associated_data();
        XChaChaOperation { cipher: cipher.clone(), prefix, associated_data, number: Some(0) }
    }
}

pub(super) struct XChaChaOperation {
    cipher: XChaCha20Poly1305,
    prefix: [u8; XChaChaCipher::START_LEN],
    associated_data: [u8; 37],
    /// The number of the next segment; `None` after 2^32 of them.
    number: Option<u32>,
}

impl XChaChaOperation {
    /// A tag.
    pub(super) const OVERHEAD: usize = 16;

    /// prefix ‖ u32be number ‖ last. The format writes this one number big-endian, as STREAM does.
    fn nonce(&mut self, last: bool) -> Result<XNonce, SealError> {
        let number = self.number.ok_or(SealError::TooLong)?;
        self.number = number.checked_add(1);
        let mut nonce = [0; 24];
        nonce[..19].copy_from_slice(&self.prefix);
        #[expect(clippy::big_endian_bytes, reason = "STREAM numbers its segments in big-endian order")]
        nonce[19..23].copy_from_slice(&number.to_be_bytes());
        nonce[23] = u8::from(last);
        Ok(nonce.into())
    }

    pub(super) fn seal(&mut self, plaintext: &[u8], last: bool, out: &mut Vec<u8>) -> Result<(), SealError> {
        let nonce = self.nonce(last)?;
        let at = out.len();
        out.extend_from_slice(plaintext);
        let body = (&mut out[at..]).into();
        let Ok(tag) = self.cipher.encrypt_inout_detached(&nonce, &self.associated_data, body) else {
            out.truncate(at);
            return Err(SealError::TooLong);
        };
        out.extend_from_slice(&tag);
        Ok(())
    }

    pub(super) fn open(&mut self, sealed: &[u8], last: bool, out: &mut Vec<u8>) -> Result<(), SealError> {
        let first = self.number == Some(0);
        let (body, tag) = sealed.split_last_chunk::<16>().ok_or(SealError::Truncated)?;
        // Only the one segment of an empty plaintext is empty: nothing else could have been cut off unseen.
        if body.is_empty() && !first {
            return Err(SealError::Truncated);
        }
        let nonce = self.nonce(last)?;
        let at = out.len();
        out.extend_from_slice(body);
        let body = (&mut out[at..]).into();
        let tag = Tag::from(*tag);
        self.cipher.decrypt_inout_detached(&nonce, &self.associated_data, body, &tag).map_err(|_| {
            // The library verifies before it decrypts: what is cut off here is ciphertext.
            out.truncate(at);
            SealError::Tampered
        })
    }
}
