//! Snapshot headers (blob type 5), and the sources in them.

mod codec;
mod types;

pub use types::{
    Class, Classification, Header, INDEX_CONTENT_TYPE, INDEX_DIRPACK, INDEX_SUMMARY, Identity, Importer,
    Index, KeyValue, Roots, Source,
};
