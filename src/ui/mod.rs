//! Floor 4: what people see: progress, JSON lines, tables, errors.
//!
//! Results go to standard output; progress, notices, warnings and errors go to standard error. `-quiet` leaves
//! results, warnings and errors; `-silent` leaves results. With `-json`, standard output carries one JSON object a
//! line ([`json`] has their shapes) and nothing else.

pub mod json;
mod meter;
mod output;
mod progress;
#[cfg_attr(not(unix), path = "prompt/portable.rs")]
mod prompt;
mod report;
mod style;
mod table;
mod terminal;
pub mod units;

pub use meter::{Meter, Snapshot, Total, line};
pub use output::{Look, Loudness, Output, OutputError, Stdout};
pub use progress::Progress;
pub use prompt::ask_secret;
pub use report::{Report, report};
pub use style::{Colour, Style, Wish};
pub use table::{Align, Table};
