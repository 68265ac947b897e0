//! Floor 0: bytes <-> values of every record on disk. No I/O, clocks or randomness.
#![doc = include_str!("FORMAT.md")]

pub mod blob;
pub mod config;
pub mod dirpack;
pub mod entry;
pub mod error;
pub mod error_item;
#[doc(hidden)]
pub mod fuzzing;
pub mod lock;
pub mod msgpack;
pub mod object;
pub mod packfile;
pub mod path;
pub mod ptar;
pub mod quick;
pub mod snapshot;
pub mod state;
pub mod summary;
pub mod tree;
pub mod version;
pub mod wrapper;
pub mod xattr;

pub use blob::BlobType;
pub use error::{Error, Result};
pub use version::Version;
