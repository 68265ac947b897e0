//! Finding entries of a snapshot by what they are called, how large, how old, of which type they are, and by their
//! metadata.
//!
//! A query for content types is answered from the index of them, where the snapshot has one: then only the keys of
//! the index and the entries that match are read. Every other query walks the view.

mod pattern;
mod query;
mod run;

pub use pattern::{PatternError, Patterns};
pub use query::{EntryKind, MetadataPattern, SearchQuery};
pub use run::search;
