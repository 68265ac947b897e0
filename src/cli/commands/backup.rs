//! `backup`.

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::context::Context;
use super::super::dates;
use super::super::error::{CommandError, Exit};
use super::super::labels::LabelArgs;
use super::super::lock_wait::LockWaitArgs;
use super::super::places::Place;
use super::super::retrieval::{self, RetrieveArgs};
use super::super::{report, snapshots, stores, surroundings};
use crate::connector::{Importer, SourceInfo};
use crate::connectors::{ImportSettings, Kind, Location, Options, Role, open_importer, validate};
use crate::snapshot::{self, BackupOptions, CheckOptions, HeaderOptions, Versions};
use crate::store::{CheckpointPolicy, Repository};
use crate::ui::Progress;

/// Takes a snapshot of folders, of a URL or of a configured source; of the current folder when nothing is named.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at /var/backups backup /etc
plakar at @scw_store backup -tag nightly,etc -ignore '*.tmp' /etc
plakar at ./my-store backup @scw_src
plakar at ./my-store backup s3://mybucket/photos/
pg_dump db | plakar at ./my-store backup stdin:db.sql
plakar at ./my-store backup tar:old.tar.gz")]
pub(crate) struct Args {
    #[command(flatten)]
    labels: LabelArgs,
    /// Leave out what matches PATTERN (as in .gitignore)
    #[arg(long, value_name = "PATTERN", alias = "exclude")]
    ignore: Vec<String>,
    /// Leave out what matches the patterns in a file
    #[arg(long, value_name = "PATH", alias = "excludes")]
    ignore_file: Vec<PathBuf>,
    /// Check the snapshot once it is made
    #[arg(long)]
    check: bool,
    /// Say what would be backed up, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Leave out extended attributes
    #[arg(long)]
    no_xattr: bool,
    /// Record DATE as the time of the snapshot
    #[arg(long, value_name = "DATE")]
    force_timestamp: Option<String>,
    /// Read everything again, changed or not
    #[arg(long)]
    force: bool,
    /// Read metadata again that listings do not show (tags, ACLs)
    #[arg(long)]
    recheck: bool,
    /// Trust size and modification time of a file, whatever else changed about it (its ctime)
    #[arg(long)]
    ignore_ctime: bool,
    /// Make the run resumable whenever SIZE more was stored, and every two minutes
    #[arg(long, value_name = "SIZE", value_parser = super::super::quantity::size, default_value = "1GiB")]
    checkpoint: u64,
    #[command(flatten)]
    lock_wait: LockWaitArgs,
    #[command(flatten)]
    retrieval: RetrieveArgs,
    /// Set an option of the source for this run; 'plakar help source' lists them
    #[arg(short = 'o', value_name = "KEY=VALUE")]
    option: Vec<String>,
    /// Back up standard input as one file (as stdin: does)
    #[arg(long, conflicts_with = "places")]
    stdin: bool,
    /// What that file is called
    #[arg(long, value_name = "NAME", requires = "stdin")]
    stdin_filename: Option<OsString>,
    /// What to back up: paths, a URL, stdin:NAME, tar:FILE, or @name
    #[arg(value_name = "PLACE")]
    places: Vec<OsString>,
}

/// Makes one snapshot of all folders together, and one of each URL and named source.
pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
    let sources = sources(&args.places(), context)?;
    let store = context.main_store()?;
    let named = sources.iter().map(|source| &source.place).find(|place| place.name.is_some());
    let opened = stores::open(context, &store, context.store_passphrases(&store, named))?;
    if opened.repository.storage().is_archive() && !args.dry_run {
        return Err(CommandError::usage(format!("{store} is an archive, and archives are never changed"))
            .hint("plakar ptar -o NEW.ptar PLACE makes one; plakar at STORE backup PLACE adds to a store"));
    }
    stores::tell_warnings(context, &opened.repository);
    args.lock_wait.apply(context, &opened.repository);
    let mut exit = Exit::Ok;
    for source in &sources {
        let done = if args.dry_run {
            dry_run(args, context, &store, source)?
        } else {
            back_up(args, context, &opened.repository, &store, source)?
        };
        exit = if done == Exit::Ok { exit } else { done };
    }
    stores::tell_notes(context, &opened.repository);
    Ok(exit)
}

/// What becomes one snapshot.
pub(super) struct Source {
    /// The place, or the first of several folders.
    pub(super) place: Place,
    /// The other folders.
    others: Vec<Location>,
}

impl Source {
    pub(super) fn locations(&self) -> Vec<&Location> {
        std::iter::once(&self.place.location).chain(&self.others).collect()
    }
}

/// Sorts what was named into snapshots; the current folder stands in for nothing.
pub(super) fn sources(named: &[OsString], context: &Context) -> Result<Vec<Source>, CommandError> {
    let here = [OsString::from(".")];
    let named = if named.is_empty() { &here[..] } else { named };
    let mut sources: Vec<Source> = Vec::new();
    for text in named {
        let place = context.place(text, Role::Source)?;
        let bare = |place: &Place| place.name.is_none() && place.location.kind() == Kind::Fs;
        if place.location.is_stream() && sources.iter().any(|source| source.place.location.is_stream()) {
            return Err(CommandError::usage("standard input can be read only once"));
        }
        match sources.iter_mut().find(|source| bare(&source.place) && bare(&place)) {
            Some(source) => source.others.push(place.location),
            None => sources.push(Source { place, others: Vec::new() }),
        }
    }
    Ok(sources)
}

/// Opens an importer. A store inside of what is backed up is left out: every run would grow by the one before.
fn open(
    args: &Args,
    context: &Context,
    store: &Place,
    source: &Source,
) -> Result<Box<dyn Importer>, CommandError> {
    let mut options = source.place.options.clone();
    set_options(&mut options, &args.option, &source.place, Role::Source)?;
    let mut settings = ImportSettings {
        excludes: args.ignore.clone(),
        ignore_files: args.ignore_file.clone(),
        recheck: args.recheck,
        ignore_ctime: args.ignore_ctime,
        retrieve: args.retrieval.retrieves(),
    };
    let locations = source.locations();
    let limits = context.limits();
    let importer = open_importer(&locations, &options, &limits, &settings)?;
    match store.location.path().and_then(|store| pattern_for(store, &importer.source())) {
        None => Ok(importer),
        Some(pattern) => {
            settings.excludes.push(pattern);
            Ok(open_importer(&locations, &options, &limits, &settings)?)
        }
    }
}

/// Returns the gitignore pattern of a store's folder below the root of a local source.
fn pattern_for(store: &Path, source: &SourceInfo) -> Option<String> {
    let store = store.canonicalize().ok()?;
    let root = Path::new(crate::base::sys::os_str(&source.root)?);
    let below = store.strip_prefix(root.canonicalize().ok()?).ok().filter(|_| source.kind == "fs")?;
    let below = below.to_str().filter(|below| !below.is_empty())?;
    let mut pattern = String::from("/");
    for c in below.chars() {
        if "\\*?[]!# ".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    Some(pattern)
}

/// Sets the options of `-o` for this run.
pub(super) fn set_options(
    options: &mut Options,
    pairs: &[String],
    place: &Place,
    role: Role,
) -> Result<(), CommandError> {
    for pair in pairs {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(CommandError::usage("-o takes KEY=VALUE"));
        };
        options.set(key, value);
    }
    let kind = place.location.kind();
    Ok(validate(options, Some(kind), role)?)
}

/// Returns what the header is to say.
pub(super) fn header(
    source: &Source,
    labels: &LabelArgs,
    timestamp: Option<&str>,
    context: &Context,
) -> Result<HeaderOptions, CommandError> {
    let option = |name: &str| source.place.options.get(name).map(str::to_owned);
    let given: Vec<String> = context.environment.tags.iter().cloned().collect();
    let timestamp = timestamp.map(|text| {
        dates::point(text, &context.now)
            .map_err(|why| CommandError::usage(format!("-force-timestamp: {why}")))
    });
    let labels = labels.clone();
    let tags = labels.tags(&given);
    Ok(HeaderOptions {
        name: labels.name.unwrap_or_default(),
        category: labels.category.unwrap_or_default(),
        environment: labels.environment.or_else(|| option("environment")).unwrap_or_default(),
        perimeter: labels.perimeter.unwrap_or_default(),
        job: labels.job.unwrap_or_default(),
        data_classes: option("data_class").map(|class| vec![class]).unwrap_or_default(),
        tags,
        context: surroundings::context(std::env::args_os()),
        timestamp: timestamp.transpose()?,
    })
}

impl Args {
    /// Returns what is backed up.
    fn places(&self) -> Cow<'_, [OsString]> {
        if !self.stdin {
            return Cow::Borrowed(&self.places);
        }
        let mut place = OsString::from("stdin:");
        place.push(self.stdin_filename.as_deref().unwrap_or_default());
        Cow::Owned(vec![place])
    }
}

fn back_up(
    args: &Args,
    context: &Context,
    repository: &Arc<Repository>,
    store: &Place,
    source: &Source,
) -> Result<Exit, CommandError> {
    let importer = open(args, context, store, source)?;
    let options = BackupOptions {
        header: header(source, &args.labels, args.force_timestamp.as_deref(), context)?,
        memory: context.globals.memory,
        force: args.force,
        xattrs: !args.no_xattr,
        checkpoints: CheckpointPolicy { bytes: args.checkpoint, ..CheckpointPolicy::default() },
        cancel: context.cancel.clone(),
        ..BackupOptions::default()
    };
    let (done, kinds) = {
        let progress = Progress::start(&context.output, context.globals.progress());
        let done = snapshot::backup(repository, importer.as_ref(), &options, &progress)?;
        (done, progress.error_kinds())
    };
    report::backup(&done, &source.place.to_string(), &kinds, false, &context.output)?;
    let partial = if done.error_count > 0 { Exit::Failed } else { Exit::Ok };
    if !args.check {
        return Ok(partial);
    }
    let chosen = snapshots::find(repository, done.snapshot.to_hex().as_ref())?;
    // What earlier runs stored may be in cold storage by now.
    let cold = args.retrieval.open(context, repository)?;
    cold.metadata()?;
    cold.contents(&retrieval::targets([(&chosen.info, None)], Versions::All))?;
    let checked = {
        let progress = Progress::start(&context.output, context.globals.progress());
        let options = CheckOptions { cancel: context.cancel.clone(), ..CheckOptions::default() };
        snapshot::check(repository, Some(&[(chosen.info, None)]), &options, &progress)?
    };
    report::check(&checked, &context.output)?;
    Ok(if checked.damage.is_empty() { partial } else { Exit::Damage })
}

/// Says what a backup would take, and stores nothing.
fn dry_run(args: &Args, context: &Context, store: &Place, source: &Source) -> Result<Exit, CommandError> {
    let importer = open(args, context, store, source)?;
    let mut scan = report::Scan::new(&context.output);
    let mut stopped = None;
    importer.scan(&mut |record| {
        let told = if context.cancel.is_cancelled() {
            Err(CommandError::failed("interrupted"))
        } else {
            scan.record(&record)
        };
        match told {
            Ok(()) => std::ops::ControlFlow::Continue(()),
            Err(error) => {
                stopped = Some(error);
                std::ops::ControlFlow::Break(())
            }
        }
    })?;
    match stopped {
        Some(error) => Err(error),
        None => scan.finish(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_below_the_root_gets_a_pattern_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let store = root.join("a b/[x]!");
        std::fs::create_dir_all(&store).unwrap();
        let source = |kind: &str, root: &Path| SourceInfo {
            kind: kind.into(),
            origin: "host".into(),
            root: root.to_str().unwrap().into(),
        };
        assert_eq!(pattern_for(&store, &source("fs", &root)).as_deref(), Some("/a\\ b/\\[x\\]\\!"));
        assert_eq!(pattern_for(&store, &source("fs", &store)), None, "the store itself may be backed up");
        assert_eq!(pattern_for(&root, &source("fs", &store)), None);
        assert_eq!(pattern_for(&store, &source("s3", &root)), None);
    }
}
