//! What maintenance and repair do to a store, under the exclusive lock: read packfiles by their own indexes, copy
//! blobs into new packfiles, put one state of changes, fold states, delete the files of packfiles and states
//! (FORMAT.md, "Locks, writers, maintenance"). What is garbage is for the floor above to say, which follows snapshots.

mod changes;
mod copy;
mod exclusive;
mod fold;
mod packs;

pub use changes::Changes;
pub use copy::PackCopy;
pub use exclusive::{Exclusive, look, look_at_any};
pub use fold::{FoldPlan, FoldedState, folded_states};
pub use packs::{Index, PackReader};
