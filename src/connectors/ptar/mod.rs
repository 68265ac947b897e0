//! Single-file archives (`.ptar`) on a local disk: reading one as a store, writing one.

mod sink;
mod store;

pub use sink::ArchiveFile;
pub use store::{LocalFile, PtarStore};
