//! A folder of the local file system as a destination.
//!
//! What a snapshot says is hostile input, and so is what else happens in the folder meanwhile:
//!
//! - Every name is resolved below the descriptor of the root, one component at a time or by `openat2` with
//!   `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`: no link is ever followed, whoever put it there and whenever.
//! - A file is written under a random temporary name (`.plakar-<random>.tmp`) that must not exist, gets its metadata
//!   by descriptor, and is then renamed. It is complete under its name, or not there; what had the name is replaced
//!   in the same instant, unless it is a folder.
//! - Ownership comes before the mode; the set-id bits and capabilities are restored only with the owner, by root.
//!   Devices need root and [`FsExporterBuilder::devices`]. Of extended attributes only the classes that the importer
//!   reads are set.
//! - Two entries that the destination does not tell apart (names that differ in case only, the same name twice) do
//!   not overwrite each other: the second one is reported. They are recognised by inode, so that this needs to know
//!   nothing about the rules of the file system.
//!
//! That is Unix. Where folders are no descriptors (Windows), paths have to do: see `portable` for what holds there.

#[cfg(unix)]
mod leftovers;
#[cfg(unix)]
mod metadata;
mod options;
#[cfg(any(not(unix), test))]
#[cfg_attr(unix, expect(unreachable_pub, reason = "compiled for its tests; elsewhere it is the one"))]
mod portable;
#[cfg(unix)]
mod sidecar;
#[cfg(unix)]
mod target;
#[cfg(test)]
#[cfg(unix)]
mod tests;
#[cfg(unix)]
mod tree;
mod write;

pub use options::{Existing, FsExporterBuilder};
#[cfg(not(unix))]
pub use portable::PortableExporter as FsExporter;
#[cfg(unix)]
pub use target::FsExporter;
