//! The local file system: a store in a folder, a tree to back up, a folder to restore to.
//!
//! Metadata of foreign kinds: an entry's `s3.*` metadata becomes extended attributes `user.s3.*` on restore, and
//! is read back from there. Where a file system has no room for them they go to the file
//! `.plakar-s3-metadata.jsonl` at the root of the restore, one JSON object a line:
//! `{"path":"a/b","metadata":[{"key":"s3.key","text":"a/b"},{"key":"s3.etag","base64":"/w=="}]}`, where a path
//! that is not UTF-8 stands in `path_base64` instead and a value that is not in `base64`.

mod exporter;
mod importer;
#[cfg(unix)]
mod stat;
mod store;
#[cfg(unix)]
mod sys;

pub use exporter::{Existing, FsExporter, FsExporterBuilder};
pub use importer::{FsImporter, FsImporterBuilder};
pub use store::FsStore;
