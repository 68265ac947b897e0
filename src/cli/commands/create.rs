//! `create`.

/// Makes a new, empty store at the place named by `at`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at /var/backups create
plakar at @scw_store create
plakar at ./open create -plaintext")]
pub(crate) struct Args {
    /// Do not encrypt
    #[arg(long, alias = "no-encryption")]
    plaintext: bool,
    /// Do not compress
    #[arg(long, conflicts_with = "compression")]
    no_compression: bool,
    /// Compress with zstd, zstd:LEVEL, lz4, gzip or none
    #[arg(long, value_name = "ALGORITHM")]
    compression: Option<super::super::algorithms::CompressionChoice>,
    /// Hash with BLAKE3 or SHA256
    #[arg(long, value_name = "ALGORITHM")]
    hashing: Option<super::super::algorithms::HashingChoice>,
    /// Take a typed passphrase even if it is weak
    #[arg(long)]
    weak_passphrase: bool,
    /// native (the default), or plakar: what upstream can open, encrypted ones too
    #[arg(long, value_name = "PROFILE")]
    profile: Option<super::super::algorithms::ProfileChoice>,
}

/// Runs it.
pub(super) fn run(
    _args: &Args,
    _context: &super::super::context::Context,
) -> Result<super::super::error::Exit, super::super::error::CommandError> {
    todo!("ENGINE")
}
