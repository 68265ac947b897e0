//! `restore`.

use std::ffi::OsString;

use super::super::context::Context;
use super::super::error::{CommandError, Exit};
use super::super::places::Place;
use super::super::query::QueryArgs;
use super::super::retrieval::{self, RetrievalArgs};
use super::super::snapshots::{self, Chosen};
use super::super::{dates, report};
use super::backup::set_options;
use crate::base::Printable;
use crate::connectors::fs::Existing;
use crate::connectors::{ExportSettings, Kind, Location, Role, open_exporter, parse_bool};
use crate::snapshot::vfs::read::Vfs;
use crate::snapshot::{self, RestoreOptions, SnapshotInfo, Versions};
use crate::store::{Error, Repository};
use crate::ui::{Progress, units};

/// Brings a snapshot back. Without a snapshot: the latest. Without -to: into a new folder beside you.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at /var/backups restore -to /srv/restored latest
plakar at /var/backups restore -to . abc123:/etc/ssh
plakar at @mystore restore -to @scw_dst abc123
plakar at ./export.ptar restore -to @scw_dst
plakar at @mystore restore -to s3://mybucket/restore-preview/ abc123")]
pub(crate) struct Args {
    /// Restore to a folder, a URL or a configured destination
    #[arg(long, value_name = "DIR")]
    to: Option<OsString>,
    /// Put what PATH holds directly into the destination (which is what happens anyway)
    #[arg(long)]
    rebase: bool,
    /// Leave owners, modes and times alone
    #[arg(long)]
    skip_permissions: bool,
    /// Leave out what is there already
    #[arg(long)]
    skip_existing: bool,
    /// Fail for what is there already instead of replacing it
    #[arg(long, conflicts_with = "skip_existing")]
    no_overwrite: bool,
    /// Make objects for empty folders of a bucket
    #[arg(long)]
    folder_markers: bool,
    /// Restore a bucket as it was at DATE, from the versions that its backup recorded
    #[arg(long, value_name = "DATE")]
    as_of: Option<String>,
    /// Set an option of the destination for this run (versions=all, acl=true, storage_class=…); 'plakar help
    /// destination' lists them
    #[arg(short = 'o', value_name = "KEY=VALUE")]
    option: Vec<String>,
    #[command(flatten)]
    retrieval: RetrievalArgs,
    #[command(flatten)]
    query: QueryArgs,
    /// A snapshot, or a part of one; the latest when none is named
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: Option<OsString>,
}

/// Restores.
pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
    let destination = destination(args, context)?;
    let to_stdout = destination.location.kind() == Kind::Stdout;
    if to_stdout && context.output.is_json() {
        return Err(CommandError::usage("-json and a file cannot share standard output"));
    }
    let versions = versions(args, context, &destination)?;
    let repository = args.retrieval.open_main(context)?.repository;
    let cold = args.retrieval.open(context, &repository)?;
    cold.metadata()?;
    let chosen = match &args.snapshot {
        Some(named) => {
            let mut chosen =
                snapshots::choose(context, &repository, std::slice::from_ref(named), &args.query)?;
            chosen.pop().expect("one snapshot was named")
        }
        None => latest(args, context, &repository, &destination)?,
    };
    if to_stdout {
        assert_one_file(&repository, &chosen)?;
    }
    cold.contents(&retrieval::targets([(&chosen.info, chosen.path.as_deref())], versions))?;
    let existing = match (args.skip_existing, args.no_overwrite) {
        (true, _) => Existing::Skip,
        (false, true) => Existing::Fail,
        (false, false) => Existing::Replace,
    };
    let settings = ExportSettings {
        existing,
        skip_permissions: args.skip_permissions,
        folder_markers: args.folder_markers,
    };
    let exporter = open_exporter(&destination.location, &destination.options, &context.limits(), &settings)?;
    let options = RestoreOptions {
        memory: context.globals.memory,
        versions,
        cache_dir: context.cache_folder(),
        cancel: context.cancel.clone(),
    };
    let (done, kinds) = {
        let progress = Progress::start(&context.output, context.globals.progress());
        let done = snapshot::restore(
            &repository,
            &chosen.info,
            chosen.path.as_deref(),
            exporter.as_ref(),
            &options,
            &progress,
        )?;
        (done, progress.error_kinds())
    };
    let snapshot = chosen.info.id.to_hex();
    if to_stdout {
        let (bytes, time) = (units::bytes(done.restored_bytes), units::duration(done.duration));
        context.output.notice(format!("wrote {bytes} to standard output in {time}"));
        return Ok(if done.error_count > 0 { Exit::Failed } else { Exit::Ok });
    }
    report::restore(&done, &snapshot, &destination.to_string(), &kinds, &context.output)?;
    Ok(if done.error_count > 0 || done.partly_count > 0 { Exit::Failed } else { Exit::Ok })
}

/// Makes sure that what goes to standard output is one regular file.
fn assert_one_file(repository: &Repository, chosen: &Chosen) -> Result<(), CommandError> {
    let named = chosen.path.as_deref().map(|path| (path, &chosen.info));
    let is_file = match named.and_then(|(path, info)| Some((path, info.header.source()?))) {
        Some((path, source)) => {
            let entry = Vfs::open(repository, source)?.entry(path)?;
            let entry = entry.ok_or_else(|| Error::NoPath { path: path.to_vec() })?;
            entry.info.mode.is_regular()
        }
        None => false,
    };
    if is_file {
        return Ok(());
    }
    Err(CommandError::usage("standard output takes one regular file: SNAPSHOT:PATH")
        .hint("plakar at STORE archive -format tar -output - SNAPSHOT:PATH writes a folder as a tar"))
}

/// Finds which versions are asked for.
fn versions(args: &Args, context: &Context, destination: &Place) -> Result<Versions, CommandError> {
    let option = destination.options.get("versions").map(str::to_ascii_lowercase);
    let all = option.as_deref().is_some_and(|option| option == "all" || parse_bool(option) == Some(true));
    match &args.as_of {
        Some(_) if all => {
            Err(CommandError::usage("-as-of restores one version of each object, versions=all all"))
        }
        Some(date) => dates::point(date, &context.now)
            .map(Versions::AsOf)
            .map_err(|why| CommandError::usage(format!("-as-of: {why}"))),
        // What is there already is looked for key by key: all but the oldest version would be left out.
        None if all && (args.skip_existing || args.no_overwrite) => {
            let flag = if args.skip_existing { "-skip-existing" } else { "-no-overwrite" };
            Err(CommandError::usage(format!(
                "{flag} keeps the object of a key, versions=all puts several versions of each"
            ))
            .hint("leave out one of them; below an empty prefix there is nothing to keep"))
        }
        None if all => Ok(Versions::All),
        None => Ok(Versions::Latest),
    }
}

/// Finds where to restore to: `-to`, else a new folder named after the time.
fn destination(args: &Args, context: &Context) -> Result<Place, CommandError> {
    if let Some(to) = &args.to {
        let mut place = context.place(to, Role::Destination)?;
        let known = place.clone();
        set_options(&mut place.options, &args.option, &known, Role::Destination)?;
        return Ok(place);
    }
    if !args.option.is_empty() {
        return Err(CommandError::usage("-o sets an option of what -to names, and there is no -to"));
    }
    let name = context.now.strftime("plakar-%Y-%m-%dT%H%M%S").to_string();
    Ok(Place::bare(Location::fs(name)))
}

/// Finds the snapshot to restore when none is named: the latest of what the query flags leave. Where they leave
/// several sources, it must be clear which one is meant.
fn latest(
    args: &Args,
    context: &Context,
    repository: &Repository,
    destination: &Place,
) -> Result<Chosen, CommandError> {
    let (mut candidates, unreadable) = snapshots::query_all(context, repository, &args.query)?;
    if candidates.is_empty() && repository.catalogue().snapshots().is_empty() {
        return Err(CommandError::failed("the store holds no snapshot yet")
            .hint("plakar at STORE backup PLACE takes the first"));
    }
    if distinct(&candidates).len() > 1 {
        // A bucket goes back to a bucket, a folder to a folder.
        let kind = if destination.location.kind() == Kind::S3 { "s3" } else { "fs" };
        let fits =
            |info: &SnapshotInfo| info.header.source().is_some_and(|source| source.importer.kind == kind);
        let fitting: Vec<SnapshotInfo> = candidates.iter().filter(|info| fits(info)).cloned().collect();
        if distinct(&fitting).len() != 1 {
            let sources: Vec<String> = distinct(&candidates)
                .into_iter()
                .map(|(latest, name)| {
                    format!(
                        "{} {name} (latest: {})",
                        latest.id.short(),
                        dates::rfc3339(latest.header.timestamp)
                    )
                })
                .collect();
            return Err(CommandError::usage(
                "the store holds snapshots of several sources, and none was named",
            )
            .hint(format!("name one of\n{}", sources.join("\n"))));
        }
        candidates = fitting;
    }
    let info = candidates.pop().ok_or_else(|| {
        let error = CommandError::failed("no snapshot matches");
        error.hint("plakar at STORE ls lists the snapshots")
    })?;
    snapshot::assert_latest(repository, &info, unreadable)?;
    context.output.notice(format!("restoring snapshot {} of {}", info.id.short(), source_name(&info)));
    Ok(Chosen { info, path: None })
}

/// Returns the latest snapshot and the name of each source; the snapshots come oldest first.
fn distinct(snapshots: &[SnapshotInfo]) -> Vec<(&SnapshotInfo, String)> {
    let mut found: Vec<(&SnapshotInfo, String)> = Vec::new();
    for info in snapshots.iter().rev() {
        let name = source_name(info);
        if found.iter().all(|(_, known)| *known != name) {
            found.push((info, name));
        }
    }
    found
}

/// Names the source of a snapshot: `fs://host/path`.
pub(super) fn source_name(info: &SnapshotInfo) -> String {
    let Some(source) = info.header.source() else { return "nothing".into() };
    let importer = &source.importer;
    let (kind, origin) = (Printable::new(&importer.kind), Printable::new(&importer.origin));
    format!("{kind}://{origin}{}", Printable::new(&importer.directory))
}
