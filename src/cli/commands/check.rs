//! `check`, also `verify`.

use std::ffi::OsString;

use super::super::query::QueryArgs;

/// Verifies that everything can be read back; what is damaged is named with the files it hurts. Exits 65 on damage.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at /var/backups check
plakar at @mystore verify abc123
plakar at @mystore check -fast latest:/etc")]
pub(crate) struct Args {
    /// Check the structure only, not the content
    #[arg(long)]
    fast: bool,
    /// Do not verify signatures
    #[arg(long)]
    no_verify: bool,
    #[command(flatten)]
    query: QueryArgs,
    /// Snapshots or parts of them; all when none is named
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshots: Vec<OsString>,
}

/// Runs it.
pub(super) fn run(
    _args: &Args,
    _context: &super::super::context::Context,
) -> Result<super::super::error::Exit, super::super::error::CommandError> {
    todo!("ENGINE")
}
