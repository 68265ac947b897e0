//! `ptar`.

use std::ffi::OsString;
use std::path::PathBuf;

/// Packs stores, folders and sources into one archive file. Without any of them: the current folder.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar ptar -o backup.ptar /etc /home
plakar ptar -o ./export.ptar -k @scw_store
plakar ptar -o both.ptar -k /var/backups -k @mystore
plakar ptar -plaintext -o - . | ssh host 'cat > x.ptar'")]
pub(crate) struct Args {
    /// Write the archive to a file, to - (standard output), to s3://… or to @name:path
    #[arg(short = 'o', value_name = "FILE", required = true)]
    output: OsString,
    /// Take all snapshots of a store; may be repeated
    #[arg(short = 'k', value_name = "STORE")]
    stores: Vec<OsString>,
    /// Do not encrypt the archive
    #[arg(long, alias = "no-encryption", conflicts_with = "same_key")]
    plaintext: bool,
    /// Do not compress
    #[arg(long)]
    no_compression: bool,
    /// Replace an existing file
    #[arg(long)]
    overwrite: bool,
    /// Hash with BLAKE3 or SHA256
    #[arg(long, value_name = "ALGORITHM")]
    hashing: Option<super::super::algorithms::HashingChoice>,
    /// native, or plakar: what upstream can open (default: as the first store)
    #[arg(long, value_name = "PROFILE")]
    profile: Option<super::super::algorithms::ProfileChoice>,
    /// Keep the store's key: whoever opens the archive can open the store
    #[arg(long)]
    same_key: bool,
    /// The size to expect, where the archive goes to a bucket
    #[arg(long, value_name = "SIZE", value_parser = super::super::quantity::size)]
    size_hint: Option<u64>,
    /// Read the passphrase of the stores from the file PATH
    #[arg(long, value_name = "PATH")]
    peer_keyfile: Option<PathBuf>,
    /// Folders, URLs or @names to pack
    #[arg(value_name = "PLACE")]
    places: Vec<OsString>,
}

/// Runs it.
pub(super) fn run(
    _args: &Args,
    _context: &super::super::context::Context,
) -> Result<super::super::error::Exit, super::super::error::CommandError> {
    todo!("ENGINE")
}
