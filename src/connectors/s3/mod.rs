//! Buckets of S3-compatible object storage, as store, as source and as destination.
//!
//! ```text
//! options (location, credentials, settings)
//!    |
//! client: sign -> send (ureq, no redirects) -> classify -> retry      one per connector, shared by threads
//!    |-- list, object, multipart: the operations
//!    |
//!    +-- store::S3Store        a store's resources as objects
//!    +-- importer::S3Importer  LIST -> records, GET -> content
//!    +-- exporter::S3Exporter  entries -> PUT, multipart
//! ```
//!
//! Three rules hold everywhere below: a key is bytes, never a path that something may tidy up; a signed URL and
//! a secret never leave [`client`]; and an answer is believed only as far as it was checked (its length, its root
//! element, its status).

pub mod client;
pub mod credentials;
pub mod exporter;
pub mod importer;
pub mod location;
mod metadata;
mod names;
pub mod options;
mod sse;
mod standing;
mod storage_class;
pub mod store;

pub use exporter::{ExportOptions, S3Exporter};
pub use importer::S3Importer;
pub use options::Options;
pub use store::S3Store;
