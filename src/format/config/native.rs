//! The native profile's part of CONFIG: key slots.

use super::types::{Config, KdfParams};
use crate::base::Timestamp;
use crate::format::error::{Error, Result};
use crate::format::wrapper::HEADER_LEN;

/// The data algorithm that selects the native profile.
pub const NATIVE_CIPHER: &str = "XCHACHA20-POLY1305";
/// The subkey algorithm of the native profile.
pub const NATIVE_SUBKEY: &str = "NONE";
/// The KDF that the native profile names, so that upstream refuses it at once.
pub const NATIVE_KDF: &str = "KEYSLOTS";
/// The newest version of the native part that is read.
pub const NATIVE_VERSION: u32 = 1;
/// The most slots of a store; there is one at least.
pub const MAX_SLOTS: usize = 16;
/// The longest label of a slot in bytes.
pub const MAX_LABEL_LEN: usize = 64;
/// The length of the sum in bytes.
pub const SUM_LEN: usize = 32;

/// The native profile's part of CONFIG.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Native {
    /// 1.
    pub version: u32,
    /// Counts the changes of CONFIG, from 1 on.
    pub generation: u64,
    /// Tells stores with different keys apart; public.
    pub key_check: [u8; 32],
    /// The key slots, 1 to [`MAX_SLOTS`].
    pub slots: Vec<Slot>,
    /// Unkeyed BLAKE3 of header and payload up to here; tells damage from a wrong passphrase.
    pub sum: [u8; SUM_LEN],
    /// Whether this program may write CONFIG anew: false when it holds members that it does not know, or is not
    /// encoded as it would be. Not stored.
    pub editable: bool,
}

/// What opens a slot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SlotKind {
    /// A passphrase.
    Passphrase,
    /// A recovery key.
    Recovery,
}

impl SlotKind {
    /// Returns the name on disk, which the slot's seal also covers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passphrase => "PASSPHRASE",
            Self::Recovery => "RECOVERY",
        }
    }

    pub(super) fn from_name(name: &[u8]) -> Option<Self> {
        [Self::Passphrase, Self::Recovery].into_iter().find(|kind| kind.name().as_bytes() == name)
    }
}

/// One way to the master key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slot {
    /// A random id.
    pub id: [u8; 16],
    /// A name for people, readable by the storage; at most [`MAX_LABEL_LEN`] bytes.
    pub label: String,
    /// What opens it.
    pub kind: SlotKind,
    /// When it was made.
    pub created: Timestamp,
    /// How its key is derived.
    pub kdf: KdfParams,
    /// Commits the slot to its key.
    pub commit: [u8; 32],
    /// The nonce of the seal.
    pub nonce: [u8; 24],
    /// The sealed master key.
    pub sealed: [u8; 48],
}

/// Returns how many bytes of a CONFIG resource the sum covers: its header and its payload, which ends with the sum.
pub fn sum_input_len(payload_len: usize) -> usize {
    HEADER_LEN + payload_len.saturating_sub(SUM_LEN)
}

/// Splits the payload of a native CONFIG into what the sum covers and the sum.
pub fn split_sum(payload: &[u8]) -> Option<(&[u8], &[u8; SUM_LEN])> {
    payload.split_last_chunk()
}

/// Puts the sum into an encoded payload of a native CONFIG, whose last bytes it is.
pub fn set_sum(payload: &mut [u8], sum: &[u8; SUM_LEN]) {
    let place = payload.last_chunk_mut().expect("a native payload ends with its sum");
    *place = *sum;
}

impl Config {
    /// Checks the bounds of the native profile, before anything in it is used.
    pub(super) fn check_native(&self, payload: &[u8]) -> Result<()> {
        let refuse = |detail: String| Err(Error::malformed("CONFIG", detail));
        let Some(encryption) = &self.encryption else { return Ok(()) };
        let native = match (&encryption.native, encryption.is_native()) {
            (Some(native), true) => native,
            (None, false) => return Ok(()),
            (None, true) => return refuse(format!("{NATIVE_CIPHER} without key slots")),
            (Some(_), false) => return refuse(format!("key slots without {NATIVE_CIPHER}")),
        };
        if encryption.subkey_algorithm != NATIVE_SUBKEY || encryption.kdf.kdf != NATIVE_KDF {
            let (subkey, kdf) = (&encryption.subkey_algorithm, &encryption.kdf.kdf);
            return refuse(format!("the subkey algorithm '{subkey}' or the KDF '{kdf}' beside key slots"));
        }
        let chunk_size = encryption.chunk_size;
        if !(4 << 10..=1 << 20).contains(&chunk_size) || chunk_size & (chunk_size - 1) != 0 {
            return refuse(format!("an encryption segment of {chunk_size} bytes"));
        }
        if !(1..=MAX_SLOTS).contains(&native.slots.len()) {
            return refuse(format!("{} key slots", native.slots.len()));
        }
        if native.generation == 0 {
            return refuse("generation 0".to_owned());
        }
        if let Some(slot) = native.slots.iter().find(|slot| slot.label.len() > MAX_LABEL_LEN) {
            return refuse(format!("a label of {} bytes", slot.label.len()));
        }
        if split_sum(payload).is_none_or(|(_, sum)| *sum != native.sum) {
            return refuse("its sum is not its end".to_owned());
        }
        Ok(())
    }
}
