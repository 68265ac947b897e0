//! Floor 4: snapshots as a file system that every program can read, without restoring anything.
//!
//! ```text
//! kernel -> fuse: one thread takes requests, pools answer them -> tree: names, numbers, attributes
//!                                                                  -> content: reads, read ahead
//!                                                                  -> blobs: what was read lately -> store
//! ```
//!
//! Everything is read-only and nothing is held that was not asked for: folders are listed in pages, contents are read
//! by chunks, and what was read lately is kept within the memory given. What grows is the table of numbers, with the
//! files that the kernel knows at a time; it lets go of them as it needs its own memory. Only `fuse` and `session`
//! know the kernel's protocol; they exist on Linux. [`Tree`] is the whole file system without it.
//!
//! # Why reads do not wait for one another
//!
//! A read from a bucket takes as long as the network likes. Requests for contents, for names and for what is read
//! ahead are answered by threads of their own, so that a folder can be listed while every reader waits.

mod attributes;
mod blobs;
mod content;
#[cfg(target_os = "linux")]
mod fuse;
mod listing;
mod numbers;
#[cfg(target_os = "linux")]
mod pool;
#[cfg(target_os = "linux")]
mod session;
mod shelf;
mod tree;

pub use attributes::{Attributes, FileKind};
pub use content::OpenFile;
pub use listing::{Listed, Listing};
#[cfg(target_os = "linux")]
pub use session::{Ended, Mounted, OpenError, mount};
pub use shelf::Select;
pub use tree::{Failure, MountOptions, Shown, Tree};
