//! Floor 0: identifiers, raw strings, times, paths, error context, the one mmap door, memory budgets,
//! external sorting. Nothing here knows what a store or a snapshot is.

mod context;
mod id;
mod mmap;
mod raw;
mod time;

pub use context::{At, PathError};
pub use id::Id;
pub use mmap::{MappedFile, PreadFile, RangeFile};
pub use raw::RawString;
pub use time::Timestamp;
