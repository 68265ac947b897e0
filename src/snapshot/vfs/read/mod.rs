//! Reading the file system view of a snapshot.
//!
//! Folders are listed from their dirpacks, where the snapshot has an index of them, and otherwise by a scan of
//! the tree. A single path is looked up in the tree; where the tree names an entry that does not exist (upstream
//! leaves such snapshots behind, FORMAT.md "Dangling tree values"), the dirpack of the parent has it, and the
//! fault is noted in [`Vfs::take_faults`].
//!
//! Everything read is hostile input: names and parents are checked before use, frames against their MACs, orders
//! against duplicates; memory is bounded by a few chunks, whatever a folder's size.

mod children;
mod content;
mod items;
mod pair;
mod parent;
mod view;
mod walk;

pub use children::{Bookmark, Child, Children};
pub use content::ObjectReader;
pub use items::Items;
pub use pair::{Pair, PairWalk};
pub use parent::ParentCursor;
pub use view::{Fault, Vfs};
pub use walk::{Visit, Walk, WalkError};
