//! Floor 1: repositories: configuration, packing, reading, the catalogue, locks, the local cache.
