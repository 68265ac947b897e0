//! What differs between two snapshots, or parts of them: which paths, in what, and how texts read before and after.
//!
//! Two views are walked side by side. Nothing is held but the lists of the folders on the way, and folders whose
//! lists are one object are passed over. A content counts as changed when its MAC did: an object may be written
//! anew for the same bytes.

mod compare;
mod run;
mod text;

pub use compare::Aspect;
pub use run::{Difference, diff};
pub use text::{TextDiff, text_diff, unified};
