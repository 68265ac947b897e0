//! `help`.

use super::super::context::Context;
use super::super::error::{CommandError, Exit};
use super::super::help;

/// Explains a command, or lists them all.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The command to explain
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

/// Prints the help.
pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
    let text = match &args.command {
        None => help::overview(),
        Some(name) => help::command(name)?,
    };
    context.output.text(text)?;
    Ok(Exit::Ok)
}
