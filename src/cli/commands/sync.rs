//! `sync`.

use std::ffi::OsString;
use std::path::PathBuf;

use super::super::query::QueryArgs;

/// Copies snapshots that the other store lacks: 'to' sends, 'from' fetches, 'with' does both. 'sync from x.ptar'
/// imports an archive.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at /var/backups sync to @scw_store
plakar at /var/backups sync abc123 to @scw_store
plakar at /var/backups sync from ./export.ptar
plakar at /var/backups sync -since 30d with /mnt/disk")]
pub(crate) struct Args {
    #[command(flatten)]
    query: QueryArgs,
    /// Read the passphrase of the other store from the file PATH
    #[arg(long, value_name = "PATH")]
    peer_keyfile: Option<PathBuf>,
    /// [SNAPSHOT] to|from|with STORE
    #[arg(value_name = "SNAPSHOT|DIRECTION|STORE", required = true)]
    words: Vec<OsString>,
}

/// Runs it.
pub(super) fn run(
    _args: &Args,
    _context: &super::super::context::Context,
) -> Result<super::super::error::Exit, super::super::error::CommandError> {
    todo!("ENGINE")
}
