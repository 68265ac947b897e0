//! Floor 3: the backends, each an implementation of the traits in [`connector`](crate::connector).
//!
//! | module | storage | importer | exporter | archive sink |
//! |---|---|---|---|---|
//! | [`fs`] | a folder | a tree | a folder | |
//! | [`ptar`] | a single-file archive, read only | | | a file |
//! | [`http`] | a store behind `plakar server`; a single-file archive on a web server, read only | | | |
//! | [`s3`] | a bucket, a single-file archive in one | a bucket | a bucket | an object |
//! | [`sqlite`] | a database file | | | |
//! | [`sftp`] | a folder on a server, a single-file archive there | a tree | a folder | a file |
//! | [`ftp`] | | a tree | a folder | |
//! | [`stdio`] | | one file | one file | |
//! | [`tar`] | | the members of an archive | | |
//! | [`memory`] | tests | | | |
//!
//! No backend reaches into another: what two of them need lies beside them, in the private modules here
//! (`container`, the layout of an archive; `archive`, an archive as a store; `remote`, one read by ranges; `layout`,
//! the files of a store; `place`, files that appear whole or not at all; `pipe`, standard input and output as they are;
//! `tree`, walking and restoring file trees on a server; `tls`, whom connections trust).

mod archive;
mod container;
mod existing;
mod layout;
mod location;
mod notices;
mod objects;
mod options;
mod patterns;
mod pipe;
mod place;
mod registry;
mod remote;
mod tls;
mod tree;

pub mod fs;
pub mod ftp;
pub mod http;
pub mod memory;
pub mod ptar;
pub mod s3;
pub mod sftp;
pub mod sqlite;
pub mod stdio;
pub mod tar;

pub use archive::{Archive, ArchiveBytes};
pub use location::{Kind, Location, LocationError, Role, redact};
pub use notices::Notices;
pub use options::{
    Form, MASK, OptionError, Options, Spec, is_secret, known, option_groups, parse_bool, validate,
};
pub use registry::{
    Answer, ExportSettings, ImportSettings, Limits, archive_readiness, available, open_exporter,
    open_importer, open_sink, open_storage, ping,
};
pub use remote::{Ranges, RemoteArchive, RemoteFile};
pub use tree::TreeExporter;
