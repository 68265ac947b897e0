//! Floor 3: the concrete connectors and their registry.

pub mod s3;
