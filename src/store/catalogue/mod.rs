//! The catalogue: where every blob is, aggregated from all states of a store.
//!
//! Blob locations, of which there may be many millions, live in sorted tables on disk ([`tables`]); packfiles,
//! colours and deletes, which are few, are aggregated in memory at each opening ([`aggregate`]), in the order the
//! format asks for. A local cache ([`cache`]) keeps both between runs, so that a run reads only states that are
//! new.

mod aggregate;
mod cache;
mod folds;
mod load;
mod lookup;
mod merge;
mod tables;
mod verify;

pub(super) use cache::CacheDir;
pub(super) use folds::fold_id;
pub(super) use load::{Damaged, Source, Tables, load};
pub(super) use lookup::{Applied, Merged, Seen};
pub use lookup::{Catalogue, Place};
pub(super) use tables::table_error;
pub(super) use verify::{Verdict, verify};
