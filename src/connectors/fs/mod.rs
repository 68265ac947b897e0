//! The local file system: a store in a folder.

mod layout;
mod store;

pub use store::FsStore;
