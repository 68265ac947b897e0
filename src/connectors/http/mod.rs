//! Stores on web servers: a single-file archive on any that serves ranges (`ptar+https://…`, `https://….ptar`), and a
//! store behind one that speaks the http store protocol, as `plakar server` does (`https://…`).
//!
//! **Archives.** Standard requests only (RFC 9110): the first one asks for the last 64 KiB, which hold the table of
//! sections and, in most archives, all that a listing needs; a server that does not do suffix ranges is asked for the
//! length with HEAD. Every part that arrives is checked to be the part that was asked for, of the version that was
//! opened: by the whole length, the entity tag (`If-Match`) or the time of the last change (`If-Unmodified-Since`). A
//! file that changed is an error of kind `Changed`, never wrong bytes.
//!
//! **Stores.** The protocol (FORMAT.md, "Where resources are kept") asks for ranges in a way of its own: the second
//! number is exclusive, and the answer is 200 with exactly that many bytes. A server that answers 206, as standards
//! want it, is believed when its `Content-Range` holds what was asked for. What a server may be asked for more than
//! upstream's (sizes in listings, a comparing replacement of CONFIG) is found out from its answers. Every request may
//! be sent twice with the same outcome, so each is sent again while that may help.
//!
//! Redirects of archives and stores are not followed, because what a URL may lead to was decided by whoever typed it.

mod archive;
mod client;
mod document;
mod listing;
mod part;
mod patience;
mod session;
mod store;

pub use archive::HttpArchive;
pub use document::fetch_document;
pub use patience::Patience;
pub use session::HttpOptions;
pub use store::HttpStore;
