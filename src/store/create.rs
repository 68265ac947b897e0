//! Making the CONFIG of a new store or archive, in either profile.

use crate::base::Timestamp;
use crate::codec::Compression;
use crate::crypto::kdf::{Argon2id, Kdf};
use crate::crypto::mac::{HashAlgorithm, MacKey, hash};
use crate::crypto::seal::{Cipher, Item, SealError, SubkeyAlgorithm};
use crate::crypto::slots::{Slot, SlotError, SlotKind};
use crate::crypto::{Key, NativeKeys, Secret, random};
use crate::format::config::{
    self, Chunking, Config, Encryption, Hashing, KdfParams, NATIVE_CIPHER, NATIVE_KDF, NATIVE_SUBKEY,
    NATIVE_VERSION, Native, PackfileSizes,
};
use crate::format::version::Version;
use crate::format::wrapper::{self, Resource};

use super::unlock::UPSTREAM_CIPHER;

/// Which of the two profiles of the format a store follows.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Profile {
    /// Ours: ZSTD, keyed chunking, XChaCha20-Poly1305, key slots.
    #[default]
    Native,
    /// What upstream 1.1.x writes: LZ4, AES-256-GCM-SIV, and every upstream opens it.
    Plakar,
}

/// How hard deriving a key from a passphrase is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct KdfChoice(Strength);

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Strength {
    #[default]
    Recommended,
    Weak,
}

impl KdfChoice {
    /// Parameters that take milliseconds and protect nothing: for tests that are about something else.
    #[doc(hidden)]
    pub fn weak_for_tests() -> Self {
        Self(Strength::Weak)
    }

    fn native(self) -> Argon2id {
        match self.0 {
            Strength::Recommended => Argon2id::RECOMMENDED,
            Strength::Weak => Argon2id { time: 1, memory_kib: 64, threads: 1, key_len: 32 },
        }
    }

    fn upstream(self) -> Argon2id {
        match self.0 {
            Strength::Recommended => Argon2id::UPSTREAM,
            Strength::Weak => Argon2id { time: 1, memory_kib: 64, threads: 1, key_len: 32 },
        }
    }
}

/// What a new store shall be.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// Its profile.
    pub profile: Profile,
    /// The passphrase that opens it; `None` makes a plaintext store.
    pub passphrase: Option<Secret>,
    /// Its compression; `None` takes the profile's.
    pub compression: Option<Compression>,
    /// Its hash.
    pub hashing: HashAlgorithm,
    /// How hard the passphrase is stretched.
    pub kdf: KdfChoice,
    /// Largest blob area of a packfile in bytes; `None` takes the profile's.
    pub packfile_size: Option<u64>,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self {
            profile: Profile::Native,
            passphrase: None,
            compression: None,
            hashing: HashAlgorithm::Blake3,
            kdf: KdfChoice::default(),
            packfile_size: None,
        }
    }
}

/// Why a CONFIG cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The key derivation failed.
    #[error("cannot derive a key from the passphrase")]
    Kdf(#[from] crate::crypto::kdf::KdfError),
    /// A key slot could not be made.
    #[error("cannot make a key slot")]
    Slot(#[from] SlotError),
    /// Sealing failed.
    #[error("cannot seal the canary")]
    Seal(#[from] SealError),
    /// The storage refused it.
    #[error(transparent)]
    Connector(#[from] crate::connector::Error),
}

/// Label of a store's first key slot.
const FIRST_SLOT: &str = "main";
const SEGMENT: u64 = 65536;
/// Level 1 is twice as fast as 3 and stores 3 to 6 % more: a backup reads everything and keeps little of it.
const DEFAULT_ZSTD_LEVEL: i64 = 1;
const NATIVE_PACKFILE: u64 = 32 << 20;
const UPSTREAM_PACKFILE: u64 = 64 << 20;

/// Makes the CONFIG resource of a new store with a fresh RepositoryID, and the master key if it has one.
pub(super) fn make_config(options: &CreateOptions) -> Result<(Vec<u8>, Option<Key>), CreateError> {
    let mut config = skeleton(options);
    let Some(passphrase) = &options.passphrase else {
        return Ok((finish(&config, None), None));
    };
    let master = match options.profile {
        Profile::Native => {
            let master = Key::random();
            let slot = native_slot(&master, passphrase, options.kdf, FIRST_SLOT)?;
            seal_native(&mut config, &master, vec![slot])?;
            master
        }
        Profile::Plakar => {
            let (kdf, master) = upstream_key(passphrase, options.kdf)?;
            config.encryption = Some(upstream_encryption(kdf, &master)?);
            master
        }
    };
    Ok((finish(&config, Some(&master)), Some(master)))
}

/// Makes the CONFIG of an archive that keeps the keys of the store `of`: its slots, under a RepositoryID of its
/// own.
pub(super) fn make_same_key_config(of: &Config, master: Option<&Key>) -> Result<Vec<u8>, CreateError> {
    let mut config = of.clone();
    config.repository_id = uuid();
    config.timestamp = Timestamp::now();
    config.packfile.max = u64::MAX;
    let native = of.encryption.as_ref().and_then(|encryption| encryption.native.as_ref());
    if let (Some(native), Some(master)) = (native, master) {
        let slots = native.slots.clone();
        seal_native(&mut config, master, slots)?;
    }
    Ok(finish(&config, master))
}

/// Everything but the encryption.
fn skeleton(options: &CreateOptions) -> Config {
    let (compression, algorithm, packfile) = match options.profile {
        Profile::Native => {
            let chunker = if options.passphrase.is_some() { "fastcdc2020-keyed" } else { "fastcdc2020" };
            (Compression::zstd(DEFAULT_ZSTD_LEVEL), chunker, NATIVE_PACKFILE)
        }
        Profile::Plakar => (Compression::Lz4, "fastcdc-v1.0.0", UPSTREAM_PACKFILE),
    };
    Config {
        timestamp: Timestamp::now(),
        repository_id: uuid(),
        packfile: PackfileSizes::new(options.packfile_size.unwrap_or(packfile)),
        chunking: Chunking { algorithm: algorithm.into(), min: 512 << 10, normal: 1 << 20, max: 8 << 20 },
        hashing: Hashing::new(options.hashing.name()),
        compression: describe(options.compression.unwrap_or(compression)),
        encryption: None,
    }
}

/// Describes a compression as upstream's defaults do.
fn describe(compression: Compression) -> Option<config::Compression> {
    let (algorithm, level) = match compression {
        Compression::None => return None,
        Compression::Lz4 => ("LZ4", 131_072),
        Compression::Gzip => ("GZIP", -1),
        Compression::Zstd { level } => ("ZSTD", i64::from(level)),
    };
    Some(config::Compression::new(algorithm, level))
}

/// Returns a random UUID, version 4.
fn uuid() -> [u8; 16] {
    let mut bytes: [u8; 16] = random::array();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}

/// Makes a slot that a passphrase opens.
pub(super) fn native_slot(
    master: &Key,
    passphrase: &Secret,
    kdf: KdfChoice,
    label: &str,
) -> Result<config::Slot, SlotError> {
    let argon2 = kdf.native();
    let slot = match kdf.0 {
        Strength::Recommended => Slot::for_passphrase(master, passphrase.as_bytes(), argon2)?,
        Strength::Weak => Slot::for_passphrase_with(
            master,
            passphrase.as_bytes(),
            argon2,
            random::array(),
            &random::array::<16>(),
            random::array(),
        )?,
    };
    Ok(to_config_slot(&slot, label))
}

/// Describes a slot for CONFIG.
pub(super) fn to_config_slot(slot: &Slot, label: &str) -> config::Slot {
    let kdf = match slot.kind {
        SlotKind::Passphrase(argon2) => kdf_params("ARGON2ID", &slot.salt, Some(argon2)),
        SlotKind::Recovery => kdf_params("BLAKE3", &slot.salt, None),
    };
    config::Slot {
        id: slot.id,
        label: label.into(),
        kind: match slot.kind {
            SlotKind::Passphrase(_) => config::SlotKind::Passphrase,
            SlotKind::Recovery => config::SlotKind::Recovery,
        },
        created: Timestamp::now(),
        kdf,
        commit: slot.commit,
        nonce: slot.nonce,
        sealed: slot.sealed,
    }
}

fn kdf_params(kdf: &str, salt: &[u8], argon2: Option<Argon2id>) -> KdfParams {
    let argon2id = argon2.map(|argon2| config::Argon2id {
        salt_size: u32::try_from(salt.len()).expect("salts are short"),
        time: argon2.time,
        memory: argon2.memory_kib,
        threads: u8::try_from(argon2.threads).expect("at most 16 lanes"),
        key_len: argon2.key_len,
    });
    KdfParams { kdf: kdf.into(), salt: salt.to_vec(), argon2id, scrypt: None, pbkdf2: None }
}

/// Fills in the native encryption; its `Sum` is computed when the resource is finished.
fn seal_native(config: &mut Config, master: &Key, slots: Vec<config::Slot>) -> Result<(), CreateError> {
    let keys = NativeKeys::derive(master, &config.repository_id);
    let cipher = Cipher::native(&keys, SEGMENT)?;
    let mut canary = Vec::new();
    cipher.seal(Item::canary(), &random::array::<32>(), &mut canary)?;
    config.encryption = Some(Encryption {
        subkey_algorithm: NATIVE_SUBKEY.into(),
        data_algorithm: NATIVE_CIPHER.into(),
        chunk_size: i64::try_from(SEGMENT).expect("a small number"),
        kdf: kdf_params(NATIVE_KDF, &random::array::<16>(), None),
        canary,
        native: Some(Native {
            version: NATIVE_VERSION,
            generation: 1,
            key_check: keys.key_check,
            slots,
            sum: [0; 32],
            editable: true,
        }),
    });
    Ok(())
}

fn upstream_key(passphrase: &Secret, kdf: KdfChoice) -> Result<(KdfParams, Key), CreateError> {
    let salt: [u8; 16] = random::array();
    let argon2 = kdf.upstream();
    let master = Kdf::Argon2id(argon2).derive(passphrase.as_bytes(), &salt)?;
    Ok((kdf_params("ARGON2ID", &salt, Some(argon2)), master))
}

fn upstream_encryption(kdf: KdfParams, master: &Key) -> Result<Encryption, CreateError> {
    let cipher = Cipher::aes(master, SubkeyAlgorithm::Kw, SEGMENT)?;
    let mut canary = Vec::new();
    cipher.seal(Item::canary(), &random::array::<32>(), &mut canary)?;
    Ok(Encryption {
        subkey_algorithm: "AES256-KW".into(),
        data_algorithm: UPSTREAM_CIPHER.into(),
        chunk_size: i64::try_from(SEGMENT).expect("a small number"),
        kdf,
        canary,
        native: None,
    })
}

/// Encodes a CONFIG resource: the native `Sum` filled in, the trailer keyed as the profile asks.
pub(super) fn finish(config: &Config, master: Option<&Key>) -> Vec<u8> {
    let header = wrapper::header(Resource::Config, Version::V1_0_0);
    let mut bytes = header.to_vec();
    bytes.extend_from_slice(&config.encode_payload());
    let native = config.encryption.as_ref().is_some_and(|encryption| encryption.native.is_some());
    if native {
        let at = bytes.len() - 32;
        let sum = hash(HashAlgorithm::Blake3, &bytes[..at]);
        bytes[at..].copy_from_slice(sum.as_bytes());
    }
    let trailer = match master {
        None => hash(HashAlgorithm::Blake3, &bytes),
        Some(master) if native => {
            let keys = NativeKeys::derive(master, &config.repository_id);
            MacKey::new(HashAlgorithm::Blake3, *keys.config.as_bytes()).mac(&bytes)
        }
        Some(master) => MacKey::new(HashAlgorithm::Blake3, *master.as_bytes()).mac(&bytes),
    };
    bytes.extend_from_slice(trailer.as_bytes());
    bytes
}
