//! Floor 1: repositories: configuration, packing, reading, the catalogue, locks, the local cache.
//!
//! A [`Repository`] is an open store. It reads blobs by (type, id) through its [`Catalogue`]; a [`Writer`] adds
//! blobs and commits them with a state. Where bytes are kept is a [`Storage`](crate::connector::Storage)'s
//! business.

mod archive;
pub mod blob;
mod catalogue;
mod create;
mod encoding;
mod error;
mod fetch;
mod journal;
mod journal_cache;
mod keys;
mod known;
mod locks;
mod maintenance;
mod packer;
mod pins;
mod quick;
mod relied;
mod remove;
mod repository;
mod session;
mod slots;
mod state;
mod unlock;
mod writer;

pub use archive::{ArchiveError, ArchiveKind, ArchiveWriter};
pub use catalogue::{Catalogue, Place};
pub use create::{CreateError, CreateOptions, KdfChoice, Profile};
pub use encoding::Encoding;
pub use error::Error;
pub use fetch::Window;
pub use journal::{Covered, Journal, JournalWriter};
pub use keys::Keys;
pub use known::{IdMap, KnownSet};
pub use locks::{LockGuard, LockTerms, LockWait};
pub use maintenance::{
    Changes, Exclusive, FoldPlan, FoldedState, Index, PackCopy, PackReader, folded_states, look, look_at_any,
};
pub use pins::PinError;
pub use remove::remove_snapshots;
pub(crate) use repository::METADATA_LIMIT;
pub use repository::{OpenError, OpenOptions, Repository, Warning};
pub use session::{Encode, Session, WriterStats};
pub use slots::{SlotChange, SlotInfo, SlotsError, change_slots, slots};
pub use unlock::{NoPassphrase, Unlock, UnlockError, WithPassphrase};
pub use writer::{CheckpointPolicy, Writer};
