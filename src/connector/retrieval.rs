//! Packfiles in cold storage: which must be retrieved before they can be read, and how that is asked for.

use std::fmt;
use std::time::SystemTime;

use super::{Listed, Result};
use crate::base::Id;

/// How fast, and how dear, a retrieval is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RetrievalTier {
    /// Hours.
    #[default]
    Standard,
    /// Up to two days, for the least money.
    Bulk,
    /// Minutes, where the class offers it.
    Expedited,
}

/// What a retrieval asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Order {
    /// How fast.
    pub tier: RetrievalTier,
    /// For how many days the retrieved copy stays readable.
    pub days: u32,
}

/// Whether a packfile can be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Readiness {
    /// At once.
    Ready,
    /// At once, since it was retrieved; until then, where the backend tells.
    Retrieved {
        /// When the copy goes away again.
        until: Option<SystemTime>,
    },
    /// Not before it is retrieved.
    Archived,
    /// Not yet: its retrieval is under way.
    Ongoing,
}

impl Readiness {
    /// Returns whether it can be read now.
    pub fn is_readable(self) -> bool {
        matches!(self, Self::Ready | Self::Retrieved { .. })
    }
}

/// A storage that may keep packfiles where they cannot be read at once.
pub trait Retrieval: fmt::Debug + Send + Sync {
    /// Calls `each` for every packfile that the listing says may have to be retrieved: by its class, whether it was
    /// retrieved already or not. `expected` is about how many packfiles there are in all: many are listed in parts at
    /// once.
    fn list_archived(&self, expected: usize, each: &mut (dyn FnMut(Listed) + Send)) -> Result<()>;

    /// Asks whether a packfile can be read now. Fails with `NotFound`.
    fn readiness(&self, id: Id) -> Result<Readiness>;

    /// Asks for a packfile's retrieval. One that can be read, or whose retrieval is under way, is not asked for again.
    fn request(&self, id: Id, order: &Order) -> Result<Readiness>;
}
