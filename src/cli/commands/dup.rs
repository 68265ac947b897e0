//! `dup`.

use std::ffi::OsString;

use serde::Serialize;

use super::super::context::Context;
use super::super::error::{CommandError, Exit};
use super::super::labels::LabelArgs;
use super::super::lock_wait::LockWaitArgs;
use super::super::retrieval::RetrieveArgs;
use super::super::{snapshots, stores};
use crate::snapshot::{DuplicateOptions, duplicate};
use crate::ui::Progress;

/// Makes a second snapshot of the same content, with an id and a time of its own: under other labels, or to keep what
/// a retention policy would remove. No content is copied. Labels that are not given stay as they are; new tags take the
/// place of the old.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at /var/backups dup -tag keep abc123
plakar at /var/backups dup -name before-upgrade latest")]
pub(crate) struct Args {
    #[command(flatten)]
    labels: LabelArgs,
    #[command(flatten)]
    lock_wait: LockWaitArgs,
    #[command(flatten)]
    retrieval: RetrieveArgs,
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
    args.lock_wait.apply(context, &repository);
    args.retrieval.open(context, &repository)?.metadata()?;
    let labels = &args.labels;
    let options = DuplicateOptions {
        name: labels.name.clone(),
        category: labels.category.clone(),
        environment: labels.environment.clone(),
        perimeter: labels.perimeter.clone(),
        job: labels.job.clone(),
        tags: labels.has_tags().then(|| labels.tags(&[])),
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
