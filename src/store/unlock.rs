//! From the bytes of a CONFIG and a passphrase to the keys and codecs of a store.
//!
//! Order matters: damage is told from a wrong passphrase, hostile parameters are refused before anything is
//! computed, and nothing of CONFIG is acted on before it is authenticated (FORMAT.md, native profile, "Slots").

use crate::base::Id;
use crate::codec::Compression;
use crate::codec::chunker::{Chunker, ChunkerAlgorithm, ChunkerError, ChunkerParams};
use crate::crypto::kdf::{Argon2id, Kdf, Pbkdf2, Scrypt};
use crate::crypto::mac::{HashAlgorithm, MacKey, hash};
use crate::crypto::seal::{Cipher, Item, SubkeyAlgorithm};
use crate::crypto::slots::{RecoveryKey, Slot, SlotError, SlotKind, SlotSecret, unlock as unlock_slots};
use crate::crypto::{Key, NativeKeys, Secret};
use crate::format::config::{
    self, Config, Encryption, KdfParams, NATIVE_CIPHER, NATIVE_KDF, NATIVE_VERSION, Native,
};
use crate::format::version::Version;
use crate::format::wrapper::{self, Resource};

use super::encoding::Encoding;
use super::keys::Keys;

/// Name of upstream's data encryption.
pub(super) const UPSTREAM_CIPHER: &str = "AES256-GCM-SIV";

/// Why a store cannot be unlocked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnlockError {
    /// The CONFIG is damaged.
    #[error("the store's CONFIG is damaged: {0}")]
    Damaged(String),
    /// The passphrase opens nothing.
    #[error("wrong passphrase")]
    WrongPassphrase,
    /// A passphrase is needed and none was given.
    #[error("the store is encrypted and no passphrase was given")]
    NoPassphrase,
    /// No key slot has the label that was asked for.
    #[error("there is no key slot '{label}'; there {}", listed(known))]
    NoSlot {
        /// The label.
        label: String,
        /// The labels there are, foreign text.
        known: Vec<String>,
    },
    /// The passphrase could not be asked for.
    #[error("cannot get the passphrase")]
    Asking(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// CONFIG names something this program does not know.
    #[error("the store uses {what} {name}, which this program does not support")]
    Unsupported {
        /// "the hashing algorithm", "the cipher".
        what: &'static str,
        /// The name in CONFIG, foreign text.
        name: String,
    },
    /// CONFIG is of another version.
    #[error("the store's CONFIG has version {0}, this program reads 1.0.0")]
    Version(Version),
    /// CONFIG's parameters are outside of what is acceptable.
    #[error("the store's CONFIG asks for the unacceptable: {0}")]
    Unacceptable(String),
}

fn listed(labels: &[String]) -> String {
    match labels {
        [] => "are none".into(),
        [only] => format!("is only '{only}'"),
        labels => format!("are {}", labels.join(", ")),
    }
}

/// Who is asked for the passphrase of a store.
pub trait Unlock {
    /// Returns a passphrase for the given attempt, counted from 0; `None` gives up. Never called for a plaintext
    /// store.
    fn passphrase(
        &mut self,
        attempt: u32,
    ) -> Result<Option<Secret>, Box<dyn std::error::Error + Send + Sync>>;

    /// Returns whether a passphrase was given for this very store, so that a plaintext store in its place must
    /// not be trusted.
    fn is_explicit(&self) -> bool {
        false
    }

    /// Returns whether a passphrase is at hand (an environment variable) that may have been meant for this store: an
    /// unencrypted one is then read, but not written unless it is known to be so.
    fn is_ambient(&self) -> bool {
        false
    }

    /// Returns the label of the only slot to try.
    fn slot(&self) -> Option<&str> {
        None
    }
}

/// Asks nobody: for plaintext stores.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPassphrase;

impl Unlock for NoPassphrase {
    fn passphrase(&mut self, _: u32) -> Result<Option<Secret>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(None)
    }
}

/// One passphrase, tried once.
#[derive(Debug)]
pub struct WithPassphrase(pub Secret);

impl Unlock for WithPassphrase {
    fn passphrase(
        &mut self,
        attempt: u32,
    ) -> Result<Option<Secret>, Box<dyn std::error::Error + Send + Sync>> {
        Ok((attempt == 0).then(|| self.0.clone()))
    }

    fn is_explicit(&self) -> bool {
        true
    }
}

/// An unlocked store.
#[derive(Debug)]
pub(super) struct Unlocked {
    pub(super) config: Config,
    pub(super) keys: Keys,
    pub(super) encoding: Encoding,
    pub(super) chunker: Result<Chunker, ChunkerError>,
    /// The master key, for what must hand it on (`-same-key`, key slots). `None` in plaintext stores.
    pub(super) master: Option<Key>,
    /// The key slot that opened it, if one did.
    pub(super) slot: Option<[u8; 16]>,
}

/// Unlocks the store whose CONFIG resource is `bytes`.
pub(super) fn unlock(bytes: &[u8], unlock: &mut dyn Unlock) -> Result<Unlocked, UnlockError> {
    unlock_by(bytes, &mut Way::Asking(unlock))
}

/// Unlocks a CONFIG whose master key is known already, without deriving it again.
pub(super) fn unlock_with_master(bytes: &[u8], master: Option<Key>) -> Result<Unlocked, UnlockError> {
    match master {
        Some(master) => unlock_by(bytes, &mut Way::Known(master)),
        None => unlock_by(bytes, &mut Way::Asking(&mut NoPassphrase)),
    }
}

/// How the master key is come by.
enum Way<'a> {
    Asking(&'a mut dyn Unlock),
    Known(Key),
}

fn unlock_by(bytes: &[u8], way: &mut Way<'_>) -> Result<Unlocked, UnlockError> {
    let damaged = |error: crate::format::Error| match error {
        crate::format::Error::Version { found, .. } => UnlockError::Version(found),
        other => UnlockError::Damaged(other.to_string()),
    };
    let parts = wrapper::split(bytes, Resource::Config).map_err(damaged)?;
    if parts.version != Version::V1_0_0 {
        return Err(UnlockError::Version(parts.version));
    }
    let config = Config::decode_payload(parts.payload).map_err(damaged)?;
    let algorithm = HashAlgorithm::from_name(&config.hashing.algorithm)
        .ok_or_else(|| unsupported("the hashing algorithm", &config.hashing.algorithm))?;
    let trailer = Trailer { signed: parts.signed, found: parts.trailer };
    let mut opened_by = None;
    let (keys, cipher, gear, master) = match &config.encryption {
        None => {
            trailer.verify(hash(HashAlgorithm::Blake3, parts.signed))?;
            (Keys::plaintext(algorithm, &config.repository_id), None, None, None)
        }
        Some(encryption) if encryption.data_algorithm == NATIVE_CIPHER => {
            let native = native_part(encryption, parts.signed)?;
            let master = match way {
                Way::Asking(unlock) => {
                    let (slot, master) = open_slots(native, *unlock)?;
                    opened_by = Some(slot);
                    master
                }
                Way::Known(master) => master.clone(),
            };
            let keys = NativeKeys::derive(&master, &config.repository_id);
            trailer.verify(MacKey::new(HashAlgorithm::Blake3, *keys.config.as_bytes()).mac(parts.signed))?;
            let cipher = Cipher::native(&keys, segment(encryption)?).map_err(unacceptable)?;
            open_canary(&cipher, &encryption.canary)
                .map_err(|()| UnlockError::Damaged("its canary does not open".into()))?;
            let gear = keys.gear_table();
            (Keys::native(algorithm, &keys), Some(cipher), Some(gear), Some(master))
        }
        Some(encryption) => {
            let (master, cipher) = open_upstream(encryption, way)?;
            trailer.verify(MacKey::new(HashAlgorithm::Blake3, *master.as_bytes()).mac(parts.signed))?;
            (Keys::upstream(algorithm, master.as_bytes()), Some(cipher), None, Some(master))
        }
    };
    let encoding = Encoding::new(compression(&config)?, cipher);
    let chunker = chunker(&config, gear.as_deref());
    Ok(Unlocked { config, keys, encoding, chunker, master, slot: opened_by })
}

fn unsupported(what: &'static str, name: &str) -> UnlockError {
    UnlockError::Unsupported { what, name: name.to_owned() }
}

fn unacceptable(error: impl std::fmt::Display) -> UnlockError {
    UnlockError::Unacceptable(error.to_string())
}

struct Trailer<'a> {
    signed: &'a [u8],
    found: Id,
}

impl Trailer<'_> {
    fn verify(&self, expected: Id) -> Result<(), UnlockError> {
        if expected == self.found {
            return Ok(());
        }
        Err(UnlockError::Damaged(format!("the MAC over its {} bytes does not fit", self.signed.len())))
    }
}

fn segment(encryption: &Encryption) -> Result<u64, UnlockError> {
    u64::try_from(encryption.chunk_size).map_err(|_| UnlockError::Unacceptable("a negative ChunkSize".into()))
}

fn open_canary(cipher: &Cipher, canary: &[u8]) -> Result<(), ()> {
    cipher.open(Item::canary(), canary, &mut Vec::new()).map_err(|_| ())
}

/// Returns the native part of a CONFIG, its checksum verified.
fn native_part<'a>(encryption: &'a Encryption, signed: &[u8]) -> Result<&'a Native, UnlockError> {
    let damaged = |what: &str| UnlockError::Damaged(what.to_owned());
    let native = encryption.native.as_ref().ok_or_else(|| damaged("it has no key slots"))?;
    if native.version > NATIVE_VERSION {
        return Err(UnlockError::Unsupported {
            what: "version of the native profile",
            name: native.version.to_string(),
        });
    }
    let covered = signed.len().checked_sub(Id::LEN).ok_or_else(|| damaged("it is too short"))?;
    if hash(HashAlgorithm::Blake3, &signed[..covered]).0 != native.sum {
        return Err(damaged("its checksum does not fit"));
    }
    if encryption.kdf.kdf != NATIVE_KDF {
        return Err(unsupported("the key derivation", &encryption.kdf.kdf));
    }
    Ok(native)
}

/// Tries the slots with what the caller gives, up to three times; returns the id of the slot that opened.
fn open_slots(native: &Native, unlock: &mut dyn Unlock) -> Result<([u8; 16], Key), UnlockError> {
    let wanted = unlock.slot().map(str::to_owned);
    let slots = native
        .slots
        .iter()
        .filter(|slot| wanted.as_ref().is_none_or(|label| slot.label == label.as_str()))
        .map(to_crypto_slot)
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(label) = wanted.filter(|_| slots.is_empty()) {
        let known = native.slots.iter().map(|slot| slot.label.clone()).collect();
        return Err(UnlockError::NoSlot { label, known });
    }
    if slots.is_empty() {
        return Err(UnlockError::Damaged("it has no key slots".into()));
    }
    slots.iter().try_for_each(Slot::check).map_err(unacceptable)?;
    attempt(unlock, |secret| {
        // What reads as a recovery key is one: its checksum says so before any slot is touched.
        let text = std::str::from_utf8(secret.as_bytes()).ok();
        let recovery = text.and_then(|text| RecoveryKey::decode(text).ok());
        let secret = match &recovery {
            Some(key) => SlotSecret::Recovery(key),
            None => SlotSecret::Passphrase(secret.as_bytes()),
        };
        match unlock_slots(&slots, secret, &native.key_check) {
            Ok((at, master)) => Ok(Some((slots[at].id, master))),
            Err(SlotError::NoMatch) => Ok(None),
            Err(error @ SlotError::Damaged { .. }) => Err(UnlockError::Damaged(error.to_string())),
            Err(error) => Err(unacceptable(error)),
        }
    })
}

fn to_crypto_slot(slot: &config::Slot) -> Result<Slot, UnlockError> {
    let kind = match (slot.kind, &slot.kdf.argon2id, slot.kdf.kdf.as_str()) {
        (config::SlotKind::Passphrase, Some(argon2), "ARGON2ID") => SlotKind::Passphrase(argon2id(argon2)),
        (config::SlotKind::Recovery, _, "BLAKE3") => SlotKind::Recovery,
        (kind, _, kdf) => {
            return Err(unsupported("the key slot kind", &format!("{}/{kdf}", kind.name())));
        }
    };
    let (id, salt) = (slot.id, slot.kdf.salt.clone());
    Ok(Slot { id, kind, salt, commit: slot.commit, nonce: slot.nonce, sealed: slot.sealed })
}

fn argon2id(params: &config::Argon2id) -> Argon2id {
    Argon2id {
        time: params.time,
        memory_kib: params.memory,
        threads: u32::from(params.threads),
        key_len: params.key_len,
    }
}

/// Asks up to three times; `check` says whether a secret fits.
fn attempt<T>(
    unlock: &mut dyn Unlock,
    mut check: impl FnMut(&Secret) -> Result<Option<T>, UnlockError>,
) -> Result<T, UnlockError> {
    for attempt in 0..3 {
        match unlock.passphrase(attempt).map_err(UnlockError::Asking)? {
            Some(secret) => {
                if let Some(found) = check(&secret)? {
                    return Ok(found);
                }
            }
            None if attempt == 0 => return Err(UnlockError::NoPassphrase),
            None => break,
        }
    }
    Err(UnlockError::WrongPassphrase)
}

/// Derives the master key of a store in upstream's encryption; the canary says whether it is right.
fn open_upstream(encryption: &Encryption, way: &mut Way<'_>) -> Result<(Key, Cipher), UnlockError> {
    if encryption.data_algorithm != UPSTREAM_CIPHER {
        return Err(unsupported("the cipher", &encryption.data_algorithm));
    }
    let subkeys = SubkeyAlgorithm::from_name(&encryption.subkey_algorithm)
        .ok_or_else(|| unsupported("the subkey algorithm", &encryption.subkey_algorithm))?;
    let segment = segment(encryption)?;
    let with_key = |master: Key| {
        let cipher = Cipher::aes(&master, subkeys, segment).map_err(unacceptable)?;
        Ok(open_canary(&cipher, &encryption.canary).is_ok().then_some((master, cipher)))
    };
    match way {
        Way::Known(master) => with_key(master.clone())?.ok_or(UnlockError::WrongPassphrase),
        Way::Asking(unlock) => {
            let kdf = upstream_kdf(&encryption.kdf)?;
            kdf.check(&encryption.kdf.salt).map_err(unacceptable)?;
            attempt(*unlock, |secret| {
                let master = kdf.derive(secret.as_bytes(), &encryption.kdf.salt).map_err(unacceptable)?;
                with_key(master)
            })
        }
    }
}

fn upstream_kdf(params: &KdfParams) -> Result<Kdf, UnlockError> {
    let missing = || UnlockError::Damaged(format!("it lacks the parameters of {}", params.kdf));
    match params.kdf.as_str() {
        "ARGON2ID" => params.argon2id.as_ref().map(|p| Kdf::Argon2id(argon2id(p))).ok_or_else(missing),
        "SCRYPT" => params
            .scrypt
            .as_ref()
            .map(|p| Kdf::Scrypt(Scrypt { n: p.n, r: p.r, p: p.p, key_len: p.key_len }))
            .ok_or_else(missing),
        "PBKDF2" => params
            .pbkdf2
            .as_ref()
            .map(|p| {
                let hashing = p.hashing.clone();
                Kdf::Pbkdf2(Pbkdf2 { iterations: p.iterations, key_len: p.key_len, hashing })
            })
            .ok_or_else(missing),
        other => Err(unsupported("the key derivation", other)),
    }
}

/// Returns the compression a CONFIG names.
fn compression(config: &Config) -> Result<Compression, UnlockError> {
    let Some(compression) = &config.compression else { return Ok(Compression::None) };
    Compression::from_name(&compression.algorithm, compression.level)
        .map_err(|_| unsupported("the compression", &compression.algorithm))
}

/// Returns the chunker a CONFIG names. One that is not known keeps a store from being written, not from being
/// read.
fn chunker(config: &Config, gear: Option<&[u64; 256]>) -> Result<Chunker, ChunkerError> {
    let chunking = &config.chunking;
    let params = ChunkerParams {
        algorithm: ChunkerAlgorithm::from_name(&chunking.algorithm)?,
        min: chunking.min,
        normal: chunking.normal,
        max: chunking.max,
    };
    match gear {
        Some(table) if params.algorithm == ChunkerAlgorithm::FastCdc2020Keyed => {
            Chunker::keyed(params, table)
        }
        _ => Chunker::new(params),
    }
}
