//! The B+trees of a snapshot: sorted keys to blob ids, in immutable nodes (FORMAT.md, "B+trees").
//!
//! Trees are written bottom-up from sorted keys and never changed. Two shapes are written:
//!
//! - with the `next` chain, as upstream does: leaves as full as they may be. Since each leaf holds its
//!   successor's id, a change rewrites every leaf left of it anyway.
//! - without it, nodes are cut where a hash of a key says so, like chunks of a file: a change rewrites the leaf
//!   it falls into and the nodes above, and all others are found in the store already.

mod build;
mod differ;
mod kind;
mod read;

#[cfg(test)]
mod tests;

pub use build::{TreeBuilder, TreeShape};
pub(crate) use differ::differing;
pub use kind::{Order, TreeKind};
pub use read::{Cursor, Tree};
