//! Which snapshots to keep: windows, caps and groups, as a pure function of times.
//!
//! - A window (`-days 30`) covers what is not older than so many periods, counted back from now by the local
//!   calendar: a day back is the same time of the day before, whatever the clocks did in between.
//! - A cap (`-per-day 3`) keeps so many snapshots of each calendar period (local midnight to midnight, ISO weeks from
//!   Monday, months, years), the newest ones.
//! - A window and a cap of one period belong together: the cap holds within the window. A window alone keeps all that
//!   it covers; a cap alone has no end.
//! - A snapshot is kept if any rule keeps it. Everything is decided group by group, and whatever the rules say the
//!   newest snapshot of a group stays: backups that stopped do not expire unseen.
//! - Weekdays are the days from Monday to Friday; their window counts those days only, and they keep nothing made at
//!   a weekend.

mod group;
mod period;
mod rules;
mod streams;
#[cfg(test)]
mod tests;

pub use group::{GroupBy, GroupByError};
pub use period::{Bucket, Period};
pub use rules::{Decision, Item, Reason, Retention, Rule};
