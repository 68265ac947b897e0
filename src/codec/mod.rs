//! Floor 0: compression and chunking.
