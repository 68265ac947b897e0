//! `info`.

use std::ffi::OsString;

/// Describes the store, or a snapshot.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at /var/backups info
plakar at /var/backups info latest")]
pub(crate) struct Args {
    /// A snapshot
    #[arg(value_name = "SNAPSHOT")]
    snapshot: Option<OsString>,
}

/// Runs it.
pub(super) fn run(
    _args: &Args,
    _context: &super::super::context::Context,
) -> Result<super::super::error::Exit, super::super::error::CommandError> {
    todo!("ENGINE")
}
