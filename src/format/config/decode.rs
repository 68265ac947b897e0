//! Bytes -> CONFIG.

use std::collections::BTreeSet;

use super::native::{NATIVE_VERSION, Native, Slot, SlotKind};
use super::types::{
    Argon2id, Chunking, Compression, Config, Encryption, Hashing, KdfParams, MAX_CONFIG_LEN, PackfileSizes,
    Pbkdf2, Scrypt,
};
use crate::base::Timestamp;
use crate::format::error::{Error, Result};
use crate::format::msgpack::Reader;
use crate::format::version::Version;
use crate::format::wrapper::{HEADER_LEN, TRAILER_LEN};

const WHAT: &str = "CONFIG";

/// What was seen on the way.
#[derive(Default)]
struct Seen {
    duplicate: Option<String>,
}

impl Seen {
    /// Reads a map, noting keys that occur twice.
    fn map<'a>(
        &mut self,
        r: &mut Reader<'a>,
        mut each: impl FnMut(&mut Self, &'a [u8], &mut Reader<'a>) -> Result<()>,
    ) -> Result<()> {
        let mut keys = BTreeSet::new();
        r.map(|key, r| {
            if !keys.insert(key) && self.duplicate.is_none() {
                self.duplicate = Some(key.escape_ascii().to_string());
            }
            each(self, key, r)
        })
    }
}

impl Config {
    /// Decodes a payload. Fails when it is too long, or when the native profile's bounds do not hold; the
    /// parameters of algorithms are theirs to check.
    pub fn decode_payload(payload: &[u8]) -> Result<Self> {
        if payload.len() > MAX_CONFIG_LEN - HEADER_LEN - TRAILER_LEN {
            return Err(Error::malformed(WHAT, format!("a payload of {} bytes", payload.len())));
        }
        let mut seen = Seen::default();
        let mut config = Self {
            timestamp: Timestamp::ZERO,
            repository_id: [0; 16],
            packfile: PackfileSizes::new(0),
            chunking: Chunking { algorithm: String::new(), min: 0, normal: 0, max: 0 },
            hashing: Hashing { algorithm: String::new(), bits: 0 },
            compression: None,
            encryption: None,
        };
        let mut r = Reader::new(WHAT, payload);
        seen.map(&mut r, |seen, key, r| {
            match key {
                b"Timestamp" => config.timestamp = r.time()?,
                b"RepositoryID" => config.repository_id = r.array_of()?,
                b"Packfile" => config.packfile = read_packfile(seen, r)?,
                b"Chunking" => config.chunking = read_chunking(seen, r)?,
                b"Hashing" => config.hashing = read_hashing(seen, r)?,
                b"Compression" if !r.nil() => config.compression = Some(read_compression(seen, r)?),
                b"Encryption" if !r.nil() => config.encryption = Some(read_encryption(seen, r)?),
                b"Compression" | b"Encryption" => {}
                _ => r.skip()?,
            }
            Ok(())
        })?;
        r.finish()?;
        config.check_native(payload)?;
        let is_canonical = config.encode_payload() == payload;
        if let Some(native) = config.encryption.as_mut().and_then(|encryption| encryption.native.as_mut()) {
            if let Some(key) = seen.duplicate {
                return Err(Error::malformed(WHAT, format!("the member \"{key}\" occurs twice")));
            }
            // Unknown members show here: they are not encoded again.
            native.editable = is_canonical;
        }
        Ok(config)
    }
}

fn read_packfile(seen: &mut Seen, r: &mut Reader<'_>) -> Result<PackfileSizes> {
    let mut sizes = PackfileSizes::new(0);
    seen.map(r, |_, key, r| {
        match key {
            b"MinSize" => sizes.min = r.u64()?,
            b"AvgSize" => sizes.avg = r.u64()?,
            b"MaxSize" => sizes.max = r.u64()?,
            _ => r.skip()?,
        }
        Ok(())
    })?;
    Ok(sizes)
}

fn read_chunking(seen: &mut Seen, r: &mut Reader<'_>) -> Result<Chunking> {
    let mut chunking = Chunking { algorithm: String::new(), min: 0, normal: 0, max: 0 };
    seen.map(r, |_, key, r| {
        match key {
            b"Algorithm" => chunking.algorithm = r.text()?,
            b"MinSize" => chunking.min = r.u32()?,
            b"NormalSize" => chunking.normal = r.u32()?,
            b"MaxSize" => chunking.max = r.u32()?,
            _ => r.skip()?,
        }
        Ok(())
    })?;
    Ok(chunking)
}

fn read_hashing(seen: &mut Seen, r: &mut Reader<'_>) -> Result<Hashing> {
    let mut hashing = Hashing { algorithm: String::new(), bits: 0 };
    seen.map(r, |_, key, r| {
        match key {
            b"Algorithm" => hashing.algorithm = r.text()?,
            b"Bits" => hashing.bits = r.u32()?,
            _ => r.skip()?,
        }
        Ok(())
    })?;
    Ok(hashing)
}

fn read_compression(seen: &mut Seen, r: &mut Reader<'_>) -> Result<Compression> {
    let mut compression = Compression::new("", 0);
    (compression.window_size, compression.chunk_size, compression.block_size) = (0, 0, 0);
    seen.map(r, |_, key, r| {
        match key {
            b"Algorithm" => compression.algorithm = r.text()?,
            b"Level" => compression.level = r.i64()?,
            b"WindowSize" => compression.window_size = r.i64()?,
            b"ChunkSize" => compression.chunk_size = r.i64()?,
            b"BlockSize" => compression.block_size = r.i64()?,
            b"EnableCRC" => compression.enable_crc = r.bool()?,
            _ => r.skip()?,
        }
        Ok(())
    })?;
    Ok(compression)
}

fn read_encryption(seen: &mut Seen, r: &mut Reader<'_>) -> Result<Encryption> {
    let mut encryption = Encryption {
        subkey_algorithm: String::new(),
        data_algorithm: String::new(),
        chunk_size: 0,
        kdf: KdfParams::default(),
        canary: Vec::new(),
        native: None,
    };
    seen.map(r, |seen, key, r| {
        match key {
            b"SubKeyAlgorithm" => encryption.subkey_algorithm = r.text()?,
            b"DataAlgorithm" => encryption.data_algorithm = r.text()?,
            b"ChunkSize" => encryption.chunk_size = r.i64()?,
            b"KDFParams" => encryption.kdf = read_kdf(seen, r)?,
            b"Canary" => encryption.canary = r.bytes()?.to_vec(),
            b"Native" if !r.nil() => encryption.native = Some(read_native(seen, r)?),
            b"Native" => {}
            _ => r.skip()?,
        }
        Ok(())
    })?;
    Ok(encryption)
}

fn read_kdf(seen: &mut Seen, r: &mut Reader<'_>) -> Result<KdfParams> {
    let mut params = KdfParams::default();
    seen.map(r, |seen, key, r| {
        match key {
            b"KDF" => params.kdf = r.text()?,
            b"Salt" => params.salt = r.bytes()?.to_vec(),
            b"argon2id" if !r.nil() => params.argon2id = Some(read_argon2id(seen, r)?),
            b"scrypt" if !r.nil() => params.scrypt = Some(read_scrypt(seen, r)?),
            b"pbkdf2" if !r.nil() => params.pbkdf2 = Some(read_pbkdf2(seen, r)?),
            b"argon2id" | b"scrypt" | b"pbkdf2" => {}
            _ => r.skip()?,
        }
        Ok(())
    })?;
    Ok(params)
}

fn read_argon2id(seen: &mut Seen, r: &mut Reader<'_>) -> Result<Argon2id> {
    let mut params = Argon2id::default();
    seen.map(r, |_, key, r| {
        match key {
            b"SaltSize" => params.salt_size = r.u32()?,
            b"Time" => params.time = r.u32()?,
            b"Memory" => params.memory = r.u32()?,
            b"Threads" => params.threads = r.u8()?,
            b"KeyLen" => params.key_len = r.u32()?,
            _ => r.skip()?,
        }
        Ok(())
    })?;
    Ok(params)
}

fn read_scrypt(seen: &mut Seen, r: &mut Reader<'_>) -> Result<Scrypt> {
    let mut params = Scrypt::default();
    seen.map(r, |_, key, r| {
        match key {
            b"SaltSize" => params.salt_size = r.u32()?,
            b"N" => params.n = r.i64()?,
            b"R" => params.r = r.i64()?,
            b"P" => params.p = r.i64()?,
            b"KeyLen" => params.key_len = r.i64()?,
            _ => r.skip()?,
        }
        Ok(())
    })?;
    Ok(params)
}

fn read_pbkdf2(seen: &mut Seen, r: &mut Reader<'_>) -> Result<Pbkdf2> {
    let mut params = Pbkdf2::default();
    seen.map(r, |_, key, r| {
        match key {
            b"SaltSize" => params.salt_size = r.u32()?,
            b"Iterations" => params.iterations = r.i64()?,
            b"KeyLen" => params.key_len = r.i64()?,
            b"Hashing" => params.hashing = r.text()?,
            _ => r.skip()?,
        }
        Ok(())
    })?;
    Ok(params)
}

fn read_native(seen: &mut Seen, r: &mut Reader<'_>) -> Result<Native> {
    let mut native = Native {
        version: 0,
        generation: 0,
        key_check: [0; 32],
        slots: Vec::new(),
        sum: [0; 32],
        editable: false,
    };
    seen.map(r, |seen, key, r| {
        match key {
            b"Version" => {
                native.version = r.u32()?;
                // At once: what follows need not have today's shape.
                if native.version > NATIVE_VERSION {
                    return Err(Error::Version { what: "native profile", found: Version(native.version) });
                }
            }
            b"Generation" => native.generation = r.u64()?,
            b"KeyCheck" => native.key_check = r.array_of()?,
            b"Slots" => native.slots = r.list(|r| read_slot(seen, r))?,
            b"Sum" => native.sum = r.array_of()?,
            _ => r.skip()?,
        }
        Ok(())
    })?;
    if native.version == NATIVE_VERSION {
        Ok(native)
    } else {
        Err(r.error(format!("version {} of the native profile", native.version)))
    }
}

fn read_slot(seen: &mut Seen, r: &mut Reader<'_>) -> Result<Slot> {
    let mut kind = None;
    let mut slot = Slot {
        id: [0; 16],
        label: String::new(),
        kind: SlotKind::Passphrase,
        created: Timestamp::ZERO,
        kdf: KdfParams::default(),
        commit: [0; 32],
        nonce: [0; 24],
        sealed: [0; 48],
    };
    seen.map(r, |seen, key, r| {
        match key {
            b"Id" => slot.id = r.array_of()?,
            b"Label" => slot.label = r.text()?,
            b"Kind" => {
                let name = r.bytes()?;
                let known = SlotKind::from_name(name);
                kind = Some(
                    known
                        .ok_or_else(|| r.error(format!("a key slot of kind \"{}\"", name.escape_ascii())))?,
                );
            }
            b"Created" => slot.created = r.time()?,
            b"KDFParams" => slot.kdf = read_kdf(seen, r)?,
            b"Commit" => slot.commit = r.array_of()?,
            b"Nonce" => slot.nonce = r.array_of()?,
            b"Sealed" => slot.sealed = r.array_of()?,
            _ => r.skip()?,
        }
        Ok(())
    })?;
    slot.kind = kind.ok_or_else(|| r.error("a key slot without a kind"))?;
    Ok(slot)
}
