//! CONFIG -> bytes.

use super::native::{Native, Slot};
use super::types::{Chunking, Compression, Config, Encryption, Hashing, KdfParams, PackfileSizes};
use crate::format::msgpack::Writer;

impl Config {
    /// Encodes the payload. Of a native CONFIG the sum comes last and is written as it stands in the value: see
    /// [`super::set_sum`].
    pub fn encode_payload(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        Writer::new(&mut out).map(|m| {
            m.key("Timestamp").time(self.timestamp);
            m.key("RepositoryID").bin(self.repository_id);
            self.packfile.write(&mut m.key("Packfile"));
            self.chunking.write(&mut m.key("Chunking"));
            self.hashing.write(&mut m.key("Hashing"));
            match &self.compression {
                Some(compression) => compression.write(&mut m.key("Compression")),
                None => m.key("Compression").nil(),
            }
            match &self.encryption {
                Some(encryption) => encryption.write(&mut m.key("Encryption")),
                None => m.key("Encryption").nil(),
            }
        });
        out
    }
}

impl PackfileSizes {
    fn write(&self, w: &mut Writer<'_>) {
        w.map(|m| {
            m.key("MinSize").u64(self.min);
            m.key("AvgSize").u64(self.avg);
            m.key("MaxSize").u64(self.max);
        });
    }
}

impl Chunking {
    fn write(&self, w: &mut Writer<'_>) {
        w.map(|m| {
            m.key("Algorithm").str(&self.algorithm);
            m.key("MinSize").u32(self.min);
            m.key("NormalSize").u32(self.normal);
            m.key("MaxSize").u32(self.max);
        });
    }
}

impl Hashing {
    fn write(&self, w: &mut Writer<'_>) {
        w.map(|m| {
            m.key("Algorithm").str(&self.algorithm);
            m.key("Bits").u32(self.bits);
        });
    }
}

impl Compression {
    fn write(&self, w: &mut Writer<'_>) {
        w.map(|m| {
            m.key("Algorithm").str(&self.algorithm);
            m.key("Level").int(self.level);
            m.key("WindowSize").int(self.window_size);
            m.key("ChunkSize").int(self.chunk_size);
            m.key("BlockSize").int(self.block_size);
            m.key("EnableCRC").bool(self.enable_crc);
        });
    }
}

impl Encryption {
    fn write(&self, w: &mut Writer<'_>) {
        w.map(|m| {
            m.key("SubKeyAlgorithm").str(&self.subkey_algorithm);
            m.key("DataAlgorithm").str(&self.data_algorithm);
            m.key("ChunkSize").int(self.chunk_size);
            self.kdf.write(&mut m.key("KDFParams"));
            m.key("Canary").bin(&self.canary);
            if let Some(native) = &self.native {
                native.write(&mut m.key("Native"));
            }
        });
    }
}

impl KdfParams {
    fn write(&self, w: &mut Writer<'_>) {
        w.map(|m| {
            m.key("KDF").str(&self.kdf);
            m.key("Salt").bin(&self.salt);
            if let Some(argon2id) = &self.argon2id {
                m.key("argon2id").map(|m| {
                    m.key("SaltSize").u32(argon2id.salt_size);
                    m.key("Time").u32(argon2id.time);
                    m.key("Memory").u32(argon2id.memory);
                    m.key("Threads").u8(argon2id.threads);
                    m.key("KeyLen").u32(argon2id.key_len);
                });
            }
            if let Some(scrypt) = &self.scrypt {
                m.key("scrypt").map(|m| {
                    m.key("SaltSize").u32(scrypt.salt_size);
                    m.key("N").int(scrypt.n);
                    m.key("R").int(scrypt.r);
                    m.key("P").int(scrypt.p);
                    m.key("KeyLen").int(scrypt.key_len);
                });
            }
            if let Some(pbkdf2) = &self.pbkdf2 {
                m.key("pbkdf2").map(|m| {
                    m.key("SaltSize").u32(pbkdf2.salt_size);
                    m.key("Iterations").int(pbkdf2.iterations);
                    m.key("KeyLen").int(pbkdf2.key_len);
                    m.key("Hashing").str(&pbkdf2.hashing);
                });
            }
        });
    }
}

impl Native {
    fn write(&self, w: &mut Writer<'_>) {
        w.map(|m| {
            m.key("Version").u32(self.version);
            m.key("Generation").u64(self.generation);
            m.key("KeyCheck").bin(self.key_check);
            m.key("Slots").list(&self.slots, |w, slot| slot.write(w));
            m.key("Sum").bin(self.sum);
        });
    }
}

impl Slot {
    fn write(&self, w: &mut Writer<'_>) {
        w.map(|m| {
            m.key("Id").bin(self.id);
            m.key("Label").str(&self.label);
            m.key("Kind").str(self.kind.name());
            m.key("Created").time(self.created);
            self.kdf.write(&mut m.key("KDFParams"));
            m.key("Commit").bin(self.commit);
            m.key("Nonce").bin(self.nonce);
            m.key("Sealed").bin(self.sealed);
        });
    }
}
