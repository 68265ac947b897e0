//! Floor 0: identifiers, raw strings, times, paths, error context, the one mmap door, buffers in pages of their own,
//! memory budgets, external sorting. Nothing here knows what a store or a snapshot is.

pub mod budget;
mod cancel;
mod context;
mod id;
pub mod lookup;
mod mmap;
mod pages;
mod printable;
mod raw;
pub mod sort;
pub mod spill;
pub mod sys;
pub mod table;
mod time;

pub use cancel::Cancel;
pub use context::{At, PathError};
pub use id::Id;
pub(crate) use id::hex;
pub use mmap::{MappedFile, PreadFile, RangeFile};
pub use pages::Pages;
pub use printable::Printable;
pub(crate) use printable::is_harmful;
pub use raw::RawString;
pub use time::Timestamp;
