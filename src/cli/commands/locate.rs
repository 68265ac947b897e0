//! `locate`.

use std::ffi::OsString;

use super::super::context::Context;
use super::super::error::{CommandError, Exit};
use super::super::query::QueryArgs;
use super::super::{snapshots, stores};
use super::find::print_found;
use crate::snapshot::{Patterns, SearchQuery};

/// Finds files and folders by their name, in all snapshots or in those that flags leave; prints SNAPSHOT:PATH. A
/// pattern with a slash is held against whole paths.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at /var/backups locate passwd
plakar at /var/backups locate '*.pdf' '*.odt' -since 30d
plakar at /var/backups locate -snapshot latest:/home '/home/**/id_*'")]
pub(crate) struct Args {
    /// Look into this snapshot, or part of one, only
    #[arg(long, value_name = "SNAPSHOT[:PATH]")]
    snapshot: Vec<OsString>,
    /// Take upper and lower case for equal
    #[arg(short = 'i')]
    ignore_case: bool,
    /// Show modes, owners, sizes and times
    #[arg(short = 'l')]
    long: bool,
    #[command(flatten)]
    query: QueryArgs,
    /// Names, or patterns of names: '*.pdf'
    #[arg(value_name = "PATTERN", required = true)]
    patterns: Vec<String>,
}

/// Locates.
pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
    let (paths, names): (Vec<&String>, Vec<&String>) =
        args.patterns.iter().partition(|pattern| pattern.contains('/'));
    let query = SearchQuery {
        names: Patterns::texts(names, args.ignore_case)?,
        paths: Patterns::paths(paths, args.ignore_case)?,
        ..SearchQuery::default()
    };
    let repository = stores::open_main(context)?.repository;
    let chosen = snapshots::choose(context, &repository, &args.snapshot, &args.query)?;
    print_found(context, &repository, &chosen, &query, args.long)
}
