//! `cat`.

use std::ffi::OsString;

/// Prints the content of files.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at @mystore cat abc123:/etc/passwd
plakar at @mystore cat latest:log.gz -decompress")]
pub(crate) struct Args {
    /// Decompress gzip and zstd files
    #[arg(long)]
    decompress: bool,
    /// Files of snapshots
    #[arg(value_name = "SNAPSHOT:PATH", required = true)]
    files: Vec<OsString>,
}

/// Runs it.
pub(super) fn run(
    _args: &Args,
    _context: &super::super::context::Context,
) -> Result<super::super::error::Exit, super::super::error::CommandError> {
    todo!("ENGINE")
}
