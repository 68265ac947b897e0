//! `ls`.

use std::ffi::OsString;

use serde::Serialize;

use super::super::context::Context;
use super::super::entries::{EntryLine, LongLines, shown};
use super::super::error::{CommandError, Exit};
use super::super::query::QueryArgs;
use super::super::snapshots::{self, Chosen, facts};
use super::super::{dates, stores};
use crate::snapshot::vfs::read::{Child, Vfs, Visit};
use crate::snapshot::{SnapshotInfo, message_of};
use crate::store::{Error, Repository};
use crate::ui::{Align, Table, units};

/// Lists snapshots; with a snapshot, what its folders hold.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at /var/backups ls
plakar at /var/backups ls -tag nightly -since 7d
plakar at /var/backups ls latest:/etc
plakar at /var/backups ls -recursive abc123")]
pub(crate) struct Args {
    /// Show whole ids
    #[arg(long)]
    uuid: bool,
    /// List folders below folders
    #[arg(long)]
    recursive: bool,
    /// Show the tags of snapshots
    #[arg(long)]
    tags: bool,
    /// Show modes, owners, sizes and times (which is what happens anyway)
    #[arg(short = 'l')]
    long: bool,
    #[command(flatten)]
    query: QueryArgs,
    /// A snapshot, or SNAPSHOT:PATH
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshots: Vec<OsString>,
}

/// Lists.
pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
    let repository = stores::open_main(context)?.repository;
    if args.snapshots.is_empty() {
        return list_snapshots(args, context, &repository);
    }
    let chosen = snapshots::choose(context, &repository, &args.snapshots, &args.query)?;
    let mut exit = Exit::Ok;
    for one in &chosen {
        if chosen.len() > 1 && !context.output.is_json() {
            context.output.line(format_args!("{}:", one.info.id.short()))?;
        }
        let done = list_entries(args, context, &repository, one)?;
        exit = if done == Exit::Ok { exit } else { done };
    }
    Ok(exit)
}

#[derive(Serialize)]
struct SnapshotLine {
    r#type: &'static str,
    id: String,
    timestamp: String,
    duration: f64,
    name: String,
    category: String,
    environment: String,
    perimeter: String,
    job: String,
    tags: Vec<String>,
    size: u64,
    files: u64,
    folders: u64,
    errors: u64,
    sources: Vec<SourceLine>,
}

#[derive(Serialize)]
struct SourceLine {
    kind: String,
    origin: String,
    root: String,
}

fn snapshot_line(info: &SnapshotInfo) -> SnapshotLine {
    let header = &info.header;
    let summaries = || header.sources().iter().map(|source| &source.summary);
    let sources = header.sources().iter().map(|source| SourceLine {
        kind: shown(&source.importer.kind),
        origin: shown(&source.importer.origin),
        root: shown(&source.importer.directory),
    });
    SnapshotLine {
        r#type: "snapshot",
        id: info.id.to_hex(),
        timestamp: dates::rfc3339(header.timestamp),
        duration: header.duration as f64 / 1e9,
        name: shown(&header.name),
        category: shown(&header.category),
        environment: shown(&header.environment),
        perimeter: shown(&header.perimeter),
        job: shown(&header.job),
        tags: header.tags().iter().map(shown).collect(),
        size: summaries().fold(0, |sum, summary| summary.total_size().saturating_add(sum)),
        files: summaries().fold(0, |sum, summary| summary.total_files().saturating_add(sum)),
        folders: summaries().fold(0, |sum, summary| summary.total_directories().saturating_add(sum)),
        errors: summaries().fold(0, |sum, summary| summary.total_errors().saturating_add(sum)),
        sources: sources.collect(),
    }
}

fn list_snapshots(args: &Args, context: &Context, repository: &Repository) -> Result<Exit, CommandError> {
    let filter = args.query.filter(&context.now)?;
    let (all, failed) = snapshots::list(context, repository);
    if all.is_empty() && failed.is_empty() && repository.damaged_states().is_empty() {
        context.output.notice("the store holds no snapshot yet");
    }
    let mut table =
        Table::new([Align::Left, Align::Left, Align::Right, Align::Right, Align::Left, Align::Left]);
    for info in filter.select(all, facts, |by, info| by.key(repository, info)) {
        let line = snapshot_line(&info);
        if context.output.is_json() {
            context.output.json(&line)?;
            continue;
        }
        let id = if args.uuid { line.id } else { info.id.short() };
        let time = dates::rfc3339(crate::base::Timestamp { nanos: 0, ..info.header.timestamp });
        let duration = std::time::Duration::from_nanos(u64::try_from(info.header.duration).unwrap_or(0));
        let source = snapshots::source_name(&info.header);
        let tags = if args.tags { line.tags.join(",") } else { String::new() };
        let size = units::bytes(line.size);
        table.row([time, id, size, units::duration(duration), source.unwrap_or_default(), tags]);
    }
    context.output.text(table)?;
    // What cannot be read is not in the list: the list is not whole.
    let whole = failed.is_empty() && repository.damaged_states().is_empty();
    Ok(if whole { Exit::Ok } else { Exit::Damage })
}

fn list_entries(
    args: &Args,
    context: &Context,
    repository: &Repository,
    chosen: &Chosen,
) -> Result<Exit, CommandError> {
    let header = &chosen.info.header;
    let source = header.source().ok_or_else(|| CommandError::failed("the snapshot has no source"))?;
    let vfs = Vfs::open(repository, source)?;
    let start = chosen.path.clone().unwrap_or_else(|| source.importer.directory.to_vec());
    let first = vfs.child(&start)?.ok_or_else(|| Error::NoPath { path: start.clone() })?;
    let lines = LongLines::new(&context.output);
    let mut listing = Listing { context, id: chosen.info.id.to_hex(), lines, failed: false };
    if !first.is_dir() {
        listing.entry(&first, &shown(&first.entry.info.name))?;
    } else if args.recursive {
        for visit in vfs.walk(&start)? {
            match visit {
                Ok(Visit::Entry(child)) if child == first => {}
                Ok(Visit::Entry(child)) => listing.entry(&child, &shown(child.path()))?,
                Ok(Visit::Left(_)) => {}
                Err(error) => listing.problem(&error)?,
            }
            listing.cancelled()?;
        }
    } else {
        for child in vfs.children(&start)? {
            match child {
                Ok(child) => listing.entry(&child, &shown(&child.entry.info.name))?,
                Err(error) => listing.problem(&error)?,
            }
        }
    }
    listing.lines.flush()?;
    Ok(if listing.failed { Exit::Damage } else { Exit::Ok })
}

struct Listing<'a> {
    context: &'a Context,
    id: String,
    lines: LongLines<'a>,
    failed: bool,
}

impl Listing<'_> {
    fn entry(&mut self, child: &Child, name: &str) -> Result<(), CommandError> {
        let entry = &child.entry;
        if self.context.output.is_json() {
            return Ok(self.context.output.json(&EntryLine::new(&self.id, entry))?);
        }
        Ok(self.lines.push(entry, name)?)
    }

    fn problem(&mut self, error: &(dyn std::error::Error + 'static)) -> Result<(), CommandError> {
        self.failed = true;
        self.lines.flush()?;
        self.context.output.warn(message_of(error));
        Ok(())
    }

    fn cancelled(&self) -> Result<(), CommandError> {
        if self.context.cancel.is_cancelled() { Err(Error::Cancelled.into()) } else { Ok(()) }
    }
}
