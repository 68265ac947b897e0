//! The quick index of an archive (FORMAT.md, "Quick index"): listing its snapshots and finding any blob takes a few
//! requests and a fraction of the state's bytes.
//!
//! It is a help, never the truth: what it says of places is verified by the blobs themselves, and an archive without
//! one, or with one that does not verify, is opened through its state.

mod collect;
mod read;
mod write;

pub(super) use collect::{Collected, Spooled};
pub(super) use read::{Origin, Quick, length};
pub(super) use write::{Run, encode, is_possible};
