//! A tree of the local file system as a source.
//!
//! One thread walks, folder by folder: the entries of a folder are reported in byte order of their names, then
//! its subfolders are entered in the same order, depth first. Folders are entered through descriptors, so that
//! a tree deeper than the longest path is walked like any other, and names are bytes throughout. Where there are no
//! such descriptors (Windows), paths have to do, and less is read: see `portable`.

#[cfg(unix)]
mod content;
mod options;
#[cfg(unix)]
mod owners;
#[cfg(any(not(unix), test))]
#[cfg_attr(
    unix,
    expect(unreachable_pub, dead_code, reason = "compiled for its tests; elsewhere it is the one")
)]
mod portable;
mod selection;
#[cfg(unix)]
mod sidecar;
#[cfg(unix)]
mod source;
#[cfg(test)]
#[cfg(unix)]
mod tests;
mod times;
#[cfg(unix)]
mod walk;

pub use options::FsImporterBuilder;
#[cfg(not(unix))]
pub use portable::PortableImporter as FsImporter;
#[cfg(unix)]
pub use source::FsImporter;
