//! Keys of the native profile: one per purpose, all derived from the master key M (FORMAT.md, native profile).

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use super::secret::Key;

/// K(purpose, parts…) = BLAKE3 `derive_key("kloset-native/1 " + purpose, parts…)`.
///
/// Different purposes give unrelated keys. Parts are concatenated, so all of them but the last must have a
/// fixed length.
pub fn derive(purpose: &str, parts: &[&[u8]]) -> Key {
    let mut hasher = Zeroizing::new(blake3::Hasher::new_derive_key(&format!("kloset-native/1 {purpose}")));
    for part in parts {
        hasher.update(part);
    }
    let mut hash = hasher.finalize();
    let key = Key::new(*hash.as_bytes());
    hash.zeroize();
    key
}

/// The keys of one native store. `meta` and `trailer` are bound to the repository, so that states and packfiles
/// of a store and of an archive under the same master key cannot be exchanged, while blobs can be copied.
#[derive(Clone)]
pub struct NativeKeys {
    /// Names everything: the store key of all identifiers, of the index MAC and of signatures' input.
    pub id: Key,
    /// Seals blobs.
    pub blob: Key,
    /// Seals packfile indexes and footers, states, locks and the canary.
    pub meta: Key,
    /// Authenticates the trailers of states, packfiles and locks, and names packfiles.
    pub trailer: Key,
    /// Authenticates the configuration.
    pub config: Key,
    /// Spreads the nonces.
    pub nonce: Key,
    /// Makes the chunker's table.
    pub gear: Key,
    /// Authenticates the local cache.
    pub cache: Key,
    /// Public: tells one master key from another, and is pinned.
    pub key_check: [u8; 32],
}

impl NativeKeys {
    /// Derives all keys from the master key and the 16 raw bytes of the repository's UUID.
    pub fn derive(master: &Key, repository_id: &[u8; 16]) -> Self {
        let of_master = |purpose| derive(purpose, &[master.as_bytes()]);
        let of_repository = |purpose| derive(purpose, &[master.as_bytes(), repository_id]);
        Self {
            id: of_master("id"),
            blob: of_master("blob"),
            meta: of_repository("meta"),
            trailer: of_repository("trailer"),
            config: of_master("config"),
            nonce: of_master("nonce"),
            gear: of_master("gear"),
            cache: of_master("cache"),
            key_check: key_check(master),
        }
    }

    /// Makes the table of the keyed chunker: 256 little-endian numbers of the BLAKE3-keyed output under the
    /// gear key. It is as secret as the key.
    pub fn gear_table(&self) -> Zeroizing<[u64; 256]> {
        let hasher = Zeroizing::new(blake3::Hasher::new_keyed(self.gear.as_bytes()));
        let mut reader = Zeroizing::new(hasher.finalize_xof());
        let mut table = Zeroizing::new([0; 256]);
        for value in table.iter_mut() {
            let mut bytes = [0; 8];
            reader.fill(&mut bytes);
            *value = u64::from_le_bytes(bytes);
        }
        table
    }
}

impl fmt::Debug for NativeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NativeKeys(…)")
    }
}

/// KeyCheck = K("key check", M).
pub(super) fn key_check(master: &Key) -> [u8; 32] {
    *derive("key check", &[master.as_bytes()]).as_bytes()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::base::Id;

    /// The keys of the published vectors.
    pub(crate) fn vector_keys() -> NativeKeys {
        let master = Key::new(std::array::from_fn(|i| u8::try_from(i).unwrap()));
        let repository: [u8; 16] = std::array::from_fn(|i| u8::try_from(i * 0x11).unwrap());
        NativeKeys::derive(&master, &repository)
    }

    #[test]
    fn keys_of_the_vectors() {
        let keys = vector_keys();
        let hex = |key: &Key| Id(*key.as_bytes()).to_hex();
        assert_eq!(hex(&keys.id), "7a7ea4418038b47d7b8e5d5b18bd98012369fdfff1cf10aacf8e7cb46750e9c5");
        assert_eq!(hex(&keys.blob), "f251f08920e4610ef2cf282e5c1f935e0902460db3bb5a3eb571cb0806d477a0");
        assert_eq!(hex(&keys.nonce), "1abc822cccc3bfbb90e212138bebba17986e959f5a2d56118efdd5bbcfe8bf01");
        assert_eq!(hex(&keys.meta), "ee177076ff70a6254f1c2d8da488aaf1562dccf7a5c894d32c19d410a4663908");
        assert_eq!(hex(&keys.config), "610c3c09809699ef5f123bc7235ed0a58462eb298c01e67bda9e7babbf89effc");
        assert_eq!(
            Id(keys.key_check).to_hex(),
            "e03bf8789f7b1427742298ddb95c69f1ab886759dbf48acc13398ec661b0c448"
        );
    }

    #[test]
    fn gear_table_of_the_vectors() {
        let table = vector_keys().gear_table();
        assert_eq!(table[0], 0xeca3_e0f8_2832_9933);
        let bytes: Vec<u8> = table.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(
            Id(*blake3::hash(&bytes).as_bytes()).to_hex(),
            "ab76f6925ccb9159c4467450c0198015a5cecf75a5487a511e4fbea809a89233"
        );
    }

    #[test]
    fn only_repository_bound_keys_follow_the_repository() {
        let master = Key::random();
        let [a, b] = [[1; 16], [2; 16]].map(|id| NativeKeys::derive(&master, &id));
        assert!(a.id == b.id && a.blob == b.blob && a.key_check == b.key_check && a.gear == b.gear);
        assert!(a.meta != b.meta && a.trailer != b.trailer);
        let all = [&a.id, &a.blob, &a.meta, &a.trailer, &a.config, &a.nonce, &a.gear, &a.cache];
        for (at, one) in all.iter().enumerate() {
            assert!(all[at + 1..].iter().all(|other| one != other));
        }
    }
}
