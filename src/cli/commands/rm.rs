//! `rm`.

use std::ffi::OsString;
use std::time::Instant;

use serde::Serialize;

use super::super::context::Context;
use super::super::error::{CommandError, Exit};
use super::super::query::QueryArgs;
use super::super::{dates, report, snapshots, stores};
use crate::base::{Id, Printable};
use crate::snapshot::{self, SnapshotInfo};
use crate::store::{Repository, remove_snapshots};
use crate::ui::{Align, Output, Table, units};

/// Removes snapshots: those that are named, or those that the query flags leave. Without -apply it only shows them.
/// Space comes back with 'maintenance'.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at /var/backups rm abc123 -apply
plakar at /var/backups rm -before 1y -tag nightly
plakar at /var/backups rm -all -apply")]
pub(crate) struct Args {
    /// Remove; without it, show what would be removed
    #[arg(long)]
    apply: bool,
    /// Remove every snapshot
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    query: QueryArgs,
    /// Snapshots to remove
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<OsString>,
}

/// Removes.
pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
    check(args)?;
    let repository = stores::open_main(context)?.repository;
    assert_no_archive(&repository, context)?;
    let chosen: Vec<_> = if args.snapshots.is_empty() {
        let chosen = snapshots::choose(context, &repository, &[], &args.query)?;
        chosen.into_iter().map(|chosen| (chosen.info.id, Some(chosen.info))).collect()
    } else {
        named(&repository, &args.snapshots)?
    };
    let mut table = plan_table();
    for (id, info) in &chosen {
        if context.output.is_json() {
            context.output.json(&PlanLine::new("remove", *id, info.as_ref(), Vec::new()))?;
        } else {
            plan_row(&mut table, "remove", *id, info.as_ref(), "");
        }
    }
    if !context.output.is_json() {
        context.output.text(table)?;
    }
    let ids: Vec<Id> = chosen.into_iter().map(|(id, _)| id).collect();
    remove(context, &repository, &ids, None, args.apply, "rm")
}

fn check(args: &Args) -> Result<(), CommandError> {
    if !args.query.retention.has_no_rule() {
        return Err(CommandError::usage("'rm' takes no windows or caps")
            .hint("plakar prune keeps what they cover and removes the rest"));
    }
    let ways = [args.all, !args.query.is_empty(), !args.snapshots.is_empty()];
    match ways.iter().filter(|way| **way).count() {
        0 => Err(CommandError::usage("nothing says which snapshots to remove")
            .hint("name snapshots, use query flags such as -before 1y, or -all for every one")),
        1 => Ok(()),
        _ => Err(CommandError::usage("snapshots were chosen in more than one way")
            .hint("name them, or use query flags, or -all")),
    }
}

/// Refuses an archive before a plan is shown that nothing could carry out.
pub(super) fn assert_no_archive(repository: &Repository, context: &Context) -> Result<(), CommandError> {
    if !repository.storage().is_archive() {
        return Ok(());
    }
    let place = context.main_store()?;
    Err(CommandError::usage(format!("{place} is an archive, and archives are never changed"))
        .hint("plakar at STORE sync from ARCHIVE copies what is wanted; plakar ptar -o NEW.ptar -k STORE packs that"))
}

/// Finds named snapshots. One whose header is damaged can be removed, too.
pub(super) fn named(
    repository: &Repository,
    names: &[OsString],
) -> Result<Vec<(Id, Option<SnapshotInfo>)>, CommandError> {
    let mut chosen: Vec<(Id, Option<SnapshotInfo>)> = Vec::new();
    for name in names {
        let text = name.to_str().unwrap_or_default();
        if text.is_empty() || text.contains(':') {
            return Err(CommandError::usage(format!("'{}' is not a snapshot", Printable::os(name)))
                .hint("snapshots are removed as a whole, by their id"));
        }
        let found = match snapshot::find(repository, text) {
            Ok(info) => (info.id, Some(info)),
            Err(error) if error.is_damage() => (only(repository, text).ok_or(error)?, None),
            Err(error) => return Err(error.into()),
        };
        if !chosen.iter().any(|(id, _)| *id == found.0) {
            chosen.push(found);
        }
    }
    Ok(chosen)
}

fn only(repository: &Repository, prefix: &str) -> Option<Id> {
    let prefix = prefix.to_ascii_lowercase();
    let ids = repository.catalogue().snapshots();
    let mut matches = ids.into_iter().filter(|id| id.to_hex().starts_with(&prefix));
    matches.next().filter(|_| matches.next().is_none())
}

/// One line of a plan, for programs.
#[derive(Serialize)]
pub(super) struct PlanLine {
    r#type: &'static str,
    action: &'static str,
    snapshot: String,
    timestamp: Option<String>,
    name: Option<String>,
    root: Option<String>,
    source: Option<String>,
    reasons: Vec<String>,
}

impl PlanLine {
    /// Describes what is to become of a snapshot: "keep" or "remove".
    pub(super) fn new(
        action: &'static str,
        id: Id,
        info: Option<&SnapshotInfo>,
        reasons: Vec<String>,
    ) -> Self {
        Self {
            r#type: "plan",
            action,
            snapshot: id.to_hex(),
            timestamp: info.map(|info| dates::rfc3339(info.header.timestamp)),
            name: info.map(|info| Printable::new(&info.header.name).to_string()),
            root: info.map(root),
            source: info.and_then(source),
            reasons,
        }
    }
}

/// Creates the table of a plan.
pub(super) fn plan_table() -> Table {
    Table::new([Align::Left, Align::Left, Align::Left, Align::Left, Align::Left])
}

/// Adds a snapshot to the table of a plan.
pub(super) fn plan_row(table: &mut Table, action: &str, id: Id, info: Option<&SnapshotInfo>, why: &str) {
    let time = info.map(|info| dates::rfc3339(crate::base::Timestamp { nanos: 0, ..info.header.timestamp }));
    let time = time.unwrap_or_else(|| "unreadable".into());
    table.row([
        action.to_owned(),
        time,
        id.short(),
        info.and_then(source).unwrap_or_default(),
        why.to_owned(),
    ]);
}

fn source(info: &SnapshotInfo) -> Option<String> {
    snapshots::source_name(&info.header)
}

fn root(info: &SnapshotInfo) -> String {
    info.header
        .source()
        .map(|source| Printable::new(&source.importer.directory).to_string())
        .unwrap_or_default()
}

#[derive(Serialize)]
struct Summary<'a> {
    r#type: &'a str,
    command: &'a str,
    removed: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<usize>,
    applied: bool,
    duration: f64,
}

/// Removes snapshots if that is wanted, and says what was or would be done.
pub(super) fn remove(
    context: &Context,
    repository: &Repository,
    ids: &[Id],
    kept: Option<usize>,
    apply: bool,
    command: &str,
) -> Result<Exit, CommandError> {
    let begun = Instant::now();
    if apply && !ids.is_empty() {
        remove_snapshots(repository, ids)?;
        if let Some(id) = ids.iter().find(|id| repository.catalogue().has_snapshot(id)) {
            return Err(CommandError::failed(format!(
                "snapshot {} is still there: another state brought it back",
                id.short()
            )));
        }
    }
    let output: &Output = &context.output;
    if output.is_json() {
        let (removed, duration) = (ids.len(), report::seconds(begun.elapsed()));
        output.json(&Summary { r#type: "summary", command, removed, kept, applied: apply, duration })?;
        return Ok(Exit::Ok);
    }
    let count = units::counted(ids.len() as u64, "snapshot");
    let kept = kept.map(|kept| format!(", {} kept", units::count(kept as u64))).unwrap_or_default();
    if apply {
        output.summary(format_args!(
            "removed {count}{kept} in {}; 'plakar maintenance' makes room",
            units::duration(begun.elapsed())
        ))?;
    } else {
        output.summary(format_args!("would remove {count}{kept}; -apply does it"))?;
    }
    Ok(Exit::Ok)
}
