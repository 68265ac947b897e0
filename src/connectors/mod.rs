//! Floor 3: the backends, each an implementation of the traits in [`connector`](crate::connector).
//!
//! | module | storage | importer | exporter | archive sink |
//! |---|---|---|---|---|
//! | [`fs`] | a folder | a tree | a folder | |
//! | [`ptar`] | a single-file archive, read only | | | a file |
//! | [`http`] | a single-file archive on a web server, read only | | | |
//! | [`memory`] | tests | | | |
//!
//! No backend reaches into another: what two of them need lies beside them, in the private modules here
//! (`container`, the layout of an archive; `place`, files that appear whole or not at all).

mod container;
mod place;

pub mod fs;

pub mod memory;
pub mod ptar;
