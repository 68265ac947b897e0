//! Floor 1: the three contracts between the engine and the outside world, their records and errors.
//! No concrete backend is named here.

mod archive;
mod error;
mod exporter;
mod importer;
mod retrieval;
mod storage;

pub use archive::{ArchiveSink, WriteFault};
pub use error::{Error, ErrorKind, Result};
pub use exporter::{ContentSource, Exporter, Item, Outcome, Receipt, VersionsKept};
pub use importer::{
    Change, Content, ContentInfo, Importer, Metadata, Record, SourceInfo, Work, Xattr, stream_name,
};
pub use retrieval::{Order, Readiness, Retrieval, RetrievalTier};
pub use storage::{Body, Kind, Listed, Purpose, Storage};
