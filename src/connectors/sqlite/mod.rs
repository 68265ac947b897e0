//! A store in one `SQLite` file (`sqlite:PATH`), laid out as upstream does (FORMAT.md, "Where resources are kept"):
//!
//! ```text
//! configuration(value BLOB)                                         one row
//! packfiles, states, locks(mac VARCHAR(64) NOT NULL PRIMARY KEY, data BLOB)
//! ```
//!
//! The key is the raw id in `packfiles` and `states`, its hexadecimal digits in `locks`.
//!
//! **Durability.** WAL mode with `synchronous=FULL`: a resource is there when its transaction is, and that is on disk.
//!
//! **Large values.** A packfile is never held in memory as a whole: room is made with `zeroblob`, then filled in
//! pieces, in one transaction. Ranges are read with incremental blob I/O, which (other than `substr`) does not load the
//! value. The longest value is [`MAX_LENGTH`] bytes, a limit of `SQLite`'s.
//!
//! **Space.** A database made here has incremental auto-vacuum, so its file shrinks when maintenance deletes packfiles.
//! The map of pages that this keeps has a second use: it leads to the middle of a long value without a walk through
//! all that comes before.
//!
//! **Several processes** may read at any time, and write one after the other; a writer waits its turn for minutes.
//! The file must not lie on a network file system, where `SQLite`'s locks do not hold.

mod database;
mod failure;
mod schema;
mod store;

pub use store::{MAX_LENGTH, SqliteStore};
