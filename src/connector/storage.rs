//! Where a store's resources are kept.

use std::fmt;
use std::fs::File;
use std::time::SystemTime;

use super::{Result, Retrieval};
use crate::base::Id;

/// The kinds of resource of a store, besides its CONFIG.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Containers of blobs: large, immutable, read by ranges.
    Packfile,
    /// Deltas of the catalogue: immutable, read whole.
    State,
    /// Locks: small, rewritten, judged by the time in the listing.
    Lock,
}

impl Kind {
    /// Returns the plural used in paths, keys and URLs: `packfiles`, `states`, `locks`.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Packfile => "packfiles",
            Self::State => "states",
            Self::Lock => "locks",
        }
    }

    /// Returns the most bytes that [`Storage::get`] reads of one resource: lengths come from outside, and nothing is
    /// allocated by them. Real locks are below 300 bytes.
    pub fn most_whole(self) -> u64 {
        match self {
            Self::Packfile | Self::State => 2 << 30,
            Self::Lock => 4 << 20,
        }
    }
}

/// What a packfile is for: a backend may keep the two kinds in different ways.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Purpose {
    /// Contents of files: read by a restore only.
    Content,
    /// Everything else: read by whoever looks at a snapshot.
    Metadata,
}

/// One resource in a listing.
#[derive(Clone, Copy, Debug)]
pub struct Listed {
    /// Its id.
    pub id: Id,
    /// Its length in bytes, wrapper included.
    pub size: u64,
    /// When it was last written, by the backend's clock, where the backend knows.
    pub modified: Option<SystemTime>,
    /// Something that differs when the content does, where the listing tells (a hash of an object's ETag).
    pub tag: Option<u64>,
}

/// What is put: bytes at hand, or a spooled file.
#[derive(Debug)]
pub enum Body<'a> {
    /// Bytes in memory.
    Bytes(&'a [u8]),
    /// A file made by [`Storage::spool`], read from its start; `length` bytes are the body.
    Spool {
        /// The spooled file. A backend may link it into place instead of copying it.
        file: &'a File,
        /// The length of the body in bytes.
        length: u64,
    },
}

/// A place that keeps one store: its CONFIG and its packfiles, states and locks.
///
/// Calls block; the value is shared between threads. An implementation retries what is worth retrying, and
/// reports success of a `put` only when the resource is durable: written, synchronised and renamed, or
/// acknowledged with the right length. No partial resource is ever visible under its id.
pub trait Storage: fmt::Debug + Send + Sync {
    /// Returns the location for people and errors, without secrets.
    fn location(&self) -> String;

    /// Creates the place and writes `config` last. Fails with `Exists` when there is a CONFIG already, or
    /// anything else that must not be overwritten.
    fn create(&self, config: &[u8]) -> Result<()>;

    /// Reads the CONFIG resource (at most 32 KiB). Fails with `NotFound` when there is no store.
    fn config(&self) -> Result<Vec<u8>>;

    /// Replaces CONFIG by `new` if it still equals `expected`, atomically. Key slots are the only reason to.
    fn replace_config(&self, expected: &[u8], new: &[u8]) -> Result<()>;

    /// Calls `each` for every resource of a kind, in no particular order, without holding them all.
    fn list(&self, kind: Kind, each: &mut dyn FnMut(Listed)) -> Result<()>;

    /// Returns the length of a resource in bytes. Fails with `NotFound`.
    fn size(&self, kind: Kind, id: Id) -> Result<u64>;

    /// Reads a whole resource. Meant for locks; states and packfiles are read by ranges. Fails with `NotFound`, and
    /// with `Protocol` when there is more of it than [`Kind::most_whole`] says, before memory is taken for that.
    fn get(&self, kind: Kind, id: Id) -> Result<Vec<u8>>;

    /// Passes exactly `length` bytes from `offset` on to `consume`, once. A range that ends past the end of the
    /// resource fails with `Protocol`, and nothing is passed. The slice may lie in a memory map: copy out of it
    /// what is to be trusted.
    fn read_range(
        &self,
        kind: Kind,
        id: Id,
        offset: u64,
        length: usize,
        consume: &mut dyn FnMut(&[u8]),
    ) -> Result<()>;

    /// Creates an unnamed file for a body in the making, on the device where `put` can link it into place when
    /// there is such a device.
    fn spool(&self) -> Result<File>;

    /// Returns whether what [`spool`](Self::spool) creates takes room on the store's own disk.
    fn spools_beside(&self) -> bool {
        false
    }

    /// Stores a resource under its id, durably and all at once. A packfile or state that exists already is left
    /// as it is (its name says what it holds); a lock is replaced.
    fn put(&self, kind: Kind, id: Id, body: Body<'_>) -> Result<()>;

    /// Stores a packfile as [`put`](Self::put) does, in the way its purpose asks for. What `put` stores counts as
    /// content.
    fn put_packfile(&self, id: Id, purpose: Purpose, body: Body<'_>) -> Result<()> {
        let _ = purpose;
        self.put(Kind::Packfile, id, body)
    }

    /// Deletes a resource; one that is already gone is not an error. Fails with `Denied` when the resource must be
    /// kept for some time yet.
    fn delete(&self, kind: Kind, id: Id) -> Result<()>;

    /// Returns whether reads cross a network, so that they are worth merging and prefetching.
    fn is_remote(&self) -> bool {
        false
    }

    /// Returns how many requests may wait for answers at once with profit.
    fn parallelism(&self) -> usize {
        if self.is_remote() { 4 } else { 2 }
    }

    /// Returns how packfiles are retrieved from cold storage, if this storage has such a thing.
    fn retrieval(&self) -> Option<&dyn Retrieval> {
        None
    }

    /// Returns and clears what somebody should know though nothing failed: a feature that had to be done without.
    fn take_notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns whether nothing can be written here (an archive, a plain web server).
    fn is_read_only(&self) -> bool {
        false
    }

    /// Returns whether this is a single archive: one state and one packfile under fixed ids, the ids in the
    /// state being ignored.
    fn is_archive(&self) -> bool {
        false
    }
}
