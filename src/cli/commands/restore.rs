//! `restore`.

use std::ffi::OsString;

use super::super::query::QueryArgs;

/// Brings a snapshot back. Without a snapshot: the latest. Without -to: into a new folder beside you.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at /var/backups restore -to /srv/restored latest
plakar at /var/backups restore -to . abc123:/etc/ssh
plakar at @mystore restore -to @scw_dst abc123
plakar at ./export.ptar restore -to @scw_dst
plakar at @mystore restore -to s3://mybucket/restore-preview/ abc123")]
pub(crate) struct Args {
    /// Restore to a folder, a URL or a configured destination
    #[arg(long, value_name = "DIR")]
    to: Option<OsString>,
    /// Put what PATH holds directly into the destination
    #[arg(long)]
    rebase: bool,
    /// Leave owners, modes and times alone
    #[arg(long)]
    skip_permissions: bool,
    /// Leave out what is there already
    #[arg(long)]
    skip_existing: bool,
    /// Fail for what is there already instead of replacing it
    #[arg(long, conflicts_with = "skip_existing")]
    no_overwrite: bool,
    /// Make objects for empty folders of a bucket
    #[arg(long)]
    folder_markers: bool,
    #[command(flatten)]
    query: QueryArgs,
    /// A snapshot, or a part of one
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
