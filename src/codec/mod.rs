//! Floor 0: compression, chunking, and what is said about content (type and entropy).
//!
//! Everything here turns bytes into bytes or numbers and knows nothing of stores. What comes from outside is
//! decoded within a bound that the caller gives; what is written is canonical (FORMAT.md, compression), so that
//! upstream reads it.

pub mod chunker;
pub mod compress;
mod content_type;
mod entropy;

pub use chunker::{Chunker, ChunkerParams};
pub use compress::{Compression, CompressionError, FrameReader, FrameWriter};
pub use content_type::{NOT_REGULAR, content_type};
pub use entropy::{entropy, entropy_of_counts};
