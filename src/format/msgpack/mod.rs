//! The msgpack profile: one canonical form for writing, any valid form for reading.
//!
//! Identifiers are MACs of serializations, so a writer must produce exactly the bytes that upstream's encoder
//! produces: fields of fixed width stay at that width, `int` fields take the shortest form, keys come in a fixed
//! order. A reader takes integers of any width, null for any zero value, keys in any order, and skips what it
//! does not know. Recursion never follows the bytes: values to be skipped are counted, not descended into.

mod reader;
mod writer;

pub use reader::Reader;
pub use writer::{MapWriter, Writer};
