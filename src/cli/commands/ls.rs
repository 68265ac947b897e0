//! `ls`.

use std::ffi::OsString;

use super::super::query::QueryArgs;

/// Lists snapshots; with a snapshot, what its folders hold.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at /var/backups ls
plakar at /var/backups ls -tag nightly -since 7d
plakar at /var/backups ls latest:/etc
plakar at /var/backups ls -recursive abc123")]
pub(crate) struct Args {
    /// Show whole ids
    #[arg(long)]
    uuid: bool,
    /// List folders below folders
    #[arg(long)]
    recursive: bool,
    /// Show the tags of snapshots
    #[arg(long)]
    tags: bool,
    /// Show modes, owners, sizes and times (which is what happens anyway)
    #[arg(short = 'l')]
    long: bool,
    #[command(flatten)]
    query: QueryArgs,
    /// A snapshot, or SNAPSHOT:PATH
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
