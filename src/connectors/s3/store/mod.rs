//! A store's resources as objects below an optional prefix (FORMAT.md, "Where resources are kept"):
//!
//! ```text
//! CONFIG
//! CONFIG.frozen              for cold storage classes only: a second copy
//! packfiles/<xx>/<id>        <xx> = the first two digits of <id>
//! states/<xx>/<id>
//! locks/<id>
//! ```
//!
//! Keys below the three folders that do not have this shape are not ours: listings pass over them.
//!
//! **Storage class.** The class chosen for the connector goes to the packfiles of contents. Packfiles of metadata and
//! states go along unless the class is cold, or may become so; CONFIG and locks never do. So whatever is cold, a
//! snapshot can be listed without a retrieval.
//!
//! **Tag.** Packfiles of contents carry the tag `plakar=data`, by which a lifecycle rule can move them, and only them.
//! A key that may not tag writes them without.
//!
//! **Retention.** With `object_lock` and `retain`, packfiles and states are immutable for that long. CONFIG (its key
//! slots may change) and locks (which are rewritten and released) are not.

mod cold;
mod layout;
mod put;
mod storage;

pub use storage::S3Store;
