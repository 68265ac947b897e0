//! The keys of an open store.

use crate::base::Id;
use crate::crypto::NativeKeys;
use crate::crypto::mac::{HashAlgorithm, MacKey, hash};

/// What names, authenticates and caches the resources of one store.
#[derive(Debug)]
pub struct Keys {
    ids: MacKey,
    trailers: MacKey,
    cache: MacKey,
    /// Says which key this is without telling it; pinned. `None` for a plaintext store.
    key_check: Option<[u8; 32]>,
}

impl Keys {
    /// Keys of a plaintext store: everything is keyed by H(RepositoryID), which anyone can compute.
    pub fn plaintext(algorithm: HashAlgorithm, repository: &[u8; 16]) -> Self {
        Self::single(algorithm, hash(algorithm, repository).0, None)
    }

    /// Keys of a store in upstream's encryption: the master key is the MAC key.
    pub fn upstream(algorithm: HashAlgorithm, master: &[u8; 32]) -> Self {
        let check = blake3::derive_key("plakar key check of an AES256 store", master);
        Self::single(algorithm, *master, Some(check))
    }

    /// Keys of a native store.
    pub fn native(algorithm: HashAlgorithm, keys: &NativeKeys) -> Self {
        Self {
            ids: MacKey::new(algorithm, *keys.id.as_bytes()),
            trailers: MacKey::new(algorithm, *keys.trailer.as_bytes()),
            cache: MacKey::new(HashAlgorithm::Blake3, *keys.cache.as_bytes()),
            key_check: Some(keys.key_check),
        }
    }

    fn single(algorithm: HashAlgorithm, key: [u8; 32], key_check: Option<[u8; 32]>) -> Self {
        Self {
            ids: MacKey::new(algorithm, key),
            trailers: MacKey::new(algorithm, key),
            cache: MacKey::new(HashAlgorithm::Blake3, blake3::derive_key("plakar local cache", &key)),
            key_check,
        }
    }

    /// Returns the key of identifiers, index MACs, dirpack frames and signature inputs.
    pub fn ids(&self) -> &MacKey {
        &self.ids
    }

    /// Returns the key of the trailers of states, packfiles and locks, and of packfile names.
    pub fn trailers(&self) -> &MacKey {
        &self.trailers
    }

    /// Returns the key that guards what else is kept beside the local cache.
    pub(crate) fn local(&self) -> &MacKey {
        &self.cache
    }

    /// Returns the key that guards the local cache.
    pub(super) fn cache(&self) -> &MacKey {
        &self.cache
    }

    /// Returns the public check value of the key of an encrypted store.
    pub fn key_check(&self) -> Option<&[u8; 32]> {
        self.key_check.as_ref()
    }

    /// Returns MAC(`plain`) under the identifiers' key.
    pub fn id(&self, plain: &[u8]) -> Id {
        self.ids.mac(plain)
    }
}
