//! `completions`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;

use super::super::context::Context;
use super::super::error::{CommandError, Exit};
use super::super::shells;
use crate::base::At as _;
use crate::ui::units;

/// Prints what makes a shell complete commands and flags, or writes manual pages to a folder.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
source <(plakar completions bash)
plakar completions zsh > ~/.zfunc/_plakar
plakar completions fish > ~/.config/fish/completions/plakar.fish
plakar completions man ~/.local/share/man/man1")]
pub(crate) struct Args {
    /// bash, zsh or fish; man writes manual pages
    #[arg(value_name = "SHELL", required = true)]
    what: What,
    /// man: where the pages go
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum What {
    Bash,
    Zsh,
    Fish,
    Man,
}

#[derive(Serialize)]
struct Script {
    r#type: &'static str,
    shell: String,
    text: String,
}

#[derive(Serialize)]
struct Written {
    r#type: &'static str,
    command: &'static str,
    folder: String,
    pages: u64,
}

/// Prints or writes them.
pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
    let script = match (args.what, &args.folder) {
        (What::Man, Some(folder)) => return pages(folder, context),
        (What::Man, None) => {
            return Err(CommandError::usage("where are the pages to go?").hint("plakar completions man DIR"));
        }
        (_, Some(_)) => return Err(CommandError::usage("a script is printed, not written to a folder")),
        (What::Bash, None) => shells::bash(),
        (What::Zsh, None) => shells::zsh(),
        (What::Fish, None) => shells::fish(),
    };
    if context.output.is_json() {
        let shell = args.what.to_possible_value().map(|value| value.get_name().to_owned());
        let shell = shell.unwrap_or_default();
        context.output.json(&Script { r#type: "completions", shell, text: script })?;
    } else {
        context.output.text(script)?;
    }
    Ok(Exit::Ok)
}

fn pages(folder: &Path, context: &Context) -> Result<Exit, CommandError> {
    std::fs::create_dir_all(folder).at("create", folder)?;
    let pages = shells::pages();
    for (name, text) in &pages {
        let path = folder.join(name);
        std::fs::write(&path, text).at("write", &path)?;
    }
    let (folder, count) = (crate::base::Printable::os(folder).to_string(), pages.len() as u64);
    if context.output.is_json() {
        let (kind, command) = ("summary", "completions");
        context.output.json(&Written { r#type: kind, command, folder, pages: count })?;
    } else {
        context.output.notice(format!("wrote {} to {folder}", units::counted(count, "page")));
    }
    Ok(Exit::Ok)
}
