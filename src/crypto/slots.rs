//! Key slots: the master key M, sealed once per passphrase or recovery key (FORMAT.md, native profile, slots).
//!
//! ikm = Argon2id(passphrase, Salt), or K("recovery ikm", secret ‖ Salt); Commit = K("slot commit", ikm ‖ Id);
//! Sealed = XChaCha20-Poly1305(K("slot wrap", ikm ‖ Id), Nonce, Id ‖ Kind, M).
//!
//! The AEAD alone would let one slot open under two keys; Commit rules that out, and is also how a wrong
//! passphrase is told from damage: a slot whose Commit fits must open, or it is damaged.

mod recovery;
#[cfg(test)]
mod tests;

use std::fmt;

use chacha20poly1305::aead::KeyInit;
use chacha20poly1305::{AeadInOut, Tag, XChaCha20Poly1305};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::kdf::{Argon2id, Kdf, KdfError};
use super::native::{derive, key_check};
use super::{Key, random};
use crate::base::hex;

pub use recovery::{RecoveryKey, RecoveryKeyError};

/// The longest salt that a slot may have, in bytes.
const SALT_LEN: std::ops::RangeInclusive<usize> = 16..=64;

/// What a slot opens for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotKind {
    /// A passphrase, through Argon2id with these parameters.
    Passphrase(Argon2id),
    /// A recovery key.
    Recovery,
}

impl SlotKind {
    /// Returns the name that a configuration uses, which is also sealed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passphrase(_) => "PASSPHRASE",
            Self::Recovery => "RECOVERY",
        }
    }
}

/// The cryptographic content of one slot; all of it is public.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slot {
    /// Random; distinguishes slots.
    pub id: [u8; 16],
    /// What opens it.
    pub kind: SlotKind,
    /// Salt of the derivation, 16 to 64 bytes.
    pub salt: Vec<u8>,
    /// Tells the right secret from a wrong one.
    pub commit: [u8; 32],
    /// Nonce of `sealed`.
    pub nonce: [u8; 24],
    /// The master key and a tag.
    pub sealed: [u8; 48],
}

/// What a person gave to open a store.
#[derive(Clone, Copy)]
pub enum SlotSecret<'a> {
    /// A passphrase, as typed.
    Passphrase(&'a [u8]),
    /// A recovery key.
    Recovery(&'a RecoveryKey),
}

impl fmt::Debug for SlotSecret<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "Passphrase(…)",
            Self::Recovery(_) => "Recovery(…)",
        })
    }
}

/// A slot cannot be made or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// No slot opens for this secret.
    #[error("no key slot opens with this secret")]
    NoMatch,
    /// The secret is right, but what the slot holds is not what was sealed.
    #[error("key slot {} is damaged: {what}", hex(id))]
    Damaged {
        /// The slot.
        id: [u8; 16],
        /// What does not fit.
        what: &'static str,
    },
    /// A slot's parameters are out of bounds.
    #[error("key slot {} has unacceptable parameters", hex(id))]
    Parameters {
        /// The slot.
        id: [u8; 16],
        /// Which parameter, and why.
        #[source]
        source: KdfError,
    },
    /// Parameters for a new slot are too weak or out of bounds.
    #[error("cannot make a key slot")]
    Refused(#[source] KdfError),
}

impl Slot {
    /// Seals the master key for a passphrase, with fresh random salt, nonce and identifier.
    ///
    /// Refuses parameters with less than 19 MiB of memory; [`Argon2id::RECOMMENDED`] is what to use. Parameters
    /// are never copied from an existing slot.
    pub fn for_passphrase(master: &Key, passphrase: &[u8], argon2: Argon2id) -> Result<Self, SlotError> {
        argon2.check_for_writing().map_err(SlotError::Refused)?;
        Self::for_passphrase_with(
            master,
            passphrase,
            argon2,
            random::array(),
            &random::array::<16>(),
            random::array(),
        )
    }

    /// Seals the master key for a recovery key, with fresh random salt, nonce and identifier.
    pub fn for_recovery(master: &Key, key: &RecoveryKey) -> Self {
        Self::for_recovery_with(master, key, random::array(), &random::array::<16>(), random::array())
    }

    /// As [`for_passphrase`](Self::for_passphrase) with everything given, and weak parameters allowed: for tests
    /// that must be quick and for vectors.
    #[doc(hidden)]
    pub fn for_passphrase_with(
        master: &Key,
        passphrase: &[u8],
        argon2: Argon2id,
        id: [u8; 16],
        salt: &[u8],
        nonce: [u8; 24],
    ) -> Result<Self, SlotError> {
        let ikm = Kdf::Argon2id(argon2).derive(passphrase, salt).map_err(SlotError::Refused)?;
        Ok(Self::seal(master, &ikm, SlotKind::Passphrase(argon2), id, salt, nonce))
    }

    /// As [`for_recovery`](Self::for_recovery) with everything given: for vectors.
    #[doc(hidden)]
    pub fn for_recovery_with(
        master: &Key,
        key: &RecoveryKey,
        id: [u8; 16],
        salt: &[u8],
        nonce: [u8; 24],
    ) -> Self {
        Self::seal(master, &key.ikm(salt), SlotKind::Recovery, id, salt, nonce)
    }

    fn seal(master: &Key, ikm: &Key, kind: SlotKind, id: [u8; 16], salt: &[u8], nonce: [u8; 24]) -> Self {
        let mut sealed = [0; 48];
        let (body, tag) = sealed.split_at_mut(32);
        body.copy_from_slice(master.as_bytes());
        let made = wrap_cipher(ikm, &id)
            .encrypt_inout_detached(&nonce.into(), &associated_data(&id, kind), body.into())
            .expect("32 bytes are not too long");
        tag.copy_from_slice(&made);
        Self { id, kind, salt: salt.to_vec(), commit: commit(ikm, &id), nonce, sealed }
    }

    /// Checks the bounds of the parameters without computing anything.
    pub fn check(&self) -> Result<(), SlotError> {
        let parameters = |source| SlotError::Parameters { id: self.id, source };
        match self.kind {
            SlotKind::Passphrase(argon2) => Kdf::Argon2id(argon2).check(&self.salt).map_err(parameters),
            SlotKind::Recovery if !SALT_LEN.contains(&self.salt.len()) => {
                Err(parameters(KdfError::OutOfBounds {
                    kdf: "BLAKE3",
                    parameter: "Salt length",
                    found: self.salt.len() as i128,
                    bound: "16 to 64 bytes",
                }))
            }
            SlotKind::Recovery => Ok(()),
        }
    }

    /// Tries a secret on this slot: the master key, or `None` when the secret is not this slot's.
    ///
    /// `expected_key_check` is the configuration's `KeyCheck`; a slot that holds another key is damaged.
    pub fn try_open(
        &self,
        secret: SlotSecret<'_>,
        expected_key_check: &[u8; 32],
    ) -> Result<Option<Key>, SlotError> {
        self.check()?;
        let ikm = match (self.kind, secret) {
            (SlotKind::Passphrase(argon2), SlotSecret::Passphrase(passphrase)) => Kdf::Argon2id(argon2)
                .derive(passphrase, &self.salt)
                .map_err(|source| SlotError::Parameters { id: self.id, source })?,
            (SlotKind::Recovery, SlotSecret::Recovery(key)) => key.ikm(&self.salt),
            _ => return Ok(None),
        };
        if !bool::from(commit(&ikm, &self.id).ct_eq(&self.commit)) {
            return Ok(None);
        }
        let damaged = |what| SlotError::Damaged { id: self.id, what };
        let (body, tag) = self.sealed.split_last_chunk::<16>().expect("48 is more than 16");
        let mut master = Zeroizing::new([0; 32]);
        master.copy_from_slice(body);
        wrap_cipher(&ikm, &self.id)
            .decrypt_inout_detached(
                &self.nonce.into(),
                &associated_data(&self.id, self.kind),
                master.as_mut_slice().into(),
                &Tag::from(*tag),
            )
            .map_err(|_| damaged("the sealed key does not authenticate"))?;
        let master = Key::new(*master);
        if bool::from(key_check(&master).ct_eq(expected_key_check)) {
            Ok(Some(master))
        } else {
            Err(damaged("it holds the key of another store"))
        }
    }
}

/// Finds the slot that opens for a secret, and opens it: its place in `slots` and the master key.
///
/// All bounds are checked before anything is computed. A wrong secret is [`SlotError::NoMatch`]; everything that
/// fails after a slot's Commit fitted is damage.
pub fn unlock(
    slots: &[Slot],
    secret: SlotSecret<'_>,
    expected_key_check: &[u8; 32],
) -> Result<(usize, Key), SlotError> {
    slots.iter().try_for_each(Slot::check)?;
    for (at, slot) in slots.iter().enumerate() {
        if let Some(master) = slot.try_open(secret, expected_key_check)? {
            return Ok((at, master));
        }
    }
    Err(SlotError::NoMatch)
}

fn commit(ikm: &Key, id: &[u8; 16]) -> [u8; 32] {
    *derive("slot commit", &[ikm.as_bytes(), id]).as_bytes()
}

fn wrap_cipher(ikm: &Key, id: &[u8; 16]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(derive("slot wrap", &[ikm.as_bytes(), id]).as_bytes().into())
}

fn associated_data(id: &[u8; 16], kind: SlotKind) -> Vec<u8> {
    [id, kind.name().as_bytes()].concat()
}
