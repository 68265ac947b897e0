//! Servers reached by SFTP, through the system's `ssh`.
//!
//! SFTP version 3 (draft-ietf-secsh-filexfer-02) with OpenSSH's extensions runs over the pipes of `ssh -s HOST sftp`.
//! So everything that `ssh` knows holds here, too: `~/.ssh/config`, agents, known hosts, jump hosts. `ssh` is asked to
//! be quiet and never to ask (`BatchMode`), unless there is a terminal and it does not work without. Without a
//! terminal nothing ever waits for a person.
//!
//! Many requests are under way on one connection, and several connections are opened when one has much to do. What the
//! server sends is hostile input: packets have a bounded length, answers must belong to requests, names in listings
//! must be names. A connection that ends fails everything that waits for it, with what `ssh` said as the reason; what
//! can be done twice is done once more over a new one.
//!
//! - As a store: the layout of a folder, so that a store is the same from both sides. Files are made under a temporary
//!   name, synchronised where the server can (`fsync@openssh.com`), and renamed.
//! - As a source: size and time tell what changed; times are whole seconds.
//! - As a destination: see `tree` for what happens when somebody else is in the folder at the same time.

mod archive;
mod client;
mod config;
mod connection;
mod exporter;
mod folders;
mod importer;
mod operations;
mod options;
mod process;
mod sink;
mod store;
#[cfg(test)]
mod tests;
mod transfer;
mod wire;

pub use archive::{SftpArchive, SftpFile};
pub use exporter::open_exporter;
pub use importer::SftpImporter;
pub use options::Options;
pub use sink::SftpSink;
pub use store::SftpStore;
