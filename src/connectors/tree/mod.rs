//! File trees on a server: what the connectors that read and restore them over some protocol have in common.
//!
//! - A listing is hostile input: names that cannot be names of a file in that folder are errors, and one listing has a
//!   bounded number of them.
//! - A walk reports depth first, each folder's names together and in byte order; folders that come next are listed
//!   ahead by several threads, a bounded number at a time.
//! - A restore makes files under temporary names and renames them. Every folder on the way to a file is looked at,
//!   and a symbolic link there is refused. Protocols that cannot open a file relative to a folder leave a gap: who
//!   puts a link there within [`claims::TRUST`] of that look, or between the look and the request that follows, can
//!   lead a file elsewhere. Restore to places where nobody else may write if that matters.

mod claims;
mod export;
mod found;
mod names;
mod replace;
mod source;
#[cfg(test)]
mod tests;
mod walk;

pub use export::TreeExporter;
pub(super) use export::{Standing, Target, seconds};
pub(super) use found::Found;
pub(super) use names::{MOST_BYTES, MOST_NAMES, fault_on_windows, join, parent, url_path};
pub(super) use replace::Steps;
pub(super) use source::{CLOCKS, Folders, Source};
