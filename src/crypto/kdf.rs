//! Keys from passphrases: Argon2id, scrypt and PBKDF2 within bounds.
//!
//! The parameters come out of a configuration that the storage controls, so they are checked before anything is
//! allocated or computed (bounds: FORMAT.md, native profile, key derivation): what is refused is refused at
//! once, and by the name the configuration gives it.

use std::fmt;

use argon2::{Algorithm, Argon2, Block, Version};
use sha2::Sha256;
use zeroize::Zeroize;

use super::secret::Key;

const GIB: u64 = 1 << 30;
/// The least memory a writer gives Argon2id, in KiB: 19 MiB, the floor that OWASP names.
const WRITER_MIN_MEMORY_KIB: u32 = 19 * 1024;

/// A key cannot be derived with these parameters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KdfError {
    /// A parameter is outside the bounds.
    #[error("{kdf} parameter {parameter} = {found} is out of bounds: {bound}")]
    OutOfBounds {
        /// The function, as configurations name it.
        kdf: &'static str,
        /// The parameter, as configurations name it.
        parameter: &'static str,
        /// Its value.
        found: i128,
        /// What would be accepted.
        bound: &'static str,
    },
    /// A function or a hash that is not supported.
    #[error("unsupported {what}: {}", name.escape_debug())]
    Unsupported {
        /// What kind of name it is.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The memory that the parameters ask for cannot be had.
    #[error("not enough memory for key derivation: {bytes} bytes are needed")]
    OutOfMemory {
        /// What was asked for.
        bytes: u64,
    },
}

fn check(
    kdf: &'static str,
    parameter: &'static str,
    found: impl Into<i128>,
    holds: bool,
    bound: &'static str,
) -> Result<(), KdfError> {
    let found = found.into();
    if holds { Ok(()) } else { Err(KdfError::OutOfBounds { kdf, parameter, found, bound }) }
}

/// Argon2id, version 0x13, no secret, no associated data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Argon2id {
    /// Passes over the memory.
    pub time: u32,
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Lanes; computed in parallel.
    pub threads: u32,
    /// Bytes of key; must be 32.
    pub key_len: u32,
}

/// scrypt, with the member names of a configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scrypt {
    /// Cost; a power of two.
    pub n: i64,
    /// Block size.
    pub r: i64,
    /// Parallelism.
    pub p: i64,
    /// Bytes of key; must be 32.
    pub key_len: i64,
}

/// PBKDF2 with HMAC.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pbkdf2 {
    /// Rounds.
    pub iterations: i64,
    /// Bytes of key; must be 32.
    pub key_len: i64,
    /// The hash's name; only `SHA256` is supported.
    pub hashing: String,
}

/// A key derivation function with its parameters, as a configuration gives them: unchecked until used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kdf {
    /// `ARGON2ID`.
    Argon2id(Argon2id),
    /// `SCRYPT`.
    Scrypt(Scrypt),
    /// `PBKDF2`.
    Pbkdf2(Pbkdf2),
}

impl Kdf {
    /// Returns the name a configuration uses.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Argon2id(_) => "ARGON2ID",
            Self::Scrypt(_) => "SCRYPT",
            Self::Pbkdf2(_) => "PBKDF2",
        }
    }

    /// Checks all bounds without computing anything.
    pub fn check(&self, salt: &[u8]) -> Result<(), KdfError> {
        check(
            self.name(),
            "Salt length",
            salt.len() as i128,
            (16..=64).contains(&salt.len()),
            "16 to 64 bytes",
        )?;
        match self {
            Self::Argon2id(argon2) => argon2.check(),
            Self::Scrypt(scrypt) => scrypt.check().map(drop),
            Self::Pbkdf2(pbkdf2) => pbkdf2.check().map(drop),
        }
    }

    /// key = KDF(passphrase, salt). The passphrase is taken as it stands, without any normalisation.
    ///
    /// Takes as long as the parameters say, within the bounds. Errors name the parameter.
    pub fn derive(&self, passphrase: &[u8], salt: &[u8]) -> Result<Key, KdfError> {
        self.check(salt)?;
        match self {
            Self::Argon2id(argon2) => argon2.derive(passphrase, salt),
            Self::Scrypt(scrypt) => scrypt.derive(passphrase, salt),
            Self::Pbkdf2(pbkdf2) => pbkdf2.derive(passphrase, salt),
        }
    }
}

impl Argon2id {
    /// What new stores in the native profile use: 4 passes over 192 MiB in 4 lanes, about a third of a second
    /// on two cores.
    pub const RECOMMENDED: Self = Self { time: 4, memory_kib: 192 * 1024, threads: 4, key_len: 32 };

    /// What upstream writes into its configurations, for stores in its profile: 4 passes over 256 MiB, one lane.
    pub const UPSTREAM: Self = Self { time: 4, memory_kib: 256 * 1024, threads: 1, key_len: 32 };

    /// Checks the bounds for reading.
    pub fn check(&self) -> Result<(), KdfError> {
        const KDF: &str = "ARGON2ID";
        let (t, m, p) = (u64::from(self.time), u64::from(self.memory_kib), u64::from(self.threads));
        check(KDF, "KeyLen", self.key_len, self.key_len == 32, "32")?;
        check(KDF, "Threads", self.threads, (1..=16).contains(&p), "1 to 16")?;
        check(KDF, "Memory", self.memory_kib, m >= 8 * p && m << 10 <= GIB, "8 KiB per lane to 1 GiB")?;
        check(KDF, "Time", self.time, (1..=64).contains(&t), "1 to 64")?;
        check(KDF, "Time × Memory", t * m, t * (m << 10) <= 8 * GIB, "at most 8 GiB")
    }

    /// Checks the bounds for writing: those for reading, and at least 19 MiB of memory.
    pub fn check_for_writing(&self) -> Result<(), KdfError> {
        self.check()?;
        let enough = self.memory_kib >= WRITER_MIN_MEMORY_KIB;
        check("ARGON2ID", "Memory", self.memory_kib, enough, "at least 19 MiB in what is written")
    }

    fn derive(&self, passphrase: &[u8], salt: &[u8]) -> Result<Key, KdfError> {
        let params = argon2::Params::new(self.memory_kib, self.time, self.threads, Some(32))
            .expect("the bounds are narrower than the library's");
        let count = params.block_count();
        let mut memory = Memory(Vec::new());
        if memory.0.try_reserve_exact(count).is_err() {
            return Err(KdfError::OutOfMemory { bytes: count as u64 * Block::SIZE as u64 });
        }
        memory.0.resize(count, Block::new());
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        Key::fill_with(|key| argon2.hash_password_into_with_memory(passphrase, salt, key, &mut memory.0))
            .map_err(|_| KdfError::OutOfBounds {
                kdf: "ARGON2ID",
                parameter: "passphrase length",
                found: passphrase.len() as i128,
                bound: "less than 4 GiB",
            })
    }
}

/// Argon2's working memory, which the library would free unwiped.
struct Memory(Vec<Block>);

impl Drop for Memory {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(Zeroize::zeroize);
    }
}

impl Scrypt {
    fn check(&self) -> Result<scrypt::Params, KdfError> {
        const KDF: &str = "SCRYPT";
        check(KDF, "KeyLen", self.key_len, self.key_len == 32, "32")?;
        let n = u64::try_from(self.n).unwrap_or(0);
        check(KDF, "N", self.n, n >= 2 && n.is_power_of_two(), "a power of two above 1")?;
        check(KDF, "P", self.p, (1..=16).contains(&self.p), "1 to 16")?;
        check(KDF, "R", self.r, (1..=1 << 20).contains(&self.r), "1 to 1048576")?;
        let memory = 128 * i128::from(self.n) * i128::from(self.r);
        check(KDF, "128·N·R", memory, memory <= i128::from(GIB), "at most 1 GiB")?;
        let blocks = 128 * i128::from(self.r) * i128::from(self.p);
        check(KDF, "128·R·P", blocks, blocks <= 64 << 20, "at most 64 MiB")?;
        let small = |value: i64| u32::try_from(value).expect("checked above");
        let log_n = u8::try_from(n.trailing_zeros()).expect("below 64");
        scrypt::Params::new(log_n, small(self.r), small(self.p)).map_err(|_| KdfError::OutOfBounds {
            kdf: KDF,
            parameter: "R·P",
            found: i128::from(self.r) * i128::from(self.p),
            bound: "below 2^30",
        })
    }

    fn derive(&self, passphrase: &[u8], salt: &[u8]) -> Result<Key, KdfError> {
        let params = self.check()?;
        let key = Key::fill_with(|key| scrypt::scrypt(passphrase, salt, &params, key));
        Ok(key.expect("32 bytes of output are allowed"))
    }
}

impl Pbkdf2 {
    fn check(&self) -> Result<u32, KdfError> {
        const KDF: &str = "PBKDF2";
        if self.hashing != "SHA256" {
            return Err(KdfError::Unsupported { what: "PBKDF2 hash", name: self.hashing.clone() });
        }
        check(KDF, "KeyLen", self.key_len, self.key_len == 32, "32")?;
        check(
            KDF,
            "Iterations",
            self.iterations,
            (1..=20_000_000).contains(&self.iterations),
            "1 to 20000000",
        )?;
        Ok(u32::try_from(self.iterations).expect("checked above"))
    }

    fn derive(&self, passphrase: &[u8], salt: &[u8]) -> Result<Key, KdfError> {
        let rounds = self.check()?;
        Key::fill_with(|key| {
            pbkdf2::pbkdf2_hmac::<Sha256>(passphrase, salt, rounds, key);
            Ok(())
        })
    }
}

impl fmt::Display for Kdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Id;

    const SALT: &[u8] = b"0123456789abcdef";

    fn hex(key: &Key) -> String {
        Id(*key.as_bytes()).to_hex()
    }

    fn parameter(kdf: Kdf) -> &'static str {
        match kdf.derive(b"x", SALT).unwrap_err() {
            KdfError::OutOfBounds { parameter, .. } => parameter,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn master_keys_of_the_format() {
        let cases = [
            (
                Kdf::Argon2id(Argon2id::UPSTREAM),
                "a721ccccc4adaf7de9987cf6bfa36afeccb1e42d267f2fbdaec52517f1cc0d1e",
            ),
            (
                Kdf::Scrypt(Scrypt { n: 32768, r: 8, p: 1, key_len: 32 }),
                "a6e1c5f30b25e0fe6d47724036c0a579988e41eb3ed39298d8fa076d41293064",
            ),
            (
                Kdf::Pbkdf2(Pbkdf2 { iterations: 100_000, key_len: 32, hashing: "SHA256".into() }),
                "598115575ba5d2a06dee21a7385a6ae51987d1a385be638a4e5500827f665983",
            ),
        ];
        for (kdf, expected) in cases {
            assert_eq!(hex(&kdf.derive(b"correct horse", SALT).unwrap()), expected, "{kdf}");
        }
    }

    #[test]
    fn lanes_run_as_the_specification_says() {
        let kdf = Kdf::Argon2id(Argon2id { time: 1, memory_kib: 64, threads: 4, key_len: 32 });
        assert_eq!(
            hex(&kdf.derive(b"correct horse", SALT).unwrap()),
            "4bf1418bc7ca13ff540f8bed4e44451cb7821e901517b4f852fee157affc964a"
        );
    }

    #[test]
    fn hostile_argon2_parameters_are_refused_by_name() {
        let good = Argon2id { time: 1, memory_kib: 64, threads: 1, key_len: 32 };
        let cases = [
            (Argon2id { memory_kib: u32::MAX, ..good }, "Memory"),
            (Argon2id { memory_kib: (1 << 20) + 1, ..good }, "Memory"),
            (Argon2id { memory_kib: 7, ..good }, "Memory"),
            (Argon2id { threads: 4, memory_kib: 31, ..good }, "Memory"),
            (Argon2id { time: u32::MAX, ..good }, "Time"),
            (Argon2id { time: 0, ..good }, "Time"),
            (Argon2id { time: 9, memory_kib: 1 << 20, ..good }, "Time × Memory"),
            (Argon2id { threads: 0, ..good }, "Threads"),
            (Argon2id { threads: 17, ..good }, "Threads"),
            (Argon2id { key_len: 31, ..good }, "KeyLen"),
            (Argon2id { key_len: u32::MAX, ..good }, "KeyLen"),
        ];
        for (argon2, name) in cases {
            assert_eq!(parameter(Kdf::Argon2id(argon2)), name, "{argon2:?}");
        }
        Argon2id { time: 8, memory_kib: 1 << 20, ..good }.check().unwrap();
        Argon2id { time: 64, memory_kib: 128 << 10, threads: 16, ..good }.check().unwrap();
    }

    #[test]
    fn hostile_scrypt_and_pbkdf2_parameters_are_refused_by_name() {
        let good = Scrypt { n: 1024, r: 8, p: 1, key_len: 32 };
        let cases = [
            (Scrypt { n: 0, ..good }, "N"),
            (Scrypt { n: 1, ..good }, "N"),
            (Scrypt { n: -1024, ..good }, "N"),
            (Scrypt { n: 1000, ..good }, "N"),
            (Scrypt { n: i64::MIN, ..good }, "N"),
            (Scrypt { n: 1 << 62, ..good }, "128·N·R"),
            (Scrypt { n: 1 << 21, ..good }, "128·N·R"),
            (Scrypt { r: 0, ..good }, "R"),
            (Scrypt { r: i64::MAX, ..good }, "R"),
            (Scrypt { n: 2, r: 1 << 20, p: 16, ..good }, "128·R·P"),
            (Scrypt { p: 17, ..good }, "P"),
            (Scrypt { key_len: 0, ..good }, "KeyLen"),
        ];
        for (scrypt, name) in cases {
            assert_eq!(parameter(Kdf::Scrypt(scrypt)), name, "{scrypt:?}");
        }
        let good = Pbkdf2 { iterations: 1, key_len: 32, hashing: "SHA256".into() };
        for (iterations, key_len, name) in [
            (0, 32, "Iterations"),
            (20_000_001, 32, "Iterations"),
            (i64::MIN, 32, "Iterations"),
            (1, 33, "KeyLen"),
        ] {
            assert_eq!(parameter(Kdf::Pbkdf2(Pbkdf2 { iterations, key_len, ..good.clone() })), name);
        }
        let blake3 = Kdf::Pbkdf2(Pbkdf2 { hashing: "BLAKE3".into(), ..good });
        assert_eq!(blake3.derive(b"x", SALT).unwrap_err().to_string(), "unsupported PBKDF2 hash: BLAKE3");
    }

    #[test]
    fn salts_are_bounded() {
        let kdf = Kdf::Pbkdf2(Pbkdf2 { iterations: 1, key_len: 32, hashing: "SHA256".into() });
        for (len, fine) in [(0, false), (15, false), (16, true), (64, true), (65, false)] {
            assert_eq!(kdf.check(&vec![1; len]).is_ok(), fine, "{len}");
        }
    }

    #[test]
    fn writers_refuse_weak_parameters() {
        Argon2id::RECOMMENDED.check_for_writing().unwrap();
        Argon2id::UPSTREAM.check_for_writing().unwrap();
        let weak = Argon2id { memory_kib: 19 * 1024 - 1, ..Argon2id::RECOMMENDED };
        weak.check().unwrap();
        assert!(weak.check_for_writing().is_err());
    }
}
