//! A single-file archive on any web server that serves ranges (`ptar+https://…`, `https://….ptar`).
//!
//! Standard requests only (RFC 9110): the first one asks for the last 64 KiB, which hold the table of sections and,
//! in most archives, all that a listing needs; a server that does not do suffix ranges is asked for the length with
//! HEAD. Every part that arrives is checked to be the part that was asked for, of the version that was opened: by
//! the whole length, the entity tag (`If-Match`) or the time of the last change (`If-Unmodified-Since`). A file that
//! changed is an error of kind `Changed`, never wrong bytes.
//!
//! Redirects of an archive are not followed, because what a URL may lead to was decided by whoever typed it.

mod archive;
mod client;
mod document;
mod part;

pub use archive::HttpArchive;
pub use client::Patience;
pub use document::fetch_document;
