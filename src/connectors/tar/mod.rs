//! The members of a tar archive as a source.
//!
//! What `tar -x` would make of the archive becomes the snapshot's tree: of several members of one name the last counts,
//! a hard link has the content that its target had when the link was made, names lose their leading slashes. Members
//! that would leave the folder (`..`), and those below something that is no folder, are reported and left out. An
//! archive that breaks off, or that lacks its end marker, makes the run fail: half of an archive looks like a whole
//! one.
//!
//! ```text
//! blocks -> header: fields -> members: pax, long names, sparse maps -> resolve: last ones, links -> records
//! ```
//!
//! Contents are read twice of nothing: of an uncompressed file they are read where they stand; what is compressed or
//! comes by standard input is spooled to a temporary file without a name, sealed under a key of this run.
//! Formats: POSIX.1-2001 (pax), ustar, GNU and V7, sparse files in all four ways of GNU tar.

mod content;
mod fields;
mod importer;
mod input;
mod members;
mod pax;
mod resolve;
mod sparse;
#[cfg(test)]
mod tests;

pub use importer::{ImportOptions, TarImporter};
