//! From the parsed command line to the command that it names.

use clap::{CommandFactory as _, Parser, Subcommand};

use super::super::context::Context;
use super::super::error::{CommandError, Exit};
use super::super::globals::Globals;
use super::{
    archive, backup, cat, check, completions, configure, create, diff, digest, dup, find, help, info, key,
    locate, ls, maintenance, mount, pkg, policy, prune, ptar, repair, restore, rm, server, sync, version,
};
use crate::connectors::Role;

/// The whole command line.
#[derive(Parser, Debug)]
#[command(
    name = "plakar",
    args_override_self = true,
    disable_help_flag = true,
    disable_help_subcommand = true,
    disable_version_flag = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Create(create::Args),
    Backup(backup::Args),
    Ls(ls::Args),
    Cat(cat::Args),
    Mount(mount::Args),
    Restore(restore::Args),
    #[command(alias = "verify")]
    Check(check::Args),
    Ptar(ptar::Args),
    Sync(sync::Args),
    Server(server::Args),
    Info(info::Args),
    Locate(locate::Args),
    #[command(alias = "search")]
    Find(find::Args),
    Diff(diff::Args),
    Digest(digest::Args),
    Dup(dup::Args),
    Archive(archive::Args),
    Rm(rm::Args),
    Prune(prune::Args),
    Policy(policy::Args),
    Repair(repair::Args),
    Key(key::Args),
    Maintenance(maintenance::Args),
    Store(configure::Args),
    Source(configure::Args),
    Destination(configure::Args),
    Config(configure::Args),
    Pkg(pkg::Args),
    Completions(completions::Args),
    Help(help::Args),
    Version(version::Args),
}

/// Returns the definitions of all commands and flags.
pub(crate) fn definition() -> clap::Command {
    Cli::command().mut_subcommands(|command| {
        let examples = configure::EXAMPLES.iter().find(|(name, _)| *name == command.get_name());
        let command = command.args_override_self(true).disable_help_flag(true);
        match examples {
            Some((_, examples)) => command.after_help(*examples),
            None => command,
        }
    })
}

/// Runs the command.
pub(crate) fn dispatch(cli: Cli, context: &Context) -> Result<Exit, CommandError> {
    match cli.command {
        Command::Create(args) => create::run(&args, context),
        Command::Backup(args) => backup::run(&args, context),
        Command::Ls(args) => ls::run(&args, context),
        Command::Cat(args) => cat::run(&args, context),
        Command::Mount(args) => mount::run(&args, context),
        Command::Restore(args) => restore::run(&args, context),
        Command::Check(args) => check::run(&args, context),
        Command::Ptar(args) => ptar::run(&args, context),
        Command::Sync(args) => sync::run(&args, context),
        Command::Server(args) => server::run(&args, context),
        Command::Info(args) => info::run(&args, context),
        Command::Locate(args) => locate::run(&args, context),
        Command::Find(args) => find::run(&args, context),
        Command::Diff(args) => diff::run(&args, context),
        Command::Digest(args) => digest::run(&args, context),
        Command::Dup(args) => dup::run(&args, context),
        Command::Archive(args) => archive::run(&args, context),
        Command::Rm(args) => rm::run(&args, context),
        Command::Prune(args) => prune::run(&args, context),
        Command::Policy(args) => policy::run(&args, context),
        Command::Repair(args) => repair::run(&args, context),
        Command::Key(args) => key::run(&args, context),
        Command::Maintenance(args) => maintenance::run(&args, context),
        Command::Store(args) => configure::run(Some(Role::Store), &args, context),
        Command::Source(args) => configure::run(Some(Role::Source), &args, context),
        Command::Destination(args) => configure::run(Some(Role::Destination), &args, context),
        Command::Config(args) => configure::run(None, &args, context),
        Command::Pkg(args) => pkg::run(&args, context),
        Command::Completions(args) => completions::run(&args, context),
        Command::Help(args) => help::run(&args, context),
        Command::Version(args) => version::run(&args, context),
    }
}
