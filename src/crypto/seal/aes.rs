//! The encryption of upstream's profile: AES-256-GCM-SIV segments under a fresh subkey per operation.
//!
//! Segments carry neither a number nor an end mark, and nothing binds them to a name: the MACs around sealed
//! data have to be compared by whoever opens it (FORMAT.md, encrypted data layout).

use aes_gcm::Aes256Gcm;
use aes_gcm_siv::aead::{AeadInOut, KeyInit};
use aes_gcm_siv::{Aes256GcmSiv, Nonce, Tag};
use aes_kw::KwAes256;
use zeroize::{Zeroize, Zeroizing};

use super::cipher::SealError;
use crate::crypto::{Key, random};

/// How the subkey of an operation is wrapped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SubkeyAlgorithm {
    /// AES Key Wrap (RFC 3394) with the default initial value: 40 bytes.
    Kw,
    /// AES-256-GCM with a random nonce: 60 bytes. Older stores.
    Gcm,
}

impl SubkeyAlgorithm {
    /// Finds the algorithm of a configuration's `Encryption.SubKeyAlgorithm`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "AES256-KW" => Some(Self::Kw),
            "AES256-GCM" => Some(Self::Gcm),
            _ => None,
        }
    }

    /// Returns the name that a configuration uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kw => "AES256-KW",
            Self::Gcm => "AES256-GCM",
        }
    }
}

pub(super) struct AesCipher {
    wrap: Wrap,
    pub(super) segment: usize,
}

enum Wrap {
    Kw(Box<KwAes256>),
    Gcm(Box<Aes256Gcm>),
}

impl AesCipher {
    pub(super) fn new(master: &Key, subkeys: SubkeyAlgorithm, segment: usize) -> Self {
        let wrap = match subkeys {
            SubkeyAlgorithm::Kw => Wrap::Kw(Box::new(KwAes256::new(master.as_bytes().into()))),
            SubkeyAlgorithm::Gcm => Wrap::Gcm(Box::new(Aes256Gcm::new(master.as_bytes().into()))),
        };
        Self { wrap, segment }
    }

    /// The length of a wrapped subkey.
    pub(super) fn start_len(&self) -> usize {
        match self.wrap {
            Wrap::Kw(_) => 40,
            Wrap::Gcm(_) => 60,
        }
    }

    pub(super) fn start_sealing(&self, out: &mut Vec<u8>) -> AesOperation {
        let mut subkey = Zeroizing::new(random::array::<32>());
        let operation = AesOperation::new(&subkey);
        match &self.wrap {
            Wrap::Kw(kw) => {
                let mut wrapped = [0; 40];
                kw.wrap_key(subkey.as_slice(), &mut wrapped).expect("32 bytes are a whole number of blocks");
                out.extend_from_slice(&wrapped);
            }
            Wrap::Gcm(gcm) => {
                let nonce = random::array::<12>();
                let tag = gcm
                    .encrypt_inout_detached(&nonce.into(), b"", subkey.as_mut_slice().into())
                    .expect("32 bytes are not too long");
                out.extend_from_slice(&nonce);
                out.extend_from_slice(subkey.as_slice());
                out.extend_from_slice(&tag);
            }
        }
        operation
    }

    pub(super) fn start_opening(&self, start: &[u8]) -> Result<AesOperation, SealError> {
        if start.len() != self.start_len() {
            return Err(SealError::Truncated);
        }
        let mut subkey = Zeroizing::new([0; 32]);
        match &self.wrap {
            Wrap::Kw(kw) => {
                kw.unwrap_key(start, subkey.as_mut_slice()).map_err(|_| SealError::Tampered)?;
            }
            Wrap::Gcm(gcm) => {
                let (nonce, rest) = start.split_first_chunk::<12>().ok_or(SealError::Truncated)?;
                let (body, tag) = rest.split_last_chunk::<16>().ok_or(SealError::Truncated)?;
                subkey.copy_from_slice(body);
                gcm.decrypt_inout_detached(
                    &(*nonce).into(),
                    b"",
                    subkey.as_mut_slice().into(),
                    &(*tag).into(),
                )
                .map_err(|_| SealError::Tampered)?;
            }
        }
        Ok(AesOperation::new(&subkey))
    }
}

pub(super) struct AesOperation(Aes256GcmSiv);

impl AesOperation {
    /// A nonce and a tag.
    pub(super) const OVERHEAD: usize = 12 + 16;

    fn new(subkey: &[u8; 32]) -> Self {
        Self(Aes256GcmSiv::new(subkey.into()))
    }

    pub(super) fn seal(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        let nonce = random::array::<12>();
        let at = out.len();
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plaintext);
        let body = (&mut out[at + 12..]).into();
        let Ok(tag) = self.0.encrypt_inout_detached(&Nonce::from(nonce), b"", body) else {
            out.truncate(at);
            return Err(SealError::TooLong);
        };
        out.extend_from_slice(&tag);
        Ok(())
    }

    pub(super) fn open(&mut self, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        let (nonce, rest) = sealed.split_first_chunk::<12>().ok_or(SealError::Truncated)?;
        let (body, tag) = rest.split_last_chunk::<16>().ok_or(SealError::Truncated)?;
        // Nobody writes an empty segment: the rest of it is missing.
        if body.is_empty() {
            return Err(SealError::Truncated);
        }
        let at = out.len();
        out.extend_from_slice(body);
        let body = (&mut out[at..]).into();
        self.0.decrypt_inout_detached(&Nonce::from(*nonce), b"", body, &Tag::from(*tag)).map_err(|_| {
            // This mode decrypts before it can verify.
            out[at..].zeroize();
            out.truncate(at);
            SealError::Tampered
        })
    }
}
