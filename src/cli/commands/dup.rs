//! `dup`.

use std::ffi::OsString;

use serde::Serialize;

use super::super::context::Context;
use super::super::error::{CommandError, Exit};
use super::super::query::split_tags;
use super::super::{snapshots, stores};
use crate::snapshot::{DuplicateOptions, duplicate};
use crate::ui::Progress;

/// Makes a second snapshot of the same content, with an id and a time of its own: under other labels, or to keep what
/// a retention policy would remove. No content is copied. Labels that are not given stay as they are.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at /var/backups dup -tag keep abc123
plakar at /var/backups dup -name before-upgrade latest")]
pub(crate) struct Args {
    /// Give the new snapshot these tags instead of the old ones: a,b
    #[arg(long, value_name = "TAGS")]
    tag: Vec<String>,
    /// Name it
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Set its category
    #[arg(long, value_name = "CATEGORY")]
    category: Option<String>,
    /// Set its environment
    #[arg(long, value_name = "ENVIRONMENT")]
    environment: Option<String>,
    /// Set its perimeter
    #[arg(long, value_name = "PERIMETER")]
    perimeter: Option<String>,
    /// Set its job
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
    /// The snapshots to duplicate
    #[arg(value_name = "SNAPSHOT", required = true)]
    snapshots: Vec<OsString>,
}

#[derive(Serialize)]
struct Summary<'a> {
    r#type: &'static str,
    command: &'static str,
    original: &'a str,
    snapshot: String,
}

/// Duplicates.
pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
    let repository = stores::open_main(context)?.repository;
    let tags: Vec<String> = split_tags(&args.tag).map(str::to_owned).collect();
    let options = DuplicateOptions {
        name: args.name.clone(),
        category: args.category.clone(),
        environment: args.environment.clone(),
        perimeter: args.perimeter.clone(),
        job: args.job.clone(),
        tags: (!args.tag.is_empty()).then_some(tags),
    };
    // All are found before the first is made: a wrong name makes none.
    let chosen = args.snapshots.iter().map(|text| {
        let chosen = snapshots::find(&repository, text)?;
        match chosen.path {
            None => Ok(chosen.info),
            Some(_) => Err(CommandError::usage("a part of a snapshot cannot be duplicated")
                .hint("plakar dup SNAPSHOT, without a path")),
        }
    });
    for info in chosen.collect::<Result<Vec<_>, CommandError>>()? {
        let progress = Progress::start(&context.output, false);
        let snapshot = duplicate(&repository, &info, &options, &progress)?;
        if context.output.is_json() {
            let original = info.id.to_hex();
            let (kind, command) = ("summary", "dup");
            context.output.json(&Summary {
                r#type: kind,
                command,
                original: &original,
                snapshot: snapshot.to_hex(),
            })?;
        } else {
            let line = format!("snapshot {} is a duplicate of {}", snapshot.short(), info.id.short());
            context.output.summary(line)?;
        }
    }
    Ok(Exit::Ok)
}
