//! Floor 0: MACs, key derivation, ciphers, key slots.
