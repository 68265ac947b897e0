//! `backup`.

use std::ffi::OsString;
use std::path::PathBuf;

/// Takes a snapshot of folders, of a URL or of a configured source; of the current folder when nothing is named.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at /var/backups backup /etc
plakar at @scw_store backup -tag nightly,etc -ignore '*.tmp' /etc
plakar at ./my-store backup @scw_src
plakar at ./my-store backup s3://mybucket/photos/")]
pub(crate) struct Args {
    /// Tag the snapshot; several at once with commas, or the flag again
    #[arg(long, value_name = "TAGS")]
    tag: Vec<String>,
    /// Name the snapshot
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Record a category
    #[arg(long, value_name = "CATEGORY")]
    category: Option<String>,
    /// Record an environment
    #[arg(long, value_name = "ENVIRONMENT")]
    environment: Option<String>,
    /// Record a perimeter
    #[arg(long, value_name = "PERIMETER")]
    perimeter: Option<String>,
    /// Record a job
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
    /// Leave out what matches PATTERN (as in .gitignore)
    #[arg(long, value_name = "PATTERN", alias = "exclude")]
    ignore: Vec<String>,
    /// Leave out what matches the patterns in a file
    #[arg(long, value_name = "PATH", alias = "excludes")]
    ignore_file: Vec<PathBuf>,
    /// Check the snapshot once it is made
    #[arg(long)]
    check: bool,
    /// Say what would be backed up, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Leave out extended attributes
    #[arg(long)]
    no_xattr: bool,
    /// Record DATE as the time of the snapshot
    #[arg(long, value_name = "DATE")]
    force_timestamp: Option<String>,
    /// Read everything again, changed or not
    #[arg(long)]
    force: bool,
    /// Read metadata again that listings do not show (tags, ACLs)
    #[arg(long)]
    recheck: bool,
    /// Set an option of the source for this run
    #[arg(short = 'o', value_name = "KEY=VALUE")]
    option: Vec<String>,
    /// What to back up: paths, a URL, or @name
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
