//! Buckets of S3-compatible object storage, as store, as source and as destination.
//!
//! ```text
//! options (location, credentials, settings)
//!    |
//! client: sign -> send (ureq, no redirects) -> classify -> retry      one per connector, shared by threads
//!    |-- list, object, multipart: the operations
//!    |
//!    +-- store::S3Store        a store's resources as objects
//!    +-- archive::S3Archive     one object that is an archive, read by ranges
//!    +-- sink::S3Sink           an archive written as one object
//!    +-- importer::S3Importer  LIST -> records, GET -> content
//!    +-- exporter::S3Exporter  entries -> PUT, multipart
//! ```
//!
//! Three rules hold everywhere below: a key is bytes, never a path that something may tidy up; a signed URL and
//! a secret never leave [`client`]; and an answer is believed only as far as it was checked (its length, its root
//! element, its status).

mod ahead;
pub mod archive;
mod class;
pub mod client;
pub mod credentials;
pub mod exporter;
pub mod importer;
pub mod location;
mod metadata;
mod names;
mod object_lock;
pub mod options;
mod parts;
mod reach;
pub mod sink;
mod sse;
mod standing;
pub mod store;

pub use archive::{S3Archive, archive_readiness};
pub use exporter::{ExistingObject, ExportOptions, S3Exporter};
pub use importer::{ImportOptions, S3Importer};
pub use object_lock::{LockMode, ObjectLock};
pub use options::Options;
pub use reach::{bucket_exists, reach};
pub use sink::{S3Sink, SinkOptions};
pub use store::S3Store;
