//! Sealing of temporary files: a key of this run only, in memory only.

use std::fmt;
use std::sync::Arc;

use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305};

use crate::base::spill::SpillCipher;

use super::secret::Key;

/// Seals the blocks of temporary files with XChaCha20-Poly1305 under a random key that dies with the run. The
/// nonce is the block's index, which is never used twice under one key.
pub struct RunCipher(XChaCha20Poly1305);

const TAG: usize = 16;

impl RunCipher {
    /// Creates a cipher with a fresh key.
    pub fn shared() -> Arc<dyn SpillCipher> {
        let key = Key::random();
        Arc::new(Self(XChaCha20Poly1305::new(key.as_bytes().into())))
    }
}

fn nonce(index: u64) -> [u8; 24] {
    let mut nonce = [0; 24];
    nonce[..8].copy_from_slice(&index.to_le_bytes());
    nonce
}

impl SpillCipher for RunCipher {
    fn overhead(&self) -> usize {
        TAG
    }

    fn seal_block(&self, index: u64, block: &mut Vec<u8>) {
        self.0.encrypt_in_place(&nonce(index).into(), b"", block).expect("64 KiB are not too long");
    }

    fn open_block(&self, index: u64, block: &mut Vec<u8>) -> bool {
        self.0.decrypt_in_place(&nonce(index).into(), b"", block).is_ok()
    }
}

impl fmt::Debug for RunCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RunCipher(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_opens_under_its_own_index_only() {
        let cipher = RunCipher::shared();
        let mut block = b"entry names".to_vec();
        cipher.seal_block(7, &mut block);
        assert_eq!(block.len(), 11 + cipher.overhead());
        assert!(!cipher.open_block(8, &mut block.clone()));
        assert!(cipher.open_block(7, &mut block));
        assert_eq!(block, b"entry names");
    }
}
