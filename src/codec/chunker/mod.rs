//! Content-defined chunking: where a content is cut depends on the bytes around the cut, so that inserting a byte
//! moves few boundaries and the rest deduplicates.
//!
//! | name | what |
//! |---|---|
//! | `fastcdc-v1.0.0` | upstream's chunker, masks derived from the normal size (FORMAT.md, chunking) |
//! | `fastcdc` | the same with fixed masks; written as `FASTCDC` by 1.0.x |
//! | `fastcdc2020` | the `fastcdc` crate's v2020 with normalization level 1 and its own table |
//! | `fastcdc2020-keyed` | the same with a secret table, against fingerprinting by chunk lengths |
//!
//! Readers need none of this. `kfastcdc` and anything else is refused: a store that names it can be read, not
//! extended.

mod cut;
mod gear;
mod params;

pub use cut::Chunker;
pub use params::{ChunkerAlgorithm, ChunkerError, ChunkerParams};
