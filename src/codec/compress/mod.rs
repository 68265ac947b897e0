//! Compression into frames that upstream reads, and bounded decompression of whatever upstream writes
//! (FORMAT.md, compression).
//!
//! Every blob, index, footer, state and lock of a compressing store is exactly one frame. [`Compression`] works on
//! whole byte strings, with contexts that every thread keeps; [`FrameWriter`] and [`FrameReader`] do the same for
//! streams. Nothing is decoded past the bound that the caller gives, no frame may be followed by anything, and
//! content checksums are always written and, where present, always verified.

mod compression;
mod error;
mod gzip;
mod lz4;
mod stream;
#[cfg(test)]
mod tests;
mod zstd;

pub use compression::Compression;
pub use error::CompressionError;
pub use stream::{FrameReader, FrameWriter};
