//! A tree of the local file system as a source.
//!
//! One thread walks, folder by folder: the entries of a folder are reported in byte order of their names, then
//! its subfolders are entered in the same order, depth first. Folders are entered through descriptors, so that
//! a tree deeper than the longest path is walked like any other, and names are bytes throughout.

mod content;
mod options;
mod owners;
mod selection;
mod sidecar;
mod source;
#[cfg(test)]
mod tests;
mod walk;

pub use options::FsImporterBuilder;
pub use source::FsImporter;
