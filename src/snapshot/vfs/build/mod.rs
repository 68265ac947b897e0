//! Building the file system view of a snapshot.
//!
//! Entries arrive in any order from many threads and are sorted in path order (by depth, then by bytes), on disk
//! where they do not fit memory. One ascending pass over them then does everything that wants this order: the
//! children of a folder stand together, so its dirpack and the direct half of its summary stream by. Along the
//! way it writes (path, entry id), which is read backwards for the tree, since leaves are written from right to
//! left.
//!
//! Summaries want another order, children before their folder. So each folder's half goes to a sorter of its
//! own, in the order of a walk; a stack of open folders then merges each finished summary into the one above.
//! The index trees have sorters of their own as well, descending.
//!
//! Folders that nobody reported are synthesized, and a file that has the path of a folder is renamed
//! (FORMAT.md, "Names"). Both are seen when the sorted entries are read for the first time, since a renamed file
//! moves among its siblings.

mod builder;
mod dirpack;
mod folders;
mod group;
mod pass;
mod record;

pub use builder::{BuildOptions, Built, VfsBuilder};
pub use record::Facts;
