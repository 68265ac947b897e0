//! Waiting for maintenance, on the command line.

use std::sync::Arc;
use std::time::Duration;

use super::context::Context;
use super::quantity;
use crate::store::{Error, LockWait, Repository};
use crate::ui::units;

/// The flag of commands that write snapshots.
///
/// Why an hour: a run by night that meets a long maintenance is to be late rather than lost, and the lock of a
/// maintenance that died is stale after ten minutes.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct LockWaitArgs {
    /// How long to wait while maintenance holds the store, before giving up with exit code 75; 0 does not wait
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time)]
    lock_wait: Duration,
}

/// Reads a length of time, or none.
fn time(text: &str) -> Result<Duration, String> {
    if text.trim() == "0" { Ok(Duration::ZERO) } else { quantity::time(text) }
}

impl LockWaitArgs {
    /// Makes what writes to a store wait as asked for, and say so.
    pub(crate) fn apply(self, context: &Context, repository: &Repository) {
        let (output, limit) = (context.output.clone(), self.lock_wait);
        let told = move |error: &Error| {
            output.notice(format_args!("{error}: waiting up to {} for it to end", units::duration(limit)));
        };
        repository.set_lock_wait(LockWait {
            limit,
            cancel: context.cancel.clone(),
            told: Some(Arc::new(told)),
        });
    }
}
