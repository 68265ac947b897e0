//! `help`.

use super::super::context::Context;
use super::super::error::{CommandError, Exit};
use super::super::help;

/// Explains a command, or lists them all. Besides commands there are the connectors (fs, s3, sftp, ftp, http …) with
/// their options, and 'json', which shows what -json prints.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar help
plakar help backup
plakar help s3
plakar help json")]
pub(crate) struct Args {
    /// The command to explain, a connector, or json
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

/// Prints the help.
pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
    help::show(args.command.as_deref(), &context.output)?;
    Ok(Exit::Ok)
}
