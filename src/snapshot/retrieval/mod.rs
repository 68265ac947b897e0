//! Packfiles in cold storage: which ones something needs, and bringing them back.
//!
//! ```text
//! listing -> which packfiles are archived        nothing is: nothing more is asked
//! states  -> which of those hold metadata        none do, in stores written here: see the storage's docs
//! walk    -> objects -> chunks -> places -> the packfiles of contents, exactly
//! HEAD    -> which of those were retrieved already
//! request -> wait -> plan again, until nothing is missing
//! ```
//!
//! Memory is nine bytes per packfile and one batch of objects. What lies in a packfile that cannot be read yet is
//! taken for missing by the walk, which then goes the way it goes around damage, and the packfile is planned.

mod cold;
mod plan;
mod wait;

pub(super) use cold::archived;
pub use plan::{Plan, Planned, Planner, Target};
pub use wait::Patience;
