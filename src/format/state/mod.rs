//! States: deltas of the catalogue.
//!
//! The decoded stream is a header of 32 bytes (the parent's id; version 1.1.0 only), entries of kind (u8), length
//! (u32) and body, and the metadata, which has a kind but no length and ends the stream. The version in the
//! resource's wrapper says whether there is a header.

mod entry;
mod reader;

pub use entry::{
    Coloured, Delete, Folded, Folding, Location, Metadata, PackEntry, StateEntry, encode_header,
    encode_metadata,
};
pub use reader::{MAX_UNKNOWN_LEN, StateReader};
